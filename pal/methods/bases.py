"""Methods whose rewards are a linear basis, each written from its paper's equations."""

from collections.abc import Callable

from pal.config import FitConfig
from pal.fitting.basis import Basis, fit_basis
from pal.methods.base import Learned, Method, Task

MOST_DIRECTIONS = 32  # of differences
LINEAR = "On the leading directions of frozen embeddings, in place of a fine-tuned language model. "
PRIOR = (
    "New people's weights are inferred with the seen people's as the prior, in place of a fit without one."
)
NORMAL = PRIOR + " The prior is normal, fitted by EM."


def learn(basis: Basis, K: Callable[[Task], int] = lambda task: task.K) -> Callable[[Task], Learned]:
    """Learning of a basis; `K` gives its size for a task."""

    def of_task(task: Task) -> Learned:
        fitted = fit_basis(
            basis,
            task.embeddings,
            task.train,
            n_users=task.n_users,
            K=K(task),
            val=task.val,
            seed=task.seed,
            progress=task.progress,
        )
        # Weights of seen people are the belief about them where this has a prior of its own.
        free = basis.weights == "free"
        config = FitConfig(
            objective="marginal" if free else "pal", population="gaussian" if free else "points"
        )
        return Learned(fitted, config)

    return of_task


LORE = Method(
    "basis of rewards, weights on the simplex",
    "LoRe (Bose et al., 2025)",
    LINEAR + PRIOR,
    learn(Basis("simplex")),
    prototypes=True,
)
RFM = Method(
    "reward features, free weights",
    "Reward-feature models (Barreto et al., 2025)",
    LINEAR + NORMAL,
    learn(Basis("free")),
    prototypes=True,
)
DRM = Method(
    "principal directions of what was chosen over what",
    "Decomposed reward models (Luo et al., 2025)",
    LINEAR + NORMAL,
    learn(Basis("free", rewards="differences"), K=lambda task: MOST_DIRECTIONS),
)
MAXMIN = Method(
    "each person in one of K groups, a reward a group",
    "MaxMin-RLHF (Chakraborty et al., 2024)",
    LINEAR
    + "Groups are soft in the first half of the fit. Of the policy for the worst group nothing is fitted.",
    learn(Basis("clusters")),
    prototypes=True,
)
P_RLHF_INDIVIDUAL = Method(
    "a shared reward and each person's own offset",
    "P-RLHF, individual preferences (Li et al., 2024)",
    LINEAR + NORMAL,
    learn(Basis("free", rewards="all", shared=True, generic=0.5)),
)
P_RLHF_CLUSTER = Method(
    "a shared reward and a mix of K offsets",
    "P-RLHF, cluster-based preferences (Li et al., 2024)",
    LINEAR + PRIOR,
    learn(Basis("simplex", shared=True, generic=0.5)),
    prototypes=True,
)
MRM = Method(
    "reward features whose weights adapt, the worse half of people weighs more",
    "Meta reward modelling (Cai et al., 2026)",
    LINEAR
    + "The worse half of people weighs twice. Weights start from a normal prior whose mean is learned, in "
    "place of a few steps of descent.",
    learn(Basis("free", worst_half=1.0)),
    prototypes=True,
)
