"""Methods on models of their own: weights that depend on the prompt, and preferences that may be cyclic."""

import torch

from pal.config import preset
from pal.methods.base import Learned, Method, Task

DESCENT = {"learning_rate": 0.02, "epochs": 60, "batch_size": 4096, "validate_every": 5, "best_by": "loss"}


def learn_micro(task: Task) -> Learned:
    """Rewards and router together, each user a latent class over shares of the rewards."""
    head = {"K": min(task.K, task.n_users)}
    fit = {**DESCENT, "objective": "mixture", "weight_decay": 0.1, "epochs": 100}
    return task.fit(*preset("ours", "routed", head=head, fit=fit))


def learn_general_preferences(task: Task) -> Learned:
    """One model for everyone, by descent."""
    learned = task.fit(*preset("ours", "general", head={"K": 1, "latent": 8}, fit=DESCENT))
    q = task.train.questions
    answered = torch.unique(torch.cat([q.first, q.second]))
    learned.fitted.head.average.copy_(task.embeddings.responses[answered].float().mean(0))
    return learned


MICRO = Method(
    "K rewards, weights depend on the prompt",
    "MiCRo (Shen et al., 2025)",
    "Linear rewards and a linear router on frozen embeddings. A user's shares are inferred with the seen "
    "people's as the prior, in place of the Hedge algorithm over the answers as they come.",
    learn_micro,
    prototypes=True,
)
GPM = Method(
    "one preference for everyone, cycles allowed",
    "General preference models (Zhang et al., 2024)",
    "On frozen embeddings. A single response's reward is its margin over the mean response.",
    learn_general_preferences,
    personal=False,
)
