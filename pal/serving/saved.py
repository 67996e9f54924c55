"""What a fit leaves behind: the shared head, the seen users' states, and the population of new users.

`pal.serving.model.RewardModel` is this with everything that a user of the model does; the pipeline, which has
embeddings at hand and needs no more than this, does not depend on the rest.

On disk it is a folder of three files. `model.safetensors` holds every tensor, `users.json` the users' ids in
the order of their states, `config.json` what they mean, with the sha256 of the other two. It is written
beside its place and moved there whole, and read with every number checked. Pickles are never read.

Shapes used in this module:
    users   seen users, or users to locate
    state   numbers of a user's state
"""

import hashlib
import json
from collections.abc import Mapping, Sequence
from copy import deepcopy
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, TypeVar

import torch
from jaxtyping import Float
from torch import Tensor

from pal.comparisons import Comparisons, Embeddings
from pal.config import FitConfig, HeadConfig, registered
from pal.errors import PalError
from pal.fitting.trainer import Fitted
from pal.models.base import PreferenceModel, make_model
from pal.serving.storage import read_folder, write_folder
from pal.users import POPULATIONS
from pal.users.population import Population, adapt, fit_population

Some = TypeVar("Some", bound="SavedModel")  # not typing.Self, which the shape checks in tests cannot read


@dataclass(frozen=True, repr=False)
class SavedModel:
    """A fitted head with its users and their population, ready to be saved.

    Args:
        head: The shared part.
        user_ids: Ids of the seen users, any text, no two alike.
        states: One state per seen user, in the order of `user_ids`.
        population: Where new users' states are expected.
        fit_config: How the head was fitted.
        encoder: What the embeddings came from, for `prompts` and `responses`: names, hashes of the encoders'
            weights, widths and so on. Kept and handed back as it is; must be JSON.
        prompt_dim: Width of the prompts' embeddings; 0 where there are no prompts.
        response_dim: Width of the responses' embeddings.

    Raises:
        PalError: If ids repeat, shapes disagree, or a number is not finite or not allowed.
    """

    head: PreferenceModel
    user_ids: Sequence[str]
    states: Tensor
    population: Population
    fit_config: FitConfig
    encoder: Mapping[str, Any]
    prompt_dim: int
    response_dim: int

    def __post_init__(self) -> None:
        _check_tensors(self.tensors(), _shapes(self.head, self.population.tensors()))
        self.head.check_states(self.states, "states")
        _check_users(self.user_ids, len(self.states))
        self.population.check(self.head)
        self.head.eval()

    @classmethod
    def of(
        cls: type[Some],
        fitted: Fitted,
        embeddings: Embeddings,
        *,
        user_ids: Sequence[str],
        fit_config: FitConfig,
        encoder: Mapping[str, Any],
    ) -> Some:
        """The model that a fit leaves behind, on the CPU, with a population fitted to its users' states.

        Args:
            fitted: From `pal.fitting.fit.fit`.
            embeddings: What was fitted on; only the widths are read.
            user_ids: Ids of the seen users, in the order of the states.
            fit_config: How it was fitted.
            encoder: What the embeddings came from.
        """
        states = fitted.states.cpu()
        population = fit_population(fit_config.population, states)
        dims = {"prompt_dim": embeddings.prompts.shape[1], "response_dim": embeddings.responses.shape[1]}
        head = deepcopy(fitted.head).cpu()
        return cls(head, user_ids, states, population, fit_config, encoder, **dims)

    def __repr__(self) -> str:
        about = f"model {self.config.model}, K={self.config.K}, {len(self.user_ids):,} users"
        return f"{type(self).__name__}({about}, fingerprint {self.fingerprint[:8]})"

    @property
    def config(self) -> HeadConfig:
        """The head's options."""
        return self.head.config

    @cached_property
    def fingerprint(self) -> str:
        """What a taste is tied to: 32 hex digits over all that shapes rewards and posteriors.

        That is the head, its options, the population and the loss; not the seen users, of whom one may be
        taken out and everybody's tastes still hold.
        """
        # Without defaults: an option that a newer version adds changes no fingerprint.
        shaping = {"head": self.config.model_dump(exclude_defaults=True), "loss": self.fit_config.loss}
        found = hashlib.sha256(json.dumps(shaping, sort_keys=True).encode())
        for name, tensor in sorted(self.tensors().items()):
            if name != "states":
                found.update(f"\n{name} {tuple(tensor.shape)}\n".encode())
                found.update(tensor.detach().cpu().contiguous().numpy().astype("<f4").tobytes())
        return found.hexdigest()[:32]

    @cached_property
    def rows(self) -> dict[str, int]:
        """Each seen user's row of the states."""
        return {user_id: row for row, user_id in enumerate(self.user_ids)}

    def state_of(self, user_id: str | None) -> Float[Tensor, " state"]:
        """A seen user's state; for None that of someone unknown, the mean of the population.

        Raises:
            PalError: If the user was not seen in fitting.
        """
        if user_id is None:
            return self.population.mean
        if user_id not in self.rows:
            raise PalError(
                f"user must be one of the {len(self.rows)} seen in fitting, got {user_id!r}; adapt to the "
                "user's comparisons first, model.adapt(comparisons), and pass the taste that this gives, or "
                "pass None for the average user"
            )
        return self.states[self.rows[user_id]]

    def locate(
        self, embeddings: Embeddings, comparisons: Comparisons, *, n_users: int
    ) -> Float[Tensor, "users state"]:
        """Locate new users by their comparisons; the model stays as it is (see `pal.adapt`)."""
        config = self.fit_config
        return adapt(self.head, self.population, embeddings, comparisons, n_users=n_users, config=config)

    def tensors(self) -> dict[str, Tensor]:
        """Every tensor of the model, by the name it has on disk."""
        shared = {f"head.{name}": tensor for name, tensor in self.head.state_dict().items()}
        population = {f"population.{name}": tensor for name, tensor in self.population.tensors().items()}
        return shared | {"states": self.states} | population

    def save(self, folder: Path | str) -> None:
        """Write the model to a folder, as a whole; a model that is there already is replaced.

        Raises:
            PalError: If something else stands at that place, or `encoder` is not JSON.
        """
        about = {
            "head": self.config.model_dump(),
            "fit": self.fit_config.model_dump(),
            "population": self.population.name,
            "prompt_dim": self.prompt_dim,
            "response_dim": self.response_dim,
            "encoder": dict(self.encoder),
        }
        write_folder(Path(folder), self.tensors(), list(self.user_ids), about)

    @classmethod
    def load(cls: type[Some], folder: Path | str) -> Some:
        """Read a saved model, with every number checked.

        Raises:
            PalError: If a file is missing or damaged, not what `save` writes, or from a newer version.
        """
        return cls(**read_parts(folder))


