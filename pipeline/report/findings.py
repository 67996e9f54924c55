"""What an evaluation found, in sentences that claim no more than their intervals carry, and alarms.

Alarms say why prototypes should not be believed, a sentence each. Their limits are conventions, not tests.
"""

from typing import Any

from pal.report.page import DASH, FEW_PEOPLE, NO_BREAK, number, pays, percent, points
from pipeline.paths import AS_FITTED, ONE_PER_USER
from pipeline.report.tables import (
    accuracies_along,
    is_personal,
    name_of,
    one_for_everyone,
    ordered,
)

Row = dict[str, Any]
LEAST_AGREEMENT = 0.8  # of the prototype that agrees least with its match, a cosine
LEAST_RAND = 0.5  # of the nearest prototypes with the true groups, where K is their number
MOST_OUTSIDE = 0.05  # share of users whom no mix of the prototypes describes


def unbroken(text: str) -> str:
    """The text with its equations kept on one line."""
    for sign in "=<>":
        text = text.replace(f" {sign} ", f"{NO_BREAK}{sign}{NO_BREAK}")
    return text


def interval(row: Row) -> str:
    """The two ends of a row's 95 % interval, without a unit; empty where there is none."""
    if row["low"] is None or row["high"] is None:
        return ""
    return f"{100 * row['low']:.1f}{DASH}{100 * row['high']:.1f}"


def does_it_pay(evaluated: Row) -> Row:
    """Whether being personal pays, by the model against one reward for everyone, on seen users."""
    accuracies, test = evaluated["accuracies"], (evaluated["plurality"] or {}).get("seen") or {}
    seen = next((row for row in ordered(accuracies) if row["users"] == "seen"), None)
    one = seen and one_for_everyone(accuracies, seen)
    if not is_personal(evaluated) and seen:
        said = f"This model has K = 1: everyone is given one reward, right on {percent(seen['accuracy'])}."
        return {"answer": "One reward for everyone", "sentence": unbroken(said)}
    if not seen or not one or test.get("low") is None:
        said = "The model was not compared with one reward for everyone (K = 1) on held-out answers."
        return {"answer": "Not measured", "sentence": unbroken(said)}
    users = int(test.get("users") or seen["n_users"])
    numbers = (test["difference"], test["low"], test["high"], users)
    p = test.get("p")
    return pays(*numbers, seen["accuracy"], one["accuracy"], 0.0 if p is None else p)


def plurality(evaluated: Row) -> str:
    """Whether K > 1 helps, on known and on new items, and whether users prefer differently."""
    said: list[str] = []
    if not is_personal(evaluated):
        return "K = 1: everyone is given the same reward, so there is no plurality to measure."
    for users in ("seen", "unseen"):
        test: Row = (evaluated["plurality"] or {}).get(users) or {}
        new: Row = test.get("new") or {}
        for each, whose in ((test, f"On {users} users"), (new, f"On new items of {users} users")):
            if each.get("difference") is not None:
                said.append(_compared(whose, each, name_of(evaluated), "one reward for everyone"))
        if _clear(new) and new["difference"] < 0:
            said.append("For items like these, keep one reward for everyone.")
        p, others = test.get("differ_p"), "weights shuffled among them"
        if test.get("why"):
            said.append(f"Whether {users} users prefer differently cannot be told: {test['why']}.")
        elif p is not None and p < 0.05:
            said.append(
                f"The own weights of {users} users foretell their answers better than {others} "
                f"(p = {p:.3g}): they prefer differently."
            )
        elif p is not None:
            said.append(
                f"That {users} users prefer differently is not shown: {others} foretell their answers about "
                f"as well (p = {p:.3g})."
            )
        if _clear(test) and test["difference"] > 0 and (test.get("why") or (p is not None and p >= 0.05)):
            said.append("The gain may come from what they are asked, or from how carefully they answer.")
    return unbroken(" ".join(said)) or "The model was not compared with one reward for everyone (K = 1)."


