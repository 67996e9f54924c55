"""CLIP models of open_clip, and PickScore: images and texts into one space.

`clip-vit-h-14` is held to the published hash of its weights; of others none is known, and the hash of their
weights is recorded beside every vector. Names that start with `untrained-` are architectures with random
weights of a fixed seed; no other name runs without weights. Vectors are not of unit length.
"""

import copy
import hashlib
import json
import re
import unicodedata
from collections.abc import Callable
from difflib import get_close_matches
from functools import cache, partial
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple, TypeAlias

from pal.encoders import PRECISIONS, Described
from pal.encoders.transformers import loading
from pal.encoders.weights import from_hub, read_json, sha256_of
from pal.errors import PalError, reason

if TYPE_CHECKING:
    from torch import Tensor

UNTRAINED, OPEN_CLIP, HUB, PICKSCORE = "untrained-", "open_clip:", "hf-hub:", "pickscore"
CLIP_H = "clip-vit-h-14"
NAMES, PREFIXES = (CLIP_H, PICKSCORE), (OPEN_CLIP, UNTRAINED)
READS = {"": ("text", "image")}
PUBLISHED = {  # the hub's repository and commit
    CLIP_H: ("laion/CLIP-ViT-H-14-laion2B-s32B-b79K", "1c2b8495b28150b8a4922ee1c8edee224c284c0c"),
    PICKSCORE: ("yuvalkirstain/PickScore_v1", "a4e4367c6dfa7288a00c550414478f865b875800"),
}
CLIP_H_SHA256 = "0084e75319a50ad85ef45377bad5bc38f2f58824459eb690048d51c9f8863be5"
WEIGHTS = ("open_clip_model.safetensors", "model.safetensors")
WEIGHTS_OF = {CLIP_H: WEIGHTS[:1], PICKSCORE: WEIGHTS[1:]}
CONFIG = "open_clip_config.json"
LIBRARIES = ("torch", "torchvision", "open_clip_torch", "transformers", "pillow")
SEED = 0  # of untrained weights
# What open_clip takes where a model's configuration says nothing (its OPENAI_DATASET_MEAN and _STD).
PREPROCESS = {
    "mean": (0.48145466, 0.4578275, 0.40821073),
    "std": (0.26862954, 0.26130258, 0.27577711),
    "interpolation": "bicubic",
    "resize_mode": "shortest",
}


class Config(NamedTuple):
    """How a model is built, and what it takes."""

    model: dict[str, Any]  # open_clip's `model_cfg`; for PickScore transformers' config.json
    preprocess: dict[str, Any]  # of PREPROCESS
    dim: int  # of its vectors
    size: int  # side of the images that it takes, pixels
    reads_text: bool  # with open_clip's own tokeniser


def describe(name: str, weights: str, *, precision: str, engine: str) -> Described:
    """Find a model's files, if any, held to the published hash if any: see `pal.encoders.describe`."""
    if engine != "torch":
        raise PalError(
            f"engine must be torch for {name}, got {engine!r}; ONNX Runtime runs text encoders alone"
        )
    if precision not in PRECISIONS:
        raise PalError(f"precision must be one of {', '.join(PRECISIONS)} for {name}, got {precision!r}")
    folder = None if name.startswith(UNTRAINED) else _folder(name, weights)
    config = config_of(name, folder)
    path = folder and weights_file(name, folder)
    sha256 = sha256_of(path) if path else ""
    if name == CLIP_H and sha256 != CLIP_H_SHA256:
        raise PalError(
            f"the weights of {name} in {path} must have the published sha256 {CLIP_H_SHA256}, got {sha256}; "
            "get them again, or set encode.weights to hub"
        )
    # Over everything that shapes a vector and is a file: the configuration as read, and the weights.
    files = json.dumps([config.model, config.preprocess, sha256], sort_keys=True, default=list)
    fit = "shortest side and centre crop" if config.preprocess["resize_mode"] == "shortest" else "squashed"
    untrained = "" if folder else f"UNTRAINED weights of seed {SEED}; "
    resized = f"{config.preprocess['interpolation']} to {config.size} px, {fit}"
    words = f"{untrained}{resized}; texts to 77 tokens; not normalised"
    reads = ("text", "image") if config.reads_text else ("image",)
    sha256_of_files = hashlib.sha256(files.encode()).hexdigest()
    options = {"precision": precision, "libraries": LIBRARIES}
    return Described(name, config.dim, sha256, sha256_of_files, words, folder, "open_clip", reads, **options)


