"""Analyses of prototypes: agreement between fits, dead prototypes, users outside the hull, test of plurality.

Prototypes come in any order, so those of two fits are matched first (Hungarian method). Two fits of data
without groups also agree on what everybody likes; so only what tells prototypes apart is compared: their
margins on common questions, less the mean over prototypes.

Shapes used in this module:
    q      questions
    n      comparisons
    users  users
    K      prototypes
    state  size of a user's state; K where states are weights over prototypes
"""

from dataclasses import dataclass
from math import log
from typing import NamedTuple

import numpy as np
import torch
from jaxtyping import Bool, Float, Int
from scipy.optimize import linear_sum_assignment
from torch import Tensor

from pal.comparisons import Comparisons, Embeddings
from pal.errors import PalError
from pal.models.base import PreferenceModel, feature_blocks
from pal.models.losses import LOSSES, expected_loss
from pal.users.simplex import solve_weights

LIKELIER = 20.0  # how many times likelier answers must be outside than anywhere between the prototypes
WIDER = 2.0  # how far outside to look: the simplex of the prototypes, so many times as wide
SHUFFLES = 999
MAX_COMPARISONS = 20_000  # judged per shuffle; of more, whole users are left out at random


class Matched(NamedTuple):
    """Prototypes of one fit and their partners in another.

    Args:
        partner: The other fit's prototype that each is matched with.
        agreement: Cosine, over questions, of what sets either apart from its fit's mean; -1 to 1.
    """

    partner: Int[Tensor, " K"]
    agreement: Float[Tensor, " K"]


def match_prototypes(
    margins: Float[Tensor, "q K"],
    other_margins: Float[Tensor, "q K"],
    shares: Float[Tensor, " K"],
    other_shares: Float[Tensor, " K"],
) -> Matched:
    """Match two fits' prototypes so that they agree most in total (Hungarian method).

    Args:
        margins: Margins of the questions at each prototype of the first fit.
        other_margins: Margins of the same questions at each prototype of the second fit.
        shares: Each prototype's share of the users' weight; sums to 1. The mean is taken with these, so that
            an unused prototype moves no other.
        other_shares: The same in the second fit.
    """

    def differences(margins: Float[Tensor, "q K"], shares: Float[Tensor, " K"]) -> Float[Tensor, "q K"]:
        apart = (margins - (margins @ shares)[:, None]).double()
        return apart / apart.norm(dim=0, keepdim=True).clamp_min(1e-12)

    cosines = (differences(margins, shares).T @ differences(other_margins, other_shares)).clamp(-1, 1)
    _, columns = linear_sum_assignment(cosines.numpy(force=True), maximize=True)
    partner = torch.from_numpy(columns).to(cosines.device)
    return Matched(partner, cosines.gather(1, partner[:, None])[:, 0])


def dead_prototypes(weights: Float[Tensor, "users K"]) -> Bool[Tensor, " K"]:
    """Which prototypes are unused: no user's largest weight, or less than 1 / (10 K) of all weight."""
    K = weights.shape[1]
    nobodys_largest = torch.bincount(weights.argmax(1), minlength=K) == 0
    return nobodys_largest | (weights.mean(0) < 1 / (10 * K))


def outside_hull(
    margins: Float[Tensor, "n K"], user: Int[Tensor, " n"], *, n_users: int
) -> Bool[Tensor, " users"]:
    """Likelihood ratio of users outside the convex hull of the prototypes: whom no mix describes.

    A user's answers have their greatest likelihood somewhere between the prototypes, and somewhere in a
    simplex around the same centre that is twice as wide. A user is outside whose answers are 20 times
    likelier in the second.

    Args:
        margins: Each comparison's margin in favour of the chosen response at each prototype, where margins
            are linear in the weights.
        user: Whose comparison it is.
        n_users: Users in all; one without comparisons is not outside.
    """
    if margins.shape[1] == 1 or not len(margins):
        return torch.zeros(n_users, dtype=torch.bool)

    def max_log_likelihood(margins: Float[Tensor, "n K"]) -> Float[Tensor, " users"]:
        weights, _ = solve_weights(margins, user, n_users=n_users)
        each = torch.nn.functional.logsigmoid((margins * weights[user]).sum(1).double())
        return each.new_zeros(n_users).index_add(0, user, each)

    # A point of the wider simplex is c + WIDER (u - c), with u in the simplex and c its centre.
    wide = WIDER * margins + (1 - WIDER) * margins.mean(1, keepdim=True)
    return max_log_likelihood(wide) - max_log_likelihood(margins) > log(LIKELIER)