def read_parts(folder: Path | str) -> dict[str, Any]:
    """The fields of a saved model, with every number checked.

    Raises:
        PalError: If a file is missing or damaged, not what `save` writes, or from a newer version.
    """
    about, user_ids, tensors = read_folder(Path(folder))
    try:
        return _parts(about, user_ids, tensors)
    except PalError as error:
        raise PalError(f"{folder} holds no usable model: {error}") from None


def _parts(about: dict[str, Any], user_ids: list[str], tensors: dict[str, Tensor]) -> dict[str, Any]:
    kinds = {
        "head": dict,
        "fit": dict,
        "population": str,
        "encoder": dict,
        "prompt_dim": int,
        "response_dim": int,
    }
    for name, kind in kinds.items():
        if type(about.get(name)) is not kind:
            raise PalError(f"{name} must be of type {kind.__name__}, got {about.get(name)!r}")
    dims = {name: about[name] for name in ("prompt_dim", "response_dim")}
    if dims["prompt_dim"] < 0 or dims["response_dim"] < 1:
        raise PalError(f"prompt_dim must be at least 0 and response_dim at least 1, got {dims}")
    config = HeadConfig.from_options(**about["head"])
    with torch.device("meta"):  # no memory, no random numbers
        head = make_model(config, **dims)
    kept = {
        name.removeprefix("population."): x for name, x in tensors.items() if name.startswith("population.")
    }
    try:
        population = registered(POPULATIONS, about["population"]).from_tensors(kept)
    except KeyError as error:
        raise PalError(
            f"tensors must be those of the population, population.{error.args[0]} is missing"
        ) from None
    _check_tensors(tensors, _shapes(head, population.tensors()))
    state = {name.removeprefix("head."): x for name, x in tensors.items() if name.startswith("head.")}
    head.load_state_dict(state, assign=True)
    return {
        "head": head.requires_grad_(requires_grad=False),
        "user_ids": user_ids,
        "states": tensors["states"],
        "population": population,
        "fit_config": FitConfig.from_options(**about["fit"]),
        "encoder": about["encoder"],
        **dims,
    }


def _shapes(head: PreferenceModel, population: Mapping[str, Tensor]) -> dict[str, tuple[int, ...] | None]:
    """The shape of each tensor; None where the model or the population checks it itself."""
    shared = {f"head.{name}": tuple(tensor.shape) for name, tensor in head.state_dict().items()}
    return shared | {"states": None} | {f"population.{name}": None for name in population}


def _check_users(user_ids: Sequence[str], n_states: int) -> None:
    if len(user_ids) != n_states or not n_states:
        raise PalError(f"user_ids must be as many as states, at least 1, got {len(user_ids)}, {n_states}")
    seen: set[str] = set()
    for user_id in user_ids:
        if user_id in seen:
            raise PalError(f"user_ids must not repeat, got {user_id!r} twice")
        seen.add(user_id)


def _check_tensors(tensors: dict[str, Tensor], shapes: dict[str, tuple[int, ...] | None]) -> None:
    if tensors.keys() != shapes.keys():
        missing, extra = sorted(shapes.keys() - tensors), sorted(tensors.keys() - shapes)
        raise PalError(
            f"tensors must be those of the head's options, got {extra} too many, {missing} missing"
        )
    for name, shape in shapes.items():
        tensor = tensors[name]
        if shape is not None and tuple(tensor.shape) != shape:
            raise PalError(f"{name} must have the shape {shape}, got {tuple(tensor.shape)}")
        if tensor.dtype != torch.float32:
            raise PalError(f"{name} must be float32, got {tensor.dtype}; convert it")
        if not bool(torch.isfinite(tensor).all()):
            raise PalError(f"{name} must be finite, got NaN or infinity; fit again")
