"""Texts to vectors by a network over tokens and a pooling of theirs: what text encoders share."""

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from pal.encoders import unreadable
from pal.errors import PalError

if TYPE_CHECKING:
    from torch import Tensor

    Network = Callable[[Tensor, Tensor | None], Tensor]
    Pooling = Callable[[dict[str, Tensor]], dict[str, Tensor]]

TEXTS_AT_ONCE = 4_096  # whose tokens are lists of Python numbers, for a moment


class PooledTokens:
    """An encoder of texts, batch by batch; see `pal.encoders.TextEncoder`.

    Texts are tokenised once: `lengths` keeps the tokens of what it was last given, and `encode` uses them.

    Args:
        tokenizer: Called as tokenisers of transformers are.
        limit: Tokens that a text is cut to.
        network: Token ids and their mask (None: all are tokens), both (rows, tokens), to vectors of tokens,
            (rows, tokens, width).
        pooling: Steps from `token_embeddings` and, where not all are tokens, `attention_mask` to
            `sentence_embedding`, as modules of sentence-transformers take them.
        dim: Width of the vectors.
        device: Where to compute.
        instruction: What stands before every text.
    """

    def __init__(
        self,
        tokenizer: Any,
        limit: int,
        network: "Network",
        pooling: "Sequence[Pooling]",
        *,
        dim: int,
        device: str,
        instruction: str = "",
    ) -> None:
        self._tokenizer, self._limit, self._network, self._pooling = tokenizer, limit, network, pooling
        self._dim, self._device, self._instruction = dim, device, instruction
        self._token_ids: dict[str, np.ndarray] = {}

    def lengths(self, texts: list[str]) -> list[int]:
        """Tokens that each text makes, cut to the model's limit."""
        token_ids = self._tokenise(texts)
        self._token_ids = dict(zip(texts, token_ids, strict=True))
        return list(map(len, token_ids))

    def encode(self, texts: list[str]) -> np.ndarray:
        """Vectors of texts, encoded as one batch: (len(texts), dim) float32."""
        import torch

        if not texts:
            return np.empty((0, self._dim), dtype=np.float32)
        if all(text in self._token_ids for text in texts):
            rows = [self._token_ids[text] for text in texts]
        else:
            rows = self._tokenise(texts)
        lengths = np.array([len(ids) for ids in rows])
        is_token = np.arange(lengths.max()) < lengths[:, None]
        if self._tokenizer.padding_side == "left":
            is_token = is_token[:, ::-1]
        padded = np.full(is_token.shape, self._tokenizer.pad_token_id or 0, dtype=np.int64)
        padded[is_token] = np.concatenate(rows)
        token_ids = torch.from_numpy(padded).to(self._device)
        attention_mask = None  # where all are tokens: the network is faster without a mask
        if not is_token.all():
            attention_mask = torch.from_numpy(is_token.astype(np.int64)).to(self._device)
        with torch.inference_mode():
            features = {"token_embeddings": self._network(token_ids, attention_mask)}
            if attention_mask is not None:
                features["attention_mask"] = attention_mask
            for step in self._pooling:
                features = step(features)
            return features["sentence_embedding"].float().cpu().numpy()

    def _tokenise(self, texts: list[str]) -> list[np.ndarray]:
        """Token ids of each text, int32."""
        for row, text in enumerate(texts, start=1):
            if fault := unreadable(text):
                raise PalError(f"text {row:,} {fault}; change it or leave it out")
        token_ids = []
        for start in range(0, len(texts), TEXTS_AT_ONCE):
            batch = self._tokenizer(
                [self._instruction + text for text in texts[start : start + TEXTS_AT_ONCE]],
                truncation=True,
                max_length=self._limit,
                return_attention_mask=False,
                return_token_type_ids=False,
            )
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
