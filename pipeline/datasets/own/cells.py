"""The cells of your files: what each column may hold, and how a fault in one is told."""

from collections.abc import Collection, Iterable
from typing import TYPE_CHECKING, Any

from pal.errors import shorten
from pipeline.datasets.own import times as own_times
from pipeline.datasets.own.columns import COLUMNS, PREFERENCE, RESPONSES
from pipeline.errors import PipelineError

if TYPE_CHECKING:
    import polars as pl
    import pyarrow as pa

_TEXT = ({str, type(None)}, "text")
_ID = ({str, int, type(None)}, "text or a whole number")
_KINDS: dict[str, tuple[set[type], str]] = {
    **dict.fromkeys(COLUMNS, _TEXT),
    "user_id": _ID,
    "label": ({int, float, type(None)}, "a number from 0.5 to 1"),
    "timestamp": ({str, int, float, type(None)}, own_times.ALLOWED),
}


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

    def add(self, subject: str, row: int, line: int | None, fault: str) -> None:
        """Note a fault; subject is what is wrong in the row, empty for the row itself."""
        self.found.setdefault(subject, [row, line, fault, -1])[3] += 1

    def refuse(self) -> None:
        """Raise the one that comes first in the file, if any."""
        if self.found:
            subject, (row, line, fault, others) = min(self.found.items(), key=lambda item: item[1][0])
            raise PipelineError(f"{subject}{place(self.name, row, line, others)} {fault}")


def refuse(
    rows: "pl.DataFrame", column: str, wrong: "pl.Expr | pl.Series", rule: str, advice: str = ""
) -> None:
    """Raise at the first row where `wrong` holds; {got} in the rule is the cell's value.

    Where the file has two responses and a winner, it is told of chosen and rejected by their names there.
    """
    bad = rows.filter(wrong)
    if len(bad):
        first = bad.row(0, named=True)
        got = "nothing" if first[column] is None else shorten(first[column])
        where = place(first["file"], first["row"], first["line"], len(bad) - 1)
        column = _as_written(column, first.get("winner"))
        raise PipelineError(f"{column} in {where} {rule.replace('{got}', got)}{advice and '; '}{advice}")


def _as_written(column: str, winner: str | None) -> str:
    if winner is None or column not in PREFERENCE:
        return column
    return RESPONSES[(column == "chosen") == (winner == "b")]


def described(value: Any) -> str:
    """A JSON value in a message: lists and objects by their kind, since they nest as deep as they like."""
    return {list: "a list", dict: "a JSON object"}.get(type(value)) or shorten(value)


def dtype(column: str) -> Any:
    """The column's type in a frame."""
    import polars as pl

    return {"label": pl.Float64, "timestamp": pl.Datetime("us")}.get(column, pl.String)


def arrow_type(name: str, column: str, kind: "pa.DataType", ids: Collection[str] = ()) -> "pa.DataType":
    """What to cast a Parquet column to.

    Args:
        name: The file, for messages.
        column: The column.
        kind: The type that it has.
        ids: The columns that hold ids, where whole numbers are as good as texts.

    Raises:
        PipelineError: If the column cannot hold what is allowed.
    """
    import pyarrow as pa
    from pyarrow import types

    value = kind.value_type if types.is_dictionary(kind) else kind
    integer, number = types.is_integer(value), types.is_floating(value) or types.is_decimal(value)
    text = types.is_string(value) or types.is_large_string(value) or types.is_string_view(value)
    time = types.is_timestamp(value) or types.is_date(value)
    fits = text or (integer and (column == "user_id" or column in ids))
    if column == "label":
        fits = integer or number
    elif column == "timestamp":
        fits = time or integer or number or text
    if not fits and not types.is_null(value):
        raise PipelineError(f"{column} in {name} must hold {_kind(column, ids)[1]}, got {value}")
    if column == "timestamp" and not text:
        return pa.float64() if integer or number else value if time else pa.timestamp("us")
    return pa.float64() if column == "label" else pa.large_string()


def clean_values(
    column: str,
    values: Iterable[Any],
    places: list[tuple[int, int | None]],
    faults: Faults,
    ids: Collection[str] = (),
) -> list[Any]:
    """One column's values as its type; wrong ones are noted, and null."""
    types, allowed = _kind(column, ids)
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
    if column == "timestamp":
        return _times(clean, places, faults)
    if int in set(map(type, clean)):
        convert = _float if column == "label" else str
        clean = [convert(value) if type(value) is int else value for value in clean]
    return clean


def _kind(column: str, ids: Collection[str]) -> tuple[set[type], str]:
    return _ID if column in ids else _KINDS[column]


def _times(values: list[Any], places: list[tuple[int, int | None]], faults: Faults) -> list[Any]:
    times = []
    for index, value in enumerate(values):
        try:
            times.append(own_times.parse(value))
        except ValueError as error:
            faults.add("timestamp in ", *places[index], str(error))
            times.append(None)
    return times


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
