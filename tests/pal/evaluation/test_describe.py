"""Descriptions in words: log-odds by hand, likes against the average, directions, and the six Persona interests."""

import json
import math
from pathlib import Path

import numpy as np
import pytest
import torch

from pal.comparisons import Comparisons, Embeddings
from pal.config import HeadConfig, preset
from pal.encoders.registry import describe as describe_encoder
from pal.errors import PalError
from pal.evaluation.describe import (
    chances,
    describe,
    describe_rewards,
    feature_contrasts,
    main_directions,
    without_opening,
    word_contrasts,
)
from pal.fitting.trainer import fit
from pal.models.base import make_model
from pal.serving.inputs import InputEncoder
from pal.serving.reward_model import RewardModel
from pal.users.gaussian import Gaussian

SAMPLE = Path(__file__).parents[3] / "data/sample/persona"


def test_the_log_odds_of_a_word_with_their_prior():
    """A word of 8 of 10 liked texts and none of 10 others; its prior share is 8.5 / 21, worth 10 texts.

    Odds (8 + 4.0476) / (2 + 5.9524) and 4.0476 / (10 + 5.9524): ln 1.51497 - ln 0.253731 = 1.78691, with the
    error sqrt(1/12.0476 + 1/7.9524 + 1/4.0476 + 1/15.9524) = 0.71988; one word, so 1.95996 of these.
    """
    words = [{"sea"}] * 8 + [set()] * 12
    (sea,) = word_contrasts(words, np.arange(20) < 10)
    assert sea == (
        "sea",
        pytest.approx(1.7869, abs=1e-3),
        pytest.approx(0.376, abs=2e-3),
        pytest.approx(3.198, abs=2e-3),
    )


def test_words_that_come_by_chance_are_not_told():
    draw = np.random.default_rng(0)
    told = 0
    for _ in range(40):
        words = [{f"w{w}" for w in np.flatnonzero(draw.random(50) < 0.2)} for _ in range(200)]
        told += bool(word_contrasts(words, draw.random(200) < 0.3))
    assert told <= 4  # about one in forty, as told from one side


def test_longer_answers_that_are_liked_are_said_to_be_longer():
    texts = ["word " * n for n in range(1, 41)]
    found = feature_contrasts(texts, np.arange(40.0), np.repeat(np.arange(20), 2))
    assert (
        found == []
    )  # within each prompt the longer is no more liked than elsewhere: all differ by one word
    (longer,) = feature_contrasts(texts, np.arange(40.0), np.zeros(40, int))
    assert longer[:2] == ("longer", 1.0)
    assert 0.99 < longer.low <= longer.high <= 1


def test_chances_against_the_others_of_a_prompt():
    """Rewards 0, ln 3 and 0 of one prompt, and one alone: sigmoid(ln 3) = 3/4."""
    rewards = torch.tensor([[0.0], [math.log(3)], [5.0], [0.0]])
    found = chances(rewards, torch.tensor([0, 0, 1, 0]))
    assert found[:, 0].tolist() == pytest.approx([(0.25 + 0.5) / 2, 0.75, 0.0, (0.25 + 0.5) / 2])


def test_a_gaussian_populations_first_direction_is_that_of_rewards_and_not_of_numbers():
    """Rewards vary by 2 x 1 along the first number of the state, and by 2 x 100 / 4 along the second."""
    features = torch.tensor([[1.0, 0.0], [-1.0, 0.0], [0.0, 10.0], [0.0, -10.0]])
    population = Gaussian(torch.zeros(2), torch.diag(torch.tensor([1.0, 0.25])), torch.zeros(1))
    along, share = main_directions(
        population, lambda states: features @ states.T, torch.zeros(4, dtype=torch.long)
    )
    assert torch.allclose(along.abs(), torch.tensor([[0.0, 0.5], [1.0, 0.0]]), atol=1e-6)
    assert share.tolist() == pytest.approx([50 / 52, 2 / 52])


