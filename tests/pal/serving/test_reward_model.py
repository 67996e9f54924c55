"""Scores, ranks, tastes and questions of a reward model, by hand where numbers are small."""

import math
import pickle

import pytest
import torch

from pal.errors import PalError
from pal.serving.inputs import Preferences
from pal.serving.reward_model import Ranked
from pal.users.taste import Taste

ZERO, ONE = torch.tensor([0.0]), torch.tensor([1.0])
BOTH = torch.tensor([[0.0], [1.0]])
SIGMOID = 1 / (1 + math.exp(-1))


def near(*numbers):
    return pytest.approx(list(numbers), abs=1e-6)


def test_rewards_by_hand(line):
    """-(x - a)^2: `zero` stands at 0, the average user at 0.5."""
    assert line.score(None, BOTH, user="zero").tolist() == near(0, -1)
    assert line.score(None, BOTH).tolist() == near(-0.25, -0.25)


def test_users_may_be_ids_tastes_weights_or_one_for_each_row(line):
    taste = line.adapt([(None, ZERO, ONE)])
    p = SIGMOID  # odds e : 1
    torch.testing.assert_close(line.score(None, ZERO, user=taste), torch.tensor([-((1 - p) ** 2)]))
    assert line.score(None, BOTH, user=torch.tensor([0.0, 1.0])).tolist() == near(-1, 0)
    assert line.score(None, BOTH, user=torch.eye(2)).tolist() == near(0, 0)
    assert line.score(None, BOTH, user=["one", "zero"]).tolist() == near(-1, -1)
    several = line.score(None, BOTH.repeat(2, 1), user=("one", None, taste, torch.tensor([0.0, 1.0])))
    torch.testing.assert_close(several, torch.tensor([-1, -0.25, -((1 - p) ** 2), 0.0]))


def test_raw_items_score_as_their_embeddings(worded):
    prompts, responses = ["how are you", "who is it", "how are you"], ["fine", "me", "well and you"]
    vectors = [
        worded.input_encoder.encode(items, side, 256).tensor()
        for items, side in ((prompts, "prompts"), (responses, "responses"))
    ]
    for user in ("user 3", None):
        torch.testing.assert_close(
            worded.score(prompts, responses, user=user), worded.score(*vectors, user=user)
        )
    expected = worded.head.reward(*vectors, worded.state_of(None).expand(3, 3)).detach()
    torch.testing.assert_close(worded.score(*vectors), expected)


def test_probability_by_hand(line):
    """Margins +1 and -1, and 0 at the average user: the sigmoid of these."""
    found = [line.probability(None, ZERO, ONE, user=user).item() for user in ("zero", "one", None)]
    assert found == pytest.approx([SIGMOID, 1 - SIGMOID, 0.5])
    each = line.probability(None, BOTH, BOTH.flip(0), user=["zero", "zero"])
    torch.testing.assert_close(each, torch.tensor([SIGMOID, 1 - SIGMOID]))


def test_ranking_by_hand(line):
    items = [torch.tensor([x]) for x in (1.0, 0.0, 3.0, -1.0)]
    ranked = line.rank(None, items, user="zero")
    assert [(type(one), one.index, one.response) for one in ranked] == [
        (Ranked, index, items[index]) for index in (1, 0, 3, 2)
    ]
    assert [one.reward for one in ranked] == near(0, -1, -1, -9)


def test_adapting_by_hand(line):
    """Two choices of 0: odds e^2 for `zero`; a tie changes nothing."""
    p = math.exp(2) / (math.exp(2) + 1)
    torch.testing.assert_close(line.adapt([(None, ZERO, ONE)] * 2).state, torch.tensor([p, 1 - p]))
    torch.testing.assert_close(line.adapt([(None, ZERO, ONE, 0.5)]).state, torch.tensor([0.5, 0.5]))
    nobody = line.adapt([])
    assert (nobody.comparisons, nobody.state.tolist()) == (0, [0.5, 0.5])


def test_asking_by_hand(line):
    """p = sigmoid(+-1): 1 bit of answer less 0.839942 of noise; of 0 against 0.5 the margins are +-0.25."""
    asked = line.ask([(None, ZERO, torch.tensor([0.5])), (None, ZERO, ONE), (None, ONE, ZERO)])
    assert [one.index for one in asked] == [1, 2, 0]
    assert asked[0].bits == pytest.approx(0.160058, abs=1e-6)
    assert line.ask([(None, ZERO, ONE)] * 3, n=2) == [asked[0]._replace(index=at) for at in (0, 1)]


