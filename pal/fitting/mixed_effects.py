"""The marginal likelihood of a linear reward with random effects: empirical Bayes by EM and Laplace's method.

A shared linear reward and item effects under ridges whose strength is learned; then people's deviations as
normal states, whose covariance EM learns (mixed logit: McFadden and Train, 2000; Laplace EM: Breslow and
Clayton, 1993), extrapolated. The last round is kept: a marginal likelihood guards itself against overfitting.

Shapes: n comparisons, q distinct questions, users, items with an effect of their own, wide (directions that
the shared reward reads), s numbers of a state (directions along which people differ, such items, factors, and
that of the shared reward), k factors of people's likings for items, padded (items, and a row of zeros for
others), d leading directions of the embeddings.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import NamedTuple

import torch
from jaxtyping import Float, Int
from torch import Tensor

from pal.comparisons import Comparisons, Embeddings, distinct_rows
from pal.config import FitConfig, HeadConfig
from pal.fitting.trainer import Fitted, Progress, validate
from pal.models.base import expected_answer, expected_loss, logistic, margins, mean_loss
from pal.models.linear import LinearModel
from pal.users.gaussian import Answers, Gaussian, laplace, moved, shrunk, side_by_side, unit_covariance

WIDE = 256  # leading directions that the shared reward reads
MOST_ITEMS = 1000  # items with an effect of their own: those compared most
FEWEST_COMPARED = 5  # times that an item with an effect of its own is compared
FEWEST_LIKED = 20  # times that an item is compared along which people may differ
ROUNDS = 16  # of EM
RIDGE_ROUNDS = 30  # of Newton's method and of the ridges' strengths, at most
LONGEST_LEAP = 2.0  # factor by which an extrapolation may enlarge a variance
LARGEST = 100.0  # variance: of answers that never err the likelihood has no maximum
FASTEST = 8.0  # factor by which an extrapolation may lengthen EM's step
ROWS_AT_ONCE = 1 << 16  # questions that a step of the shared fit reads in float64
TIE = 0.5  # the label of a tie
LEAST_TIES, MOST_TIES = 1e-3, 1e3  # of how common they are, where there are some
START = 0.3  # variance of a direction, and of a residual, in the first round
FACTORS = (1, 2, 4, 8)  # numbers of factors that are tried
FACTOR_ROUNDS, FACTOR_STEPS = 40, 15  # of EM, and of Newton's method
FARTHEST = 3.0  # that a person's factors move in one step
READ_PEOPLE = 5000  # from whom factors are found
HELD_OUT = 5  # every so many of them tell how many factors


def fit_mixed_effects(
    embeddings: Embeddings,
    train: Comparisons,
    *,
    n_users: int,
    head: HeadConfig,
    config: FitConfig,
    val: Comparisons | None = None,
    seed: int = 0,
    progress: Progress | None = None,
) -> Fitted:
    """Fit a `LinearModel` and the Gaussian population of its users, as `pal.fitting.trainer.fit`.

    `latent` and `item_directions` of the head are the most that are found; `val` is for the history alone.
    Nothing is random: the seed is not read, nor is the config.
    """
    model, ties = fit_shared_part(head, embeddings, train)
    if head.item_directions:
        loadings, told = find_loadings(model, embeddings, train)
        model.item_table = torch.cat([model.item_table, loadings], 1)
        model.unknown_table = torch.cat([model.unknown_table, told], 1)
        model.config = model.config.model_copy(update={"item_directions": model.item_table.shape[1]})
    D = model.state_dim
    centre = torch.zeros(D, dtype=torch.float64)
    centre[-1] = 1.0
    covariance = START * torch.eye(D, dtype=torch.float64)
    population = Gaussian(centre, covariance, torch.tensor([START]).double(), torch.tensor([ties]).double())
    read = population.evidence(model, embeddings, train)
    # Their own copy, as each round reads all of them.
    blocks = [_Block(*block) for block in side_by_side(read, train.user, n_users, by_item=True)]
    history, path = [], [population]
    for number in range(1, ROUNDS + 1):
        states, improved = _em_round(population, blocks, n_users)
        loss = mean_loss(margins(model, states, embeddings, train), train).item()
        history.append({"epoch": float(number), "loss": loss})
        if val is not None and len(val):
            history[-1] |= validate(margins(model, states, embeddings, val), val)
        if progress is not None:
            progress(number, loss)
        if number < ROUNDS:  # the states that are kept are those under the population that is kept
            path.append(improved)
            if len(path) == 3:
                path = [_extrapolated(*path)]
            population = path[-1]
    kept = Gaussian.from_tensors({name: x.float() for name, x in population.tensors().items()})
    return Fitted(model, states, loss, history, kept)


class Likings(NamedTuple):
    """Comparisons of two known items, beside what all people like."""

    items: Int[Tensor, "n 2"]  # both; the number of items where one is not known
    margin: Float[Tensor, " n"]  # the shared reward of the first less that of the second
    label: Float[Tensor, " n"]  # P(the first is preferred)
    weight: Float[Tensor, " n"]
    user: Int[Tensor, " n"]

    def of(self, rows: Tensor) -> "Likings":
        """Some of them: rows, or a mask."""
        return Likings(*(column[rows] for column in self))

    def blocks(self) -> Iterator["Likings"]:
        """All of them, in bounded memory."""
        for rows in torch.arange(len(self.user), device=self.user.device).split(ROWS_AT_ONCE):
            yield self.of(rows)

    def apart(self, loadings: Float[Tensor, "padded k"]) -> Float[Tensor, "n k"]:
        """Loadings of the first item less those of the second."""
        return loadings[self.items[:, 0]] - loadings[self.items[:, 1]]

    def slopes(
        self, factors: Float[Tensor, "users k"], apart: Float[Tensor, "n k"]
    ) -> tuple[Float[Tensor, " n"], Float[Tensor, " n"]]:
        """First derivative of the log-likelihood in each margin, and minus the second."""
        chance = torch.sigmoid(self.margin + (apart * factors[self.user]).sum(1))
        return self.weight * (self.label - chance), self.weight * chance * (1 - chance)


def find_loadings(
    model: LinearModel, embeddings: Embeddings, train: Comparisons
) -> tuple[Float[Tensor, "items k"], Float[Tensor, "d k"]]:
    """What people's likings for known items have in common, beyond what all like: loadings of factors.

    Who likes one item likes another, as in collaborative filtering, whatever the embeddings tell of the two:
    probabilistic matrix factorisation of comparisons, by EM with Laplace's approximation to each person's
    factors. There are as many factors as foretell what people who were left out say of half of their items,
    from what they say of the others, better by more than a standard error. Also returned is what the model's
    directions tell of the loadings of other items.
    """
    n_items = len(model.item_keys)
    known = model.known_sides(embeddings, train.questions)[train.question]
    items = torch.where(known < 0, n_items, known)
    sides = torch.cat(model.sides(embeddings, train.questions))[:, : model.config.latent]
    x = sides.new_zeros(n_items + 1, sides.shape[1])
    x[items.T.flatten()] = sides[torch.cat([train.question, train.question + len(train.questions)])]
    x = x[:-1]
    some = torch.unique(train.user)
    some = some[torch.linspace(0, len(some) - 1, min(len(some), READ_PEOPLE)).long()]
    said = Likings(
        items,
        model.question_features(embeddings, train.questions)[:, -1][train.question],
        train.first_labels,
        train.weights,
        torch.searchsorted(some, train.user).clamp_max(len(some) - 1),
    ).of(torch.isin(train.user, some))
    # Of n items no more than n - 1 comparisons are news, however many are made of their ratings.
    pairs = torch.bincount(said.user, minlength=len(some))
    cells = torch.unique(said.user[:, None] * (n_items + 1) + said.items)
    news = torch.bincount(cells // (n_items + 1), minlength=len(some)) - 1
    said = said._replace(weight=said.weight * (news / pairs).clamp(0, 1)[said.user])
    out = said.user % HELD_OUT == 0
    left_out, kept = said.of(out), 0
    best = _foretold(left_out, torch.zeros(n_items + 1, 0).to(said.margin))
    for n in FACTORS:
        if n >= min(n_items, len(some) // HELD_OUT):  # so that at least two people are left out
            break
        likelier = _foretold(left_out, _loadings(said.of(~out), x, n)[0])
        gain = likelier - best
        if not float(gain.sum()) > float(gain.std()) * len(gain) ** 0.5:
            break
        best, kept = likelier, n
    if not kept:
        return x.new_zeros(n_items, 0), x.new_zeros(x.shape[1], 0)
    loadings, told = _loadings(said, x, kept)
    return loadings[:-1], told


def _factors(
    said: Likings, loadings: Float[Tensor, "padded k"], factors: Float[Tensor, "users k"], steps: int
) -> tuple[Float[Tensor, "users k"], Float[Tensor, "users k k"]]:
    """Each person's factors under a standard normal prior: the mode, by Newton's method, and covariance."""
    n_users, n = factors.shape
    for _ in range(steps):
        gradient, precision = -factors, torch.eye(n).to(factors).flatten().repeat(n_users, 1)
        for some in said.blocks():
            apart = some.apart(loadings)
            slope, curvature = some.slopes(factors, apart)
            outer = (curvature[:, None, None] * apart[:, :, None] * apart[:, None, :]).flatten(1)
            gradient = gradient.index_add(0, some.user, slope[:, None] * apart)
            precision = precision.index_add(0, some.user, outer)
        precision = precision.view(n_users, n, n)
        step = torch.linalg.solve(precision, gradient[..., None])[..., 0]
        factors = factors + step * (FARTHEST / step.norm(dim=1, keepdim=True).clamp_min(FARTHEST))
    return factors, torch.linalg.inv(precision)


def _loadings(
    said: Likings, x: Float[Tensor, "items d"], n: int
) -> tuple[Float[Tensor, "padded k"], Float[Tensor, "d k"]]:
    """Loadings of n factors by EM, one Newton step of either kind a round; the last row, of no item, is 0.

    Also their prior mean: what the items' places along the embeddings' directions tell of them.
    """
    n_users, variance, prior = int(said.user.max()) + 1, 1.0, 1.0
    factors, told = said.margin.new_zeros(n_users, n), x.new_zeros(x.shape[1], n)
    loadings = _first_loadings(said, len(x), n_users, n)
    x = torch.cat([x, torch.zeros_like(x[:1])])
    eye = torch.eye(n).to(factors)
    for _ in range(FACTOR_ROUNDS):
        factors, spread = _factors(said, loadings, factors, 1)
        squares = spread + factors[:, :, None] * factors[:, None, :]
        gradient, curvature = (x @ told - loadings) / variance, torch.zeros_like(loadings).repeat(1, n)
        for some in said.blocks():
            apart, user = some.apart(loadings), some.user
            slope, curved = some.slopes(factors, apart)
            unsure = (spread[user] @ apart[..., None])[..., 0]
            rises = slope[:, None] * factors[user] - curved[:, None] * unsure
            bends = curved[:, None] * squares[user].flatten(1)
            for side, sign in ((0, 1), (1, -1)):
                gradient = gradient.index_add(0, some.items[:, side], sign * rises)
                curvature = curvature.index_add(0, some.items[:, side], bends)
        curvature = curvature.view(-1, n, n)
        # Twice, since the two items of a comparison move at once.
        step = torch.linalg.solve(2 * curvature + eye / variance, gradient[..., None])[..., 0]
        loadings = torch.cat([(loadings + step)[:-1], torch.zeros_like(loadings[:1])])
        unknown = torch.linalg.inv(curvature + eye / variance)[:-1].diagonal(dim1=1, dim2=2)
        spread = torch.linalg.inv(x.T @ x / variance + torch.eye(x.shape[1]).to(x) / prior)
        told = spread @ (x.T @ loadings) / variance
        prior = float((told.square() + spread.diagonal()[:, None]).mean())
        variance = float(((loadings - x @ told)[:-1].square() + unknown).mean())
        # Factors of unit variance again (PX-EM: Liu, Rubin and Wu, 1998).
        chol = torch.linalg.cholesky(squares.mean(0))
        loadings, told = loadings @ chol, told @ chol
        factors = torch.linalg.solve_triangular(chol, factors.T, upper=False).T
    return loadings, told


def _first_loadings(said: Likings, n_items: int, n_users: int, n: int) -> Float[Tensor, "padded k"]:
    """Directions in which the likelihood rises first, where nobody has factors yet."""
    none, wide = said.margin.new_zeros(n_users, 0), n_items + 1
    slope, curvature = said.slopes(none, said.margin.new_zeros(len(said.user), 0))
    rises, bends = slope.new_zeros(n_users * wide), slope.new_zeros(wide * wide)
    for side, sign in ((0, 1), (1, -1)):
        rises.index_add_(0, said.user * wide + said.items[:, side], sign * slope)
        for other, crossed in ((0, sign), (1, -sign)):
            bends.index_add_(0, said.items[:, side] * wide + said.items[:, other], crossed * curvature)
    rises, bends = rises.view(n_users, wide)[:, :-1], bends.view(wide, wide)[:-1, :-1]
    seen = bends.diagonal().clamp_min(1e-6)
    scale = (seen.mean() / seen).sqrt()[:, None]
    together = (rises.T @ rises - bends) * scale * scale.T
    together.fill_diagonal_(0)
    leading = scale * torch.linalg.eigh(together)[1][:, n_items - n :]
    return torch.cat([START**2 * (n_items / n) ** 0.5 * leading, torch.zeros_like(leading[:1])])


def _foretold(said: Likings, loadings: Float[Tensor, "padded k"]) -> Float[Tensor, " users"]:
    """Log-likelihood of what each person says of half of the items, from what they say of the other half."""
    users, user = torch.unique(said.user, return_inverse=True)
    said = said._replace(user=user)
    half, total = (said.items + user[:, None]) % 2, said.margin.new_zeros(len(users))
    for known in (0, 1):
        given, asked = said.of((half == known).all(1)), said.of((half != known).all(1))
        none = loadings.new_zeros(len(users), loadings.shape[1])
        factors, spread = _factors(given, loadings, none, FACTOR_STEPS)
        for some in asked.blocks():
            apart = some.apart(loadings)
            mean = some.margin + (apart * factors[some.user]).sum(1)
            variance = (apart[:, None] @ spread[some.user] @ apart[..., None])[:, 0, 0]
            mean = mean / (1 + torch.pi / 8 * variance).sqrt()
            loss = some.weight * expected_loss(logistic, mean, some.label)
            total = total.index_add(0, some.user, -loss)
    return total


class Ridge(NamedTuple):
    """Coefficients, item effects, and how common ties are."""

    coefficients: Float[Tensor, " wide"]
    effects: Float[Tensor, " items"]
    ties: float


def fit_ridge(
    features: Float[Tensor, "q wide"],  # of each question's first response less those of its second
    items: Int[Tensor, "q 2"],  # which each side is; `n_items` where it has no effect of its own
    n_items: int,
    first: Float[Tensor, " q"],  # how often (weighted) each question's first response was chosen
    second: Float[Tensor, " q"],  # how often its second; a tie is half of either
    tied: float = 0.0,  # how many of all answers are ties
) -> Ridge:
    """Bradley-Terry with two ridges, whose strengths maximise the marginal likelihood (MacKay, 1992).

    Where there are ties, how common they are is learned too (Davidson, 1970).
    """
    d, total = features.shape[1], first + second
    theta = first.new_zeros(d + n_items)
    sizes, variances = [d, n_items], [0.1, 0.1]
    ties = 2 * tied / max(float(total.sum()) - tied, 1.0)
    for _ in range(RIDGE_ROUNDS):
        precision = torch.cat([theta.new_full((n,), 1 / v) for n, v in zip(sizes, variances, strict=True)])
        gradient, hessian, expected_ties = -precision * theta, precision.diag(), 0.0
        effects = torch.cat([theta[d:], theta.new_zeros(1)])
        for rows in torch.arange(len(features)).split(ROWS_AT_ONCE):
            x, sides, n = features[rows], items[rows], total[rows]
            margin = (x @ theta[:d].to(x)).double() + effects[sides[:, 0]] - effects[sides[:, 1]]
            answer = expected_answer(margin, ties)
            residual = first[rows] - n * answer.label
            expected_ties += float((n * answer.tie).sum())
            by_item = theta.new_zeros(n_items + 1).index_add(0, sides[:, 0], residual)
            by_item = by_item.index_add(0, sides[:, 1], -residual)[:n_items]
            gradient += torch.cat([(x.T @ residual.to(x)).double(), by_item])
            hessian += _hessian(x, sides, n_items, (n * answer.variance).to(x)).double()
        chol = torch.linalg.cholesky(hessian)
        step = torch.cholesky_solve(gradient[:, None], chol)[:, 0]
        theta = theta + step
        ties = scaled_ties(ties, tied, expected_ties)
        spread, before = torch.cholesky_inverse(chol).diagonal(), variances
        parts = zip(theta.split(sizes), spread.split(sizes), before, strict=True)
        variances = [_variance(*part) if len(part[0]) else part[2] for part in parts]
        moved_by = max(abs(after / old - 1) for after, old in zip(variances, before, strict=True))
        if moved_by < 0.01 and float(step.abs().max()) < 1e-3:
            break
    return Ridge(theta[:d], theta[d:], ties)


def scaled_ties(ties: float, tied: float, expected: float) -> float:
    """How common ties are, so that as many are expected as there are; 0 where there are none."""
    return min(max(ties * tied / max(expected, 1e-9), LEAST_TIES), MOST_TIES) if tied else 0.0


def _variance(effects: Float[Tensor, " n"], spread: Float[Tensor, " n"], variance: float) -> float:
    """MacKay's update: the square of effects over how many of them the data determine; slower EM agrees."""
    determined = len(effects) - float(spread.sum()) / variance
    return min(max(float(effects.square().sum()) / max(determined, 1e-3), 1e-4), 100.0)


