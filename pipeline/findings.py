"""What an evaluation found, in words and table rows. Sentences claim no more than their intervals carry."""

from itertools import takewhile
from typing import Any

Evaluated = dict[str, Any]
Row = dict[str, Any]

MODELS = ("model", "k1", "majority", "oracle")
ITEMS = ("all", "known", "new")
NO_BREAK, DASH, MINUS = "\u00a0", "\u2013", "\u2212"


def percent(share: float | None) -> str:
    """A share of 1 as a percentage with one decimal."""
    return DASH if share is None else f"{100 * share:.1f}{NO_BREAK}%"


def points(share: float) -> str:
    """A difference of shares in percentage points with one decimal, its minus a minus sign."""
    return f"{100 * share:.1f}".replace("-0.0", "0.0").replace("-", MINUS)


def number(value: float) -> str:
    """A number with two decimals, its minus a minus sign."""
    return f"{value:.2f}".replace("-", MINUS)


def tied(text: str) -> str:
    """The text with its equations kept on one line."""
    for sign in "=<>":
        text = text.replace(f" {sign} ", f"{NO_BREAK}{sign}{NO_BREAK}")
    return text


def interval(row: Row) -> str:
    """The two ends of a row's 95 % interval, without a unit; empty where there is none."""
    if row["low"] is None or row["high"] is None:
        return ""
    return f"{100 * row['low']:.1f}{DASH}{100 * row['high']:.1f}"


def series_names(n_prototypes: int) -> dict[str, str]:
    """What the model and what it is held against are called in tables and figures."""
    return {
        "model": tied(f"PAL, K = {n_prototypes}"),
        "k1": tied("One reward (K = 1)"),
        "majority": "Majority answer",
        "oracle": "Group oracle",
        "seen": "Seen users",
    }


def from_shots(shots: int) -> str:
    """How many comparisons an unseen user was located from."""
    return {0: "no comparisons", 1: "1 comparison"}.get(shots, f"{shots} comparisons")


def place(row: Row) -> str:
    """Whose comparisons, on which items, a row of accuracies is about."""
    parts = ["Seen"] if row["shots"] is None else ["Unseen", from_shots(row["shots"])]
    if row["items"] != "all":
        parts.append(f"{row['items']} items")
    return ", ".join(parts)


def places(accuracies: list[Row]) -> list[Row]:
    """The model's rows: seen users first, then unseen users by the number of comparisons."""
    rows = [row for row in accuracies if row["model"] == "model"]
    return sorted(rows, key=lambda row: (row["users"], ITEMS.index(row["items"]), row["shots"] or 0))


def beside(accuracies: list[Row], row: Row, model: str) -> Row | None:
    """A baseline's row for the place of the model's `row`.

    Where a baseline was measured once for these users and items, it does not depend on the shots.
    """
    here = [
        other
        for other in accuracies
        if (other["model"], other["users"], other["items"]) == (model, row["users"], row["items"])
    ]
    exact = [other for other in here if other["shots"] == row["shots"]]
    if exact:
        return exact[0]
    return here[0] if len(here) == 1 and model != "model" else None


def table(accuracies: list[Row]) -> list[Row]:
    """The accuracy table: one row per place, with the model and the baselines that were measured there."""
    return [
        {"place": place(row), **{model: beside(accuracies, row, model) for model in MODELS}}
        for row in places(accuracies)
    ]


def one_kind_of_items(rows: list[Row]) -> list[Row]:
    """Of rows on all, known and new items those on the first of these kinds that occurs."""
    kinds = {row["items"] for row in rows}
    first = next((kind for kind in ITEMS if kind in kinds), None)
    return [row for row in rows if row["items"] == first]


def headline(evaluated: Evaluated) -> str:
    """The accuracies that matter, in one sentence."""
    rows = places(evaluated["accuracies"])
    parts = [
        _seen(evaluated, [row for row in rows if row["users"] == "seen"]),
        _unseen([row for row in rows if row["users"] == "unseen"]),
    ]
    said = "; ".join(part for part in parts if part)
    return f"{said[0].upper()}{said[1:]}." if said else "No accuracies were measured."


def _seen(evaluated: Evaluated, rows: list[Row]) -> str:
    if not rows:
        return ""
    first, new = rows[0], [row for row in rows[1:] if row["items"] == "new"]
    said = f"seen users {percent(first['accuracy'])}"
    if interval(first):
        said += f" (95{NO_BREAK}% interval {interval(first)})"
    if new and first["items"] == "known":
        said += f" on known items and {percent(new[0]['accuracy'])} on new ones"
    baseline = beside(evaluated["accuracies"], first, "k1")
    if baseline and evaluated["head"]["K"] > 1:
        which = " on the known items" if new else ""
        said += f", against {percent(baseline['accuracy'])} with one reward for everyone{which}"
    return said


