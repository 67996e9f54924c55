"""Texts to vectors by a network over tokens and a pooling, such as the hidden states of a language model.

`PooledTokens` is what text encoders share. The encoders of this module are language models or reward models,
whose names say what is taken: `transformers:ORG/NAME@REVISION+layer=20+pooling=mean`. Published probes of
preferences read the last token of a late layer, which are the defaults here; for a causal model let a
template put the response last. No code comes from a model's folder, and its weights must be safetensors.
"""

import re
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from pal.encoders import PRECISIONS, REPO, Described, TextEncoder
from pal.encoders.weights import from_hub, read_json, sha256_of_folder, weights_in
from pal.errors import PalError, reason

if TYPE_CHECKING:
    from torch import Tensor

    Network = Callable[[Tensor, Tensor | None], Tensor]
    Pooling = Callable[[dict[str, Tensor]], dict[str, Tensor]]

PREFIX = "transformers:"
NAMES, PREFIXES = (), (PREFIX,)
READS = {"": ("text",)}
OPTIONS = ("layer", "pooling", "instruction")
LIBRARIES = ("torch", "transformers", "tokenizers")
TEXTS_AT_ONCE = 4_096  # whose tokens are lists of Python numbers, for a moment
LIMIT = 2_048  # tokens, where the model reads more: of a longer text the end is kept
NAME = re.compile(re.escape(PREFIX) + REPO, re.ASCII)


class PooledTokens:
    """An encoder of texts, batch by batch; see `pal.encoders.TextEncoder`.

    The tokeniser, called as those of transformers are, cuts each text, after the instruction, to a limit of
    tokens. The network maps token ids and their mask (None: all are tokens), (rows, tokens), to vectors of
    tokens, (rows, tokens, width); the pooling's steps lead from `token_embeddings` and `attention_mask` to
    `sentence_embedding`, (rows, dim), as modules of sentence-transformers do.

    Texts are tokenised once: `lengths` keeps the tokens of what it was last given, and `encode` uses them.
    """

    def __init__(
        self,
        tokenizer: Any,
        limit: int,
        network: "Network",
        pooling: "Sequence[Pooling]",
        *,
        device: str,
        instruction: str = "",
    ) -> None:
        self._tokenizer, self._limit, self._network, self._pooling = tokenizer, limit, network, pooling
        self._device, self._instruction = device, instruction
        self._token_ids: dict[str, np.ndarray] = {}

    def lengths(self, texts: list[str]) -> list[int]:
        """Tokens that each text makes, cut to the model's limit."""
        token_ids = self._tokenise(texts)
        self._token_ids = dict(zip(texts, token_ids, strict=True))
        return list(map(len, token_ids))

    def encode(self, texts: list[str]) -> np.ndarray:
        """Vectors of texts, encoded as one batch: (len(texts), dim) float32."""
        import torch
        from torch.nn.utils.rnn import pad_sequence

        if all(text in self._token_ids for text in texts):
            rows = [self._token_ids[text] for text in texts]
        else:
            rows = self._tokenise(texts)
        tokens = [torch.from_numpy(ids).long() for ids in rows]
        pad = partial(pad_sequence, batch_first=True, padding_side=self._tokenizer.padding_side)
        token_ids = pad(tokens, padding_value=self._tokenizer.pad_token_id or 0).to(self._device)
        attention_mask = pad([torch.ones_like(ids) for ids in tokens])
        # Where all are tokens the network is faster without a mask.
        attention_mask = None if attention_mask.all() else attention_mask.to(self._device)
        with torch.inference_mode():
            features = {"token_embeddings": self._network(token_ids, attention_mask)}
            if attention_mask is not None:
                features["attention_mask"] = attention_mask
            for step in self._pooling:
                features = step(features)
            return features["sentence_embedding"].float().cpu().numpy()

    def _tokenise(self, texts: list[str]) -> list[np.ndarray]:
        """Token ids of each text, int32."""
        token_ids = []
        for start in range(0, len(texts), TEXTS_AT_ONCE):
            batch = self._tokenizer(
                [self._instruction + text for text in texts[start : start + TEXTS_AT_ONCE]], truncation=True,
                max_length=self._limit, return_attention_mask=False, return_token_type_ids=False,
            )  # fmt: skip
            # A text of which a tokeniser keeps nothing has the vector of the padding token.
            nothing = [self._tokenizer.pad_token_id or 0]
            token_ids += [np.array(ids or nothing, dtype=np.int32) for ids in batch["input_ids"]]
        return token_ids


def pool_mean(features: "dict[str, Tensor]") -> "dict[str, Tensor]":
    """The mean of a text's tokens, as sentence-transformers computes it."""
    import torch

    tokens = features["token_embeddings"]
    mask = features.get("attention_mask")
    mask = torch.ones(tokens.shape[:2], device=tokens.device) if mask is None else mask
    mask = mask.unsqueeze(-1).expand(tokens.size()).to(tokens.dtype)
    return {"sentence_embedding": (tokens * mask).sum(1) / mask.sum(1).clamp(min=1e-9)}


def pool_last(features: "dict[str, Tensor]") -> "dict[str, Tensor]":
    """A text's last token, the only one that has seen all others in a causal model; padding is behind it."""
    tokens, mask = features["token_embeddings"], features.get("attention_mask")
    if mask is None:
        return {"sentence_embedding": tokens[:, -1]}
    rows = mask.new_tensor(range(len(tokens)))
    return {"sentence_embedding": tokens[rows, mask.sum(1) - 1]}


def pool_first(features: "dict[str, Tensor]") -> "dict[str, Tensor]":
    """A text's first token, such as BERT's [CLS]."""
    return {"sentence_embedding": features["token_embeddings"][:, 0]}


POOLINGS = {"last": pool_last, "mean": pool_mean, "first": pool_first}


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
    """Find a model's files on the hub or in a folder; see `pal.encoders.describe`.

    The layer counts from 0, the tokens' embeddings, to the model's last layer, the default, whose states come
    after the final norm; or backwards from -1, the last one. The pooling is last, mean or first: which tokens
    the vector is of. The instruction stands before every text.
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


@contextmanager
def loading(described: Described, advice: str = "") -> Iterator[None]:
    """What a library raises while it loads an encoder from its folder, as one sentence."""
    from safetensors import SafetensorError
    from transformers.utils import logging

    logging.disable_progress_bar()
    try:
        yield
    except (OSError, ValueError, TypeError, LookupError, RuntimeError, ImportError, SafetensorError) as error:
        what = f"{described.name} could not be loaded from {described.folder} ({reason(error)})"
        raise PalError(what + advice) from None


def layer_of(layer: str | None, n_layers: int, name: str) -> int:
    """The layer's number, counted from the tokens' embeddings; a PalError if the model has no such layer."""
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
    """Build a described model from its folder's files, without code of others; options as for `describe`."""
    import torch
    from transformers import AutoModel, AutoTokenizer

    options: dict[str, Any] = {"local_files_only": True, "trust_remote_code": False}
    with loading(described):
        tokenizer = AutoTokenizer.from_pretrained(str(described.folder), **options)
        model, info = AutoModel.from_pretrained(
            str(described.folder), use_safetensors=True, output_loading_info=True,
            dtype=getattr(torch, described.precision), **options,
        )  # fmt: skip
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
        given = {"input_ids": token_ids, "attention_mask": attention_mask}
        return model(**given, output_hidden_states=True, use_cache=False).hidden_states[number].float()

    options = {"device": device, "instruction": instruction or ""}
    return PooledTokens(tokenizer, limit, network, [POOLINGS[pooling]], **options)
