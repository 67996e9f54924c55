"""The commands that start from a log of answers: `pal fit`, `pal compare` and `pal eval`.

Each takes `given`, the fields of `Options` and `columns` and `values` by name, as they are written.
"""

import json
import sys
from pathlib import Path
from typing import Any

from pal.cli.loading import places_of
from pal.errors import PalError
from pal.files import write_json
from pal.logs.columns import parse_columns
from pal.methods.compare import printed
from pal.serving import fit_log
from pal.serving.fit_log import KEPT, METRICS, REPORT, Options
from pal.serving.reward_model import RewardModel


def fit(source: str, out: Path, given: dict[str, Any]) -> None:
    """Fit a log, and say what was understood, found and written.

    Args:
        source: The log.
        out: The folder to write.
        given: See above.
    """
    K = given["K"]
    if K != "auto" and not K.isdigit():
        raise PalError(f"-K must be auto or a whole number, got {K!r}")
    read = _read(given | {"K": K if K == "auto" else int(K)})
    if not 0 <= read["options"].unseen < 1:
        raise PalError(f"--unseen must be a share from 0 to below 1, got {read['options'].unseen:g}")
    try:
        fit_log.fit(source, out=out, **read, say=lambda text: print(text, "\n", sep=""))
    except KeyboardInterrupt:
        kept = "what was encoded is kept, so that a rerun goes on from there"
        raise PalError(f"stopped before {out} was written; {kept}") from None
    print(f"{out / REPORT}  what was found\n{out / METRICS}  its numbers\n{out / KEPT}  the model:")
    print(f"  pal rank {out} replies.csv --user NAME")


def evaluate(model: Path, source: str, given: dict[str, Any]) -> None:
    """Print the accuracies of a saved model on a log, as JSON.

    Args:
        model: The model's folder.
        source: The log.
        given: See above.
    """
    read = _read(given)
    loaded = RewardModel.load(model, weights=read["options"].weights, device=given["device"])
    print(json.dumps(fit_log.evaluate(loaded, source, **read, say=_note), indent=2))


def compare(source: str, methods: str, out: Path | None, given: dict[str, Any]) -> None:
    """Print methods side by side on a log, and which to take.

    Args:
        source: The log.
        methods: Their names, separated by commas.
        out: A JSON file to write.
        given: See above.
    """
    found = fit_log.compare(source, _names(methods), **_read(given), say=_note)
    print(printed(found["rows"]))
    print("\n".join([*found["notes"], found["verdict"]]))
    if out is not None:
        write_json(out, found)


def _note(text: str) -> None:
    """What was understood, beside what is printed for others to read."""
    print(text, "\n", sep="", file=sys.stderr)


def _read(given: dict[str, Any]) -> dict[str, Any]:
    """What `given` says: columns by role, sides by value, and options."""
    columns, values = (given.pop(name) or "" for name in ("columns", "values"))
    sides = dict(part.split("=", 1) for part in values.split(",") if "=" in part)
    if values and not sides:
        raise PalError(f"--values must be VALUE=SIDE, separated by commas, got {values!r}")
    given |= {"weights": places_of(given["weights"]), "attributes": _names(given.get("attributes"))}
    return {"columns": parse_columns(columns), "values": sides, "options": Options(**given)}


def _names(text: str | None) -> list[str]:
    return [name.strip() for name in (text or "").split(",") if name.strip()]
