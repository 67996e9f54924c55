"""How CLIP models are built: open_clip's configurations, from a model's folder or from open_clip itself.

open_clip's are read as the JSON files that it carries: importing it takes seconds and brings torch. Only the
name of a published tag (`open_clip:ViT-B-32/laion2b_s34b_b79k`) needs its import.
"""

import json
from dataclasses import dataclass
from difflib import get_close_matches
from functools import cache
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from pal.errors import PalError

UNTRAINED, OPEN_CLIP, HUB, PICKSCORE = "untrained-", "open_clip:", "hf-hub:", "pickscore"
NAMED = {"clip-vit-h-14": "ViT-H-14"}
CONFIG = "open_clip_config.json"
# What open_clip takes where a model's configuration says nothing (its OPENAI_DATASET_MEAN and _STD).
PREPROCESS = {
    "mean": (0.48145466, 0.4578275, 0.40821073),
    "std": (0.26862954, 0.26130258, 0.27577711),
    "interpolation": "bicubic",
    "resize_mode": "shortest",
}


@dataclass(frozen=True)
class Config:
    """How a model is built, and what it takes.

    Args:
        model: open_clip's `model_cfg`; for PickScore transformers' config.json.
        preprocess: Mean and std by channel, interpolation, resize_mode.
        dim: Width of its vectors.
        size: Side of the pictures that it takes, pixels.
        reads_text: Whether its texts can be read with open_clip's own tokeniser.
    """

    model: dict[str, Any]
    preprocess: dict[str, Any]
    dim: int
    size: int
    reads_text: bool


def config_of(name: str, folder: Path | None) -> Config:
    """A model's configuration: from its folder where one lies there, else from open_clip's own.

    Raises:
        PalError: If there is no such model, or it is of a kind that is not built here.
    """
    if name == PICKSCORE:
        return _of_transformers(name, folder)
    if folder and (folder / CONFIG).is_file():
        whole = _json(folder / CONFIG)
        return _of_open_clip(name, whole.get("model_cfg"), whole.get("preprocess_cfg"))
    if name.startswith(OPEN_CLIP + HUB):
        raise PalError(f"encode.weights must lead to a folder with {CONFIG} of {name}, got {str(folder)!r}")
    architecture, tag = _parts(name)
    preprocess = _tag(name, architecture, tag) if tag else {}
    quick = {"quick_gelu": True} if preprocess.get("quick_gelu") else {}
    return _of_open_clip(name, _json(architectures()[architecture.lower()]) | quick, preprocess)


def check_name(name: str) -> None:
    """Hold a name to what open_clip has, before any file is looked for; as far as a name says."""
    if name not in (PICKSCORE, *NAMED) and not name.startswith(OPEN_CLIP + HUB):
        _parts(name)


def hub_repo(name: str) -> str:
    """The hub's repository with the weights of `open_clip:...`."""
    if name.startswith(OPEN_CLIP + HUB):
        return name.removeprefix(OPEN_CLIP + HUB)
    repo = _tag(name, *_parts(name)).get("hf_hub", "")
    if not repo:
        raise PalError(f"{name} has no weights on the hub; set encode.weights to a folder with safetensors")
    return "/".join(repo.split("/")[:2])


@cache
def architectures() -> dict[str, Path]:
    """open_clip's configurations by their name in lower case."""
    found = find_spec("open_clip")
    folders = found.submodule_search_locations if found else None
    if not folders:
        raise PalError("open_clip must be installed for CLIP models; run `pip install open_clip_torch`")
    return {path.stem.lower(): path for path in (Path(folders[0]) / "model_configs").glob("*.json")}


def _parts(name: str) -> tuple[str, str]:
    """open_clip's names of the architecture and, where there is one, of the trained weights."""
    architecture, _, tag = name.removeprefix(OPEN_CLIP).removeprefix(UNTRAINED).partition("/")
    architecture = NAMED.get(name, architecture)
    known = architectures()
    if architecture.lower() not in known or bool(tag) != name.startswith(OPEN_CLIP):
        shapes = "open_clip:ARCHITECTURE/TAG, open_clip:hf-hub:ORG/NAME or untrained-ARCHITECTURE"
        near = get_close_matches(architecture.lower(), known, 3, 0.3) or ["vit-b-32", "vit-h-14"]
        like = ", ".join(known[one].stem for one in near)
        raise PalError(f"an encoder of open_clip must be {shapes} (ARCHITECTURE as in {like}), got {name!r}")
    return known[architecture.lower()].stem, tag


def _tag(name: str, architecture: str, tag: str) -> dict[str, Any]:
    from open_clip import get_pretrained_cfg, list_pretrained_tags_by_model

    found = get_pretrained_cfg(architecture, tag)
    if not found:
        known = ", ".join(list_pretrained_tags_by_model(architecture)) or "none"
        raise PalError(f"the weights of {architecture} must be one of {known}, got {tag!r} in {name!r}")
    return found


def _of_open_clip(name: str, model: Any, preprocess: Any) -> Config:
    try:
        text, vision, dim = model["text_cfg"], model["vision_cfg"], int(model["embed_dim"])
        size = vision.get("image_size", 224)
        preprocess = PREPROCESS | {k: v for k, v in (preprocess or {}).items() if k in PREPROCESS and v}
    except (TypeError, KeyError, AttributeError, ValueError):
        raise PalError(f"the configuration of {name} must hold embed_dim, vision_cfg and text_cfg") from None
    if not isinstance(size, int) or preprocess["resize_mode"] not in ("shortest", "squash"):
        raise PalError(
            f"{name} must take square pictures, cropped (shortest) or squashed, got {size!r} pixels, "
            f"{preprocess['resize_mode']!r}"
        )
    if "hf_model_name" in text:
        raise PalError(
            f"{name} must have a text tower of open_clip's own, got {text['hf_model_name']!r}, "
            "which would be downloaded while the model is built"
        )
    own = not {"hf_tokenizer_name", "tokenizer_kwargs"} & set(text)
    return Config(model, preprocess, dim, size, own)


def _of_transformers(name: str, folder: Path | None) -> Config:
    if folder is None or not (folder / "config.json").is_file():
        raise PalError(
            f"encode.weights must lead to a folder with config.json of {name}, got {str(folder)!r}"
        )
    model = _json(folder / "config.json")
    try:
        dim, size = int(model["projection_dim"]), int(model["vision_config"].get("image_size", 224))
    except (TypeError, KeyError, AttributeError, ValueError):
        raise PalError(f"the configuration of {name} must hold projection_dim and vision_config") from None
    return Config(model, PREPROCESS, dim, size, True)


def _json(path: Path) -> dict[str, Any]:
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise PalError(f"{path} must be a JSON file that can be read, got {error}") from None
    if not isinstance(found, dict):
        raise PalError(f"{path} must be a JSON object, got {type(found).__name__}")
    return found
