"""Shares of the work: ranks and Ray's workers give the bytes of one process, and nothing is encoded twice."""

import builtins
import os
import shutil
import subprocess
import sys
import time
from pathlib import Path

import psutil
import pytest

from pal.encoders import vector_store as embeddings
from pal.encoders.model_free import HashedWords
from pipeline import PipelineError, paths
from pipeline.stages import encode
from pipeline.storage import tables

TORCHRUN = {"RANK": "2", "WORLD_SIZE": "5"}
SLURM = {"SLURM_PROCID": "1", "SLURM_NTASKS": "3"}


@pytest.mark.parametrize(
    ("flags", "environ", "told"),
    [
        ((None, None), {}, (0, 1)),
        ((1, 4), {}, (1, 4)),
        ((1, 4), TORCHRUN, (1, 4)),
        ((None, None), SLURM, (1, 3)),
        ((None, None), {**SLURM, **TORCHRUN}, (2, 5)),
        ((None, 1), SLURM, (0, 1)),
        ((None, None), {"RANK": "1"}, (0, 1)),
        ((None, None), {**TORCHRUN, "DVC_STAGE": "encode@own"}, (0, 1)),
    ],
)
def test_flags_win_over_launchers_and_dvc_does_everything(flags, environ, told):
    share = encode.share_of(*flags, environ)
    assert (share.rank, share.world) == told


@pytest.mark.parametrize(
    ("flags", "environ", "wrong"),
    [
        ((4, 4), {}, r"^--rank and --world must be .* got rank 4 of world 4; --world 1 alone does everything$"),
        ((None, 4), {}, "got rank None of world 4"),
        ((None, None), {"RANK": "5", "WORLD_SIZE": "5"}, "^RANK and WORLD_SIZE of torchrun must"),
    ],
)  # fmt: skip
def test_ranks_that_cannot_be_are_one_sentence(flags, environ, wrong):
    with pytest.raises(PipelineError, match=wrong):
        encode.share_of(*flags, environ)


def output():
    folder = paths.embeddings("own")
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*.*")}


def files(root):
    return sorted((root / "store/embeddings").rglob("*.parquet"))


@pytest.fixture
def texts(project, monkeypatch):
    """Two thousand texts in four groups, and the output of a run without ranks, with another store."""
    project.set({"own.encoder": "hashed-words", "encode.device": "cpu", "encode.shard_rows": 300})
    frame = tables.text_items([f"statement {n}" for n in range(2000)])
    tables.write_table(paths.prepared("own") / tables.ITEMS, frame)
    return _once(project, monkeypatch)


def _once(project, monkeypatch):
    with monkeypatch.context() as patch:
        patch.setenv("PAL_STORE", str(project.root / "alone"))
        for path in (project.root / "store").glob("raw*"):
            (project.root / "alone").mkdir(exist_ok=True)
            (project.root / "alone" / path.name).symlink_to(path)
        encode.main("own")
    project.whole = output()
    for path in paths.embeddings("own").rglob("*.*"):
        path.unlink()
    return project


def test_ranks_fill_the_store_alone_and_the_run_after_them_has_the_same_bytes(texts, monkeypatch, capsys):
    """Rank 1 of 3 never comes; rank 0 comes twice."""
    encode.main("own", 0, 3)
    with monkeypatch.context() as patch:
        patch.setattr(HashedWords, "encode", lambda *_: pytest.fail("encoded again"))
        encode.main("own", 0, 3)
    assert len(files(texts.root)) == 2  # groups 0 and 3 of four
    monkeypatch.setenv("RANK", "2")
    monkeypatch.setenv("WORLD_SIZE", "3")
    encode.main("own")
    assert output() == {}
    assert (
        "rank 2 of 3 (RANK and WORLD_SIZE of torchrun) is done; once all are, run `python -m pipeline encode "
        "own --world 1`"
    ) in capsys.readouterr().out
    encode.main("own", None, 1)
    assert output() == texts.whole
    assert sum(len(embeddings.read_shard(path)[0]) for path in files(texts.root)) == 2000


ROOT = Path(__file__).parents[3]


@pytest.fixture
def by_ray(project):
    project.set({"own.encoder": "hashed-words", "encode.device": "cpu", "encode.engine": "ray"})
    path = paths.prepared("own") / tables.ITEMS
    tables.write_table(path, tables.text_items(["a", "b"]))
    return project


@pytest.mark.slow
def test_a_killed_worker_is_replaced_and_the_result_is_that_without_ray(by_ray):
    """Two workers on this machine; one is killed once the first group is in the store."""
    texts = [f"statement {n}, " + "very " * (n % 9) + "short" for n in range(8_000)]
    path = paths.prepared("own") / tables.ITEMS
    tables.write_table(path, tables.text_items(texts))
    stored = Path(os.environ["PAL_STORE"]) / "embeddings"
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "RAY_ADDRESS": "local"}
    process = subprocess.Popen([sys.executable, "-m", "pipeline", "encode", "own"], env=environment)
    workers = []
    while process.poll() is None and not (workers and list(stored.rglob("*.parquet"))):
        children = psutil.Process(process.pid).children(recursive=True)
        workers = [child for child in children if is_worker(child)]
        time.sleep(0.01)
    workers[0].kill()
    assert process.wait(120) == 0
    with_ray = {path.name: path.read_bytes() for path in paths.embeddings("own").rglob("*.*")}
    by_ray.set({"encode.engine": "torch"})
    shutil.rmtree(stored)
    encode.main("own")
    assert {path.name: path.read_bytes() for path in paths.embeddings("own").rglob("*.*")} == with_ray


def is_worker(process) -> bool:
    try:
        return " ".join(process.cmdline()).startswith("ray::encode_share")
    except psutil.Error:
        return False


def test_a_full_store_needs_no_cluster_and_has_the_key_of_torch(by_ray, monkeypatch):
    by_ray.set({"encode.engine": "torch"})
    encode.main("own")
    by_ray.set({"encode.engine": "ray"})
    monkeypatch.setattr("pipeline.stages.encode.encode_with_ray", lambda *_: pytest.fail("started a cluster"))
    encode.main("own")


def test_without_the_package_one_sentence_says_what_to_install(by_ray, monkeypatch):
    real = builtins.__import__

    def without(name, *rest):
        if name == "ray":
            raise ImportError(name)
        return real(name, *rest)

    monkeypatch.setattr(builtins, "__import__", without)
    with pytest.raises(PipelineError, match=r"encode.engine ray needs the package ray; run `pip install -e"):
        encode.main("own")
