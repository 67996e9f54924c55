"""Maps of people: between prototypes, or along the directions in which people differ most.

Places are percentages of the map's width and height, y downwards.
"""

import math
from collections import Counter
from collections.abc import Sequence
from typing import Any

import numpy as np
from jaxtyping import Float

Row = dict[str, Any]
Point = tuple[float, float]
STACKS = 60  # of people who stand alike, along a line
MARGIN = 14.0  # per cent around the outermost people, for names
SHAPES = 6  # of which mark is drawn for a group
MOST_DRAWN = 1000


def corners(n_prototypes: int) -> list[Point]:
    """The corners of a regular polygon of radius 1, the first on top, clockwise."""
    angles = [math.pi / 2 - 2 * math.pi * k / n_prototypes for k in range(n_prototypes)]
    return [(math.cos(angle), math.sin(angle)) for angle in angles]


def mean(weights: Sequence[float], ring: Sequence[Point]) -> Point:
    """Where a user of these weights stands between the corners: barycentric coordinates made plain."""
    x = sum(w * x for w, (x, _) in zip(weights, ring, strict=True))
    return x, sum(w * y for w, (_, y) in zip(weights, ring, strict=True))


def spread(positions: Sequence[Point]) -> list[Point]:
    """Points that share a place become a small disc around it, so that their number shows."""
    cells = [(round(x * 50), round(y * 50)) for x, y in positions]
    sizes, met, placed = Counter(cells), Counter[tuple[int, int]](), []
    turn = math.pi * (3 - math.sqrt(5))
    for (x, y), cell in zip(positions, cells, strict=True):
        radius = min(0.025, 0.2 / math.sqrt(sizes[cell])) * math.sqrt(met[cell])
        angle = turn * met[cell]
        met[cell] += 1
        placed.append((x + radius * math.cos(angle), y + radius * math.sin(angle)))
    return placed


def stacked(values: Sequence[float]) -> list[Point]:
    """Values in [0, 1] along a line, of which equal ones stand above and below each other."""
    met, placed = Counter[int](), []
    heights = Counter(round(value * STACKS) for value in values)
    step = min(0.05, 1.3 / max(heights.values(), default=1))
    for value in values:
        cell = round(value * STACKS)
        turn, met[cell] = met[cell], met[cell] + 1
        placed.append((2 * value - 1, step * ((turn + 1) // 2) * (1 if turn % 2 else -1)))
    return placed


def draw(
    people: Sequence[Row],
    *,
    weights: Float[np.ndarray, "users K"] | None = None,
    plane: Float[np.ndarray, "users axes"] | None = None,
    titles: Sequence[str] = (),
    shares: Sequence[float] = (),
) -> Row | None:
    """A map of people.

    Args:
        people: user_id, users (seen or unseen) and group of each.
        weights: Of each person's prototypes; or
        plane: where each stands along the first directions, in standard deviations.
        titles: Prototypes or directions in words.
        shares: Of the people's weight, or of their differences.

    Returns:
        points (user_id, x, y, mark, users), labels, edges, groups, kind; None where there is nothing to tell
        apart.
    """
    if not people or (weights is not None and weights.shape[1] < 2) or (weights is None and plane is None):
        return None
    named = [(title, shares[k] if k < len(shares) else None) for k, title in enumerate(titles)]
    edges: list[tuple[Point, Point]] = []
    if weights is not None and weights.shape[1] == 2:
        kind, places, spots = "line", stacked(weights[:, 0].tolist()), [(1.0, 0.0), (-1.0, 0.0)]
    elif weights is not None:
        ring = corners(weights.shape[1])
        kind, places, spots = "polygon", spread([mean(row, ring) for row in weights.tolist()]), ring
        edges = list(zip(ring, [*ring[1:], ring[0]], strict=True))
    else:
        assert plane is not None  # noqa: S101 - asked above
        flat = np.pad(plane, ((0, 0), (0, max(0, 2 - plane.shape[1]))))[:, :2]
        reach = max(float(np.abs(flat).max()), 1e-9)
        kind, places, spots = "plane", [(x / reach, y / reach) for x, y in flat.tolist()], []
        edges = [((-1.0, 0.0), (1.0, 0.0)), ((0.0, -1.0), (0.0, 1.0))]
    ys = [y for _, y in [*places, *spots]] if plane is None else [-1.0, 1.0]
    height = max(max(ys) - min(ys), 0.5)
    middle, scale = (max(ys) + min(ys)) / 2, (100 - 2 * MARGIN) / 2

    def place(at: Point) -> Row:
        return {"x": round(50 + scale * at[0], 2), "y": round(50 - 2 * scale * (at[1] - middle) / height, 2)}

    groups = sorted({str(person["group"]) for person in people if person["group"] is not None}, key=_in_order)
    nearest = None if groups or weights is None else weights.argmax(1)
    step = -(-len(people) // MOST_DRAWN)
    points = [
        {
            "user_id": person["user_id"],
            "users": person["users"],
            **place(places[i]),
            "mark": groups.index(str(person["group"]))
            if groups
            else 0
            if nearest is None
            else int(nearest[i]),
        }
        for i, person in enumerate(people)
        if i % step == 0
    ]
    labels = [
        {
            **place((1.12 * x, 1.12 * y)),
            "name": f"prototype {k + 1}",
            "title": title,
            "share": share,
            "mark": k,
        }
        for k, ((x, y), (title, share)) in enumerate(zip(spots, named, strict=False))
    ]
    return {
        "kind": kind,
        "ratio": 0.8 if kind == "plane" else round(min(max(height / 2, 0.4), 1.0), 3),
        "points": points,
        "labels": labels,
        "edges": [(place(a), place(b)) for a, b in edges],
        "groups": groups,
        "drawn": len(points),
        "of": len(people),
        "axes": [title for title, _ in named[:2]] if kind == "plane" else [],
    }


def _in_order(name: str) -> tuple[bool, int, str]:
    """Numbers as numbers."""
    return not name.isdecimal(), int(name) if name.isdecimal() else 0, name
