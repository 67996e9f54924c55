"""Maximum-likelihood states of new users, with no prior: the few-shot step of PAL's own texts.

Where margins are linear in weights of prototypes the problem is convex and solved exactly; elsewhere (a
cosine, a distance that is not squared, a hinge) L-BFGS lowers the sum of all users' losses from even weights.

Shapes used in this module:
    n         comparisons
    users     users to locate
    state     numbers of a user's state
    features  numbers kept per question
"""

import torch
from jaxtyping import Float, Int
from torch import Tensor

from pal.models.base import PrototypeModel
from pal.models.losses import LOSSES
from pal.users.simplex import solve_weights

STEPS = 100  # of L-BFGS at most


def free_weights(
    model: PrototypeModel,
    features: Float[Tensor, "n features"],
    sign: Float[Tensor, " n"],
    user: Int[Tensor, " n"],
    *,
    n_users: int,
    loss: str = "logistic",
) -> Float[Tensor, "users state"]:
    """The weights under which each user's answers have the least mean loss; even ones without answers.

    Args:
        model: A model in evaluation mode, whose states are weights of prototypes.
        features: Of each comparison's question.
        sign: +1 where the question's first response was chosen, else -1.
        user: Whose comparison it is, from 0 to `n_users` - 1.
        n_users: Users to locate.
        loss: The loss that the model was fitted with.
    """
    if model.linear and loss == "logistic":
        margins = model.prototype_margins(features) * sign[:, None]
        return solve_weights(margins, user, n_users=n_users)[0]
    share = 1 / torch.bincount(user, minlength=n_users).to(features).index_select(0, user)
    free = features.new_zeros(n_users, model.state_dim)
    with torch.inference_mode(False), torch.enable_grad():
        # Copies, since tensors that inference mode made cannot be differentiated through.
        fixed, kept, sign, user = (x.clone() for x in (features.detach(), share, sign, user))
        free = free.clone().requires_grad_()
        descent = torch.optim.LBFGS([free], max_iter=STEPS, line_search_fn="strong_wolfe")

        def total() -> Tensor:
            descent.zero_grad()
            states = model.free_to_states(free).index_select(0, user)
            each = (kept * LOSSES[loss](model.margin(fixed, states) * sign)).sum()
            each.backward(inputs=[free])
            return each

        descent.step(total)
    return model.free_to_states(free.detach())
