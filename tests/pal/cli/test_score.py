"""`pal score` and `pal rank`."""

import json
import re
from pathlib import Path

import pytest

ROWS = "prompt,response,note\nhow are you,fine,1\nhow are you,bad,2\nwho is it,me,3\n"
POINTS = '{"response": [1]}\n{"response": [0.0]}\n{"response": [3.0]}\n'


def near(*numbers):
    return pytest.approx(list(numbers), abs=1e-6)


def table(text: str, name: str = "rows.csv") -> str:
    Path(name).write_text(text)
    return name


def test_rewards_by_hand(pal, on_a_line, rows):
    """-(x - a)^2: `one` stands at 1, the average user at 0.5."""
    found = rows(pal("score", on_a_line, "-", "--user", "one", stdin=POINTS))
    assert [row["response"] for row in found] == [[1], [0.0], [3.0]]
    assert [row["reward"] for row in found] == near(0, -1, -4)
    average = rows(pal("score", on_a_line, "-", stdin=POINTS))
    assert [row["reward"] for row in average] == [-0.25, -0.25, -6.25]


def test_texts_are_worth_what_python_says_and_other_columns_pass(pal, words, worded, rows):
    found = rows(pal("score", words, table(ROWS), "--user", "user 3", "--format", "csv"))
    prompts, responses = ["how are you", "how are you", "who is it"], ["fine", "bad", "me"]
    expected = worded.score(prompts, responses, user="user 3")
    assert [row["note"] for row in found] == ["1", "2", "3"]
    assert [float(row["reward"]) for row in found] == pytest.approx(expected.tolist(), abs=1e-6)


def test_each_row_may_have_its_user(pal, on_a_line, rows):
    given = "".join(
        json.dumps({"response": [1.0], "user_id": user}) + "\n" for user in ("one", "zero", "one")
    )
    scored = [row["reward"] for row in rows(pal("score", on_a_line, "-", stdin=given))]
    assert scored == near(0, -1, 0)
    scored = [row["reward"] for row in rows(pal("score", on_a_line, "-", "--average", stdin=given))]
    assert scored == near(-0.25, -0.25, -0.25)


def test_long_tables_are_read_in_batches(pal, on_a_line, rows, monkeypatch):
    monkeypatch.setattr("pal.cli.serving.ROWS", 2)
    given = "".join(json.dumps({"response": [float(at)]}) + "\n" for at in range(7))
    found = rows(pal("score", on_a_line, "-", "--user", "zero", stdin=given))
    assert [row["reward"] for row in found] == near(*(-at * at for at in range(7)))


def test_rows_are_ranked_within_their_prompt(pal, on_a_line, rows, monkeypatch):
    monkeypatch.setattr("pal.cli.serving.ROWS", 2)
    found = rows(pal("rank", on_a_line, "-", "--user", "zero", stdin=POINTS))
    assert [(row["rank"], row["response"]) for row in found] == [(1, [0.0]), (2, [1]), (3, [3.0])]
    assert [row["reward"] for row in found] == near(0, -1, -9)


def test_ranking_is_that_of_python_prompt_by_prompt(pal, words, worded, rows):
    found = rows(pal("rank", words, table(ROWS), "--user", "user 5"))
    best = worded.rank("how are you", ["fine", "bad"], user="user 5")
    assert [row["response"] for row in found] == [*(one.response for one in best), "me"]
    assert [row["rank"] for row in found] == [1, 2, 1]


def test_users_are_ranked_apart(pal, on_a_line, rows):
    given = "".join(
        json.dumps({"response": [x], "user_id": user}) + "\n" for user in ("one", "zero") for x in (0.0, 1.0)
    )
    found = rows(pal("rank", on_a_line, "-", stdin=given))
    assert [(row["user_id"], row["rank"], row["response"]) for row in found] == [
        ("one", 1, [1.0]),
        ("one", 2, [0.0]),
        ("zero", 1, [0.0]),
        ("zero", 2, [1.0]),
    ]


def test_a_prompt_whose_rows_stand_apart_is_refused(pal, words):
    said = pal("rank", words, table(ROWS + "how are you,well,4\n"), "--out", "ranked.csv", code=1)
    assert "rows of one prompt must stand together, got row 4 (line 5) of rows.csv" in said
    assert "sort the table by prompt" in said
    assert [path.name for path in Path().iterdir()] == ["rows.csv"]


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        (("--user", "carl"), "user must be one of the 40 seen in fitting, .* got 'carl'; adapt to .* `pal adapt"),
        (("--user", "user 1", "--average"), "--average must stand alone"),
        (("--taste", "nowhere.jsonl"), "nowhere.jsonl cannot be read .*; name what pal adapt wrote"),
        (("--weights", "package"), "--weights must be NAME=PLACE, got 'package'"),
        (("--device", "abacus"), "--device must be cpu or cuda, got 'abacus'"),
        (("--out", "rows.txt"), r"rows.txt must end in .jsonl, .csv or .parquet, or --format"),
        (("--out", "rows.csv/new.csv"), r"rows.csv/new.csv cannot be written .*; choose another place"),
    ],
)  # fmt: skip
def test_wrong_options_are_one_sentence(pal, words, options, sentence):
    assert re.search(sentence, pal("score", words, table(ROWS), *options, code=1))
    assert [path.name for path in Path().iterdir()] == ["rows.csv"]


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("prompt,response\nhow,fine\n,bad\n", "prompt in row 2 (line 3) of bad.csv is empty"),
        ("prompt,response\nhow,fine\nwho, \n", "response in row 2 (line 3) of bad.csv holds nothing but spaces"),
        ("question,answer\nhow,fine\n", "lacks the column response; it has 'question', 'answer'; rename 'answer' to response"),
        ("question,response\nhow,fine\n", "lacks the column prompt; it has 'question', 'response'; rename 'question' to prompt"),
        ("how are you,fine\nwho,me\n", "lacks the column response; it has 'how are you', 'fine'; the first line of a CSV"),
        ("prompt,response,reward\nhow,fine,1\n", "bad.csv must not have the column reward"),
        ("prompt,response,user_id\nhow,fine,carl\n", "got 'carl'"),
        ("prompt,response,user_id\nhow,fine,\n", "user_id in row 1 (line 2) of bad.csv must be text"),
    ],
)  # fmt: skip
def test_bad_rows_are_one_sentence_and_nothing_is_written(pal, words, text, sentence):
    said = pal("score", words, table(text, "bad.csv"), "--out", "scored.csv", code=1)
    assert sentence in said
    assert [path.name for path in Path().iterdir()] == ["bad.csv"]


def test_an_unknown_user_is_named_with_the_row(pal, words):
    given = "prompt,response,user_id\nhow,fine,user 1\nhow,bad,carl\n"
    assert "(row 2 (line 3) of rows.csv)" in pal("score", words, table(given), code=1)


def test_models_of_vectors_say_that_texts_are_not_read(pal, on_a_line):
    said = pal("score", on_a_line, table(ROWS), code=1)
    assert "fitted on vectors and names no encoder, so give lists of numbers" in said


@pytest.mark.parametrize(
    ("cell", "got"), [(None, "nothing"), (3, "type int"), ([], "type list"), (["a"], "type list")]
)
def test_cells_that_are_no_items_are_refused(pal, words, cell, got):
    given = json.dumps({"prompt": "how", "response": cell}) + "\n"
    said = pal("score", words, "-", stdin=given, code=1)
    assert "response in line 1 of standard input must be a text" in said
    assert got in said
