"""Objectives: losses over batches of the training comparisons, and the users' states that go with them.

An objective owns what it knows of the users (free states, class shares, or nothing), cuts the comparisons
into batches, and turns a batch into a loss. The paper's is a mean over comparisons (`PerComparison`); in the
mixture each user is a latent class over points of the simplex, fitted by annealed EM (`Mixture`).

Shapes: those of `pal.models.base`, and sides (2q: each question's first response, then each one's second);
points are of the simplex.
"""

import warnings
from abc import ABC, abstractmethod
from collections.abc import Iterator
from dataclasses import dataclass, replace
from itertools import combinations, pairwise
from math import comb

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn
from torch.nn import functional
from typing_extensions import override

from pal.comparisons import Comparisons, Embeddings, Questions, distinct_rows
from pal.config import FitConfig
from pal.errors import PalError
from pal.models.base import PreferenceModel, PrototypeModel, mean_loss


class Objective(nn.Module, ABC):
    """A loss over batches of the training comparisons, and the users' states that go with it.

    A member of `OBJECTIVES` takes `(embeddings, train, config, n_users, model)`.
    """

    def __init__(self, embeddings: Embeddings, train: Comparisons, config: FitConfig) -> None:
        super().__init__()
        self.embeddings, self.train_set, self.config = embeddings, train, config
        self.device = train.user.device
        self.batch_size = min(config.batch_size or len(train), len(train))
        self.n_batches = -(-len(train) // self.batch_size)  # in an epoch

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
            prompt = self.train_set.questions.prompt + 1  # -1 stands for none
            number = torch.randperm(int(prompt.max()) + 1).to(self.device)  # drawn anew for each prompt
            order = order[torch.argsort(number[prompt][self.train_set.question][order], stable=True)]
        for rows in order.split(self.batch_size):
            yield self.train_set[rows]

    def question_features(self, model: PreferenceModel, questions: Questions) -> Float[Tensor, "q f"]:
        """The model's features of questions, at the precision that the config asks for."""
        half = self.config.precision == "bfloat16" and model.training
        with torch.autocast(self.device.type, torch.bfloat16, enabled=half):
            return model.question_features(self.embeddings, questions)

    @abstractmethod
    def loss(self, model: PreferenceModel, batch: Comparisons, done: float) -> Float[Tensor, ""]:
        """Mean loss of a batch; `done` is the share of the run that is over."""

    @abstractmethod
    def states(self, model: PreferenceModel) -> Float[Tensor, "users s"]:
        """The users' states as they are now."""


def user_balanced(train: Comparisons, n_users: int) -> Comparisons:
    """The same comparisons, weighted so that every user with any counts alike; 1 in the mean.

    Weights that they have keep their shares within a user.
    """
    total = train.sign.new_zeros(n_users).index_add(0, train.user, train.weights)
    share = train.weights / total.index_select(0, train.user)
    return replace(train, weight=share * (len(train) / share.sum()))


class PerComparison(Objective):
    """Mean loss over comparisons, a free state for each user (PAL, section 2.3), or a `given` one.

    For a model with prototypes the free numbers are logits of the users' weights; they start at zero with a
    little noise (D16), everyone an even mix, or as `weights_start` says.
    """

    def __init__(
        self,
        embeddings: Embeddings,
        train: Comparisons,
        config: FitConfig,
        n_users: int,
        model: PreferenceModel,
        given: Float[Tensor, "users s"] | None = None,
    ) -> None:
        super().__init__(embeddings, train, config)
        self.register_buffer("given", given)
        if given is None:
            spread = 1.0 if config.weights_start == "random" else 0.01
            self.free = nn.Parameter(spread * torch.randn(n_users, model.state_dim))

    @override
    def loss(self, model: PreferenceModel, batch: Comparisons, done: float) -> Float[Tensor, ""]:
        config = self.config
        if self.given is not None:
            states = self.given.index_select(0, batch.user)
        elif len(self.free) <= len(batch):  # map whichever is fewer: users or comparisons
            states = model.free_to_states(self.free).index_select(0, batch.user)
        else:
            states = model.free_to_states(self.free.index_select(0, batch.user))
        distinct, row = distinct_rows(batch.question, len(batch.questions))
        features = self.question_features(model, batch.questions[distinct]).index_select(0, row)
        loss = mean_loss(model.margin(features, states) * batch.sign, batch, config.loss)
        if not config.bound_loss:
            return loss
        # Summed, not averaged, over the batch, as in the authors' code (D13).
        lengths = model.ideal_norm(features, states)
        return loss + config.bound_loss * torch.relu(lengths - config.bound).sum()

    @override
    def states(self, model: PreferenceModel) -> Float[Tensor, "users s"]:
        return model.free_to_states(self.free).detach() if self.given is None else self.given


MARGINS_AT_ONCE = 1 << 25  # of comparisons at points, 128 MB of float32
COUNTED_AT_ONCE = 1 << 20  # answers counted per user and question, at some dozen bytes each
# Answers of a batch from which on a dense matrix counts them, if it has at most so many questions per answer.
DENSE_FROM, DENSE_CELLS = 1 << 17, 8


class Mixture(Objective):
    """Each user is a latent class over points p of the simplex: -log sum_p pi_p prod_j sigmoid(margin_j(p)).

    The class shares pi follow the posteriors, and a user's weights are the posterior mean of the points. An
    inverse temperature rises to 1 over the first part of the run (annealed EM), so that early, arbitrary
    prototypes do not claim users for good. With few answers a user this is what reaches the bound of a
    learner who knows the prototypes, where a point estimate of free weights falls far below it.
    """

    def __init__(
        self,
        embeddings: Embeddings,
        train: Comparisons,
        config: FitConfig,
        n_users: int,
        model: PreferenceModel,
    ) -> None:
        super().__init__(embeddings, train, config)
        if not isinstance(model, PrototypeModel):
            raise PalError(
                f"objective must be 'pal' for model {model.config.model}, whose states are no weights of "
                "prototypes, got 'mixture'"
            )
        points = simplex_grid(model.config.K, config.grid_points)
        self.register_buffer("points", points)
        self.register_buffer("log_share", torch.full((len(points),), -float(len(points))).log_softmax(0))
        self.n_users = n_users
        answers = len(train) if train.weight is None else float(train.weight.sum())
        self.start = min(1.0, config.start_answers * n_users / answers)
        # Comparisons that come user by user, as the pipeline's do, need no second copy in that order.
        ordered = bool((train.user[1:] >= train.user[:-1]).all())
        self.by_user = train if ordered else train[torch.argsort(train.user, stable=True)]
        self.counts = torch.bincount(train.user, minlength=n_users)
        self.starts = self.counts.cumsum(0) - self.counts
        self.all_counts: AnswerCounts | None = None  # kept over the steps of a full batch

    @override
    def batches(self) -> Iterator[Comparisons]:
        """One epoch: every user once with all answers, in a new random order."""
        if self.batch_size == len(self.train_set):
            yield self.by_user
            return
        order = torch.randperm(self.n_users).to(self.device)
        for users in _user_blocks(self.counts[order], self.batch_size):
            counts = self.counts[order[users]]
            within = torch.arange(int(counts.sum()), device=self.device)
            within -= (counts.cumsum(0) - counts).repeat_interleave(counts)
            yield self.by_user[self.starts[order[users]].repeat_interleave(counts) + within]

    @override
    def loss(self, model: PreferenceModel, batch: Comparisons, done: float) -> Float[Tensor, ""]:
        inverse_temperature = self.config.inverse_temperature(self.start, done)
        users, place = distinct_rows(batch.user, self.n_users)
        likelihood = self._log_likelihoods(model, batch, place, len(users))
        joint = self.log_share + inverse_temperature * likelihood
        if done >= self.config.anneal:  # shares that move while classes form let one class take everyone
            # Move the class shares towards the mean posterior, by the share of the users just seen.
            share = len(users) / self.n_users
            mean = torch.softmax(joint.detach(), 1).mean(0).clamp_min(1e-6)
            self.log_share.copy_(((1 - share) * self.log_share.exp() + share * mean / mean.sum()).log())
        answers = len(batch) if batch.weight is None else batch.weight.sum()
        return -torch.logsumexp(joint, 1).sum() / (inverse_temperature * answers)

    def _log_likelihoods(
        self, model: PreferenceModel, batch: Comparisons, place: Int[Tensor, " n"], n_users: int
    ) -> Float[Tensor, "u points"]:
        if batch is not self.by_user:
            # A batch that serves once does not repay the sorting that a sparse matrix takes.
            counts = AnswerCounts.from_answers(batch, place, n_users, DENSE_FROM)
        else:
            self.all_counts = self.all_counts or AnswerCounts.from_answers(batch, place, n_users, None)
            counts = self.all_counts
        features = self.question_features(model, counts.questions)
        return counts.log_likelihoods(model.margins_at(features, self.points))

    @override
    def states(self, model: PreferenceModel) -> Float[Tensor, "users K"]:
        return torch.softmax(self.log_share + self.likelihoods(model), 1) @ self.points

    def likelihoods(self, model: PreferenceModel) -> Float[Tensor, "users points"]:
        """Each user's log-likelihood at each point, in nats, all answers counted."""
        size = min(model.block_size, max(1, MARGINS_AT_ONCE // len(self.points)))
        if len(self.train_set.questions) <= size:  # what is built is never longer than the questions
            size = max(size, COUNTED_AT_ONCE)
        blocks = []
        for users in _user_blocks(self.counts, size):
            start = int(self.starts[users[0]])
            block = self.by_user.slice(start, start + int(self.counts[users].sum()))
            blocks.append(self._log_likelihoods(model, block, block.user - users[0], len(users)).detach())
        return torch.cat(blocks)


@dataclass(frozen=True)
class AnswerCounts:
    """How often each user chose each side of each question: likelihoods at points as one matrix product.

    Many users answer the same questions, so the log-likelihood of an answer at a point is worked out once per
    distinct question, and a user's is a weighted sum of rows:

        L[u, p] = sum_j A[u, j] log sigmoid(m[j, p]) + B[u, j] log sigmoid(-m[j, p])

    with A and B the (weighted) counts of answers for a question's first and second response, m the margins.
    Nothing as long as answers times points is ever built.
    """

    questions: Questions
    # (users, sides): compressed by rows, or dense, without a sort, for users who answer a fair share.
    by_user: Tensor
    by_side: Tensor | None  # its transpose, compressed by rows too, for the gradient; None where it is dense

    @classmethod
    def from_answers(
        cls, answers: Comparisons, user: Int[Tensor, " n"], n_users: int, dense_from: int | None
    ) -> "AnswerCounts":
        """Count answers by their users' rows, densely from so many on if the table is full enough.

        Of a label P(chosen is preferred), the rest counts for the other side.
        """
        distinct, question = distinct_rows(answers.question, len(answers.questions))
        n_questions, questions = len(distinct), answers.questions[distinct]
        second = (answers.sign < 0).long()
        side = question + second * n_questions
        amount, label = answers.weights, answers.label
        if label is not None:
            user, side = user.repeat(2), torch.cat([side, question + (1 - second) * n_questions])
            amount = torch.cat([amount * label, amount * (1 - label)])
        n_sides = 2 * n_questions
        if dense_from is not None and len(answers) >= max(dense_from, n_users * n_questions // DENSE_CELLS):
            table = amount.new_zeros(n_users * n_sides).index_add_(0, user * n_sides + side, amount)
            return cls(questions, table.view(n_users, n_sides), None)
        by_user = _compressed(user, side, amount, (n_users, n_sides))
        return cls(questions, by_user, _compressed(side, user, amount, (n_sides, n_users)))

    def log_likelihoods(self, margins: Float[Tensor, "q points"]) -> Float[Tensor, "users points"]:
        """Each user's log-likelihood at each point, in nats; differentiable in the margins there."""
        first = functional.logsigmoid(margins)
        sides = torch.cat([first, first - margins])
        if self.by_side is None:
            return self.by_user @ sides
        return _SparseProduct.apply(sides, self.by_user, self.by_side)


def _compressed(
    row: Int[Tensor, " n"], column: Int[Tensor, " n"], amount: Float[Tensor, " n"], shape: tuple[int, int]
) -> Tensor:
    """A sparse matrix compressed by rows; entries of one place stay apart, and products add them."""
    if bool((row[1:] < row[:-1]).any()):
        row, order = torch.sort(row, stable=True)
        column, amount = column.index_select(0, order), amount.index_select(0, order)
    starts = torch.zeros(shape[0] + 1, dtype=torch.int32, device=row.device)
    starts[1:] = torch.bincount(row, minlength=shape[0]).cumsum(0)
    with warnings.catch_warnings():  # torch says once that such tensors are in beta
        warnings.simplefilter("ignore")
        return torch.sparse_csr_tensor(starts, column.int(), amount.float(), shape, check_invariants=False)


class _SparseProduct(torch.autograd.Function):
    """A sparse matrix times a dense one; torch's own gradient sorts anew each time, or is not there."""

    @staticmethod
    @override
    def forward(ctx: torch.autograd.function.FunctionCtx, x: Tensor, matrix: Tensor, back: Tensor) -> Tensor:
        ctx.back = back  # type: ignore[attr-defined]
        return matrix @ x

    @staticmethod
    @override
    def backward(ctx: torch.autograd.function.FunctionCtx, grad: Tensor) -> tuple[Tensor, None, None]:  # type: ignore[override]
        return ctx.back @ grad.contiguous(), None, None  # type: ignore[attr-defined]


def simplex_grid(K: int, max_points: int) -> Float[Tensor, "points K"]:
    """The finest regular grid of the simplex with at most so many points, and its corners in any case."""
    steps = 1
    while K > 1 and comb(steps + K, K - 1) <= max_points:
        steps += 1
    # Stars and bars: K - 1 bars among steps + K - 1 places; the gaps between bars are the coordinates.
    rows = [
        [b - a - 1 for a, b in pairwise((-1, *bars, steps + K - 1))]
        for bars in combinations(range(steps + K - 1), K - 1)
    ]
    return torch.tensor(rows, dtype=torch.float32) / steps


def _user_blocks(counts: Int[Tensor, " users"], size: int) -> tuple[Int[Tensor, " block"], ...]:
    """Rows of users in blocks of about `size` answers, in order; a block without answers joins another."""
    block = (counts.cumsum(0) - 1).clamp_min(0) // size
    n_users = torch.unique_consecutive(block, return_counts=True)[1]
    return torch.arange(len(counts), device=counts.device).split(n_users.tolist())