@dataclass(frozen=True)
class Plurality:
    """How much better users' own states predict their answers than shuffled states do.

    Args:
        gain: Mean loss under shuffled states less that under the own ones, in nats per comparison, users
            alike; above 0 where users differ.
        p_value: Share of shuffles with a loss at most that of the own states, these counted too; never 0.
        n_users: Users judged.
        n_comparisons: Their comparisons.
    """

    gain: float
    p_value: float
    n_users: int
    n_comparisons: int


def plurality_test(
    head: PreferenceModel,
    states: Float[Tensor, "users state"],
    embeddings: Embeddings,
    held_out: Comparisons,
    *,
    loss: str = "logistic",
    strata: Int[Tensor, " users"] | None = None,
    shuffles: int = SHUFFLES,
    seed: int = 0,
) -> Plurality:
    """Permutation test of whether users differ: shuffle the users' states, and compare held-out losses.

    Where everyone prefers alike, a state fitted to one user's answers says nothing about that user's other
    answers, and it makes no difference whose state judges them. The test is exact for every model, paired and
    clustered by user, since whole users are shuffled. Only held-out comparisons may enter: on those that were
    fitted to, own states win in any case.

    Args:
        head: A model in evaluation mode.
        states: The users' states, fitted to other comparisons than `held_out`.
        embeddings: What the comparisons' questions point into.
        held_out: Comparisons of these users.
        loss: The loss that the model was fitted with.
        strata: States are shuffled among users of the same number in this table, as the count of answers that
            they were fitted to, where counts differ: few answers make other states than many. None shuffles
            among all.
        shuffles: Random shuffles of the states.
        seed: The same seed gives the same result.

    Raises:
        PalError: If there is no comparison.
    """
    if not len(held_out):
        raise PalError("held_out must hold at least one comparison, got none")
    rng = np.random.default_rng(seed)
    if len(held_out) > MAX_COMPARISONS:  # random users' comparisons are enough
        order = torch.from_numpy(rng.permutation(len(states)))
        counts = torch.bincount(held_out.user, minlength=len(states))[order]
        taken = torch.zeros(len(states), dtype=torch.bool)
        taken[order[counts.cumsum(0) <= MAX_COMPARISONS]] = True
        held_out = held_out[taken[held_out.user].nonzero().squeeze(1)]
    with torch.inference_mode():
        features = torch.cat(
            [r.index_select(0, place) for _, r, place in feature_blocks(head, embeddings, held_out)]
        )
        users, row = torch.unique(held_out.user, return_inverse=True)
        share = 1.0 / torch.bincount(row).index_select(0, row) / len(users)

        def mean_loss(states: Float[Tensor, "users state"]) -> float:
            margin = head.margin(features, states.index_select(0, row)) * held_out.sign
            return float((expected_loss(LOSSES[loss], margin, held_out.label) * share).sum())

        own = states.index_select(0, users)
        group = np.zeros(len(users)) if strata is None else strata.index_select(0, users).numpy(force=True)
        own_loss, losses, order = mean_loss(own), [], np.empty(len(users), dtype=np.int64)
        for _ in range(shuffles):  # a random order that keeps everyone within their own group
            order[np.argsort(group, kind="stable")] = np.lexsort((rng.random(len(users)), group))
            losses.append(mean_loss(own[torch.from_numpy(order)]))
    # Shuffles that change nothing but the last digits are as good.
    as_good = sum(shuffled <= own_loss + 1e-6 * max(1.0, abs(own_loss)) for shuffled in losses)
    p_value = (1 + as_good) / (1 + shuffles)
    return Plurality(float(np.mean(losses)) - own_loss, p_value, len(users), len(held_out))
