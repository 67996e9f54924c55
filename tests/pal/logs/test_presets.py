"""Presets of public data sets, each on a few rows after its published schema."""

import json

import pytest

from pal.logs.presets import PRESETS
from pal.logs.shapes import read_log


def said(role, content):
    return {"role": role, "content": content}


def asked(content):
    return [said("user", "why?"), said("assistant", content)]


ROWS = {
    "personal_reward_bench": [
        {"context": [said("user", "why?")], "chosen": said("assistant", "so"), "rejected": said("assistant", "no"),
         "user_id": "user7", "split": "train", "chosen_score": 80, "rejected_score": 20, "prediction_x": 0.5},
    ],
    "chatbot_arena": [
        {"question_id": "9f", "model_a": "m", "model_b": "n", "winner": "model_a", "judge": "user7", "turn": 1,
         "conversation_a": asked("so"), "conversation_b": asked("no"), "anony": True, "tstamp": 1.6e9},
    ],
    "shp": [
        {"post_id": "p", "domain": "user7", "history": "why?", "human_ref_A": "no", "human_ref_B": "so", "labels": 0,
         "score_A": 3, "score_B": 9, "score_ratio": 3.0},
    ],
    "collective_alignment": [
        {"prompt_id": "p", "prompt": {"messages": [said("user", "why?")]},
         "responses": [{"response_index": "A", "messages": [said("assistant", "no")]},
                       {"response_index": "B", "messages": [said("assistant", "so")]}],
         "metadata": {"assessments": [
             {"annotator_id": "user7", "ranking_blocks": {"personal": [{"ranking": "B>A"}], "world": []}}]}},
    ],
}  # fmt: skip


@pytest.mark.parametrize("name", PRESETS)
def test_preset_reads_rows_of_its_schema(name, tmp_path, monkeypatch):
    (tmp_path / "rows.jsonl").write_text("\n".join(map(json.dumps, ROWS[name])))
    local = PRESETS[name].__class__(**{**vars(PRESETS[name]), "source": str(tmp_path / "rows.jsonl")})
    monkeypatch.setitem(PRESETS, name, local)
    monkeypatch.chdir(tmp_path)
    log = read_log(name)
    assert log.pairs.select("user_id", "prompt", "chosen", "rejected").rows() == [
        ("user7", "why?", "so", "no")
    ]
    assert local.about in log.said
