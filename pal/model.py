"""A personal reward model: the shared head, the seen users' weights, and the prior for new users.

On disk it is a folder of three files. `model.safetensors` holds every tensor, `users.json` the users' ids in
the order of their weights, `config.json` what they mean, with the sha256 of the other two. It is written
beside its place and moved there whole, and read with every number checked. Pickles are never read.

Shapes used in this module:
    n       responses scored together
    users   seen users, or users to locate
    points  points of the prior
    K       prototypes
"""

from collections.abc import Mapping, Sequence
from copy import deepcopy
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from pal.adapt import Prior, adapt
from pal.comparisons import Comparisons, Embeddings
from pal.config import FitConfig, HeadConfig
from pal.errors import PalError
from pal.fit import Fitted
from pal.heads import Head, make_head
from pal.storage import read_folder, write_folder


@dataclass(frozen=True)
class RewardModel:
    """Rewards that differ from user to user, ready to score and to be saved.

    Args:
        head: The shared part.
        user_ids: Ids of the seen users, any text, no two alike.
        weights: One row of the simplex per seen user, in the order of `user_ids`.
        prior: Where new users are expected.
        fit_config: How the head was fitted.
        encoder: What the embeddings came from, for `prompts` and `responses`: names, hashes of the encoders'
            weights, widths and so on. Kept and handed back as it is; must be JSON.
        prompt_dim: Width of the prompts' embeddings; 0 where there are no prompts.
        response_dim: Width of the responses' embeddings.

    Raises:
        PalError: If ids repeat, shapes disagree, a number is not finite, or weights leave the simplex.
    """

    head: Head
    user_ids: Sequence[str]
    weights: Tensor
    prior: Prior
    fit_config: FitConfig
    encoder: Mapping[str, Any]
    prompt_dim: int
    response_dim: int

    def __post_init__(self) -> None:
        _check_users(self.user_ids, len(self.weights))
        _check_tensors(
            self.tensors(), _shapes(self.head, len(self.user_ids), len(self.prior.mass)), self.head.config.K
        )
        self.head.eval()

    @classmethod
    def of(
        cls,
        fitted: Fitted,
        embeddings: Embeddings,
        *,
        user_ids: Sequence[str],
        fit_config: FitConfig,
        encoder: Mapping[str, Any],
    ) -> "RewardModel":
        """The model that a fit leaves behind, on the CPU, with its users' weights as the prior.

        Args:
            fitted: From `pal.fit.fit`.
            embeddings: What was fitted on; only the widths are read.
            user_ids: Ids of the seen users, in the order of the weights.
            fit_config: How it was fitted.
            encoder: What the embeddings came from.
        """
        weights = fitted.weights.cpu()
        dims = {"prompt_dim": embeddings.prompts.shape[1], "response_dim": embeddings.responses.shape[1]}
        return cls(
            deepcopy(fitted.head).cpu(), user_ids, weights, Prior.of(weights), fit_config, encoder, **dims
        )

    @property
    def config(self) -> HeadConfig:
        """The head's options."""
        return self.head.config

    @cached_property
    def rows(self) -> dict[str, int]:
        """Each seen user's row of the weights."""
        return {user_id: row for row, user_id in enumerate(self.user_ids)}

    def weights_of(self, user_id: str | None) -> Float[Tensor, " K"]:
        """A seen user's weights; for None the zero-shot weights, the user-balanced mean of the seen users'.

        Raises:
            PalError: If the user was not seen in fitting.
        """
        if user_id is None:
            return self.prior.mean
        if user_id not in self.rows:
            raise PalError(
                f"user must be one of the {len(self.rows)} seen in fitting, got {user_id!r}; adapt to the "
                "user's comparisons first, or pass None for the average user"
            )
        return self.weights[self.rows[user_id]]

    def score(
        self,
        prompts: Tensor | None,
        responses: Tensor,
        *,
        user: str | None = None,
        weights: Tensor | None = None,
    ) -> Float[Tensor, " n"]:
        """Reward each response; only differences for one user and one prompt mean anything.

        Args:
            prompts: Embeddings of the prompts, (n, prompt_dim); None where the head reads none.
            responses: Embeddings of the responses, (n, response_dim).
            user: Whose reward; None is the average user.
            weights: Weights from `adapt` in place of a user, (K,) for all rows or (n, K).

        Raises:
            PalError: If the user is unknown, a shape is wrong, or both `user` and `weights` are given.
        """
        if user is not None and weights is not None:
            raise PalError("user and weights must not both be given; weights stand for a user of their own")
        n, K = len(responses), self.config.K
        if prompts is None:
            if self.head.needs_prompts:
                raise PalError("prompts must be given, got None; this head's reward depends on the prompt")
            prompts = responses.new_zeros(n, self.prompt_dim)
        w = self.weights_of(user).to(responses.device) if weights is None else weights
        w = w.expand(n, K) if w.shape == (K,) else w
        _check_shape("prompts", prompts, (n, self.prompt_dim))
        _check_shape("responses", responses, (n, self.response_dim))
        _check_shape("weights", w, (n, K))
        with torch.no_grad():
            return self.head.reward(prompts, responses, w)

    def adapt(
        self, embeddings: Embeddings, comparisons: Comparisons, *, n_users: int
    ) -> Float[Tensor, "users K"]:
        """Locate new users by their comparisons; the model stays as it is (see `pal.adapt.adapt`)."""
        return adapt(self.head, self.prior, embeddings, comparisons, n_users=n_users, config=self.fit_config)

    def tensors(self) -> dict[str, Tensor]:
        """Every tensor of the model, by the name it has on disk."""
        shared = {f"head.{name}": tensor for name, tensor in self.head.state_dict().items()}
        return shared | {
            "weights": self.weights,
            "prior.points": self.prior.points,
            "prior.mass": self.prior.mass,
        }

    def save(self, folder: Path | str) -> None:
        """Write the model to a folder, as a whole; a model that is there already is replaced.

        Raises:
            PalError: If something else stands at that place, or `encoder` is not JSON.
        """
        about = {
            "head": self.config.model_dump(),
            "fit": self.fit_config.model_dump(),
            "prompt_dim": self.prompt_dim,
            "response_dim": self.response_dim,
            "encoder": dict(self.encoder),
        }
        write_folder(Path(folder), self.tensors(), list(self.user_ids), about)

    @classmethod
    def load(cls, folder: Path | str) -> "RewardModel":
        """Read a saved model, with every number checked.

        Raises:
            PalError: If a file is missing or damaged, not what `save` writes, or from a newer version.
        """
        about, user_ids, tensors = read_folder(Path(folder))
        try:
            return _built(about, user_ids, tensors)
        except PalError as error:
            raise PalError(f"{folder} holds no usable model: {error}") from None


