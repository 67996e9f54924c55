"""Bayes bound: the accuracy of a learner who knows how the data were made, but not each user.

The learner knows what the model must estimate (what each persona says, the simulation's map and true
prototypes) and infers of a user only what nobody can know beforehand: the group, or the true weights. Its
posterior is exact, or sampled exactly; it sees the same answers as the model and is judged on the same pairs,
so that no model can be expected to do better.

Shapes used in this module:
    n       comparisons
    groups  groups that a user may belong to
    chains  parts of the simplex drawn from, one chain each
    walls   half-spaces that cut a part out; rows of zeros are no walls
    kept    points kept of each chain
    K       true prototypes
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

import numpy as np
import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from pal.comparisons import Comparisons
from pipeline import paths
from pipeline.datasets import persona
from pipeline.datasets.persona import Statement
from pipeline.errors import PipelineError
from pipeline.params import Params
from pipeline.storage import raw_files
from pipeline.storage.manifests import read_json
from pipeline.storage.tables import text_id
from pipeline.study import Study

KEPT = 96  # points drawn of each user's posterior
PRIOR_POINTS = 2048  # points drawn of the prior
BURN, BURN_PER_WALL = 128, 8  # steps before the first point: the smaller the cut, the slower to forget
KEEP_EVERY = 4  # of the points of a chain
CHAINS_AT_ONCE, NUMBERS_AT_ONCE = 1 << 13, 1 << 21
TIE = 1e-6  # nearer to one half than this, a chance is a tie


class Bound(Protocol):
    """A learner who knows how the data were made."""

    def margins(self, half: str, known: list[Comparisons], test: Comparisons) -> list[Float[Tensor, " n"]]:
        """The chance that the chosen response is preferred less one half, for each set of known answers.

        Args:
            half: seen or unseen: whose comparisons these are.
            known: What is known of the users, several times over.
            test: What is judged.
        """


def bayes_bound(data: Study, values: Params) -> Bound | None:
    """The bound for a dataset of which the truth is known; None where it is not, or is not stored."""
    if data.dataset == "persona" and data.groups is not None:
        try:
            files = [
                (f.name, raw_files.stored(f, "persona")) for f in raw_files.read_manifest("persona").files
            ]
        except PipelineError as error:
            print(f"evaluate@persona: without the bound of a learner who knows the personas: {error}")
            return None
        statements = [statement for name, path in files for statement in persona.read(name, path)]
        options = values.persona.prepare
        says_yes = known_answers(data, statements, options.personas, options.prompt)
        return GroupBound(data, _persona_agrees(data, says_yes))
    path = paths.prepared(data.dataset) / "truth.json"
    if data.dataset != "simulated" or not path.exists():
        return None
    truth = read_json(path, f"prepare@{data.dataset}")
    coefficients = TrueCoefficients(data, np.array(truth["matrix"]), np.array(truth["prototypes"]))
    if truth["setting"] == "partition" or len(truth["prototypes"]) == 1:
        return GroupBound(data, lambda pairs: coefficients(pairs) > 0)
    weights = dict(zip(truth["user_ids"], truth["weights"], strict=True))
    start = {half: torch.tensor([weights[u] for u in ids]) for half, ids in data.user_ids.items()}
    return MixtureBound(coefficients, start, values.simulated.prepare.concentration, values.evaluate.seed)


@dataclass(frozen=True)
class GroupBound:
    """Users belong to groups of equal size, and everybody in a group answers alike.

    Args:
        data: The dataset, for the number of users.
        agrees: Whether a user of each group would answer each comparison as it was answered.
    """

    data: Study
    agrees: Callable[[Comparisons], Bool[Tensor, "n groups"]]

    def margins(self, half: str, known: list[Comparisons], test: Comparisons) -> list[Float[Tensor, " n"]]:
        """Every group that fits a user's answers is equally likely, and none else."""
        would, n_users = self.agrees(test), self.data.n_users(half)
        return [
            group_margins(self.agrees(answers), answers.user, would, test.user, n_users) for answers in known
        ]