def _compared(whose: str, test: Row, first: str, second: str) -> str:
    """Which of two is better, in a sentence that claims no more than users, interval and p-value do."""
    difference, low, high, p = (test.get(key) for key in ("difference", "low", "high", "p"))
    clear, users = _clear(test), test.get("users")
    if users is not None and users < FEW_PEOPLE:
        who = "1 user is" if users == 1 else f"{users:.0f} users are"
        said = f"{who} too few to tell {first} from {second}: a difference of {points(difference)} points"
    elif not clear:
        said = f"{first} and {second} cannot be told apart: a difference of {points(difference)} points"
    elif difference > 0:
        said = f"{first} beats {second} by {points(difference)} points"
    else:
        said = f"{first} is worse than {second}, by {points(-difference)} points"
    evidence = []
    if low is not None and high is not None:
        # Where it is worse, the sentence speaks of how much worse: the interval is turned round.
        low, high = (-high, -low) if clear and high < 0 else (low, high)
        evidence.append(f"95{NO_BREAK}% interval {points(low)} to {points(high)}")
    if p is not None:
        evidence.append("p < 0.001" if p < 0.001 else f"p = {p:.3f}")
    return unbroken(f"{whose} {said}" + (f" ({', '.join(evidence)})." if evidence else "."))


def _clear(test: Row) -> bool:
    """Whether a difference is beyond chance: of enough users, and by interval and p-value alike."""
    low, high, p, users = (test.get(key) for key in ("low", "high", "p", "users"))
    if low is None or high is None or (users is not None and users < FEW_PEOPLE):
        return False
    return (low > 0 or high < 0) and (p is None or p < 0.05)


def against_baselines(evaluated: Row) -> str:
    """Whether the model beats the longer response and the encoder's own similarity."""
    encoder, said = (evaluated["encoder"]["responses"] or {}).get("name", ""), []
    model = name_of(evaluated)
    for key, name in (("longer", "the longer response"), ("similarity", f"{encoder} similarity")):
        test = (evaluated["beside"] or {}).get(key) or {}
        if test.get("difference") is not None:
            said.append(_compared("On seen users", test, model, name))
    longer = (evaluated["beside"] or {}).get("longer") or {}
    if longer.get("difference") is not None and not (_clear(longer) and longer["difference"] > 0):
        said.append(
            "A reward sees nothing of a text but its embedding, from which its length can hardly be read, "
            "and has only the training comparisons to learn it from."
        )
    return unbroken(" ".join(said))


def meaning_of_k(evaluated: Row) -> str:
    """What K counts, given how users' weights were fitted."""
    K, fit = evaluated["head"]["K"], evaluated["fit"]
    if K == 1 and is_personal(evaluated):
        return (
            "A person's reward is the average person's with deviations of their own; there are no prototypes."
        )
    if K == 1:
        return "With one prototype every user has the same ideal point."
    if fit["objective"] == "mixture" and fit["grid_points"] == 0:
        return (
            f"Each user was taken to stand at one of the {K} prototypes, so K is the number of "
            "groups that the model tells apart; a user's weights say how sure it is of each."
        )
    return (
        f"Users may stand anywhere between the prototypes, so K = {K} need not be the number of "
        "groups: there can be more groups than prototypes."
    )


def choices_of_k(curves: dict[str, Row], K: int) -> str:
    """What the curves of choose-k say of K, and why they may differ; empty without curves."""
    said = []
    if ONE_PER_USER in curves:
        groups = curves[ONE_PER_USER]["K"]
        words = "nobody is told apart" if groups == 1 else f"{groups} groups describe these users"
        said.append(f"With every user at one prototype, {words} (K = {groups}).")
    if AS_FITTED in curves:
        said.append(f"Fitted as this model is, K = {curves[AS_FITTED]['K']} suffices.")
    if len(curves) > 1:
        said.append(
            "The two may differ. With weights between the prototypes the sign of a reward is affine in the "
            "weights, so users among three prototypes can behave as more than three groups; with every user "
            "at one prototype, K is the number of groups, of which it takes many to imitate users who stand "
            "between."
        )
    return unbroken(" ".join([*said, f"The model of this page has K = {K}."])) if curves else ""