def test_directions_are_described_where_there_are_no_prototypes():
    texts = [f"{'please do' if n % 2 else 'never'} number {n // 2}" for n in range(60)]
    features = torch.tensor([[float(n % 2), 0.0] for n in range(60)])
    population = Gaussian(torch.zeros(2), 9 * torch.eye(2), torch.zeros(1))
    head = make_model(HeadConfig(model="linear", inputs="response", latent=1), prompt_dim=0, response_dim=2)
    (found,) = describe_rewards(
        head, population, torch.zeros(5, 2), lambda states: features @ states.T,
        torch.arange(60) // 2, texts, [f"q{n // 2}" for n in range(60)],
    )  # fmt: skip
    assert (found.name, found.share) == ("direction 1", 1.0)
    assert {word.name for word in found.liked_words} | {word.name for word in found.disliked_words} == {
        "please",
        "do",
        "never",
    }
    assert found.likes[0].above > 0.4


def test_one_person_or_prototypes_of_a_model_and_the_refusal_of_single_responses(worded):
    prompts = [f"prompt {n // 3}" for n in range(30)]
    responses = [f"{word} {n}" for n, word in enumerate(["sea", "sun", "sand"] * 10)]
    assert [each.name for each in describe(worded, responses, prompts)] == [
        f"prototype {k}" for k in (1, 2, 3)
    ]
    (person,) = describe(worded, responses, prompts, user="user 3", number=2)
    assert (person.name, person.share, len(person.likes)) == ("user 3", None, 2)
    assert person.likes[0].above >= person.likes[1].above > 0 > person.dislikes[0].above
    with pytest.raises(PalError, match="some prompt must have two responses or more"):
        describe(worded, responses[:2], ["a", "b"])


def test_a_shared_opening_is_left_out_of_prompts():
    assert without_opening(["Say yes?\none", "Say yes?\ntwo"]) == ["one", "two"]
    assert without_opening(["alone", "alone"]) == ["alone", "alone"]


@pytest.mark.slow
def test_the_six_interests_of_persona_are_named_from_the_statements_alone():
    """People who say yes to what agrees with their interest and no to all else, of 60 statements each."""
    interests = sorted(path.stem.removeprefix("interest-in-") for path in SAMPLE.glob("*.jsonl"))
    rows = [
        (owner, json.loads(line))
        for owner, interest in enumerate(interests)
        for line in (SAMPLE / f"interest-in-{interest}.jsonl").read_text().splitlines()[:60]
    ]
    statements, owner = [row["statement"] for _, row in rows], torch.tensor([owner for owner, _ in rows])
    agrees = torch.tensor([row["answer_matching_behavior"].strip() == "Yes" for _, row in rows])
    known = {**vars(describe_encoder("all-MiniLM-L6-v2", "package")), "dtype": "float32"}
    known["encoder"] = known.pop("name")
    reader = InputEncoder({"prompts": known, "responses": known})
    embeddings = Embeddings(
        reader.encode(statements, "prompts", known["dim"]).tensor(),
        reader.encode(["Yes", "No"], "responses", known["dim"]).tensor(),
    )
    torch.manual_seed(0)
    n_users, n_each = 8 * len(interests), 120
    user = torch.arange(n_users).repeat_interleave(n_each)
    # A third of what a person is asked is of the own interest, so that few answers tell enough.
    asked = torch.cat([
        torch.cat([own[torch.randperm(len(own))[: n_each // 3]], torch.randint(len(statements), (n_each - n_each // 3,))])
        for own in ((owner == u % len(interests)).nonzero()[:, 0] for u in range(n_users))
    ])  # fmt: skip
    yes = agrees[asked] & (owner[asked] == user % len(interests))
    answers = Comparisons.from_pairs(user=user, prompt=asked, chosen=(~yes).long(), rejected=yes.long())
    head, config = preset("ours", "B", head={"K": len(interests)}, fit={"grid_points": 0})
    fitted = fit(embeddings, answers, n_users=n_users, head=head, config=config, seed=0)
    ids = [f"user {u}" for u in range(n_users)]
    model = RewardModel.from_fit(
        fitted, embeddings, user_ids=ids, fit_config=config, encoder={"prompts": known, "responses": known}
    )
    named = 0
    for u, interest in enumerate(interests):
        prompts = [statement for statement in statements for _ in range(2)]
        (told,) = describe(model, ["Yes", "No"] * len(statements), prompts, user=f"user {u}")
        stem = {"literature": ("read", "book", "novel", "poe"), "sports": ("sport", "match", "team"),
                "math": ("math", "equation", "algebra", "numbers")}.get(interest, (interest,))  # fmt: skip
        named += told.liked_words[0].name.startswith(stem)
    assert named == 6
