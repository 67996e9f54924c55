"""The majority's answer: what a model that knows no user and reads no text would say."""

from dataclasses import dataclass

import torch

from pal.comparisons import Comparisons

FEW_ANSWERS = 10


@dataclass(frozen=True)
class Majority:
    """Votes of the training comparisons, for the first response of a question and against its second.

    Where all questions share a few answers, as yes and no, the answer chosen more often wins everywhere:
    the floor that any model must beat. Else the side that more users took on the same question wins, and on a
    question never asked, or tied, the response chosen in a larger share of its comparisons.

    Args:
        by_question: Votes for `first` less votes for `second`, per question.
        by_response: Share of its comparisons in which each response was chosen, less one half.
        few_answers: Whether all questions share a few answers.
    """

    by_question: torch.Tensor
    by_response: torch.Tensor
    few_answers: bool

    @classmethod
    def of(cls, train: Comparisons) -> "Majority":
        """Count the votes of training."""
        q = train.questions
        label = torch.ones_like(train.sign) if train.label is None else train.label
        vote = train.sign * (2 * label - 1)
        by_question = torch.zeros(len(q)).index_add(0, train.question, vote)
        first, second = q.first[train.question], q.second[train.question]
        n = int(torch.cat([q.first, q.second]).max()) + 1
        net = torch.zeros(n).index_add(0, first, vote).index_add(0, second, -vote)
        met = torch.bincount(torch.cat([first, second]), minlength=n).clamp_min(1)
        answers = torch.unique(torch.cat([first, second]))
        return cls(by_question, net / met / 2, len(answers) <= FEW_ANSWERS)

    def margins(self, comparisons: Comparisons) -> torch.Tensor:
        """Votes in favour of the chosen response of other comparisons over the same questions."""
        q = comparisons.questions
        overall = self.by_response[q.first] - self.by_response[q.second]
        vote = overall
        if not self.few_answers:
            vote = torch.where(self.by_question != 0, self.by_question, overall)
        return vote[comparisons.question] * comparisons.sign
