"""The report's maps of users: where each stands between the prototypes, and where the truth was.

Colour and shape say a user's true group; seen users are filled, unseen ones hollow.
"""

import math
from collections import Counter
from typing import Any

import altair as alt  # noqa: TID253 - this module is imported by the report alone

from pipeline.report.charts import COLOURS, GREY, INK, SHAPES, Row, Spec, marks_of, rounded, spec, tooltip
from pipeline.report.findings import percent


def strip(users: list[Row]) -> Spec:
    """Two prototypes: users along the weight of the first, one row per group."""
    golden = (math.sqrt(5) - 1) / 2
    values = [
        {**_user(user), "x": rounded(user["weights"][0]), "offset": rounded(i * golden % 1)}
        for i, user in enumerate(users)
    ]
    groups, scale = _groups(values), alt.Scale(domain=[0, 1], padding=6)
    x = alt.X("x:Q", title="weight of prototype 1", axis=alt.Axis(tickCount=5), scale=scale)
    y = alt.Y("group:N", sort=groups, title=None, axis=alt.Axis() if len(groups) > 1 else None)
    offset = alt.YOffset("offset:Q", scale=alt.Scale(domain=[-0.25, 1.25]))
    points = _by_group(values, legend=False).encode(x=x, y=y, yOffset=offset)
    chart = points.properties(width="container", height=alt.Step(60))
    return spec(chart, "Users by their weight on prototype 1")


def simplex(users: list[Row], n_prototypes: int) -> Spec:
    """Three or more prototypes at the corners of a regular polygon, users at the weighted mean of corners."""
    ring = corners(n_prototypes)
    values = [
        {**_user(user), "x": rounded(x), "y": rounded(y)}
        for user, (x, y) in zip(users, spread([mean(user["weights"], ring) for user in users]), strict=True)
    ]
    edges = [{"x": x, "y": y, "i": i} for i, (x, y) in enumerate([*ring, ring[0]])]
    labels = [
        {"x": rounded(1.28 * x), "y": rounded(1.28 * y), "label": f"prototype {i}"}
        for i, (x, y) in enumerate(ring, 1)
    ]
    low, high = 1.28 * min(y for _, y in ring) - 0.1, 1.4
    side = 1.28 * max(x for x, _ in ring) + 0.26
    x = alt.X("x:Q", axis=None, scale=alt.Scale(domain=[rounded(-side), rounded(side)], nice=False))
    y = alt.Y("y:Q", axis=None, scale=alt.Scale(domain=[rounded(low), high], nice=False))
    outline = marks_of(edges).mark_line(color=GREY, strokeWidth=1)
    names = marks_of(labels).mark_text(aria=False, fontSize=13)
    layered = alt.layer(
        outline.encode(x=x, y=y, order="i:Q"),
        names.encode(x=x, y=y, text="label:N"),
        _by_group(values).encode(x=x, y=y),
    )
    chart = layered.properties(width=480, height=round(240 * (high - low) / side))
    return spec(chart, "Users between the prototypes")


def truth(truth: Row) -> Spec:
    """Predicted ideal points, each joined to the true one, with the prototypes of both."""
    values = []
    for user in truth["users"]:
        x, y, x2, y2 = map(rounded, (*user["predicted"], *user["true"]))
        values.append({**_user(user), "x": x, "y": y, "x2": x2, "y2": y2})
    points = [(*prototype["true"], "true") for prototype in truth["prototypes"]]
    points += [(x, y, "predicted") for x, y in truth["predicted_prototypes"]]
    marks = [{"x": rounded(x), "y": rounded(y), "of": which} for x, y, which in points]
    # Both axes are of the same length in data units, so that distances can be compared.
    xs = [row[key] for row in (*values, *marks) for key in ("x", "x2") if key in row]
    ys = [row[key] for row in (*values, *marks) for key in ("y", "y2") if key in row]
    half = 0.54 * max(max(xs) - min(xs), max(ys) - min(ys), 1e-6)
    middles = [(max(ends) + min(ends)) / 2 for ends in (xs, ys)]
    scales = [alt.Scale(domain=[rounded(m - half), rounded(m + half)], nice=False) for m in middles]
    x = alt.X("x:Q", title="first axis", scale=scales[0], axis=alt.Axis(tickCount=5))
    y = alt.Y("y:Q", title="second axis", scale=scales[1], axis=alt.Axis(tickCount=5))
    lines = marks_of(values).mark_rule(strokeWidth=0.9, color="#9a9a9a", aria=False)
    diamond = {"size": 260, "shape": "diamond", "opacity": 1, "stroke": INK, "strokeWidth": 2}
    big = marks_of(marks).mark_point(**diamond)
    fill = alt.Fill("of:N", scale=alt.Scale(domain=["true", "predicted"], range=["white", INK]), legend=None)
    layered = alt.layer(
        lines.encode(x=x, y=y, x2="x2:Q", y2="y2:Q"),
        _by_group(values).encode(x=x, y=y),
        big.encode(x=x, y=y, fill=fill, tooltip=tooltip("of:N")),
    ).resolve_scale(fill="independent")
    return spec(layered.properties(width=440, height=440), "Predicted and true ideal points")