def test_columns_of_embeddings_count_as_rows_do(line, monkeypatch):
    columns = Preferences(None, torch.zeros(2, 1), torch.ones(2, 1))
    assert line.adapt(columns) == line.adapt([(None, ZERO, ONE)] * 2)
    tied = Preferences(None, torch.zeros(2, 1), torch.ones(2, 1), [0.0, 0.0])
    located = line.adapt_many({"ann": columns, "bob": [], "cid": tied})
    assert located["bob"].state.tolist() == [0.5, 0.5]
    torch.testing.assert_close(located["ann"].state, located["cid"].state.flip(0))
    assert line.adapt_many({}) == {}
    monkeypatch.setattr("pal.serving.reward_model.EMBEDDINGS_AT_ONCE", 3)
    assert set(line.adapt_many({str(number): columns for number in range(7)}).values()) == {
        line.adapt(columns)
    }


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"prompts": None}, "prompts must be given, got None"),
        ({"prompts": ["a", "b", "c"]}, "prompts must be one for all responses, or one for each of the 2, got 3"),
        ({"user": "bob"}, r"one of the 40 seen in fitting, got 'bob'.*model\.adapt\(comparisons\)"),
        ({"user": torch.zeros(2)}, r"state must be 3 numbers for each state, got the shape \(1, 2\)"),
        ({"user": torch.eye(3)}, "users' states must be 2, one per response, got 3"),
        ({"user": ["user 1"]}, "a list of 2, one per response, got 1"),
        ({"user": Taste("0" * 32, "points", (0.0,) * 40, 1)}, "the taste must be of this model"),
    ],
)  # fmt: skip
def test_score_refuses_what_it_cannot_use(worded, change, message):
    given = {"prompts": ["a", "b"], "responses": ["c", "d"], "user": None} | change
    with pytest.raises(PalError, match=message):
        worded.score(**given)


def test_errors_carry_the_item_that_is_meant(worded):
    table = torch.zeros(20, 256)
    table[17, 200] = math.inf
    with pytest.raises(PalError, match=r"prompts\[17\] must be finite") as caught:
        worded.score(table, torch.zeros(20, 256))
    assert (caught.value.column, caught.value.row) == ("prompts", 17)
    with pytest.raises(PalError) as caught:
        worded.adapt_many({"ann": [("q", "a", "b")], "bob": [("q", "a", "b"), ("q", "a", "")]})
    error = caught.value
    assert str(error) == f"rejected of comparison 1 of user 'bob' {error.problem}"
    assert (error.column, error.row, error.user) == ("rejected", 1, "bob")
    with pytest.raises(PalError, match=r"got 2; .*\(user 'bob'\)") as caught:
        worded.adapt_many({"ann": [("q", "a", "b")], "bob": [("q", "a", "b", 2)]})
    assert (caught.value.column, caught.value.row, caught.value.user) == ("label", 0, "bob")


@pytest.mark.parametrize(
    ("comparisons", "message"),
    [
        ([("q", "a", "b"), ("q", "a", "a")], "rejected of comparison 1 must differ from the chosen response"),
        ([("q", torch.ones(256), torch.ones(256))], "rejected of comparison 0 must differ"),
        ([("q", "a", torch.zeros(256))], "all embeddings of one width or none"),
    ],
)
def test_adapt_refuses_comparisons_that_it_cannot_use(worded, comparisons, message):
    with pytest.raises(PalError, match=message):
        worded.adapt(comparisons)


@pytest.mark.parametrize("size", [1e20, 1e38])
def test_a_reward_that_is_not_finite_is_refused_by_item(line, size):
    with pytest.raises(PalError, match=r"responses\[1\] must have a finite reward, got -inf"):
        line.score(None, torch.tensor([[0.0], [size]]))


def test_states_off_the_simplex_are_refused(line):
    for state in ([5.0, -3.0], [0.0, 0.0]):
        with pytest.raises(PalError, match="must be shares that sum to 1"):
            line.score(None, torch.zeros(2, 1), user=torch.tensor(state))


def test_a_used_model_can_be_sent_to_another_process_and_be_a_key(worded):
    expected = worded.score("q", ["a", "b"])
    assert torch.equal(pickle.loads(pickle.dumps(worded)).score("q", ["a", "b"]), expected)
    assert {worded: 1}[worded] == 1
