"""The figures, redrawn in one style: our presets as lines with bands, the text's points laid over them.

Colours are Okabe and Ito's, and every series has a dash and a mark of its own, so that print and colour-blind
readers tell them apart.
"""

from collections import Counter
from typing import Any

from experiments.entries import Entry
from experiments.verdicts import matches
from pipeline.report.charts import COLOURS, GREY, INK, Row, Spec, spec

NAMES = {
    "groups": "K*",
    "train_pairs": "comparisons per seen user",
    "dim": "d",
    "beta": "mixture ratio β",
    "K": "prototypes K",
    "latent": "latent width d",
    "shots": "comparisons per unseen user",
    "what": "measured on",
    "setting": "setting",
    "protocol": "protocol",
}
DASHES = [[1, 0], [7, 3], [2, 2], [9, 3, 2, 3], [4, 2], [1, 3], [12, 4], [6, 2, 1, 2, 1, 2]]
MARKS = [
    "circle",
    "square",
    "triangle-up",
    "diamond",
    "cross",
    "triangle-down",
    "triangle-right",
    "triangle-left",
]
LINES = [*COLOURS, GREY]
PAPER = "#000000"
READ = {"seen": "unseen pairs of seen users", "unseen": "unseen users"}


def drawn(entry: Entry, rows: list[Row], bounds: list[Row] | None = None) -> list[dict[str, Any]]:
    """An entry's charts: one per preset and value of the panel's axis, on one scale.

    Args:
        entry: Whose figure.
        rows: What was measured, a row per cell.
        bounds: What could be had at best, by x and line; nothing where it is not known.

    Returns:
        For each chart a title, the chart and its height.
    """
    figure = entry.figure
    if figure is None:
        return []
    here = [row for row in rows if figure.x in row and _shown(entry, row)]
    if not here:
        return []
    told = {row["what"] for row in here}
    best = [b for b in bounds or [] if figure.x in b and b["what"] in told]
    domain = _window([*here, *_points(entry, here), *best])
    charts = []
    for preset in dict.fromkeys(row["preset"] for row in here):
        for panel in dict.fromkeys(row.get(figure.panel or "") for row in here):
            part = [row for row in here if row["preset"] == preset and row.get(figure.panel or "") == panel]
            if part:
                title = f"preset {preset}" + (
                    f", {NAMES[figure.panel or '']} = {panel}" if panel is not None else ""
                )
                charts.append({"title": title, "chart": _chart(entry, part, domain, best)})
    return charts


def _shown(entry: Entry, row: Row) -> bool:
    """The rows that a figure is about: of what was measured the first that varies with x."""
    figure = entry.figure
    if figure is None or not matches(row, figure.only):
        return False
    if figure.line == "what":
        return True
    return row["what"] == ("unseen" if figure.x == "shots" else next(name for name in entry.run.read))


def _chart(entry: Entry, rows: list[Row], domain: list[float], bounds: list[Row]) -> Spec:
    import altair as alt

    figure = entry.figure
    assert figure is not None  # noqa: S101 - `drawn` has looked
    keys = list(dict.fromkeys(row.get(figure.line or "") for row in rows))
    names = [_name(figure.line, key) for key in keys]
    values = [_value(row, figure.x, _name(figure.line, row.get(figure.line or ""))) for row in rows]
    ticks = sorted({value["x"] for value in values})
    scale = alt.Scale(type="log" if figure.log else "linear", nice=False, padding=14)
    x = alt.X(
        "x:Q",
        title=NAMES[figure.x],
        scale=scale,
        axis=alt.Axis(values=_ticks(ticks), grid=False, format="~g"),
    )
    y = alt.Y("accuracy:Q", title="accuracy, %", scale=alt.Scale(domain=domain, nice=False, zero=False))

    def series(channel: Any, field: str, range_: list[Any], legend: Any) -> Any:
        return channel(field, scale=alt.Scale(domain=names, range=range_[: len(names)]), legend=legend)

    shown = alt.Legend(title=None, orient="top", columns=4, symbolSize=90, symbolOpacity=1)
    legend = shown if len(names) > 1 else None
    colour = series(alt.Color, "series:N", LINES, legend)
    shape = series(alt.Shape, "series:N", MARKS, legend)
    dash = series(alt.StrokeDash, "series:N", DASHES, None)
    base = alt.Chart(alt.InlineData(values=values)).encode(x=x)
    hover = [alt.Tooltip(field) for field in ("series:N", "x:Q", "accuracy:Q", "interval:N")]
    layers = [
        base.mark_area(opacity=0.13).encode(y=alt.Y("low:Q", title="accuracy, %"), y2="high:Q", color=colour),
        base.mark_line(strokeWidth=1.8).encode(y=y, color=colour, strokeDash=dash),
        base.mark_point(filled=True, size=48, opacity=1).encode(
            y=y, color=colour, shape=shape, tooltip=hover
        ),
    ]
    layers += _alone(values, x, colour)
    layers += _bounds(bounds, figure, x, y)
    layers += _papers(entry, rows, x, y)
    return spec(
        alt.layer(*layers).properties(width=330, height=250),
        f"{entry.title}: accuracy over {NAMES[figure.x]}",
    )


