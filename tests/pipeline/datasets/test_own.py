"""One's own comparisons: any log that `pal fit` reads, prepared, and held by check to what later stages need."""

import hashlib
import io
import re

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from PIL import Image

from pal.errors import PalError
from pipeline import params, paths
from pipeline.datasets import own
from pipeline.datasets.base import Remote
from pipeline.stages import download, prepare
from pipeline.storage import raw_files
from pipeline.storage.tables import ITEMS_SCHEMA, PAIRS_SCHEMA, image_id, text_id
from tests.hub_client import hub_client  # noqa: F401

HEAD = "user_id,prompt,chosen,rejected"
WHOLE = [("ann", "train"), ("ann", "test"), ("bob", "adapt"), ("bob", "test")]


@pytest.fixture
def given(project):
    """Put a file into the project, and name it."""

    def given(content, name="a.csv", **options):
        (project.root / name).write_bytes(content if isinstance(content, bytes) else content.encode())
        project.set({"datasets": ["own"], "own.source": name, **options})
        return project

    return given


def prepared():
    download.main("own")
    prepare.main("own")
    folder = paths.prepared("own")
    return pq.read_table(folder / "items.parquet"), pq.read_table(folder / "pairs.parquet")


def check():
    return own.find(params.load()).check()


def splits(*users, head=HEAD):
    rows = (f"{user},{n}?,so {n},no,{split}\n" for n, (user, split) in enumerate(users))
    return f"{head},split\n{''.join(rows)}"


def test_prepare_writes_items_and_pairs_and_what_was_left_out(given, capsys):
    given(f"{HEAD},timestamp\n7,why?,so,no,2026-03-01\nb,why?,no,so,\nb,why?,no,so,\nb,why?,so,so,\n")
    items, pairs = prepared()
    assert items.schema.equals(ITEMS_SCHEMA)
    assert pairs.schema.equals(PAIRS_SCHEMA)
    why, so, no = map(text_id, ("why?", "so", "no"))
    texts = dict(zip(items["item_id"].to_pylist(), items["text"].to_pylist(), strict=True))
    assert texts == {why: "why?", so: "so", no: "no"}
    columns = ["pair_id", "user_id", "prompt", "chosen", "rejected", "label", "users", "split", "weight"]
    assert [tuple(each.values()) for each in pairs.select(columns).to_pylist()] == [
        (0, "7", why, so, no, 1.0, None, None, None),
        (1, "b", why, no, so, 1.0, None, None, 2.0),
    ]
    assert [time and time.day for time in pairs["time"].to_pylist()] == [1, None]
    rejected = (paths.prepared("own") / "rejected-rows.csv").read_text()
    assert rejected == "file,row,reason\na.csv,4,that compare a response with itself\n"
    assert "people       2" in capsys.readouterr().out


def test_a_user_with_adapt_rows_is_unseen_and_prompts_may_be_missing(given):
    rows = splits(*WHOLE, ("bob", "val")).replace("prompt", "nothing")
    given(rows, **{"own.prepare.columns": {"prompt": ""}})
    _, pairs = prepared()
    assert pairs["users"].to_pylist() == ["seen", "seen", "unseen", "unseen", "unseen"]
    assert pairs["split"].to_pylist() == ["train", "test", "adapt", "test", "val"]
    assert pairs["prompt"].null_count == 5


def picture(colour):
    out = io.BytesIO()
    Image.new("RGB", (4, 4), colour).save(out, "PNG")
    return out.getvalue()


def test_pictures_in_cells_of_a_hub_table_come_into_the_store_also_of_several_outputs(
    given,
    hub_client,  # noqa: F811
):
    """One of three pictures was taken: it stands over the two others."""
    drawn = [picture(colour) for colour in ("red", "green", "blue")]
    columns = {
        f"image_{mark}": [{"bytes": data, "path": "x.png"}] for mark, data in zip("abc", drawn, strict=True)
    }
    out = io.BytesIO()
    pq.write_table(pa.table({"user_id": ["ann"], "prompt": ["p"], **columns, "winner": ["b"]}), out)
    hub_client.commit("someone/pictures", {"data/train.parquet": out.getvalue()})
    given("", **{"own.source": "hf://datasets/someone/pictures"})
    _, pairs = prepared()
    red, green, blue = (image_id(hashlib.sha256(data).hexdigest()) for data in drawn)
    assert set(zip(*(pairs[side].to_pylist() for side in ("chosen", "rejected")), strict=True)) == {
        (green, red), (green, blue),
    }  # fmt: skip
    files = {file.name: file for file in raw_files.read_manifest("own").files}
    kept = (raw_files.stored(files[hashlib.sha256(data).hexdigest()], "own") for data in drawn)
    assert [path.read_bytes() for path in kept] == drawn


def test_a_preset_is_fetched_from_the_hub_at_its_place(given):
    given("", **{"own.source": "collective_alignment"})
    found = own.find(params.load())
    assert found.remotes[0].files == ["comparisons/"]
    assert isinstance(found.remotes[0], Remote)


def test_a_split_by_time_needs_times_before_anything_runs(given):
    options = {"own.split.by": "time", "model.K": 1}
    given(
        f"{HEAD},timestamp\n" + "".join(f"{n},p,so,no,{'2026-03-01' if n else ''}\n" for n in range(3)),
        **options,
    )
    message = r"^timestamp in row 1 of a\.csv is empty or no time, which own\.split\.by: t"
    with pytest.raises(PalError, match=message):
        check()
    given(f"{HEAD}\nann,p,so,no\n")
    with pytest.raises(PalError, match=r"^own\.split\.by is time, which needs a column timestamp; add one"):
        check()


def test_what_only_train_needs_is_refused_by_check(given):
    """Of ten users two are kept unseen. Without prompts model A is taken, unless somebody asks for another."""
    rows = [f"{user},,so {n},no\n" for user in range(10) for n in range(2)]
    given(f"{HEAD}\n{''.join(rows)}", **{"model.K": 8})
    assert check() == ["there are no prompts, so that own.head.model is A, which reads responses alone"]
    for options, sentence in (
        ({"model.K": 9}, "model.K must be at most 8, the seen users of own, got 9; lower it or add users"),
        (
            {"model.K": 2, "own.head.model": "B"},
            "own.head.model must be 'A' where there are no prompts, got 'B' (in",
        ),
        (
            {"own.head.model": "A", "own.head.inputs": "prompt_and_response"},
            "own.head.inputs must be 'response' where",
        ),
    ):
        given(f"{HEAD}\n{''.join(rows)}", **options)
        with pytest.raises(PalError, match=f"^{re.escape(sentence)}"):
            check()
    given(f"{HEAD}\n{''.join(rows[:4])}", **{"model.K": 1})
    message = r"^own\.split\.unseen_users must leave at least one user seen and one un"
    with pytest.raises(PalError, match=message):
        check()


def test_the_column_split_is_obeyed_and_check_says_so(given):
    given(splits(*WHOLE), **{"model.K": 1, "own.split.by": "time"})
    assert check() == ["the file's column split says who trains and who is tested; own.split is not used"]
    given(splits(*WHOLE), **{"model.K": 2})
    with pytest.raises(PalError, match=r"^model\.K must be at most 1, the seen users of own, got 2"):
        check()
