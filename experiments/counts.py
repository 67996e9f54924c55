"""What the paper counts: parameters of its heads, rows of its splits, and how often people agree."""

from typing import Any

import numpy as np
import torch

from experiments import study
from experiments.entries import Run
from experiments.measure import Measured
from pal.models.base import make_model
from pipeline import PipelineError

WIDTH = 768  # of all-mpnet-base-v2
# The reading of "a two-layer MLP" that has both published counts (D10).
SHAPE = {"hidden_layers": 1, "hidden": 384, "latent": 768, "bias": True, "skip": True}


def parameters(run: Run) -> Measured:
    """Parameters of model A, 768-384-768, by K, the prototypes counted at the encoder's width (a = f(Pw))."""
    options = {**SHAPE, "prototypes": "input", "distance": "l2", **run.head}
    rows = []
    for K in run.grid.get("K", [1]):
        head, _ = study.configs(run.model_copy(update={"head": options}), "paper", {"K": K})
        made = make_model(head, prompt_dim=0, response_dim=WIDTH)
        rows.append({"what": "parameters", "K": K, "count": sum(p.numel() for p in made.parameters())})
    return Measured([], [], {"counts": rows})


def counted(run: Run, source: str) -> Measured:
    """Rows by split, as prepare counted them, and how often people agree on a pair."""
    drawn = study.draw(run, study.draws(run)[0], source, run.seeds[0])
    rows = [
        {"what": f"{row['group']}, {split}", "count": row[split]}
        for row in drawn.tables["splits"]
        for split in ("train", "val", "test")
    ]
    rows += [count for split in ("train", "val", "test") for count in agreement(drawn.data, split)]
    return Measured([], [], {"counts": rows, "notes": drawn.tables["notes"]})


def agreement(data: study.Study, split: str) -> list[dict[str, Any]]:
    """Pairs of one split that several people answered, and those of them on which they differ.

    A pair is two responses to one prompt; somebody who was asked twice counts once, by the first answer.
    """
    # An unseen user's train rows are called adapt.
    named = {"seen": split, "unseen": "adapt" if split == "train" else split}
    parts = [data.select(half, name) for half, name in named.items()]
    user = torch.cat([p.user + n * 10**7 for n, p in enumerate(parts)])
    question = torch.cat([p.question for p in parts])
    sign = torch.cat([p.sign for p in parts])
    # np.unique gives the index of each key's first occurrence.
    once = torch.from_numpy(np.unique((question * 10**8 + user).numpy(), return_index=True)[1])
    n = int(question.max()) + 1 if len(question) else 0
    votes = torch.bincount(question[once], minlength=n)
    left = torch.zeros(n).index_add(0, question[once], (sign[once] > 0).float())
    several = votes > 1
    differ = several & (left > 0) & (left < votes)
    return [
        {"what": f"{split}: pairs of several users", "count": int(several.sum())},
        {"what": f"{split}: disagreements", "count": int(differ.sum())},
    ]


def value(rows: list[dict[str, Any]], on: str, K: Any = None) -> int | None:
    """One count; None where it was counted at other K alone.

    Raises:
        PipelineError: If nothing of that name was counted.
    """
    for row in rows:
        if row["what"] == on and (K is None or row.get("K") == K):
            return int(row["count"])
    if any(row["what"] == on for row in rows):
        return None
    raise PipelineError(
        f"nothing was counted under {on!r}; there are {sorted({row['what'] for row in rows})}"
    )
