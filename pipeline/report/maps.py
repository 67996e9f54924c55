"""The report's map of users beside the truth.

Colour and shape say a user's true group; seen users are filled, unseen ones hollow.
"""

from typing import Any

import altair as alt  # noqa: TID253 - this module is imported by the report alone

from pipeline.report.charts import COLOURS, INK, SHAPES, Row, Spec, marks_of, rounded, spec, tooltip


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


def _by_group(values: list[Row], *, legend: bool = True) -> Any:
    """A layer of users: colour and shape by group, seen filled, unseen hollow."""
    groups = _groups(values)
    colours, shapes = ([marks[i % len(marks)] for i in range(len(groups))] for marks in (COLOURS, SHAPES))
    named = alt.Legend(columns=4, symbolStrokeWidth=1.2) if len(groups) > 1 and legend else None
    colour = alt.Scale(domain=groups, range=colours)
    known = [field for field in ("user", "users", "group") if field in values[0]]
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
    return {"user": user["user_id"], "users": user["users"], "group": user["group"] or "unknown"}


def _groups(values: list[Row]) -> list[str]:
    """Group names in order, numbers as numbers."""
    names = {row["group"] for row in values}
    return sorted(names, key=lambda name: (not name.isdecimal(), int(name) if name.isdecimal() else 0, name))
