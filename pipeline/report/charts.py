"""Charts of the report, as Vega-Lite specifications made with Altair. Each takes plain rows, gives a dict.

Colours are Okabe and Ito's, which colour-blind readers tell apart; shapes repeat what colours say.
"""

import math
from typing import Any

import altair as alt  # noqa: TID253 - this module is imported by the report alone

from pal.report.page import FONT, Row
from pipeline.paths import AS_FITTED, ONE_PER_USER

Spec = dict[str, Any]

INK, GREY = "currentColor", "#7a7a7a"  # the page's own ink, in light and dark
COLOURS = ["#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000"]
SHAPES = ["circle", "square", "triangle-up", "diamond", "cross", "triangle-down"]
SERIES = {  # colour, shape, dash
    "model": (COLOURS[0], "circle", [1, 0]),
    "k1": (COLOURS[1], "square", [6, 3]),
    "longer": (COLOURS[4], "triangle-down", [6, 2]),
    "majority": (GREY, "diamond", [2, 2]),
    "seen": (INK, "circle", [10, 3]),
    "bound": (INK, "triangle-up", [3, 3]),
    "asked": (COLOURS[1], "square", [1, 0]),
}
WAYS = {  # of choose-k: colour, shape, dash, and how far beside its K a mark stands
    AS_FITTED: (COLOURS[0], "circle", [1, 0], -0.06),
    ONE_PER_USER: (COLOURS[1], "square", [6, 3], 0.06),
}
_AXIS = {"domainColor": GREY, "tickColor": GREY, "gridColor": "#8884", "titleFontWeight": "normal"}
THEME: Spec = {
    "font": FONT,
    "background": "transparent",
    "view": {"stroke": None},
    "axis": {**_AXIS, "labelFontSize": 12, "titleFontSize": 12, "labelColor": INK, "titleColor": INK},
    "legend": {"title": None, "orient": "top", "labelFontSize": 12, "labelColor": INK, "labelLimit": 300}
    | {"symbolLimit": 50, "symbolSize": 70, "columnPadding": 18},
    "text": {"fontSize": 12, "color": INK},
    "point": {"strokeWidth": 1.2},
}


def marks_of(values: list[Row]) -> alt.Chart:
    """A chart of rows that stand in the page itself."""
    return alt.Chart(alt.InlineData(values=values))


def few_shot(curves: dict[str, list[Row]], references: list[Row], names: dict[str, str]) -> Spec:
    """Accuracy by shots, over horizontal lines for `references` (series, accuracy).

    `curves` are rows by series, a key of `names`; that of the model is drawn with its interval.
    """
    values = []
    for series, rows in curves.items():
        for row in rows:
            low, high = hundred(row["low"]), hundred(row["high"])
            interval = "none" if low is None or high is None else f"{low:.1f}\u2013{high:.1f}"
            about = {"interval": interval, "shots": row["shots"], "series": names[series]}
            values.append({"accuracy": hundred(row["accuracy"]), "low": low, "high": high, **about})
    shots = sorted({value["shots"] for value in values})
    lines = [
        {"shots": end, "accuracy": hundred(row["accuracy"]), "series": names[row["series"]]}
        for row in references
        for end in sorted({min(shots), max(shots)})
    ]
    shown = [*curves, *dict.fromkeys(row["series"] for row in references)]
    x = alt.X("shots:Q", title="comparisons known of the user", scale=alt.Scale(type="sqrt", nice=False))
    x = x.axis(values=shots, format="d", grid=False, labelOverlap=True)
    # Percentages that hold the accuracies and intervals, in fives, and end at 100.
    marked = [row.get(key) for row in (*values, *lines) for key in ("accuracy", "low", "high")]
    given = [share for share in marked if share is not None]
    window = [5 * math.floor((min(given) - 0.5) / 5), 5 * math.ceil((max(given) + 0.5) / 5)]
    scale = alt.Scale(domain=[max(window[0], 0), min(window[1], 100)], nice=False, zero=False)
    y = alt.Y("accuracy:Q", title="accuracy, %", scale=scale)
    encode = {
        "color": alt.Color("series:N", scale=_scale(names, shown, 0), legend=None),
        "strokeDash": alt.StrokeDash("series:N", scale=_scale(names, shown, 2), legend=None),
    }
    marks = marks_of(values).encode(x=x, y=y, **encode)
    band = marks_of([value for value in values if value["series"] == names["model"]])
    band = band.transform_filter("isValid(datum.low)").mark_area(opacity=0.18, color=COLOURS[0])
    shape = alt.Shape("series:N", scale=_scale(names, shown, 1), legend=None)
    hover = tooltip("series:N", "shots:Q", "accuracy:Q", "interval:N")
    chart = alt.layer(
        band.encode(x=x, y=alt.Y("low:Q"), y2="high:Q"),
        marks_of(lines).mark_line(strokeWidth=1.5).encode(x=x, y=y, **encode),
        marks.mark_line(strokeWidth=2),
        marks.mark_point(filled=True, size=50, opacity=1).encode(shape=shape, tooltip=hover),
    )
    return spec(chart.properties(width="container", height=280), "Accuracy by comparisons known")


