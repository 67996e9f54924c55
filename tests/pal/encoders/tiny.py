"""A sentence-transformers model of two small layers with MiniLM's words, made on the spot: random, and so fast."""

import json
import shutil
from pathlib import Path

from pal import encoders

WIDTH = 16


def make(folder: Path, *, pooling: str = "mean", dense: int | None = None, unit: bool = True) -> Path:
    """Write the model's files.

    Args:
        folder: Where to.
        pooling: How tokens become one vector.
        dense: Width of a layer after pooling; None for no layer.
        unit: Whether vectors are brought to unit length.
    """
    import torch
    from safetensors.torch import save_file
    from transformers import BertConfig, BertModel

    shutil.copytree(
        encoders.describe("all-MiniLM-L6-v2").folder,
        folder,
        ignore=shutil.ignore_patterns("*.safetensors", "README.md", "1_Pooling", "data_config.json"),
    )
    torch.manual_seed(0)
    small = {"hidden_size": WIDTH, "num_attention_heads": 2, "intermediate_size": 32, "num_hidden_layers": 2}
    model = BertModel(BertConfig(vocab_size=30522, max_position_embeddings=64, **small))
    model.save_pretrained(folder)
    (folder / "sentence_bert_config.json").write_text('{"max_seq_length": 24, "do_lower_case": false}')
    modules = [("", "Transformer"), ("1_Pooling", "Pooling")]
    (folder / "1_Pooling").mkdir()
    written = {"word_embedding_dimension": WIDTH, f"pooling_mode_{pooling}_tokens": True}
    if pooling == "cls":
        written = {"embedding_dimension": WIDTH, "pooling_mode": "cls"}
    (folder / "1_Pooling/config.json").write_text(json.dumps(written))
    if dense:
        modules.append(("2_Dense", "Dense"))
        (folder / "2_Dense").mkdir()
        said = {"in_features": WIDTH, "out_features": dense, "bias": True, "activation_function": "torch.nn.Tanh"}
        (folder / "2_Dense/config.json").write_text(json.dumps(said))
        layer = torch.nn.Linear(WIDTH, dense)
        save_file({f"linear.{k}": v for k, v in layer.state_dict().items()}, folder / "2_Dense/model.safetensors")
    if unit:
        modules.append((f"{len(modules)}_Normalize", "Normalize"))
    listed = [
        {"idx": i, "name": str(i), "path": path, "type": f"sentence_transformers.models.{kind}"}
        for i, (path, kind) in enumerate(modules)
    ]
    (folder / "modules.json").write_text(json.dumps(listed))
    return folder
