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

from pal.errors import PalError as PipelineError
from pipeline import params, study
from pipeline import paths as layout
from pipeline.datasets import own
from pipeline.datasets.own import vectors as own_vectors
from pipeline.stages import download, encode, prepare, recolour, split
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
    "npy in float64": {"v.npy": as_npy(VALUES.astype(">f8")), "v.ids.txt": lines()},
    "npy in columns": {"v.npy": as_npy(np.asfortranarray(VALUES)), "v.ids.txt": lines()},
    "ids from Windows": {"v.npy": as_npy(VALUES), "v.ids.txt": b"\xef\xbb\xbfx\r\ny\r\nz"},
    "safetensors": {"v.safetensors": as_safetensors(VALUES)},
    "safetensors in float16": {"v.safetensors": as_safetensors(VALUES.astype(np.float16))},
    "safetensors with ids beside": {"v.safetensors": as_safetensors(VALUES, None), "v.ids.txt": lines()},
    "Parquet lists": {"v.parquet": as_parquet(IDS, VALUES)},
    "Parquet lists of fixed size": {"v.parquet": as_parquet(IDS, VALUES, pa.list_(pa.float64(), 2))},
    "Parquet large lists": {
        "v.parquet": as_parquet(IDS, VALUES.tolist(), pa.large_list(pa.float32()), pa.large_string())
    },
    "Parquet in groups of one": {"v.parquet": as_parquet(IDS, VALUES, LISTS, row_group_size=1)},
    "Parquet with categories": {
        "v.parquet": as_parquet(IDS, VALUES, LISTS, pa.dictionary(pa.int8(), pa.string()))
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
    own.find(params.load()).check()
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
    values = np.vstack([VALUES, [np.nan, 1]])
    given({"v.npy": as_npy(values), "v.ids.txt": lines([*IDS, "w"])})
    items, _ = prepared()
    assert (items["modality"] == "vector").sum() == 3


def test_batches_of_rows_are_read_one_by_one(given, monkeypatch):
    monkeypatch.setattr(own_vectors, "BATCH", 2)
    for contents in (FORMATS["safetensors"], FORMATS["Parquet lists"]):
        given(contents)
        items, _ = prepared()
        assert sorted(items["vector"].drop_nulls().to_list()) == [[0, 1], [2, 3], [4, 5]]


def test_prompts_and_responses_may_both_be_vectors_and_ids_whole_numbers(given, folder, project):
    project.set({"own.prepare.prompts": "vector"})
    (folder / "table.jsonl").write_text(
        '{"user_id": 1, "prompt": 7, "response_a": 8, "response_b": 9, "winner": "b"}'
    )
    given({"v.parquet": as_parquet([7, 8, 9], VALUES)})
    project.set({"own.source": "mine/table.jsonl"})
    items, pairs = prepared()
    assert (items["modality"] == "vector").all()
    assert pairs.select("prompt", "chosen", "rejected").row(0) == (id_of(0, 1), id_of(4, 5), id_of(2, 3))


def test_the_same_numbers_under_two_ids_are_one_item(given, folder):
    values = np.array([[0, 1], [2, 3], [0, 1]], np.float32)
    given({"v.npy": as_npy(values), "v.ids.txt": lines()})
    items, pairs = prepared()
    assert (items["modality"] == "vector").sum() == 2
    assert len(pairs) == 1  # bob prefers z to x, which are the same
    counts = json.loads((layout.prepared("own") / "manifest.json").read_text())["counts"]
    assert (counts["read"], counts["kept"], counts["identical_dropped"]) == (2, 1, 1)


def test_vectors_in_the_tables_own_folder_are_no_table(given, project):
    given({"v.parquet": as_parquet(IDS, VALUES)})
    project.set({"own.source": "mine"})
    assert list(own.find(params.load()).paths) == ["table.csv"]


def test_vectors_are_not_looked_at_where_there_are_none(given, project):
    given({"v.npy": b"nonsense"})
    project.set({"own.prepare.responses": "text"})
    assert own.find(params.load()).links == {}


def test_vectors_go_all_the_way_to_a_study(given, folder, project):
    """Prompts are encoded as texts; responses keep their own width, 2."""
    project.set({"own.encoder": "hashed-words", "encode.device": "cpu"})
    answers = [f"u{u},p{n},{'xy'[u % 2]},{'yx'[u % 2]}\n" for u in range(8) for n in range(4)]
    (folder / "table.csv").write_text("user_id,prompt,chosen,rejected\n" + "".join(answers))
    given(FORMATS["npy"])
    prepared()
    for stage in (recolour, split, encode):
        stage.main("own")
    data = study.load("own")
    assert len(data.comparisons) == 32
    assert sorted(data.embeddings.responses.tolist()) == [[0, 1], [2, 3]]
    assert data.embeddings.prompts.shape[0] == 4


class Boom:
    """Unpickling this would fail the test."""

    def __reduce__(self):
        return (pytest.fail, ("it was unpickled",))


PICKLED = as_npy(np.array([[Boom()]], dtype=object), allow_pickle=True)
ZIPPED = io.BytesIO()
np.savez(ZIPPED, VALUES)
SHORT = as_npy(VALUES)
NAN = np.array([[0, 1], [np.nan, 3], [4, 5]])

# What is odd, the files, and how the sentence starts.
ODD_VECTORS = {
    "objects": (
        {"v.npy": PICKLED, "v.ids.txt": lines(["x"])},
        "v.npy must hold an array of floats, got one of Python objects (a pickle); save it as float32",
    ),
    "a bare pickle": (
        {"v.npy": pickle.dumps(Boom()), "v.ids.txt": lines()},
        "v.npy is damaged or no .npy file (the magic string is not correct; expected",
    ),
    "a zip of arrays": (
        {"v.npy": ZIPPED.getvalue(), "v.ids.txt": lines()},
        "v.npy is damaged or no .npy file (",
    ),
    "an array cut off": (
        {"v.npy": SHORT[:-4], "v.ids.txt": lines()},
        "v.npy is damaged or no .npy file (mmap length is greater than file size); export it again",
    ),
    "whole numbers": (
        {"v.npy": as_npy(np.ones((3, 2), np.int64)), "v.ids.txt": lines()},
        "v.npy must hold an array of floats, got one of int64; save it as float32",
    ),
    "an array of one axis": (
        {"v.npy": as_npy(np.ones(3, np.float32)), "v.ids.txt": lines()},
        "v.npy must hold an array of vectors, (n, width), got one of shape (3,)",
    ),
    "vectors of no numbers": (
        {"v.npy": as_npy(np.ones((3, 0), np.float32)), "v.ids.txt": lines()},
        "v.npy must hold an array of vectors, (n, width), got one of shape (3, 0)",
    ),
    "zero rows": (
        {"v.npy": as_npy(np.ones((0, 2), np.float32)), "v.ids.txt": b""},
        "v.npy must hold at least one vector, got none",
    ),
    "zero rows of Parquet": (
        {"v.parquet": as_parquet([], [], LISTS, pa.string())},
        "v.parquet must hold at least one vector, got none",
    ),
    "a missing file of ids": (
        {"v.npy": as_npy(VALUES)},
        "v.npy must have a file v.ids.txt beside it, one id a line in the order of its rows, got none",
    ),
    "too few ids": (
        {"v.npy": as_npy(VALUES), "v.ids.txt": lines("xy")},
        "v.npy must have one id a vector, got 2 ids for 3 vectors",
    ),
    "an empty line among the ids": (
        {"v.npy": as_npy(VALUES), "v.ids.txt": b"x\n\nz\n"},
        "the id of vector 2 of v.npy must be a text, got ''",
    ),
    "ids in Latin-1": (
        {"v.npy": as_npy(VALUES), "v.ids.txt": "é\nx\ny\n".encode("latin-1")},
        "v.ids.txt must be UTF-8; save it as UTF-8",
    ),
    "an id twice": (
        {"v.safetensors": as_safetensors(VALUES, ["x", "y", "x"])},
        "v.safetensors must name each id once, got 'x' again as vector 3",
    ),
    "an id that is a number": (
        {"v.safetensors": as_safetensors(VALUES, ["x", 2, "z"])},
        "the id of vector 2 of v.safetensors must be a text, got 2",
    ),
    "ids that are no list": (
        {"v.safetensors": as_safetensors(VALUES, {"x": 1})},
        "`ids` in the metadata of v.safetensors must be a JSON list, got {'x': 1}",
    ),
    "a null id": (
        {"v.parquet": as_parquet(["x", None, "z"], VALUES)},
        "the id of vector 2 of v.parquet must be a text, got None",
    ),
    "a dangling id": (
        {"v.npy": as_npy(VALUES[:2]), "v.ids.txt": lines("yz")},
        "chosen in row 1 (line 2) of table.csv must be an id in v.npy, got 'x'",
    ),
    "NaN": (
        {"v.npy": as_npy(NAN), "v.ids.txt": lines()},
        "the vector 'y' in v.npy must be finite in float32, got NaN or infinity",
    ),
    "too large for float32": (
        {"v.parquet": as_parquet(IDS, VALUES.astype(np.float64) * 1e300)},
        "the vector 'x' in v.parquet must be finite in float32, got NaN or infinity",
    ),
    "a vector of another width": (
        {"v.parquet": as_parquet(IDS, [[1.0, 2.0], [1.0], [3.0, 4.0]])},
        "vector 2 of v.parquet must have 2 numbers, as the first, got 1",
    ),
    "a null vector": (
        {"v.parquet": as_parquet(IDS, [[1.0, 2.0], None, [3.0, 4.0]])},
        "vector 2 of v.parquet must have 2 numbers, as the first, got 0",
    ),
    "a null in a vector": (
        {"v.parquet": as_parquet(IDS, [[1.0, 2.0], [1.0, None], [3.0, 4.0]])},
        "v.parquet must have a number in every place of a vector, got an empty one",
    ),
    "no embedding column": (
        {"v.parquet": as_parquet(IDS, VALUES).replace(b"embedding", b"embeddinG")},
        "v.parquet must have one column embedding, got 0; it has id, embeddinG",
    ),
    "texts for vectors": (
        {"v.parquet": as_parquet(IDS, ["1", "2", "3"])},
        "embedding in v.parquet must hold lists of numbers, got string",
    ),
    "floats for ids": (
        {"v.parquet": as_parquet([1.0, 2.0, 3.0], VALUES)},
        "id in v.parquet must hold text or whole numbers, got double",
    ),
    "Parquet cut off": (
        {"v.parquet": as_parquet(IDS, VALUES)[:-20]},
        "v.parquet is damaged or no .parquet file (",
    ),
    "a tensor of another name": (
        {"v.safetensors": as_safetensors(VALUES, name="weights")},
        "v.safetensors must hold a tensor `embeddings`, got 'weights'",
    ),
    "a tensor of whole numbers": (
        {"v.safetensors": as_safetensors(VALUES.astype(np.int32))},
        "the tensor `embeddings` in v.safetensors must be one of F16, F32, F64, got I32",
    ),
    "a safetensors file cut off": (
        {"v.safetensors": as_safetensors(VALUES)[:-4]},
        "v.safetensors is damaged or no .safetensors file (",
    ),
    "a header of 100 MB and more": (
        {"v.safetensors": (2**40).to_bytes(8, "little") + b"{}"},
        "v.safetensors is damaged or no .safetensors file (",
    ),
}


@pytest.mark.parametrize(("contents", "sentence"), ODD_VECTORS.values(), ids=ODD_VECTORS)
def test_odd_vectors_are_refused_in_one_sentence(given, contents, sentence):
    given(contents)
    found = own.find(params.load())
    with pytest.raises(PipelineError, match=f"^{re.escape(sentence)}") as caught:
        found.check()
    assert "\n" not in str(caught.value)


def test_vectors_must_be_named(folder):
    with pytest.raises(
        PipelineError,
        match=r"^own\.vectors in params\.yaml must name a \.parquet, \.safetensors, \.npy file, since "
        r"own\.prepare says vector, got null; set it$",
    ):
        own.find(params.load())


def test_vectors_and_comparisons_are_files_apart(given, project):
    given({"v.parquet": as_parquet(IDS, VALUES)})
    project.set({"own.source": "mine/v.parquet"})
    with pytest.raises(
        PipelineError, match=r"^own\.source in params\.yaml must hold a table besides the vectors"
    ):
        own.find(params.load())
