"""When somebody answered: ISO 8601 texts, seconds since 1970, and Parquet's own times, all brought to UTC."""

from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

from pal.errors import shorten

if TYPE_CHECKING:
    import polars as pl

ALLOWED = "a time as ISO 8601 text (2026-03-01T12:00:00Z) or in seconds since 1970"
# From 1973 to 2100: below are dates written as digits (20260301), above milliseconds.
FIRST, LAST = 100_000_000, 4_102_444_800
_START = datetime(1970, 1, 1)


def parse(value: Any) -> datetime | None:
    """A cell as a time in UTC, without a zone; None where it is empty.

    Args:
        value: ISO 8601 text, which is UTC where it names no zone; or seconds since 1970, also as text.

    Raises:
        ValueError: With what is wrong as words to go behind `timestamp in row 3 of a.csv`.
    """
    if value is None or value == "":
        return None
    wrong = f"must be {ALLOWED}, got {shorten(value)}"
    seconds = _seconds(value)
    if seconds is None:
        try:
            found = datetime.fromisoformat(value.strip())
            return found if found.tzinfo is None else found.astimezone(UTC).replace(tzinfo=None)
        except (ValueError, OverflowError):
            raise ValueError(wrong) from None
    if seconds < FIRST:
        raise ValueError(f"{wrong}; write dates as 2026-03-01")
    if not seconds <= LAST:  # NaN is not either
        raise ValueError(f"{wrong}; divide milliseconds by 1,000")
    return _START + timedelta(seconds=seconds)


def _seconds(value: Any) -> float | None:
    """A number, or a text that is one; None for other texts."""
    try:
        return float(value)
    except ValueError:
        return None
    except OverflowError:
        return float("inf")


def in_utc(times: "pl.Series") -> "pl.Series":
    """Parquet's dates and times as the tables hold them: microseconds, UTC, without a zone."""
    import polars as pl

    if isinstance(times.dtype, pl.Datetime) and times.dtype.time_zone:
        times = times.dt.convert_time_zone("UTC").dt.replace_time_zone(None)
    return times.cast(pl.Datetime("us"))
