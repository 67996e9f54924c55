"""Models over HTTP, with pages on which people try them, and studies that collect answers."""

from pal.errors import PalError


class RefusedError(PalError):
    """A request that is refused.

    `status` is 401 without the key, 404 for what is not there, 409 for another version, 422 for an input that
    cannot be used, 429 and 503 for what may be tried again.
    """

    def __init__(self, status: int, message: str) -> None:
        super().__init__(message)
        self.status = status
