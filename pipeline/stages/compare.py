"""compare: the methods of compare.methods on held-out comparisons, and whether personalising pays.

Each method's judgements are kept by a hash of all that they follow from, so that a run that was killed, or
one with a method more, fits only what is missing. Without methods an empty table is written, and torch is
not loaded.
"""

import hashlib
import json
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tqdm import tqdm

from pal.errors import PalError
from pal.files import write_csv, write_json, write_text
from pipeline import params, paths

if TYPE_CHECKING:
    from pal.methods.base import Task
    from pal.methods.compare import Held, Judgement, Place

CODE = ("comparisons.py", "config.py", "evaluation", "fitting", "methods", "models", "users")
COLUMNS = ("users", "items", "answers", "place", "method", "accuracy", "low", "high")


def main(dataset: str) -> None:
    """Judge the methods on one dataset."""
    values = params.load()
    if not values.compare.methods:
        _write(dataset, "", [], [])
        return
    # torch is needed from here on alone.
    from pal.config import registered
    from pal.methods import METHODS
    from pal.methods.base import Task
    from pal.methods.compare import places, table, verdict
    from pipeline import study
    from pipeline.evaluation.predictions import without_ties

    data, K = study.load(dataset), study.n_prototypes(dataset, values)
    methods = {name: registered(METHODS, name) for name in values.compare.methods}
    train, val = data.select("seen", "train"), data.select("seen", "val")
    tests = {
        (users, items): without_ties(data.select(users, "test", items))[0]
        for users in ("seen", "unseen")
        for items in ("known", "new")
    }
    n_users = {users: data.n_users(users) for users in ("seen", "unseen")}
    held = places({"seen": train, "unseen": data.select("unseen", "adapt")}, tests, n_users)
    task = Task(data.embeddings, train, n_users["seen"], val if len(val) else None, K, values.train.seed)
    results, seconds, notes = {}, {}, []
    with tqdm(methods.items(), desc=f"compare@{dataset}", unit="method") as bar:
        for name, method in bar:
            bar.set_postfix_str(name)
            numbers = [K if method.prototypes else None, values.train.seed]
            kept = paths.judged(_key(dataset, [name, *numbers]))
            try:
                results[name], seconds[name] = _read(kept) or _judge(method.learn, task, held, kept)
            except PalError as error:
                notes.append(f"{name} was left out: {error}")
    _write(dataset, verdict(results, methods), table(results, seconds), notes)


def _judge(
    learn: Any, task: "Task", held: "dict[Place, Held]", kept: Path
) -> "tuple[dict[Place, Judgement], float]":
    """Fit a method, judge it, and keep what was found."""
    from time import perf_counter

    from pal.methods.compare import judge

    start = perf_counter()
    learned = learn(task)
    seconds = perf_counter() - start
    found = {place: judge(learned, task.embeddings, place, at) for place, at in held.items()}
    rows = [
        {
            **place._asdict(),
            **asdict(judgement),
            "judged": [x.tolist() for x in vars(judgement.judged).values()],
        }
        for place, judgement in found.items()
    ]
    write_text(kept, json.dumps({"seconds": seconds, "rows": rows}))
    return found, seconds


def _read(kept: Path) -> "tuple[dict[Place, Judgement], float] | None":
    """What was kept of a method; None where nothing was, or it is damaged."""
    import numpy as np

    from pal.evaluation.accuracy import Judged
    from pal.methods.compare import Judgement, Place

    try:
        read = json.loads(kept.read_text(encoding="utf-8"))
        return {
            Place(row["users"], row["items"], row["answers"]): Judgement(
                Judged(*map(np.array, row["judged"])), row["log_loss"], row["calibration_error"]
            )
            for row in read["rows"]
        }, read["seconds"]
    except (OSError, ValueError, LookupError, TypeError):
        return None


def _key(dataset: str, numbers: list[Any]) -> str:
    """A hash of the data, of the code that fits and judges, and of numbers."""
    from pal import methods

    root = Path(methods.__file__).parents[1]
    files = [
        file for name in CODE for file in ((root / name).rglob("*.py") if "." not in name else [root / name])
    ]
    folders = (paths.recoloured(dataset), paths.splits(dataset), paths.embeddings(dataset))
    files += [manifest for folder in folders for manifest in folder.rglob("manifest.json")]
    key = hashlib.sha256(json.dumps([dataset, numbers]).encode())
    for file in sorted(files):
        key.update(hashlib.sha256(file.read_bytes()).digest())
    return key.hexdigest()[:32]


def _write(dataset: str, verdict: str, rows: list[dict[str, Any]], notes: list[str]) -> None:
    """The page's numbers, those for `dvc metrics diff`, the plot's table, and a print of all."""
    write_json(paths.compared(dataset), {"verdict": verdict, "rows": rows, "notes": notes})
    numbers: dict[str, Any] = {"verdict": verdict} if verdict else {}
    for row in rows:
        shown = {name: row[name] for name in ("accuracy", "worst_decile", "log_loss", "calibration_error")}
        numbers.setdefault(row["place"], {})[row["method"]] = shown
    write_json(paths.metrics(f"compare/{dataset}"), numbers)
    plot = paths.plot("compare", dataset)
    if rows:
        write_csv(plot, rows)
    else:
        write_text(plot, ",".join(COLUMNS) + "\n")
    if rows:
        from pal.methods.compare import printed

        print(f"\n{dataset}\n{printed(rows)}", end="")
    for sentence in [*notes, *([verdict] if verdict else [])]:
        print(f"\n{dataset}: {sentence}")
