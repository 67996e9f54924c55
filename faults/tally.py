"""What every campaign hands back, and how it is printed."""

from dataclasses import dataclass, field
from typing import Any

SHOWN = 20  # failures printed in full


@dataclass(frozen=True)
class Tally:
    """The cases of one campaign.

    Args:
        what: What was done to what, in words.
        cases: How many cases were tried.
        failures: One sentence for each case that did not end as promised, with all that is needed to try it
            again.
        about: What else was counted or measured.
    """

    what: str
    cases: int
    failures: list[str] = field(default_factory=list)
    about: dict[str, Any] = field(default_factory=dict)

    @property
    def held(self) -> int:
        """Cases that ended as promised."""
        return self.cases - len(self.failures)


def show(tallies: list[Tally]) -> None:
    """Print tallies, one a line, with what failed below."""
    for tally in tallies:
        counts = ", ".join(f"{name} {value}" for name, value in tally.about.items())
        print(f"{tally.held:,} of {tally.cases:,}  {tally.what}{f' ({counts})' if counts else ''}")
        for failure in tally.failures[:SHOWN]:
            print(f"    {failure}")
        if len(tally.failures) > SHOWN:
            print(f"    and {len(tally.failures) - SHOWN:,} more")
