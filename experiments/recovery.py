"""Ideal points recovered: found ones beside the true ones of the simulation, in one plane.

The learned map is known up to an affine change that leaves all answers as they are, so the found points are
brought onto the true ones by the affine map of least squares before they are compared.

Shapes used in this module:
    users    seen users
    latent   width of the preference space
    dim      width of the items
"""

from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from pal.fitting.trainer import Fitted

if TYPE_CHECKING:
    from experiments.study import Drawn


def recovery(fitted: Fitted, drawn: "Drawn") -> list[dict[str, Any]]:
    """True and found ideal points of the seen users in f*'s space, and how much of the former is explained.

    Returns:
        One row for the share explained (`r2`), one per user: x, y true; u, v found and aligned.
    """
    truth = drawn.truth or {}
    true = np.array(truth["weights"]) @ np.array(truth["prototypes"]) @ np.array(truth["matrix"]).T
    row = {name: place for place, name in enumerate(truth["user_ids"])}
    true = true[[row[name] for name in drawn.data.user_ids["seen"]]]
    with torch.inference_mode():
        found = fitted.head.ideal_points(fitted.states).double().numpy()  # type: ignore[operator]
    design = np.concatenate([found, np.ones((len(found), 1))], 1)
    aligned = design @ np.linalg.lstsq(design, true, rcond=1e-6)[0]
    explained = float(1 - ((aligned - true) ** 2).sum() / ((true - true.mean(0)) ** 2).sum())
    points = [
        {"x": round(t[0], 3), "y": round(t[1], 3), "u": round(a[0], 3), "v": round(a[1], 3)}
        for t, a in zip(true.tolist(), aligned.tolist(), strict=True)
    ]
    return [{"r2": round(explained, 4)}, *points]
