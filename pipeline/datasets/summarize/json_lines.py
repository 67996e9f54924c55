"""The raw layout of OpenAI's comparisons: one JSON object a line, although the files are named .json."""

import json
from collections.abc import Iterator
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pal.errors import shorten
from pipeline.datasets.summarize.rows import SPLITS, fault, schema
from pipeline.errors import PipelineError

if TYPE_CHECKING:
    import polars as pl

_CHUNK = 10_000
_KINDS = {str: "text", dict: "a JSON object", list: "a list"}


def look(name: str, path: Path) -> bool:
    """Whether the first row is a comparison; False for axis ratings, which have one summary.

    Raises:
        PipelineError: If it is neither, or there is no row.
    """
    for where, row in _objects(name, path):
        if "summaries" not in row and "summary" not in row:
            keys = ", ".join(map(repr, row))
            raise PipelineError(f"{where} must have the key 'summaries', got {shorten(keys)}")
        return "summaries" in row
    raise PipelineError(f"{name} must hold one JSON object a line, got blank lines only")


def chunks(name: str, path: Path) -> Iterator["pl.DataFrame"]:
    """The file's comparisons, some thousands at a time.

    Raises:
        PipelineError: Naming the first line that is no comparison.
    """
    import polars as pl

    rows = (_values(where, row) for where, row in _objects(name, path))
    while chunk := list(islice(rows, _CHUNK)):
        yield pl.DataFrame(chunk, schema=schema(), orient="row")


def _objects(name: str, path: Path) -> Iterator[tuple[str, dict[str, Any]]]:
    """Each line's object, and the words for where it stands."""
    with path.open("rb") as file:
        for number, line in enumerate(file, 1):
            if line.isspace():
                continue
            where = f"line {number:,} of {name}"
            try:
                row = json.loads(line.decode("utf-8-sig" if number == 1 else "utf-8"))
            except UnicodeDecodeError as error:
                byte = error.object[error.start]
                raise PipelineError(f"{where} must be UTF-8, got the byte 0x{byte:02x}") from None
            except (ValueError, RecursionError):
                cut = line[-1:] != b"\n"
                advice = (
                    "the file seems cut off there, download it again" if cut else "write one object a line"
                )
                got = shorten(line.decode("utf-8", "replace").strip())
                raise PipelineError(f"{where} must be a JSON object, got {got}; {advice}") from None
            yield where, _as(dict, row, where)


def _values(where: str, row: dict[str, Any]) -> tuple[Any, ...]:
    """The row's values in the frame's order."""
    info = _as(dict, row.get("info"), f"info in {where}") or {}
    summaries = _as(list, row.get("summaries"), f"summaries in {where}") or []
    wrong = fault(len(summaries), row.get("choice"), row.get("split"))
    if wrong:
        raise PipelineError(f"{where}: {wrong}")
    both = [_as(dict, each, f"a summary in {where}") or {} for each in summaries]
    return (
        *(_text(row, key, where) for key in ("worker", "batch")),
        SPLITS[row["split"]],
        *(_text(info, key, where) for key in ("post", "article")),
        *(_text(each, key, where) for each in both for key in ("text", "policy")),
        row["choice"],
    )


def _as(kind: type, value: Any, what: str) -> Any:
    """The value, if it is of that kind, or null."""
    if value is not None and not isinstance(value, kind):
        raise PipelineError(f"{what} must be {_KINDS[kind]}, got {shorten(value)}")
    return value


def _text(values: dict[str, Any], key: str, where: str) -> str | None:
    text: str | None = _as(str, values.get(key), f"{key} in {where}")
    if text is not None and not text.isascii():
        try:
            text.encode()
        except UnicodeEncodeError:
            raise PipelineError(
                f"{key} in {where} must be Unicode text, got half a surrogate pair in {text!a:.80}"
            ) from None
    return text
