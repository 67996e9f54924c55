"""The Bayes bound: the accuracy of a learner who knows how the data were made, but not each user.

It knows what the model must estimate (what each persona says, the simulation's map and true prototypes; a
dataset's `bound` says it) and infers of a user only what nobody can know beforehand: the group, or the true
weights. Its posterior is exact for groups, and for weights drawn evenly between up to five prototypes; else
it is sampled. It sees the same answers as the model and is judged on the same pairs, so that no model can be
expected to do better.

Shapes used in this module:
    n       comparisons
    groups  groups that a user may belong to
    chains  parts of the simplex drawn from, one chain each
    walls   half-spaces that cut a part out; rows of zeros are no walls
    parts   simplices that make up what is left
    kept    points kept of each chain
    K       true prototypes
"""

from dataclasses import dataclass
from typing import ClassVar

import numpy as np
import torch
from jaxtyping import Bool, Float, Int
from numpy import ndarray
from scipy.spatial import Delaunay, HalfspaceIntersection
from torch import Tensor

from pal.comparisons import Comparisons
from pipeline.datasets import DATASETS
from pipeline.datasets.base import Truth
from pipeline.params import Params
from pipeline.study import Study, places_in_user

EXACT_UP_TO = 5  # prototypes: of more, polytopes have thousands of parts
# Points drawn of each user's posterior, and of the prior, where it is sampled.
KEPT, PRIOR_POINTS = 1024, 1 << 20
BURN, BURN_PER_WALL = 128, 8  # steps before the first point: the smaller the cut, the slower to forget
CHAINS_AT_ONCE, NUMBERS_AT_ONCE = 1 << 12, 1 << 21
TIE = 1e-6  # nearer to one half than this, a chance is a tie


def bayes_bound(data: Study, values: Params) -> "Bound | None":
    """The bound for a dataset whose module knows the truth; None where it is not stored."""
    truth: Truth | None = DATASETS[data.dataset].bound(data, values)
    if truth is None:
        return None
    if truth.weights is None:
        return GroupBound(data, truth)
    weights = {half: [truth.weights[user] for user in ids] for half, ids in data.user_ids.items()}
    places = {half: torch.tensor(rows, dtype=torch.float64) for half, rows in weights.items()}
    if truth.concentration == 1 and len(next(iter(truth.weights.values()))) <= EXACT_UP_TO:
        return PolytopeBound(truth, places)
    return MixtureBound(truth, places, values.evaluate.seed)


@dataclass(frozen=True)
class GroupBound:
    """Users belong to groups of equal size, and everybody in a group answers alike.

    `margins` gives, as of every bound, for each set of known answers the chance that the chosen response is
    preferred, less one half; known and test comparisons are of one half, seen or unseen.
    """

    data: Study
    truth: Truth

    def margins(self, half: str, known: list[Comparisons], test: Comparisons) -> list[Float[Tensor, " n"]]:
        """Every group that fits a user's answers is equally likely, and none else."""
        would, n_users = self.truth.margins(test) > 0, self.data.n_users(half)
        return [
            group_margins(self.truth.margins(answers) > 0, answers.user, would, test.user, n_users)
            for answers in known
        ]


def group_margins(
    agrees: Bool[Tensor, "known groups"], user: Int[Tensor, " known"],
    would: Bool[Tensor, "n groups"], test_user: Int[Tensor, " n"], n_users: int,
) -> Float[Tensor, " n"]:  # fmt: skip
    """Chance that users answer as they did, less one half, from the groups that fit their known answers.

    Statements may occur with both answers: where every group contradicts some, those with the fewest fit.
    """
    wrong = torch.zeros(n_users, would.shape[1]).index_add(0, user, (~agrees).float())
    fits = (wrong == wrong.amin(1, keepdim=True)).double()
    chance = ((fits / fits.sum(1, keepdim=True))[test_user] * would).sum(1) - 0.5
    return torch.where(chance.abs() < TIE, 0.0, chance)


