"""`pal adapt`: comparisons to tastes, which the other commands read."""

import json
import re
from pathlib import Path

import pytest
import torch

from pal.users.taste import Taste

ROWS = "user_id,prompt,chosen,rejected,label\nann,how,fine,bad,\nbob,how,bad,fine,0.8\nann,who,me,you,1\n"


def table(text: str, name: str = "rows.csv") -> str:
    Path(name).write_text(text)
    return name


def tastes(path: str) -> dict[str, Taste]:
    lines = Path(path).read_text().splitlines()
    return {json.loads(line).get("user_id", ""): Taste.from_json(line) for line in lines}


def test_tastes_are_those_of_python_whatever_the_batches(pal, words, worded, monkeypatch):
    pal("adapt", words, table(ROWS), "--out", "tastes.jsonl")
    expected = worded.adapt_many(
        {"ann": [("how", "fine", "bad"), ("who", "me", "you")], "bob": [("how", "bad", "fine", 0.8)]}
    )
    assert list(tastes("tastes.jsonl")) == ["ann", "bob"]
    monkeypatch.setattr("pal.cli.serving.ROWS", 1)
    pal("adapt", words, "rows.csv", "--out", "apart.jsonl")
    for path in ("tastes.jsonl", "apart.jsonl"):
        for who, taste in tastes(path).items():
            assert taste.comparisons == expected[who].comparisons
            torch.testing.assert_close(taste.with_model(worded).state, expected[who].state)


def test_one_person_needs_no_id_and_gives_a_file_that_python_reads(pal, on_a_line, line):
    """Two choices of 0 over 1: odds e^2 for `zero`."""
    row = json.dumps({"chosen": [0], "rejected": [1]}) + "\n"
    pal("adapt", on_a_line, "-", "--out", "someone.json", stdin=row * 2)
    taste = Taste.load("someone.json", line)
    assert taste.comparisons == 2
    torch.testing.assert_close(taste.state, torch.tensor([0.880797, 0.119203]))


def test_a_taste_grows_and_forgets_exactly(pal, words):
    pal("adapt", words, table(ROWS), "--out", "all.jsonl")
    head, first, *rest = ROWS.splitlines(keepends=True)
    pal("adapt", words, table(head + first, "first.csv"), "--out", "first.jsonl")
    pal(
        "adapt",
        words,
        table(head + "".join(rest), "rest.csv"),
        "--taste",
        "first.jsonl",
        "--out",
        "grown.jsonl",
    )
    assert near(tastes("grown.jsonl"), tastes("all.jsonl"))
    pal("adapt", words, "rest.csv", "--taste", "all.jsonl", "--forget", "--out", "less.jsonl")
    assert near(tastes("less.jsonl"), tastes("first.jsonl"))  # of bob nothing is left, not even his name


def test_scores_and_ranks_by_a_taste(pal, words, worded, rows):
    pal("adapt", words, table(ROWS), "--out", "tastes.jsonl")
    asked = table("user_id,prompt,response\nann,how,fine\nuser 7,how,fine\n", "asked.csv")
    found = [row["reward"] for row in rows(pal("score", words, asked, "--taste", "tastes.jsonl"))]
    ann = tastes("tastes.jsonl")["ann"]
    expected = worded.score("how", ["fine", "fine"], user=[ann, "user 7"])
    assert found == pytest.approx(expected.tolist(), abs=1e-6)
    named = rows(pal("score", words, asked, "--taste", "tastes.jsonl", "--user", "ann"))
    assert [row["reward"] for row in named] == pytest.approx([found[0]] * 2, abs=1e-6)


def test_the_only_taste_of_a_file_is_everyones(pal, on_a_line, rows):
    comparison = json.dumps({"chosen": [0], "rejected": [1]}) + "\n"
    pal("adapt", on_a_line, "-", "--out", "someone.json", stdin=comparison * 50)
    points = '{"response": [0.0], "user_id": "one"}\n'
    (row,) = rows(pal("score", on_a_line, "-", "--taste", "someone.json", stdin=points))
    assert row["reward"] == pytest.approx(0, abs=1e-6)


def near(some: dict[str, Taste], others: dict[str, Taste]) -> bool:
    """The same people, who answered as often and stand at the same places."""
    return some.keys() == others.keys() and all(
        taste.comparisons == others[who].comparisons
        and taste.evidence == pytest.approx(others[who].evidence, abs=1e-5)
        for who, taste in some.items()
    )


