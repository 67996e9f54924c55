"""What an evaluation found: rows of tables and marks of charts, the model beside what it is held against;
sentences that claim no more than their intervals carry; and alarms.

Alarms say why prototypes should not be believed, a sentence each. Their limits are conventions, not tests.
"""

from pal.report import page
from pal.report.page import DASH, FEW_PEOPLE, NO_BREAK, Row, number, pays, percent, points

MODELS = ("model", "k1", "similarity", "longer", "majority", "oracle", "bound")
USERS = ("seen", "unseen", "unlocated", "all")
ITEMS = ("all", "known", "new", "never seen")
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
        "model": unbroken(f"PAL, {name_of(evaluated)}"), "k1": "One reward, fitted alone",
        "similarity": f"{encoder} similarity", "longer": "Longer response",
        "majority": "Majority answer", "oracle": "Group oracle", "bound": "Best possible",
        "asked": "Chosen comparisons", "seen": "Seen users",
    }  # fmt: skip


def place(row: Row) -> str:
    """Whose comparisons, on which items, a row of accuracies is about."""
    n = row["shots"] or 0
    shots = {0: "no comparisons", 1: "1 comparison"}.get(n, f"{n} comparisons")
    who = {
        "seen": "Seen",
        "unseen": f"Unseen, {shots}",
        "unlocated": "Unseen, without comparisons to be located by",
        "all": f"All users, unseen from {shots}",
    }[row["users"]]
    # The table of what was never seen says so above itself.
    items = f", {row['items']} items" if row["items"] not in ("all", "never seen") else ""
    return who + items + (f", {row['pairs']} pairs" if row["pairs"] != "all" else "")


def ordered(accuracies: list[Row]) -> list[Row]:
    """The model's rows: seen users first, then unseen users by the number of comparisons."""

    def order(row: Row) -> tuple[int, int, int, str]:
        return USERS.index(row["users"]), ITEMS.index(row["items"]), row["shots"] or 0, row["pairs"]

    return sorted((row for row in accuracies if row["model"] == "model"), key=order)


def baseline(accuracies: list[Row], row: Row, model: str) -> Row | None:
    """A baseline's row for the place of the model's `row`; one measured once does not depend on the shots."""
    same = [other for other in accuracies if other["model"] == model]
    for label in ("users", "items", "test", "pairs"):
        same = [other for other in same if other[label] == row[label]]
    alone = same if len(same) == 1 and model != "model" else []
    return next(iter([other for other in same if other["shots"] == row["shots"]] or alone), None)


def one_for_everyone(accuracies: list[Row], row: Row) -> Row | None:
    """At the model's place, of the two rewards for everyone the better one: K = 1, and one state for all."""
    found = [baseline(accuracies, row, name) for name in ("k1", "shared")]
    return max((each for each in found if each), key=lambda each: each["accuracy"], default=None)


def places_of(evaluated: Row) -> list[Row]:
    """The picture of whether it pays: at few places the model beside one reward for everyone."""
    accuracies, name, personal = evaluated["accuracies"], unbroken(name_of(evaluated)), is_personal(evaluated)
    rows, picture = ordered(accuracies), []
    name = name.removeprefix("the ") if name.startswith("the ") else f"personal, {name}"
    most = max((row["shots"] or 0 for row in rows), default=0)
    for row in rows:
        if row["shots"] not in (None, 0, most) or (row["items"] == "new" and row["users"] != "seen"):
            continue
        one = one_for_everyone(accuracies, row) if personal else row
        marks = [_mark(name, "model", row)] if personal else []
        marks += [_mark("one reward for everyone", "one", one)] if one else []
        picture.append({"place": f"{place(row)} ({row['n_users']:,})", "marks": marks})
    return picture


def places_of_methods(rows: list[Row]) -> list[Row]:
    """The same of methods side by side, as compare wrote them: the best at each place stands out."""
    marks: dict[str, list[Row]] = {}
    for row in rows:
        mark = _mark(row["method"], "model" if row["best"] else "rest", row)
        marks.setdefault(row["place"], []).append(mark)
    return [{"place": place, "marks": of_place} for place, of_place in marks.items()]


