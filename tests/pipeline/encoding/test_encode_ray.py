"""Ray: two workers on this machine, one of them killed: the bytes of a run without Ray, nothing twice."""

import builtins
import os
import shutil
import subprocess
import sys
import time
from pathlib import Path

import psutil
import pytest

from pipeline import paths
from pipeline.errors import PipelineError
from pipeline.stages import encode
from pipeline.storage import tables

ROOT = Path(__file__).parents[3]


@pytest.fixture
def own(project):
    project.set({"own.encoder": "hashed-words", "encode.device": "cpu", "encode.engine": "ray"})
    path = paths.recoloured("own") / tables.ITEMS
    tables.write_table(path, tables.text_items(["a", "b"]), tables.items_schema())
    return project


@pytest.mark.slow
def test_a_killed_worker_is_replaced_and_the_result_is_that_without_ray(own):
    """Two workers on this machine; one is killed once the first group is in the store."""
    texts = [f"statement {n}, " + "very " * (n % 9) + "short" for n in range(8_000)]
    path = paths.recoloured("own") / tables.ITEMS
    tables.write_table(path, tables.text_items(texts), tables.items_schema())
    stored = Path(os.environ["PAL_STORE"]) / "embeddings"
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "RAY_ADDRESS": "local"}
    process = subprocess.Popen([sys.executable, "-m", "pipeline", "encode", "own"], env=environment)
    workers = []
    while process.poll() is None and not (workers and list(stored.rglob("*.parquet"))):
        workers = [
            child for child in psutil.Process(process.pid).children(recursive=True) if is_worker(child)
        ]
        time.sleep(0.01)
    workers[0].kill()
    assert process.wait(120) == 0
    with_ray = {path.name: path.read_bytes() for path in paths.embeddings("own").rglob("*.*")}
    own.set({"encode.engine": "torch"})
    shutil.rmtree(stored)
    encode.main("own")
    assert {path.name: path.read_bytes() for path in paths.embeddings("own").rglob("*.*")} == with_ray


def is_worker(process) -> bool:
    try:
        return " ".join(process.cmdline()).startswith("ray::Worker")
    except psutil.Error:
        return False


def test_a_full_store_needs_no_cluster_and_has_the_key_of_torch(own, monkeypatch):
    own.set({"encode.engine": "torch"})
    encode.main("own")
    own.set({"encode.engine": "ray"})
    monkeypatch.setattr("pipeline.encoding.encode_ray.fill", lambda *_: pytest.fail("started a cluster"))
    encode.main("own")


def test_without_the_package_one_sentence_says_what_to_install(own, monkeypatch):
    real = builtins.__import__

    def without(name, *rest):
        if name == "ray":
            raise ImportError(name)
        return real(name, *rest)

    monkeypatch.setattr(builtins, "__import__", without)
    with pytest.raises(PipelineError, match=r"encode.engine ray needs the package ray; run `pip install -e"):
        encode.main("own")
