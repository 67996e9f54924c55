"""Whether a reader may trust the picture: of prototypes, of chosen questions and of the strictest split.

Alarms are few and each is a sentence. Their limits stand here: they are conventions, not tests.
"""

from typing import Any

from pipeline.evaluation.evaluated import Evaluated
from pipeline.report.numerals import interval, number, percent, tied
from pipeline.report.rows import along

Row = dict[str, Any]

LEAST_AGREEMENT = 0.8  # of matched prototypes, a cosine
LEAST_RAND = 0.5  # of the nearest prototypes with the true groups, where K is their number
MOST_OUTSIDE = 0.05  # share of users whom no mix of the prototypes describes


def alarms(evaluated: Evaluated) -> list[str]:
    """Why the prototypes should not be believed, a sentence each; none where there is no reason."""
    found = evaluated["stability"]
    if not found:
        return []
    said = []
    if found["agreement"] is not None and found["agreement"] < LEAST_AGREEMENT:
        said.append(
            f"Do not read meaning into these prototypes: fitted again from {_seeds(found)}, they come out "
            f"different (agreement {number(found['agreement'])}, where 1 is the same), though users' rewards "
            f"agree on {percent(found['same_answers'])} of the test questions.{_remedy(evaluated)}"
        )
    if found["dead"]:
        several = len(found["dead"]) > 1
        which = f"Prototypes {_listed(found['dead'])} are" if several else f"Prototype {found['dead'][0]} is"
        said.append(f"{which} dead: hardly anybody stands there, so the data need fewer than K.")
    K, groups = evaluated["head"]["K"], found["n_groups"]
    if groups == K and found["true_groups"] is not None and found["true_groups"] < LEAST_RAND:
        said.append(
            "These prototypes are not the true groups, though there are as many: adjusted Rand index "
            f"{number(found['true_groups'])}."
        )
    return [tied(one) for one in [*said, *_outside(found["outside"])]]


def _remedy(evaluated: Evaluated) -> str:
    """What identifies prototypes, where something does."""
    fit = evaluated["fit"]
    if fit["objective"] != "mixture" or not fit["grid_points"]:
        return ""
    key = f"{evaluated['dataset']}.train.grid_points"
    return f" Users may stand anywhere between them, which leaves them free; {key}: 0 ties each user to one."


def _outside(found: dict[str, dict[str, int]] | None) -> list[str]:
    """Users whom no mix describes, where there are many of them."""
    halves = {half: each for half, each in (found or {}).items() if each["of"]}
    away = {half: each["users"] / each["of"] for half, each in halves.items()}
    many = [f"{percent(share)} of {half} users" for half, share in away.items() if share > MOST_OUTSIDE]
    if not many:
        return []
    return [f"No mix of these prototypes describes {' and '.join(many)}: they stand outside the hull."]


def trust(evaluated: Evaluated) -> list[Row]:
    """What was found of the prototypes, as names and values for a table; empty where K is 1."""
    found = evaluated["stability"]
    if not found:
        return []
    rows = []
    if found["agreement"] is not None:
        each = ", ".join(number(value) for value in found["by_prototype"])
        rows += [
            ("Prototypes, matched with those of other seeds", f"{number(found['agreement'])} ({each})"),
            ("Users' nearest prototype, the same from other seeds", number(found["same_groups"])),
            ("Test questions on which a user's rewards agree", percent(found["same_answers"])),
        ]
    if found["true_groups"] is not None:
        rows.append(("Users' nearest prototype and their true group", number(found["true_groups"])))
    rows.append(("Dead prototypes", _listed(found["dead"]) or "none"))
    for half, each in (found["outside"] or {}).items():
        rows.append((f"{half.capitalize()} users outside the hull", f"{each['users']:,} of {each['of']:,}"))
    return [{"name": name, "value": value} for name, value in rows]


def asking(accuracies: list[Row]) -> str:
    """What choosing is worth: how few chosen comparisons reach the most drawn ones."""
    chosen = along(accuracies, "asked")
    drawn = [row for row in along(accuracies, "model") if row["shots"]]
    if not chosen or not drawn:
        return ""
    most = drawn[-1]
    reached = next((row for row in chosen if row["accuracy"] >= most["accuracy"]), None)
    goal = f"{most['shots']} drawn ones ({percent(most['accuracy'])}, interval {interval(most)})"
    if reached is None:
        last = chosen[-1]
        return f"{last['shots']} chosen comparisons reach {percent(last['accuracy'])}, less than {goal}."
    n = reached["shots"]
    noun = "comparison reaches" if n == 1 else "comparisons reach"
    return f"{n} chosen {noun} {percent(reached['accuracy'])}, no less than {goal}."


def never_seen(found: Row) -> str:
    """Whether the strictest split could be formed, and what was left out for it."""
    if found["why"]:
        return f"It cannot be formed here: {found['why']}."
    said = f"{found['pairs']:,} comparisons of unseen users"
    if found["left_out"]:
        said += (
            f"; {found['left_out']:,} were left out, since the same user was located by one of their items"
        )
    return f"{said}."


def _seeds(found: Row) -> str:
    return "another seed" if found["seeds"] == 1 else f"{found['seeds']} other seeds"


def _listed(numbers: list[int]) -> str:
    return ", ".join(map(str, numbers))
