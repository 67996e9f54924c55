"""`pal score`, `rank`, `adapt` and `ask`: tables in, tables and tastes out."""

import json
import re
import shlex
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from pal.fitting.attributes import AttributePrior
from pal.users.taste import Taste

ROWS = "prompt,response,note\nhow are you,fine,1\nhow are you,bad,2\nwho is it,me,3\n"
POINTS = [{"response": [1]}, {"response": [0.0]}, {"response": [3.0]}]
CHOICES = "user_id,prompt,chosen,rejected,label\nann,how,fine,bad,\nbob,how,bad,fine,0.8\nann,who,me,you,1\n"
CANDIDATES = [
    {"response_a": [a], "response_b": [b], "id": number}
    for number, (a, b) in enumerate([(0.0, 0.5), (0.0, 1.0), (1.0, 0.0)])
]


def lines(*rows: dict) -> str:
    return "".join(json.dumps(row) + "\n" for row in rows)


def table(text: str, name: str = "rows.csv") -> str:
    Path(name).write_text(text)
    return name


def near(*numbers):
    return pytest.approx(list(numbers), abs=1e-6)


def tastes(path: str) -> dict[str, Taste]:
    texts = Path(path).read_text().splitlines()
    return {json.loads(text).get("user_id", ""): Taste.from_json(text) for text in texts}


def alike(some: dict[str, Taste], others: dict[str, Taste]) -> bool:
    return some.keys() == others.keys() and all(
        taste.comparisons == others[user].comparisons
        and taste.evidence == pytest.approx(others[user].evidence, abs=1e-5)
        for user, taste in some.items()
    )


def said(role: str, text: str) -> list[dict]:
    return [{"role": role, "content": text}]


def test_messages_are_scored_ranked_and_adapted_to_as_their_texts(pal, words, rows):
    """In tables as in Python; the rows are written as they came."""
    texts = [{"prompt": "how", "response": text} for text in ("fine", "bad")]
    talks = [{"prompt": said("user", "how"), "response": said("assistant", row["response"])} for row in texts]
    for command in ("score", "rank"):
        plain, talked = (rows(pal(command, words, "-", stdin=lines(*given))) for given in (texts, talks))
        assert [row["reward"] for row in talked] == [row["reward"] for row in plain]
        assert [row["response"][0]["content"] for row in talked] == [row["response"] for row in plain]
    pair = {"prompt": "how", "chosen": "fine", "rejected": "bad"}
    talk = {name: said("user" if name == "prompt" else "assistant", text) for name, text in pair.items()}
    assert pal("adapt", words, "-", stdin=lines(talk)) == pal("adapt", words, "-", stdin=lines(pair))


def test_score_gives_rewards_by_hand(pal, on_a_line, rows):
    """-(x - a)^2: `one` stands at 1, the average user at 0.5."""
    scored = rows(pal("score", on_a_line, "-", "--user", "one", stdin=lines(*POINTS)))
    assert [row["response"] for row in scored] == [[1], [0.0], [3.0]]
    assert [row["reward"] for row in scored] == near(0, -1, -4)
    average = rows(pal("score", on_a_line, "-", stdin=lines(*POINTS)))
    assert [row["reward"] for row in average] == [-0.25, -0.25, -6.25]
    given = lines(*({"response": [1.0], "user_id": user} for user in ("one", "zero", "one")))
    assert [row["reward"] for row in rows(pal("score", on_a_line, "-", stdin=given))] == near(0, -1, 0)
    scored = rows(pal("score", on_a_line, "-", "--average", stdin=given))
    assert [row["reward"] for row in scored] == near(-0.25, -0.25, -0.25)


def test_rank_sorts_the_rows_of_each_prompt_and_user_across_batches(
    pal, on_a_line, words, worded, rows, monkeypatch
):
    ranked = rows(pal("rank", words, table(ROWS), "--user", "user 5"))
    best = worded.rank("how are you", ["fine", "bad"], user="user 5")
    assert [row["response"] for row in ranked] == [*(each.response for each in best), "me"]
    assert [row["rank"] for row in ranked] == [1, 2, 1]
    monkeypatch.setattr("pal.cli.tables.ROWS", 2)
    ranked = rows(pal("rank", on_a_line, "-", "--user", "zero", stdin=lines(*POINTS)))
    assert [(row["rank"], row["response"]) for row in ranked] == [(1, [0.0]), (2, [1]), (3, [3.0])]
    assert [row["reward"] for row in ranked] == near(0, -1, -9)
    given = lines(*({"response": [x], "user_id": user} for user in ("one", "zero") for x in (0.0, 1.0)))
    ranked = rows(pal("rank", on_a_line, "-", stdin=given))
    assert [(row["user_id"], row["rank"], row["response"]) for row in ranked] == [
        ("one", 1, [1.0]), ("one", 2, [0.0]), ("zero", 1, [0.0]), ("zero", 2, [1.0])
    ]  # fmt: skip


