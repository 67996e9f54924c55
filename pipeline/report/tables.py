"""Accuracies as rows of tables and marks of charts: the model beside what it is held against."""

from typing import Any

from pal.report import page

Row = dict[str, Any]

MODELS = ("model", "k1", "similarity", "longer", "majority", "oracle", "bound")
USERS = ("seen", "unseen", "unlocated", "all")
ITEMS = ("all", "known", "new", "never seen")


def is_personal(evaluated: Row) -> bool:
    """Whether people have rewards of their own, with K = 1 too where they differ about an average person."""
    return evaluated["head"]["K"] > 1 or not (evaluated.get("portrait") or {"alike": True})["alike"]


def name_of(evaluated: Row) -> str:
    """The model in sentences: by its prototypes, where it has some."""
    K = evaluated["head"]["K"]
    return "the personal reward" if K == 1 and is_personal(evaluated) else f"K = {K}"


def series_names(evaluated: Row) -> dict[str, str]:
    """What the model and what it is held against are called in tables and charts."""
    encoder = (evaluated["encoder"]["responses"] or {}).get("name", "")
    return {
        "model": f"PAL, {name_of(evaluated)}".replace(" = ", "\u00a0=\u00a0"),
        "k1": "One reward, fitted alone",
        "similarity": f"{encoder} similarity",
        "longer": "Longer response",
        "majority": "Majority answer",
        "oracle": "Group oracle",
        "bound": "Best possible",
        "asked": "Chosen comparisons",
        "seen": "Seen users",
    }


def from_shots(shots: int) -> str:
    """How many comparisons an unseen user was located from."""
    return {0: "no comparisons", 1: "1 comparison"}.get(shots, f"{shots} comparisons")


def place(row: Row) -> str:
    """Whose comparisons, on which items, a row of accuracies is about."""
    shots = from_shots(row["shots"] or 0)
    parts = {
        "seen": ["Seen"],
        "unseen": ["Unseen", shots],
        "unlocated": ["Unseen, without comparisons to be located by"],
        "all": ["All users", f"unseen from {shots}"],
    }[row["users"]]
    if row["items"] not in ("all", "never seen"):  # that table says so above itself
        parts = [*parts, f"{row['items']} items"]
    if row.get("pairs", "all") != "all":
        parts = [*parts, f"{row['pairs']} pairs"]
    return ", ".join(parts)


def ordered(accuracies: list[Row]) -> list[Row]:
    """The model's rows: seen users first, then unseen users by the number of comparisons."""

    def order(row: Row) -> tuple[int, int, int]:
        return USERS.index(row["users"]), ITEMS.index(row["items"]), row["shots"] or 0

    return sorted((row for row in accuracies if row["model"] == "model"), key=order)


def baseline(accuracies: list[Row], row: Row, model: str) -> Row | None:
    """A baseline's row for the place of the model's `row`.

    Where a baseline was measured once for these users and items, it does not depend on the shots.
    """

    def where(row: Row) -> tuple[str, ...]:
        return row["users"], row["items"], row.get("test", ""), row.get("pairs", "all")

    same = [other for other in accuracies if other["model"] == model and where(other) == where(row)]
    exact = [other for other in same if other["shots"] == row["shots"]]
    if exact:
        return exact[0]
    return same[0] if len(same) == 1 and model != "model" else None


def one_for_everyone(accuracies: list[Row], row: Row) -> Row | None:
    """At the model's place, of the two rewards for everyone the better one: K = 1, and one state for all."""
    found = [baseline(accuracies, row, name) for name in ("k1", "shared")]
    return max((each for each in found if each), key=lambda each: each["accuracy"], default=None)


def places_of(evaluated: Row) -> list[Row]:
    """The picture of whether it pays: at few places the model beside one reward for everyone."""
    accuracies, name = evaluated["accuracies"], name_of(evaluated).replace(" = ", "\u00a0=\u00a0")
    rows = ordered(accuracies)
    most = max((row["shots"] or 0 for row in rows), default=0)
    picture = []
    for row in rows:
        if row["shots"] not in (None, 0, most) or (row["items"] == "new" and row["users"] != "seen"):
            continue
        shown = [("one reward for everyone", "one", row)]
        if is_personal(evaluated):
            one = one_for_everyone(accuracies, row)
            personal = name.removeprefix("the ") if name.startswith("the") else f"personal, {name}"
            shown = [(personal, "model", row), ("one reward for everyone", "one", one)]
        marks = [
            {"name": name, "series": series, **{key: cell[key] for key in ("accuracy", "low", "high")}}
            for name, series, cell in shown
            if cell
        ]
        picture.append({"place": f"{place(row)} ({row['n_users']:,})", "marks": marks})
    return picture


