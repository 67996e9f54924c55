"""Linear rewards with and without people's deviations: Bradley-Terry, mixed effects, each person alone."""

from dataclasses import replace

import torch

from pal.config import preset
from pal.fitting.mixed_effects import fit_shared_part, mean_log_loss
from pal.fitting.trainer import Fitted
from pal.methods.base import Learned, Method, Task
from pal.users.gaussian import Gaussian


def learn_mixed_effects(task: Task, **head: object) -> Learned:
    """The mixed-effects model, with options of its head that differ from the preset's."""
    return task.fit(*preset("ours", "linear", head=head))


def learn_shared(task: Task) -> Learned:
    """The shared part of the mixed-effects model alone: everyone at the mean, nothing learned of anyone."""
    head, config = preset("ours", "linear")
    model, ties = fit_shared_part(head, task.embeddings, task.train)
    centre = torch.zeros(model.state_dim)
    centre[-1] = 1.0
    states = centre.expand(task.n_users, -1).clone()
    loss = mean_log_loss(model, states, task.embeddings, task.train)
    nothing = torch.zeros(len(centre), len(centre))
    population = Gaussian(centre, nothing, torch.zeros(1), torch.tensor([ties]))
    history = [{"epoch": 1.0, "loss": loss}]
    return Learned(Fitted(model, states, loss, history, population), config)


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
    alone = replace(learned, fitted=fitted)
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
    "The whole covariance of 16 directions and at most 128 items, in place of factors of low rank.",
    lambda task: learn_mixed_effects(task, latent=16, item_directions=128),
)
BT = Method(
    "one reward for everyone",
    "Bradley and Terry (1952), linear in embeddings, ridge by marginal likelihood (MacKay, 1992)",
    "",
    learn_shared,
    personal=False,
)
PER_USER = Method(
    "each person alone",
    "Ridge regression on each person's own answers",
    "One strength of the ridge for all, from the mixed-effects fit.",
    learn_each_alone,
)
