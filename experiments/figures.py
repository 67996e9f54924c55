"""The figures, redrawn in one style: our presets as lines with bands, the text's points laid over them.

Colours are Okabe and Ito's, and every series has a dash and a mark of its own, so that print and colour-blind
readers tell them apart.
"""

from collections import Counter
from typing import Any

import altair as alt  # noqa: TID253 - this module is imported by the page alone

from experiments.entries import Entry, Figure
from experiments.verdicts import matches
from pipeline.report.charts import COLOURS, GREY, INK, SHAPES, Row, Spec, marks_of, spec

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
MARKS = [*SHAPES, "triangle-right", "triangle-left"]
PAPER = "#000000"


def drawn(entry: Entry, rows: list[Row], bounds: list[Row]) -> list[Row]:
    """An entry's charts with their titles: one per preset and value of the panel's axis, on one scale.

    `rows` are what was measured, one per cell; `bounds` what could be had at best, by x and line.
    """
    figure = entry.figure
    if figure is None:
        return []
    rows = [row for row in rows if figure.x in row and matches(row, figure.only)]
    if figure.line != "what":  # of what was measured, the first that varies with x
        what = "unseen" if figure.x == "shots" else entry.run.read[0]
        rows = [row for row in rows if row["what"] == what]
    if not rows:
        return []
    whats = {row["what"] for row in rows}
    best = [bound for bound in bounds if figure.x in bound and bound["what"] in whats]
    every = [*rows, *_points(entry, figure, rows), *best]
    low, high = min(row["low"] for row in every), max(row["high"] for row in every)
    domain = [max(0.0, 5 * ((low - 1) // 5)), min(100.5, 5 * ((high + 1) // 5 + 1))]
    charts = []
    for preset in dict.fromkeys(row["preset"] for row in rows):
        for panel in dict.fromkeys(row.get(figure.panel or "") for row in rows):
            shown = [row for row in rows if (row["preset"], row.get(figure.panel or "")) == (preset, panel)]
            if shown:
                where = "" if panel is None else f", {NAMES[figure.panel]} = {panel}"
                chart = _chart(entry, figure, shown, domain, best)
                charts.append({"title": f"preset {preset}{where}", "chart": chart})
    return charts


def _chart(entry: Entry, figure: Figure, rows: list[Row], domain: list[float], bounds: list[Row]) -> Spec:
    values = []
    for row in rows:
        numbers = {key: round(row[key], 2) for key in ("accuracy", "low", "high")}
        series = _name(figure.line, row.get(figure.line or ""))
        interval = f"{row['low']:.1f}\u2013{row['high']:.1f}"
        values.append({"x": row[figure.x], "series": series, **numbers, "interval": interval})
    names = list(dict.fromkeys(value["series"] for value in values))
    scale = alt.Scale(type="log" if figure.log else "linear", nice=False, padding=14)
    ticks, places = [], sorted({value["x"] for value in values})
    for x in places:  # of many on a log axis, those that do not run into each other
        if len(places) < 7 or not ticks or x >= 1.45 * ticks[-1] or (x - ticks[-1] == 1 and x < 9):
            ticks.append(x)
    x = alt.X("x:Q", title=NAMES[figure.x], scale=scale, axis=alt.Axis(values=ticks, grid=False, format="~g"))
    y = alt.Y("accuracy:Q", title="accuracy, %", scale=alt.Scale(domain=domain, nice=False, zero=False))

    def series(channel: Any, marks: list[Any], legend: Any) -> Any:
        return channel("series:N", scale=alt.Scale(domain=names, range=marks[: len(names)]), legend=legend)

    several = alt.Legend(title=None, orient="top", columns=4, symbolSize=90, symbolOpacity=1)
    legend = several if len(names) > 1 else None
    colour, shape = series(alt.Color, [*COLOURS, GREY], legend), series(alt.Shape, MARKS, legend)
    dash = series(alt.StrokeDash, DASHES, None)

    def base(data: list[Row]) -> Any:
        return marks_of(data).encode(x=x)

    hover = [alt.Tooltip(field) for field in ("series:N", "x:Q", "accuracy:Q", "interval:N")]
    low = alt.Y("low:Q", title="accuracy, %")
    ours = base(values)
    dots = ours.mark_point(filled=True, size=48, opacity=1)
    layers = [
        ours.mark_area(opacity=0.13).encode(y=low, y2="high:Q", color=colour),
        ours.mark_line(strokeWidth=1.8).encode(y=y, color=colour, strokeDash=dash),
        dots.encode(y=y, color=colour, shape=shape, tooltip=hover),
    ]
    # A band has no width where no line joins points: their intervals are upright strokes.
    count = Counter(value["series"] for value in values)
    if alone := [value for value in values if count[value["series"]] == 1]:
        strokes = base(alone).mark_rule(strokeWidth=1.4, opacity=0.6)
        layers.append(strokes.encode(y=alt.Y("low:Q"), y2="high:Q", color=colour))
    if bounds:  # what could be had at best, as a thin grey line
        best = [
            {"x": b[figure.x], "accuracy": b["bound"], "series": str(b.get(figure.line or ""))}
            for b in bounds
        ]
        line = base(best).mark_line(color=GREY, strokeWidth=1.4, strokeDash=[3, 3])
        layers.append(line.encode(y=y, detail="series:N"))
    if points := _points(entry, figure, rows):  # open rings with a cross, and their spread
        text, hover = base([{**point, "series": "the text"} for point in points]), hover[:3]
        ring = {"color": PAPER, "size": 120, "shape": "circle", "strokeWidth": 1.6, "fill": "white"}
        layers += [
            text.mark_rule(color=PAPER, strokeWidth=1).encode(y=alt.Y("low:Q"), y2="high:Q"),
            text.mark_point(**ring, fillOpacity=0.0).encode(y=y, tooltip=hover),
            text.mark_point(color=PAPER, size=40, shape="cross", strokeWidth=1, filled=True).encode(y=y),
        ]
    title = f"{entry.title}: accuracy over {NAMES[figure.x]}"
    return spec(alt.layer(*layers).properties(width=330, height=250), title)


def _name(axis: str | None, key: Any) -> str:
    if axis is None:
        return "ours"
    return str(key).replace("_", " ") if axis == "what" else f"{'K' if axis == 'K' else NAMES[axis]} = {key}"


def _points(entry: Entry, figure: Figure, rows: list[Row]) -> list[Row]:
    """The text's numbers that belong to these rows, each once."""
    points: dict[tuple[Any, float], Row] = {}
    for number in entry.paper.published:
        if (value := number.value) is not None and number.whose == "ours":
            spread = number.spread or 0
            ends = {"low": value - spread, "high": value + spread}
            for row in (row for row in rows if matches(row, number.at)):
                points[row[figure.x], value] = {"x": row[figure.x], "accuracy": value, **ends}
    return list(points.values())


def plane(rows: list[Row], K: int) -> Spec:
    """True and estimated ideal points of one fit, joined user by user."""
    points = [row for row in rows if row.get("K") == K and "x" in row]
    true = [{"x": p["x"], "y": p["y"], "which": "true"} for p in points]
    estimated = [{"x": p["u"], "y": p["v"], "which": "found"} for p in points]
    axis, scale = alt.Axis(grid=False, tickCount=4, title=None), alt.Scale(zero=False)
    axes = {"x": alt.X("x:Q", axis=axis, scale=scale), "y": alt.Y("y:Q", axis=axis, scale=scale)}

    def which(channel: Any, marks: list[str]) -> Any:
        scale = alt.Scale(domain=["true", "found"], range=marks)
        return channel("which:N", scale=scale, legend=alt.Legend(title=None, orient="top"))

    colour, shape = which(alt.Color, [INK, COLOURS[1]]), which(alt.Shape, ["circle", "cross"])
    joins = marks_of(points).mark_rule(strokeWidth=0.6, color=GREY, opacity=0.5)
    dots = marks_of([*true, *estimated]).mark_point(filled=True, size=34, opacity=0.85)
    chart = alt.layer(
        joins.encode(**axes, x2="u:Q", y2="v:Q"), dots.encode(**axes, color=colour, shape=shape)
    )
    return spec(chart.properties(width=195, height=195), f"True and found ideal points at K = {K}")
