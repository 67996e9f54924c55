"""evaluate: accuracy on seen users, and on unseen users from no, few and more comparisons.

Test pairs are read here and nowhere else. Beside the model stand always the majority's answer, one reward for
everyone (k1), and, where groups are known, the oracle that is told them.
"""

from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch

from pal.accuracy import Judged, balanced_accuracy, bootstrap_interval, calibrate, paired_test, worst_decile
from pal.adapt import comparison_log_likelihoods
from pal.comparisons import Comparisons
from pal.fit import margins
from pal.model import RewardModel
from pipeline import layout, params, study
from pipeline.files import new_folder, read_json, write_csv, write_json
from pipeline.knobs import Evaluate
from pipeline.majority import Majority
from pipeline.portrait import portrait
from pipeline.study import Study
from pipeline.train import CONTROLS, group_weights

MAX_ANSWERS = 10
HEADLINE_SHOTS = 4


@dataclass(frozen=True)
class Test:
    """One model judged on one set of test pairs.

    Args:
        users: seen or unseen.
        items: known, new, or all where only one of these occurs.
        shots: Comparisons from which unseen users were located; None where that does not apply.
        model: model, k1, majority or oracle.
        judged: Right judgements per user; means over the draws of the shots.
        balanced: Balanced accuracy, where all questions share a few answers.
    """

    users: str
    items: str
    shots: int | None
    model: str
    judged: Judged
    balanced: float | None


def main(dataset: str) -> None:
    """Evaluate one dataset's models."""
    values = params.load()
    data = study.load(dataset)
    models = {"model": RewardModel.load(layout.models(dataset) / "model")}
    for name in CONTROLS:
        if (layout.models(dataset) / name).is_dir():
            models[name] = RewardModel.load(layout.models(dataset) / name)
    majority = Majority.of(data.select("seen", "train"))
    tests = [*judge_seen(data, models, majority), *judge_unseen(data, models, majority, values.evaluate)]
    rows = [_row(test, values.evaluate) for test in tests]
    plurality = {users: _plurality(tests, users, values.evaluate) for users in ("seen", "unseen")}
    calibration = _calibration(data, models["model"])
    write_json(layout.metrics(dataset), headline(tests, plurality, values.evaluate))
    write_csv(layout.plot("details", dataset), rows)
    write_csv(layout.plot("few_shot", dataset), [_curve(row) for row in rows if _on_curve(row)])
    write_csv(layout.plot("calibration", dataset), calibration["bins"])
    with new_folder(layout.evaluated(dataset)) as folder:
        whole = {
            "dataset": dataset,
            "source": _source(dataset),
            "encoder": _encoder(data),
            "head": models["model"].config.model_dump(),
            "fit": models["model"].fit_config.model_dump(),
            "counts": _counts(data),
            "accuracies": rows,
            "plurality": plurality,
            "calibration": calibration,
            "training": _training(layout.plot("training", dataset)),
            **portrait(data, models["model"], values.report.items_per_prototype, _per_user(tests)),
        }
        write_json(folder / "evaluated.json", whole)


def judge_seen(data: Study, models: dict[str, RewardModel], majority: Majority) -> list[Test]:
    """Every model on the seen users' test pairs, on known and on new items apart."""
    tests = []
    for items, rows in _parts(data, "seen"):
        pairs = data.select("seen", "test", rows)
        found = {"majority": majority.margins(pairs)}
        for name, model in models.items():
            with torch.inference_mode():
                found[name] = margins(model.head, model.weights, data.embeddings, pairs)
        tests += [_test("seen", items, None, name, m, pairs, data) for name, m in found.items()]
    return tests


def judge_unseen(
    data: Study, models: dict[str, RewardModel], majority: Majority, knobs: Evaluate
) -> list[Test]:
    """Every model on the unseen users' test pairs; the model from 0, 1, … shots, averaged over the draws."""
    tests = []
    located = locate(data, models["model"], knobs)
    for items, rows in _parts(data, "unseen"):
        pairs = data.select("unseen", "test", rows)
        found = {"majority": majority.margins(pairs)}
        n_users = data.n_users("unseen")
        given = {"k1": torch.ones(n_users, 1), "oracle": group_weights(data, "unseen")}
        for name, weights in given.items():
            if name in models and weights is not None:
                with torch.inference_mode():
                    found[name] = margins(models[name].head, weights, data.embeddings, pairs)
        tests += [_test("unseen", items, None, name, m, pairs, data) for name, m in found.items()]
        for shots, draws in located.items():
            tests.append(_test_of_draws(data, models["model"], items, shots, draws, pairs))
    return tests


