"""Which failures heal by trying again, how long to wait for them, and what is said meanwhile."""

import re
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from typing import Any

from pal.errors import PalError

HEALS = {408, 429, 500, 502, 503, 504}
STATES = {
    408: "it waited too long for the request",
    429: "too many requests",
    500: "an error of its own",
    502: "an error behind it",
    503: "it is overloaded or down",
    504: "it waited too long for another",
}
HOPELESS = ("ProxyError", "UnsupportedProtocol", "TooManyRedirects", "DecodingError", "LocalProtocolError")
NETWORK = "check the network"
MIRROR = "check HF_ENDPOINT and the network"


class FetchError(PalError):
    """A download that ended without its bytes.

    Args:
        what: What was asked for.
        why: What came instead.
        mend: What to do.
    """

    def __init__(self, what: str, why: str, mend: str = NETWORK) -> None:
        super().__init__(f"{what} could not be downloaded ({why}); {mend}")
        self.what, self.why, self.mend = what, why, mend


class UnreachableError(FetchError):
    """No answer from the hub, or none but that it cannot answer now."""


@dataclass(frozen=True)
class Patience:
    """How often and how long something is tried.

    Args:
        tries: Tries in a row without anything new arriving.
        renewals: How often a file whose bytes are wrong is fetched from the beginning again.
        first_wait: Seconds before the second try; twice that before the third, and so on.
        longest_wait: Seconds that are waited at most where the hub does not say how long.
        longest_asked: Seconds that the hub may ask to wait; beyond these it is the end.
        timeout: Seconds without a byte before a connection counts as lost; None is the hub client's.
        sleep: Waits for so many seconds.
        say: Tells the user one line.
    """

    tries: int = 5
    renewals: int = 2
    first_wait: float = 1.0
    longest_wait: float = 30.0
    longest_asked: float = 600.0
    timeout: float | None = None
    sleep: Callable[[float], None] = time.sleep
    say: Callable[[str], None] = lambda line: _say(line)

    def seconds(self) -> float:
        """The timeout."""
        from huggingface_hub import constants

        return self.timeout or float(constants.HF_HUB_DOWNLOAD_TIMEOUT)

    def after(self, error: Exception, what: str, failed: int) -> None:
        """Wait before the next try, and say so.

        Args:
            error: Why the last try failed.
            what: What was asked for.
            failed: Tries in a row that failed.

        Raises:
            FetchError: If there is no sense in another.
        """
        trouble = trouble_of(error)
        if not trouble.heals:
            raise (FetchError if trouble.reached else UnreachableError)(
                what, trouble.why, trouble.mend
            ) from None
        if failed >= self.tries:
            raise UnreachableError(what, f"{trouble.why}, {failed} times in a row", trouble.mend) from None
        wait = min(self.first_wait * 2 ** (failed - 1), self.longest_wait)
        if trouble.asked is not None:
            wait = max(trouble.asked, 0.0)
        if wait > self.longest_asked:
            why = f"{trouble.why}; {host()} asks to wait {wait:,.0f} s, more than {self.longest_asked:,.0f}"
            raise UnreachableError(what, why, "try again later") from None
        by_itself = trouble.asked is None
        asked = f"waiting {wait:g} s" if by_itself else f"{host()} asked to wait {wait:,.0f} s"
        self.say(f"{what}: {trouble.why}; {asked}; try {failed + 1} of {self.tries}")
        self.sleep(wait)


PATIENCE = Patience()


@dataclass(frozen=True)
class Trouble:
    """A failure, as it is to be met.

    Args:
        why: In words.
        heals: Whether another try may do better.
        asked: Seconds that the hub asks to wait.
        mend: What the user can do.
        reached: Whether the hub was asked at all.
    """

    why: str
    heals: bool
    asked: float | None = None
    mend: str = NETWORK
    reached: bool = True


def failures() -> tuple[type[Exception], ...]:
    """What the hub's client raises: errors of the system, of its HTTP library, and of what was answered."""
    from huggingface_hub.errors import HfHubHTTPError

    # Its bases: OSError, and the error of the HTTP library, which the client has changed before.
    return (*HfHubHTTPError.__bases__, OSError, ValueError)


def host() -> str:
    """The hub's name in messages."""
    from huggingface_hub import constants

    return constants.ENDPOINT.partition("://")[2] or constants.ENDPOINT


def trouble_of(error: Exception) -> Trouble:
    """What a failure is, by its kind and by the status that the hub answered."""
    from huggingface_hub import errors

    answer = getattr(error, "response", None)
    status = getattr(answer, "status_code", None)
    if isinstance(error, errors.GatedRepoError):
        return Trouble("its owner must grant access", False, mend="accept its terms there and log in")
    if isinstance(error, errors.RepositoryNotFoundError):
        return Trouble(
            f"there is no such repository at {host()}, or it is private", False,
            mend="check its name, or run `hf auth login`",
        )  # fmt: skip
    if isinstance(error, errors.RevisionNotFoundError):
        return Trouble("there is no such revision, or not any more", False, mend="check the revision")
    if isinstance(error, errors.OfflineModeIsEnabled):
        return Trouble("HF_HUB_OFFLINE is set", False, mend="unset it", reached=False)
    if status is not None:
        return _answered(int(status), answer)
    if isinstance(error, ValueError) and not isinstance(error, errors.HFValidationError):
        return Trouble(f"{host()} does not answer as a hub: {_words(error)}", False, mend=MIRROR)
    heals = type(error).__name__ not in HOPELESS and "CERTIFICATE" not in str(error).upper()
    return Trouble(_words(error), heals and not isinstance(error, ValueError))


def _answered(status: int, answer: Any) -> Trouble:
    if status in (401, 403):
        return Trouble(f"access was refused, {status}", False, mend="check the name, or run `hf auth login`")
    if status in (404, 410):
        return Trouble(f"it is not there, {status}", False, mend="check the repository and the revision")
    words = f"{host()} answered {status}{f', {STATES[status]}' if status in STATES else ''}"
    return Trouble(words, status in HEALS, asked_for(answer.headers), "try again later")


def asked_for(headers: Any) -> float | None:
    """Seconds that the hub asks to wait, from its headers; None where it does not ask."""
    value = (headers.get("Retry-After") or "").strip()
    if re.fullmatch(r"\d{1,9}(\.\d*)?", value, re.ASCII):
        return float(value)
    if value:
        try:
            return (parsedate_to_datetime(value) - datetime.now(UTC)).total_seconds()
        except (ValueError, TypeError):  # no date, or one without a zone
            return None
    left = re.search(r"r=0\b.*\bt=(\d{1,9})\b", headers.get("RateLimit") or "", re.ASCII)
    return float(left[1]) if left else None


def _words(error: Exception) -> str:
    text = " ".join(str(error).split())[:200]
    return text or {"ReadTimeout": "it stalled", "ConnectTimeout": "no connection"}.get(
        type(error).__name__, type(error).__name__
    )


def _say(line: str) -> None:
    from tqdm import tqdm

    tqdm.write(line, file=sys.stderr)  # above the bar, where there is one