@dataclass(frozen=True)
class PolytopeBound:
    """Users stand anywhere between a few prototypes, evenly: posteriors are polytopes about true weights."""

    truth: Truth
    inside: dict[str, Float[Tensor, "users K"]]

    def margins(self, half: str, known: list[Comparisons], test: Comparisons) -> list[Float[Tensor, " n"]]:
        """The share of the polytope that users' answers leave at which the chosen response is nearer."""
        inside, tested = self.inside[half].double().numpy(), test.user.numpy()
        judged, *walled = (self.truth.margins(pairs).double().numpy() for pairs in (test, *known))
        rows_of_user = [np.flatnonzero(tested == user) for user in range(len(inside))]
        margins = []
        for answers, walls in zip(known, walled, strict=True):
            answered, nearer = answers.user.numpy(), np.zeros(len(tested))
            for user, rows in enumerate(rows_of_user):
                nearer[rows] = shares(simplices(walls[answered == user], inside[user]), judged[rows])
            margins.append(torch.from_numpy(nearer - 0.5))
        return margins


def simplices(walls: Float[ndarray, "walls K"], inside: Float[ndarray, " K"]) -> Float[ndarray, "parts K K"]:
    """Corners of simplices that make up the simplex of weights, where no wall's margin is negative.

    By the first K - 1 weights: half-spaces intersected about a point `inside`, triangulated by Qhull.
    """
    K = len(inside)
    walls = np.concatenate([walls[walls @ inside > 0], np.eye(K)])  # by rounding alone one excludes the point
    planes = np.concatenate([walls[:, :-1] - walls[:, -1:], walls[:, -1:]], 1)
    planes /= np.linalg.norm(planes[:, :-1], axis=1, keepdims=True)
    if K == 2:  # a line, which Qhull does not take
        ends = -planes[:, 0] * planes[:, 1]
        corners = np.array([[[ends[planes[:, 0] > 0].max()], [ends[planes[:, 0] < 0].min()]]])
    else:
        normals, point = planes[:, :-1], inside[:-1]
        for axis in (*np.eye(K - 1), *np.eye(K - 1)):  # to the middle of lines: away from the walls
            slack, slope = normals @ point + planes[:, -1], normals @ axis
            reach = -slack / np.where(slope == 0, 1, slope)
            point = point + (reach[slope < 0].min() + reach[slope > 0].max()) / 2 * axis
        corners = HalfspaceIntersection(-planes, point).intersections
        apart = corners - point
        corners = corners[Delaunay(apart / np.abs(apart).max(0)).simplices]
    return np.concatenate([corners, 1 - corners.sum(2, keepdims=True)], 2)


def shares(parts: Float[ndarray, "parts K K"], planes: Float[ndarray, "n K"]) -> Float[ndarray, " n"]:
    """The share of the simplices' volume at which each plane's margin is positive (Varsi 1973)."""
    edges = parts[:, 1:, :-1] - parts[:, :1, :-1]
    volume = np.abs(np.linalg.det(edges))
    margin = -np.sort(-np.einsum("nj,pkj->npk", planes, parts), 2)  # falling
    share = (margin >= 0).astype(float)
    for high in range(margin.shape[2] - 1):
        for low in range(high + 1, margin.shape[2]):
            above, below = margin[..., high], margin[..., low]
            both = (above >= 0) & (below < 0)
            mixed = above * share[..., low - 1] - below * share[..., low]
            share[..., low] = np.where(both, mixed / np.where(both, above - below, 1), share[..., low])
    return share[..., -1] @ (volume / volume.sum())


