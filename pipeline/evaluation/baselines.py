"""Baselines that are not fitted to users: majority vote, length, and similarity by the encoder itself.

majority    the answer of a model that knows no user and reads no text
longer      the longer text wins
similarity  the response nearer to its prompt wins, where one encoder put both into one space
"""

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch.nn.functional import normalize

from pal.comparisons import Comparisons
from pipeline.study import Study

FEW_ANSWERS = 10
BLOCK = 8192
# Vectors that came with the data say nothing of whether prompts and responses share a space.
NO_ENCODER = ("none", "")

Margins = Callable[[Comparisons], torch.Tensor]


def available_baselines(data: Study, texts: dict[str, str]) -> dict[str, Margins]:
    """The baselines that a dataset allows, each a function to margins; `texts` are its items', by id."""
    majority = Majority.from_votes(data.select("seen", "train"))
    baselines: dict[str, Margins] = {"majority": majority.margins}
    responses = [texts.get(item) for item in data.response_ids]
    if responses and None not in responses and not majority.few_answers:
        lengths = torch.tensor([len(text) for text in responses if text is not None])
        baselines["longer"] = lambda pairs: longer(lengths, pairs)
    if in_one_space(data):
        baselines["similarity"] = lambda pairs: similarity(data, pairs)
    return baselines


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
    def from_votes(cls, train: Comparisons) -> "Majority":
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


def longer(lengths: torch.Tensor, comparisons: Comparisons) -> torch.Tensor:
    """By how many characters the chosen response is longer; texts of equal length get no margin."""
    q = comparisons.questions
    longer_by = lengths[q.first] - lengths[q.second]
    return longer_by[comparisons.question].float() * comparisons.sign


def similarity(data: Study, comparisons: Comparisons) -> torch.Tensor:
    """The zero-shot scorer: cosine of prompt and chosen response, less that of prompt and rejected one."""
    q = comparisons.questions
    margins = []
    for block in comparisons.question.split(BLOCK):
        prompt, first, second = (
            normalize(table[rows[block]].float(), dim=1)
            for table, rows in (
                (data.embeddings.prompts, q.prompt),
                (data.embeddings.responses, q.first),
                (data.embeddings.responses, q.second),
            )
        )
        # Two products, not one with the difference: equal responses must give zero exactly.
        margins.append((prompt * first).sum(1) - (prompt * second).sum(1))
    return torch.cat(margins) * comparisons.sign if margins else comparisons.sign


def in_one_space(data: Study) -> bool:
    """Whether one encoder, the same to the last file, embedded prompts and responses."""
    prompts, responses = data.embedders["prompts"], data.embedders["responses"]
    if prompts is None or responses is None or prompts.encoder in NO_ENCODER:
        return False
    both = [(by.encoder, by.files_sha256, by.dim) for by in (prompts, responses)]
    return both[0] == both[1]