def calibration(bins: list[Row]) -> Spec:
    """Observed against predicted shares, over the diagonal of perfect calibration."""
    values = [
        {"predicted": hundred(b["predicted"]), "observed": hundred(b["observed"]), "comparisons": b["count"]}
        for b in bins
    ]
    domain = alt.Scale(domain=[0, 100])
    x = alt.X("predicted:Q", title="predicted, %", scale=domain, axis=alt.Axis(tickCount=5))
    y = alt.Y("observed:Q", title="observed, %", scale=domain, axis=alt.Axis(tickCount=5))
    ends = [{"predicted": 0, "observed": 0}, {"predicted": 100, "observed": 100}]
    size = alt.Size("comparisons:Q", scale=alt.Scale(type="sqrt", range=[20, 400]), legend=None)
    diagonal = marks_of(ends).mark_line(color=GREY, strokeDash=[4, 3], strokeWidth=1)
    dots = marks_of(values).mark_point(filled=True, opacity=0.8, color=COLOURS[0])
    hover = tooltip("predicted:Q", "observed:Q", "comparisons:Q")
    layered = alt.layer(diagonal.encode(x=x, y=y), dots.encode(x=x, y=y, size=size, tooltip=hover))
    return spec(layered.properties(width=320, height=320), "Observed against predicted preference")


def training(rows: list[Row], series: dict[str, str], title: str) -> Spec:
    """Columns of the training log by epoch; `series` gives each its name."""
    values = [
        {"epoch": row["epoch"], "value": rounded(row[column]), "series": name}
        for column, name in series.items()
        for row in rows
        if row[column] is not None
    ]
    names = list(series.values())
    legend = alt.Legend(symbolType="stroke", symbolSize=500, symbolStrokeWidth=2) if len(names) > 1 else None
    colours, dashes = COLOURS[: len(names)], [[1, 0], [6, 3]][: len(names)]
    drawn = marks_of(values).mark_line(point=alt.OverlayMarkDef(size=18, strokeDash=[1, 0]))
    drawn = drawn.encode(
        x=alt.X("epoch:Q", axis=alt.Axis(grid=False, tickMinStep=1, format="d", tickCount=5)),
        y=alt.Y("value:Q", title=title, scale=alt.Scale(zero=False), axis=alt.Axis(tickCount=5)),
        color=alt.Color("series:N", scale=alt.Scale(domain=names, range=colours), legend=legend),
        strokeDash=alt.StrokeDash("series:N", scale=alt.Scale(domain=names, range=dashes), legend=legend),
        tooltip=tooltip("epoch:Q", "value:Q", "series:N"),
    )
    return spec(drawn.properties(width="container", height=200), f"{title} by epoch")


def choices(curves: dict[str, Row]) -> Spec:
    """Accuracy over K with bars of one standard error, by way of choosing K, each way's choice ringed."""
    shown = [way for way in WAYS if way in curves]
    values = []
    for way in shown:
        for row in curves[way]["candidates"]:
            K, accuracy, error = row["K"], row["accuracy"], row["standard_error"]
            bar = {"low": hundred(accuracy - error), "high": hundred(min(1.0, accuracy + error))}
            about = {"way": way, "error": f"{100 * error:.2f}", "chosen": curves[way]["K"] == K}
            values.append({"K": K, "at": K + WAYS[way][3], "accuracy": hundred(accuracy), **bar, **about})
    candidates = sorted({value["K"] for value in values})
    legend = alt.Legend(symbolSize=90) if len(shown) > 1 else None

    scales = [alt.Scale(domain=shown, range=[WAYS[way][which] for way in shown]) for which in range(3)]
    colour = alt.Color("way:N", scale=scales[0], legend=legend)
    shape = alt.Shape("way:N", scale=scales[1], legend=legend)
    dash = alt.StrokeDash("way:N", scale=scales[2], legend=None)
    scale = alt.Scale(domain=[candidates[0] - 0.4, candidates[-1] + 0.4])
    x = alt.X("at:Q", title="prototypes K", scale=scale).axis(values=candidates, format="d", grid=False)
    y = alt.Y("accuracy:Q", title="accuracy, %", scale=alt.Scale(zero=False))
    low = alt.Y("low:Q", title="accuracy, %")
    base = marks_of(values).encode(x=x)
    hover = tooltip("way:N", "K:Q", "accuracy:Q", "error:N")
    dots, rings = base.mark_point(filled=True, size=55, opacity=1), base.transform_filter("datum.chosen")
    chart = alt.layer(
        base.mark_rule(strokeWidth=1.5).encode(y=low, y2="high:Q", color=colour),
        base.mark_line(strokeWidth=1.8).encode(y=y, color=colour, strokeDash=dash),
        dots.encode(y=y, color=colour, shape=shape, tooltip=hover),
        rings.encode(y=y).mark_point(size=260, shape="circle", strokeWidth=1.6, color=GREY),
    )
    return spec(chart.properties(width="container", height=260), "Accuracy by number of prototypes")


