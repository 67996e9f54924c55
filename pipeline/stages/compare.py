"""compare: the methods of compare.methods on held-out comparisons, and whether personalising pays.

Without methods an empty table is written, and torch is not loaded.
"""

from itertools import product
from typing import Any

from pal.files import write_csv, write_json, write_text
from pipeline import params, paths

COLUMNS = ("users", "items", "answers", "place", "method", "accuracy", "low", "high")


def main(dataset: str) -> None:
    """Judge the methods on one dataset."""
    values = params.load()
    if not values.compare.methods:
        _write(dataset, {"answer": "", "verdict": "", "rows": [], "notes": []})
        return
    # torch is needed from here on alone.
    from pal.config import registered
    from pal.methods import METHODS
    from pal.methods.base import Task
    from pal.methods.compare import compare, places
    from pipeline import study
    from pipeline.evaluation.predictions import without_ties

    data, K = study.load(dataset), values.n_prototypes(dataset)
    methods = {name: registered(METHODS, name) for name in values.compare.methods}
    train, val = data.select("seen", "train"), data.select("seen", "val")
    where = product(("seen", "unseen"), ("known", "new"))
    tests = {(users, items): without_ties(data.select(users, "test", items))[0] for users, items in where}
    n_users = {users: data.n_users(users) for users in ("seen", "unseen")}
    held = places({"seen": train, "unseen": data.select("unseen", "adapt")}, tests, n_users)
    task = Task(data.embeddings, train, n_users["seen"], val if len(val) else None, K, values.train.seed)
    _write(dataset, compare(methods, task, held, f"compare@{dataset}"))


def _write(dataset: str, found: dict[str, Any]) -> None:
    """The page's numbers, those for `dvc metrics diff`, the plot's table, and a print of all."""
    write_json(paths.compared(dataset), found)
    verdict, rows = found["verdict"], found["rows"]
    numbers: dict[str, Any] = {"verdict": verdict} if verdict else {}
    for row in rows:
        shown = {name: row[name] for name in ("accuracy", "worst_decile", "log_loss", "calibration_error")}
        numbers.setdefault(row["place"], {})[row["method"]] = shown
    write_json(paths.metrics(f"compare/{dataset}"), numbers)
    plot = paths.plot("compare", dataset)
    if rows:
        from pal.methods.compare import printed

        write_csv(plot, rows)
        print(f"\n{dataset}\n{printed(rows)}", end="")
    else:
        write_text(plot, ",".join(COLUMNS) + "\n")
    for sentence in [*found["notes"], *([verdict] if verdict else [])]:
        print(f"\n{dataset}: {sentence}")
