"""Points drawn from a part of the simplex: a Dirichlet prior cut by half-spaces, one cut for each chain.

Hit-and-run (Smith 1984): from a point inside take a random direction, and go to a point drawn evenly from
the line between the walls; where the prior is not flat, a move is accepted by the ratio of its densities
(Metropolis). Many chains at once, all of them inside all of the time.

Shapes used in this module:
    chains  cuts drawn from, one chain each
    walls   half-spaces of a cut; rows of zeros are no walls
    kept    points kept of each chain
    K       corners of the simplex
"""

import torch
from jaxtyping import Float
from torch import Tensor

THIN = 4


def draw(
    walls: Float[Tensor, "chains walls K"],
    start: Float[Tensor, "chains K"],
    *,
    concentration: float,
    kept: int,
    burn: int,
    generator: torch.Generator,
) -> Float[Tensor, "chains kept K"]:
    """Draw points w of the simplex with walls @ w >= 0, in proportion to Dirichlet(concentration).

    Args:
        walls: One row per half-space that points must lie in.
        start: A point inside each cut; forgotten over the burn-in.
        concentration: Of the symmetric Dirichlet; 1 is flat.
        kept: Points to keep of each chain, every fourth.
        burn: Steps before the first point is kept.
        generator: Where randomness comes from.
    """
    chains, K = start.shape
    sides = torch.eye(K, dtype=walls.dtype).expand(chains, K, K)
    walls = torch.cat([walls, sides], 1)
    at, points = start.to(walls.dtype), []
    for step in range(burn + THIN * kept):
        way = torch.randn(chains, K, generator=generator, dtype=walls.dtype)
        way -= way.mean(1, keepdim=True)  # along the simplex
        new = _step(walls, at, way, torch.rand(chains, generator=generator, dtype=walls.dtype))
        if concentration != 1:
            ratio = (concentration - 1) * (new.log() - at.log()).sum(1)
            chance = torch.rand(chains, generator=generator, dtype=walls.dtype)
            new = torch.where((chance.log() < ratio)[:, None], new, at)
        at = new
        if step >= burn and (step - burn) % THIN == THIN - 1:
            points.append(at)
    return torch.stack(points, 1)


def _step(
    walls: Float[Tensor, "chains walls K"],
    at: Float[Tensor, "chains K"],
    way: Float[Tensor, "chains K"],
    share: Float[Tensor, " chains"],
) -> Float[Tensor, "chains K"]:
    """The point at a share of the line that runs along `way` from wall to wall."""
    slack, slope = torch.bmm(walls, torch.stack([at, way], 2)).unbind(2)
    reach = slack.clamp_min(0) / slope.abs()  # infinite or NaN where the line runs along a wall
    ahead = torch.where(slope < 0, reach, torch.inf).amin(1)
    behind = torch.where(slope > 0, reach, torch.inf).amin(1)
    new = (at + (share * (ahead + behind) - behind)[:, None] * way).clamp_min(1e-12)
    return new / new.sum(1, keepdim=True)