@pytest.mark.parametrize(
    ("rows", "sentence"),
    [
        ("ann,how,fine,fine,1", r"chosen in row 1 \(line 2\) of bad.csv and rejected in row 1 .* must differ"),
        ("ann,how,fine,,1", r"rejected in row 1 \(line 2\) of bad.csv is empty"),
        ("ann,how,fine,bad,2", r"label in row 1 \(line 2\) of bad.csv must lie in \[0, 1\], got '2'; 0.5 is a tie"),
        ("ann,how,fine,bad,yes", r"label in row 1 .* got 'yes'"),
        (",how,fine,bad,1", r"user_id in row 1 \(line 2\) of bad.csv must be text or a whole number, got nothing"),
        ("ann,how,fine,bad", r"row 1 \(line 2\) of bad.csv must have 5 values, one per column, got 4; put quotes"),
        ("ann,how,a,b,1\nbob,how,c,d,1\nann,how,e,e,1", r"chosen in row 3 \(line 4\) of bad.csv and .* must differ"),
    ],
)  # fmt: skip
def test_bad_comparisons_are_one_sentence_and_nothing_is_written(pal, words, rows, sentence):
    given = table(f"user_id,prompt,chosen,rejected,label\n{rows}\n", "bad.csv")
    assert re.search(sentence, pal("adapt", words, given, "--out", "tastes.jsonl", code=1))
    assert [path.name for path in Path().iterdir()] == ["bad.csv"]


def test_several_people_do_not_fit_one_json(pal, words):
    said = pal("adapt", words, table(ROWS), "--out", "tastes.json", code=1)
    assert "out must end in .jsonl for the tastes of 2 people" in said
    assert "tastes are JSON" in pal("adapt", words, table(ROWS), "--out", "tastes.csv", code=1)
    assert [path.name for path in Path().iterdir()] == ["rows.csv"]


def test_forgetting_needs_what_went_in(pal, words):
    assert "--forget needs --taste" in pal("adapt", words, table(ROWS), "--forget", code=1)
    head, first, *_ = ROWS.splitlines(keepends=True)
    pal("adapt", words, table(head + first, "first.csv"), "--out", "first.jsonl")
    said = pal("adapt", words, table(ROWS), "--taste", "first.jsonl", "--forget", code=1)
    assert re.search(r"cannot forget 2; .*\(user 'ann'\)", said)
    other = table(head + first.replace("ann", "carl"), "carl.csv")
    said = pal("adapt", words, other, "--taste", "first.jsonl", "--forget", code=1)
    assert "--taste has no taste of 'carl'" in said


def test_tastes_of_another_model_are_refused(pal, words, on_a_line):
    pal("adapt", words, table(ROWS), "--out", "tastes.jsonl")
    said = pal("score", on_a_line, "-", "--taste", "tastes.jsonl", stdin='{"response": [1]}\n', code=1)
    assert re.search("line 1 of tastes.jsonl cannot be used: the taste must be of this model", said)


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("", "must hold a taste, got an empty file"),
        ("{", "line 1 of other.jsonl cannot be used: a taste must be JSON"),
        ("{}", "must be of the format 'pal-taste', got another"),
    ],
)
def test_what_is_no_taste_is_refused(pal, words, text, sentence):
    table(text, "other.jsonl")
    asked = table("prompt,response\nhow,fine\n", "asked.csv")
    assert sentence in pal("score", words, asked, "--taste", "other.jsonl", code=1)


def test_whose_taste_must_be_clear(pal, words):
    pal("adapt", words, table(ROWS), "--out", "tastes.jsonl")
    asked = table("prompt,response\nhow,fine\n", "asked.csv")
    assert "--user must say whose of the 2 tastes" in pal(
        "score", words, asked, "--taste", "tastes.jsonl", code=1
    )
    double = Path("tastes.jsonl").read_text()
    table(double + double, "twice.jsonl")
    assert "must have one taste of 'ann', got two" in pal(
        "score", words, asked, "--taste", "twice.jsonl", code=1
    )
    someone = table(ROWS.replace("user_id,", "").replace("ann,", "").replace("bob,", ""), "someone.csv")
    said = pal("adapt", words, someone, "--taste", "tastes.jsonl", code=1)
    assert "someone.csv must have a column user_id, since tastes.jsonl names people" in said
    pal("adapt", words, someone, "--out", "someone.json")
    said = pal("adapt", words, "rows.csv", "--taste", "someone.json", code=1)
    assert "someone.json must say whose taste it is" in said
