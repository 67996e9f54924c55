"""Methods that mix rewards or points which all people share: PAL and its kin, and linear bases of rewards.

Each is written from its paper's equations.
"""

from dataclasses import replace

import torch

from pal.config import preset
from pal.methods.base import Learned, Method, Task, from_preset
from pal.methods.basis import Basis, fit_normal

PAL = "PAL: Pluralistic Alignment (Chen et al., 2024)"

PAL_PAPER = Method(
    "PAL, the text's settings",
    PAL,
    "Where the text is silent its authors' code decides.",
    from_preset("paper"),
    prototypes=True,
)
PAL_AUTHORS = Method(
    "PAL, the authors' code's settings",
    PAL,
    "Fitted by this project's code.",
    from_preset("authors"),
    prototypes=True,
)
PAL_FREE = Method(
    "PAL, free weights",
    PAL,
    "Preset ours with the paper's objective: weights by likelihood alone, which take many answers of each.",
    from_preset("ours", objective="pal"),
    prototypes=True,
)
PAL_OURS = Method(
    "PAL, mixture likelihood",
    PAL,
    "A likelihood over all of a user's answers (latent classes over the simplex) in place of a loss per "
    "comparison, which needs a prior where answers are few.",
    from_preset("ours"),
    prototypes=True,
)


DESCENT = {"learning_rate": 0.02, "epochs": 60, "batch_size": 4096, "validate_every": 5, "best_by": "loss"}


def learn_ideal_points(task: Task) -> Learned:
    """Fit metric and points together, then the normal population that the points come from."""
    inputs = "prompt_and_response" if task.has_prompts else "response"
    head = {"hidden_layers": 0, "bias": False, "latent": 8, "K": 1, "inputs": inputs}
    fit = {**DESCENT, "population": "gaussian", "weights_learning_rate": 0.1}
    learned = task.fit(*preset("ours", "point", head=head, fit=fit))
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


LINEAR = "On the leading directions of frozen embeddings, in place of a fine-tuned language model. "
PRIOR = (
    "New people's weights are inferred with the seen people's as the prior, in place of a fit without one."
)
NORMAL = PRIOR + " The prior is normal, fitted by EM."


LORE = Method(
    "basis of rewards, weights on the simplex",
    "LoRe (Bose et al., 2025)",
    LINEAR + PRIOR,
    Basis("simplex").learn,
    prototypes=True,
)
RFM = Method(
    "reward features, free weights",
    "Reward-feature models (Barreto et al., 2025)",
    LINEAR + NORMAL,
    Basis("free").learn,
    prototypes=True,
)
DRM = Method(
    "principal directions of what was chosen over what",
    "Decomposed reward models (Luo et al., 2025)",
    LINEAR + NORMAL,
    Basis("free", rewards="differences", size=32).learn,
)
MAXMIN = Method(
    "each person in one of K groups, a reward a group",
    "MaxMin-RLHF (Chakraborty et al., 2024)",
    LINEAR
    + "Groups are soft in the first half of the fit. Of the policy for the worst group nothing is fitted.",
    Basis("clusters").learn,
    prototypes=True,
)
P_RLHF_INDIVIDUAL = Method(
    "a shared reward and each person's own offset",
    "P-RLHF, individual preferences (Li et al., 2024)",
    LINEAR + NORMAL,
    Basis("free", rewards="all", shared=True, generic=0.5).learn,
)
P_RLHF_CLUSTER = Method(
    "a shared reward and a mix of K offsets",
    "P-RLHF, cluster-based preferences (Li et al., 2024)",
    LINEAR + PRIOR,
    Basis("simplex", shared=True, generic=0.5).learn,
    prototypes=True,
)
MRM = Method(
    "reward features whose weights adapt, the worse half of people weighs more",
    "Meta reward modelling (Cai et al., 2026)",
    LINEAR
    + "The worse half of people weighs twice. Weights start from a normal prior whose mean is learned, in "
    "place of a few steps of descent.",
    Basis("free", worst_half=1.0).learn,
    prototypes=True,
)
