"""Popularity: how much everyone likes each item that was compared, and nothing else."""

import torch

from pal.config import FitConfig, HeadConfig
from pal.fitting.mixed_effects import MOST_ITEMS, fit_ridge
from pal.fitting.trainer import Fitted
from pal.methods.base import Learned, Method, Task
from pal.models.linear import LinearModel
from pal.users.gaussian import Gaussian


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
    label = torch.ones_like(train.sign) if train.label is None else train.label
    weight = (torch.ones_like(train.sign) if train.weight is None else train.weight).double()
    first = weight * torch.where(train.sign > 0, label, 1 - label)
    none = torch.zeros(len(train), 1, dtype=torch.float64)
    ridge = fit_ridge(none, place[item], len(kept), first, weight - first)
    options = wide.config.model_copy(update={"known_items": len(kept)})
    model = LinearModel(
        options, prompt_dim=embeddings.prompts.shape[1], response_dim=embeddings.responses.shape[1]
    )
    for name in ("centre", "key_directions"):
        getattr(model, name).copy_(getattr(wide, name))
    model.item_keys.copy_(wide.item_keys[kept])
    model.item_effects.copy_(ridge.effects.float())
    centre = torch.tensor([0.0] * (model.state_dim - 1) + [1.0])
    population = Gaussian(centre, torch.zeros(len(centre), len(centre)), torch.zeros(1))
    fitted = Fitted(model.eval(), centre.repeat(task.n_users, 1), float("nan"), [], population)
    return Learned(fitted, FitConfig(objective="marginal", population="gaussian"))


POPULARITY = Method(
    "how much everyone likes each known item",
    "Bradley and Terry (1952), the items' ridge by marginal likelihood (MacKay, 1992)",
    "Of new items nothing is known: their accuracy is 50 %.",
    learn_popularity,
    personal=False,
)
