"""A model that the pipeline trained, used on raw texts: the same rewards and people as on its own embeddings."""

import pytest
import torch

from pal.serving.reward_model import RewardModel
from pipeline import paths as layout
from pipeline import study


@pytest.fixture
def own(small):
    folder = layout.models("own") / "model"
    return study.load("own"), study.texts("own"), RewardModel.load(folder)


def asked(data, texts, pairs):
    """Prompt, chosen and rejected of each comparison, as texts."""
    rows = pairs.questions[pairs.question]
    for prompt, first, second, sign in zip(rows.prompt, rows.first, rows.second, pairs.sign, strict=True):
        sides = [texts[data.response_ids[side]] for side in (first, second)]
        yield (texts[data.prompt_ids[prompt]], *(sides if sign > 0 else sides[::-1]))


def test_unseen_people_are_located_from_texts_as_by_the_pipeline(own):
    data, texts, model = own
    pairs = data.select("unseen", "adapt")
    expected = model.locate(data.embeddings, pairs, n_users=data.n_users("unseen"))
    given = {name: [] for name in data.user_ids["unseen"]}
    for user, comparison in zip(pairs.user, asked(data, texts, pairs), strict=True):
        given[data.user_ids["unseen"][user]].append(comparison)
    found = model.adapt_many(given)
    torch.testing.assert_close(
        torch.stack([taste.state for taste in found.values()]), expected, atol=1e-5, rtol=0
    )