# A network on the CPU; its tokeniser; its towers, of normalised pixels and of token ids, (texts, context), 0
# behind each text's end, which has the highest id; and whether the tower of texts is causal: each token sees
# those before it alone, the vector is that of the end, and token ids may be of any length.
Towers: TypeAlias = tuple[Any, Callable, Callable, Callable, bool]


class ClipEncoder:
    """A described CLIP model, from local safetensors or, where its name says so, untrained.

    Weights that do not fit, and float16 on a CPU, are a PalError.
    """

    def __init__(self, described: Described, device: str) -> None:
        import torch

        name, folder = described.name, described.folder
        if name.startswith(UNTRAINED) != (folder is None):
            raise PalError(
                f"{name} must have weights exactly where its name does not say untrained, "
                f"got {'no files' if folder is None else str(folder)}"
            )
        if described.precision == "float16" and device == "cpu":
            raise PalError(f"precision must be float32 or bfloat16 for {name} on a CPU, got 'float16'")
        self._device, self._config = device, config_of(name, folder)
        self._dtype = getattr(torch, described.precision)
        build = _transformers_towers if name == PICKSCORE else _open_clip_towers
        model, self._tokenise, self._image, self._text, self._is_causal = build(described, self._config)
        model.eval().requires_grad_(False)
        if not all(torch.isfinite(weight).all() for weight in model.parameters()):
            raise PalError(f"the weights of {name} must be finite, got NaN or infinity")
        model.to(device, self._dtype)
        shape = self._config.preprocess
        mean, std = (torch.tensor(shape[key], device=device).view(3, 1, 1) for key in ("mean", "std"))
        self._scale, self._shift = 1 / (255 * std), -mean / std

    def shrink(self, pixels: "Tensor") -> "Tensor":
        """One image as the model takes it, resized and cropped: (3, size, size) uint8."""
        from pal.encoders.images import cropped, squashed

        fit = squashed if self._config.preprocess["resize_mode"] == "squash" else cropped
        return fit(pixels, self._config.size, self._config.preprocess["interpolation"])

    def encode_images(self, batch: "Tensor") -> Any:
        """Vectors of shrunk images: (n, dim) float32."""
        import torch

        with torch.inference_mode():
            pixels = batch.to(self._device, non_blocking=True)
            # (x / 255 - mean) / std as one multiply-add, in float32 whatever the model computes in.
            pixels = torch.addcmul(self._shift, pixels, self._scale).to(self._dtype)
            return self._image(pixels).float().cpu().numpy()

    def lengths(self, texts: list[str]) -> list[int]:
        """Tokens that each text makes, start and end among them, cut to the model's limit."""
        return [int(end) + 1 for end in self._tokenise(texts).argmax(1)] if texts else []

    def encode(self, texts: list[str]) -> Any:
        """Vectors of texts, encoded as one batch: (len(texts), dim) float32."""
        import torch

        with torch.inference_mode():
            token_ids = self._tokenise(texts)
            if self._is_causal:
                # Nothing behind a text's end reaches its vector; a prompt has some 20 tokens of the 77.
                token_ids = token_ids[:, : int(token_ids.argmax(1).max()) + 1]
            return self._text(token_ids.to(self._device)).float().cpu().numpy()


load = ClipEncoder


