"""The strictest split: users, prompts and responses that neither training nor the user's own answers showed.

Of unseen users those test pairs are kept whose prompt no training pair has and, unless all questions share a
few answers such as yes and no, whose responses none has either; and none of these may occur among the pairs
by which the same user is located.
"""

from dataclasses import dataclass

import torch

from pal.comparisons import Comparisons
from pipeline.evaluation.answers import Answers, Test
from pipeline.evaluation.baselines import FEW_ANSWERS
from pipeline.study import Study

NAME = "never seen"  # what the items of these tests are called


@dataclass(frozen=True)
class Strictest:
    """The strictest split of one dataset.

    Args:
        tests: Everyone judged on it; empty where it cannot be formed.
        why: Why it cannot be formed; empty where it can.
        pairs: Comparisons in it.
        left_out: Comparisons on items new to training that were left out, since the same user was located by
            one of these items.
    """

    tests: list[Test]
    why: str
    pairs: int
    left_out: int

    def about(self) -> dict[str, str | int]:
        """What the report says of it."""
        return {"why": self.why, "pairs": self.pairs, "left_out": self.left_out}


def of(data: Study, parts: list[Answers], inside: list[torch.Tensor], test: str) -> Strictest:
    """Judge everyone on the strictest split.

    Args:
        data: The dataset.
        parts: Test pairs with everyone's margins.
        inside: Which pairs of each part belong to the headline test set.
        test: That test set's name.
    """
    unseen = [(part, here) for part, here in zip(parts, inside, strict=True) if part.users != "seen"]
    train, adapt = data.select("seen", "train"), data.select("unseen", "adapt")
    few = _few(data)
    tests: list[Test] = []
    pairs = left_out = new_prompts = new_responses = 0
    for part, here in unseen:
        prompt, response = _new(part.pairs, train, data, few)
        own = _met(part.pairs, adapt, data, few)
        new = here & prompt & response
        tests += part.tests(new & ~own, items=NAME, test=test)
        pairs, left_out = pairs + int((new & ~own).sum()), left_out + int((new & own).sum())
        new_prompts += int((here & prompt).sum())
        new_responses += int((here & response).sum())
    n = sum(int(here.sum()) for _, here in unseen)
    return Strictest(tests, _why(data, n, pairs, left_out, new_prompts, new_responses), pairs, left_out)


def _why(data: Study, n: int, pairs: int, left_out: int, new_prompts: int, new_responses: int) -> str:
    """Why there is nothing in the strictest split, by what is missing first."""
    if pairs:
        return ""
    if not n:
        return "no unseen user has a comparison to test on"
    if left_out:
        return "unseen users were located by the very items that training never showed"
    if len(data.prompt_ids) and not new_prompts:
        return "unseen users are tested on prompts that training knows, every one of them"
    if not new_responses:
        return "unseen users are tested on responses that training knows, every one of them"
    return "no comparison of unseen users has a new prompt and new responses at once"


def _few(data: Study) -> bool:
    """Whether all questions share a few answers, which then cannot be new."""
    q = data.comparisons.questions
    return bool(len(data.prompt_ids)) and len(torch.unique(torch.cat([q.first, q.second]))) <= FEW_ANSWERS


def _new(
    pairs: Comparisons,
    train: Comparisons,
    data: Study,
    few: bool,  # noqa: FBT001
) -> tuple[torch.Tensor, torch.Tensor]:
    """Which comparisons have a prompt, and which have responses, that training never showed."""
    everywhere = torch.ones(len(pairs), dtype=torch.bool)
    q = pairs.questions
    prompt, response = everywhere, everywhere
    if len(data.prompt_ids):
        known = _marked(len(data.prompt_ids), q.prompt[train.question])
        prompt = ~known[q.prompt[pairs.question]]
    if not few:
        known = _marked(len(data.response_ids), q.first[train.question], q.second[train.question])
        response = ~(known[q.first[pairs.question]] | known[q.second[pairs.question]])
    return prompt, response


def _met(pairs: Comparisons, adapt: Comparisons, data: Study, few: bool) -> torch.Tensor:  # noqa: FBT001
    """Which comparisons are about an item that the same user was located by."""
    q = pairs.questions
    met = torch.zeros(len(pairs), dtype=torch.bool)
    sides = [(q.prompt, q.prompt)] if len(data.prompt_ids) else []
    if not few:
        sides += [(a, b) for a in (q.first, q.second) for b in (q.first, q.second)]
    width = max(len(data.prompt_ids), len(data.response_ids), 1)
    for judged, shown in sides:
        theirs = pairs.user * width + judged[pairs.question]
        met |= torch.isin(theirs, adapt.user * width + shown[adapt.question])
    return met


def _marked(n: int, *rows: torch.Tensor) -> torch.Tensor:
    mark = torch.zeros(n, dtype=torch.bool)
    for each in rows:
        mark[each] = True
    return mark
