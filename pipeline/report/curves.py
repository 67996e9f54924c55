"""What choose-k found, for the report: its curves over K, and what follows from them in sentences."""

from typing import Any

from pipeline import paths
from pipeline.evaluation.evaluated import Evaluated
from pipeline.paths import AS_FITTED, ONE_PER_USER
from pipeline.report.charts import COLOURS, GREY, Row, Spec, hundred, spec, tooltip
from pipeline.report.numerals import tied
from pipeline.storage.manifests import read_json

Curves = dict[str, dict[str, Any]]

WAYS = {  # colour, shape, dash, and how far beside its K a mark stands
    AS_FITTED: (COLOURS[0], "circle", [1, 0], -0.06),
    ONE_PER_USER: (COLOURS[1], "square", [6, 3], 0.06),
}
WHY = (
    "The two may differ. With weights between the prototypes the sign of a reward is affine in the weights, "
    "so users among three prototypes can behave as more than three groups; with every user at one prototype, "
    "K is the number of groups, of which it takes many to imitate users who stand between."
)


def read(dataset: str) -> Curves:
    """The curves that choose-k left for a dataset; none where model.K is a number and nobody asked."""
    path = paths.chosen(dataset)
    if not path.is_file():
        return {}
    found: Curves = read_json(path, f"choose-k@{dataset}")["curves"]
    return found


def said(curves: Curves, evaluated: Evaluated) -> str:
    """What the curves say of K, and why they may differ; empty without curves."""
    if not curves:
        return ""
    parts = []
    if ONE_PER_USER in curves:
        K = curves[ONE_PER_USER]["K"]
        found = "nobody is told apart" if K == 1 else f"{K} groups describe these users"
        parts.append(f"With every user at one prototype, {found} (K = {K}).")
    if AS_FITTED in curves:
        parts.append(f"Fitted as this model is, K = {curves[AS_FITTED]['K']} suffices.")
    if len(curves) > 1:
        parts.append(WHY)
    parts.append(f"The model of this page has K = {evaluated['head']['K']}.")
    return tied(" ".join(parts))


def chart(curves: Curves) -> Spec | None:
    """Accuracy over K with bars of one standard error, each curve's choice ringed; None without curves."""
    import altair as alt

    if not curves:
        return None
    shown = [way for way in WAYS if way in curves]
    values = [value for way in shown for value in _values(way, curves[way])]
    candidates = sorted({value["K"] for value in values})
    columns = zip(*(WAYS[way] for way in shown), strict=True)
    colours, shapes, dashes, _ = (list(column) for column in columns)
    legend = alt.Legend(symbolSize=90) if len(shown) > 1 else None
    x = alt.X(
        "at:Q", title="prototypes K", scale=alt.Scale(domain=[candidates[0] - 0.4, candidates[-1] + 0.4])
    )
    x = x.axis(values=candidates, format="d", grid=False)
    y = alt.Y("accuracy:Q", title="accuracy, %", scale=alt.Scale(zero=False))
    colour = alt.Color("way:N", scale=alt.Scale(domain=shown, range=colours), legend=legend)
    shape = alt.Shape("way:N", scale=alt.Scale(domain=shown, range=shapes), legend=legend)
    dash = alt.StrokeDash("way:N", scale=alt.Scale(domain=shown, range=dashes), legend=None)
    base = alt.Chart(alt.InlineData(values=values)).encode(x=x)
    picked = base.transform_filter("datum.chosen").encode(y=y)
    hover = tooltip("way:N", "K:Q", "accuracy:Q", "error:N")
    layers = [
        base.mark_rule(strokeWidth=1.5).encode(
            y=alt.Y("low:Q", title="accuracy, %"), y2="high:Q", color=colour
        ),
        base.mark_line(strokeWidth=1.8).encode(y=y, color=colour, strokeDash=dash),
        base.mark_point(filled=True, size=55, opacity=1).encode(
            y=y, color=colour, shape=shape, tooltip=hover
        ),
        picked.mark_point(size=260, shape="circle", strokeWidth=1.6, color=GREY),
    ]
    return spec(
        alt.layer(*layers).properties(width="container", height=260), "Accuracy by number of prototypes"
    )


def _values(way: str, curve: dict[str, Any]) -> list[Row]:
    rows = []
    for row in curve["candidates"]:
        accuracy, error = row["accuracy"], row["standard_error"]
        ends = {"low": hundred(accuracy - error), "high": hundred(min(1.0, accuracy + error))}
        values = {"K": row["K"], "at": row["K"] + WAYS[way][3], "accuracy": hundred(accuracy), **ends}
        named = {"way": way, "error": f"{100 * error:.2f}", "chosen": row["K"] == curve["K"]}
        rows.append({**values, **named})
    return rows
