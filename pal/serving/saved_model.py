"""Saved models: what a fit leaves behind, as a folder of safetensors, JSON and checksums.

`model.safetensors` holds every tensor, `users.json` the ids of the seen users in the order of their states,
`config.json` the format's version, the names of model and population, and their options; `SHA256SUMS` the
sha256 of these three, as `sha256sum -c` reads it. A shared model has a card, `README.md`, which is not read.
A folder is written beside its place and moved there whole. Every number is checked on loading; pickles are
never read.

`pal.serving.reward_model.RewardModel` adds what a user of the model does. The pipeline has embeddings at
hand and needs this alone.

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

import safetensors
import safetensors.torch
import torch
from jaxtyping import Float
from torch import Tensor

from pal.comparisons import Comparisons, Embeddings
from pal.config import FitConfig, HeadConfig, registered
from pal.errors import PalError, shorten
from pal.files import expanded, new_folder, sweep, write_bytes
from pal.fitting.trainer import Fitted
from pal.models.base import PreferenceModel, make_model
from pal.users import POPULATIONS
from pal.users.attributes import AttributePrior, Attributes
from pal.users.population import Population, adapt, fit_population

FORMAT = "pal-reward-model"
VERSION = 2
CONFIG, TENSORS, USERS, SUMS = "config.json", "model.safetensors", "users.json", "SHA256SUMS"
CARD = "README.md"
DIMS = ("prompt_dim", "response_dim")
EFFECTS = "attributes.effects"  # a tensor
Some = TypeVar("Some", bound="SavedModel")  # not typing.Self, which the shape checks in tests cannot read


@dataclass(frozen=True, repr=False, eq=False)
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
        attributes: What people's attributes say of their states; None where nothing.

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
    attributes: AttributePrior | None = None

    def __post_init__(self) -> None:
        _check_tensors(self.head, self.population, self.attributes, self.tensors())
        self.head.check_states(self.states, "states")
        if len(self.user_ids) != len(self.states) or not len(self.states):
            counts = f"{len(self.user_ids)}, {len(self.states)}"
            raise PalError(f"user_ids must be as many as states, at least 1, got {counts}")
        if len(self.rows) < len(self.user_ids):
            twice = next(user for row, user in enumerate(self.user_ids) if self.rows[user] != row)
            raise PalError(f"user_ids must not repeat, got {twice!r} twice")
        self.population.check(self.head)
        if self.attributes is not None:
            self.attributes.check(self.population.evidence_size)
        self.head.eval()

    @classmethod
    def from_fit(
        cls: type[Some],
        fitted: Fitted,
        embeddings: Embeddings,
        *,
        user_ids: Sequence[str],
        fit_config: FitConfig,
        encoder: Mapping[str, Any],
        attributes: AttributePrior | None = None,
    ) -> Some:
        """The model that a fit leaves behind, on the CPU, with a population fitted to its users' states.

        Args:
            fitted: From `pal.fitting.trainer.fit`.
            embeddings: What was fitted on; only the widths are read.
            user_ids: Ids of the seen users, in the order of the states.
            fit_config: How it was fitted.
            encoder: What the embeddings came from.
            attributes: What people's attributes say of their states, in evidence of this population.
        """
        states = fitted.states.cpu()
        population = fitted.population or fit_population(fit_config.population, states)
        dims = {"prompt_dim": embeddings.prompts.shape[1], "response_dim": embeddings.responses.shape[1]}
        head = deepcopy(fitted.head).cpu()
        return cls(head, user_ids, states, population, fit_config, encoder, **dims, attributes=attributes)

    def __repr__(self) -> str:
        about = f"model {self.config.model}, K={self.config.K}, {len(self.user_ids):,} users"
        return f"{type(self).__name__}({about}, fingerprint {self.fingerprint[:8]})"

    @property
    def config(self) -> HeadConfig:
        """The head's options."""
        return self.head.config

    @cached_property
    def fingerprint(self) -> str:
        """32 hex digits of a hash over all that shapes rewards and posteriors; a taste belongs to one.

        That is the head, its options, the population and the loss. It is not the seen users: one of them may
        be removed, and everybody's tastes still hold.
        """
        # Without defaults: an option that a newer version adds changes no fingerprint.
        shaping = {"head": self.config.model_dump(exclude_defaults=True), "loss": self.fit_config.loss}
        if self.attributes is not None:
            shaping["attributes"] = self.attributes.columns
        digest = hashlib.sha256(json.dumps(shaping, sort_keys=True).encode())
        for name, tensor in sorted(self.tensors().items()):
            if name != "states":
                digest.update(f"\n{name} {tuple(tensor.shape)}\n".encode())
                digest.update(tensor.detach().cpu().contiguous().numpy().astype("<f4").tobytes())
        return digest.hexdigest()[:32]

    @cached_property
    def rows(self) -> dict[str, int]:
        """Each seen user's row of the states."""
        return {user_id: row for row, user_id in enumerate(self.user_ids)}

    def state_of(self, user: str | None) -> Float[Tensor, " state"]:
        """A seen user's state; for None that of a user of whom nothing is known, the population's mean.

        Raises:
            PalError: If the user was not seen in fitting.
        """
        if user is None:
            return self.population.mean
        if user not in self.rows:
            raise PalError(
                f"user must be one of the {len(self.rows)} seen in fitting, got {user!r}; adapt to the "
                "user's comparisons first, model.adapt(comparisons), and pass the taste that this gives, or "
                "pass None for the average user",
                user=user,
            )
        return self.states[self.rows[user]]

    def locate(
        self,
        embeddings: Embeddings,
        comparisons: Comparisons,
        *,
        n_users: int,
        attributes: Sequence[Attributes] | None = None,
    ) -> Float[Tensor, "users state"]:
        """Locate new users by their comparisons; the model stays as it is (see `pal.adapt`).

        Args:
            embeddings: What the comparisons' questions point into.
            comparisons: The users' answers.
            n_users: Users to locate.
            attributes: What is known of each beside the answers, where the model's prior reads it.
        """
        config, population = self.fit_config, self.population
        if attributes is None or self.attributes is None:
            return adapt(self.head, population, embeddings, comparisons, n_users=n_users, config=config)
        with torch.no_grad():
            read = population.evidence(self.head, embeddings, comparisons, config.loss)
            evidence = population.total(read, comparisons.user, n_users)
            known = evidence + self.attributes.evidence(attributes).to(evidence)
            return population.posterior(known).mean.float()

    def tensors(self) -> dict[str, Tensor]:
        """Every tensor of the model, by the name it has on disk."""
        shared = {f"head.{name}": tensor for name, tensor in self.head.state_dict().items()}
        population = {f"population.{name}": tensor for name, tensor in self.population.tensors().items()}
        effects = {} if self.attributes is None else {EFFECTS: self.attributes.effects}
        return shared | {"states": self.states} | population | effects

    def files(self) -> dict[str, bytes]:
        """The files that `save` writes, by name."""
        config = {
            "format": FORMAT,
            "version": VERSION,
            "population": self.population.name,
            "head": self.config.model_dump(),
            "fit": self.fit_config.model_dump(),
            "prompt_dim": self.prompt_dim,
            "response_dim": self.response_dim,
            "encoder": dict(self.encoder),
        }
        if self.attributes is not None:
            config["attributes"] = dict(self.attributes.columns)
        try:
            about = json.dumps(config, indent=2, allow_nan=False) + "\n"
        except (TypeError, ValueError) as error:
            raise PalError(
                f"encoder must be JSON, got something else ({error}); describe it in text"
            ) from None
        # safetensors refuses tensors that share memory, hence clone.
        tensors = {name: tensor.detach().cpu().clone() for name, tensor in self.tensors().items()}
        files = {
            CONFIG: about.encode("ascii"),
            TENSORS: safetensors.torch.save(tensors),
            # ASCII escapes carry any text, lone surrogates included.
            USERS: json.dumps(list(self.user_ids), indent=0).encode("ascii"),
        }
        return files | {SUMS: checksums(files)}

    def save(self, folder: Path | str) -> None:
        """Write the model to a folder, as a whole; a model that is there already is replaced.

        Raises:
            PalError: If something else is at that place, or `encoder` is not JSON.
        """
        write_model(expanded(folder), self.files())

    @classmethod
    def load(cls: type[Some], folder: Path | str) -> Some:
        """Read a saved model, with every number checked.

        Raises:
            PalError: If a file is missing or damaged, not what `save` writes, or from another version.
        """
        return cls(**read_model(expanded(folder)))


