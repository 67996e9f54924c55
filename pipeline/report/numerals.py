"""Numbers as a reader sees them."""

from typing import Any

Row = dict[str, Any]

NO_BREAK, DASH, MINUS = "\u00a0", "\u2013", "\u2212"


def percent(share: float | None) -> str:
    """A share of 1 as a percentage with one decimal."""
    return DASH if share is None else f"{100 * share:.1f}{NO_BREAK}%"


def points(share: float) -> str:
    """A difference of shares in percentage points with one decimal, its minus a minus sign."""
    return f"{100 * share:.1f}".replace("-0.0", "0.0").replace("-", MINUS)


def number(value: float) -> str:
    """A number with two decimals, its minus a minus sign."""
    return f"{value:.2f}".replace("-", MINUS)


def tied(text: str) -> str:
    """The text with its equations kept on one line."""
    for sign in "=<>":
        text = text.replace(f" {sign} ", f"{NO_BREAK}{sign}{NO_BREAK}")
    return text


def interval(row: Row) -> str:
    """The two ends of a row's 95 % interval, without a unit; empty where there is none."""
    if row["low"] is None or row["high"] is None:
        return ""
    return f"{100 * row['low']:.1f}{DASH}{100 * row['high']:.1f}"
