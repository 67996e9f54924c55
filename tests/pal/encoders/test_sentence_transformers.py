"""Sentence-transformers models: published weights, other models' folders, and the library's own vectors."""

import dataclasses
import hashlib
import json

import numpy as np
import pytest

from pal import encoders
from pal.encoders import sentence_transformers
from pal.errors import PalError
from tests.hub_client import hub_client  # noqa: F401

MINILM, OTHER = "all-MiniLM-L6-v2", "sentence-transformers:org/tiny"
PUBLISHED = "53aa51172d142c89d9012cce15ae4d6cc0ca6895895114379cacb4fab128d9db"
TEXTS = ["I love painting.", "Numbers bore me, and they always have; I would rather read a novel.", ""]


@pytest.fixture(scope="module")
def described():
    return encoders.describe(MINILM)


def library(folder):
    from sentence_transformers import SentenceTransformer

    return SentenceTransformer(str(folder), device="cpu", local_files_only=True)


def load(folder):
    """A model of one's own, with the defaults."""
    return encoders.load(encoders.describe(OTHER, str(folder)))


def test_the_hub_is_asked_for_the_pinned_commit_and_other_weights_name_both_hashes(hub_client):  # noqa: F811
    commit, got = sentence_transformers.PUBLISHED[MINILM].revision, hashlib.sha256(b"other").hexdigest()
    hub_client.repos["sentence-transformers/all-MiniLM-L6-v2"] = {
        commit: {"model.safetensors": b"other", "model.bin": b"no"}, "f" * 40: {},
    }  # fmt: skip
    with pytest.raises(PalError, match=f"published sha256 {PUBLISHED}, got {got}; get them again, or"):
        encoders.describe(MINILM, "hub")
    assert hub_client.downloaded == ["model.safetensors"]


def test_of_any_other_model_the_hub_is_asked_for_no_pickles_and_no_code(hub_client, tiny):  # noqa: F811
    files = {
        path.relative_to(tiny).as_posix(): path.read_bytes() for path in tiny.rglob("*") if path.is_file()
    }
    hub_client.commit("org/tiny", {**files, "pytorch_model.bin": b"pickle", "run.py": b"code"})
    described = encoders.describe(f"{OTHER}@v1.0", "hub")
    sha256 = hashlib.sha256(files["model.safetensors"]).hexdigest()
    assert (described.dim, described.weights_sha256) == (16, sha256)
    assert set(hub_client.downloaded) == set(files)


UNKNOWN = [
    (MINILM, "{folder}", r"encode\.weights must lead to a folder with model\.safetensors of all-Mini"),
    (OTHER, "package", rf"must be hub or a folder for {OTHER}: no package is known, got 'package'"),
    ("sentence-transformers:../x/y", "hub", r"ORG/NAME, with @REVISION or without, got 'sentence"),
]


@pytest.mark.parametrize(("name", "weights", "words"), UNKNOWN)
def test_names_and_places_that_cannot_be_are_one_sentence(tmp_path, name, weights, words):
    with pytest.raises(PalError, match=words):
        encoders.describe(name, weights.format(folder=tmp_path))


def test_any_other_model_is_described_by_its_files(make_tiny, tmp_path):
    """Its hash is recorded, over the list of hashes where the weights come in parts; a pickle is not read."""
    folder = make_tiny(tmp_path / "model", pooling="cls", dense=8, unit=False)
    described = encoders.describe(OTHER, str(folder))
    whole = (folder / "model.safetensors").read_bytes()
    assert (described.dim, described.weights_sha256) == (8, hashlib.sha256(whole).hexdigest())
    assert described.preprocessing == "cut to 24 tokens, cls over tokens, dense to 8"
    (folder / "model.safetensors").rename(folder / "pytorch_model.bin")
    with pytest.raises(PalError, match=r"must lead to a folder with model\.safetensors of sentence-tr"):
        encoders.describe(OTHER, str(folder))
    lines = ""
    for number, content in enumerate((b"one", b"two"), start=1):
        (folder / f"model-0000{number}-of-00002.safetensors").write_bytes(content)
        lines += hashlib.sha256(content).hexdigest() + "\n"
    assert encoders.describe(OTHER, str(folder)).weights_sha256 == hashlib.sha256(lines.encode()).hexdigest()


def write(folder, modules, **files):
    """Modules and JSON files; a file's name has __ for / and no suffix."""
    entries = [
        {"path": path, "type": kind if "." in kind else f"sentence_transformers.models.{kind}"}
        for path, kind in modules
    ]
    (folder / "modules.json").write_text(json.dumps(entries))
    for name, value in files.items():
        path = folder / f"{name.replace('__', '/')}.json"
        path.parent.mkdir(exist_ok=True)
        path.write_text(value if isinstance(value, str) else json.dumps(value))
    (folder / "model.safetensors").write_bytes(b"")
    return folder