def _open_clip_towers(described: Described, config: Config) -> Towers:
    """A model of open_clip, with its tokeniser, which carries its vocabulary: nothing is downloaded."""
    import open_clip
    import torch
    from safetensors import SafetensorError

    options = copy.deepcopy(config.model)
    custom = options.pop("custom_text", False)
    coca = open_clip.CoCa if "multimodal_cfg" in options else open_clip.CustomTextCLIP
    if "timm_model_name" in options["vision_cfg"]:
        options["vision_cfg"]["timm_model_pretrained"] = False
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(SEED)
        model = (coca if custom else open_clip.CLIP)(**options)
    if described.folder is not None:
        path = weights_file(described.name, described.folder)
        try:
            open_clip.load_checkpoint(model, str(path), strict=True)
        except (RuntimeError, KeyError, SafetensorError) as error:
            raise PalError(f"{path} must hold the weights of {described.name}: {reason(error)}") from None
    is_causal = getattr(model, "text_pool_type", "") == "argmax" and model.attn_mask is not None

    def text(token_ids: "Tensor") -> "Tensor":
        if not is_causal:
            return model.encode_text(token_ids, normalize=False)
        # open_clip's `CLIP.encode_text`, which takes texts padded to 77 tokens alone, for any length.
        length = token_ids.shape[1]
        x = model.token_embedding(token_ids) + model.positional_embedding[:length]
        x = model.ln_final(model.transformer(x, attn_mask=model.attn_mask[:length, :length]))
        x = x[torch.arange(len(x), device=x.device), token_ids.argmax(1)]
        projection = model.text_projection
        return projection(x) if callable(projection) else x @ projection

    tokenise = open_clip.SimpleTokenizer(context_length=options["text_cfg"].get("context_length", 77))
    return model, tokenise, partial(model.encode_image, normalize=False), text, is_causal


def _transformers_towers(described: Described, config: Config) -> Towers:
    """PickScore_v1, CLIP-H fine-tuned on Pick-a-Pic, or any CLIPModel of transformers in a local folder.

    Its processor is that of CLIP-H, whose vocabulary open_clip carries; HTML entities in texts stay.
    """
    from open_clip import SimpleTokenizer
    from transformers import CLIPModel

    with loading(described):
        model, info = CLIPModel.from_pretrained(
            str(described.folder), use_safetensors=True, local_files_only=True, output_loading_info=True
        )
    if missing := sorted(info["missing_keys"]):
        raise PalError(f"{described.folder} must hold all weights of {described.name}, got no {missing[0]}")
    options = config.model.get("text_config") or {}
    tokenise = SimpleTokenizer(context_length=options.get("max_position_embeddings", 77))
    # As the fast CLIP tokeniser of transformers does it: composed, one space, lower case.
    tokenise.clean_fn = lambda text: re.sub(r"\s+", " ", unicodedata.normalize("NFC", text)).lower()

    def image(pixels: "Tensor") -> "Tensor":
        return model.visual_projection(model.vision_model(pixel_values=pixels).pooler_output)

    def text(token_ids: "Tensor") -> "Tensor":
        return model.text_projection(model.text_model(input_ids=token_ids).pooler_output)

    return model, tokenise, image, text, True


def weights_file(name: str, folder: Path) -> Path:
    """The file of a model's weights in its folder, safetensors."""
    wanted = WEIGHTS_OF.get(name, WEIGHTS)
    for file in wanted:
        if (folder / file).is_file():
            return folder / file
    raise PalError(
        f"encode.weights must lead to a folder with {' or '.join(wanted)} of {name}, got {str(folder)!r} "
        "without; a pickle is not opened"
    )


def _folder(name: str, weights: str) -> Path:
    if weights == "package":
        raise PalError(f"encode.weights must be hub or a folder for {name}, got 'package': none carries it")
    if name not in NAMES and not name.startswith(OPEN_CLIP + HUB):
        _architecture_and_tag(name)  # a name that open_clip does not have is refused before its files are
    if weights != "hub":
        return Path(weights).expanduser()
    if name in NAMES:
        return from_hub(*PUBLISHED[name], ["*.json", *WEIGHTS_OF[name]])
    repo = name.removeprefix(OPEN_CLIP + HUB)
    if repo == name:
        repo = "/".join(_pretrained(name).get("hf_hub", "").split("/")[:2])
    if not repo:
        raise PalError(f"{name} has no weights on the hub; set encode.weights to a folder with safetensors")
    # A tag's weights move with its repository: their hash is recorded, and another one encodes anew.
    return from_hub(repo, None, [CONFIG, *WEIGHTS])


