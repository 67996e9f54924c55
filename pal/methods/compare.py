"""Methods side by side on held-out comparisons: which one serves these people best, and how sure that is.

Each method is judged at the same places: people it was fitted to, on items that training knew and on new
ones, and people it first meets with none, few and more of their answers. Differences are paired by person,
and corrected for their number by Holm's method.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from time import perf_counter
from typing import Any, NamedTuple

import torch
from jaxtyping import Bool, Int
from torch import Tensor
from tqdm import tqdm

from pal.comparisons import Comparisons, Embeddings
from pal.errors import PalError
from pal.evaluation.accuracy import Judged, Paired, calibrate, confidence_interval, paired_test, worst_decile
from pal.methods.base import Learned, Method, Task
from pal.models.base import margins

SHOTS = (0, 5, 10, 20, 50)  # answers of people whom the fit did not meet
NEW_AT = 20  # answers from which these are judged on new items
LEVEL = 0.05
Row = dict[str, Any]


class Place(NamedTuple):
    """Whose comparisons, on which items, from how many of a person's answers (None: those fitted to)."""

    users: str
    items: str
    answers: int | None

    def __str__(self) -> str:
        who = "known people" if self.answers is None else f"new people, {self.answers} answers"
        return f"{who}, {self.items} items"


@dataclass(frozen=True)
class Held:
    """Comparisons to judge on, and the answers that may be known of those who made them."""

    known: Comparisons
    test: Comparisons
    n_users: int


@dataclass(frozen=True)
class Judgement:
    """How a method did at one place."""

    judged: Judged
    log_loss: float  # mean of -log P(chosen), in nats
    calibration_error: float  # expected, a share


Results = Mapping[str, Mapping[Place, Judgement]]  # by the method's name


def first_answers(user: Int[Tensor, " n"], n_users: int, answers: int) -> Bool[Tensor, " n"]:
    """Which answers are among the first so many of users who have that many; nested in the number."""
    counts = torch.bincount(user, minlength=n_users)
    order = torch.argsort(user, stable=True)
    place = torch.empty_like(order)
    place[order] = torch.arange(len(user)) - (counts.cumsum(0) - counts)[user[order]]
    return (place < answers) & (counts[user] >= answers)


def places(
    known: Mapping[str, Comparisons], tests: Mapping[tuple[str, str], Comparisons], n_users: Mapping[str, int]
) -> dict[Place, Held]:
    """What methods are judged on, in the order of tables; places without comparisons are left out.

    `known` are, for `seen` users, the answers that were fitted to, and for `unseen` those that locate them;
    `tests` are held out, by users and by items, `known` or `new`, without ties.
    """
    found = {
        Place("seen", items, None): Held(known["seen"], tests["seen", items], n_users["seen"])
        for items in ("known", "new")
    }
    counts = torch.bincount(known["unseen"].user, minlength=n_users["unseen"])
    by_items = {items: tests["unseen", items] for items in ("known", "new")}
    first = "known" if len(by_items["known"]) else "new"
    for items in dict.fromkeys((first, "new")):
        for answers in SHOTS if items == first else (NEW_AT,):
            rows = first_answers(known["unseen"].user, n_users["unseen"], answers)
            test = by_items[items]
            found[Place("unseen", items, answers)] = Held(
                known["unseen"][rows.nonzero()[:, 0]],
                test[(counts[test.user] >= answers).nonzero()[:, 0]],
                n_users["unseen"],
            )
    return {place: held for place, held in found.items() if len(held.test)}


def judge(learned: Learned, embeddings: Embeddings, place: Place, held: Held) -> Judgement:
    """Judge by probabilities that are averaged over the belief about each person.

    Where the fit itself leaves people free states, without a prior, these are taken for the people that it
    was fitted to.
    """
    test = held.test
    if place.answers is None and learned.config.objective == "pal":
        with torch.no_grad():
            margin = margins(learned.fitted.head, learned.fitted.states, embeddings, test).double()
    else:
        belief = learned.posterior(embeddings, held.known, held.n_users)
        margin = torch.logit(learned.probability(embeddings, test, belief).clamp(1e-6, 1 - 1e-6))
    return Judgement(
        Judged.from_margins(margin, test.user, n_users=held.n_users),
        -torch.nn.functional.logsigmoid(margin).mean().item(),
        calibrate(margin, test.sign).error,
    )


def compare(
    methods: Mapping[str, Method], task: Task, held: Mapping[Place, Held], desc: str = "compare"
) -> Row:
    """Fit each method to the task, and judge it on what is held out, from `places`; `desc` names a bar.

    Returned are `answer` and `verdict` of `decide`, `rows` of `table`, and `notes`, why one was left out.
    """
    results, seconds, notes = {}, {}, []
    with tqdm(methods.items(), desc=desc, unit="method", delay=1, disable=None) as bar:
        for name, method in bar:
            bar.set_postfix_str(name)
            start = perf_counter()
            try:
                learned = method.learn(task)
            except PalError as error:
                notes.append(f"{name} was left out: {error}")
                continue
            seconds[name] = perf_counter() - start
            results[name] = {place: judge(learned, task.embeddings, place, at) for place, at in held.items()}
    answer, verdict = decide(results, methods)
    return {"answer": answer, "verdict": verdict, "rows": table(results, seconds), "notes": notes}