def _unseen(rows: list[Row]) -> str:
    if not rows:
        return ""
    kind = one_kind_of_items(rows)
    most, zero = kind[-1], next((row for row in kind[:-1] if row["shots"] == 0), None)
    said = f"unseen users {percent(most['accuracy'])} from {from_shots(most['shots'])}"
    return f"{said}, {percent(zero['accuracy'])} from none" if zero else said


def plurality(evaluated: Evaluated) -> str:
    """Whether more than one prototype helps, on the evidence of the users' intervals."""
    n_prototypes = evaluated["head"]["K"]
    if n_prototypes == 1:
        return "K = 1: everyone is given the same reward, so there is no plurality to measure."
    found = evaluated["plurality"] or {}
    said = [_compared(n_prototypes, users, found.get(users) or {}) for users in ("seen", "unseen")]
    return tied(" ".join(said).strip()) or "The model was not compared with one reward for everyone (K = 1)."


def _compared(n_prototypes: int, users: str, found: Row) -> str:
    difference = found.get("difference")
    if difference is None:
        return ""
    evidence = _evidence(found)
    if _excludes_zero(found) and difference > 0:
        return f"On {users} users K = {n_prototypes} beats K = 1 by {points(difference)} points{evidence}."
    if _excludes_zero(found):
        worse = f"K = {n_prototypes} is worse than K = 1, by {points(-difference)} points"
        return f"On {users} users {worse}{evidence}."
    return (
        f"On {users} users there is no evidence that K > 1 helps here: "
        f"a difference of {points(difference)} points{evidence}."
    )


def _excludes_zero(found: Row) -> bool:
    low, high, p = found.get("low"), found.get("high"), found.get("p")
    return low is not None and high is not None and (low > 0 or high < 0) and (p is None or p < 0.05)


def _evidence(found: Row) -> str:
    low, high, p = found.get("low"), found.get("high"), found.get("p")
    parts = []
    if low is not None and high is not None:
        swapped = (-high, -low) if _excludes_zero(found) and high < 0 else (low, high)
        parts.append(f"95{NO_BREAK}% interval {points(swapped[0])} to {points(swapped[1])}")
    if p is not None:
        parts.append(tied("p < 0.001" if p < 0.001 else f"p = {p:.3f}"))
    return f" ({', '.join(parts)})" if parts else ""


def meaning(evaluated: Evaluated) -> str:
    """What K counts, given how users' weights were fitted."""
    head, fit = evaluated["head"], evaluated["fit"]
    if head["K"] == 1:
        return "With one prototype every user has the same ideal point."
    if fit["objective"] == "mixture" and fit["grid_points"] == 0:
        return (
            f"Each user was taken to stand at one of the {head['K']} prototypes, so K is the number of "
            "groups that the model tells apart; a user's weights say how sure it is of each."
        )
    return (
        f"Users may stand anywhere between the prototypes, so K = {head['K']} need not be the number of "
        "groups: there can be more groups than prototypes."
    )


def dots(accuracies: list[Row]) -> list[Row]:
    """The accuracy table as marks to draw: one per place and series."""
    return [
        {
            "place": row["place"],
            "series": model,
            **{key: row[model][key] for key in ("accuracy", "low", "high")},
        }
        for row in table(accuracies)
        for model in MODELS
        if row[model]
    ]


def curve(accuracies: list[Row]) -> tuple[list[Row], list[Row]]:
    """The model on unseen users by shots, and what it is held against there: K = 1, majority, seen users."""
    rows = places(accuracies)
    unseen = one_kind_of_items([row for row in rows if row["users"] == "unseen"])
    if not unseen:
        return [], []
    seen = [row for row in rows if row["users"] == "seen"]
    same_items = [row for row in seen if row["items"] == unseen[0]["items"]]
    held = [(model, beside(accuracies, unseen[-1], model)) for model in ("k1", "majority")]
    held += [("seen", next(iter(same_items or seen), None))]
    return unseen, [{"series": series, "accuracy": row["accuracy"]} for series, row in held if row]


def opening(prototypes: list[Row]) -> str:
    """The lines with which all prompts shown begin, where there are several prompts and they share any."""
    rows = [row for one in prototypes for row in (*one["most"], *one["least"])]
    prompts = {row["prompt"] for row in rows}
    if len(prompts) < 2 or None in prompts:
        return ""
    lines = [prompt.splitlines(keepends=True)[:-1] for prompt in prompts]
    alike = takewhile(lambda row: len(set(row)) == 1, zip(*lines, strict=False))
    return "".join(row[0] for row in alike)
