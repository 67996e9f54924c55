"""TL;DR's two layouts give the same frame; whatever is no comparison is refused where it stands."""

import json
import re

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from pal.errors import PalError
from pipeline import PipelineError
from pipeline.datasets import summarize

text = pa.string()
INFO = pa.struct([(k, text) for k in ("id", "post", "title", "subreddit", "site", "article")])
SUMMARIES = pa.list_(pa.struct([("text", text), ("policy", text), ("note", text)]))
SCHEMA = pa.schema(
    {
        "info": INFO, "summaries": SUMMARIES, "choice": pa.int32(), "worker": text, "batch": text,
        "split": text, "extra": pa.struct([("confidence", pa.int32())]),
    }
)  # fmt: skip


def row(**changes):
    """One comparison in OpenAI's layout."""
    return {
        "info": {"id": "t3_1", "post": "My cat ate a fish.", "title": "Cat", "subreddit": "pets"},
        "summaries": [
            {"text": " cat ate fish", "policy": "sup1", "note": "good"},
            {"text": " fish gone", "policy": "ref", "note": None},
        ],
        "choice": 1, "worker": "w" * 30, "batch": "batch9", "split": "train", "extra": {"confidence": 8},
        **changes,
    }  # fmt: skip


def lines(*rows):
    return "".join(json.dumps(each) + "\n" for each in rows)


def read(folder, **contents):
    """Write files of these contents, by name without ending, and read the folder."""
    folder.mkdir(exist_ok=True)
    for name, content in contents.items():
        if isinstance(content, pa.Table):
            pq.write_table(content, folder / f"{name}.parquet")
        elif isinstance(content, bytes):
            (folder / f"{name}.json").write_bytes(content)
        else:
            (folder / f"{name}.json").write_text(content, encoding="utf-8")
    return summarize.read(summarize.find_files("there", folder))


def table(*rows, **columns):
    """Comparisons as the hub converts them, with columns replaced by others."""
    made = pa.Table.from_pylist(list(rows), schema=SCHEMA)
    for name, column in columns.items():
        made = made.set_column(made.column_names.index(name), name, column)
    return made


def test_both_layouts_of_the_same_rows_give_the_same_frame(tmp_path):
    """As published: raw files by batch with the splits mixed, the hub's by split with the batches mixed."""
    article = {"id": "1", "title": "News", "site": "cnn", "article": "A man won."}
    rows = [
        {**row(worker=f"w{n % 5}", batch=f"batch{n % 3}", split=split, choice=n % 2), **changes}
        for n, split in enumerate(["train", "train", "valid1", "valid2"] * 5)
        for changes in ({}, {"info": article, "extra": {}})
    ]
    for batch in ("batch0", "batch1", "batch2"):
        path = tmp_path / "raw" / "comparisons" / f"{batch}.json"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(lines(*(each for each in rows if each["batch"] == batch)))
    for split in ("train", "validation"):
        path = tmp_path / "hub" / "comparisons" / split / "0000.parquet"
        path.parent.mkdir(parents=True)
        half = [each for each in rows if (each["split"] == "train") == (split == "train")]
        pq.write_table(table(*half), path, row_group_size=7)
    raw, hub = (summarize.read(summarize.find_files(name, tmp_path / name))[0] for name in ("raw", "hub"))
    assert raw.equals(hub)
    assert (len(raw), raw["worker"].n_unique()) == (40, 5)
    assert set(raw["split"]) == {"train", "validation"}
    assert (raw["post"].is_null() == raw["article"].is_not_null()).all()


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("\n\n", "a.json must have 'summaries', got ''"),
        ("[" * 100_000 + "\n", "a.json is not valid JSON"),
        (lines({"text": "?"}), "a.json must have 'summaries', got \"'text'\""),
        (lines(row()) + "nonsense\n", "row 2 of a.json is not valid JSON"),
        (lines(row(), row(choice=2)), "row 2 of a.json: choice must be one of 0, 1, got 2"),
        (lines(row(summaries=[])), "row 1 of a.json: summaries must be "),
        (lines(row(worker="\ud83d")), "row 1 of a.json: "),
        (lines(row()).encode() + b'{"worker": "\xff"}\n', "row 2 of a.json: summaries is missing"),
        (table(row(), row(split="trian")), "row 2 of a.parquet: split must be one of 'train', 'valid1', 'valid2', "),
        (table(row(), worker=pa.array([7])), "row 1 of a.parquet: worker must be text, got 7"),
        (table(), "must hold at least one comparison, got 0 files of axis ratings and 1 files without rows"),
    ],
)  # fmt: skip
def test_what_is_no_comparison_is_refused_where_it_stands(tmp_path, content, message):
    with pytest.raises(PalError, match=re.escape(message)):
        read(tmp_path, a=content)


def test_two_layouts_at_once_are_refused(tmp_path):
    with pytest.raises(PipelineError, match=r"got 'there': both"):
        read(tmp_path, a=lines(row()), b=table(row()))