def test_adapt_of_one_person_needs_no_id(pal, on_a_line, line, rows):
    """Two choices of 0 over 1: odds e^2 for `zero`."""
    choice = lines({"chosen": [0], "rejected": [1]})
    pal("adapt", on_a_line, "-", "--out", "someone.json", stdin=choice * 2)
    taste = Taste.load("someone.json", line)
    assert taste.comparisons == 2
    torch.testing.assert_close(taste.state, torch.tensor([0.880797, 0.119203]))
    point = lines({"response": [0.0], "user_id": "one"})  # the only taste of a file is everyone's
    (row,) = rows(pal("score", on_a_line, "-", "--taste", "someone.json", stdin=point))
    assert row["reward"] == pytest.approx(line.score(None, [[0.0]], user=taste).item(), abs=1e-6)


def test_adapt_adds_and_forgets_comparisons_exactly(pal, words):
    pal("adapt", words, table(CHOICES), "--out", "all.jsonl")
    header, first, *others = CHOICES.splitlines(keepends=True)
    pal("adapt", words, table(header + first, "first.csv"), "--out", "first.jsonl")
    table(header + "".join(others), "others.csv")
    pal("adapt", words, "others.csv", "--taste", "first.jsonl", "--out", "grown.jsonl")
    assert alike(tastes("grown.jsonl"), tastes("all.jsonl"))
    pal("adapt", words, "others.csv", "--taste", "all.jsonl", "--forget", "--out", "less.jsonl")
    assert alike(tastes("less.jsonl"), tastes("first.jsonl"))  # nothing is left of bob, not even his id


def test_adapt_reads_what_fit_reads(pal, words):
    """A tie is half an answer for either; a label that is left out is 1."""
    duels = "rater,question,response_a,response_b,winner\nann,how,bad,fine,b\nbob,how,bad,fine,a\n"
    pairs = (
        "user_id,prompt,chosen,rejected,label\nann,how,fine,bad,\nbob,how,bad,fine,1\nann,who,me,you,0.5\n"
    )
    pal("adapt", words, table(duels + "ann,who,me,you,tie\n", "duels.csv"), "--out", "duels.jsonl")
    pal("adapt", words, table(pairs, "pairs.csv"), "--out", "pairs.jsonl")
    assert alike(tastes("duels.jsonl"), tastes("pairs.jsonl"))
    assert {user: taste.comparisons for user, taste in tastes("duels.jsonl").items()} == {"ann": 2, "bob": 1}


def test_ask_sorts_candidates_by_their_bits(pal, on_a_line, rows):
    """1 bit of answer less 0.839942 of noise where margins are +-1; of 0 against 0.5 they are +-0.25."""
    asked = rows(pal("ask", on_a_line, "-", stdin=lines(*CANDIDATES)))
    assert [row["id"] for row in asked] == [1, 2, 0]
    assert asked[0]["bits"] == pytest.approx(0.160058, abs=1e-6)
    together = rows(pal("ask", on_a_line, "-", "-n", 3, "--together", stdin=lines(*CANDIDATES)))
    assert together[0] == asked[0]
    assert sum(row["bits"] for row in together) < sum(row["bits"] for row in asked)
    assert rows(pal("ask", on_a_line, "-", "-n", 2, stdin=lines(*CANDIDATES))) == asked[:2]
    choice = lines({"user_id": "ann", "chosen": [0], "rejected": [1]})
    pal("adapt", on_a_line, "-", "--out", "tastes.jsonl", stdin=choice * 5)
    for options in ((), ("--user", "ann")):  # less is expected of someone known
        known = rows(
            pal("ask", on_a_line, "-", "--taste", "tastes.jsonl", *options, stdin=lines(*CANDIDATES))
        )
        assert 0 < known[0]["bits"] < asked[0]["bits"] / 10


@pytest.fixture
def files(pal, words):
    """Tables and tastes that the faults below name."""
    pal("adapt", words, table(CHOICES, "choices.csv"), "--out", "tastes.jsonl")
    header, first, *_ = CHOICES.splitlines(keepends=True)
    table(CHOICES.replace("user_id,", "").replace("ann,", "").replace("bob,", ""), "someone.csv")
    table(header + first.replace("ann", "carl"), "carl.csv")
    pal("adapt", words, table(header + first, "first.csv"), "--out", "first.jsonl")
    pal("adapt", words, "someone.csv", "--out", "someone.json")
    table(Path("tastes.jsonl").read_text() * 2, "twice.jsonl")
    table(Path("tastes.jsonl").read_text() + Path("someone.json").read_text(), "unnamed.jsonl")
    table("", "empty.jsonl")
    table("{}\n", "other.jsonl")
    table(ROWS)
    table("prompt,response_a,response_b\nhow,fine,bad\n", "pairs.csv")
    return words


