"""PalError: the one error for what a caller can mend, as one sentence."""


class PalError(ValueError):
    """An input that cannot be used; the message says what, where, what was got, what is allowed."""


def shorten(value: object, limit: int = 80) -> str:
    """A value as it would be typed, cut to `limit` characters."""
    text = repr(value)
    return text if len(text) <= limit else f"{text[: limit - 1]}…"