def locate(data: Study, model: RewardModel, knobs: Evaluate) -> dict[int, list[torch.Tensor]]:
    """Unseen users' weights from each number of shots, one table per draw; nested within a draw (D18)."""
    pairs = data.select("unseen", "adapt")
    n_users = data.n_users("unseen")
    generator = torch.Generator().manual_seed(knobs.seed)
    with torch.inference_mode():
        each = comparison_log_likelihoods(
            model.head, model.prior, data.embeddings, pairs, model.fit_config.loss
        )
        located = {0: [model.prior.weights(each.new_zeros(n_users, each.shape[1]))]}
        for _ in range(knobs.draws):
            place = places_in_user(pairs.user, n_users, generator)
            for shots in knobs.shots:
                rows = (place < shots).nonzero().squeeze(1)
                total = each.new_zeros(n_users, each.shape[1]).index_add(0, pairs.user[rows], each[rows])
                located.setdefault(shots, []).append(model.prior.weights(total))
    return located


def places_in_user(user: torch.Tensor, n_users: int, generator: torch.Generator) -> torch.Tensor:
    """Each comparison's place, from 0, in a random order of its user's comparisons."""
    shuffled = torch.randperm(len(user), generator=generator)
    order = shuffled[torch.argsort(user[shuffled], stable=True)]
    counts = torch.bincount(user, minlength=n_users)
    starts = (counts.cumsum(0) - counts).repeat_interleave(counts)
    place = torch.empty_like(user)
    place[order] = torch.arange(len(user)) - starts
    return place


def _parts(data: Study, users: str) -> list[tuple[str, str | None]]:
    """The kinds of items among the test pairs, by the name to report them under; one kind alone is all."""
    here = data.places.filter((data.places["users"] == users) & (data.places["split"] == "test"))
    kinds = sorted(here["items"].unique().to_list())
    return [("all", None)] if len(kinds) == 1 else [(kind, kind) for kind in kinds]


def _test(
    users: str,
    items: str,
    shots: int | None,
    model: str,
    found: torch.Tensor,
    pairs: Comparisons,
    data: Study,
) -> Test:
    judged = Judged.of(found, pairs.user, n_users=data.n_users(users))
    return Test(users, items, shots, model, judged, _balanced(found, pairs))


def _test_of_draws(
    data: Study, model: RewardModel, items: str, shots: int, draws: list[torch.Tensor], pairs: Comparisons
) -> Test:
    with torch.inference_mode():
        found = [margins(model.head, weights, data.embeddings, pairs) for weights in draws]
    judged = [Judged.of(m, pairs.user, n_users=data.n_users("unseen")) for m in found]
    mean = Judged(sum(j.right for j in judged) / len(judged), judged[0].total)
    balanced = [_balanced(m, pairs) for m in found]
    several = None if balanced[0] is None else sum(balanced) / len(balanced)
    return Test("unseen", items, shots, "model", mean, several)


def _balanced(found: torch.Tensor, pairs: Comparisons) -> float | None:
    """Balanced accuracy where all questions share a few answers, as yes and no."""
    q = pairs.questions
    chosen = torch.where(pairs.sign > 0, q.first[pairs.question], q.second[pairs.question])
    if len(torch.unique(chosen)) > MAX_ANSWERS:
        return None
    return balanced_accuracy(found, chosen)


def _row(test: Test, knobs: Evaluate) -> dict[str, Any]:
    low, high = bootstrap_interval(test.judged, resamples=knobs.resamples, seed=knobs.seed)
    return {
        "users": test.users,
        "items": test.items,
        "shots": test.shots,
        "model": test.model,
        "accuracy": _round(test.judged.micro),
        "low": _round(low),
        "high": _round(high),
        "macro": _round(test.judged.macro),
        "balanced": _round(test.balanced),
        "worst_decile": _round(worst_decile(test.judged)),
        "n_users": int((test.judged.total > 0).sum()),
        "n_pairs": int(test.judged.total.sum()),
    }


def find(
    tests: list[Test], users: str, model: str, *, shots: int | None = None, new: bool = False
) -> Test | None:
    """The test of a model on known items (all, where there is one kind), or on new ones."""
    wanted = ("new",) if new else ("known", "all")
    for test in tests:
        if (test.users, test.model, test.shots) == (users, model, shots) and test.items in wanted:
            return test
    return None


