"""`pal ask`: the pairs whose answers tell most."""

import json

import pytest

PAIRS = [([0.0], [0.5]), ([0.0], [1.0]), ([1.0], [0.0])]
CANDIDATES = "".join(
    json.dumps({"response_a": a, "response_b": b, "id": at}) + "\n" for at, (a, b) in enumerate(PAIRS)
)
COMPARISON = '{"user_id": "ann", "chosen": [0], "rejected": [1]}\n'


def test_candidates_stand_in_order_with_their_bits(pal, on_a_line, rows, monkeypatch):
    """1 bit of answer less 0.839942 of noise where margins are +-1; of 0 against 0.5 they are +-0.25."""
    found = rows(pal("ask", on_a_line, "-", stdin=CANDIDATES))
    assert [row["id"] for row in found] == [1, 2, 0]
    assert found[0]["bits"] == pytest.approx(0.160058, abs=1e-6)
    monkeypatch.setattr("pal.cli.serving.ROWS", 1)
    assert rows(pal("ask", on_a_line, "-", stdin=CANDIDATES)) == found
    assert rows(pal("ask", on_a_line, "-", "-n", 2, stdin=CANDIDATES)) == found[:2]


def test_someone_known_has_less_to_tell(pal, on_a_line, rows):
    pal("adapt", on_a_line, "-", "--out", "tastes.jsonl", stdin=COMPARISON * 5)
    before = rows(pal("ask", on_a_line, "-", stdin=CANDIDATES))[0]["bits"]
    for options in ((), ("--user", "ann")):
        found = rows(pal("ask", on_a_line, "-", "--taste", "tastes.jsonl", *options, stdin=CANDIDATES))
        assert 0 < found[0]["bits"] < before / 10


def test_questions_to_be_put_together_repeat_nothing(pal, on_a_line, rows):
    alone = rows(pal("ask", on_a_line, "-", "-n", 3, stdin=CANDIDATES))
    together = rows(pal("ask", on_a_line, "-", "-n", 3, "--together", stdin=CANDIDATES))
    assert together[0]["id"] == alone[0]["id"]
    assert together[0]["bits"] == pytest.approx(alone[0]["bits"])
    assert sum(row["bits"] for row in together) < sum(row["bits"] for row in alone)


def test_what_cannot_be_asked_is_one_sentence(pal, words, on_a_line):
    same = '{"prompt": "q", "response_a": "x", "response_b": "x"}\n'
    said = pal("ask", words, "-", stdin=same, code=1)
    assert (
        "response_a in line 1 of standard input and response_b in line 1 of standard input must differ"
        in said
    )
    assert "n must be 1 to 10" in pal("ask", on_a_line, "-", "-n", 11, "--together", stdin=CANDIDATES, code=1)
    assert "'zero', seen in fitting" in pal("ask", on_a_line, "-", "--user", "zero", stdin=CANDIDATES, code=1)
    assert "got 'carl'; adapt" in pal("ask", on_a_line, "-", "--user", "carl", stdin=CANDIDATES, code=1)
    both = COMPARISON + COMPARISON.replace("ann", "bob")
    pal("adapt", on_a_line, "-", "--out", "tastes.jsonl", stdin=both)
    tastes = ("--taste", "tastes.jsonl")
    assert "whose of the 2 tastes" in pal("ask", on_a_line, "-", *tastes, stdin=CANDIDATES, code=1)
    assert "got 'carl'" in pal("ask", on_a_line, "-", *tastes, "--user", "carl", stdin=CANDIDATES, code=1)
    pal("ask", on_a_line, "-", "-n", 0, stdin=CANDIDATES, code=2)