def holm(p_values: Sequence[float]) -> list[float]:
    """P-values corrected for their number by Holm's step-down method (1979)."""
    corrected, least = list(p_values), 0.0
    for rank, index in enumerate(sorted(range(len(p_values)), key=p_values.__getitem__)):
        least = max(least, min(1.0, (len(p_values) - rank) * p_values[index]))
        corrected[index] = least
    return corrected


def corrected(differences: Mapping[str, Paired]) -> dict[str, float]:
    """The p-values of differences, corrected for their number."""
    return dict(zip(differences, holm([each.p_value for each in differences.values()]), strict=True))


def table(results: Results, seconds: Mapping[str, float]) -> list[Row]:
    """A row for each place and method: its numbers, and its difference to the best method there.

    Accuracies are means over users, all alike; `p_value` is corrected for the methods of the place. `seconds`
    are how long each was fitted.
    """
    rows: list[Row] = []
    for place in next(iter(results.values()), {}):
        judged = {name: by_place[place].judged for name, by_place in results.items()}
        best = max(judged, key=lambda name: judged[name].macro)
        differences = {name: paired_test(judged[name], judged[best]) for name in judged if name != best}
        p_values = corrected(differences)
        for name, of_users in judged.items():
            low, high = confidence_interval(of_users, mean="macro")
            apart = differences.get(name, Paired(0.0, 0.0, 0.0, 1.0, 0))
            numbers = {
                "accuracy": of_users.macro,
                "low": low,
                "high": high,
                "worst_decile": worst_decile(of_users),
                "log_loss": results[name][place].log_loss,
                "calibration_error": results[name][place].calibration_error,
                "difference": apart.difference,
                "difference_low": apart.low,
                "difference_high": apart.high,
                "p_value": p_values.get(name, 1.0),
                "seconds": seconds[name],
            }
            about = {**place._asdict(), "place": str(place), "method": name, "best": name == best}
            counts = {"n_users": len(of_users.with_comparisons().total), "n_pairs": int(of_users.total.sum())}
            rows.append({**about, **{key: round(x, 5) for key, x in numbers.items()}, **counts})
    return rows


def printed(rows: Sequence[Row]) -> str:
    """The table as text, one block a place."""
    lines: list[str] = []
    for place in dict.fromkeys(row["place"] for row in rows):
        lines.append(f"{place}: accuracy and interval, worst tenth, log-loss, calibration error, p")
        for row in (row for row in rows if row["place"] == place):
            ends = f"{100 * row['low']:5.1f} to {100 * row['high']:5.1f}"
            others = f"{100 * row['worst_decile']:5.1f}  {row['log_loss']:.3f}"
            others += f"  {100 * row['calibration_error']:4.1f}"
            against = "best" if row["best"] else f"{row['p_value']:.3f}"
            lines.append(f"  {row['method']:<22} {100 * row['accuracy']:5.1f}  {ends}  {others}  {against}")
        lines.append("")
    return "\n".join(lines)


def decide(results: Results, methods: Mapping[str, Method]) -> tuple[str, str]:
    """Whether personalising pays: an answer in a few words, and a sentence with method, points and p-value.

    The best personal method is held against the best with one reward for everyone, at the first place. It is
    recommended only where it gains there beyond chance, and loses on new items nowhere.
    """
    shared = [name for name in results if not methods[name].personal]
    personal = [name for name in results if methods[name].personal]
    at = list(next(iter(results.values()), {}))
    if not (shared and personal and at):
        return "Not measured", (
            "Whether personalising pays was not measured: compare.methods must hold a method with one reward "
            "for everyone, such as bt, and a personal one, such as mixed_effects."
        )
    first = at[0]
    base = max(shared, key=lambda name: results[name][first].judged.macro)

    def gain(name: str, place: Place) -> Paired:
        return paired_test(results[name][place].judged, results[base][place].judged)

    gains = {name: gain(name, first) for name in personal}
    p_values = corrected(gains)
    surely = [name for name in personal if p_values[name] < LEVEL and gains[name].difference > 0]
    new = [place for place in at[1:] if place.items == "new"]
    safe = [name for name in surely if all(gain(name, place).difference >= 0 for place in new)]
    best = max(safe or surely or personal, key=lambda name: gains[name].difference)
    if safe:
        answer, opening = "Yes", "Personalising pays on these data"
    elif surely:
        answer = "Not on new items"
        opening = (
            "Do not personalise by these numbers, since what is gained on known items is lost on new ones"
        )
    else:
        answer, opening = "Not shown", "These data do not show that personalising pays"
    beside = [*new, *(place for place in at if place.answers == NEW_AT and place.items != "new")]
    more = "".join(f"; {place}: {_points(gain(best, place))}" for place in dict.fromkeys(beside))
    # Where the first place is of new items, all of them are.
    untested = "" if new or first.items == "new" else "; new items were not tested"
    return answer, (
        f"{opening}: {best} ({methods[best].title}) less {base}, in points of accuracy, {first}: "
        f"{_points(gains[best])}, p = {p_values[best]:.2g} after Holm over {len(personal)}{more}{untested}."
    )


def _points(paired: Paired) -> str:
    difference, low, high = (100 * x for x in (paired.difference, paired.low, paired.high))
    return f"{difference:+.1f} (95 % interval {low:+.1f} to {high:+.1f})"