def _plurality(tests: list[Test], users: str, knobs: Evaluate) -> dict[str, float | None]:
    """Whether the model beats one reward for everyone, paired by user; nulls where it is one reward."""
    shots = None if users == "seen" else knobs.headline_shots
    model, k1 = find(tests, users, "model", shots=shots), find(tests, users, "k1")
    if model is None or k1 is None:
        return {"difference": None, "low": None, "high": None, "p": None}
    test = paired_test(model.judged, k1.judged, seed=knobs.seed, resamples=knobs.resamples)
    return {
        "difference": _round(test.difference),
        "low": _round(test.low),
        "high": _round(test.high),
        "p": _round(test.p_value),
    }


def headline(
    tests: list[Test], plurality: dict[str, dict[str, float | None]], knobs: Evaluate
) -> dict[str, Any]:
    """The numbers kept in Git and shown by `dvc metrics diff`: at most 15."""

    def accuracy(users: str, model: str, **which: Any) -> dict[str, float]:
        test = find(tests, users, model, **which)
        return {} if test is None else {"accuracy": _round(test.judged.micro)}

    model = find(tests, "seen", "model")
    seen: dict[str, Any] = accuracy("seen", "model")
    seen["balanced_accuracy"] = _round(model.balanced) if model else None
    seen["worst_decile"] = _round(worst_decile(model.judged)) if model else None
    seen["new_items"] = accuracy("seen", "model", new=True)
    for name in ("k1", "majority", "oracle"):
        seen[name] = accuracy("seen", name)
    seen["plurality_p"] = plurality["seen"]["p"]
    shots = sorted({knobs.headline_shots, *sorted(set(knobs.shots))[-HEADLINE_SHOTS + 1 :]})
    unseen = {
        "zero_shot": accuracy("unseen", "model", shots=0),
        "few_shot": {str(n): accuracy("unseen", "model", shots=n) for n in shots},
        "new_items": accuracy("unseen", "model", shots=knobs.headline_shots, new=True),
        "k1": accuracy("unseen", "k1"),
    }
    return _without_empty({"seen": seen, "unseen": unseen})


def _without_empty(value: Any) -> Any:
    if not isinstance(value, dict):
        return value
    kept = {key: _without_empty(part) for key, part in value.items() if part is not None}
    return {key: part for key, part in kept.items() if part != {}}


def _on_curve(row: dict[str, Any]) -> bool:
    return row["users"] == "unseen" and row["model"] == "model" and row["items"] != "new"


def _curve(row: dict[str, Any]) -> dict[str, Any]:
    return {name: row[name] for name in ("shots", "accuracy", "low", "high")}


def _calibration(data: Study, model: RewardModel) -> dict[str, Any]:
    """Predicted against observed, on all the seen users' test pairs."""
    pairs = data.select("seen", "test")
    with torch.inference_mode():
        found = margins(model.head, model.weights, data.embeddings, pairs)
    table = calibrate(found, pairs.sign)
    bins = [
        {name: _round(value) if isinstance(value, float) else value for name, value in asdict(b).items()}
        for b in table.bins
    ]
    return {"ece": _round(table.error), "bins": bins}


def _counts(data: Study) -> dict[str, int]:
    manifest = read_json(layout.splits(data.dataset) / "manifest.json", f"split@{data.dataset}")
    return {
        "seen_users": data.n_users("seen"),
        "unseen_users": data.n_users("unseen"),
        "items": len(set(data.prompt_ids) | set(data.response_ids)),
        "train_pairs": len(data.select("seen", "train")),
        "test_pairs": len(data.select("seen", "test")) + len(data.select("unseen", "test")),
        "dropped_pairs": manifest["counts"]["dropped"],
        "dropped_users": manifest["counts"]["users_dropped"],
    }


def _encoder(data: Study) -> dict[str, Any]:
    about = asdict(data.embedders["responses"])
    return {"name": about.pop("encoder"), **about}


def _per_user(tests: list[Test]) -> dict[str, Any]:
    """Each user's accuracy, by half: seen as trained, unseen from the most shots."""
    found: dict[str, Any] = {}
    for test in tests:
        if test.model == "model" and test.items in ("known", "all"):
            found[test.users] = test.judged.per_user
    return found


def _source(dataset: str) -> str:
    return read_json(layout.prepared(dataset) / "manifest.json", f"prepare@{dataset}")["source"]


def _training(path: Path) -> list[dict[str, float | None]]:
    import csv

    with path.open(encoding="utf-8", newline="") as file:
        return [{k: float(v) if v else None for k, v in row.items()} for row in csv.DictReader(file)]


def _round(value: float | None) -> float | None:
    """Six digits: more are noise, and would differ between machines."""
    return None if value is None else round(float(value), 6)