def places_of_methods(methods: Row) -> list[Row]:
    """The same of methods side by side: the best at each place stands out."""
    return [
        {
            "place": place,
            "marks": [
                {"name": row["method"], "series": "model" if row["best"] else "rest"}
                | {key: row[key] for key in ("accuracy", "low", "high")}
                for row in methods["rows"]
                if row["place"] == place
            ],
        }
        for place in methods["places"]
    ]


def table(accuracies: list[Row]) -> list[Row]:
    """The accuracy table: one row per place, with the model and the baselines that were measured there."""
    return [
        {"place": place(row), **{model: baseline(accuracies, row, model) for model in MODELS}}
        for row in ordered(accuracies)
    ]


def series(table: list[Row]) -> list[str]:
    """The model and the baselines of which a table holds any."""
    return [model for model in MODELS if any(row[model] for row in table)]


def table_by_test(accuracies: list[Row]) -> list[Row]:
    """The tables of several test sets in one, the set's name before each place."""
    return [
        {**row, "place": f"{name}: {row['place'][0].lower()}{row['place'][1:]}"}
        for name in dict.fromkeys(row["test"] for row in accuracies)
        for row in table([row for row in accuracies if row["test"] == name])
    ]


def table_by_filter(accuracies: list[Row]) -> list[Row]:
    """Filtered pairs beside untouched ones, of seen users and of unseen ones from none and most shots."""
    most = max((row["shots"] for row in accuracies if row["shots"] is not None), default=0)

    def order(row: Row) -> tuple[int, int, int]:
        model, pairs = row["model"], ("filtered", "untouched")
        return USERS.index(model["users"]), model["shots"] or 0, pairs.index(model["pairs"])

    return sorted(table([row for row in accuracies if row["shots"] in (None, 0, most)]), key=order)


def by_method(compared: Row) -> Row | None:
    """What compare wrote, as a table of methods by place; None where no methods were compared."""
    rows = compared.get("rows")
    if not rows:
        return None
    places = list(dict.fromkeys(row["place"] for row in rows))
    cells = {(row["method"], row["place"]): row for row in rows}
    names = dict.fromkeys(row["method"] for row in rows)
    methods = [{"method": name, "cells": [cells[name, place] for place in places]} for name in names]
    return {**compared, "places": places, "methods": methods}


def one_kind_of_items(rows: list[Row]) -> list[Row]:
    """Of rows on all, known and new items those on the first of these kinds that occurs."""
    kinds = {row["items"] for row in rows}
    first = next((kind for kind in ITEMS if kind in kinds), None)
    return [row for row in rows if row["items"] == first]


def dots(table: list[Row], names: dict[str, str]) -> Row | None:
    """A table of accuracies as a picture, one mark per place and series; None where the table is empty.

    What would squeeze all others is left to the table: the encoder's similarity where questions share a few
    answers, as yes and no, and a majority that is undecided everywhere, since nobody was asked before.
    """
    rows = []
    for row in table:
        squeezes = {"similarity"} if row["model"].get("balanced") is not None else set()
        cells = {model: row[model] for model in MODELS if row[model] and model not in squeezes}
        marks = [
            {"name": names[model], "series": {"model": "model", "k1": "one"}.get(model, "rest"), **cell}
            for model, cell in cells.items()
            if not _is_undecided(cell)
        ]
        rows.append({"place": row["place"], "marks": marks})
    return page.dots(rows) if rows else None


def _is_undecided(row: Row) -> bool:
    return row["accuracy"] == row["low"] == row["high"] == 0.5


def curve(accuracies: list[Row]) -> tuple[list[Row], list[Row]]:
    """The model on unseen users by shots, and what it is held against there, seen users among it."""
    rows = ordered(accuracies)
    unseen = one_kind_of_items([row for row in rows if row["users"] == "unseen"])
    if not unseen:
        return [], []
    seen = [row for row in rows if row["users"] == "seen"]
    same_items = [row for row in seen if row["items"] == unseen[0]["items"]]
    held = {model: baseline(accuracies, unseen[-1], model) for model in ("k1", "longer", "majority")}
    held["seen"] = next(iter(same_items or seen), None)
    return unseen, [
        {"series": series, "accuracy": row["accuracy"]}
        for series, row in held.items()
        if row and not _is_undecided(row)
    ]


def accuracies_along(accuracies: list[Row], model: str) -> list[Row]:
    """A model on unseen users by shots, on the items that the curve is about."""
    rows = [row for row in accuracies if (row["users"], row["model"]) == ("unseen", model)]
    return sorted(one_kind_of_items(rows), key=lambda row: row["shots"] or 0)
