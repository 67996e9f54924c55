"""all-MiniLM-L6-v2 without transformers and sentence-transformers, whose import costs three times torch's.

The same operations in the same order, so that vectors are the library's to the bit: a test compares them.
"""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

from jaxtyping import Float, Int
from torch import Tensor
from torch.nn import functional as F

from pal.encoders.pooled_tokens import pool_mean
from pal.encoders.weights import read_json


class Tokenizer:
    """The tokeniser, called as transformers' own is."""

    padding_side, pad_token_id = "right", 0

    def __init__(self, folder: Path, limit: int) -> None:
        from tokenizers import Tokenizer as Fast

        self._fast = Fast.from_file(str(folder / "tokenizer.json"))
        self._fast.no_padding()
        self._fast.enable_truncation(limit)

    def __call__(self, texts: list[str], **_: Any) -> dict[str, list[list[int]]]:
        """Token ids of each text, cut to the limit."""
        return {"input_ids": [each.ids for each in self._fast.encode_batch(texts)]}


def read(folder: Path, device: str) -> tuple[Tokenizer, int, Callable[..., Tensor], list[Callable[..., Any]]]:
    """The tokeniser, its limit of tokens, the network and what makes one vector of its tokens'."""
    from safetensors.torch import load_file

    limit = read_json(folder / "sentence_bert_config.json")["max_seq_length"]
    config = json.loads((folder / "config.json").read_bytes())
    weights = load_file(folder / "model.safetensors", device=device)
    heads, epsilon = config["num_attention_heads"], config["layer_norm_eps"]

    def norm(x: Tensor, name: str) -> Tensor:
        return F.layer_norm(x, x.shape[-1:], weights[f"{name}.weight"], weights[f"{name}.bias"], epsilon)

    def linear(x: Tensor, name: str) -> Tensor:
        return F.linear(x, weights[f"{name}.weight"], weights[f"{name}.bias"])

    def network(
        token_ids: Int[Tensor, "rows tokens"], attention_mask: Int[Tensor, "rows tokens"] | None
    ) -> Float[Tensor, "rows tokens dim"]:
        rows, tokens = token_ids.shape
        mask = None if attention_mask is None else attention_mask[:, None, None, :].bool()
        mask = mask if mask is None else mask.expand(rows, 1, tokens, tokens)
        table = {name: weights[f"embeddings.{name}_embeddings.weight"] for name in
                 ("word", "position", "token_type")}  # fmt: skip
        x = F.embedding(token_ids, table["word"]) + table["token_type"][0]
        x = norm(x + table["position"][:tokens], "embeddings.LayerNorm")
        for layer in range(config["num_hidden_layers"]):
            at = f"encoder.layer.{layer}"
            query, key, value = (
                linear(x, f"{at}.attention.self.{name}").view(rows, tokens, heads, -1).transpose(1, 2)
                for name in ("query", "key", "value")
            )
            seen = F.scaled_dot_product_attention(query, key, value, attn_mask=mask)
            seen = seen.transpose(1, 2).reshape(rows, tokens, -1)
            x = norm(linear(seen, f"{at}.attention.output.dense") + x, f"{at}.attention.output.LayerNorm")
            wide = F.gelu(linear(x, f"{at}.intermediate.dense"))
            x = norm(linear(wide, f"{at}.output.dense") + x, f"{at}.output.LayerNorm")
        return x

    return Tokenizer(folder, limit), limit, network, [pool_mean, _unit]


def _unit(features: dict[str, Tensor]) -> dict[str, Tensor]:
    return {"sentence_embedding": F.normalize(features["sentence_embedding"], p=2, dim=1)}
