"""The one error that this library raises for what a caller can mend."""

import json
from pathlib import Path


class PalError(ValueError):
    """An input that cannot be used; the message is one sentence: what, where, what was got, what is allowed.

    Args:
        message: The sentence.
        file: The file that is meant, by the name that the user gave it.
        row: The number of the item or comparison, counted from 0; in a file the number of the row, from 1.
        column: The argument or column that it belongs to, such as `responses` or `rejected`.
        user: The user whose comparisons are meant, where there are several.
        problem: The message without the words in front that say which item is meant. A caller that knows the
            item by another name, such as a line of a file, puts that name before it.
    """

    def __init__(
        self,
        message: str,
        *,
        file: Path | str | None = None,
        row: int | None = None,
        column: str | None = None,
        user: str | None = None,
        problem: str | None = None,
    ) -> None:
        super().__init__(message)
        self.file, self.row, self.column, self.user, self.problem = file, row, column, user, problem


def cut(text: str, limit: int) -> str:
    """A text of at most a number of characters."""
    return text if len(text) <= limit else f"{text[: limit - 1].rstrip()}…"


def shorten(value: object, limit: int = 80) -> str:
    """The repr of a value, cut to a number of characters, for messages."""
    return cut(repr(value), limit)


def reason(error: Exception) -> str:
    """The first sentence of a library's error on one line, to be put in brackets."""
    if isinstance(error, json.JSONDecodeError):
        return f"{error.msg} at character {error.pos + 1}"
    return " ".join(str(error).split()).split(". ")[0].rstrip(".")[:200] or type(error).__name__
