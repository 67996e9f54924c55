"""Ray: two workers on this machine, one of them killed: the bytes of a run without Ray, nothing twice."""

import builtins

import pytest

from faults import workers
from pipeline import paths
from pipeline.errors import PipelineError
from pipeline.stages import encode
from pipeline.storage import tables


@pytest.fixture
def own(project):
    project.set({"own.encoder": "hashed-words", "encode.device": "cpu", "encode.engine": "ray"})
    path = paths.recoloured("own") / tables.ITEMS
    tables.write_table(path, tables.text_items(["a", "b"]), tables.items_schema())
    return project


@pytest.mark.xdist_group("dag")
def test_a_killed_worker_is_replaced_and_the_result_is_that_without_ray():
    (tally,) = workers.run(moments=1, texts=8_000, ranks=False)
    assert (tally.cases, tally.failures) == (1, [])


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
