"""A sentence-transformers model of two small layers with MiniLM's words, made on the spot: random, and so fast."""

import json
import shutil
from pathlib import Path

import pytest

from pal import encoders

WIDTH = 16


def make(folder: Path, *, pooling: str = "mean", dense: int | None = None, unit: bool = True) -> Path:
    """Write the model's files.

    Args:
        folder: Where to.
        pooling: How tokens become one vector, mean or cls; cls is written in the library's newer format.
        dense: Width of a layer after pooling; None for no layer.
        unit: Whether vectors are brought to unit length.
    """
    import torch
    from safetensors.torch import save_file
    from transformers import BertConfig, BertModel
    from transformers.utils import logging

    given = encoders.describe("all-MiniLM-L6-v2").folder
    kept = ("tokenizer.json", "tokenizer_config.json", "vocab.txt", "special_tokens_map.json")
    folder.mkdir(parents=True)
    for name in kept:
        shutil.copy(given / name, folder / name)
    logging.disable_progress_bar()
    small = {"hidden_size": WIDTH, "num_attention_heads": 2, "intermediate_size": 32, "num_hidden_layers": 2}
    with torch.random.fork_rng():
        torch.manual_seed(0)
        BertModel(BertConfig(vocab_size=30522, max_position_embeddings=64, **small)).save_pretrained(folder)
    (folder / "sentence_bert_config.json").write_text('{"max_seq_length": 24, "do_lower_case": false}')
    modules = [("", "Transformer"), ("1_Pooling", "Pooling")]
    (folder / "1_Pooling").mkdir()
    written = {"word_embedding_dimension": WIDTH, "pooling_mode_mean_tokens": True}
    if pooling == "cls":
        written = {"embedding_dimension": WIDTH, "pooling_mode": "cls"}
    (folder / "1_Pooling/config.json").write_text(json.dumps(written))
    if dense:
        modules.append(("2_Dense", "Dense"))
        (folder / "2_Dense").mkdir()
        config = {"in_features": WIDTH, "out_features": dense, "bias": True}
        config["activation_function"] = "torch.nn.modules.activation.Tanh"
        (folder / "2_Dense/config.json").write_text(json.dumps(config))
        generator = torch.Generator().manual_seed(0)
        layer = {"linear.weight": (dense, WIDTH), "linear.bias": (dense,)}
        layer = {name: torch.randn(shape, generator=generator) / 4 for name, shape in layer.items()}
        save_file(layer, folder / "2_Dense/model.safetensors")
    if unit:
        modules.append((f"{len(modules)}_Normalize", "Normalize"))
    entries = [
        {"idx": i, "name": str(i), "path": path, "type": f"sentence_transformers.models.{kind}"}
        for i, (path, kind) in enumerate(modules)
    ]
    (folder / "modules.json").write_text(json.dumps(entries))
    return folder


@pytest.fixture(scope="session")
def make_tiny():
    """The function that writes such a model: make_tiny(folder, pooling="mean", dense=None, unit=True)."""
    return make


@pytest.fixture(scope="session")
def tiny(tmp_path_factory):
    """One such model's folder, not to be changed: mean pooling, 16 wide, cut to 24 tokens."""
    return make(tmp_path_factory.mktemp("tiny") / "model")


@pytest.fixture(scope="session")
def minilm():
    """The real MiniLM, loaded once."""
    return encoders.load(encoders.describe("all-MiniLM-L6-v2"))
