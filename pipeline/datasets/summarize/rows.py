"""A row of OpenAI's comparisons: which columns a frame of them has, and what makes a row a comparison."""

from typing import Any

from pal.errors import shorten

# OpenAI's words for a row's place. The hub mixes valid1 and valid2, and has no comparisons of test.
SPLITS = {"train": "train", "valid1": "validation", "valid2": "validation", "test": "test"}
BOTH_SPLITS = ("train", "validation")
TEXTS = ("worker", "batch", "split", "post", "article", "text_0", "policy_0", "text_1", "policy_1")


def schema() -> dict[str, Any]:
    """The frame's columns and their types."""
    import polars as pl

    return {**dict.fromkeys(TEXTS, pl.String), "choice": pl.Int8}


def fault(n_summaries: int | None, choice: Any, split: Any) -> str | None:
    """What is wrong with a row, whichever the layout; None where it is a comparison."""
    if n_summaries != 2:
        return f"must have two summaries, got {n_summaries or 'none'}"
    if type(choice) is not int or choice not in (0, 1):
        return f"choice must be 0 or 1, got {'nothing' if choice is None else shorten(choice)}"
    if split not in SPLITS:
        got = "nothing" if split is None else shorten(split)
        return f"split must be one of {', '.join(SPLITS)}, got {got}"
    return None
