"""What stacked heads descend on: the objectives of `pal.fitting.objectives`, for several jobs at once.

Shapes used in this module:
    jobs    heads side by side
    b       comparisons of a batch, padded to the longest of the jobs
    q       questions
    users   seen users, padded likewise
    K       prototypes
    points  points of the simplex
"""

from abc import ABC, abstractmethod
from collections.abc import Iterator, Sequence

import torch
from jaxtyping import Float, Int
from torch import Tensor
from typing_extensions import override

from pal.comparisons import Embeddings
from pal.config import FitConfig
from pal.fitting.asked import Asked, Reading, pad
from pal.fitting.losses import LOSSES, expected_loss
from pal.fitting.objectives import simplex_grid
from pal.fitting.stacked import HeadStack, take
from pal.models.heads import Head


class StackedObjective(ABC):
    """A loss of each job over batches of its comparisons, and its users' weights.

    Args:
        embeddings: The tables that all jobs share.
        asked: The comparisons of each job.
        stack: The heads.
        config: How to fit.
    """

    n_batches: int

    def __init__(
        self, embeddings: Embeddings, asked: Sequence[Asked], stack: HeadStack, config: FitConfig
    ) -> None:
        self.stack, self.asked, self.config = stack, asked, config
        self.reading = Reading(embeddings, asked, joint=stack.joint)
        self.embeddings, self.n_batches = embeddings, asked[0].n_batches
        self.parameters: list[Tensor] = []

    @property
    def device(self) -> torch.device:
        """Where the comparisons lie."""
        return self.asked[0].train.user.device

    @abstractmethod
    def losses(self, done: float, epoch: float) -> Iterator[Float[Tensor, " jobs"]]:
        """One epoch: the jobs' losses on a batch each.

        Args:
            done: The share of the run behind us at its start.
            epoch: The share of the run that an epoch is.
        """

    @abstractmethod
    def weights(self, job: int, head: Head) -> Float[Tensor, "users K"]:
        """A job's weights as they stand; `head` is its head, in evaluation mode."""


class StackedPerComparison(StackedObjective):
    """The paper's objective: mean loss over comparisons, with free weights or those given.

    Args:
        logits: Each job's first logits of its users' weights; None where all weights are given.
        given: Each job's weights; None where they are learned.
    """

    def __init__(
        self,
        embeddings: Embeddings,
        asked: Sequence[Asked],
        stack: HeadStack,
        config: FitConfig,
        *,
        logits: Sequence[Tensor] | None = None,
        given: Sequence[Tensor] | None = None,
    ) -> None:
        super().__init__(embeddings, asked, stack, config)
        self.table = pad(logits if given is None else given)
        self.learned = given is None
        if self.learned:
            self.table.requires_grad_()
            self.parameters = [self.table]
        trains = [job.train for job in asked]
        self.counts = [len(train) for train in trains]
        self.sizes = [min(config.batch_size or n, n) for n in self.counts]
        self.user, self.sign = pad([t.user for t in trains]), pad([t.sign for t in trains])
        self.question = pad([job.question for job in asked])
        self.label = None
        if any(t.label is not None for t in trains):
            self.label = pad([torch.ones_like(t.sign) if t.label is None else t.label for t in trains])
        self.weight = pad([torch.ones_like(t.sign) if t.weight is None else t.weight for t in trains])

    @override
    def losses(self, done: float, epoch: float) -> Iterator[Float[Tensor, " jobs"]]:
        orders = [self._order(job) for job in range(len(self.counts))]
        if self.n_batches == 1:
            everything = torch.arange(max(self.counts), device=self.user.device).expand_as(self.user)
            yield self._losses(everything, self.counts)
            return
        parts = [order.split(size) for order, size in zip(orders, self.sizes, strict=True)]
        for rows in zip(*parts, strict=True):
            yield self._losses(pad(rows), [len(some) for some in rows])

    def _order(self, job: int) -> Int[Tensor, " n"]:
        """A new random order of a job's comparisons, drawn as `Objective.batches` draws it."""
        generator, device = self.stack.generators[job], self.user.device
        order = torch.randperm(self.counts[job], generator=generator).to(device)
        if self.n_batches > 1 and self.config.shuffle == "prompts":
            questions = self.asked[job].train.questions
            number = torch.randperm(int(questions.prompt.max()) + 2, generator=generator).to(device)
            place = number[questions.prompt + 1][self.asked[job].train.question]
            order = order[torch.argsort(place[order], stable=True)]
        return order

    def _losses(self, rows: Int[Tensor, "jobs b"], lengths: Sequence[int]) -> Float[Tensor, " jobs"]:
        user, question, sign, weight = (
            x.gather(1, rows) for x in (self.user, self.question, self.sign, self.weight)
        )
        config, along = self.config, torch.arange(rows.shape[1], device=rows.device)
        real = along < torch.tensor(lengths, device=rows.device)[:, None]  # what follows is padding
        weight = weight * real
        read, weights = self.reading.some(self.stack, question, lengths), self._weights_of(user)
        margin = self.stack.margin(read, weights) * sign
        label = None if self.label is None else self.label.gather(1, rows)
        loss = (expected_loss(LOSSES[config.loss], margin, label) * weight).sum(1) / weight.sum(1)
        if not config.bound_loss:
            return loss
        beyond = torch.relu(self.stack.ideal_lengths(read, weights) - config.bound)
        return loss + config.bound_loss * (beyond * real).sum(1)

    def _weights_of(self, user: Int[Tensor, "jobs b"]) -> Float[Tensor, "jobs b K"]:
        if not self.learned:
            return take(self.table, user)
        if self.table.shape[1] <= user.shape[1]:  # softmax whichever is fewer: users or rows
            return take(torch.softmax(self.table, 2), user)
        return torch.softmax(take(self.table, user), 2)

    @override
    def weights(self, job: int, head: Head) -> Float[Tensor, "users K"]:
        table = self.table.detach()[job, : self.asked[job].n_users]
        return torch.softmax(table, 1) if self.learned else table.clone()


