"""TL;DR as a dataset: found on the hub or in a folder, written as items and pairs, run through the stages."""

import json
import random
import re
from fnmatch import fnmatch

import polars as pl
import pytest

from pal.errors import PalError
from pipeline import PipelineError, params
from pipeline import paths as layout
from pipeline.datasets import summarize
from pipeline.stages import download, prepare, split
from pipeline.storage import tables

WORDS = [f"word{i}" for i in range(300)]


def comparisons(n_rows=2400, n_workers=40):
    """Comparisons of so many workers, the first ones busier; the last ten occur in validation alone."""
    draw = random.Random(5)
    for i in range(n_rows):
        here = draw.choice(["train", "valid1", "valid2"])
        last = n_workers - 10 if here == "train" else n_workers
        yield {
            "info": {"id": f"t3_{i}", "post": " ".join(draw.choices(WORDS, k=30)), "title": "t"},
            "summaries": [
                {"text": " " + " ".join(draw.choices(WORDS, k=draw.randint(2, 9))), "policy": policy, "note": None}
                for policy in ("sup1", draw.choice(["sup2", "ref"]))
            ],
            "choice": draw.randrange(2),
            "worker": f"worker{int(last * draw.random() ** 1.5):02d}",
            "batch": "batch3",
            "split": here,
        }  # fmt: skip


@pytest.fixture(scope="module")
def raw(tmp_path_factory):
    """A folder in OpenAI's layout: comparisons beside axis ratings."""
    folder = tmp_path_factory.mktemp("tldr")
    (folder / "comparisons").mkdir()
    (folder / "axis_evals").mkdir()
    (folder / "axis_evals" / "cnndm1.json").write_text('{"summary": {}}\n')
    text = "".join(json.dumps(row) + "\n" for row in comparisons())
    (folder / "comparisons" / "batch3.json").write_text(text)
    return folder


@pytest.fixture
def tldr(project, raw):
    project.set({"summarize.source": str(raw), "summarize.encoder": "hashed-words"})
    project.set({"datasets": ["summarize"]})
    return project


def prepared():
    """Download and prepare; pairs with texts in place of ids, the manifest and the notes."""
    download.main("summarize")
    prepare.main("summarize")
    folder = layout.prepared("summarize")
    items, pairs = (tables.read_table(folder / name, "") for name in (tables.ITEMS, tables.PAIRS))
    names = [name for name, kind in pairs.schema.items() if kind == pl.Categorical]
    pairs = pairs.with_columns(pl.col(names).cast(pl.String)).with_columns(
        pl.col("prompt", "chosen", "rejected").replace_strict(items["item_id"], items["text"])
    )
    manifest, notes = (json.loads((folder / name).read_text()) for name in ("manifest.json", "notes.json"))
    return pairs, manifest, notes


def test_the_hub_is_asked_for_both_halves_under_names_of_their_own(project):
    """Both halves' files are called 0000.parquet; so are those of the axis ratings, which are not fetched."""
    project.set({"datasets": ["summarize"], "summarize.source": "hub"})
    found = summarize.find(params.load())
    assert found.source == "hub: openai/summarize_from_feedback at refs/convert/parquet"
    train, validation = found.remotes
    assert (train.prefix, validation.prefix) == ("train-", "validation-")
    for there in (
        ["comparisons/train/0000.parquet", "comparisons/validation/0000.parquet", "axis/validation/0000.parquet"],
        ["comparisons/summarize_from_feedback-train.parquet", "comparisons/summarize_from_feedback-validation.parquet"],
    ):  # fmt: skip
        for remote, wanted in zip((train, validation), there, strict=False):
            (pattern,) = remote.files
            assert [name for name in there if fnmatch(name, pattern)] == [wanted]


def test_a_bad_first_line_is_told_before_anything_runs(project):
    (project.root / "mine").mkdir()
    (project.root / "mine" / "a.json").write_text("<html>")
    project.set({"summarize.source": "mine"})
    with pytest.raises(PalError, match=r"a\.json must have 'summaries', got"):
        summarize.find(params.load()).check()


def test_a_missing_folder_is_named_with_what_it_may_hold(project):
    project.set({"summarize.source": "nowhere"})
    message = r"must be hub, or a folder of OpenAI's comparisons/\*\.json .*, got 'nowhere': no folder at /"
    with pytest.raises(PipelineError, match=message):
        summarize.find(params.load())


def test_a_joint_item_is_the_summary_then_the_post(tldr):
    tldr.set({"summarize.prepare.item": "response"})
    alone, _, _ = prepared()
    tldr.set({"summarize.prepare.item": "joint"})
    joint, _, _ = prepared()
    for side in ("chosen", "rejected"):
        assert joint[side].to_list() == [
            f"{summary}\n\n{post}" for summary, post in alone.select(side, "prompt").iter_rows()
        ]
    assert joint["prompt"].equals(alone["prompt"])


def test_simulated_answers_are_named_wherever_results_are_read(tldr, raw, capsys):
    """The source's words, the groups, a count and a note. Four workers are seen, ten in validation alone."""
    tldr.set({"summarize.prepare.protocol": "iclr_simulated"})
    assert summarize.find(params.load()).source == f"folder: {raw}; answers simulated by length"
    more = tldr.root / "more"
    more.mkdir()
    rows = list(comparisons(n_rows=4000, n_workers=14))
    for row in rows:
        row["summaries"][1]["policy"] = "sup2"
    (more / "a.json").write_text("".join(json.dumps(row) + "\n" for row in rows))
    (more / "cnndm1.json").write_text('{"summary": {}}\n')
    tldr.set({"summarize.source": "more"})
    pairs, manifest, notes = prepared()
    assert manifest["source"] == "folder: more; answers simulated by length"
    assert manifest["counts"]["answers_simulated_by_length"] == len(pairs)
    assert manifest["counts"]["axis_files_ignored"] == 1
    assert set(pairs["group"]) == {"prefers longer (simulated)", "prefers shorter (simulated)"}
    assert notes[0].startswith("Answers are simulated by length, nobody gave them")
    assert f"prepare@summarize: {notes[0]}" in capsys.readouterr().out
    longer = pairs["chosen"].str.len_chars() > pairs["rejected"].str.len_chars()
    equal = pairs["chosen"].str.len_chars() == pairs["rejected"].str.len_chars()
    assert ((pairs["group"] == "prefers longer (simulated)") == longer).filter(~equal).all()


def test_too_little_data_is_one_sentence_with_what_is_missing(tldr):
    (tldr.root / "more").mkdir()
    rows = [row for row in comparisons(300) if row["split"] == "train"]
    (tldr.root / "more" / "a.json").write_text("".join(json.dumps(row) + "\n" for row in rows))
    tldr.set({"summarize.source": "more"})
    message = f"protocol stiennon must leave test comparisons of seen users, got none: it keeps {len(rows)}"
    with pytest.raises(PipelineError, match=re.escape(message)):
        prepared()


def test_every_row_is_kept_or_counted_and_placed_as_prepared(tldr):
    tldr.set({"summarize.prepare.protocol": "li2024"})
    pairs, manifest, _ = prepared()
    counts = manifest["counts"]
    assert counts["read"] == 2400 == len(pairs) + counts["dropped"]
    assert counts["dropped"] == sum(n for name, n in counts.items() if name.startswith("dropped_"))
    split.main("summarize")
    placed = tables.read_table(layout.splits("summarize") / tables.SPLITS, "")
    assert placed["users"].cast(pl.String).equals(pairs["users"], check_names=False)
    assert placed["split"].cast(pl.String).equals(pairs["split"], check_names=False)
