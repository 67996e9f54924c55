"""`pal inspect`: what a model is."""

import json

import pytest


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
    assert "prompts     hashed-words, 256 numbers" in said
    assert "40 seen in fitting" in said
    assert said.count("#") > 10
    assert "prompts     are not read" in pal("inspect", on_a_line)


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