def checksums(files: Mapping[str, bytes]) -> bytes:
    """The sha256 of each file, in the format of `sha256sum`."""
    lines = [f"{hashlib.sha256(data).hexdigest()}  {name}\n" for name, data in sorted(files.items())]
    return "".join(lines).encode("ascii")


def write_model(folder: Path, files: Mapping[str, bytes]) -> None:
    """Write the files of a model to a folder, all or none; a model that is there is replaced."""
    folder = folder.absolute()
    if folder.is_symlink() or (folder.exists() and not folder.is_dir()):
        raise PalError(f"{folder} must be a folder or not there yet, got a file or a link; choose another")
    others = {path.name for path in folder.iterdir()} if folder.exists() else set()
    if others := others - {TENSORS, USERS, CONFIG, SUMS, CARD}:
        raise PalError(
            f"{folder} must hold nothing but a saved model, got {min(others)!r} too; choose another"
        )
    with new_folder(folder) as new:
        for name, data in files.items():
            write_bytes(new / name, data)


def read_model(folder: Path) -> dict[str, Any]:
    """The fields of a saved model, with every number checked."""
    if not folder.exists():
        sweep(folder.absolute().parent)  # a killed save may have moved it away
    if not (folder / CONFIG).exists() and (folder / "model" / CONFIG).is_file():
        folder /= "model"  # of what `pal fit` wrote, or of a pipeline's models
    config = _parse_json(folder / CONFIG, _read(folder / CONFIG))
    if not isinstance(config, dict) or config.get("format") != FORMAT:
        raise PalError(
            f"{folder / CONFIG} must be of the format {FORMAT!r}, got another; pal reads only its own models"
        )
    if config.get("version") != VERSION:
        raise PalError(
            f"{folder / CONFIG} must have the version {VERSION}, got {shorten(config.get('version'))}; fit "
            "the model again with this pal, or install the pal that wrote it"
        )
    data = {name: _read(folder / name) for name in (CONFIG, TENSORS, USERS, SUMS)}
    # A safetensors file opens with eight bytes of length and a brace; a pickle or an archive does not.
    if data[TENSORS][8:9] != b"{":
        raise PalError(
            f"{folder / TENSORS} must be in the safetensors format, got something else; a pickle can run "
            "code and is never loaded"
        )
    recorded = data.pop(SUMS).splitlines()
    for name, content in data.items():
        if checksums({name: content}).strip() not in recorded:
            raise PalError(
                f"{folder / name} must have the sha256 that {SUMS} gives, got "
                f"{hashlib.sha256(content).hexdigest()}; it was changed or damaged, so fit or copy the model "
                "again",
                file=folder / name,
            )
    try:
        tensors = safetensors.torch.load(data[TENSORS])
    except (safetensors.SafetensorError, KeyError, ValueError) as error:
        raise PalError(f"{folder / TENSORS} cannot be read as safetensors: {error}; fit again") from None
    user_ids = _parse_json(folder / USERS, data[USERS])
    if not isinstance(user_ids, list) or not all(isinstance(user_id, str) for user_id in user_ids):
        raise PalError(f"{folder / USERS} must hold a list of ids that are text, got others; fit again")
    try:
        return _fields(config, user_ids, tensors)
    except PalError as error:
        raise PalError(f"{folder} holds no usable model: {error}", file=folder) from None


