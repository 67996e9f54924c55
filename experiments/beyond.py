"""Beyond the texts: whether choose-k finds the number of groups, and how far the test of plurality is right.

Drawn from what `python -m benchmarks choose` left in benchmarks/results.json, which is kept with the code.
"""

import json
import re
from math import sqrt
from pathlib import Path
from typing import Any

from pipeline.report.charts import COLOURS, GREY, SHAPES, Row, Spec, spec

RESULTS = Path("benchmarks/results.json")
HITS = re.compile(r"(?P<name>.+), K\* = (?P<groups>\d+): seeds of ten in which choose-k finds it")
LEVEL = re.compile(r"(?P<count>\d+) homogeneous simulations: rejected at 5 %")
POWER = re.compile(
    r"two groups (?P<case>.+), (?P<users>\d+) users, (?P<answers>\d+) comparisons each: rejected"
)
DASHES = [[1, 0], [7, 3], [2, 2], [9, 3, 2, 3]]


def read() -> dict[str, Any]:
    """What the page shows; `found` is false where the benchmark has not run."""
    kept: dict[str, Any] = {}
    if RESULTS.is_file():
        kept = json.loads(RESULTS.read_text(encoding="utf-8")).get("choose", {})
    rows: list[Row] = kept.get("rows", [])
    before = kept.get("about", {}).get("before", "")
    shown = {"hits": hits(rows), "level": level(rows), "charts": charts(rows)}
    return {"found": bool(rows), "before": before, **shown}


def hits(rows: list[Row]) -> list[Row]:
    """A row per number of groups: by dataset, in how many of ten seeds it was found, and what each found."""
    found: dict[int, Row] = {}
    for row, match in _matching(HITS, rows):
        cell = {"hits": int(row["got"]), "found": [int(K) for K in row["each"]], "verdict": row["verdict"]}
        found.setdefault(int(match["groups"]), {})[match["name"]] = cell
    return [{"groups": groups, "by": by} for groups, by in sorted(found.items())]


def level(rows: list[Row]) -> Row | None:
    """How often the test finds plurality where there is none, with Wilson's 95 % interval."""
    for row, match in _matching(LEVEL, rows):
        low, high = wilson(round(row["got"] * int(match["count"]) / 100), int(match["count"]))
        ends = {"low": 100 * low, "high": 100 * high}
        return {"count": int(match["count"]), "rejected": row["got"], **ends, "verdict": row["verdict"]}
    return None


def wilson(count: int, of: int, z: float = 1.959964) -> tuple[float, float]:
    """Wilson's interval of a share, 95 % by default.

    Args:
        count: How many of them.
        of: How many there are.
        z: The normal quantile.
    """
    share, more = count / of, z * z / of
    half = z * sqrt(share * (1 - share) / of + more / (4 * of))
    low, high = (share + more / 2 - half) / (1 + more), (share + more / 2 + half) / (1 + more)
    return max(0.0, low), min(1.0, high)


def charts(rows: list[Row]) -> list[Row]:
    """Power over users, a line per number of comparisons, a chart per case."""
    cases: dict[str, list[Row]] = {}
    for row, match in _matching(POWER, rows):
        point = {"users": int(match["users"]), "answers": int(match["answers"]), "power": row["got"]}
        seeds = int(re.match(r"\d+", row["note"])[0])  # type: ignore[index]
        low, high = wilson(round(row["got"] * seeds / 100), seeds)
        ends = {"low": round(100 * low, 1), "high": round(100 * high, 1)}
        cases.setdefault(match["case"], []).append({**point, **ends})
    return [{"title": f"two groups, {case}", "chart": power(case, points)} for case, points in cases.items()]


def power(case: str, points: list[Row]) -> Spec:
    """One chart of power.

    Args:
        case: What the groups are like.
        points: Users, comparisons of each, and how often the test found the groups, in per cent.
    """
    import altair as alt

    answers = sorted({point["answers"] for point in points})
    names = [f"{count} comparisons each" for count in answers]
    values = [{**point, "series": f"{point['answers']} comparisons each"} for point in points]
    users = sorted({point["users"] for point in points})
    x = alt.X("users:Q", title="users", scale=alt.Scale(type="log", nice=False, padding=14))
    x = x.axis(values=users, grid=False, format="d")
    y = alt.Y("power:Q", title="plurality found, %", scale=alt.Scale(domain=[0, 100]))
    legend = alt.Legend(title=None, orient="top", columns=2, symbolSize=90, symbolOpacity=1)

    def series(channel: Any, marks: list[Any], legend: Any) -> Any:
        return channel("series:N", scale=alt.Scale(domain=names, range=marks[: len(names)]), legend=legend)

    colour = series(alt.Color, COLOURS, legend)
    base = alt.Chart(alt.InlineData(values=values)).encode(x=x)
    hover = [alt.Tooltip(field) for field in ("series:N", "users:Q", "power:Q", "low:Q", "high:Q")]
    chance = alt.Chart(alt.InlineData(values=[{"power": 5}])).encode(y=y)
    layers = [
        chance.mark_rule(color=GREY, strokeDash=[3, 3], strokeWidth=1.2),
        base.mark_line(strokeWidth=1.8).encode(
            y=y, color=colour, strokeDash=series(alt.StrokeDash, DASHES, None)
        ),
        base.mark_point(filled=True, size=55, opacity=1).encode(
            y=y, color=colour, shape=series(alt.Shape, SHAPES, legend), tooltip=hover
        ),
    ]
    chart = alt.layer(*layers).properties(width=380, height=250)
    return spec(chart, f"How often the test finds two groups, {case}")


def _matching(pattern: re.Pattern[str], rows: list[Row]) -> list[tuple[Row, re.Match[str]]]:
    return [(row, match) for row in rows if (match := pattern.fullmatch(row["what"]))]