class StackedMixture(StackedObjective):
    """Each user a latent class over points of the simplex, as in `pal.fitting.objectives.Mixture`.

    Where a batch does not hold all answers, the users are dealt into batches once, the same way for all jobs
    of the same comparisons, and each epoch visits these in a new random order.
    """

    def __init__(
        self, embeddings: Embeddings, asked: Sequence[Asked], stack: HeadStack, config: FitConfig
    ) -> None:
        super().__init__(embeddings, asked, stack, config)
        device = asked[0].train.user.device
        self.points = simplex_grid(stack.config.K, config.grid_points).to(device)
        share = torch.full((len(self.points),), -float(len(self.points)), device=device).log_softmax(0)
        self.log_shares = [share.clone() for _ in asked]
        self.starts = [min(1.0, config.start_answers * job.n_users / job.answers) for job in asked]

    @override
    def losses(self, done: float, epoch: float) -> Iterator[Float[Tensor, " jobs"]]:
        n = self.n_batches
        orders = [
            torch.randperm(n, generator=generator).tolist() if n > 1 else [0]
            for generator in self.stack.generators
        ]
        for number, blocks in enumerate(zip(*orders, strict=True)):
            at = self.stack.margins_at(self.reading.all(self.stack), self.points)
            now = done + epoch * number / n
            yield torch.stack([self._loss(job, at[job], block, now) for job, block in enumerate(blocks)])

    def _loss(self, job: int, at: Float[Tensor, "q points"], block: int, done: float) -> Float[Tensor, ""]:
        asked, heat = self.asked[job], self.config.heat(self.starts[job], done)
        users, counts, answers = asked.blocks[block]
        joint = self.log_shares[job] + heat * counts.log_likelihoods(at[: len(asked.questions)])
        if done >= self.config.anneal:
            self._follow(job, joint.detach(), len(users) / asked.n_users)
        return -torch.logsumexp(joint, 1).sum() / (heat * answers)

    def _follow(self, job: int, joint: Float[Tensor, "u points"], share: float) -> None:
        mean = torch.softmax(joint, 1).mean(0).clamp_min(1e-6)
        shares = (1 - share) * self.log_shares[job].exp() + share * mean / mean.sum()
        self.log_shares[job] = shares.log()

    @override
    def weights(self, job: int, head: Head) -> Float[Tensor, "users K"]:
        asked = self.asked[job]
        at = head.margins_at(head.read(self.embeddings, asked.questions), self.points)
        found = at.new_zeros(asked.n_users, self.points.shape[1])
        for users, counts, _ in asked.blocks:
            found[users] = torch.softmax(self.log_shares[job] + counts.log_likelihoods(at), 1) @ self.points
        return found