def _alone(values: list[Row], x: Any, colour: Any) -> list[Any]:
    """The intervals of points that no line joins, as upright strokes: a band has no width there."""
    import altair as alt

    count = Counter(value["series"] for value in values)
    alone = [value for value in values if count[value["series"]] == 1]
    if not alone:
        return []
    base = alt.Chart(alt.InlineData(values=alone)).encode(x=x, color=colour)
    return [base.mark_rule(strokeWidth=1.4, opacity=0.6).encode(y=alt.Y("low:Q"), y2="high:Q")]


def _value(row: Row, x: str, series: str) -> Row:
    return {
        "x": row[x],
        "series": series,
        "accuracy": round(row["accuracy"], 2),
        "low": round(row["low"], 2),
        "high": round(row["high"], 2),
        "interval": f"{row['low']:.1f}\u2013{row['high']:.1f}",
    }


def _name(axis: str | None, key: Any) -> str:
    if axis is None:
        return "ours"
    return str(key).replace("_", " ") if axis == "what" else f"{'K' if axis == 'K' else NAMES[axis]} = {key}"


def _ticks(values: list[float]) -> list[float]:
    """Where every value is marked; of many on a log axis, those that do not run into each other."""
    kept: list[float] = []
    for value in values:
        if len(values) < 7 or not kept or value >= 1.45 * kept[-1] or (value - kept[-1] == 1 and value < 9):
            kept.append(value)
    return kept


def _points(entry: Entry, rows: list[Row]) -> list[Row]:
    """The text's numbers that belong to these rows."""
    figure = entry.figure
    found = []
    for number in entry.paper.published:
        if figure is None or number.value is None or number.whose == "others":
            continue
        for row in rows:
            if matches(row, number.at):
                low, high = number.value - (number.spread or 0), number.value + (number.spread or 0)
                found.append({"x": row[figure.x], "accuracy": number.value, "low": low, "high": high})
    return list({(p["x"], p["accuracy"]): p for p in found}.values())


def _papers(entry: Entry, rows: list[Row], x: Any, y: Any) -> list[Any]:
    """The text's numbers as open rings with a cross, and their spread."""
    import altair as alt

    points = _points(entry, rows)
    if not points:
        return []
    base = alt.Chart(alt.InlineData(values=[{**p, "series": "the text"} for p in points])).encode(x=x)
    hover = [alt.Tooltip(field) for field in ("series:N", "x:Q", "accuracy:Q")]
    return [
        base.mark_rule(color=PAPER, strokeWidth=1).encode(y=alt.Y("low:Q"), y2="high:Q"),
        base.mark_point(
            color=PAPER, size=120, shape="circle", strokeWidth=1.6, fill="white", fillOpacity=0.0
        ).encode(y=y, tooltip=hover),
        base.mark_point(color=PAPER, size=40, shape="cross", strokeWidth=1, filled=True).encode(y=y),
    ]


def _bounds(bounds: list[Row], figure: Any, x: Any, y: Any) -> list[Any]:
    """What could be had at best, as a thin grey line."""
    import altair as alt

    if not bounds:
        return []
    values = [
        {"x": b[figure.x], "accuracy": b["bound"], "series": str(b.get(figure.line or ""))} for b in bounds
    ]
    base = alt.Chart(alt.InlineData(values=values)).encode(x=x, y=y, detail="series:N")
    return [base.mark_line(color=GREY, strokeWidth=1.4, strokeDash=[3, 3])]


def _window(rows: list[Row]) -> list[float]:
    low, high = min(row["low"] for row in rows), max(row["high"] for row in rows)
    return [max(0.0, 5 * ((low - 1) // 5)), min(100.5, 5 * ((high + 1) // 5 + 1))]


def plane(rows: list[Row], K: int) -> Spec:
    """True and found ideal points of one fit, joined user by user."""
    import altair as alt

    points = [row for row in rows if row.get("K") == K and "x" in row]
    true = [{"x": p["x"], "y": p["y"], "which": "true"} for p in points]
    found = [{"x": p["u"], "y": p["v"], "which": "found"} for p in points]
    names, colours, shapes = ["true", "found"], [INK, COLOURS[1]], ["circle", "cross"]
    legend = alt.Legend(title=None, orient="top")
    axes = {
        "x": alt.X("x:Q", axis=alt.Axis(grid=False, tickCount=4, title=None), scale=alt.Scale(zero=False)),
        "y": alt.Y("y:Q", axis=alt.Axis(grid=False, tickCount=4, title=None), scale=alt.Scale(zero=False)),
    }
    joins = alt.Chart(alt.InlineData(values=points)).mark_rule(strokeWidth=0.6, color=GREY, opacity=0.5)
    dots = alt.Chart(alt.InlineData(values=[*true, *found])).mark_point(filled=True, size=34, opacity=0.85)
    chart = alt.layer(
        joins.encode(**axes, x2="u:Q", y2="v:Q"),
        dots.encode(
            **axes,
            color=alt.Color("which:N", scale=alt.Scale(domain=names, range=colours), legend=legend),
            shape=alt.Shape("which:N", scale=alt.Scale(domain=names, range=shapes), legend=legend),
        ),
    )
    return spec(chart.properties(width=195, height=195), f"True and found ideal points at K = {K}")