def alarms(evaluated: Row) -> list[str]:
    """Why the prototypes should not be believed, a sentence each; none where there is no reason."""
    stability, said = evaluated["stability"], []
    if not stability:
        return []
    dead, rand = stability["dead"], stability["true_groups"]
    by_prototype = {k: value for k, value in enumerate(stability["by_prototype"] or [], 1) if k not in dead}
    changed = {k: value for k, value in by_prototype.items() if value < LEAST_AGREEMENT}
    if changed:
        seeds, fit = stability["seeds"], evaluated["fit"]
        remedy = ""
        if fit["objective"] == "mixture" and fit["grid_points"]:
            key = f"{evaluated['dataset']}.train.grid_points"
            free = "Users may stand anywhere between them, which leaves them free"
            remedy = f" {free}; {key}: 0 ties each user to one."
        said.append(
            f"Do not read meaning into prototype{'s' * (len(changed) > 1)} {_joined(list(changed))}: fitted "
            f"again from {'another seed' if seeds == 1 else f'{seeds} other seeds'}, not the same come out "
            f"(least agreement {number(min(changed.values()))}, where 1 is the same), though users' rewards "
            f"agree on {percent(stability['same_answers'])} of the test questions.{remedy}"
        )
    if dead:
        which = f"Prototypes {_joined(dead)} are" if len(dead) > 1 else f"Prototype {dead[0]} is"
        said.append(f"{which} dead: hardly anybody stands there, so the data need fewer than K.")
    if stability["n_groups"] == evaluated["head"]["K"] and rand is not None and rand < LEAST_RAND:
        index = f"adjusted Rand index {number(rand)}"
        said.append(f"These prototypes are not the true groups, though there are as many: {index}.")
    outside: Row = stability["outside"] or {}
    shares = {half: each["users"] / each["of"] for half, each in outside.items() if each["of"]}
    many = [f"{percent(share)} of {half} users" for half, share in shares.items() if share > MOST_OUTSIDE]
    if many:
        where = "they stand outside the hull"
        said.append(f"No mix of these prototypes describes {' and '.join(many)}: {where}.")
    return [unbroken(sentence) for sentence in said]


def trust(evaluated: Row) -> list[Row]:
    """What is known of the prototypes, as names and values for a table; empty where K is 1."""
    stability = evaluated["stability"]
    if not stability:
        return []
    rows = {}
    if stability["agreement"] is not None:
        each = ", ".join(number(value) for value in stability["by_prototype"])
        rows = {
            "Prototypes, matched with those of other seeds": f"{number(stability['agreement'])} ({each})",
            "Users' nearest prototype, the same from other seeds": number(stability["same_groups"]),
            "Test questions on which a user's rewards agree": percent(stability["same_answers"]),
        }
    if stability["true_groups"] is not None:
        rows["Users' nearest prototype and their true group"] = number(stability["true_groups"])
    rows["Dead prototypes"] = _joined(stability["dead"]) or "none"
    for half, count in (stability["outside"] or {}).items():
        rows[f"{half.capitalize()} users outside the hull"] = f"{count['users']:,} of {count['of']:,}"
    return [{"name": name, "value": value} for name, value in rows.items()]


def asking(accuracies: list[Row]) -> str:
    """What choosing is worth: how few chosen comparisons reach the most drawn ones."""
    chosen = accuracies_along(accuracies, "asked")
    drawn = [row for row in accuracies_along(accuracies, "model") if row["shots"]]
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


def never_seen(split: Row) -> str:
    """Whether the strictest split could be formed, and what was left out for it."""
    if split["why"]:
        return f"It cannot be formed here: {split['why']}."
    said = f"{split['pairs']:,} comparisons of unseen users"
    why = "were left out, since the same user was located by one of their items"
    return f"{said}; {split['left_out']:,} {why}." if split["left_out"] else f"{said}."


def _joined(numbers: list[int]) -> str:
    return ", ".join(map(str, numbers))
