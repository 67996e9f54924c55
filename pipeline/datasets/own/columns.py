"""The columns of your files by their names: two shapes, and what to do about a file that has neither."""

from difflib import SequenceMatcher

from pipeline.errors import PipelineError

WHO = ("user_id", "prompt")
# Either two columns that say which response won, or two responses and a column that says it.
PREFERENCE, DUEL = ("chosen", "rejected"), ("response_a", "response_b", "winner")
RESPONSES = DUEL[:2]
OPTIONAL = ("label", "split", "timestamp")
COLUMNS = (*WHO, *PREFERENCE, *DUEL, *OPTIONAL)

# What others call these columns, to say which one to rename.
_OTHER_NAMES = {
    "user_id": ("user", "annotator", "worker", "rater", "person", "participant"),
    "prompt": ("question", "instruction", "context", "input", "query"),
    "chosen": ("winner", "preferred", "better", "accepted"),
    "rejected": ("loser", "dispreferred", "worse"),
    "response_a": ("answer_a", "output_a", "completion_a", "option_a"),
    "response_b": ("answer_b", "output_b", "completion_b", "option_b"),
    "winner": ("preference", "preferred", "choice", "vote", "verdict"),
}
_LIKE = 0.8  # from how alike two names are taken for the same
_MOST_NAMES = 200  # characters of a file's column names in a message


def columns_of(name: str, names: list[str]) -> list[str]:
    """Those of COLUMNS among a file's names, in COLUMNS' order.

    Args:
        name: The file, for messages.
        names: Its columns.

    Raises:
        PipelineError: If columns are missing or there twice, or say in two ways what was preferred.
    """
    _check_one_shape(name, names)
    needed = _needed(names)
    if missing := [column for column in needed if column not in names]:
        subject = f"the column{'s' if len(missing) > 1 else ''} {', '.join(missing)}"
        advice = _advice(missing, [other for other in names if other not in (*needed, *OPTIONAL)], names)
        raise PipelineError(f"{name} lacks {subject}; it has {_listed(names)}{advice}")
    for column in (*needed, *OPTIONAL):
        if names.count(column) > 1:
            raise PipelineError(f"{name} must have one column {column}, got {names.count(column)}")
    for column in (optional for optional in OPTIONAL if optional not in names):
        if like := [other for other in names if other.strip().lower() == column]:
            raise PipelineError(
                f"{name} has a column {like[0]!r}; rename it to {column}, or to something else"
            )
    return [column for column in COLUMNS if column in names]


def _needed(names: list[str]) -> tuple[str, ...]:
    """The columns of the shape that a file has, or seems to be meant to have."""
    others = [name for name in names if name not in COLUMNS]
    like_duel = any(column in names or _most_like(column, others) for column in RESPONSES)
    return (*WHO, *(DUEL if like_duel and set(names).isdisjoint(PREFERENCE) else PREFERENCE))


def _check_one_shape(name: str, names: list[str]) -> None:
    first, second = ([column for column in shape if column in names] for shape in (PREFERENCE, DUEL))
    if first and second and (set(second) != {"winner"} or len(first) == len(PREFERENCE)):
        raise PipelineError(
            f"{name} must say in one way who won, by {', '.join(PREFERENCE)} or by {', '.join(DUEL)}, got "
            f"{', '.join(first + second)}; remove or rename what belongs to the other"
        )
    if "label" in names and not set(second).isdisjoint(RESPONSES):
        raise PipelineError(
            f"{name} must not have a column label beside {', '.join(second)}, since label says how surely "
            "`chosen` won; remove or rename it"
        )


def _listed(names: list[str]) -> str:
    has = ", ".join(map(repr, names)) or "none"
    return has if len(has) <= _MOST_NAMES else f"{has[:_MOST_NAMES]}…"


def _advice(missing: list[str], free: list[str], names: list[str]) -> str:
    """What to do about missing columns: which to rename, where some have names like theirs."""
    if len(names) == 1 and (used := [mark for mark in (";", "\t", "|") if mark in names[0]]):
        return f"; separate its columns by commas, not by {used[0]!r}"
    renames = []
    for column in missing:
        if like := _most_like(column, free):
            free = [name for name in free if name != like]
            renames.append(f"{like!r} to {column}")
    needed = f"every file needs {'them' if len(missing) > 1 else 'it'}"
    return f"; rename {', '.join(renames)}" if renames else f"; {needed}"


def _most_like(column: str, names: list[str]) -> str | None:
    """The name that reads most like a column's or like what others call it, if any does."""
    known = (column, *_OTHER_NAMES[column])
    alike = {
        name: max(SequenceMatcher(None, other, name.strip().lower()).ratio() for other in known)
        for name in names
    }
    best = max(alike, key=alike.__getitem__, default=None)
    return best if best is not None and alike[best] >= _LIKE else None