def _built(about: dict[str, Any], user_ids: list[str], tensors: dict[str, Tensor]) -> RewardModel:
    kinds = {"head": dict, "fit": dict, "encoder": dict, "prompt_dim": int, "response_dim": int}
    for name, kind in kinds.items():
        if type(about.get(name)) is not kind:
            raise PalError(f"{name} must be of type {kind.__name__}, got {about.get(name)!r}")
    dims = {name: about[name] for name in ("prompt_dim", "response_dim")}
    if dims["prompt_dim"] < 0 or dims["response_dim"] < 1:
        raise PalError(f"prompt_dim must be at least 0 and response_dim at least 1, got {dims}")
    config = HeadConfig.of(**about["head"])
    with torch.device("meta"):  # no memory, no random numbers
        head = make_head(config, **dims)
    points = tensors.get("prior.points", torch.empty(0))
    _check_tensors(tensors, _shapes(head, len(user_ids), len(points) if points.dim() else 0), config.K)
    state = {name.removeprefix("head."): x for name, x in tensors.items() if name.startswith("head.")}
    head.load_state_dict(state, assign=True)
    prior = Prior(tensors["prior.points"], tensors["prior.mass"])
    return RewardModel(
        head.requires_grad_(requires_grad=False),
        user_ids,
        tensors["weights"],
        prior,
        FitConfig.of(**about["fit"]),
        about["encoder"],
        **dims,
    )


def _shapes(head: Head, n_users: int, n_points: int) -> dict[str, tuple[int, ...]]:
    K = head.config.K
    shared = {f"head.{name}": tuple(tensor.shape) for name, tensor in head.state_dict().items()}
    return shared | {"weights": (n_users, K), "prior.points": (n_points, K), "prior.mass": (n_points,)}


def _check_users(user_ids: Sequence[str], n_weights: int) -> None:
    if len(user_ids) != n_weights or not n_weights:
        raise PalError(f"user_ids must be as many as weights, at least 1, got {len(user_ids)}, {n_weights}")
    seen: set[str] = set()
    for user_id in user_ids:
        if user_id in seen:
            raise PalError(f"user_ids must not repeat, got {user_id!r} twice")
        seen.add(user_id)


def _check_tensors(tensors: dict[str, Tensor], shapes: dict[str, tuple[int, ...]], K: int) -> None:
    if tensors.keys() != shapes.keys():
        missing, extra = sorted(shapes.keys() - tensors), sorted(tensors.keys() - shapes)
        raise PalError(
            f"tensors must be those of the head's options, got {extra} too many, {missing} missing"
        )
    for name, shape in shapes.items():
        tensor = tensors[name]
        _check_shape(name, tensor, shape)
        if tensor.dtype != torch.float32:
            raise PalError(f"{name} must be float32, got {tensor.dtype}; convert it")
        if not bool(torch.isfinite(tensor).all()):
            raise PalError(f"{name} must be finite, got NaN or infinity; fit again")
    for name in ("weights", "prior.points", "prior.mass"):
        rows = tensors[name].reshape(-1, K) if name != "prior.mass" else tensors[name][None]
        if bool((rows < 0).any()) or bool(((rows.sum(1) - 1).abs() > 1e-4).any()):
            raise PalError(f"{name} must be shares that sum to 1, got others; give weights of the simplex")


def _check_shape(name: str, tensor: Tensor, shape: tuple[int, ...]) -> None:
    if tuple(tensor.shape) != shape:
        raise PalError(f"{name} must have the shape {shape}, got {tuple(tensor.shape)}")
