"""What the service refuses, with the status of HTTP that says why."""

from collections.abc import Mapping

from pal.errors import PalError


class RefusedError(PalError):
    """A request that is refused.

    Args:
        status: 401 without the key, 404 for what is not there, 409 for another version, 422 for an input that
            cannot be used, 429 and 503 for what may be tried again.
        message: The sentence.
        headers: To answer with, such as Retry-After.
    """

    def __init__(self, status: int, message: str, headers: Mapping[str, str] | None = None) -> None:
        super().__init__(message)
        self.status, self.headers = status, dict(headers or {})
