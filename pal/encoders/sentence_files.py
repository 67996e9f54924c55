"""What a sentence-transformers folder says of itself, read without torch and with nothing in it run."""

import hashlib
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pal.encoders.weights import sha256_of
from pal.errors import PalError

WEIGHTS = "model.safetensors"
LIBRARY = "sentence_transformers."
MODULES = ("Transformer", "Pooling", "Normalize", "Dense", "Dropout", "LayerNorm")
"""The library's modules that are run: a transformer first, then what makes one vector of its tokens'."""

LARGEST_JSON = 64 * 2**20
WIDEST = 2**20


@dataclass(frozen=True)
class Said:
    """What the files say.

    Args:
        dim: Width of the vectors.
        max_tokens: Tokens that are read; None where the files leave it to the library.
        preprocessing: In words, as `Described` has it.
    """

    dim: int
    max_tokens: int | None
    preprocessing: str


def read(folder: Path) -> Said:
    """Read a model's folder.

    Raises:
        PalError: If a file is missing or not of the format, or asks for what is not run here.
    """
    modules = checked_modules(folder)
    limit = _json(modules[0][1] / "sentence_bert_config.json").get("max_seq_length")
    dim, words = 0, [f"cut to {limit} tokens" if limit else "cut to the model's limit"]
    for kind, path in modules:
        if kind == "Transformer":
            dim = _width(_json(path / "config.json").get("hidden_size"))
        elif kind == "Pooling":
            width, modes = _pooling(path)
            dim = (_width(width) or dim) * len(modes)
            words.append(f"{' and '.join(modes)} over tokens")
        elif kind == "Dense":
            dim = _width(_json(path / "config.json").get("out_features"))
            words.append(f"dense to {dim}")
        elif kind == "Normalize":
            words.append("unit length")
    if not dim:
        raise PalError(f"the configuration in {folder} must give the width of its vectors, got none")
    return Said(dim, limit, ", ".join(words))


def checked_modules(folder: Path) -> list[tuple[str, Path]]:
    """The model's modules in order, each one's class and folder, all of them the library's own.

    Raises:
        PalError: If modules.json is not there, or names a module that is not run here.
    """
    path = folder / "modules.json"
    listed = _json(path, list)
    if not listed:
        raise PalError(
            f"{path} must be there and name the model's modules; is it a sentence-transformers model?"
        )
    found = []
    for module in listed:
        if not isinstance(module, dict):
            raise PalError(f"{path} must hold one JSON object a module, got {repr(module)[:80]}")
        full, inside = str(module.get("type")), folder / str(module.get("path", ""))
        kind = full.rsplit(".", 1)[-1]
        if not full.startswith(LIBRARY):
            raise PalError(f"{path} must name modules of sentence_transformers, got {full!r}")
        if kind not in MODULES or (kind == "Transformer") != (not found):
            raise PalError(
                f"{path} must name a Transformer and then some of {', '.join(MODULES[1:])}, got {kind} as "
                f"number {len(found) + 1}"
            )
        if not inside.resolve().is_relative_to(folder.resolve()):
            raise PalError(f"{path} must name folders inside its own, got {str(module.get('path'))!r}")
        if kind in ("Dense", "LayerNorm") and not (inside / WEIGHTS).is_file():
            raise PalError(f"{inside} must hold {WEIGHTS}: weights in other formats are not read")
        found.append((kind, inside))
    return found


def weight_files(folder: Path) -> list[Path]:
    """The transformer's weights: model.safetensors, or its numbered parts."""
    inside = checked_modules(folder)[0][1]
    whole = inside / WEIGHTS
    return [whole] if whole.is_file() else sorted(inside.glob("model-*-of-*.safetensors"))


def sha256_of_weights(folder: Path) -> str:
    """Hash of the transformer's weights; over the list of hashes where they come in parts."""
    each = [sha256_of(path) for path in weight_files(folder)]
    return (
        each[0]
        if len(each) == 1
        else hashlib.sha256("".join(f"{one}\n" for one in each).encode()).hexdigest()
    )


def _width(value: Any) -> int:
    """A width as written; 0 for what is none."""
    return value if isinstance(value, int) and 0 < value <= WIDEST else 0


def _pooling(path: Path) -> tuple[Any, list[str]]:
    """Width of a token's vector, and the ways of pooling, in both of the library's formats."""
    said = _json(path / "config.json")
    width = said.get("embedding_dimension") or said.get("word_embedding_dimension")
    if mode := said.get("pooling_mode"):
        return width, [mode] if isinstance(mode, str) else list(mode)
    prefix = "pooling_mode_"
    short = {"cls_token": "cls", "mean_tokens": "mean", "max_tokens": "max"}
    modes = [name.removeprefix(prefix) for name, on in said.items() if name.startswith(prefix) and on]
    return width, [short.get(mode, mode) for mode in modes] or ["mean"]


def _json(path: Path, kind: type = dict) -> Any:
    """A JSON file's value, an empty one where the file is not there."""
    if not path.is_file():
        return kind()
    if (size := path.stat().st_size) > LARGEST_JSON:
        raise PalError(f"{path} must be at most {LARGEST_JSON:,} bytes, got {size:,}")
    try:
        value = json.loads(path.read_text(encoding="utf-8"))
    except (ValueError, RecursionError) as error:
        raise PalError(f"{path} must be JSON ({error}); get it again") from None
    if not isinstance(value, kind):
        raise PalError(
            f"{path} must hold a JSON {'object' if kind is dict else 'list'}, got {type(value).__name__}"
        )
    return value