def test_attributes_locate_strangers(pal, line, tmp_path, rows):
    """On a line the `north` is at 1 and the south at 0: their log-masses are 50 apart."""
    effects = torch.zeros(3, line.population.evidence_size)
    effects[1], effects[2] = torch.tensor([-50.0, 0.0]), torch.tensor([50.0, 0.0])
    prior = AttributePrior({"place": {"shares": {"north": 0.5, "south": 0.5}}}, effects)
    replace(line, states=line.states.clone(), attributes=prior).save(tmp_path / "told")
    rewards = {}
    for place in ("north", "south"):
        ranked = pal("score", tmp_path / "told", "-", "--attributes", f"place={place}", stdin=lines(*POINTS))
        rewards[place] = [row["reward"] for row in rows(ranked)]
    assert rewards == {"north": near(0, -1, -4), "south": near(-1, 0, -9)}
    choice = {"chosen": [0.0], "rejected": [1.0]}
    told, plain = (
        json.loads(pal("adapt", tmp_path / "told", "-", stdin=lines(row)))
        for row in (choice | {"place": "north"}, choice)
    )
    assert told["comparisons"] == plain["comparisons"] == 1
    assert told["log_likelihood"] != plain["log_likelihood"]


# The command, and what its sentence must say.
FAULTS = [
    ("score rows.csv --user carl", "user must be one of the 40 seen in fitting, .* got 'carl'; adapt to .* `pal adapt"),
    ("score rows.csv --user carl --average", "--average must stand alone"),
    ("score rows.csv --attributes age", "--attributes must be NAME=VALUE, separated by commas, got 'age'"),
    ("score rows.csv --attributes age=3", "attributes are of no use to this model, whose prior does not depend"),
    ("score rows.csv --taste nowhere.jsonl", "nowhere.jsonl cannot be read .*; name what pal adapt wrote"),
    ("score rows.csv --taste empty.jsonl", "must hold a taste, got an empty file"),
    ("score rows.csv --taste other.jsonl", "line 1 of other.jsonl cannot be used: .* must be of the format 'pal-taste'"),
    ("score rows.csv --taste twice.jsonl", "must have one taste of 'ann', got two"),
    ("score rows.csv --taste unnamed.jsonl", "must say the user_id of each of its 3 tastes, got one without"),
    ("score rows.csv --taste tastes.jsonl", "--user must say whose of the 2 tastes"),
    ("score rows.csv --weights package", "--weights must be NAME=PLACE, got 'package'"),
    ("score rows.csv --device abacus", "device must be cpu, or cuda where torch finds a GPU, got 'abacus'"),
    ("score nowhere.csv", r"nowhere.csv cannot be read \(No such file.*; name a file, or - for"),
    ("adapt choices.csv --out t.csv", "tastes are JSON"),
    ("adapt choices.csv --out t.json", "out must end in .jsonl for the tastes of 2 people"),
    ("adapt choices.csv --forget", "--forget needs --taste"),
    ("adapt choices.csv --taste first.jsonl --forget", r"cannot forget 2; .*\(user 'ann'\)"),
    ("adapt carl.csv --taste first.jsonl --forget", "--taste has no taste of 'carl'"),
    ("adapt someone.csv --taste tastes.jsonl", "someone.csv must have a column user_id, since tastes.jsonl names people"),
    ("adapt choices.csv --taste someone.json", "someone.json must say whose taste it is"),
    ("ask pairs.csv --user 'user 1'", "--user needs --taste to ask: of 'user 1', seen in fitting"),
    ("ask pairs.csv --taste tastes.jsonl", "--user must say whose of the 2 tastes in tastes.jsonl"),
    ("ask pairs.csv --taste tastes.jsonl --user carl", "got 'carl'"),
]  # fmt: skip


@pytest.mark.parametrize(("arguments", "sentence"), FAULTS, ids=[command for command, _ in FAULTS])
def test_a_fault_of_the_options_is_one_sentence_and_nothing_is_written(pal, files, arguments, sentence):
    before = set(Path().iterdir())
    command, *others = shlex.split(arguments)
    assert re.search(sentence, pal(command, files, *others, code=1))
    assert set(Path().iterdir()) == before