def corners(n_prototypes: int) -> list[tuple[float, float]]:
    """The corners of a regular polygon of radius 1, the first on top, clockwise."""
    angles = [math.pi / 2 - 2 * math.pi * k / n_prototypes for k in range(n_prototypes)]
    return [(rounded(math.cos(angle)), rounded(math.sin(angle))) for angle in angles]


def mean(weights: list[float], ring: list[tuple[float, float]]) -> tuple[float, float]:
    """Where a user of these weights stands between the corners: barycentric coordinates made plain."""
    return (
        sum(w * x for w, (x, _) in zip(weights, ring, strict=True)),
        sum(w * y for w, (_, y) in zip(weights, ring, strict=True)),
    )


def spread(positions: list[tuple[float, float]]) -> list[tuple[float, float]]:
    """Points that share a place become a small disc around it, so that their number shows."""
    cells = [(round(x * 50), round(y * 50)) for x, y in positions]
    sizes, met, placed = Counter(cells), Counter[tuple[int, int]](), []
    turn = math.pi * (3 - math.sqrt(5))
    for (x, y), cell in zip(positions, cells, strict=True):
        step = min(0.02, 0.15 / math.sqrt(sizes[cell]))
        radius, angle = step * math.sqrt(met[cell]), turn * met[cell]
        met[cell] += 1
        placed.append((x + radius * math.cos(angle), y + radius * math.sin(angle)))
    return placed


def _by_group(values: list[Row], *, legend: bool = True) -> Any:
    """A layer of users: colour and shape by group, seen filled, unseen hollow."""
    groups = _groups(values)
    colours, shapes = ([marks[i % len(marks)] for i in range(len(groups))] for marks in (COLOURS, SHAPES))
    named = alt.Legend(columns=4, symbolStrokeWidth=1.2) if len(groups) > 1 and legend else None
    colour = alt.Scale(domain=groups, range=colours)
    known = [field for field in ("user", "users", "group", "weights", "accuracy") if field in values[0]]
    filled = alt.Scale(domain=["seen", "unseen"], range=[0.75, 0])
    return (
        marks_of(values)
        .mark_point(size=36, opacity=0.9, aria=False)
        .encode(
            fill=alt.Fill("group:N", scale=colour, legend=named),
            stroke=alt.Stroke("group:N", scale=colour, legend=named),
            shape=alt.Shape("group:N", scale=alt.Scale(domain=groups, range=shapes), legend=named),
            fillOpacity=alt.FillOpacity("users:N", scale=filled, legend=None),
            tooltip=tooltip(*(f"{field}:N" for field in known)),
        )
    )


def _user(user: Row) -> Row:
    row = {"user": user["user_id"], "users": user["users"], "group": user["group"] or "unknown"}
    if "weights" in user:
        row["weights"] = ", ".join(f"{w:.2f}" for w in user["weights"])
        row["accuracy"] = percent(user["accuracy"])
    return row


def _groups(values: list[Row]) -> list[str]:
    """Group names in order, numbers as numbers."""
    names = {row["group"] for row in values}
    return sorted(names, key=lambda name: (not name.isdecimal(), int(name) if name.isdecimal() else 0, name))
