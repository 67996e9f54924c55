"""The columns of your files: their names, what their cells may hold, and how a fault in one is told."""

from collections.abc import Iterable
from difflib import get_close_matches
from typing import TYPE_CHECKING, Any

from pipeline.errors import PipelineError, shorten

if TYPE_CHECKING:
    import pyarrow as pa

REQUIRED = ("user_id", "prompt", "chosen", "rejected")
OPTIONAL = ("label", "split")
COLUMNS = REQUIRED + OPTIONAL

# What others call these columns, to say which one to rename.
_OTHER_NAMES = {
    "user_id": ("user", "annotator", "worker", "rater", "person", "participant"),
    "prompt": ("question", "instruction", "context", "input", "query"),
    "chosen": ("winner", "preferred", "better", "accepted"),
    "rejected": ("loser", "dispreferred", "worse"),
}
_TEXT = ({str, type(None)}, "text")
_KINDS: dict[str, tuple[set[type], str]] = {
    "user_id": ({str, int, type(None)}, "text or a whole number"),
    "prompt": _TEXT,
    "chosen": _TEXT,
    "rejected": _TEXT,
    "label": ({int, float, type(None)}, "a number from 0.5 to 1"),
    "split": _TEXT,
}
_MOST_NAMES = 200  # characters of a file's column names in a message


def place(name: str, row: int, line: int | None, others: int = 0) -> str:
    """Where a fault is, and how many more rows share it."""
    at = f" (line {line:,})" if line not in (None, row) else ""
    more = f" (and {others:,} more row{'s' if others > 1 else ''})" if others else ""
    return f"row {row:,}{at} of {name}{more}" if row else f"the header of {name}"


class Faults:
    """The first fault of each kind in a file, and how many rows share it."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.found: dict[str, list[Any]] = {}

    def add(self, subject: str, row: int, line: int, fault: str) -> None:
        """Note a fault; subject is what is wrong in the row, empty for the row itself."""
        self.found.setdefault(subject, [row, line, fault, -1])[3] += 1

    def refuse(self) -> None:
        """Raise the one that comes first in the file, if any."""
        if self.found:
            subject, (row, line, fault, others) = min(self.found.items(), key=lambda item: item[1][0])
            raise PipelineError(f"{subject}{place(self.name, row, line, others)} {fault}")


def columns_of(name: str, names: list[str]) -> list[str]:
    """Those of COLUMNS among a file's names, in COLUMNS' order."""
    if missing := [column for column in REQUIRED if column not in names]:
        has = ", ".join(map(repr, names)) or "none"
        has = has if len(has) <= _MOST_NAMES else f"{has[:_MOST_NAMES]}…"
        subject = f"the column{'s' if len(missing) > 1 else ''} {', '.join(missing)}"
        raise PipelineError(f"{name} lacks {subject}; it has {has}{_advice(missing, names)}")
    for column in COLUMNS:
        if names.count(column) > 1:
            raise PipelineError(f"{name} must have one column {column}, got {names.count(column)}")
    for column in (optional for optional in OPTIONAL if optional not in names):
        if like := [other for other in names if other.strip().lower() == column]:
            raise PipelineError(
                f"{name} has a column {like[0]!r}; rename it to {column}, or to something else"
            )
    return [column for column in COLUMNS if column in names]


def _advice(missing: list[str], names: list[str]) -> str:
    """What to do about missing columns: which to rename, where some have names like theirs."""
    if len(names) == 1 and (used := [mark for mark in (";", "\t", "|") if mark in names[0]]):
        return f"; separate its columns by commas, not by {used[0]!r}"
    renames, free = [], [other for other in names if other not in COLUMNS]
    for column in missing:
        known = [column, *_OTHER_NAMES[column]]
        like = [other for other in free if get_close_matches(other.strip().lower(), known, 1, 0.8)]
        renames += [f"{like[0]!r} to {column}"] if like else []
    needed = f"every file needs {'them' if len(missing) > 1 else 'it'}"
    return f"; rename {', '.join(renames)}" if renames else f"; {needed}"


def described(value: Any) -> str:
    """A JSON value in a message: lists and objects by their kind, since they nest as deep as they like."""
    return {list: "a list", dict: "a JSON object"}.get(type(value)) or shorten(value)


def dtype(column: str) -> Any:
    """The column's type in a frame."""
    import polars as pl

    return pl.Float64 if column == "label" else pl.String


def arrow_type(name: str, column: str, kind: "pa.DataType") -> "pa.DataType":
    """What to cast a Parquet column to, if it holds what is allowed."""
    import pyarrow as pa
    from pyarrow import types

    value = kind.value_type if types.is_dictionary(kind) else kind
    integer, number = types.is_integer(value), types.is_floating(value) or types.is_decimal(value)
    text = types.is_string(value) or types.is_large_string(value) or types.is_string_view(value)
    fits = integer or number if column == "label" else text or (integer and column == "user_id")
    if not fits and not types.is_null(value):
        raise PipelineError(f"{column} in {name} must hold {_KINDS[column][1]}, got {value}")
    return pa.float64() if column == "label" else pa.large_string()


def clean_values(
    column: str, values: Iterable[Any], places: list[tuple[int, int]], faults: Faults
) -> list[Any]:
    """One column's values as its type; wrong ones are noted, and null."""
    types, allowed = _KINDS[column]
    clean = list(values)
    for index, value in enumerate(clean):
        if type(value) not in types:
            fault = f"must be {allowed}, got {described(value)}"
        elif type(value) is str and not _is_unicode(value):
            fault = f"must be valid Unicode, got {shorten(value)}; it holds half of a surrogate pair"
        else:
            continue
        faults.add(f"{column} in ", *places[index], fault)
        clean[index] = None
    if int in set(map(type, clean)):
        convert = _float if column == "label" else str
        clean = [convert(value) if type(value) is int else value for value in clean]
    return clean


def _is_unicode(text: str) -> bool:
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True


def _float(value: int) -> float:
    try:
        return float(value)
    except OverflowError:
        return float("inf") if value > 0 else float("-inf")
