"""One free ideal point per person, and a metric that all people share (Canal et al., 2022)."""

from dataclasses import replace

import torch

from pal.config import preset
from pal.fitting.basis import fit_normal
from pal.methods.base import Learned, Method, Task

HEAD = {"hidden_layers": 0, "bias": False, "latent": 8, "K": 1}
FIT = {
    "population": "gaussian",
    "learning_rate": 0.02,
    "weights_learning_rate": 0.1,
    "epochs": 60,
    "batch_size": 4096,
    "validate_every": 5,
    "best_by": "loss",
}


def learn_ideal_points(task: Task) -> Learned:
    """Fit metric and points together, then the normal population that the points come from."""
    inputs = "prompt_and_response" if task.has_prompts else "response"
    learned = task.fit(*preset("ours", "point", head={**HEAD, "inputs": inputs}, fit=FIT))
    fitted = learned.fitted
    with torch.no_grad():
        states, population = fit_normal(fitted.head, fitted.states, task.embeddings, task.train)
    # The states are now the belief about each person.
    config = learned.config.model_copy(update={"objective": "marginal"})
    return Learned(replace(fitted, states=states, population=population), config)


IDEAL_POINT = Method(
    "an ideal point of each person's own",
    "One for all: simultaneous metric and preference learning over multiple users (Canal et al., 2022)",
    "A metric of rank 8 by descent, in place of a convex programme with a nuclear norm. New people's points "
    "are inferred with the seen people's as a normal prior.",
    learn_ideal_points,
)