def config_of(name: str, folder: Path | None) -> Config:
    """A model's configuration: from its folder where one lies there, else from open_clip's own files."""
    file, keys = CONFIG, ("embed_dim", "vision_cfg", "text_cfg")
    if name == PICKSCORE:
        file, keys = "config.json", ("projection_dim", "vision_config")
    if folder and (folder / file).is_file():
        given = read_json(folder / file)
    elif name == PICKSCORE or name.startswith(OPEN_CLIP + HUB):
        raise PalError(f"encode.weights must lead to a folder with {file} of {name}, got {str(folder)!r}")
    else:
        architecture, tag = _architecture_and_tag(name)
        preprocess = _pretrained(name) if tag else {}
        quick = {"quick_gelu": True} if preprocess.get("quick_gelu") else {}
        model = read_json(_config_files()[architecture.lower()]) | quick
        given = {"model_cfg": model, "preprocess_cfg": preprocess}
    try:
        model = given if name == PICKSCORE else given["model_cfg"]
        dim, size = int(model[keys[0]]), model[keys[1]].get("image_size", 224)
        text = {} if name == PICKSCORE else dict(model["text_cfg"])
        preprocess = (given.get("preprocess_cfg") or {}).items()
        preprocess = PREPROCESS | {key: value for key, value in preprocess if key in PREPROCESS and value}
    except (TypeError, KeyError, AttributeError, ValueError):
        raise PalError(f"the configuration of {name} must hold {', '.join(keys)}") from None
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
    return Config(model, preprocess, dim, size, not {"hf_tokenizer_name", "tokenizer_kwargs"} & set(text))


@cache
def _config_files() -> dict[str, Path]:
    """open_clip's configurations by their name in lower case: importing it takes seconds and brings torch."""
    found = find_spec("open_clip")
    folders = found.submodule_search_locations if found else None
    if not folders:
        raise PalError("open_clip must be installed for CLIP models; run `pip install open_clip_torch`")
    return {path.stem.lower(): path for path in (Path(folders[0]) / "model_configs").glob("*.json")}


def _architecture_and_tag(name: str) -> tuple[str, str]:
    """open_clip's names of the architecture and, where there is one, of the trained weights."""
    plain = "ViT-H-14" if name == CLIP_H else name.removeprefix(OPEN_CLIP).removeprefix(UNTRAINED)
    architecture, _, tag = plain.partition("/")
    known = _config_files()
    if architecture.lower() not in known or bool(tag) != name.startswith(OPEN_CLIP):
        shapes = "open_clip:ARCHITECTURE/TAG, open_clip:hf-hub:ORG/NAME or untrained-ARCHITECTURE"
        near = get_close_matches(architecture.lower(), known, 3, 0.3) or ["vit-b-32", "vit-h-14"]
        like = ", ".join(known[match].stem for match in near)
        raise PalError(f"an encoder of open_clip must be {shapes} (ARCHITECTURE as in {like}), got {name!r}")
    return known[architecture.lower()].stem, tag


def _pretrained(name: str) -> dict[str, Any]:
    """What open_clip knows of a name's weights: their preprocessing, and their repository on the hub."""
    from open_clip import get_pretrained_cfg, list_pretrained_tags_by_model

    architecture, tag = _architecture_and_tag(name)
    config = get_pretrained_cfg(architecture, tag)
    if not config:
        known = ", ".join(list_pretrained_tags_by_model(architecture)) or "none"
        raise PalError(f"the weights of {architecture} must be one of {known}, got {tag!r} in {name!r}")
    return config
