"""Answers counted per user and question: likelihoods at points as one product with a sparse matrix.

Many users answer the same questions, so what a point of the simplex makes of an answer is worked out once per
distinct question, and a user's log-likelihood is a weighted sum of rows:

    L[u, p] = sum_j A[u, j] log sigmoid(m[j, p]) + B[u, j] log sigmoid(-m[j, p])

with A and B the (weighted) counts of answers for a question's first and second response, m the margins.
Nothing as long as answers times points is ever built.

Shapes used in this module:
    n       answers
    q       distinct questions
    users   users
    points  points of the simplex
"""

import warnings
from dataclasses import dataclass

import torch
from jaxtyping import Float, Int
from torch import Tensor
from torch.nn import functional
from typing_extensions import override


@dataclass(frozen=True)
class Counts:
    """How often each user chose each side of each question, as a sparse matrix and its transpose.

    Args:
        by_user: (users, 2q), compressed by rows: columns 0 to q - 1 for first responses, then the second.
        by_side: Its transpose, (2q, users), compressed by rows too: the gradient needs it.
    """

    by_user: Tensor
    by_side: Tensor

    @classmethod
    def of(
        cls,
        *,
        user: Int[Tensor, " n"],
        question: Int[Tensor, " n"],
        sign: Float[Tensor, " n"],
        label: Float[Tensor, " n"] | None,
        weight: Float[Tensor, " n"] | None,
        n_users: int,
        n_questions: int,
    ) -> "Counts":
        """Count answers.

        Args:
            user: Row of each answer's user, below `n_users`.
            question: Each answer's question, below `n_questions`.
            sign: +1 where the first response was chosen, -1 where the second was.
            label: P(chosen is preferred): the rest counts for the other side. None stands for all ones.
            weight: How much each answer counts; None stands for all ones.
            n_users: Rows of the matrix.
            n_questions: Half of its columns.
        """
        other = (sign < 0).long()
        amount = torch.ones_like(sign) if weight is None else weight
        side = question + other * n_questions
        if label is not None:
            user, side = user.repeat(2), torch.cat([side, question + (1 - other) * n_questions])
            amount = torch.cat([amount * label, amount * (1 - label)])
        sides = 2 * n_questions
        return cls(
            _compressed(user, side, amount, (n_users, sides)),
            _compressed(side, user, amount, (sides, n_users)),
        )

    def log_likelihoods(self, margins: Float[Tensor, "q points"]) -> Float[Tensor, "users points"]:
        """Each user's log-likelihood at each point, in nats; differentiable in the margins.

        Args:
            margins: Reward of each question's first response less that of its second, at each point.
        """
        return _Product.apply(log_sides(margins), self.by_user, self.by_side)


def log_sides(margins: Float[Tensor, "q points"]) -> Float[Tensor, "sides points"]:
    """Log-likelihood of an answer for each question's first response, then of one for its second."""
    first = functional.logsigmoid(margins)
    return torch.cat([first, first - margins])


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


@dataclass(frozen=True)
class PlainCounts:
    """The same as a plain matrix, for users who answer a fair share of the questions: made without a sort.

    Args:
        by_user: (users, 2q): columns 0 to q - 1 for first responses, then the second.
    """

    by_user: Tensor

    @classmethod
    def of(
        cls,
        *,
        user: Int[Tensor, " n"],
        question: Int[Tensor, " n"],
        sign: Float[Tensor, " n"],
        label: Float[Tensor, " n"] | None,
        weight: Float[Tensor, " n"] | None,
        n_users: int,
        n_questions: int,
    ) -> "PlainCounts":
        """Count answers, as `Counts.of` does."""
        chosen, other = _sides(question, sign, n_questions)
        amount = torch.ones_like(sign) if weight is None else weight
        table = amount.new_zeros(n_users * 2 * n_questions)
        start = user * (2 * n_questions)
        table.index_add_(0, start + chosen, amount if label is None else amount * label)
        if label is not None:
            table.index_add_(0, start + other, amount * (1 - label))
        return cls(table.view(n_users, 2 * n_questions))

    def log_likelihoods(self, margins: Float[Tensor, "q points"]) -> Float[Tensor, "users points"]:
        """As those of `Counts`."""
        return self.by_user @ log_sides(margins)


def _sides(
    question: Int[Tensor, " n"], sign: Float[Tensor, " n"], n_questions: int
) -> tuple[Int[Tensor, " n"], Int[Tensor, " n"]]:
    """Columns of the response that was chosen and of the other one."""
    second = (sign < 0).long()
    return question + second * n_questions, question + (1 - second) * n_questions


class _Product(torch.autograd.Function):
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
