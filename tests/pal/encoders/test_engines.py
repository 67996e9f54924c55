"""Engines and precisions: what goes together, and that every engine gives torch's vectors."""

import importlib.util

import numpy as np
import pytest
import torch

from pal import encoders
from pal.encoders import sentence_transformers
from pal.encoders.sentence_transformers import check_engine
from pal.errors import PalError
from pal.files import sha256_of

NAME = "sentence-transformers:org/tiny"
TEXTS = ["I love painting.", "Numbers bore me, and they always have.", "", "word " * 100]


def encoder(folder, engine, precision="float32"):
    described = encoders.describe(NAME, str(folder), precision=precision, engine=engine)
    return encoders.load(described)


@pytest.fixture(scope="module")
def expected(tiny):
    return encoder(tiny, "torch").encode(TEXTS)


REFUSED = [
    ("float64", "torch", None, "precision must be one of float32, bfloat16, float16, got 'float64'"),
    ("float32", "jax", None, "encode.engine must be one of torch, onnx, got 'jax'"),
    ("float16", "torch", "cpu", "float16 needs a GPU, got device cpu, .*; set it to bfloat16"),
    ("bfloat16", "onnx", None, "encode.engine onnx computes in float32, got encode.precision 'bfloat16'"),
    ("float32", "onnx", "cuda", "encode.engine onnx runs on the CPU, got device 'cuda'"),
]


@pytest.mark.parametrize(("precision", "engine", "device", "words"), REFUSED)
def test_what_does_not_go_together_is_refused(precision, engine, device, words):
    with pytest.raises(PalError, match=words):
        check_engine(precision, engine, device)


def test_missing_packages_are_named_with_the_command(monkeypatch):
    monkeypatch.setattr(sentence_transformers, "find_spec", lambda name: None)
    with pytest.raises(PalError) as caught:
        check_engine("float32", "onnx")
    assert str(caught.value) == (
        "encode.engine onnx needs the packages onnxruntime and onnx, got no onnxruntime; run `pip install "
        "onnxruntime onnx`, or set encode.engine to torch"
    )


class TestOnnx:
    @pytest.fixture(autouse=True)
    def store(self, tmp_path, monkeypatch):
        for name in sentence_transformers.ONNX_PACKAGES:
            if importlib.util.find_spec(name) is None:
                pytest.skip(f"{name} is not installed: it is an extra")
        monkeypatch.setenv("PAL_STORE", str(tmp_path / "store"))
        return tmp_path / "store/onnx"

    def test_vectors_are_torchs_and_the_network_is_exported_again_only_when_damaged(
        self, tiny, store, expected, monkeypatch
    ):
        exported = encoder(tiny, "onnx")
        assert np.abs(exported.encode(TEXTS) - expected).max() < 1e-5
        assert np.abs(exported.encode(TEXTS[:1]) - expected[:1]).max() < 1e-5
        [path] = store.rglob("*.onnx")
        with monkeypatch.context() as patch:
            patch.setattr(sentence_transformers, "_export_onnx", None)
            encoder(tiny, "onnx")
        whole = path.read_bytes()
        path.write_bytes(whole[:-1] + bytes([whole[-1] ^ 1]))
        assert np.abs(encoder(tiny, "onnx").encode(TEXTS) - expected).max() < 1e-5
        [path] = store.rglob("*.onnx")
        assert sha256_of(path) == path.stem

    def test_an_export_that_fails_or_has_other_vectors_is_one_sentence_and_not_kept(
        self, tiny, store, monkeypatch
    ):
        monkeypatch.setattr(sentence_transformers, "ONNX_TOLERANCE", -1.0)
        with pytest.raises(PalError, match=r"to ONNX must give torch's vectors, got some .* apart; set"):
            encoder(tiny, "onnx")

        def fail(*args, **kwargs):
            raise torch.onnx.errors.UnsupportedOperatorError("aten::new", 17, None)

        monkeypatch.setattr(torch.onnx, "export", fail)
        with pytest.raises(PalError, match=r"could not be exported to ONNX \(.*aten::new.*\); set encode"):
            encoder(tiny, "onnx")
        assert not list(store.iterdir())