BAD_ROWS = [
    ("score", "prompt,response\nhow,fine\n,bad\n", r"prompt in row 2 \(line 3\) of bad.csv is empty"),
    ("score", "prompt,response\nhow,fine\nwho, \n", r"response in row 2 \(line 3\) of bad.csv holds nothing but spaces"),
    ("score", "prompt,answer\nhow,fine\n", "lacks the column response; it has 'prompt', 'answer'; rename 'answer' to response"),
    ("score", "prompt,response,reward\nhow,fine,1\n", "bad.csv must not have the column reward"),
    ("score", "prompt,response,user_id\nhow,fine,user 1\nhow,bad,carl\n", r"got 'carl'.*\(row 2 \(line 3\) of bad.csv\)"),
    ("score", "prompt,response,user_id\nhow,fine,\n", r"user_id in row 1 \(line 2\) of bad.csv must be text"),
    ("rank", ROWS + "how are you,well,4\n", r"rows of one prompt must stand together, got row 4 \(line 5\) of bad.csv.*sort"),
    ("adapt", "user_id,prompt,chosen,rejected\nann,how,a,b\nbob,how,c,d\nann,how,e, \n", r"rejected in row 3 of bad.csv holds nothing but spaces"),
    ("adapt", "prompt,chosen,rejected,label\nhow,fine,bad,2\n", r"label in row 1 of bad.csv must lie in \[0, 1\], got '2'; 0.5 is a tie"),
    ("ask", "prompt,response_a,response_b\nhow,fine,fine\n", r"response_b in row 1 \(line 2\) of bad.csv must differ"),
]  # fmt: skip


@pytest.mark.parametrize(("command", "text", "sentence"), BAD_ROWS)
def test_a_bad_row_is_named_and_nothing_is_written(pal, words, command, text, sentence):
    given = table(text, "bad.csv")
    assert re.search(sentence, pal(command, words, given, "--out", "out.jsonl", code=1))
    assert [path.name for path in Path().iterdir()] == ["bad.csv"]


@pytest.mark.parametrize(("cell", "got"), [(None, "nothing"), (["a"], "type list")])
def test_a_cell_that_is_no_text_and_no_vector_is_refused(pal, words, cell, got):
    said = pal("score", words, "-", stdin=lines({"prompt": "how", "response": cell}), code=1)
    assert "response in row 1 of standard input must be a text" in said
    assert got in said


def test_tastes_and_texts_of_another_model_are_refused(pal, words, on_a_line):
    pal("adapt", words, table(CHOICES), "--out", "tastes.jsonl")
    said = pal("score", on_a_line, "-", "--taste", "tastes.jsonl", stdin=lines(*POINTS), code=1)
    assert "line 1 of tastes.jsonl cannot be used: the taste must be of this model" in said
    said = pal("score", on_a_line, table(ROWS), code=1)
    assert "fitted on vectors and names no encoder, so give lists of numbers" in said


def test_a_model_is_told_in_numbers(pal, on_a_line):
    about = json.loads(pal("inspect", on_a_line, "--json"))
    assert (about["model"], about["K"], about["users"], about["users_at_one_prototype"]) == ("A", 2, 2, 2)
    assert about["prompts"] is None
    assert about["responses"] == {"encoder": None, "dim": 1}
    assert about["prototypes"][0] == {
        "prototype": 1,
        "mean_weight": 0.5,
        "sd_of_weight": 0.5,
        "nearest_users": 1,
    }


def test_a_model_is_told_in_words(pal, words, on_a_line):
    said = pal("inspect", words)
    assert f"{'prompts':<23} hashed-words, 256 numbers" in said
    assert f"{'users':<23} 40\n" in said
    assert "prototype  mean_weight  sd_of_weight  nearest_users" in said
    assert said.count("#") > 10
    assert f"{'prompts':<23} not read" in pal("inspect", on_a_line)


def test_responses_are_compared_within_their_prompt(pal, words):
    rows = [("q", "a"), ("q", "b"), ("lonely", "c")]
    given = "".join(json.dumps({"prompt": p, "response": r}) + "\n" for p, r in rows)
    about = json.loads(pal("inspect", words, "-", "--json", stdin=given))
    for prototype in about["prototypes"]:
        ends = [*prototype["likes"], *prototype["dislikes"]]
        assert {item["prompt"] for item in ends} <= {"q"}
        assert sum(item["above"] for item in ends) == pytest.approx(0, abs=1e-3)
    said = pal("inspect", words, "-", stdin=given.splitlines(keepends=True)[2], code=1)
    assert "some prompt must have two responses or more, got one each" in said