def _hessian(
    features: Float[Tensor, "q wide"], items: Int[Tensor, "q 2"], n_items: int, curvature: Float[Tensor, " q"]
) -> Float[Tensor, "all all"]:
    """Of the negative log-likelihood; an item's columns are never built as one-hot features."""
    d, n = features.shape[1], n_items + 1
    scaled = features * curvature[:, None]
    cross = features.new_zeros(n, d).index_add(0, items[:, 0], scaled).index_add(0, items[:, 1], -scaled)
    corner = features.new_zeros(n * n)
    for a, b, sign in ((0, 0, 1), (1, 1, 1), (0, 1, -1), (1, 0, -1)):
        corner = corner.index_add(0, items[:, a] * n + items[:, b], sign * curvature)
    corner = corner.view(n, n)[:n_items, :n_items]
    cross = cross[:n_items]
    return torch.cat([torch.cat([features.T @ scaled, cross.T], 1), torch.cat([cross, corner], 1)])


def fit_shared_part(
    head: HeadConfig, embeddings: Embeddings, train: Comparisons
) -> tuple[LinearModel, float]:
    """The model with directions, coefficients and item effects, which all share; and how common ties are."""
    options = {"latent": WIDE, "item_directions": 0}
    wide = LinearModel.from_comparisons(head.model_copy(update=options), embeddings, train)
    distinct, row = distinct_rows(train.question, len(train.questions))
    questions = train.questions[distinct]
    features = torch.empty(len(questions), wide.config.latent)
    for rows in torch.arange(len(questions)).split(ROWS_AT_ONCE):  # never twice in memory
        features[rows] = wide.question_features(embeddings, questions[rows])[:, :-1].cpu()
    label, weight = train.first_labels, train.weights
    counts = torch.zeros(2, len(distinct), dtype=torch.float64)
    counts[0].index_add_(0, row, (weight * label).double())
    counts[1].index_add_(0, row, (weight * (1 - label)).double())
    known = wide.known_sides(embeddings, questions)
    n_known = len(wide.item_keys)
    compared = torch.zeros(n_known + 1).index_add(
        0, known.flatten() % (n_known + 1), counts.sum(0).float().repeat_interleave(2)
    )
    most = torch.argsort(compared[:n_known], descending=True, stable=True)[:MOST_ITEMS]
    kept = most[compared[most] >= FEWEST_COMPARED].sort().values
    place = torch.full((n_known + 1,), len(kept))
    place[kept] = torch.arange(len(kept))
    tied = float(weight[label == TIE].sum())
    ridge = fit_ridge(features, place[known], len(kept), counts[0], counts[1], tied)
    liked = most[: head.item_directions]
    liked = place[liked[compared[liked] >= FEWEST_LIKED]].sort().values
    latent = min(head.latent, wide.config.latent)
    found = {"latent": latent, "known_items": len(kept), "item_directions": len(liked)}
    model = wide.reading_alike(head.model_copy(update=found))
    model.key_directions.copy_(wide.key_directions)
    model.directions.copy_(wide.directions[:, :latent])
    model.coefficients.copy_((wide.directions.double() @ ridge.coefficients).float())
    model.item_keys.copy_(wide.item_keys[kept])
    model.item_effects.copy_(ridge.effects.float())
    model.item_table[liked, torch.arange(len(liked))] = 1.0
    return model.eval(), ridge.ties