POOLED = [("", "Transformer"), ("1_Pooling", "Pooling")]


NOT_RUN = [
    ([("", "evil.Transformer")], {}, "must name modules of sentence_transformers, got 'evil.Transformer'"),
    ([("", "Pooling")], {}, "a Transformer and then some of Pooling, .*, got Pooling as number 1"),
    ([("", "Transformer"), ("1", "Router")], {}, "got Router as number 2"),
    ([("", "Transformer"), ("../1_Pooling", "Pooling")], {}, "folders inside its own, got '../1_Pooling'"),
    ([("/etc", "Transformer")], {}, "must name folders inside its own, got '/etc'"),
    ([("", "Transformer"), ("2_Dense", "Dense")], {}, "2_Dense must hold model.safetensors: weights in"),
    ([], {}, r"modules\.json must be there .* is it a sentence-transformers model\?"),
    (POOLED, "[" * 100_000, "must be JSON"),
    (POOLED, '"x"', "must hold a JSON object, got str"),
    (POOLED, {"hidden_size": 10**9}, "must give the width of its vectors, got 1000000000"),
]


@pytest.mark.parametrize(("modules", "config", "words"), NOT_RUN)
def test_folders_that_are_not_run_here_are_refused(tmp_path, modules, config, words):
    write(tmp_path, modules, config=config)
    with pytest.raises(PalError, match=words):
        encoders.describe(OTHER, str(tmp_path))


def test_foreign_modules_are_refused_before_anything_is_loaded(described, tmp_path):
    write(tmp_path, [("", "evil.Transformer")])
    with pytest.raises(PalError, match="must name modules of sentence_transformers, got 'evil"):
        sentence_transformers.load(dataclasses.replace(described, folder=tmp_path), "cpu")


def test_minilms_vectors_are_those_of_the_librarys_own_encode(described, minilm):
    vectors = minilm.encode(TEXTS)
    assert (vectors.shape, vectors.dtype) == ((3, 384), np.float32)
    assert np.abs(vectors - library(described.folder).encode(TEXTS, show_progress_bar=False)).max() < 1e-5
    assert np.linalg.norm(vectors, axis=1) == pytest.approx(1, abs=1e-5)
    assert vectors.tobytes() == minilm.encode(TEXTS).tobytes()
    assert np.abs(vectors[:1] - minilm.encode(TEXTS[:1])).max() < 1e-5


def test_lengths_count_tokens_with_the_two_at_the_ends_and_words_past_the_limit_do_not_count(minilm):
    """[CLS] i love painting . [SEP] is 6; nothing is 2; a long text is cut to 256."""
    long = "word " * 1000
    assert minilm.lengths([TEXTS[0], "", long]) == [6, 2, 256]
    first, second = minilm.encode([long, long + "else"])
    assert np.array_equal(first, second)
    assert minilm.lengths([]) == []


@pytest.mark.parametrize(
    ("made", "side"),
    [({}, "left"), ({"pooling": "cls"}, "right"), ({"pooling": "cls", "dense": 8, "unit": False}, "left")],
)
def test_pooling_and_padding_are_those_of_the_models_own_files(make_tiny, tmp_path, made, side):
    folder = make_tiny(tmp_path / "model", **made)
    config = json.loads((folder / "tokenizer_config.json").read_text())
    (folder / "tokenizer_config.json").write_text(json.dumps({**config, "padding_side": side}))
    texts = [*TEXTS, "word " * 100]
    expected = library(folder).encode(texts, show_progress_bar=False)
    vectors = load(folder).encode(texts)
    assert vectors.shape == expected.shape == (4, made.get("dense") or 16)
    assert np.abs(vectors - expected).max() < 1e-6


def test_a_models_own_prompt_stands_before_every_text_and_is_pooled(make_tiny, tmp_path):
    folder = make_tiny(tmp_path / "model", pooling="cls")
    prompts = {"prompts": {"query": "query: "}, "default_prompt_name": "query"}
    (folder / "config_sentence_transformers.json").write_text(json.dumps(prompts))
    expected = library(folder).encode(TEXTS, show_progress_bar=False)
    assert np.abs(load(folder).encode(TEXTS) - expected).max() < 1e-6
    pooling = {"embedding_dimension": 16, "pooling_mode": "cls", "include_prompt": False}
    (folder / "1_Pooling/config.json").write_text(json.dumps(pooling))
    with pytest.raises(PalError, match="must have texts without a prompt left out of the pooling, or it is"):
        load(folder)


def test_damaged_weights_are_one_sentence(make_tiny, tmp_path):
    folder = make_tiny(tmp_path / "model")
    (folder / "model.safetensors").write_bytes(b"not safetensors at all")
    with pytest.raises(PalError, match=r"org/tiny could not be loaded from .* get its files"):
        load(folder)
