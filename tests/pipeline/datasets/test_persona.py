"""Persona: found where params.yaml says, read line by line, asked without replacement, answered by persona."""

import json
from collections import Counter

import polars as pl
import pytest

from pal.errors import PalError
from pipeline import PipelineError, params
from pipeline.datasets import persona
from pipeline.datasets.persona import Prepare
from pipeline.storage import tables


def line(statement, answer=" Yes", /, **changes):
    """One statement in Anthropic's schema."""
    other = {" Yes": " No", " No": " Yes"}.get(answer, " No")
    row = {"question": f'Would you say this?\n"{statement}"', "statement": statement, "label_confidence": 1.0}
    row |= {"answer_matching_behavior": answer, "answer_not_matching_behavior": other}
    return json.dumps({**row, **changes}) + "\n"


def knobs(**changes):
    small = {
        "personas": ["art", "math"], "users_per_group": 2,
        "unseen_users_per_group": 1, "train_pairs": 2, "adapt_pairs": 2, "val_pairs": 0, "test_pairs": 1,
        "new_test_pairs": 1, "new_statements": 0.25,
    }  # fmt: skip
    return Prepare(**{**small, **changes})


@pytest.fixture
def toy(project):
    """Two personas with two statements each: one that they agree with, one that they do not."""
    folder = project.root / "mine"
    folder.mkdir()
    for name in ("art", "math"):
        text = line(f"I love {name}") + line(f"I loathe {name}", " No")
        (folder / f"interest-in-{name}.jsonl").write_text(text)
    project.set({"evaluate.shots": [2], "evaluate.headline_shots": 2, "persona.source": "mine"})
    project.set({"persona.prepare": knobs().model_dump()})
    return project


def prepared(project):
    """Prepare in a folder; returns pairs with texts in place of ids, and the counts."""
    values = params.load()
    out = project.root / "out"
    out.mkdir(exist_ok=True)
    counts = persona.prepare(values, persona.find(values).paths, out)
    items, pairs = (tables.read_table(out / name, "") for name in (tables.ITEMS, tables.PAIRS))
    pairs = pairs.with_columns(pl.col(pl.Categorical).cast(pl.String))
    return pairs.with_columns(
        pl.col("prompt", "chosen", "rejected").replace_strict(items["item_id"], items["text"])
    ), counts


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"source": "nowhere"}, "persona.source in params.yaml must be sample, hub or an existing folder, got 'no"),
        ({"prepare.personas": ["art", "chess"]}, "got one without a file interest-in-chess.jsonl; there are: art, math"),
    ],
)  # fmt: skip
def test_files_that_are_not_there_are_one_sentence(toy, change, message):
    toy.set({f"persona.{key}": value for key, value in change.items()})
    with pytest.raises(PipelineError, match=message):
        persona.find(params.load())


BROKEN = [
    (b"", "x.jsonl is empty \\(0 bytes\\)"),
    ((line("a") + line("b")[:50]).encode(), "row 2 of x.jsonl is not valid JSON"),
    (line("a", statement="").encode(), "row 1 of x.jsonl: statement must "),
    (line("a", "Yes").encode(), "row 1 of x.jsonl: answer_matching_behavior must be one of ' Yes', ' No', got 'Yes'"),
]  # fmt: skip


@pytest.mark.parametrize(("content", "message"), BROKEN)
def test_a_broken_file_is_one_sentence_that_names_the_line(tmp_path, content, message):
    (tmp_path / "x").write_bytes(content)
    with pytest.raises(PalError, match=message) as caught:
        persona.read("x.jsonl", tmp_path / "x")
    assert "\n" not in str(caught.value)


def test_who_is_asked_what_and_answers_how(toy):
    """Each of 6 people is asked the 3 known statements and the one new: 2 train or adapt, the others are tests. Of
    the four statements one is yes for each persona (D24)."""
    pairs, counts = prepared(toy)
    assert counts == {"read": 24, "kept": 24, "dropped": 0, "statements": 4}
    assert pairs.group_by("user_id").agg(pl.col("prompt").n_unique())["prompt"].to_list() == [4] * 6
    assert {"seen-art-00001", "unseen-math-00000"} < set(pairs["user_id"])
    assert {(u, s): n for u, s, n in pairs.group_by("users", "split").len().iter_rows()} == {
        ("seen", "train"): 8, ("seen", "test"): 8, ("unseen", "adapt"): 4, ("unseen", "test"): 4,
    }  # fmt: skip
    for pair in pairs.iter_rows(named=True):
        answers = ("Yes", "No") if f"I love {pair['group']}" in pair["prompt"] else ("No", "Yes")
        assert (pair["chosen"], pair["rejected"]) == answers
    trained = set(pairs.filter(pairs["split"].is_in(["train", "adapt"]))["prompt"])
    tested = Counter(pairs.filter(pairs["split"] == "test")["prompt"])
    assert [n for text, n in tested.items() if text not in trained] == [6]


def test_too_many_questions_are_one_sentence(toy):
    """4 statements, one of them kept out: 3 for training, but 3 + 1 asked."""
    toy.set({"persona.prepare.train_pairs": 3})
    message = r"asks each user 4 questions .* but there are 3 statements for training; lower"
    with pytest.raises(PipelineError, match=message):
        prepared(toy)
