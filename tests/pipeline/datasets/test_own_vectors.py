"""Vectors by their ids: three formats give the same items, what is odd is one sentence, nothing is unpickled."""

import io
import json
import pickle
import re

import numpy as np
import polars as pl
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from safetensors.numpy import save

from pal.errors import PalError
from pipeline import params
from pipeline import paths as layout
from pipeline.datasets import own
from pipeline.stages import download, prepare
from pipeline.storage.tables import item_id, text_id

IDS = ["x", "y", "z"]
VALUES = np.arange(6, dtype=np.float32).reshape(3, 2)
TABLE = "user_id,prompt,chosen,rejected\nann,why,x,y\nbob,why,z,x\n"


def as_npy(values, **options):
    out = io.BytesIO()
    np.save(out, values, **options)
    return out.getvalue()


def as_parquet(ids, vectors, kind=None, key=None, **options):
    out = io.BytesIO()
    table = pa.table({"id": pa.array(ids, key), "embedding": pa.array(list(vectors), kind)})
    pq.write_table(table, out, **options)
    return out.getvalue()


def as_safetensors(values, ids=IDS, name="embeddings"):
    return save({name: values}, None if ids is None else {"ids": json.dumps(ids)})


def lines(ids=IDS):
    return "".join(f"{id_}\n" for id_ in ids).encode()


LISTS = pa.list_(pa.float32())
FORMATS = {
    "npy": {"v.npy": as_npy(VALUES), "v.ids.txt": lines()},
    "npy in float64 by columns": {"v.npy": as_npy(np.asfortranarray(VALUES, ">f8")), "v.ids.txt": lines()},
    "ids from Windows": {"v.npy": as_npy(VALUES), "v.ids.txt": b"\xef\xbb\xbfx\r\ny\r\nz"},
    "safetensors in float16": {"v.safetensors": as_safetensors(VALUES.astype(np.float16))},
    "safetensors with ids beside": {"v.safetensors": as_safetensors(VALUES, None), "v.ids.txt": lines()},
    "Parquet lists of fixed size": {"v.parquet": as_parquet(IDS, VALUES, pa.list_(pa.float64(), 2))},
    "Parquet large lists": {
        "v.parquet": as_parquet(IDS, VALUES.tolist(), pa.large_list(pa.float32()), pa.large_string())
    },
    "Parquet with categories in groups of one": {
        "v.parquet": as_parquet(IDS, VALUES, LISTS, pa.dictionary(pa.int8(), pa.string()), row_group_size=1)
    },
}


@pytest.fixture
def folder(project):
    """The user's folder, and params.yaml saying that responses are vectors."""
    home = project.root / "mine"
    home.mkdir()
    project.set({"own.source": "mine/table.csv", "own.prepare.responses": "vector"})
    (home / "table.csv").write_text(TABLE)
    return home


@pytest.fixture
def given(folder, project):
    """Put files of vectors beside the table."""

    def given(contents):
        for name, content in contents.items():
            (folder / name).write_bytes(content)
        project.set({"own.vectors": f"mine/{next(iter(contents))}"})

    return given


def prepared():
    download.main("own")
    prepare.main("own")
    folder = layout.prepared("own")
    return pl.read_parquet(folder / "items.parquet"), pl.read_parquet(folder / "pairs.parquet")


def id_of(*values):
    return item_id("vector", np.array(values, "<f4").tobytes())


@pytest.mark.parametrize("contents", FORMATS.values(), ids=FORMATS)
def test_every_format_gives_the_same_items(given, contents):
    """x is (0, 1), y is (2, 3), z is (4, 5)."""
    given(contents)
    items, pairs = prepared()
    vectors = items.filter(pl.col("modality") == "vector")
    assert dict(vectors.select("item_id", "vector").iter_rows()) == {
        id_of(0, 1): [0, 1], id_of(2, 3): [2, 3], id_of(4, 5): [4, 5]
    }  # fmt: skip
    assert items.filter(pl.col("modality") == "text")["item_id"].to_list() == [text_id("why")]
    assert pairs["chosen"].to_list() == [id_of(0, 1), id_of(4, 5)]
    assert pairs["rejected"].to_list() == [id_of(2, 3), id_of(0, 1)]


def test_only_vectors_that_are_named_become_items(given):
    """w is NaN, but no row names it."""
    values, ids = np.vstack([VALUES, [np.nan, 1]]).astype(np.float32), [*IDS, "w"]
    for contents in (
        {"v.npy": as_npy(values), "v.ids.txt": lines(ids)},
        {"v.safetensors": as_safetensors(values, ids)},
        {"v.parquet": as_parquet(ids, values)},
    ):
        given(contents)
        items, _ = prepared()
        assert sorted(items["vector"].drop_nulls().to_list()) == [[0, 1], [2, 3], [4, 5]]


