"""From a log to a personal reward model: read, held out, encoded, fitted, judged, and fitted again on all.

    from pal import fit

    result = fit("answers.csv", out="mine")
    result.model.rank("What now?", ["Try more.", "Read on."], user="ann")

People and answers are held out to measure; the model that one keeps is then fitted again to all people and
all answers, with the settings and epochs of the one that was measured.

Shapes used in this module:
    n       comparisons
    users   people
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import torch
from jaxtyping import Float, Int
from torch import Tensor

from pal.comparisons import Comparisons
from pal.config import preset, registered
from pal.errors import PalError
from pal.evaluation.accuracy import Judged, confidence_interval, paired_test
from pal.evaluation.choose_k import USER_FOLDS, choose_k
from pal.files import new_folder, write_bytes, write_json, write_text
from pal.logs.shapes import Log, read_log
from pal.methods import METHODS
from pal.methods.auto import FEWEST_PEOPLE
from pal.methods.base import Learned, Task
from pal.methods.compare import compare as judge_methods
from pal.methods.compare import places
from pal.models.base import margins
from pal.serving.encoded_log import PARTS, Encoded, Options, encode_log, place, progress
from pal.serving.log_report import people_of_log, render, verdict
from pal.serving.reward_model import RewardModel
from pal.serving.saved_model import CARD

PROTOTYPES = 3  # of the candidates of the method auto
MOST_PROTOTYPES = 5  # tried where K is auto
MOST_VALUES = 20  # of an attribute
FEWEST_COMPARISONS = 2
KEPT, MEASURED = "model", "measured"  # folders: the model to use, and the one that the numbers are of
METRICS, REPORT, REJECTED = "metrics.json", "report.html", "rejected-rows.csv"


@dataclass(frozen=True)
class Result:
    """What a fit of a log gives.

    Args:
        model: Fitted to all people and answers.
        measured: Fitted without the people and answers that were held out: the one that `metrics` are of.
        metrics: What was measured, ready for JSON.
        log: What was read.
        rejected: The rows that were not learned from: file, row, reason.
        people: What the report shows of the people.
    """

    model: RewardModel
    measured: RewardModel
    metrics: dict[str, Any] = field(repr=False)
    log: Log = field(repr=False)
    rejected: pl.DataFrame = field(repr=False)
    people: dict[str, Any] = field(repr=False)

    @property
    def verdict(self) -> str:
        """What the numbers say, in sentences."""
        return str(self.metrics["verdict"])

    def save(self, folder: Path | str) -> None:
        """Write models, numbers, report and rejected rows into a folder, all or nothing.

        Raises:
            PalError: If something else is at that place.
        """
        folder = Path(folder)
        if folder.exists() and not (folder / METRICS).is_file():
            raise PalError(
                f"{folder} is there already, and not from `pal fit`; choose another place with --out"
            )
        people, answers = self.metrics["people"], self.metrics["comparisons"]
        cards = {
            KEPT: f"Fitted to all {people:,} people and {answers:,} comparisons. The numbers in ../{METRICS} "
            f"are of ../{MEASURED}, which was fitted the same way without those that were held out.\n",
            MEASURED: f"Fitted without the people and answers that were held out; ../{METRICS} has its "
            f"numbers. Use ../{KEPT}.\n",
        }  # fmt: skip
        with new_folder(folder) as new:
            for name, model in ((KEPT, self.model), (MEASURED, self.measured)):
                for file, data in model.files().items():
                    write_bytes(new / name / file, data)
                write_text(new / name / CARD, cards[name])
            write_json(new / METRICS, self.metrics)
            write_text(new / REPORT, render(self.metrics, self.log.summary(), self.people))
            write_text(new / REJECTED, self.rejected.write_csv())


def fit(
    source: Any,
    *,
    out: Path | str | None = None,
    columns: Mapping[str, str] | None = None,
    values: Mapping[str, str] | None = None,
    options: Options | None = None,
    say: Any = None,
    **others: Any,
) -> Result:
    """Fit a personal reward model to a log; see `Options` for what else may be given by name.

    Args:
        source: What `pal.logs.shapes.read_log` reads.
        out: A folder to write to; None writes nothing.
        columns: Columns by role, where their names do not tell.
        values: What values of the winner mean.
        options: How; or single ones of them by name.
        say: Called with each sentence on what was understood and done.
        **others: Single options.

    Raises:
        PalError: If the log cannot be read, or there is too little in it.
    """
    options = replace(options or Options(), **others)
    say = say or (lambda _: None)
    log = read_log(
        source, columns, values=values, ties=options.ties, attributes=options.attributes, seed=options.seed
    )
    say(log.summary())
    if out is not None and Path(out).exists() and not (Path(out) / METRICS).is_file():
        raise PalError(f"{out} is there already, and not from `pal fit`; choose another place with --out")
    data = encode_log(log, options)
    if len(data.comparisons) < FEWEST_COMPARISONS:
        got = len(data.comparisons)
        raise PalError(f"{log.table.source} must hold at least {FEWEST_COMPARISONS} comparisons, got {got}")
    part = place(data, options)
    method, K, why = _settings(data, part, options)
    if merged := len(log.pairs) - len(data.comparisons):
        why = (
            f"{len(data.comparisons):,} comparisons, one of each person and question; {merged:,} more told "
            f"the same again, or could not be encoded\n{why}"
        )
    measured, learned = _fit(data, part, method, K, options, "measure")
    method = learned.method or method
    say(why := "\n".join([why, *learned.said]))
    personal = registered(METHODS, method).personal and (K > 1 or not registered(METHODS, method).prototypes)
    shared = _fit(data, part, "bt", 1, options, "one for everyone", None)[0] if personal else measured
    looked = options.method == "auto" and len(measured.user_ids) >= FEWEST_PEOPLE
    metrics = _measure(data, part, measured, shared, personal=personal, looked=looked)
    people = people_of_log(log, data, part, measured, shared if personal else None)
    of_all = None if measured.attributes is None else "in"
    final, _ = _fit(data, np.zeros_like(part), method, K, options, "fit all", of_all, learned.scale)
    metrics = {
        "source": log.table.source,
        "read_as": {"columns": dict(columns or {}), "values": dict(values or {})},
        "people": len(data.user_ids),
        "comparisons": len(data.comparisons),
        "parts": {" ".join(name): int((part == n).sum()) for n, name in enumerate(PARTS)},
        "method": method,
        "K": final.config.K,
        "settings": why,
        **metrics,
        "answers_at_random": _round(people["answering"]["lapse"] or 0.0),
    }
    if told := [row for row in people["answering"]["rows"] if row["why"]]:
        metrics["look_at"] = {row["user_id"]: row["why"] for row in told}
        say(people["answering"]["sentence"])
    if by := _by_attribute(log, data, part, measured, shared):
        metrics["by"] = by
    result = Result(final, measured, metrics, log, data.rejected, people)
    say(result.verdict)
    if out is not None:
        result.save(out)
    return result


def _settings(data: Encoded, part: Int[np.ndarray, " n"], options: Options) -> tuple[str, int, str]:
    """Method, prototypes and why: as asked, or by cross-validation."""
    name = options.method
    if name not in METHODS:
        raise PalError(f"--method must be one of {', '.join(METHODS)}, got {name!r}")
    train, n_users = data.of_part(part, 0)
    if n_users < 2:
        return "bt", 1, "one reward: of one person in training there are no tastes to tell apart"
    method, K = registered(METHODS, name), options.K
    if name == "auto" and K == "auto":
        return name, min(n_users, PROTOTYPES), "auto, by cross-validation over people, answers and items"
    if not method.prototypes:
        return name, 1, f"{name}: {method.title}"
    if K == "auto":
        most, curve = min(MOST_PROTOTYPES, n_users - -(-n_users // USER_FOLDS)), "too few people to choose"
        K = 1
        if n_users >= USER_FOLDS and most > 1:
            head, config = preset("ours", "B" if len(data.embeddings.prompts) else "A", head={"K": 1})
            choice = choose_k(
                data.embeddings, train, n_users=n_users, head=head, config=config,
                candidates=range(1, most + 1), device=options.device, seed=options.seed,
            )  # fmt: skip
            K, curve = choice.K, ", ".join(f"{each.K}: {each.accuracy:.1%}" for each in choice.candidates)
        return name, K, f"{name} with K = {K}, by cross-validation over people ({curve})"
    if not isinstance(K, int) or not 1 <= K <= n_users:
        raise PalError(f"-K must be auto, or from 1 to the {n_users} people that are fitted, got {K!r}")
    return name, K, f"{name} with K = {K}, as asked"


def _fit(
    data: Encoded,
    part: Int[np.ndarray, " n"],
    method: str,
    K: int,
    options: Options,
    what: str,
    attributes: str | None = "judged",
    scale: tuple[float, float] = (1.0, 1.0),
) -> tuple[RewardModel, Learned]:
    """A model of the people in training, and what its method left behind.

    `attributes` are judged (whether they help), in the prior without that, or left alone; a
    Gaussian population is multiplied by `scale`, where no validation answers tell.
    """
    train, n_users = data.of_part(part, 0)
    val, _ = data.of_part(part, 1)
    with progress(None, what) as bar:
        task = Task(
            data.embeddings, train, n_users, val if len(val) else None, K=K, seed=options.seed,
            device=options.device, progress=lambda *_: bar(1),
        )  # fmt: skip
        learned = registered(METHODS, method).learn(task).rescaled(scale, task)
    seen = np.unique(data.comparisons.user.numpy()[np.isin(part, (0, 1, 2))])
    if attributes and any(data.attributes):
        people = [data.attributes[user] for user in seen]
        learned = learned.with_attributes(task, people, judged=attributes == "judged")
    model = RewardModel.from_fit(
        learned.fitted,
        data.embeddings,
        user_ids=[data.user_ids[user] for user in seen],
        fit_config=learned.config,
        encoder=data.encoder,
        attributes=learned.attributes,
    )
    return model, learned


# By name: a model, and users' states.
Rewards = Mapping[str, tuple[RewardModel, Float[Tensor, "users state"]]]


def _measure(
    data: Encoded,
    part: Int[np.ndarray, " n"],
    model: RewardModel,
    shared: RewardModel,
    *,
    personal: bool,
    looked: bool,
) -> dict[str, Any]:
    """Accuracies of the model and of one reward for everyone, on held-out answers and on held-out people."""
    metrics: dict[str, Any] = {}
    known = data.on_known_items(part)
    for of_items, suffix in ((known, ""), (~known, "_on_new_items")):
        test, n_users = data.of_part(part, 2, of_items)
        if not len(test):
            continue
        if "seen" in metrics:  # which are of known items, with which those of new ones are never added up
            found, _ = _judge(data, test, n_users, _both(model, shared, suffix))
            metrics["seen"] |= found | {"people": metrics["seen"]["people"]}
            continue
        metrics["seen"], (own, one) = _judge(data, test, n_users, _both(model, shared))
        paired = paired_test(own, one)
        gain = {"gain": paired.difference, "gain_low": paired.low, "gain_high": paired.high}
        metrics["seen"] |= {name: _round(number) for name, number in gain.items()}
    metrics |= {**_measure_unseen(data, part, model, shared), "one_reward": not personal, "looked": looked}
    return {**metrics, "verdict": verdict(metrics)}


def _both(model: RewardModel, shared: RewardModel, suffix: str = "") -> Rewards:
    """A personal reward and one for everyone, of people who were fitted."""
    return {f"{name}{suffix}": (each, each.states) for name, each in
            (("personal", model), ("one_for_everyone", shared))}  # fmt: skip


def _judge(
    data: Encoded, test: Comparisons, n_users: int, rewards: Rewards
) -> tuple[dict[str, Any], list[Judged]]:
    """People who are tested, the accuracy of each reward with its interval, and its right answers."""
    judged = [
        Judged.from_margins(margins(model.head, states, data.embeddings, test), test.user, n_users=n_users)
        for model, states in rewards.values()
    ]
    found: dict[str, Any] = {"people": int((judged[0].total > 0).sum())}
    for name, each in zip(rewards, judged, strict=True):
        ends = zip(("", "_low", "_high"), (each.micro, *confidence_interval(each)), strict=True)
        found |= {f"{name}{end}": _round(number) for end, number in ends}
    return found, judged


def _by_attribute(
    log: Log, data: Encoded, part: Int[np.ndarray, " n"], model: RewardModel, shared: RewardModel
) -> dict[str, Any]:
    """Accuracies on held-out answers on known items, by the commonest values of each attribute."""
    known = data.on_known_items(part)
    tests, n_users = data.of_part(part, 2, known)
    at, found = data.pairs["at"].filter((part == 2) & known), {}
    for name in log.attributes.columns if len(tests) else ():
        cells = log.attributes[name][at].cast(pl.String).fill_null("")
        found[name] = {}
        for value, count in cells.value_counts(sort=True).head(MOST_VALUES).iter_rows():
            some = tests[torch.from_numpy((cells == value).arg_true().to_numpy().astype(np.int64))]
            accuracies, _ = _judge(data, some, n_users, _both(model, shared))
            found[name][value] = {**accuracies, "answers": count}
    return found


def _measure_unseen(
    data: Encoded, part: Int[np.ndarray, " n"], model: RewardModel, shared: RewardModel | None = None
) -> dict[str, Any]:
    """Accuracies on people who were not fitted, before any answer and located by some; empty without such."""
    n_all = len(data.user_ids)
    if shared is not None and ((known := data.on_known_items(part)) & (part == 4)).any():
        part = np.where(known | (part != 4), part, -1)
    adapt, test = data.rows(part == 3), data.rows(part == 4)
    if not len(test):
        return {}
    options = {"n_users": n_all, "attributes": data.attributes}
    rewards = {
        "personal": (model, model.locate(data.embeddings, adapt, **options)),
        "without_answers": (model, model.locate(data.embeddings, data.rows(part == -2), **options)),
    }
    if shared is not None:
        rewards["one_for_everyone"] = (shared, shared.state_of(None).expand(n_all, -1))
    answers = np.bincount(adapt.user.numpy(), minlength=n_all)
    each = int(np.median(answers[answers > 0])) if len(adapt) else 0
    return {"unseen": {"answers_each": each, **_judge(data, test, n_all, rewards)[0]}}


def compare(
    source: Any,
    methods: Sequence[str],
    *,
    columns: Mapping[str, str] | None = None,
    values: Mapping[str, str] | None = None,
    options: Options | None = None,
    say: Any = None,
) -> dict[str, Any]:
    """Methods side by side on a log: what the pipeline's stage `compare` finds on the same data.

    Args:
        source: What `fit` reads.
        methods: Names of `pal.methods.METHODS`.
        columns: Columns by role, where their names do not tell.
        values: What values of the winner mean.
        options: How people and answers are held out, and how items are encoded; of K, auto is 3.
        say: Called with what was understood.

    Returns:
        As `pal.methods.compare.compare` does.
    """
    options = options or Options()
    chosen = {name: registered(METHODS, name) for name in methods}
    log = read_log(source, columns, values=values, ties=options.ties, seed=options.seed)
    if say:
        say(log.summary())
    data = encode_log(log, options)
    part = place(data, options)
    (train, n_seen), (val, _), _, (adapt, n_unseen), _ = (data.of_part(part, n) for n in range(len(PARTS)))
    known, tests = data.on_known_items(part), {}
    for users, number in (("seen", 2), ("unseen", 4)):
        for items, rows in (("known", known), ("new", ~known)):
            tests[users, items], _ = data.of_part(part, number, rows)
    held = places({"seen": train, "unseen": adapt}, tests, {"seen": n_seen, "unseen": n_unseen})
    K = min(n_seen, PROTOTYPES if options.K == "auto" else int(options.K))
    task = Task(data.embeddings, train, n_seen, val if len(val) else None, K, options.seed, options.device)
    return judge_methods(chosen, task, held)


def evaluate(
    model: RewardModel,
    source: Any,
    *,
    columns: Mapping[str, str] | None = None,
    values: Mapping[str, str] | None = None,
    options: Options | None = None,
    say: Any = None,
) -> dict[str, Any]:
    """Judge a saved model on new comparisons, of people it knows and of people it does not.

    People whom it does not know are located by half of their answers and judged on the others.

    Args:
        model: The model.
        source: What `fit` reads; none of it should have been fitted.
        columns: Columns by role, where their names do not tell.
        values: What values of the winner mean.
        options: Where encoders' weights come from, where they compute, and the seed.
        say: Called with what was understood.

    Raises:
        PalError: If the log cannot be read, or its items are not what the model reads.
    """
    options = options or Options()
    known = list(model.attributes.columns) if model.attributes else []
    log = read_log(source, columns, values=values, known=known, seed=options.seed)
    if say:
        say(log.summary())
    data = encode_log(log, options, model=model)
    user = data.comparisons.user.numpy()
    part = np.where(user < len(model.user_ids), 2, 3)
    new = np.flatnonzero(part == 3)
    if len(new):
        halves = place(data, options, new, unseen_users=0.0, new_items=0.0, val=0.0, test=0.5)
        part[new] = np.where(halves[new] == 2, 4, 3)
    metrics: dict[str, Any] = {"comparisons": len(part), **_measure_unseen(data, part, model)}
    if len(of_seen := data.rows(part == 2)):
        rewards = {"personal": (model, model.states)}
        metrics["seen"], _ = _judge(data, of_seen, len(model.user_ids), rewards)
    return metrics


def _round(number: float) -> float:
    return round(float(number), 4)
