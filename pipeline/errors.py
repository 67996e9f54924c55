"""The one error for what a user can mend; the command line prints it as one sentence and exits with 1."""


class PipelineError(Exception):
    """What is wrong, where, what was got, what is allowed, and what to do: one sentence."""


def shorten(value: object, limit: int = 80) -> str:
    """A value as it would be typed, cut where it would drown the sentence around it."""
    text = repr(value)
    return text if len(text) <= limit else f"{text[: limit - 1]}…"