def truth(truth: Row) -> Spec:
    """Predicted ideal points, each joined to the true one, with the prototypes of both."""
    values = []
    for user in truth["users"]:
        x, y, x2, y2 = map(rounded, (*user["predicted"], *user["true"]))
        about = {"user": user["user_id"], "users": user["users"], "group": user["group"]}
        values.append({**about, "x": x, "y": y, "x2": x2, "y2": y2})
    points = [(*prototype["true"], "true") for prototype in truth["prototypes"]]
    points += [(x, y, "predicted") for x, y in truth["predicted_prototypes"]]
    marks = [{"x": rounded(x), "y": rounded(y), "of": which} for x, y, which in points]
    # Both axes are of the same length in data units, so that distances can be compared.
    both = [
        [row[key] for row in (*values, *marks) for key in keys if key in row]
        for keys in (("x", "x2"), ("y", "y2"))
    ]
    half = 0.54 * max(1e-6, *(max(ends) - min(ends) for ends in both))
    middles = [(max(ends) + min(ends)) / 2 for ends in both]
    scales = [alt.Scale(domain=[rounded(m - half), rounded(m + half)], nice=False) for m in middles]
    x = alt.X("x:Q", title="first axis", scale=scales[0], axis=alt.Axis(tickCount=5))
    y = alt.Y("y:Q", title="second axis", scale=scales[1], axis=alt.Axis(tickCount=5))
    lines = marks_of(values).mark_rule(strokeWidth=0.9, color="#9a9a9a", aria=False)
    diamond = {"size": 260, "shape": "diamond", "opacity": 1, "stroke": INK, "strokeWidth": 2}
    big = marks_of(marks).mark_point(**diamond)
    fill = alt.Fill("of:N", scale=alt.Scale(domain=["true", "predicted"], range=["white", INK]), legend=None)
    groups = sorted({value["group"] for value in values})
    named = alt.Legend(columns=4, symbolStrokeWidth=1.2) if len(groups) > 1 else None
    colours, shapes = (alt.Scale(domain=groups, range=each) for each in (COLOURS, SHAPES))
    filled = alt.Scale(domain=["seen", "unseen"], range=[0.75, 0])
    users = marks_of(values).mark_point(size=36, opacity=0.9, aria=False)
    users = users.encode(
        fill=alt.Fill("group:N", scale=colours, legend=named),
        stroke=alt.Stroke("group:N", scale=colours, legend=named),
        shape=alt.Shape("group:N", scale=shapes, legend=named),
        fillOpacity=alt.FillOpacity("users:N", scale=filled, legend=None),
        tooltip=tooltip("user:N", "users:N", "group:N"),
    )
    layered = alt.layer(
        lines.encode(x=x, y=y, x2="x2:Q", y2="y2:Q"),
        users.encode(x=x, y=y),
        big.encode(x=x, y=y, fill=fill, tooltip=tooltip("of:N")),
    ).resolve_scale(fill="independent")
    return spec(layered.properties(width=440, height=440), "Predicted and true ideal points")


def _scale(names: dict[str, str], shown: list[str], which: int) -> Any:
    return alt.Scale(domain=[names[key] for key in shown], range=[SERIES[key][which] for key in shown])


def tooltip(*fields: str) -> list[Any]:
    """What shows when the reader points at a mark."""
    return [alt.Tooltip(field, format=".1f" if field == "accuracy:Q" else alt.Undefined) for field in fields]


def spec(chart: Any, description: str) -> Spec:
    """The chart as a dict; the theme and the schema are the page's, once for all charts."""
    made = chart.properties(description=description).to_dict()
    if made.get("width") == "container":
        made["autosize"] = {"type": "fit-x", "contains": "padding", "resize": True}
    return {key: value for key, value in made.items() if key not in ("$schema", "config")}


def hundred(share: float | None) -> float | None:
    """A share as a percentage, with the digits that a figure can show."""
    return None if share is None else round(100 * share, 2)


def rounded(value: float) -> float:
    """A number with the digits that a figure can show, which keeps the page small."""
    return round(value, 4) + 0.0
