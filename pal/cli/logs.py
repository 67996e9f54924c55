"""The commands that start from a log of answers: `pal fit` and `pal eval`."""

import json
from pathlib import Path
from typing import Any

from pal.errors import PalError
from pal.files import write_json
from pal.logs.columns import parse_columns
from pal.methods.compare import printed
from pal.serving import fit_log
from pal.serving.fit_log import KEPT, METRICS, REPORT, Options
from pal.serving.reward_model import RewardModel


def fit(source: str, out: Path, given: dict[str, Any], options: dict[str, Any]) -> None:
    """Fit a log, and say what was understood, found and written.

    Args:
        source: The log.
        out: The folder to write.
        given: The options `columns` and `values`.
        options: Those of `Options`.
    """
    K = options.pop("K")
    if K != "auto" and not K.isdigit():
        raise PalError(f"-K must be auto or a whole number, got {K!r}")
    options = Options(K=K if K == "auto" else int(K), **options)
    if not 0 <= options.unseen < 1:
        raise PalError(f"--unseen must be a share from 0 to below 1, got {options.unseen:g}")
    try:
        fit_log.fit(
            source, out=out, **_read(given), options=options, say=lambda text: print(text, "\n", sep="")
        )
    except KeyboardInterrupt:
        kept = "what was encoded is kept, so that a rerun goes on from there"
        raise PalError(f"stopped before {out} was written; {kept}") from None
    print(f"{out / REPORT}  what was found\n{out / METRICS}  its numbers\n{out / KEPT}  the model:")
    print(f"  pal rank {out} replies.csv --user NAME")


def evaluate(model: Path, source: str, given: dict[str, Any], options: dict[str, Any]) -> None:
    """Print the accuracies of a saved model on a log, as JSON.

    Args:
        model: The model's folder.
        source: The log.
        given: The options `columns` and `values`.
        options: Those of `Options`.
    """
    loaded = RewardModel.load(model, weights=options["weights"], device=options["device"])
    metrics = fit_log.evaluate(loaded, source, **_read(given), options=Options(**options))
    print(json.dumps(metrics, indent=2))


def compare(
    source: str, methods: str, out: Path | None, given: dict[str, Any], options: dict[str, Any]
) -> None:
    """Print methods side by side on a log, and which to take.

    Args:
        source: The log.
        methods: Their names, separated by commas.
        out: A JSON file to write.
        given: The options `columns` and `values`.
        options: Those of `Options`.
    """
    names = [name.strip() for name in methods.split(",") if name.strip()]
    found = fit_log.compare(source, names, **_read(given), options=Options(**options))
    print(printed(found["rows"]))
    print("\n".join([*found["notes"], found["verdict"]]))
    if out is not None:
        write_json(out, found)


def _read(given: dict[str, Any]) -> dict[str, Any]:
    """What `--columns` and `--values` say, by role and by value."""
    values = dict(part.split("=", 1) for part in (given["values"] or "").split(",") if "=" in part)
    if given["values"] and not values:
        raise PalError(f"--values must be VALUE=SIDE, separated by commas, got {given['values']!r}")
    return {"columns": parse_columns(given["columns"] or ""), "values": values}
