"""Linear rewards with and without people's deviations: popularity, Bradley-Terry, mixed effects, alone."""

from dataclasses import replace
from functools import cache

import torch

from pal.config import FitConfig, HeadConfig, preset
from pal.fitting.mixed_effects import MOST_ITEMS, TIE, fit_ridge, fit_shared_part
from pal.fitting.trainer import Fitted
from pal.methods.base import Learned, Method, Task
from pal.models.base import margins, mean_loss
from pal.models.linear import LinearModel
from pal.users.gaussian import Gaussian

MEANS, VARIANCES = (1.0, 0.7, 0.85, 1.2, 1.4), (1.0, 0.7, 0.5)  # factors that are tried
CALIBRATED = 200  # people that tell which are taken
LEAST = 1e-6  # chance below which an answer says no more


def learn_mixed_effects(task: Task, **head: object) -> Learned:
    """The mixed-effects model, with options of its head that differ from the preset's; calibrated."""
    learned = task.fit(*preset("ours", "linear", head=head))
    return learned.rescaled(likeliest_scale(learned, task), task)


def likeliest_scale(learned: Learned, task: Task) -> tuple[float, float]:
    """Factors of the population's mean and variances under which validation answers are likeliest.

    They are foretold from all of a person's training answers and from none. The variances that training
    answers ask for are too large where a person's answers follow from each other, as those of pairs of
    ratings do, and chances from few answers are then too near one half.
    """
    if task.val is None or not len(task.val):
        return 1.0, 1.0
    some = torch.unique(task.val.user)[:CALIBRATED]
    train, val = (part[torch.isin(part.user, some).nonzero()[:, 0]] for part in (task.train, task.val))
    # Numbered anew: of everyone's beliefs memory would not hold the tables.
    train, val = (replace(part, user=torch.searchsorted(some, part.user)) for part in (train, val))
    if val.label is not None:
        val = val[(val.label != TIE).nonzero()[:, 0]]

    @cache
    def loss(scale: tuple[float, float]) -> float:
        found, total = learned.rescaled(scale), 0.0
        for known in (train, train.slice(0, 0)):
            belief = found.posterior(task.embeddings, known, len(some))
            total -= float(found.probability(task.embeddings, val, belief).clamp_min(LEAST).log().sum())
        return total

    mean, _ = min(((mean, 1.0) for mean in MEANS), key=loss)
    return min(((mean, variance) for variance in VARIANCES), key=loss)


def learn_shared(task: Task, **head_options: object) -> Learned:
    """The shared part of the mixed-effects model alone: everyone at the mean, nothing learned of anyone."""
    head, config = preset("ours", "linear", head=head_options)
    model, ties = fit_shared_part(head, task.embeddings, task.train)
    population = one_state(model, ties)
    states = population.centre.repeat(task.n_users, 1)
    loss = mean_loss(margins(model, states, task.embeddings, task.train), task.train).item()
    history = [{"epoch": 1.0, "loss": loss}]
    return Learned(Fitted(model, states, loss, history, population), config)


def one_state(model: LinearModel, ties: float = 0.0) -> Gaussian:
    """The population in which everyone has the shared reward."""
    nothing = torch.zeros(model.state_dim, model.state_dim)
    centre = torch.eye(model.state_dim)[-1]
    return Gaussian(centre, nothing, torch.zeros(1), torch.tensor([ties]))


def learn_each_alone(task: Task) -> Learned:
    """Each person's own ridge regression: no shared reward, and one variance in all directions."""
    learned = learn_mixed_effects(task)
    model = learned.fitted.head
    for name in ("coefficients", "item_effects"):
        getattr(model, name).zero_()
    size = model.state_dim
    variance = torch.full((size,), float(learned.population.covariance[:-1, :-1].diagonal().mean()))
    variance[-1] = 0.0
    population = Gaussian(torch.zeros(size), variance.diag(), torch.zeros(1))
    fitted = replace(learned.fitted, population=population)
    alone = replace(learned, fitted=fitted, scale=(1.0, 1.0))
    states = alone.posterior(task.embeddings, task.train, task.n_users).mean.float()
    return replace(alone, fitted=replace(fitted, states=states))


MIXED_EFFECTS = Method(
    "shared reward and personal deviations",
    "Mixed logit (McFadden and Train, 2000), fitted by Laplace EM (Breslow and Clayton, 1993)",
    "On frozen embeddings, with effects of known items and residuals of person and item.",
    learn_mixed_effects,
)
MIXED_EFFECTS_PROMPTS = Method(
    "the same, tastes may depend on the prompt",
    MIXED_EFFECTS.source,
    "Also reads products of the leading directions of prompt and response.",
    lambda task: learn_mixed_effects(task, inputs="products" if task.has_prompts else "response"),
)
MIXED_EFFECTS_ITEMS = Method(
    "the same, and a liking for each much compared item",
    f"{MIXED_EFFECTS.source}; likings for items that vary together: probabilistic matrix factorisation "
    "(Salakhutdinov and Mnih, 2008)",
    "Of 16 directions, at most 128 items and at most 8 factors of all items the whole covariance is learned.",
    lambda task: learn_mixed_effects(task, latent=16, item_directions=128),
)
BT = Method(
    "one reward for everyone",
    "Bradley and Terry (1952), linear in embeddings, ridge by marginal likelihood (MacKay, 1992)",
    "",
    learn_shared,
    personal=False,
)
BT_PROMPTS = Method(
    "the same, which may depend on the prompt",
    BT.source,
    "Also reads products of the leading directions of prompt and response.",
    lambda task: learn_shared(task, inputs="products" if task.has_prompts else "response"),
    personal=False,
)
PER_USER = Method(
    "each person alone",
    "Ridge regression on each person's own answers",
    "One strength of the ridge for all, from the mixed-effects fit.",
    learn_each_alone,
)


def learn_popularity(task: Task) -> Learned:
    """One effect for each of the items that were compared most; of others nothing is known."""
    embeddings, train = task.embeddings, task.train
    config = HeadConfig(model="linear", K=1, latent=1)
    wide = LinearModel.from_comparisons(config, embeddings, train)
    item = wide.known_sides(embeddings, train.questions)[train.question]
    n = len(wide.item_keys)
    counts = torch.bincount(item.flatten() + 1, minlength=n + 1)[1:]
    kept = torch.argsort(counts, descending=True, stable=True)[:MOST_ITEMS].sort().values
    place = torch.full((n + 1,), len(kept))  # the last is that of an item without an effect, -1
    place[kept] = torch.arange(len(kept))
    weight = train.weights.double()
    first = weight * train.first_labels
    none = torch.zeros(len(train), 1, dtype=torch.float64)
    ridge = fit_ridge(none, place[item], len(kept), first, weight - first)
    model = wide.reading_alike(wide.config.model_copy(update={"known_items": len(kept)}))
    model.key_directions.copy_(wide.key_directions)
    model.item_keys.copy_(wide.item_keys[kept])
    model.item_effects.copy_(ridge.effects.float())
    population = one_state(model)
    states = population.centre.repeat(task.n_users, 1)
    fitted = Fitted(model.eval(), states, float("nan"), [], population)
    return Learned(fitted, FitConfig(objective="marginal", population="gaussian"))


POPULARITY = Method(
    "how much everyone likes each known item",
    "Bradley and Terry (1952), the items' ridge by marginal likelihood (MacKay, 1992)",
    "Of new items nothing is known: their accuracy is 50 %.",
    learn_popularity,
    personal=False,
)
