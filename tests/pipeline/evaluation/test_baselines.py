"""What needs no model, by hand."""

from dataclasses import replace
from types import SimpleNamespace

import pytest
import torch

from pal.comparisons import Comparisons, Embeddings
from pal.encoders.vector_store import Embedder
from pipeline.evaluation import baselines
from pipeline.evaluation.baselines import Majority

CLIP = Embedder("clip-vit-h-14", "w", "f", 2, "float32", "as published")


def answers(rows, label=None):
    """Comparisons from rows of (prompt, chosen, rejected)."""
    prompt, chosen, rejected = torch.tensor(rows).T
    label = None if label is None else torch.tensor(label)
    return Comparisons.from_pairs(
        user=torch.zeros(len(rows)).long(), prompt=prompt, chosen=chosen, rejected=rejected, label=label
    )


# Five pairs of responses, 2 to 11, each met once: with them there are more than ten answers.
MANY = [(0, n, n + 1) for n in range(2, 12, 2)]


def test_where_answers_are_few_the_commoner_one_wins_everywhere_and_soft_labels_vote_in_part():
    """Yes (0) is chosen once and no (1) three times: the net of -2 over 4 met, halved, is -1/4; +1/4 for no.
    The margin is 1/2 for no, also on the prompt where yes won."""
    found = answers([(0, 0, 1), (1, 1, 0), (2, 1, 0), (3, 1, 0)])
    majority = Majority.from_votes(found)
    assert majority.few_answers
    assert majority.by_response.tolist() == [-0.25, 0.25]
    assert majority.margins(found).tolist() == [-0.5, 0.5, 0.5, 0.5]
    soft = answers([(0, 0, 1), (1, 1, 0)], label=[0.75, 0.5])
    assert Majority.from_votes(soft).by_question.tolist() == [0.5, 0]


def test_where_answers_are_many_the_votes_on_the_same_question_win():
    """Two of three take 0 over 1 on prompt 0: a vote of +1 for who chose 0, -1 for who chose 1."""
    found = answers([(0, 0, 1), (0, 0, 1), (0, 1, 0), *MANY])
    majority = Majority.from_votes(found)
    assert not majority.few_answers
    assert majority.margins(found[torch.arange(3)]).tolist() == [1, 1, -1]


def data_of(rows, prompts=None, responses=None, embedders=(CLIP, CLIP), ids=None):
    """What baselines read of a study: rows of (prompt, chosen, rejected), all of them training too."""
    vectors = torch.zeros(12, 2) if responses is None else torch.tensor(responses)
    pairs = answers(rows)
    return SimpleNamespace(
        embeddings=Embeddings(vectors if prompts is None else torch.tensor(prompts), vectors),
        embedders=dict(zip(("prompts", "responses"), embedders, strict=True)),
        response_ids=ids or [f"item {n}" for n in range(12)],
        select=lambda users, split: pairs,
        comparisons=pairs,
    )


def test_the_longer_text_wins_by_its_characters():
    """Lengths are the item's numbers: 7 over 2 by 5, 2 over 7 by -5."""
    found = answers([(0, 7, 2), (1, 2, 7)])
    assert baselines.longer(torch.arange(12), found).tolist() == [5, -5]


def test_the_response_nearer_to_its_prompt_wins():
    """Prompt (2, 0). Cosines: 1 with (3, 0), 0.6 with (3, 4), 0 with (0, 5)."""
    data = data_of(
        [(0, 0, 1), (0, 2, 1)], prompts=[[2.0, 0.0]], responses=[[3.0, 0.0], [3.0, 4.0], [0.0, 5.0]]
    )
    assert baselines.similarity(data, data.comparisons).tolist() == pytest.approx([0.4, -0.6])


@pytest.mark.parametrize(
    "embedders",
    [
        (None, CLIP),
        (replace(CLIP, encoder="none"), replace(CLIP, encoder="none")),
        (replace(CLIP, files_sha256="other"), CLIP),
    ],
)
def test_only_one_encoder_the_same_to_the_last_file_puts_both_into_one_space(embedders):
    assert not baselines.in_one_space(data_of(MANY, embedders=embedders))
