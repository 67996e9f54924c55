"""The columns that commands read, and what to say of a table that lacks one."""

from collections.abc import Iterable
from difflib import SequenceMatcher

from pal.errors import PalError

# What others call these columns, to say which one to rename.
_OTHER_NAMES = {
    "user_id": ("user", "annotator", "worker", "rater", "person", "participant"),
    "prompt": ("question", "instruction", "context", "input", "query"),
    "response": ("answer", "completion", "output", "text", "reply", "candidate"),
    "chosen": ("winner", "preferred", "better", "accepted"),
    "rejected": ("loser", "dispreferred", "worse"),
    "response_a": ("answer_a", "output_a", "completion_a", "option_a", "first"),
    "response_b": ("answer_b", "output_b", "completion_b", "option_b", "second"),
}
_LIKE = 0.8  # from how alike two names are taken for the same
_LONGEST = 200  # characters of a table's column names in a message


def check_columns(where: str, names: Iterable[str], needed: Iterable[str]) -> None:
    """Hold a table, or a row of JSON, to the columns that a command needs.

    Args:
        where: What is held to them, for messages.
        names: The columns that it has.
        needed: Those that it must have.

    Raises:
        PalError: Naming what is missing, and what to rename where some column has a name like it.
    """
    names = list(names)
    needed = list(needed)
    if missing := [column for column in needed if column not in names]:
        lacks = f"the column{'s' if len(missing) > 1 else ''} {', '.join(missing)}"
        free = [name for name in names if name not in needed]
        raise PalError(f"{where} lacks {lacks}; it has {_listed(names)}{_advice(missing, free)}")
    if len(set(names)) < len(names):  # also of columns that are passed on, of which one would be lost
        double = next(name for name in names if names.count(name) > 1)
        raise PalError(f"{where} must have one column {double}, got {names.count(double)}; rename one")


def refuse_columns(where: str, names: Iterable[str], made: Iterable[str]) -> None:
    """Refuse a table that has a column which a command is to write.

    Raises:
        PalError: Naming the first.
    """
    if taken := sorted(set(names) & set(made)):
        raise PalError(f"{where} must not have the column {taken[0]}, which is to be written; rename it")


def _listed(names: list[str]) -> str:
    has = ", ".join(map(repr, names)) or "none"
    return has if len(has) <= _LONGEST else f"{has[:_LONGEST]}…"


def _advice(missing: list[str], free: list[str]) -> str:
    if len(free) == 1 and (used := [mark for mark in (";", "\t", "|") if mark in free[0]]):
        return f"; separate its columns by commas, not by {used[0]!r}"
    renames = []
    for column in missing:
        if like := _most_like(column, free):
            free = [name for name in free if name != like]
            renames.append(f"{like!r} to {column}")
    return f"; rename {', '.join(renames)}" if renames else "; the first line of a CSV file names its columns"


def _most_like(column: str, names: list[str]) -> str | None:
    """The name that reads most like a column's or like what others call it, if any does."""
    known = (column, *_OTHER_NAMES.get(column, ()))
    alike = {
        name: max(SequenceMatcher(None, other, name.strip().lower()).ratio() for other in known)
        for name in names
    }
    best = max(alike, key=alike.__getitem__, default=None)
    return best if best is not None and alike[best] >= _LIKE else None