@dataclass
class _Block:
    """Some users' answers, and the gradient at their last mode, from which the next round begins."""

    users: Int[Tensor, " block"]
    answers: Answers
    gradient: Float[Tensor, "block units"] | None = None


def _em_round(
    population: Gaussian, blocks: list[_Block], n_users: int
) -> tuple[Float[Tensor, "users s"], Gaussian]:
    """One round of EM: users' mean states, and the population that their posteriors' moments make."""
    residual = float(population.residual)
    prior, centre = population.covariance.float(), population.centre.float()
    states = centre.repeat(n_users, 1)
    known = torch.zeros_like(prior)  # sum over users of what their answers take away from the covariance
    squares, items, ties = 0.0, 0.0, float(population.ties)
    tied, expected_ties = 0.0, 0.0
    for block in blocks:
        answers = block.answers
        X = answers.features
        K = unit_covariance(answers, prior, residual)
        found = laplace(answers, X @ centre, K, block.gradient, ties)
        if ties:
            tied += float((answers.weight * (answers.label == TIE)).sum())
            expected_ties += float((answers.weight * expected_answer(found.margins, ties).tie).sum())
        block.gradient = found.gradient
        states[block.users] = centre + moved(answers, found) @ prior
        # (curvature^-1 + K)^-1, without either inverse.
        told = torch.linalg.solve(torch.eye(K.shape[1]) + found.curvature @ K, found.curvature)
        known += X.flatten(0, 1).T @ (told @ X).flatten(0, 1)
        squared = (found.gradient[:, None] @ answers.shared @ found.gradient[..., None]).sum()
        squares += float(
            residual**2 * (squared - (told * answers.shared).sum()) + residual * answers.items.sum()
        )
        items += float(answers.items.sum())
    answered = torch.cat([block.users for block in blocks])
    n = len(answered)
    found_states, prior, known = states[answered].double(), prior.double(), known.double()
    centre = population.centre.clone()
    centre[-1] = found_states[:, -1].mean()
    apart = found_states - centre
    scatter = apart.T @ apart + n * prior - prior @ ((known + known.T) / 2) @ prior
    covariance = _within(shrunk(scatter, n), 1e-8, LARGEST)
    variance = torch.tensor([min(max(squares / max(items, 1.0), 1e-4), LARGEST)]).double()
    centre[-1] = centre[-1].clamp(0.1, 10)
    ties = scaled_ties(ties, tied, expected_ties)
    return states, Gaussian(centre, covariance, variance, torch.tensor([ties]).double())


