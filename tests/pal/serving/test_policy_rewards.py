"""Reward functions for policies, TRL's conversations as texts, and the best of n."""

import pytest
import torch

from pal.errors import PalError
from pal.serving.aggregates import Aggregate
from pal.serving.inputs import ItemEmbeddings
from pal.serving.policy_rewards import PolicyReward, best_of_n, completion_text, prompt_text
from pal.users.taste import Taste

PROMPTS = ["how are you", "how are you", "who is it"]
TEXTS = ["fine", "not so well", "the cat"]


def near(tensor):
    return pytest.approx(tensor.tolist(), abs=1e-6)


def test_each_row_is_rewarded_by_its_own_user(worded):
    taste = worded.adapt([("q", "fine", "not so well")])
    reward = PolicyReward(worded, column="user_id", tastes={"ann": taste})
    users = ["user 3", "ann", "user 5"]
    found = reward(prompts=PROMPTS, completions=TEXTS, completion_ids=[[1]] * 3, user_id=users)
    assert found == near(worded.score(PROMPTS, TEXTS, user=["user 3", taste, "user 5"]))
    assert reward.__name__ == "pal_personal"


def test_ids_may_be_whole_numbers(worded):
    reward = PolicyReward(worded, column="user_id", tastes={"7": worded.states[7]})
    assert reward(PROMPTS, TEXTS, user_id=[7] * 3) == near(worded.score(PROMPTS, TEXTS, user="user 7"))


def said(role, content):
    return {"role": role, "content": content}


def test_texts_of_conversations():
    assert prompt_text(" how? ") == completion_text(" how? ") == " how? "
    talk = [said("system", "be kind"), said("user", "how?"), said("assistant", "so"), said("user", "why?")]
    assert prompt_text(talk) == "how?\n\nso\n\nwhy?"
    call = said("assistant", None) | {"tool_calls": []}
    assert completion_text([call, said("tool", "42"), said("assistant", "it is 42")]) == "it is 42"
    assert completion_text([]) == ""
    parts = [{"type": "text", "text": "a "}, {"type": "text", "text": "b"}]
    assert completion_text([said("assistant", parts)]) == "a b"


@pytest.mark.parametrize(
    ("given", "message"),
    [
        (7, "completions.3. must be a text or a list of messages, got int"),
        (["hello"], "messages with a role and a content, got str"),
        ([said("assistant", 7)], "contents of text, got int"),
        ([said("assistant", [{"type": "image"}])], "text alone, got a part of the kind 'image'"),
    ],
)
def test_what_is_no_text_is_refused(given, message):
    with pytest.raises(PalError, match=message):
        completion_text(given, "completions[3]")


def test_aggregates_serve_the_population(worded):
    each = torch.stack([worded.score(PROMPTS, TEXTS, user=point) for point in worded.population.points])
    assert PolicyReward(worded, Aggregate("mean"))(PROMPTS, TEXTS) == near(worded.population.mass @ each)
    prototypes = torch.stack([worded.score(PROMPTS, TEXTS, user=point) for point in torch.eye(3)])
    worst = PolicyReward(worded, Aggregate("worst"))
    assert worst(PROMPTS, TEXTS) == near(prototypes.amin(0))
    assert PolicyReward(worded, Aggregate("quantile", share=0))(PROMPTS, TEXTS) == near(each.amin(0))
    assert (worst.__name__, PolicyReward(worded, Aggregate("quantile", share=0.1)).__name__) == (
        "pal_worst",
        "pal_quantile_0.1",
    )


def test_silence_never_pays_and_is_counted(worded):
    logged = {}
    reward = PolicyReward(worded, None)
    found = reward(PROMPTS, ["fine", "", " \n"], log_metric=logged.__setitem__)
    assert found == near(worded.score("how are you", ["fine"] * 3))
    found = reward([*PROMPTS, "q"], [*TEXTS, ""])
    assert found[3] == min(found[:3])
    assert (reward.silent, logged) == (3, {"pal/silent": 2.0})
    assert reward(PROMPTS, ["", "", ""]) == [0, 0, 0]
    assert reward([], []) == []


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"user_id": None}, r"must have a column 'user_id' of users, got domain; add it"),
        ({"user_id": ["user 1", "bob", "user 2"]}, "user must be one of the 40 seen in fitting, got 'bob'; adapt"),
        ({"user_id": ["user 1", None, "user 2"]}, r"user_id\[1\] must be a user's id, got None"),
        ({"user_id": ["user 1"]}, "user_id must be a list of 3, one per completion"),
        ({"completions": ["fine"]}, "prompts must be as many as completions, 1, got 3"),
        ({"prompts": ["a", "", "b"]}, r"prompts\[1\] is empty"),
    ],
)  # fmt: skip
def test_rewards_are_refused_where_they_would_be_another_s(worded, change, message):
    given = {
        "prompts": PROMPTS,
        "completions": TEXTS,
        "user_id": ["user 1"] * 3,
        "domain": ["x"] * 3,
    } | change
    with pytest.raises(PalError, match=message):
        PolicyReward(worded, column="user_id")(**given)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda m: PolicyReward(m, "bob"), "seen in fitting, got 'bob'"),
        (lambda m: PolicyReward(m, column="user_id", tastes={"ann": Taste("0" * 32, "points", (0.0,) * 40, 1)}), "user 'ann': the taste must be of"),
        (lambda m: PolicyReward(m, Aggregate("worst", ["bob"])), "got 'bob'"),
    ],
)  # fmt: skip
def test_what_cannot_reward_is_refused_before_training(worded, make, message):
    with pytest.raises(PalError, match=message):
        make(worded)


def test_a_reward_that_is_not_finite_stops_the_training(line):
    line.head.prototypes.data = torch.tensor([[3e38], [3e38]])
    vectors = lambda items, *_, **__: ItemEmbeddings(torch.ones(len(items), 1))  # noqa: E731
    line.input_encoder.encode = vectors
    with pytest.raises(PalError, match=r"completions\[1\] must have a finite reward, got -inf"):
        PolicyReward(line, "one")(["p", "p"], ["", "x"])


def test_the_best_for_all_by_hand(line):
    """Of 0, 0.5 and 3 the worst off get -1, -0.25 and -9."""
    items = torch.tensor([[0.0], [0.5], [3.0]])
    found = best_of_n(line, None, items, Aggregate("worst"))
    assert (found.index, found.reward) == (1, -0.25)
