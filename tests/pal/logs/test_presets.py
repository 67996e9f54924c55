"""Presets of public data sets, each on five rows after its published schema."""

import json
from pathlib import Path

import pytest

from pal import PalError
from pal.logs.read import PRESETS
from pal.logs.shapes import read_log


def said(role, content):
    return {"role": role, "content": content}


def asked(content):
    return [said("user", "why?"), said("assistant", content)]


def prism(n, won, lost):
    """Half a pair of utterances a row."""
    text, score = ((won, 80), (lost, 20))[n % 2]
    return {"utterance_id": n, "interaction_id": n // 2, "conversation_id": "c", "user_id": f"u{n // 2}", "turn": 0,
            "within_turn_id": n % 2, "conversation_type": "unguided", "user_prompt": "why?", "model_response": text,
            "model_name": "m", "score": score, "if_chosen": n % 2 == 0}  # fmt: skip


def dices(n, won, lost):
    text, unsafe = ((won, "No"), (lost, "Yes"))[n % 2]
    return {"id": n, "rater_id": f"u{n // 2}", "rater_gender": "Man", "rater_age": "gen z", "context": "why?",
            "response": text, "degree_of_harm": "Benign", "Q_overall": unsafe}  # fmt: skip


def jester(n, won, lost):
    if n < 2:
        return {"joke_id": n, "text": (won, lost)[n]}
    return {"user_id": n // 2 - 1, "joke_id": n % 2, "rating": (9.5, -3.25)[n % 2]}


def community(n, won, lost):
    texts = [won, lost] if n % 2 else [lost, won]
    return {"conversation_id": n, "annotator_id": f"u{n}", "assigned_lang": "en", "annotator_country": "in",
            "annotator_age": "18-30", "first_turn_prompt": "why?", "first_turn_response_a": texts[0],
            "first_turn_response_b": texts[1], "first_turn_response_c": "EMPTY STRING", "first_turn_response_d": None,
            "first_turn_preferred_response": "response_a" if n % 2 else "response_b",
            "second_turn_prompt": "and?"}  # fmt: skip


def collective(n, won, lost):
    return {"prompt_id": n, "prompt": {"messages": [said("user", "why?")]},
            "responses": [{"response_index": "A", "messages": [said("assistant", lost)]},
                          {"response_index": "B", "messages": [said("assistant", won)]}],
            "metadata": {"assessments": [{"annotator_id": f"u{n}", "ranking_blocks": {
                "personal": [{"ranking": "B>A"}], "world": [{"ranking": "A>B"}]}}]}}  # fmt: skip


def multipref(n, won, lost):
    return {"comparison_id": n, "category": "Open QA", "source": "s", "text": "why?", "model_a": "m", "model_b": "n",
            "completion_a": won, "completion_b": lost,
            "normal_worker_annotations": [{"evaluator": f"u{n}", "overall_pref": "A-is-clearly-better",
                                           "helpful_pref": "Tie", "time_spent": 9}],
            "expert_worker_annotations": [{"evaluator": "x", "overall_pref": "B-is-clearly-better"}]}  # fmt: skip


# The row of each number, of an answer that won and one that lost; ten where two make a comparison.
ROWS = {
    "prism": prism,
    "personal_reward_bench": lambda n, won, lost: {
        "context": [said("user", "why?")], "chosen": said("assistant", won), "rejected": said("assistant", lost),
        "user_id": f"u{n}", "split": "train", "chosen_score": 80, "rejected_score": 20, "prediction_x": 0.5},
    "community_alignment": community,
    "collective_alignment": collective,
    "multipref": multipref,
    "chatbot_arena": lambda n, won, lost: {
        "question_id": n, "model_a": "m", "model_b": "n", "winner": "model_a", "judge": f"u{n}", "turn": 1,
        "conversation_a": asked(won), "conversation_b": asked(lost), "anony": True, "tstamp": 1.6e9},
    "hpdv2_test": lambda n, won, lost: {
        "prompt": "why?", "image_path": [won, lost], "rank": [1, 2],
        "raw_annotations": [{"rank": [1, 2], "user_hash": f"u{n}"}]},
    "dices": dices,
    "personal_llm": lambda n, won, lost: {
        "prompt": "why?", "response_1": won, "response_2": lost,
        **{f"response_{i}_u{m}": 3.0 / i for i in (1, 2) for m in (range(5) if n == 0 else [])}},
    "shp": lambda n, won, lost: {
        "post_id": n, "domain": f"u{n}", "history": "why?", "human_ref_A": lost, "human_ref_B": won, "labels": n % 1,
        "score_A": 3, "score_B": 9, "score_ratio": 3.0},
    "jester": jester,
}  # fmt: skip
TWO_ROWS, NO_PROMPTS = ("prism", "dices", "jester"), ("dices", "jester")


@pytest.mark.parametrize("name", PRESETS)
def test_preset_reads_rows_of_its_schema(name, tmp_path):
    n_rows = 10 + 2 * (name == "jester") if name in TWO_ROWS else 5
    rows = [ROWS[name](n, "so", "no") for n in range(1 if name == "personal_llm" else n_rows)]
    (tmp_path / "rows.jsonl").write_text("\n".join(map(json.dumps, rows)))
    log = read_log(f"{name}:{tmp_path / 'rows.jsonl'}")
    found = log.pairs.select("user_id", "prompt", "chosen", "rejected").sort("user_id").rows()
    users = [str(n) for n in range(5)] if name == "jester" else [f"u{n}" for n in range(5)]
    assert found == [(user, None if name in NO_PROMPTS else "why?", "so", "no") for user in users]
    assert PRESETS[name].about in log.said


def test_a_set_that_the_hub_has_not_is_asked_for():
    with pytest.raises(
        PalError, match=r"^dices must be read from a copy, as dices:PATH, got no path; CC BY 4\.0"
    ):
        read_log("dices")


def test_every_preset_is_in_the_docs_with_its_terms():
    assert set(ROWS) == set(PRESETS)
    page = (Path(__file__).parents[3] / "docs/logs.md").read_text(encoding="utf-8")
    for name, preset in PRESETS.items():
        assert f"| `{name}` | {preset.about} |" in page
