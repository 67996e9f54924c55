"""The questions that several jobs ask of shared tables: the rows they need, and how stacked heads read them.

Shapes used in this module:
    jobs    heads side by side
    b       comparisons of a batch, padded to the longest of the jobs
    q       questions that a job asks
    read    as in `pal.models.heads`
"""

from collections.abc import Sequence

import torch
from jaxtyping import Float, Int
from torch import Tensor
from torch.nn.utils.rnn import pad_sequence

from pal.comparisons import Comparisons, Embeddings, Questions, distinct_rows
from pal.fitting.counts import Counts
from pal.fitting.stacked import HeadStack, Items, Places, take, vectors


class Asked:
    """The comparisons of one job, by the distinct questions that they ask.

    Args:
        train: The comparisons.
        n_users: Users that they name.
        n_batches: Into how many blocks the users are dealt where answers are counted.
    """

    def __init__(self, train: Comparisons, n_users: int, n_batches: int) -> None:
        self.train, self.n_users, self.n_batches = train, n_users, n_batches
        asked, self.question = distinct_rows(train.question, len(train.questions))
        self.questions = train.questions[asked]
        self.answers = float(len(train) if train.weight is None else train.weight.sum())
        self._blocks: list[tuple[Tensor, Counts, float]] = []

    @property
    def blocks(self) -> list[tuple[Int[Tensor, " block"], Counts, float]]:
        """Users dealt at random, the same way each time: their rows, answers, and how many these are."""
        if not self._blocks:
            order = torch.randperm(self.n_users, generator=torch.Generator().manual_seed(0))
            dealt = order.tensor_split(self.n_batches) if self.n_batches > 1 else [torch.arange(self.n_users)]
            self._blocks = [self._count(users.to(self.train.user.device)) for users in dealt]
        return self._blocks

    def _count(self, users: Int[Tensor, " block"]) -> tuple[Int[Tensor, " block"], Counts, float]:
        row = torch.full((self.n_users,), -1, device=users.device)
        row[users] = torch.arange(len(users), device=users.device)
        here = (row[self.train.user] >= 0).nonzero().squeeze(1)
        part = self.train[here]
        counts = Counts.of(
            user=row[part.user],
            question=self.question[here],
            sign=part.sign,
            label=part.label,
            weight=part.weight,
            n_users=len(users),
            n_questions=len(self.questions),
        )
        return users, counts, float(len(here) if part.weight is None else part.weight.sum())


class Reading:
    """Which rows of the tables the jobs' questions need, and how to read all of them or a batch.

    Args:
        embeddings: The tables that all jobs share.
        asked: The questions of each job.
        joint: Whether a head reads prompt and response side by side.
    """

    def __init__(self, embeddings: Embeddings, asked: Sequence[Asked], *, joint: bool) -> None:
        self.embeddings, self.joint = embeddings, joint
        self.with_prompts = len(embeddings.prompts) > 0 and all(
            bool((job.questions.prompt >= 0).all()) for job in asked
        )
        questions = [job.questions for job in asked]
        self.prompt = pad([q.prompt.clamp_min(0) for q in questions])
        self.first, self.second = pad([q.first for q in questions]), pad([q.second for q in questions])
        self.lengths = [len(q) for q in questions]
        parts = [_items(q, embeddings) for q in questions]
        self.prompt_rows, self.response_rows = [part[0] for part in parts], [part[1] for part in parts]
        self.places = Places(*(pad([part[i] for part in parts]) for i in (2, 3, 4)))
        self._prompts: Tensor | None = None
        self._responses: Tensor | None = None

    def all(self, stack: HeadStack) -> Float[Tensor, "jobs q read"]:
        """Every question of every job."""
        if self.joint:
            return self._side_by_side(stack, self.prompt, self.first, self.second, self.lengths)
        return stack.read(self._items(self._all_prompts(), self._all_responses()), self.places)

    def some(
        self, stack: HeadStack, question: Int[Tensor, "jobs b"], lengths: Sequence[int]
    ) -> Float[Tensor, "jobs b read"]:
        """Each job's questions of a batch.

        Args:
            stack: The heads.
            question: Places of the questions among those that each job asks.
            lengths: How many of each row are no padding.
        """
        b = question.shape[1]
        if self.prompt.shape[1] <= b and not self.joint:  # a batch this large meets most questions twice
            return take(self.all(stack), question)
        prompt, first, second = (x.gather(1, question) for x in (self.prompt, self.first, self.second))
        if self.joint:
            return self._side_by_side(stack, prompt, first, second, lengths)
        where, along = self.places, torch.arange(b, device=question.device).expand_as(question)
        prompts, at = None, along
        n_prompts, n_responses = list(lengths), [b + n for n in lengths]
        if self.with_prompts and max(map(len, self.prompt_rows)) <= b:
            prompts, at = self._all_prompts(), where.prompt.gather(1, question)
            n_prompts = [len(rows) for rows in self.prompt_rows]
        elif self.with_prompts:
            prompts = vectors(self.embeddings.prompts, prompt)
        if max(map(len, self.response_rows)) <= 2 * b:
            responses, n_responses = self._all_responses(), [len(rows) for rows in self.response_rows]
            places = Places(at, where.first.gather(1, question), where.second.gather(1, question))
        else:
            responses = vectors(self.embeddings.responses, torch.cat([first, second], 1))
            places = Places(at, along, along + b)
        return stack.read(Items(prompts, responses, n_prompts, n_responses), places)

    def _all_prompts(self) -> Tensor | None:
        if self._prompts is None and self.with_prompts:
            self._prompts = vectors(self.embeddings.prompts, pad(self.prompt_rows))
        return self._prompts

    def _all_responses(self) -> Tensor:
        if self._responses is None:
            self._responses = vectors(self.embeddings.responses, pad(self.response_rows))
        return self._responses

    def _items(self, prompts: Tensor | None, responses: Tensor) -> Items:
        counts = ([len(rows) for rows in side] for side in (self.prompt_rows, self.response_rows))
        return Items(prompts, responses, *counts)

    def _side_by_side(
        self,
        stack: HeadStack,
        prompt: Int[Tensor, "jobs b"],
        first: Int[Tensor, "jobs b"],
        second: Int[Tensor, "jobs b"],
        lengths: Sequence[int],
    ) -> Float[Tensor, "jobs b read"]:
        b = prompt.shape[1]
        prompts = vectors(self.embeddings.prompts, prompt.repeat(1, 2))
        responses = vectors(self.embeddings.responses, torch.cat([first, second], 1))
        if prompts.dim() != responses.dim():
            prompts, responses = (
                x if x.dim() == 3 else x.expand(len(stack), *x.shape) for x in (prompts, responses)
            )
        along = torch.arange(b, device=prompt.device).expand_as(prompt)
        counts = [b + n for n in lengths]
        return stack.read(Items(prompts, responses, counts, counts), Places(along, along, along + b))


def pad(rows: Sequence[Tensor]) -> Tensor:
    """Lists of different lengths as one table, filled up with zeros."""
    return pad_sequence(list(rows), batch_first=True)


def _items(questions: Questions, embeddings: Embeddings) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor]:
    """Distinct rows of prompts and of responses, and where each question finds its three among them."""
    prompts, prompt = distinct_rows(questions.prompt.clamp_min(0), max(1, len(embeddings.prompts)))
    sides = torch.cat([questions.first, questions.second])
    responses, response = distinct_rows(sides, len(embeddings.responses))
    return prompts, responses, prompt, *response.chunk(2)
