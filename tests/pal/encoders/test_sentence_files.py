"""What a model's folder says of itself, and what is refused before anything is loaded."""

import json

import pytest

from pal.encoders import sentence_files
from pal.errors import PalError

KNOWN = [("", "Transformer"), ("1_Pooling", "Pooling")]


def write(folder, modules, **files):
    """Modules and JSON files; a file's name has __ for / and no suffix."""
    listed = [
        {"path": path, "type": kind if "." in kind else f"sentence_transformers.models.{kind}"}
        for path, kind in modules
    ]
    (folder / "modules.json").write_text(json.dumps(listed))
    for name, value in files.items():
        path = folder / f"{name.replace('__', '/')}.json"
        path.parent.mkdir(exist_ok=True)
        path.write_text(value if isinstance(value, str) else json.dumps(value))
    return folder


@pytest.mark.parametrize(
    ("pooling", "dim", "words"),
    [
        ({"word_embedding_dimension": 8, "pooling_mode_mean_tokens": True}, 8, "mean"),
        (
            {
                "word_embedding_dimension": 8,
                "pooling_mode_cls_token": True,
                "pooling_mode_mean_tokens": False,
            },
            8,
            "cls",
        ),
        (
            {"word_embedding_dimension": 8, "pooling_mode_cls_token": True, "pooling_mode_max_tokens": True},
            16,
            "cls and max",
        ),
        ({"embedding_dimension": 8, "pooling_mode": "lasttoken"}, 8, "lasttoken"),
        ({"embedding_dimension": 8, "pooling_mode": ["mean", "max"]}, 16, "mean and max"),
        ({}, 12, "mean"),
    ],
)
def test_width_follows_the_pooling_in_both_formats(tmp_path, pooling, dim, words):
    """Ways of pooling stand side by side; without a width of its own it is the transformer's."""
    write(tmp_path, KNOWN, config={"hidden_size": 12}, **{"1_Pooling__config": pooling})
    said = sentence_files.read(tmp_path)
    assert (said.dim, said.max_tokens) == (dim, None)
    assert said.preprocessing == f"cut to the model's limit, {words} over tokens"


def test_a_transformer_may_have_a_folder_of_its_own(tmp_path):
    modules = [("0_Transformer", "Transformer"), ("1_Pooling", "Pooling"), ("2_Normalize", "Normalize")]
    limit = {"max_seq_length": 128}
    write(
        tmp_path,
        modules,
        **{"0_Transformer__config": {"hidden_size": 12}, "0_Transformer__sentence_bert_config": limit},
    )
    (tmp_path / "0_Transformer/model.safetensors").write_bytes(b"")
    assert sentence_files.read(tmp_path).preprocessing == "cut to 128 tokens, mean over tokens, unit length"
    assert sentence_files.weight_files(tmp_path) == [tmp_path / "0_Transformer/model.safetensors"]


@pytest.mark.parametrize(
    ("modules", "words"),
    [
        ([("", "evil.Transformer")], "must name modules of sentence_transformers, got 'evil.Transformer'"),
        ([("", "os.system")], "got 'os.system'"),
        ([("", "Pooling")], "a Transformer and then some of Pooling, .*, got Pooling as number 1"),
        ([("", "Transformer"), ("", "Transformer")], "got Transformer as number 2"),
        ([("", "Transformer"), ("1", "Router")], "got Router as number 2"),
        ([("", "StaticEmbedding")], "got StaticEmbedding as number 1"),
        (
            [("", "Transformer"), ("../1_Pooling", "Pooling")],
            "must name folders inside its own, got '../1_Pooling'",
        ),
        ([("/etc", "Transformer")], "must name folders inside its own, got '/etc'"),
        (
            [("", "Transformer"), ("2_Dense", "Dense")],
            "2_Dense must hold model.safetensors: weights in other formats",
        ),
        ([], "must be there and name the model's modules"),
    ],
)
def test_what_is_not_run_here_is_refused(tmp_path, modules, words):
    write(tmp_path, modules)
    with pytest.raises(PalError, match=words):
        sentence_files.read(tmp_path)


def test_a_folder_without_modules_is_no_such_model(tmp_path):
    with pytest.raises(
        PalError, match=r"modules\.json must be there .* is it a sentence-transformers model\?"
    ):
        sentence_files.read(tmp_path)


@pytest.mark.parametrize(
    ("text", "words"),
    [("{", "must be JSON"), ("[" * 100_000, "must be JSON"), ('"x"', "must hold a JSON object, got str")],
)
def test_configuration_that_is_no_json_is_one_sentence(tmp_path, text, words):
    write(tmp_path, KNOWN, config=text)
    with pytest.raises(PalError, match=words):
        sentence_files.read(tmp_path)


@pytest.mark.parametrize("width", [0, -1, "wide", None, 1e3, 10**9])
def test_a_width_that_is_none_is_refused(tmp_path, width):
    write(tmp_path, KNOWN, config={"hidden_size": width})
    with pytest.raises(PalError, match="must give the width of its vectors, got none"):
        sentence_files.read(tmp_path)


def test_a_huge_configuration_is_not_read(tmp_path, monkeypatch):
    monkeypatch.setattr(sentence_files, "LARGEST_JSON", 100)
    write(tmp_path, KNOWN, config={"hidden_size": "8" * 100})
    with pytest.raises(PalError, match="must be at most 100 bytes, got"):
        sentence_files.read(tmp_path)
