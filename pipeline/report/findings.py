"""What an evaluation found, in words. Sentences claim no more than their intervals carry."""

from typing import Any

from pipeline.evaluation.evaluated import Evaluated
from pipeline.report.numerals import NO_BREAK, interval, percent, points, tied
from pipeline.report.rows import beside, from_shots, one_kind_of_items, places

Row = dict[str, Any]


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
        which = " on the known items" if new and first["items"] == "known" else ""
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
    said = [
        sentence
        for users in ("seen", "unseen")
        for sentence in (
            _compared(n_prototypes, users, found.get(users) or {}),
            _differing(users, found.get(users) or {}),
        )
        if sentence
    ]
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


def _differing(users: str, found: Row) -> str:
    p = found.get("differ_p")
    if p is None:
        return ""
    if p < 0.05:
        better = "foretell their answers better than weights dealt among them"
        return f"The own weights of {users} users {better} (p = {p:.3g})."
    return f"Weights dealt among {users} users foretell their answers as well as the own (p = {p:.3g})."


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


def held(evaluated: Evaluated) -> str:
    """Whether one reward for everyone beats the longer response and the encoder's own similarity."""
    found = evaluated["beside"] or {}
    encoder = (evaluated["encoder"]["responses"] or {}).get("name", "")
    names = {"longer": "the longer response", "similarity": f"{encoder} similarity"}
    said = [_against(names[key], found[key]) for key in names if _measured(found.get(key))]
    longer = found.get("longer")
    if _measured(longer) and not (_excludes_zero(longer) and longer["difference"] > 0):
        said.append(
            "A reward sees nothing of a text but its embedding, from which its length can hardly be read, "
            "and has only the training comparisons to learn it from."
        )
    return tied(" ".join(said))


def _against(name: str, found: Row) -> str:
    difference, evidence = found["difference"], _evidence(found)
    one = "one reward for everyone (K = 1)"
    if not _excludes_zero(found):
        by = f"{points(difference)} points{evidence}"
        return f"On seen users there is no evidence that {one} beats {name}: a difference of {by}."
    if difference > 0:
        return f"On seen users {one} beats {name} by {points(difference)} points{evidence}."
    return f"On seen users {one} is worse than {name}, by {points(-difference)} points{evidence}."


def _measured(found: Row | None) -> bool:
    return bool(found) and found.get("difference") is not None


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
