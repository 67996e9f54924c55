"""OpenAI's comparisons as the hub converts them to Parquet: nested columns, train and validation apart."""

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pipeline.datasets.summarize.rows import SPLITS, fault, schema
from pipeline.errors import PipelineError

if TYPE_CHECKING:
    import polars as pl
    import pyarrow as pa

_CHUNK = 10_000
_REQUIRED = ("info", "summaries", "choice", "worker", "split")


def look(name: str, path: Path) -> bool:
    """Whether the schema is that of comparisons; False for axis ratings, which have one summary.

    Raises:
        PipelineError: If it is neither, or not Parquet.
    """
    names = _guarded(name, lambda: _schema(path)).names
    if "summary" in names and "summaries" not in names:
        return False
    if missing := [column for column in _REQUIRED if column not in names]:
        raise PipelineError(
            f"{name} must have the columns {', '.join(_REQUIRED)}, got none named {', '.join(missing)}; "
            "is it the configuration `comparisons`?"
        )
    if repeated := [
        column for column in names if column in (*_REQUIRED, "batch") and names.count(column) > 1
    ]:
        raise PipelineError(f"{name} must have one column {repeated[0]}, got {names.count(repeated[0])}")
    return True


def chunks(name: str, path: Path) -> Iterator["pl.DataFrame"]:
    """The file's comparisons, some thousands at a time.

    Raises:
        PipelineError: If a column has another type, or naming the first row that is no comparison.
    """
    kinds = _guarded(name, lambda: _schema(path))
    _check_types(name, kinds)
    batches = _batches(path, [*_REQUIRED, *({"batch"} & set(kinds.names))])
    start = 1
    while (table := _guarded(name, lambda: next(batches, None))) is not None:
        frame = _flat(table)
        _check_rows(name, frame, start)
        start += len(frame)
        yield _named(frame)


def _guarded(name: str, action: Any) -> Any:
    """What the action returns; a damaged file is one sentence."""
    import pyarrow as pa

    try:
        return action()
    except (pa.ArrowException, OSError, ValueError) as error:
        reason = " ".join(str(error).split())[:100]
        raise PipelineError(f"{name} is damaged or not Parquet ({reason}); download it again") from None


def _schema(path: Path) -> "pa.Schema":
    import pyarrow.parquet as pq

    return pq.read_schema(path)


def _batches(path: Path, columns: list[str]) -> Iterator["pa.Table"]:
    """Tables of some rows, fully validated: text that is no UTF-8 must not get further."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    with pq.ParquetFile(path) as file:
        for batch in file.iter_batches(_CHUNK, columns=columns):
            batch.validate(full=True)
            yield pa.Table.from_batches([batch])


def _check_types(name: str, kinds: "pa.Schema") -> None:
    from pyarrow import types

    def refuse(column: str, allowed: str, kind: Any) -> None:
        raise PipelineError(f"the column {column} of {name} must hold {allowed}, got {kind}")

    for column in ("worker", "split", *({"batch"} & set(kinds.names))):
        if not _is_text(kinds.field(column).type):
            refuse(column, "text", kinds.field(column).type)
    if not types.is_integer(kinds.field("choice").type):
        refuse("choice", "whole numbers", kinds.field("choice").type)
    info, summaries = kinds.field("info").type, kinds.field("summaries").type
    if not types.is_struct(info) or not all(_is_text(f.type) for f in info if f.name in ("post", "article")):
        refuse("info", "structs with the texts post and article", info)
    is_list = (
        types.is_list(summaries) or types.is_large_list(summaries) or types.is_fixed_size_list(summaries)
    )
    inner = {f.name: f.type for f in summaries.value_type} if is_list and _holds_structs(summaries) else {}
    if not all(_is_text(inner.get(field)) for field in ("text", "policy")):
        refuse("summaries", "lists of structs with the texts text and policy", summaries)


def _holds_structs(kind: "pa.DataType") -> bool:
    from pyarrow import types

    return types.is_struct(kind.value_type)


def _is_text(kind: "pa.DataType | None") -> bool:
    """Text in any of Arrow's forms; a column of nothing but nulls has no type of its own."""
    from pyarrow import types

    if kind is not None and types.is_dictionary(kind):
        kind = kind.value_type
    checks = (types.is_string, types.is_large_string, types.is_string_view, types.is_null)
    return kind is not None and any(check(kind) for check in checks)


def _flat(table: "pa.Table") -> "pl.DataFrame":
    """The frame's columns out of nested ones, still unchecked, with n_summaries beside them."""
    import polars as pl

    frame = pl.DataFrame(pl.from_arrow(table))
    given = {field.name for field in frame.schema["info"].fields}  # type: ignore[attr-defined]
    two = pl.col("summaries")
    two = two.arr.to_list() if isinstance(frame.schema["summaries"], pl.Array) else two

    def info(key: str) -> pl.Expr:
        value = pl.col("info").struct.field(key) if key in given else pl.lit(None)
        return value.cast(pl.String).alias(key)

    sides = [
        two.list.get(side, null_on_oob=True).struct.field(key).cast(pl.String).alias(f"{key}_{side}")
        for side in (0, 1)
        for key in ("text", "policy")
    ]
    batch = pl.col("batch") if "batch" in frame.columns else pl.lit(None)
    texts = [pl.col("worker").cast(pl.String), batch.cast(pl.String).alias("batch")]
    split = pl.col("split").cast(pl.String)
    return frame.select(
        *texts, split, info("post"), info("article"), *sides, "choice", n_summaries=two.list.len()
    )


def _check_rows(name: str, frame: "pl.DataFrame", start: int) -> None:
    import polars as pl

    right = (
        (pl.col("n_summaries") == 2) & pl.col("choice").is_in([0, 1]) & pl.col("split").is_in(list(SPLITS))
    )
    bad = frame.with_row_index("row", start).filter(~right.fill_null(value=False))
    if len(bad):
        row = bad.row(0, named=True)
        wrong = fault(row["n_summaries"], row["choice"], row["split"])
        raise PipelineError(f"row {row['row']:,} of {name}: {wrong}")


def _named(frame: "pl.DataFrame") -> "pl.DataFrame":
    import polars as pl

    split = pl.col("split").replace_strict(SPLITS, return_dtype=pl.String)
    return frame.with_columns(split).select(pl.col(column).cast(kind) for column, kind in schema().items())