def group_margins(
    agrees: Bool[Tensor, "known groups"],
    user: Int[Tensor, " known"],
    would: Bool[Tensor, "n groups"],
    test_user: Int[Tensor, " n"],
    n_users: int,
) -> Float[Tensor, " n"]:
    """Chance that users answer as they did, less one half, from the groups that fit their known answers.

    Where statements that occur twice with both answers leave no group without a contradiction, the groups
    with the fewest fit.

    Args:
        agrees: Whether each known answer is the group's.
        user: Whose known answer it is.
        would: Whether each answer to judge is the group's.
        test_user: Whose answer to judge it is.
        n_users: Users in all.
    """
    wrong = torch.zeros(n_users, would.shape[1]).index_add(0, user, (~agrees).float())
    fits = (wrong == wrong.amin(1, keepdim=True)).double()
    chance = ((fits / fits.sum(1, keepdim=True))[test_user] * would).sum(1) - 0.5
    return torch.where(chance.abs() < TIE, 0.0, chance)


@dataclass(frozen=True)
class MixtureBound:
    """Users stand anywhere between known prototypes: Dirichlet weights, cut by the answers without noise.

    Args:
        coefficients: Each comparison's margin at each true prototype; it is linear in the weights.
        start: For seen and unseen, users' true weights, from which draws start: they lie in every cut.
        concentration: Of the Dirichlet.
        seed: Makes the draws random.
    """

    coefficients: Callable[[Comparisons], Float[Tensor, "n K"]]
    start: dict[str, Float[Tensor, "users K"]]
    concentration: float
    seed: int

    def margins(self, half: str, known: list[Comparisons], test: Comparisons) -> list[Float[Tensor, " n"]]:
        """The share of points drawn of a user's posterior at which the chosen response is nearer."""
        start, coefficients = self.start[half].double(), self.coefficients(test)
        generator = torch.Generator().manual_seed(self.seed)

        def draw(walls: Tensor, start: Tensor, kept: int) -> Float[Tensor, "chains kept K"]:
            burn = BURN + BURN_PER_WALL * walls.shape[1]
            return draw_points(
                walls,
                start,
                concentration=self.concentration,
                kept=kept,
                burn=burn,
                generator=generator,
            )

        margins: dict[int, Tensor] = {}
        at_once = max(1, CHAINS_AT_ONCE // len(start))
        answered = [n for n, answers in enumerate(known) if len(answers)]
        for block in (answered[n : n + at_once] for n in range(0, len(answered), at_once)):
            walls = _walls([(self.coefficients(known[n]), known[n].user) for n in block], len(start))
            points = draw(walls, start.repeat(len(block), 1), KEPT).split(len(start))
            for n, users_points in zip(block, points, strict=True):
                margins[n] = _share_nearer(users_points, coefficients, test)
        prior = draw(start.new_zeros(1, 0, start.shape[1]), start[:1], PRIOR_POINTS)
        without = _share_nearer(prior.expand(len(start), -1, -1), coefficients, test)
        return [margins.get(n, without) for n in range(len(known))]


def _share_nearer(
    points: Float[Tensor, "users kept K"], coefficients: Float[Tensor, "n K"], test: Comparisons
) -> Float[Tensor, " n"]:
    """The share of a user's points at which the chosen response is nearer, less one half."""
    size = max(1, NUMBERS_AT_ONCE // points.shape[1])
    shares = [
        (torch.einsum("nk,npk->np", block, points[user]) > 0).double().mean(1)
        for block, user in zip(coefficients.split(size), test.user.split(size), strict=True)
    ]
    return torch.cat(shares) - 0.5


class TrueCoefficients:
    """The simulation's margins in favour of the chosen response: linear in a user's true weights."""

    def __init__(self, data: Study, matrix: np.ndarray, prototypes: np.ndarray) -> None:
        mapped = data.embeddings.responses.double().numpy() @ matrix.T
        self._mapped, self._prototypes = torch.from_numpy(mapped), torch.from_numpy(prototypes @ matrix.T)

    def __call__(self, pairs: Comparisons) -> Float[Tensor, "n K"]:
        """|rejected - a|^2 - |chosen - a|^2 at each true prototype a."""
        q = pairs.questions
        first, second = (self._mapped[rows[pairs.question]] for rows in (q.first, q.second))
        difference = second - first
        margin = (difference * (second + first)).sum(1, keepdim=True) - 2 * difference @ self._prototypes.T
        return margin * pairs.sign[:, None]


def _walls(
    known: list[tuple[Float[Tensor, "n K"], Int[Tensor, " n"]]], n_users: int
) -> Float[Tensor, "chains walls K"]:
    """Users' answers as half-spaces, once for each set that is known, padded with rows of zeros."""
    counts = [torch.bincount(user, minlength=n_users) for _, user in known]
    most = max(int(count.max()) for count in counts)
    walls = known[0][0].new_zeros(len(known), n_users, most, known[0][0].shape[1])
    for table, count, (coefficients, user) in zip(walls, counts, known, strict=True):
        order = torch.argsort(user, stable=True)
        place = torch.arange(len(user)) - (count.cumsum(0) - count).repeat_interleave(count)
        table[user[order], place] = coefficients[order]
    return walls.flatten(0, 1)


def known_answers(
    data: Study, statements: list[Statement], personas: list[str], prompt: str
) -> Bool[Tensor, "groups items"]:
    """Whether a user of each persona says yes to each item of the responses' and prompts' table."""
    rows = {item: row for row, item in enumerate(data.prompt_ids)}
    table = torch.zeros(len(personas), len(rows), dtype=torch.bool)
    for s in statements:
        row = rows.get(text_id(s.question if prompt == "question" else s.statement))
        if row is not None:
            table[personas.index(s.persona), row] |= s.agrees
    return table


def is_yes(data: Study, pairs: Comparisons) -> Bool[Tensor, " n"]:
    """Which comparisons were answered yes."""
    first = pairs.questions.first[pairs.question]
    return (first == data.response_ids.index(text_id("Yes"))) == (pairs.sign > 0)


def accuracy_bound(
    says_yes: Bool[Tensor, "groups items"], data: Study, known: Comparisons, test: Comparisons, n_users: int
) -> float:
    """Accuracy on `test` of a learner who knows the personas, and of a user only the answers in `known`."""
    agrees = _persona_agrees(data, says_yes)
    margin = group_margins(agrees(known), known.user, agrees(test), test.user, n_users)
    return float(((margin > 0).double() + 0.5 * (margin == 0)).mean())


def _persona_agrees(
    data: Study, says_yes: Bool[Tensor, "groups items"]
) -> Callable[[Comparisons], Bool[Tensor, "n groups"]]:
    def agrees(pairs: Comparisons) -> Bool[Tensor, "n groups"]:
        would = says_yes.T[pairs.questions.prompt[pairs.question]]
        return would == is_yes(data, pairs)[:, None]

    return agrees


def draw_points(
    walls: Float[Tensor, "chains walls K"],
    start: Float[Tensor, "chains K"],
    *,
    concentration: float,
    kept: int,
    burn: int,
    generator: torch.Generator,
) -> Float[Tensor, "chains kept K"]:
    """Hit-and-run: points w of the simplex with walls @ w >= 0, in proportion to Dirichlet(concentration).

    From a point inside take a random direction, and go to a point drawn evenly from the line between the
    walls (Smith 1984); where the prior is not flat, the ratio of its densities accepts a move (Metropolis).
    There are many chains at once, one for each cut of the simplex.

    Args:
        walls: One row per half-space that points must lie in.
        start: A point inside each cut; forgotten over the burn-in.
        concentration: Of the symmetric Dirichlet; 1 is flat.
        kept: Points to keep of each chain, every fourth.
        burn: Steps before the first point is kept.
        generator: Where randomness comes from.
    """
    chains, K = start.shape
    walls = torch.cat([walls, torch.eye(K, dtype=walls.dtype).expand(chains, K, K)], 1)
    point, points = start.to(walls.dtype), []
    for step in range(burn + KEEP_EVERY * kept):
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
        if step >= burn and (step - burn) % KEEP_EVERY == KEEP_EVERY - 1:
            points.append(point)
    return torch.stack(points, 1)
