"""Are prototypes the same next time? Several fits of the same data held against each other.

Prototypes come in any order, so those of two fits are matched first. Two fits of data without groups also
agree on what everybody likes; so what is compared is what tells prototypes apart: their margins on common
questions, less the mean over prototypes.

Shapes used in this module:
    q      questions
    n      comparisons
    users  users
    K      prototypes
"""

from typing import NamedTuple

import numpy as np
import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from pal.users.simplex import solve_weights

LIKELIER = 20.0  # how many times likelier answers must be outside than anywhere between the prototypes
WIDER = 2.0  # how far outside to look: the simplex of the prototypes, so many times as wide


class Matched(NamedTuple):
    """Prototypes of one fit and their partners in another.

    Args:
        partner: The other fit's prototype that each is matched with.
        agreement: Cosine, over questions, of what sets either apart from its fit's mean; -1 to 1.
    """

    partner: Int[Tensor, " K"]
    agreement: Float[Tensor, " K"]


def match(
    one: Float[Tensor, "q K"],
    other: Float[Tensor, "q K"],
    one_shares: Float[Tensor, " K"],
    other_shares: Float[Tensor, " K"],
) -> Matched:
    """Match two fits' prototypes so that they agree most, all together (Hungarian method).

    Args:
        one: Margins of the same questions at each prototype of the one fit.
        other: At each of the other.
        one_shares: Each prototype's share of the users' weight; sums to 1. What the mean is taken with, so
            that a prototype that nobody uses moves no other.
        other_shares: The same in the other fit.
    """
    from scipy.optimize import linear_sum_assignment

    cosines = (_apart(one, one_shares).T @ _apart(other, other_shares)).clamp(-1, 1)
    _, partner = linear_sum_assignment(cosines.numpy(force=True), maximize=True)
    found = torch.from_numpy(partner).to(cosines.device)
    return Matched(found, cosines.gather(1, found[:, None])[:, 0])


def _apart(margins: Float[Tensor, "q K"], shares: Float[Tensor, " K"]) -> Float[Tensor, "q K"]:
    """What sets each prototype apart from the mean of all, at unit length; zeros where nothing does."""
    apart = (margins - (margins @ shares)[:, None]).double()
    return apart / apart.norm(dim=0, keepdim=True).clamp_min(1e-12)


def adjusted_rand(one: "np.ndarray", other: "np.ndarray") -> float:
    """How far two divisions of the same people into groups agree (Hubert and Arabie 1985).

    1 for the same division, whatever its groups are called; 0 on average for divisions drawn at random.

    Args:
        one: Each person's group in the one division, any labels.
        other: The same people's in the other.
    """
    _, rows = np.unique(one, return_inverse=True)
    _, columns = np.unique(other, return_inverse=True)
    table = np.zeros((rows.max(initial=-1) + 1, columns.max(initial=-1) + 1))
    np.add.at(table, (rows, columns), 1)
    both, in_one, in_other = (float((x * (x - 1) / 2).sum()) for x in (table, table.sum(1), table.sum(0)))
    pairs = len(rows) * (len(rows) - 1) / 2
    expected = in_one * in_other / pairs if pairs else 0.0
    most = (in_one + in_other) / 2
    return 1.0 if most == expected else (both - expected) / (most - expected)


def dead(weights: Float[Tensor, "users K"]) -> Bool[Tensor, " K"]:
    """Which prototypes nobody stands at: no user's largest weight, or less than 1 / (10 K) of all weight."""
    K = weights.shape[1]
    first = torch.bincount(weights.argmax(1), minlength=K) == 0
    return first | (weights.mean(0) < 1 / (10 * K))


def outside(
    margins: Float[Tensor, "n K"], user: Int[Tensor, " n"], *, n_users: int
) -> Bool[Tensor, " users"]:
    """Which users no mix of the prototypes describes: those who stand outside the hull.

    A user's answers have their greatest likelihood somewhere between the prototypes, and somewhere in a
    simplex around the same centre that is twice as wide. Who is 20 times likelier in the second is outside.

    Args:
        margins: Each comparison's margin in favour of the chosen response at each prototype, where margins
            are linear in the weights.
        user: Whose comparison it is.
        n_users: Users in all; one without comparisons is not outside.
    """
    K = margins.shape[1]
    if K == 1 or not len(margins):
        return torch.zeros(n_users, dtype=torch.bool)
    # A point of the wider simplex is c + WIDER (u - c), with u in the simplex and c its centre.
    wide = WIDER * margins + (1 - WIDER) * margins.mean(1, keepdim=True)
    within, beyond = (_best(table, user, n_users) for table in (margins, wide))
    return beyond - within > float(np.log(LIKELIER))


def _best(margins: Float[Tensor, "n K"], user: Int[Tensor, " n"], n_users: int) -> Float[Tensor, " users"]:
    """Each user's greatest log-likelihood over the simplex."""
    weights, _ = solve_weights(margins, user, n_users=n_users)
    each = torch.nn.functional.logsigmoid((margins * weights[user]).sum(1).double())
    return each.new_zeros(n_users).index_add(0, user, each)
