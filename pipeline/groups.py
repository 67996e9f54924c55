"""The true groups of a study's users, where they are known, as weights: one prototype per group."""

import torch

from pipeline.study import Study


def group_weights(data: Study, users: str) -> torch.Tensor | None:
    """Each user at the own group's prototype; None where groups are not known.

    Args:
        data: The study, whose seen users' groups give the prototypes their order.
        users: seen or unseen.

    Returns:
        (users, groups), or None, too, where a user's group has no seen users.
    """
    if data.groups is None:
        return None
    names = sorted(set(data.groups["seen"]))
    rows = [names.index(group) if group in names else -1 for group in data.groups[users]]
    if any(row < 0 for row in rows):
        return None
    return torch.eye(len(names))[torch.tensor(rows, dtype=torch.long)]