def _mark(name: str, series: str, row: Row) -> Row:
    return {"name": name, "series": series, **{key: row[key] for key in ("accuracy", "low", "high")}}


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
    return table([row for row in accuracies if row["shots"] in (None, 0, most)])


def dots(table: list[Row], names: dict[str, str]) -> Row | None:
    """A table of accuracies as a picture, one mark per place and series; None where the table is empty.

    Left out are marks that would squeeze the others: similarity where answers are few, undecided majorities.
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


def accuracies_along(accuracies: list[Row], model: str) -> list[Row]:
    """A model on unseen users by shots, on the first of all, known and new items that it was judged on."""
    rows = [row for row in accuracies if (row["users"], row["model"]) == ("unseen", model)]
    first = min((ITEMS.index(row["items"]) for row in rows), default=0)
    return sorted((row for row in rows if row["items"] == ITEMS[first]), key=lambda row: row["shots"] or 0)


def references(accuracies: list[Row]) -> list[Row]:
    """What the model on unseen users by shots is held against, seen users among it."""
    unseen = accuracies_along(accuracies, "model")
    if not unseen:
        return []
    seen = [row for row in ordered(accuracies) if row["users"] == "seen"]
    same_items = [row for row in seen if row["items"] == unseen[0]["items"]]
    held = {model: baseline(accuracies, unseen[-1], model) for model in ("k1", "longer", "majority")}
    held["seen"] = next(iter(same_items or seen), None)
    rows = [(series, row) for series, row in held.items() if row and not _is_undecided(row)]
    return [{"series": series, "accuracy": row["accuracy"]} for series, row in rows]


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
    return pays(*numbers, seen["accuracy"], one["accuracy"], test.get("p") or 0.0)


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
        p, why, others = test.get("differ_p"), test.get("why"), "weights shuffled among them"
        shown = not why and p is not None and p < 0.05
        if why:
            said.append(f"Whether {users} users prefer differently cannot be told: {why}.")
        elif shown:
            better = f"The own weights of {users} users foretell their answers better than {others}"
            said.append(f"{better} (p = {p:.3g}): they prefer differently.")
        elif p is not None:
            alike = f"{others} foretell their answers about as well (p = {p:.3g})"
            said.append(f"That {users} users prefer differently is not shown: {alike}.")
        if _clear(test) and test["difference"] > 0 and not shown and (why or p is not None):
            said.append("The gain may come from what they are asked, or from how carefully they answer.")
    return unbroken(" ".join(said)) or "The model was not compared with one reward for everyone (K = 1)."


def _compared(whose: str, test: Row, first: str, second: str) -> str:
    """Which of two is better, in a sentence that claims no more than users, interval and p-value do."""
    difference, low, high, p = (test.get(key) for key in ("difference", "low", "high", "p"))
    clear, users = _clear(test), test.get("users")
    apart = f"a difference of {points(difference)} points"
    if users is not None and users < FEW_PEOPLE:
        who = "1 user is" if users == 1 else f"{users:.0f} users are"
        said = f"{who} too few to tell {first} from {second}: {apart}"
    elif not clear:
        said = f"{first} and {second} cannot be told apart: {apart}"
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
    encoder = (evaluated["encoder"]["responses"] or {}).get("name", "")
    names = {"longer": "the longer response", "similarity": f"{encoder} similarity"}
    beside = {key: test for key, test in evaluated["beside"].items() if test["difference"] is not None}
    tests = [(beside[key], name) for key, name in names.items() if key in beside]
    said = [_compared("On seen users", test, name_of(evaluated), name) for test, name in tests]
    longer = beside.get("longer")
    if longer and not (_clear(longer) and longer["difference"] > 0):
        said.append(
            "A reward sees nothing of a text but its embedding, from which its length can hardly be read, "
            "and has only the training comparisons to learn it from."
        )
    return unbroken(" ".join(said))


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
            free = "Users may stand anywhere between them, which leaves them free"
            remedy = f" {free}; {evaluated['dataset']}.train.grid_points: 0 ties each user to one."
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
        who = " and ".join(many)
        said.append(f"No mix of these prototypes describes {who}: they stand outside the hull.")
    return [unbroken(sentence) for sentence in said]


def _joined(numbers: list[int]) -> str:
    return ", ".join(map(str, numbers))
