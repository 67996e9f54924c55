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
    given = encoders.describe("all-MiniLM-L6-v2").folder
    kept = ("tokenizer.json", "tokenizer_config.json", "vocab.txt", "special_tokens_map.json")
    folder.mkdir(parents=True)
    for name in kept:
        shutil.copy(given / name, folder / name)
    _write_transformer(folder)
    modules = [("", "Transformer"), ("1_Pooling", "Pooling")]
    (folder / "1_Pooling").mkdir()
    written = {"word_embedding_dimension": WIDTH, "pooling_mode_mean_tokens": True}
    if pooling == "cls":
        written = {"embedding_dimension": WIDTH, "pooling_mode": "cls"}
    (folder / "1_Pooling/config.json").write_text(json.dumps(written))
    if dense:
        modules.append(("2_Dense", "Dense"))
        _write_dense(folder / "2_Dense", dense)
    if unit:
        modules.append((f"{len(modules)}_Normalize", "Normalize"))
    listed = [
        {"idx": i, "name": str(i), "path": path, "type": f"sentence_transformers.models.{kind}"}
        for i, (path, kind) in enumerate(modules)
    ]
    (folder / "modules.json").write_text(json.dumps(listed))
    return folder


def _write_transformer(folder: Path) -> None:
    import torch
    from transformers import BertConfig, BertModel
    from transformers.utils import logging

    logging.disable_progress_bar()
    small = {"hidden_size": WIDTH, "num_attention_heads": 2, "intermediate_size": 32, "num_hidden_layers": 2}
    with torch.random.fork_rng():
        torch.manual_seed(0)
        BertModel(BertConfig(vocab_size=30522, max_position_embeddings=64, **small)).save_pretrained(folder)
    (folder / "sentence_bert_config.json").write_text('{"max_seq_length": 24, "do_lower_case": false}')


def _write_dense(folder: Path, width: int) -> None:
    import torch
    from safetensors.torch import save_file

    folder.mkdir()
    said = {"in_features": WIDTH, "out_features": width, "bias": True}
    said["activation_function"] = "torch.nn.modules.activation.Tanh"
    (folder / "config.json").write_text(json.dumps(said))
    with torch.random.fork_rng():
        torch.manual_seed(0)
        layer = torch.nn.Linear(WIDTH, width)
    save_file(
        {f"linear.{k}": v.detach() for k, v in layer.state_dict().items()}, folder / "model.safetensors"
    )


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