def _fields(config: dict[str, Any], user_ids: list[str], tensors: dict[str, Tensor]) -> dict[str, Any]:
    kinds = {"head": dict, "fit": dict, "encoder": dict, "population": str, **dict.fromkeys(DIMS, int)}
    for name, kind in kinds.items():
        if type(config.get(name)) is not kind:
            raise PalError(f"{name} must be of type {kind.__name__}, got {config.get(name)!r}")
    dims = {name: config[name] for name in DIMS}
    if dims["prompt_dim"] < 0 or dims["response_dim"] < 1:
        raise PalError(f"prompt_dim must be at least 0 and response_dim at least 1, got {dims}")
    with torch.device("meta"):  # no memory, no random numbers
        head = make_model(HeadConfig.from_options(**config["head"]), **dims)
    owned: dict[str, dict[str, Tensor]] = {"head": {}, "population": {}}
    for name, tensor in tensors.items():
        owner, _, inner = name.partition(".")
        owned.get(owner, {})[inner] = tensor
    try:
        population = registered(POPULATIONS, config["population"]).from_tensors(owned["population"])
    except KeyError as error:
        raise PalError(f"tensors must hold population.{error.args[0]}, got none; fit again") from None
    attributes = None
    if (columns := config.get("attributes")) is not None:
        effects = tensors.get(EFFECTS, torch.zeros(0))  # whose shape is refused where it is missing
        attributes = AttributePrior.from_json(columns, effects)
    _check_tensors(head, population, attributes, tensors)
    head.load_state_dict(owned["head"], assign=True)
    return {
        "head": head.requires_grad_(requires_grad=False),
        "user_ids": user_ids,
        "states": tensors["states"],
        "population": population,
        "fit_config": FitConfig.from_options(**config["fit"]),
        "encoder": config["encoder"],
        "attributes": attributes,
        **dims,
    }


def _check_tensors(
    head: PreferenceModel,
    population: Population,
    attributes: AttributePrior | None,
    tensors: Mapping[str, Tensor],
) -> None:
    """Names, types and finite numbers of all tensors, and the head's shapes; others check what is theirs."""
    shapes = {f"head.{name}": tensor.shape for name, tensor in head.state_dict().items()}
    expected = {*shapes, "states", *(f"population.{name}" for name in population.tensors())}
    expected |= set() if attributes is None else {EFFECTS}
    if tensors.keys() != expected:
        missing, extra = sorted(expected - tensors.keys()), sorted(tensors.keys() - expected)
        raise PalError(
            f"tensors must be those of the head's options, got {extra} too many, {missing} missing"
        )
    for name, tensor in sorted(tensors.items()):
        if tensor.shape != shapes.get(name, tensor.shape):
            raise PalError(f"{name} must have the shape {tuple(shapes[name])}, got {tuple(tensor.shape)}")
        if tensor.dtype != torch.float32:
            raise PalError(f"{name} must be float32, got {tensor.dtype}; convert it")
        if not bool(torch.isfinite(tensor).all()):
            raise PalError(f"{name} must be finite, got NaN or infinity; fit again")


def _read(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise PalError(
            f"{path} cannot be read ({error.strerror}); a saved model has four files", file=path
        ) from None


def _parse_json(path: Path, data: bytes) -> Any:
    try:
        return json.loads(data)
    except (ValueError, RecursionError) as error:
        raise PalError(
            f"{path} must be JSON, got something else ({error}); fit or copy it again", file=path
        ) from None
