"""The one error that this library raises for what a caller can mend."""


class PalError(ValueError):
    """An input that cannot be used; the message says what, where, what was got, what is allowed."""
