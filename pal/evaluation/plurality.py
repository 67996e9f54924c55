"""Is there plurality at all? Whether users' own weights foretell their answers better than other users' do.

Where everyone prefers alike, weights fitted to one user's answers say nothing about the user's other
answers, and it makes no difference whose weights judge them. So users' weights are dealt anew at random, and
the fitted model is as good as its rank among these deals: a permutation test, exact whatever the head,
paired by user and clustered by user, since whole users are dealt. Only held-out comparisons may enter: on
those that were fitted to, own weights win in any case.

Shapes used in this module:
    n       comparisons
    users   users
    K       prototypes
"""

from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor

from pal.comparisons import Comparisons, Embeddings
from pal.errors import PalError
from pal.models.base import PreferenceModel, feature_blocks
from pal.models.losses import LOSSES, expected_loss

DEALS = 999
MOST_COMPARISONS = 20_000  # judged per deal; of more, whole users are left out at random


@dataclass(frozen=True)
class Plurality:
    """How much better users' own weights judge than weights dealt at random.

    Args:
        gain: Mean loss under dealt weights less that under the own ones, in nats per comparison, users alike;
            above 0 where users differ.
        p_value: Share of deals that judge at least as well as the own weights, these counted too; never 0.
        n_users: Users judged.
        n_comparisons: Their comparisons.
    """

    gain: float
    p_value: float
    n_users: int
    n_comparisons: int


def plurality_test(
    head: PreferenceModel,
    weights: Float[Tensor, "users K"],
    embeddings: Embeddings,
    held_out: Comparisons,
    *,
    loss: str = "logistic",
    strata: Int[Tensor, " users"] | None = None,
    deals: int = DEALS,
    seed: int = 0,
) -> Plurality:
    """Test the hypothesis that all users prefer alike.

    Args:
        head: A head in evaluation mode.
        weights: The users' weights, fitted to other comparisons than `held_out`.
        embeddings: What the comparisons' questions point into.
        held_out: Comparisons of these users.
        loss: The loss that the head was fitted with.
        strata: Weights are dealt among users of the same number here, as the count of answers that they were
            fitted to, where counts differ: few answers make other weights than many. None deals among all.
        deals: Random deals of the weights.
        seed: The same seed gives the same result.

    Raises:
        PalError: If there is no comparison.
    """
    if not len(held_out):
        raise PalError("held_out must hold at least one comparison, got none")
    draw = np.random.default_rng(seed)
    judged = _some_users(held_out, len(weights), draw)
    with torch.inference_mode():
        read = torch.cat(
            [r.index_select(0, place) for _, r, place in feature_blocks(head, embeddings, judged)]
        )
        users, row = torch.unique(judged.user, return_inverse=True)
        share = 1.0 / torch.bincount(row).index_select(0, row) / len(users)

        def mean_loss(dealt: Float[Tensor, "users K"]) -> float:
            margin = head.margin(read, dealt.index_select(0, row)) * judged.sign
            return float((expected_loss(LOSSES[loss], margin, judged.label) * share).sum())

        own = weights.index_select(0, users)
        group = np.zeros(len(users)) if strata is None else strata.index_select(0, users).numpy(force=True)
        found = mean_loss(own)
        others = [mean_loss(own[torch.from_numpy(_deal(group, draw))]) for _ in range(deals)]
    # Deals that change nothing but the last digits are as good.
    as_good = sum(other <= found + 1e-6 * max(1.0, abs(found)) for other in others)
    return Plurality(float(np.mean(others)) - found, (1 + as_good) / (1 + deals), len(users), len(judged))


def _some_users(held_out: Comparisons, n_users: int, draw: np.random.Generator) -> Comparisons:
    """All comparisons, or where they are many those of random users."""
    if len(held_out) <= MOST_COMPARISONS:
        return held_out
    order = torch.from_numpy(draw.permutation(n_users))
    counts = torch.bincount(held_out.user, minlength=n_users)[order]
    taken = torch.zeros(n_users, dtype=torch.bool)
    taken[order[counts.cumsum(0) <= MOST_COMPARISONS]] = True
    return held_out[taken[held_out.user].nonzero().squeeze(1)]


def _deal(
    group: Int[np.ndarray, " users"] | Float[np.ndarray, " users"], draw: np.random.Generator
) -> Int[np.ndarray, " users"]:
    """A random order of the users that keeps everyone within the own group."""
    shuffled = np.lexsort((draw.random(len(group)), group))
    dealt = np.empty(len(group), dtype=np.int64)
    dealt[np.argsort(group, kind="stable")] = shuffled
    return dealt
