"""What `pal fit` and the pipeline make of one log with the same settings is the same, to the byte."""

import json
import random

import pytest

from pal import fit
from pal.serving.fit_log import Options
from pal.serving.fit_log import compare as compare_log
from pal.serving.reward_model import RewardModel
from pipeline import paths
from pipeline.stages import compare, download, encode, evaluate, prepare, split, train

SAME = {
    # Of the pipeline's metrics, and of what pal fit measured.
    ("seen", "accuracy"): ("seen", "personal"),
    ("seen", "new_items", "accuracy"): ("seen", "personal_on_new_items"),
    ("seen", "k1", "accuracy"): ("seen", "one_for_everyone"),
    ("unseen", "zero_shot", "accuracy"): ("unseen", "without_answers"),
    ("unseen", "k1", "accuracy"): ("unseen", "one_for_everyone"),
}


def answers(prompts, people=24, country=False):
    """People of whom half like short answers and half warm ones; a fifth of the answers are noise."""
    rng, rows = random.Random(0), ["rater,question,chosen,rejected" + ",country" * country]
    for user in range(people):
        for question in range(14):
            a, b = (
                f"{way} {rng.randrange(6)} {question}" for way in ("click it now", "dear friend, we love to")
            )
            asked = f"question {question % 7}?" if prompts else ""
            sides = (b, a) if (user % 2) ^ (rng.random() < 0.2) else (a, b)
            rows.append(
                ",".join([f"p{user}", asked, *(f'"{side}"' for side in sides), *[str(user % 2)] * country])
            )
    return "\n".join(rows) + "\n"


def without_seconds(row):
    return {name: value for name, value in row.items() if name != "seconds"}


def at(metrics, path):
    for name in path:
        metrics = metrics.get(name, {})
    return metrics or None


@pytest.mark.parametrize(
    ("method", "prompts", "item", "attributes"),
    [("bt", False, "separate", []), ("mixed_effects", True, "{prompt} {response}", ["country"])],
)
def test_model_and_accuracies_are_equal(project, method, prompts, item, attributes):
    """But for accuracies from few answers: the pipeline draws some many times, pal fit takes all that there are."""
    # Attributes are learned from twenty people upwards.
    (project.root / "a.csv").write_text(answers(prompts, 32 if attributes else 24, country=bool(attributes)))
    options = {"own.encoder": "hashed-words", "own.method": method, "evaluate.asked": 0}
    options |= {"own.prepare.item": item, "own.prepare.attributes": attributes}
    project.set({"datasets": ["own"], "own.source": "a.csv", "model.K": 2, "encode.device": "cpu", **options})
    project.set({"train.device": "cpu"})
    for stage in (download, prepare, split, encode, train, evaluate):
        stage.main("own")
    result = fit("a.csv", encoder="hashed-words", method=method, K=2, item=item, attributes=attributes)
    model = RewardModel.load(paths.models("own") / "model")
    assert (model.fingerprint, model.user_ids) == (result.measured.fingerprint, result.measured.user_ids)
    assert model.states.equal(result.measured.states)
    assert (model.attributes is not None) == bool(attributes)
    assert model.encoder == result.measured.encoder
    metrics = json.loads(paths.metrics("own").read_text())
    found = {name: at(metrics, name) for name in SAME}
    assert found == {name: at(result.metrics, other) for name, other in SAME.items()}
    assert sum(value is not None for value in found.values()) >= 4
    methods = list(dict.fromkeys(["bt", method]))
    project.set({"compare.methods": methods})
    compare.main("own")
    rows = json.loads(paths.compared("own").read_text())["rows"]
    table = compare_log("a.csv", methods, options=Options(encoder="hashed-words", K=2, item=item))["rows"]
    assert [without_seconds(row) for row in rows] == [without_seconds(row) for row in table]
