"""The error class for users' mistakes, and how their values are shown in messages."""


class PalError(ValueError):
    """A user's mistake as one sentence: what is wrong and where, what was given, what is allowed.

    Args:
        message: The sentence.
        file: The file with the mistake, as the user named it.
        row: The row with the mistake: from 1 in a file, from 0 in a list that was passed.
        column: The column with the mistake, or the side: `prompt`, `chosen`, `first`, ...
        subject: The words of the message that name the place in a list that was passed (`responses[3]`), for
            a caller that knows it as something else, such as a row of a file.
    """

    def __init__(
        self,
        message: str,
        *,
        file: str | None = None,
        row: int | None = None,
        column: str | None = None,
        subject: str | None = None,
    ) -> None:
        super().__init__(message)
        self.file, self.row, self.column, self.subject = file, row, column, subject


def shorten(value: object, limit: int = 80) -> str:
    """The repr of a value, cut to a number of characters."""
    text = repr(value)
    return text if len(text) <= limit else f"{text[: limit - 1]}…"
