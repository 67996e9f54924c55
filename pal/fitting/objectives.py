"""What fitting descends on: the paper's loss per comparison, or each user as a latent class.

An objective owns what it knows of the users (free weights, class shares, or nothing), cuts the comparisons
into batches, and turns a batch into a loss.

Shapes used in this module:
    n       comparisons
    users   seen users
    K       prototypes
    points  points of the simplex
"""

from abc import ABC, abstractmethod
from collections.abc import Iterator
from dataclasses import replace
from itertools import combinations, pairwise
from math import comb

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn
from typing_extensions import override

from pal.comparisons import Comparisons, Embeddings, Questions, distinct_rows
from pal.config import FitConfig
from pal.fitting.counts import Counts, PlainCounts
from pal.fitting.losses import LOSSES, expected_loss, weighted_mean
from pal.models.heads import Head

MARGINS_AT_ONCE = 1 << 25  # of comparisons at points, 128 MB of float32
COUNTED_AT_ONCE = 1 << 20  # answers counted per user and question, at some dozen bytes each
# Answers of a batch from which on a plain matrix counts them, if it has at most so many questions per answer.
PLAIN_FROM, PLAIN_CELLS = 1 << 17, 8


class Objective(nn.Module, ABC):
    """A loss over batches of the training comparisons, and the users' weights that go with it."""

    def __init__(self, embeddings: Embeddings, train: Comparisons, config: FitConfig) -> None:
        super().__init__()
        self.embeddings, self.train_set, self.config = embeddings, train, config
        self.batch_size = min(config.batch_size or len(train), len(train))

    @property
    def device(self) -> torch.device:
        """Where the comparisons lie."""
        return self.train_set.user.device

    @property
    def n_batches(self) -> int:
        """Batches in an epoch."""
        return -(-len(self.train_set) // self.batch_size)

    def batches(self) -> Iterator[Comparisons]:
        """One epoch: every comparison once, in a new random order.

        With `shuffle='prompts'` the comparisons on one prompt follow each other, prompts and comparisons of a
        prompt both in random order; where a batch ends within a prompt, the next goes on with it.
        """
        order = torch.randperm(len(self.train_set)).to(self.device)
        if self.n_batches == 1:
            yield self.train_set
            return
        if self.config.shuffle == "prompts":
            order = order[torch.argsort(self._shuffled_prompts()[order], stable=True)]
        for rows in order.split(self.batch_size):
            yield self.train_set[rows]

    def _shuffled_prompts(self) -> Int[Tensor, " n"]:
        """Each comparison's prompt, by a number drawn anew for each prompt."""
        prompt = self.train_set.questions.prompt + 1  # -1 stands for none
        number = torch.randperm(int(prompt.max()) + 1).to(self.device)
        return number[prompt][self.train_set.question]

    def read(self, head: Head, questions: Questions) -> Float[Tensor, "q read"]:
        """What the head reads of questions, at the precision that the config asks for."""
        half = self.config.precision == "bfloat16" and head.training
        with torch.autocast(self.device.type, torch.bfloat16, enabled=half):
            return head.read(self.embeddings, questions)

    @abstractmethod
    def loss(self, head: Head, batch: Comparisons, done: float) -> Float[Tensor, ""]:
        """Mean loss of a batch; `done` is the share of the run behind us."""

    @abstractmethod
    def weights(self, head: Head) -> Float[Tensor, "users K"]:
        """The users' weights as they stand."""


class PerComparison(Objective):
    """The paper's objective: mean loss over comparisons, free simplex weights per user (PAL, section 2.3).

    The logits start at zero with a little noise (D16), everyone an even mix, or as `weights_start` says.
    """

    def __init__(
        self, embeddings: Embeddings, train: Comparisons, config: FitConfig, n_users: int, K: int
    ) -> None:
        super().__init__(embeddings, train, config)
        self.logits = nn.Parameter(config.spread * torch.randn(n_users, K))

    @override
    def loss(self, head: Head, batch: Comparisons, done: float) -> Float[Tensor, ""]:
        return _pairwise_loss(self, head, batch, self._weights_of(batch.user))

    def _weights_of(self, user: Int[Tensor, " n"]) -> Float[Tensor, "n K"]:
        if len(self.logits) <= len(user):  # softmax whichever is fewer: users or rows
            return torch.softmax(self.logits, 1).index_select(0, user)
        return torch.softmax(self.logits.index_select(0, user), 1)

    @override
    def weights(self, head: Head) -> Float[Tensor, "users K"]:
        return torch.softmax(self.logits, 1).detach()


class FixedWeights(Objective):
    """The paper's objective with the users' weights given: one prototype for all, or known groups."""

    def __init__(
        self,
        embeddings: Embeddings,
        train: Comparisons,
        config: FitConfig,
        weights: Float[Tensor, "users K"],
    ) -> None:
        super().__init__(embeddings, train, config)
        self.register_buffer("given", weights.clone())

    @override
    def loss(self, head: Head, batch: Comparisons, done: float) -> Float[Tensor, ""]:
        return _pairwise_loss(self, head, batch, self.given.index_select(0, batch.user))

    @override
    def weights(self, head: Head) -> Float[Tensor, "users K"]:
        return self.given


class Mixture(Objective):
    """Each user is a latent class over points p of the simplex: -log sum_p pi_p prod_j sigmoid(margin_j(p)).

    The class shares pi follow the posteriors, and a user's weights are the posterior mean of the points. An
    inverse temperature rises to 1 over the first part of the run (annealed EM), so that early, arbitrary
    prototypes do not claim users for good. With few answers a user this is what reaches the bound of a
    learner who knows the prototypes, where a point estimate of free weights falls far below it.
    """

    def __init__(
        self, embeddings: Embeddings, train: Comparisons, config: FitConfig, n_users: int, K: int
    ) -> None:
        super().__init__(embeddings, train, config)
        points = simplex_grid(K, config.grid_points)
        self.register_buffer("points", points)
        self.register_buffer("log_share", torch.full((len(points),), -float(len(points))).log_softmax(0))
        self.n_users = n_users
        answers = len(train) if train.weight is None else float(train.weight.sum())
        self.start = min(1.0, config.start_answers * n_users / answers)
        # Comparisons that come user by user, as the pipeline's do, need no second copy in that order.
        ordered = bool((train.user[1:] >= train.user[:-1]).all())
        self.by_user = train if ordered else train[torch.argsort(train.user, stable=True)]
        counts = torch.bincount(train.user, minlength=n_users)
        self.counts, self.starts = counts, counts.cumsum(0) - counts
        self.everything: tuple[Questions, Counts] | None = None

    @override
    def batches(self) -> Iterator[Comparisons]:
        """One epoch: every user once with all answers, in a new random order."""
        if self.batch_size == len(self.train_set):
            yield self.by_user
            return
        order = torch.randperm(self.n_users).to(self.device)
        for users in _blocks(self.counts[order], self.batch_size):
            counts = self.counts[order[users]]
            within = torch.arange(int(counts.sum()), device=self.device)
            within -= (counts.cumsum(0) - counts).repeat_interleave(counts)
            yield self.by_user[self.starts[order[users]].repeat_interleave(counts) + within]

    @override
    def loss(self, head: Head, batch: Comparisons, done: float) -> Float[Tensor, ""]:
        heat = self.config.heat(self.start, done)
        users, place = distinct_rows(batch.user, self.n_users)
        likelihood = self._log_likelihoods(head, batch, place, len(users))
        joint = self.log_share + heat * likelihood
        if done >= self.config.anneal:  # shares that move while classes form let one class take everyone
            self._follow(joint.detach(), len(users) / self.n_users)
        answers = len(batch) if batch.weight is None else batch.weight.sum()
        return -torch.logsumexp(joint, 1).sum() / (heat * answers)

    def _follow(self, joint: Float[Tensor, "u points"], share: float) -> None:
        """Move the class shares towards the mean posterior, by the share of the users just seen."""
        mean = torch.softmax(joint, 1).mean(0).clamp_min(1e-6)
        shares = (1 - share) * self.log_share.exp() + share * mean / mean.sum()
        self.log_share.copy_(shares.log())

    def _log_likelihoods(
        self, head: Head, batch: Comparisons, place: Int[Tensor, " n"], n_users: int
    ) -> Float[Tensor, "u points"]:
        questions, counts = self._counted(batch, place, n_users)
        return counts.log_likelihoods(head.margins_at(self.read(head, questions), self.points))

    def _counted(
        self, batch: Comparisons, place: Int[Tensor, " n"], n_users: int
    ) -> tuple[Questions, Counts | PlainCounts]:
        """Distinct questions of a batch, and the users' answers to them; kept where it is every answer."""
        if batch is self.by_user and self.everything is not None:
            return self.everything
        asked, question = distinct_rows(batch.question, len(batch.questions))
        # A batch that serves once does not repay the sorting that a sparse matrix takes.
        plain = batch is not self.by_user and len(batch) >= max(
            PLAIN_FROM, n_users * len(asked) // PLAIN_CELLS
        )
        counts = (PlainCounts if plain else Counts).of(
            user=place,
            question=question,
            sign=batch.sign,
            label=batch.label,
            weight=batch.weight,
            n_users=n_users,
            n_questions=len(asked),
        )
        found = batch.questions[asked], counts
        if batch is self.by_user:
            self.everything = found
        return found

    @override
    def weights(self, head: Head) -> Float[Tensor, "users K"]:
        return torch.softmax(self.log_share + self.likelihoods(head), 1) @ self.points

    def likelihoods(self, head: Head) -> Float[Tensor, "users points"]:
        """Each user's log-likelihood at each point, in nats, all answers counted."""
        size = min(head.questions_at_once, max(1, MARGINS_AT_ONCE // len(self.points)))
        if len(self.train_set.questions) <= size:  # what is built is never longer than the questions
            size = max(size, COUNTED_AT_ONCE)
        found = []
        for users in _blocks(self.counts, size):
            start = int(self.starts[users[0]])
            block = self.by_user.slice(start, start + int(self.counts[users].sum()))
            found.append(self._log_likelihoods(head, block, block.user - users[0], len(users)).detach())
        return torch.cat(found)


def simplex_grid(K: int, max_points: int) -> Float[Tensor, "points K"]:
    """The finest regular grid of the simplex with at most so many points, and its corners in any case."""
    steps = 1
    while K > 1 and comb(steps + K, K - 1) <= max_points:
        steps += 1
    # Stars and bars: K - 1 bars among steps + K - 1 places; the gaps between bars are the coordinates.
    rows = []
    for bars in combinations(range(steps + K - 1), K - 1):
        edges = (-1, *bars, steps + K - 1)
        rows.append([b - a - 1 for a, b in pairwise(edges)])
    return torch.tensor(rows, dtype=torch.float32) / steps


def _pairwise_loss(
    objective: Objective, head: Head, batch: Comparisons, weights: Float[Tensor, "n K"]
) -> Float[Tensor, ""]:
    config = objective.config
    asked, place = distinct_rows(batch.question, len(batch.questions))
    read = objective.read(head, batch.questions[asked]).index_select(0, place)
    margin = head.margin(read, weights) * batch.sign
    loss = weighted_mean(expected_loss(LOSSES[config.loss], margin, batch.label), batch.weight)
    if not config.bound_loss:
        return loss
    # Summed, not averaged, over the batch, as in the authors' code (D13).
    return loss + config.bound_loss * torch.relu(head.ideal_lengths(read, weights) - config.bound).sum()


def user_balanced(train: Comparisons, n_users: int) -> Comparisons:
    """The same comparisons, weighted so that every user with any counts alike; 1 in the mean.

    Args:
        train: Comparisons, which may have weights: they keep their shares within a user.
        n_users: Length of the weights table that `train.user` points into.
    """
    weight = torch.ones_like(train.sign) if train.weight is None else train.weight
    total = weight.new_zeros(n_users).index_add(0, train.user, weight)
    share = weight / total.index_select(0, train.user)
    return replace(train, weight=share * (len(train) / share.sum()))


def _blocks(counts: Int[Tensor, " users"], size: int) -> Iterator[Int[Tensor, " block"]]:
    """Places of users in blocks of about `size` answers, in order; a block without answers joins another."""
    if not len(counts):
        return
    block = (counts.cumsum(0) - 1).clamp_min(0) // size
    yield from torch.arange(len(counts), device=counts.device).split(
        torch.unique_consecutive(block, return_counts=True)[1].tolist()
    )
