"""Hidden states of a language model or reward model of transformers, such as a causal one of some billions.

Names say what is taken: `transformers:ORG/NAME@REVISION+layer=20+pooling=mean`. Published probes of
preferences read the last token of a late layer, which are the defaults here; for a causal model let a
template put the response last. No code comes from a model's folder, and its weights must be safetensors.
"""

import re
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pal.encoders import PRECISIONS, REPO, Described, TextEncoder
from pal.encoders.pooled_tokens import PooledTokens, pool_first, pool_last, pool_mean
from pal.encoders.weights import from_hub, read_json, sha256_of_folder, weights_in
from pal.errors import PalError, reason

if TYPE_CHECKING:
    from torch import Tensor

PREFIX = "transformers:"
NAMES, PREFIXES = (), (PREFIX,)
READS = {"": ("text",)}
OPTIONS = ("layer", "pooling", "instruction")
LIBRARIES = ("torch", "transformers", "tokenizers")
POOLINGS = {"last": pool_last, "mean": pool_mean, "first": pool_first}
LIMIT = 2_048  # tokens, where the model reads more: of a longer text the end is kept
NAME = re.compile(re.escape(PREFIX) + REPO, re.ASCII)


def describe(
    name: str,
    weights: str,
    *,
    precision: str,
    engine: str,
    layer: str | None = None,
    pooling: str = "last",
    instruction: str | None = None,
) -> Described:
    """Find a model's files; see `pal.encoders.describe`.

    Args:
        name: Of the hub.
        weights: hub, or a folder that `save_pretrained` wrote.
        precision: What weights are, and what is computed in.
        engine: torch.
        layer: From 0, the tokens' embeddings, to the model's last layer, which is taken by default; or
            backwards from -1, the last one. The last one's states come after the final norm.
        pooling: last, mean or first: which tokens the vector is of.
        instruction: What stands before every text.
    """
    matched = NAME.fullmatch(name)
    if not matched:
        raise PalError(f"encoder must be {PREFIX}ORG/NAME, with @REVISION or without, got {name!r}")
    if weights == "package" or engine != "torch" or precision not in PRECISIONS or pooling not in POOLINGS:
        raise PalError(
            f"{name} must have encode.weights hub or a folder, encode.engine torch, encode.precision one of "
            f"{', '.join(PRECISIONS)} and pooling one of {', '.join(POOLINGS)}, got {weights!r}, {engine!r}, "
            f"{precision!r} and {pooling!r}"
        )
    folder = Path(weights).expanduser()
    if weights == "hub":
        folder = from_hub(matched["repo"], matched["revision"], ["*.json", "*.txt", "*.safetensors"])
    path = folder / "config.json"
    config = read_json(path)
    config = config.get("text_config") or config
    dim, n_layers = config.get("hidden_size"), config.get("num_hidden_layers")
    if not all(isinstance(number, int) and number > 0 for number in (dim, n_layers)):
        raise PalError(f"{path} must give hidden_size and num_hidden_layers, got {dim!r} and {n_layers!r}")
    if not (folder / "tokenizer.json").is_file():
        raise PalError(f"{folder} must hold tokenizer.json of {name}, a fast tokeniser, got none")
    number = layer_of(layer, n_layers, name)
    limit = min(LIMIT, config.get("max_position_embeddings") or LIMIT)
    words = f"layer {number} of {n_layers}, {pooling} of the tokens, of which the last {limit} are kept"
    words += "" if instruction is None else f", after {instruction!r}"
    return Described(
        name, dim, weights_in(folder, name)[1], sha256_of_folder(folder), words, folder, "transformers",
        precision=precision, libraries=LIBRARIES,
    )  # fmt: skip


def layer_of(layer: str | None, n_layers: int, name: str) -> int:
    """The layer's number, counted from the tokens' embeddings.

    Raises:
        PalError: If the model has no such layer.
    """
    given = "-1" if layer is None else layer
    if not re.fullmatch(r"-?\d{1,4}", given) or not -n_layers - 1 <= int(given) <= n_layers:
        raise PalError(f"layer must be from {-n_layers - 1} to {n_layers} for {name}, got {given!r}")
    return int(given) % (n_layers + 1)


def load(
    described: Described,
    device: str,
    *,
    layer: str | None = None,
    pooling: str = "last",
    instruction: str | None = None,
) -> TextEncoder:
    """Build a described model; options as for `describe`.

    Raises:
        PalError: If it cannot be built from what is in its folder without code of others, or weights are
            missing.
    """
    import torch
    from safetensors import SafetensorError
    from transformers import AutoModel, AutoTokenizer
    from transformers.utils import logging

    logging.disable_progress_bar()
    options: dict[str, Any] = {"local_files_only": True, "trust_remote_code": False}
    try:
        tokenizer = AutoTokenizer.from_pretrained(str(described.folder), **options)
        model, info = AutoModel.from_pretrained(
            str(described.folder), use_safetensors=True, output_loading_info=True,
            dtype=getattr(torch, described.precision), **options,
        )  # fmt: skip
    except (OSError, ValueError, TypeError, LookupError, RuntimeError, ImportError, SafetensorError) as error:
        raise PalError(
            f"{described.name} could not be loaded from {described.folder} ({reason(error)})"
        ) from None
    missing = sorted(name for name in info["missing_keys"] if "pooler" not in name)  # which is not read
    if missing or model.config.is_encoder_decoder:
        problem = f"no {missing[0]}" if missing else "an encoder with a decoder"
        raise PalError(f"{described.folder} must hold all weights of one stack of layers, got {problem}")
    config = model.config.get_text_config()
    number = layer_of(layer, config.num_hidden_layers, described.name)
    limit = min(LIMIT, getattr(config, "max_position_embeddings", None) or LIMIT)
    tokenizer.truncation_side, tokenizer.padding_side = "left", "right"
    model = model.to(device).eval()

    def network(token_ids: "Tensor", attention_mask: "Tensor | None") -> "Tensor":
        out = model(
            input_ids=token_ids, attention_mask=attention_mask, output_hidden_states=True, use_cache=False
        )
        return out.hidden_states[number].float()

    return PooledTokens(
        tokenizer, limit, network, [POOLINGS[pooling]], dim=described.dim, device=device,
        instruction=instruction or "",
    )  # fmt: skip