def test_files_of_vectors_are_no_tables_and_are_read_only_where_cells_are_vectors(given, project):
    given({"v.parquet": b"nonsense"})
    project.set({"own.source": "mine"})
    assert list(own.find(params.load()).paths) == ["table.csv"]
    texts = {f"own.prepare.{half}": "text" for half in ("prompts", "responses")}
    project.set({"own.source": "mine/table.csv", **texts})
    assert own.find(params.load()).links == {}


class Boom:
    """Unpickling this would fail the test."""

    def __reduce__(self):
        return (pytest.fail, ("it was unpickled",))


def npy(values, ids="xyz"):
    return {"v.npy": as_npy(values, allow_pickle=True), "v.ids.txt": lines(ids)}


NAN = np.array([[0, 1], [np.nan, 3], [4, 5]])
RAGGED, HOLE = ([[1.0, 2.0], second, [3.0, 4.0]] for second in ([1.0], [1.0, None]))
RENAMED = as_parquet(IDS, VALUES).replace(b"embedding", b"embeddinG")

# Each kind of fault: the files, and how the sentence starts.
FAULTS = [
    (npy(np.array([[Boom()]], dtype=object)), "v.npy cannot be read as vectors (Array can't be memory-mapped: Python objects in dtype); export"),
    ({"v.npy": pickle.dumps(Boom()), "v.ids.txt": lines()}, "v.npy cannot be read as vectors (the magic string is not correct; expected"),
    ({"v.npy": as_npy(VALUES)[:-4], "v.ids.txt": lines()}, "v.npy cannot be read as vectors (mmap length is greater than file size); export it again"),
    (npy(np.ones((3, 0), np.float32)), "v.npy must hold vectors, (n, width), got an array of shape (3, 0)"),
    (npy(np.ones((0, 2), np.float32), ""), "v.npy must hold vectors, (n, width), got an array of shape (0, 2)"),
    ({"v.npy": as_npy(VALUES)}, "v.npy must have a file v.ids.txt beside it, one id a line in the order of its rows, got none"),
    (npy(VALUES, "xy"), "v.npy must have one id a vector, got 2 ids for 3 vectors"),
    ({"v.npy": as_npy(VALUES), "v.ids.txt": "é\nx\ny\n".encode("latin-1")}, "v.ids.txt must be UTF-8; save it as UTF-8"),
    ({"v.safetensors": as_safetensors(VALUES, ["x", "y", "x"])}, "v.safetensors must name each vector by a text of its own, got 'x' as vector 3"),
    ({"v.safetensors": as_safetensors(VALUES, ["x", 2, "z"])}, "v.safetensors must name each vector by a text of its own, got 2 as vector 2"),
    (npy(VALUES[:2], "yz"), "chosen in row 1 of table.csv must be an id in v.npy, got 'x'"),
    (npy(NAN), "the vector 'y' in v.npy must be finite in float32, got NaN, infinity or nothing"),
    ({"v.parquet": as_parquet(IDS, RAGGED)}, "vector 2 of v.parquet must have 2 numbers, as the first, got 1"),
    ({"v.parquet": as_parquet(IDS, HOLE)}, "the vector 'y' in v.parquet must be finite in float32, got NaN, infinity or nothing"),
    ({"v.parquet": RENAMED}, "v.parquet cannot be read as vectors ("),
    ({"v.parquet": as_parquet(IDS, ["1", "2", "3"])}, "v.parquet cannot be read as vectors (Unsupported cast from string to"),
    ({"v.parquet": as_parquet(IDS, VALUES)[:-20]}, "v.parquet cannot be read as vectors ("),
    ({"v.safetensors": as_safetensors(VALUES, name="weights")}, "v.safetensors cannot be read as vectors (File does not contain tensor embeddings); export"),
]  # fmt: skip


@pytest.mark.parametrize(("contents", "sentence"), FAULTS, ids=[sentence[:60] for _, sentence in FAULTS])
def test_a_fault_of_the_vectors_is_one_sentence(given, contents, sentence):
    given(contents)
    source = own.find(params.load())
    with pytest.raises(PalError, match=f"^{re.escape(sentence)}") as caught:
        source.check()
    assert "\n" not in str(caught.value)


def test_vectors_must_be_named(folder):
    with pytest.raises(PalError, match=r"^vectors must be in a file that is named, got none; name it"):
        own.find(params.load()).check()
