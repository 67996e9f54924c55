"""Rewards for trainers: OpenRLHF's remote protocol, and verl's custom reward function."""

import numpy as np
import pytest

from pal.service.requests import split_query
from pal.serving.aggregates import Aggregate
from pal.serving.policy_rewards import compute_score

from .conftest import served

CHATML = "<|im_start|>user\nWhat now?<|im_end|>\n<|im_start|>assistant\n"
TEXTS = ["Tea, please.", "Coffee, quick."]


@pytest.mark.parametrize(
    ("prompt", "response"),
    [
        ("What now? ", "Tea."),
        (CHATML, "Tea.<|im_end|>"),
        ("<|start_header_id|>user<|end_header_id|>\n\nWhat now?<|eot_id|>", "Tea.<|eot_id|>"),
        ("[INST] What now? [/INST]", " Tea.</s>"),
    ],
)
def test_templates_are_taken_off(prompt, response):
    assert split_query(f"<s>{prompt}{response}", prompt) == ("What now?", "Tea.")


def test_openrlhf_gets_rewards_as_its_own_server_gives_them(start, worded):
    client = start(worded=worded)
    body = {
        "query": [CHATML + text + "<|im_end|>" for text in TEXTS],
        "prompts": [CHATML] * 2,
        "labels": ["user 1", "user 2"],
    }
    for address, user in (
        ("", None),
        ("?user_id=user%203", "user 3"),
        ("?labels_are_users=true", ["user 1", "user 2"]),
    ):
        answer = client.post(f"/v1/openrlhf{address}", json=body).json()
        expected = worded.score("What now?", TEXTS, user=user).tolist()
        assert answer == {
            "rewards": pytest.approx(expected, abs=1e-5),
            "scores": answer["rewards"],
            "extra_logs": {},
        }
    silent = {**body, "query": [CHATML + "Tea, please.", CHATML + "<|im_end|>"]}
    rewards = client.post("/v1/openrlhf", json=silent).json()["rewards"]
    assert rewards[0] == rewards[1]
    wrong = {**body, "prompts": ["another", "another"]}
    assert client.post("/v1/openrlhf", json=wrong).status_code == 422
    assert client.post("/v1/openrlhf?aggregate=worst", json=body).status_code == 200


def test_verl_gets_the_same_rewards_in_process_and_from_the_service(start, worded, tmp_path):
    client = start(worded=worded)
    extra = [{"prompt": "What now?", "user_id": f"user {number}"} for number in (1, 2)]
    expected = worded.score("What now?", TEXTS, user=["user 1", "user 2"]).tolist()
    worst = Aggregate("worst").states(worded)[0]
    least = worded.score_states("What now?", TEXTS, worst).amin(1).tolist()
    with served(client.app) as url:
        for where in ({"model": str(tmp_path / "worded")}, {"url": url}):
            one = compute_score("data", TEXTS[0], None, extra[0], **where)
            assert one == pytest.approx(expected[0], abs=1e-5)
            batch = {
                "data_sources": [""] * 2,
                "solution_strs": TEXTS,
                "ground_truths": [None] * 2,
                "extra_infos": np.array(extra),  # as verl does
            }
            assert compute_score(**batch, **where) == pytest.approx(expected, abs=1e-5)
            assert compute_score(**batch, aggregate="worst", **where) == pytest.approx(least, abs=1e-5)
        with pytest.raises(ValueError, match=r"answered 404: .*user_id must be of someone"):
            compute_score("data", "a", None, {"prompt": "b", "user_id": "nobody"}, url=url)
    with pytest.raises(ValueError, match="one of model and url"):
        compute_score("data", "a")