def _extrapolated(start: Gaussian, once: Gaussian, twice: Gaussian) -> Gaussian:
    """Where EM is heading after two rounds (SQUAREM: Varadhan and Roland, 2008), which takes far fewer."""
    values = [
        torch.cat([each.centre, each.covariance.flatten(), each.residual]) for each in (start, once, twice)
    ]
    step = values[1] - values[0]
    bend = values[2] - values[1] - step
    length = float((step.norm() / bend.norm().clamp_min(1e-12)).clamp(1, FASTEST))
    guess = values[0] + 2 * length * step + length**2 * bend
    D = len(start.centre)
    # An extrapolation may leave the covariances, or go too far where rounds hardly move any more.
    most = LONGEST_LEAP * float(torch.linalg.eigvalsh(twice.covariance)[-1])
    least = float(twice.covariance.diagonal().mean()) * 1e-3
    residual = guess[-1:].clamp(1e-4, LONGEST_LEAP * float(twice.residual))
    centre = twice.centre + (guess[:D] - twice.centre).clamp(-0.5, 0.5)
    return Gaussian(centre, _within(guess[D:-1].view(D, D), least, most), residual, twice.ties)


def _within(covariance: Float[Tensor, "s s"], least: float, most: float) -> Float[Tensor, "s s"]:
    """A covariance whose eigenvalues are brought within bounds; none is above the largest that is allowed."""
    values, vectors = torch.linalg.eigh((covariance + covariance.T) / 2)
    bounded = (vectors * values.clamp(least, min(most, LARGEST))) @ vectors.T
    return (bounded + bounded.T) / 2
