"""Saved models on disk: a folder that is either whole and unchanged, or refused.

Three files: `model.safetensors` (tensors), `users.json` (ids), and `config.json`, written last, with the
format's name and version, the tensors' shapes, the sha256 of the other two, and a seal over itself. A model
that is shared has a fourth, `README.md`, its card, which is never read here; it describes this model, so that
saving another one in its place takes it away.
"""

import hashlib
import json
from pathlib import Path
from typing import Any

import safetensors
import safetensors.torch
from torch import Tensor

from pal.errors import PalError
from pal.files import new_folder, sweep, write_bytes

FORMAT = "pal-reward-model"
VERSION = 2
TENSORS, USERS, CONFIG, CARD = "model.safetensors", "users.json", "config.json", "README.md"


def write_folder(
    folder: Path, tensors: dict[str, Tensor], user_ids: list[str], about: dict[str, Any]
) -> None:
    """Write a model beside its place, then have them change places; see `pal.files.new_folder`.

    Args:
        folder: Where to; made where missing, replaced where it holds a model.
        tensors: By name.
        user_ids: In the order of the weights.
        about: What else `config.json` tells.

    Raises:
        PalError: If something else than a saved model stands there, it cannot be written, or `about` is not
            JSON.
    """
    _check_place(folder.absolute())
    files = {
        # Cloned: safetensors refuses tensors that share memory.
        TENSORS: safetensors.torch.save({name: t.detach().cpu().clone() for name, t in tensors.items()}),
        # ASCII escapes carry any text, lone surrogates included.
        USERS: json.dumps(user_ids, indent=0).encode("ascii"),
    }
    config = {
        "format": FORMAT,
        "version": VERSION,
        **about,
        "tensors": {name: list(t.shape) for name, t in sorted(tensors.items())},
        "sha256": {name: hashlib.sha256(data).hexdigest() for name, data in files.items()},
    }
    try:
        config["sha256"][CONFIG] = seal(config)
        files[CONFIG] = (json.dumps(config, indent=2, allow_nan=False) + "\n").encode("ascii")
    except (TypeError, ValueError) as error:
        raise PalError(f"encoder must be JSON, got something else ({error}); describe it in text") from None
    place_folder(folder, files)


def place_folder(folder: Path, files: dict[str, bytes]) -> None:
    """Put a saved model's files where they belong, all of them or none; see `write_folder`.

    Raises:
        PalError: If something else than a saved model stands there, or it cannot be written.
    """
    folder = folder.absolute()
    _check_place(folder)
    _place(folder, files)


def _check_place(folder: Path) -> None:
    if folder.is_symlink() or (folder.exists() and not folder.is_dir()):
        raise PalError(f"{folder} must be a folder or not there yet, got a file or a link; choose another")
    if folder.exists():
        others = {path.name for path in folder.iterdir()} - {TENSORS, USERS, CONFIG, CARD}
        if others:
            raise PalError(
                f"{folder} must hold nothing but a saved model, got {min(others)!r} too; choose another"
            )


def _place(folder: Path, files: dict[str, bytes]) -> None:
    with new_folder(folder) as new:
        for name, data in files.items():
            write_bytes(new / name, data)


def read_folder(folder: Path) -> tuple[dict[str, Any], list[str], dict[str, Tensor]]:
    """What `write_folder` wrote: the config, the users' ids and the tensors.

    Raises:
        PalError: If a file is missing, damaged, of another format or a newer version.
    """
    if not folder.exists():
        sweep(folder.absolute().parent)  # a killed save may have moved it away
    config = _read_config(folder / CONFIG)
    data = {name: _read(folder / name) for name in (TENSORS, USERS)}
    # A safetensors file opens with eight bytes of length and a brace; a pickle or an archive does not.
    if data[TENSORS][8:9] != b"{":
        raise PalError(
            f"{folder / TENSORS} must be in the safetensors format, got something else; a pickle can run "
            "code and is never loaded"
        )
    for name, content in data.items():
        found = hashlib.sha256(content).hexdigest()
        if config["sha256"].get(name) != found:
            raise PalError(
                f"{folder / name} must have the sha256 that {CONFIG} gives, got {found}; it was changed or "
                "damaged, so fit or copy the model again"
            )
    try:
        tensors = safetensors.torch.load(data[TENSORS])
    except (safetensors.SafetensorError, KeyError, ValueError) as error:
        raise PalError(f"{folder / TENSORS} cannot be read as safetensors: {error}; fit again") from None
    shapes = {name: list(tensor.shape) for name, tensor in tensors.items()}
    if config.get("tensors") != shapes:
        raise PalError(
            f"{folder / TENSORS} must hold the shapes that {CONFIG} gives, got {_short(shapes)}; fit again"
        )
    return config, _read_users(folder / USERS, data[USERS]), tensors


def _read_config(path: Path) -> dict[str, Any]:
    config = _parsed(path, _read(path))
    if not isinstance(config, dict) or config.get("format") != FORMAT:
        raise PalError(f"{path} must be of the format {FORMAT!r}, got another; pal reads only its own models")
    version = config.get("version")
    if type(version) is not int or version < 1:
        raise PalError(f"{path} must give a version of at least 1, got {version!r}; fit again")
    if version > VERSION:
        raise PalError(f"{path} must have a version of at most {VERSION}, got {version}; install a newer pal")
    pinned = config.get("sha256")
    if not isinstance(pinned, dict) or pinned.keys() - {CONFIG} != {TENSORS, USERS}:
        raise PalError(f"{path} must give the sha256 of the other files, got {_short(pinned)}; fit again")
    if CONFIG in pinned and pinned[CONFIG] != _sealed(path, config):  # older models have no seal
        raise PalError(
            f"{path} must have the seal that it gives, got another; it was changed or damaged, so fit or "
            "copy the model again"
        )
    if version < VERSION:
        raise PalError(f"{path} must have the version {VERSION}, got {version}, of an older pal; fit again")
    return config


def seal(config: dict[str, Any]) -> str:
    """The sha256 over all that a config tells, but the seal itself: JSON has no checksum of its own."""
    pinned = {name: sha256 for name, sha256 in config["sha256"].items() if name != CONFIG}
    text = json.dumps({**config, "sha256": pinned}, sort_keys=True)
    return hashlib.sha256(text.encode("ascii")).hexdigest()


def _sealed(path: Path, config: dict[str, Any]) -> str:
    try:
        return seal(config)
    except RecursionError:
        raise PalError(f"{path} must nest no deeper than a saved model does, got more; fit again") from None


def _short(value: Any) -> str:
    return repr(value)[:80]


def _read_users(path: Path, data: bytes) -> list[str]:
    users = _parsed(path, data)
    if not isinstance(users, list):
        raise PalError(f"{path} must hold a list of ids, got {type(users).__name__}; fit again")
    for user_id in users:
        if not isinstance(user_id, str):
            raise PalError(f"{path} must hold ids that are text, got {user_id!r}; fit again")
    return users


def _read(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise PalError(f"{path} cannot be read ({error.strerror}); a saved model has three files") from None


def _parsed(path: Path, data: bytes) -> Any:
    try:
        return json.loads(data)
    except (ValueError, RecursionError) as error:
        raise PalError(f"{path} must be JSON, got something else ({error}); fit or copy it again") from None