@dataclass(frozen=True)
class MixtureBound:
    """Users stand anywhere between known prototypes: Dirichlet weights, cut by answers without noise.

    Draws start from users' true weights (`start`, for seen and unseen), which lie in every cut.
    """

    said: ClassVar[str] = "The best possible accuracy is sampled: the true one is within 0.6 points of it."
    truth: Truth
    start: dict[str, Float[Tensor, "users K"]]
    seed: int

    def margins(self, half: str, known: list[Comparisons], test: Comparisons) -> list[Float[Tensor, " n"]]:
        """The share of points drawn of a user's posterior at which the chosen response is nearer."""
        start, coefficients = self.start[half].double(), self.truth.margins(test)
        n_users, K = start.shape
        generator = torch.Generator().manual_seed(self.seed)

        def share_nearer(points: Float[Tensor, "users kept K"]) -> Float[Tensor, " n"]:
            size = max(1, NUMBERS_AT_ONCE // points.shape[1])
            blocks = zip(coefficients.split(size), test.user.split(size), strict=True)
            nearer = [torch.einsum("nk,npk->np", block, points[user]) > 0 for block, user in blocks]
            return torch.cat([each.double().mean(1) for each in nearer]) - 0.5

        margins: dict[int, Tensor] = {}
        at_once = max(1, CHAINS_AT_ONCE // n_users)
        answered = [n for n, answers in enumerate(known) if len(answers)]
        for block in (answered[n : n + at_once] for n in range(0, len(answered), at_once)):
            # Users' answers as half-spaces, once for each set that is known, padded with rows of zeros.
            most = max(int(torch.bincount(known[n].user).max()) for n in block)
            walls = start.new_zeros(len(block), n_users, most, K)
            for table, n in zip(walls, block, strict=True):
                user = known[n].user
                table[user, places_in_user(user, n_users)] = self.truth.margins(known[n])
            points = draw_points(
                walls.flatten(0, 1), start.repeat(len(block), 1), concentration=self.truth.concentration,
                kept=KEPT, burn=BURN + BURN_PER_WALL * most, generator=generator,
            ).split(n_users)  # fmt: skip
            margins |= {n: share_nearer(users_points) for n, users_points in zip(block, points, strict=True)}
        if len(answered) < len(known):
            concentration = np.full(K, self.truth.concentration)
            prior = np.random.default_rng(self.seed).dirichlet(concentration, PRIOR_POINTS)
            nearer = torch.zeros(len(coefficients), dtype=torch.float64)
            # Counted in place: a small result after each large one kept the memory from being used again.
            for places in torch.from_numpy(prior).float().split(max(1, NUMBERS_AT_ONCE // len(coefficients))):
                nearer += (coefficients.float() @ places.T > 0).sum(1)
            without = nearer / PRIOR_POINTS - 0.5
            margins |= {n: without for n in range(len(known)) if n not in margins}
        return [margins[n] for n in range(len(known))]


Bound = GroupBound | PolytopeBound | MixtureBound


def draw_points(
    walls: Float[Tensor, "chains walls K"], start: Float[Tensor, "chains K"],
    *, concentration: float, kept: int, burn: int, generator: torch.Generator,
) -> Float[Tensor, "chains kept K"]:  # fmt: skip
    """Hit-and-run: points w of the simplex with walls @ w >= 0, in proportion to Dirichlet(concentration).

    From a point inside take a random direction, and go to a point drawn evenly from the line between the
    walls (Smith 1984); where the prior is not flat, the ratio of its densities accepts a move (Metropolis).
    Each cut of the simplex has a chain of its own.
    """
    chains, K = start.shape
    walls = torch.cat([walls, torch.eye(K, dtype=walls.dtype).expand(chains, K, K)], 1)
    point, points = start.to(walls.dtype), []
    for step in range(burn + kept):
        direction = torch.randn(chains, K, generator=generator, dtype=walls.dtype)
        direction -= direction.mean(1, keepdim=True)  # along the simplex
        share = torch.rand(chains, generator=generator, dtype=walls.dtype)
        slack, slope = torch.bmm(walls, torch.stack([point, direction], 2)).unbind(2)
        reach = slack.clamp_min(0) / slope.abs()  # infinite or NaN where the line runs along a wall
        ahead = torch.where(slope < 0, reach, torch.inf).amin(1)
        behind = torch.where(slope > 0, reach, torch.inf).amin(1)
        new = (point + (share * (ahead + behind) - behind)[:, None] * direction).clamp_min(1e-12)
        new = new / new.sum(1, keepdim=True)
        if concentration != 1:
            log_ratio = (concentration - 1) * (new.log() - point.log()).sum(1)
            chance = torch.rand(chains, generator=generator, dtype=walls.dtype)
            new = torch.where((chance.log() < log_ratio)[:, None], new, point)
        point = new
        if step >= burn:
            points.append(point)
    return torch.stack(points, 1)
