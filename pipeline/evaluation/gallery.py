"""The gallery: pairs of which one picture has a colour filter, so that a reader sees what filters do."""

from typing import TYPE_CHECKING, Any

from pipeline.evaluation import thumbnails
from pipeline.study import Study

if TYPE_CHECKING:
    import polars as pl

COLUMNS = ("prompt", "chosen", "rejected")


def gallery(data: Study, items: "pl.DataFrame", n_pairs: int) -> list[dict[str, Any]]:
    """Filtered test pairs, taken in turn from every group with the winner and with the loser filtered.

    Args:
        data: The dataset.
        items: Its items table.
        n_pairs: How many to show at most; none are shown where no pair is filtered.
    """
    rows = in_turn(_candidates(data), n_pairs)
    wanted = {row[column] for row in rows for column in COLUMNS if row[column] is not None}
    shown = thumbnails.show(items, data.dataset, wanted)
    found = []
    for row in rows:
        prompt, chosen, rejected = (shown.get(row[column], thumbnails.Shown()) for column in COLUMNS)
        found.append(
            {
                "prompt": prompt.text,
                "chosen": chosen.image,
                "rejected": rejected.image,
                **{key: row[key] for key in ("filtered", "group", "user")},
            }
        )
    return found


def in_turn(rows: list[dict[str, Any]], n: int) -> list[dict[str, Any]]:
    """Up to n rows, by turns from each group and filter; no prompt twice while others are left."""
    kinds: dict[tuple[str, str], list[dict[str, Any]]] = {}
    for row in rows:
        kinds.setdefault((row["group"] or "", row["filtered"]), []).append(row)
    waiting = [kinds[kind] for kind in sorted(kinds)]
    taken: list[dict[str, Any]] = []
    met: set[str | None] = set()
    while len(taken) < n and any(waiting):
        for queue in waiting:
            if queue and len(taken) < n:
                fresh = next((i for i, row in enumerate(queue) if row["prompt"] not in met), 0)
                taken.append(queue.pop(fresh))
                met.add(taken[-1]["prompt"])
    return taken


def _candidates(data: Study, most: int = 2000) -> list[dict[str, Any]]:
    """Filtered test pairs of seen users, of unseen ones where seen users have none: the first of them."""
    places = data.places
    test = (places["split"] == "test") & places["filtered"].is_not_null()
    halves = [half for half in ("seen", "unseen") if (test & (places["users"] == half)).any()]
    if not halves:
        return []
    half = halves[0]
    at = (test & (places["users"] == half)).arg_true().to_list()[:most]
    c = data.comparisons
    rows = []
    for row in at:
        question, user = int(c.question[row]), int(c.user[row])
        prompt, first, second = (
            int(x[question]) for x in (c.questions.prompt, c.questions.first, c.questions.second)
        )
        chosen, rejected = (first, second) if c.sign[row] > 0 else (second, first)
        rows.append(
            {
                "prompt": data.prompt_ids[prompt] if prompt >= 0 else None,
                "chosen": data.response_ids[chosen],
                "rejected": data.response_ids[rejected],
                "filtered": places["filtered"][row],
                "group": None if data.groups is None else data.groups[half][user],
                "user": data.user_ids[half][user],
            }
        )
    return rows
