"""Saved models: what a fit leaves behind, as a folder of safetensors, JSON and checksums.

`model.safetensors` holds every tensor, `users.json` the ids of the seen users in the order of their states,
`config.json` the format's version, the names of model and population, and their options; `SHA256SUMS` the
sha256 of these three, as `sha256sum -c` reads it. A shared model has a card, `README.md`, which is not read.
Every number is checked on loading; pickles are never read.
"""

import hashlib
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import safetensors
import safetensors.torch
import torch
from torch import Tensor

from pal.config import FitConfig, HeadConfig, registered
from pal.errors import PalError, shorten
from pal.files import new_folder, read_bytes, sweep, write_bytes
from pal.fitting.attributes import AttributePrior
from pal.models.base import PreferenceModel, make_model
from pal.users import POPULATIONS
from pal.users.population import Population

FORMAT = "pal-reward-model"
VERSION = 2
CONFIG, TENSORS, USERS, SUMS = "config.json", "model.safetensors", "users.json", "SHA256SUMS"
CARD = "README.md"
ADVICE = "a saved model has four files"
DIMS = ("prompt_dim", "response_dim")
EFFECTS = "attributes.effects"  # a tensor


def model_files(
    config: Mapping[str, Any], tensors: Mapping[str, Tensor], user_ids: Sequence[str]
) -> dict[str, bytes]:
    """The files of a model, by name; `config` is what `config.json` holds beside format and version."""
    try:
        about = json.dumps({"format": FORMAT, "version": VERSION, **config}, indent=2, allow_nan=False) + "\n"
    except (TypeError, ValueError) as error:
        raise PalError(f"encoder must be JSON, got something else ({error}); describe it in text") from None
    files = {
        CONFIG: about.encode("ascii"),
        # safetensors refuses tensors that share memory, hence clone.
        TENSORS: safetensors.torch.save({name: x.detach().cpu().clone() for name, x in tensors.items()}),
        # ASCII escapes carry any text, lone surrogates included.
        USERS: json.dumps(list(user_ids), indent=0).encode("ascii"),
    }
    return files | {SUMS: checksums(files)}


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
        got = f"{min(others)!r} too; choose another"
        raise PalError(f"{folder} must hold nothing but a saved model, got {got}")
    with new_folder(folder) as new:
        for name, data in files.items():
            write_bytes(new / name, data)


def read_model(folder: Path) -> dict[str, Any]:
    """The fields of a saved model, with every number checked."""
    if not folder.exists():
        sweep(folder.absolute().parent)  # a killed save may have moved it away
    if not (folder / CONFIG).exists() and (folder / "model" / CONFIG).is_file():
        folder /= "model"  # of what `pal fit` wrote, or of a pipeline's models
    config = _parse_json(folder / CONFIG, read_bytes(folder / CONFIG, ADVICE))
    if not isinstance(config, dict) or config.get("format") != FORMAT:
        raise PalError(
            f"{folder / CONFIG} must be of the format {FORMAT!r}, got another; pal reads only its own models"
        )
    if config.get("version") != VERSION:
        raise PalError(
            f"{folder / CONFIG} must have the version {VERSION}, got {shorten(config.get('version'))}; fit "
            "the model again with this pal, or install the pal that wrote it"
        )
    data = {name: read_bytes(folder / name, ADVICE) for name in (CONFIG, TENSORS, USERS, SUMS)}
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
        got = f"something else ({error}); fit again"
        raise PalError(f"{folder / TENSORS} must be safetensors, got {got}") from None
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
    check_tensors(head, population, attributes, tensors)
    head.load_state_dict(owned["head"], assign=True)
    fitted = {"head": head.requires_grad_(requires_grad=False), "population": population}
    people = {"user_ids": user_ids, "states": tensors["states"], "attributes": attributes}
    fit_config = FitConfig.from_options(**config["fit"])
    return {**fitted, **people, "fit_config": fit_config, "encoder": config["encoder"], **dims}


def check_tensors(
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
        got = f"{extra} too many, {missing} missing"
        raise PalError(f"tensors must be those of the head's options, got {got}; fit again")
    for name, tensor in sorted(tensors.items()):
        if tensor.shape != shapes.get(name, tensor.shape):
            raise PalError(f"{name} must have the shape {tuple(shapes[name])}, got {tuple(tensor.shape)}")
        if tensor.dtype != torch.float32:
            raise PalError(f"{name} must be float32, got {tensor.dtype}; convert it")
        if not bool(torch.isfinite(tensor).all()):
            raise PalError(f"{name} must be finite, got NaN or infinity; fit again")


def _parse_json(path: Path, data: bytes) -> Any:
    try:
        return json.loads(data)
    except (ValueError, RecursionError) as error:
        got = f"something else ({error}); fit or copy it again"
        raise PalError(f"{path} must be JSON, got {got}", file=path) from None
