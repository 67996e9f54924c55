"""From a log to a model, with a bag of hashed words in place of a network: people like short answers, or warm."""

import json

import polars as pl
import pytest
import torch

from pal import PalError, RewardModel, fit, preset
from pal.methods import base
from pal.serving import fit_log as fit_log_module
from pal.serving.fit_log import evaluate
from pal.users.taste import Taste

FAST = {"encoder": "hashed-words", "method": "pal_ours", "K": 2, "seed": 1}
SHORT, WARM = "click it now", "dear friend, we love to help you"


@pytest.fixture(scope="module", autouse=True)
def few_epochs():
    """Fits of a second."""
    with pytest.MonkeyPatch.context() as patch:
        options = {"epochs": 40, "restarts": 1, "validate_every": 10}

        def quick(*given, head, fit=None):
            return preset(*given, head=head, fit={**(fit or {}), **options})

        for module in (fit_log_module, base):
            patch.setattr(module, "preset", quick)
        yield


def rows(people, prompts=8):
    for person in range(people):
        for prompt in range(prompts):
            sides = (f"{SHORT} {prompt}", f"{WARM} {prompt}")
            yield f"p{person}", f"question {prompt}?", *(sides if person % 2 else sides[::-1])


def write(path, people, extra=()):
    frame = pl.DataFrame(
        [*rows(people), *extra], schema=["rater", "question", "chosen", "rejected"], orient="row"
    )
    frame.write_csv(path)
    return path


@pytest.fixture(scope="module")
def fitted(tmp_path_factory):
    folder = tmp_path_factory.mktemp("fit")
    extra = [("p0", "question 0?", "the same", "the same"), ("p3", "question 1?", "\u200b", SHORT)]
    said = []
    log = write(folder / "answers.csv", 20, extra)
    return folder, fit(log, out=folder / "mine", say=said.append, **FAST), said


def test_everyone_is_in_the_model_that_is_kept_and_not_in_the_measured_one(fitted):
    folder, result, _ = fitted
    kept, measured = RewardModel.load(folder / "mine"), RewardModel.load(folder / "mine/measured")
    assert kept.user_ids == result.model.user_ids == sorted(f"p{n}" for n in range(20))
    assert len(measured.user_ids) == 16
    responses = [f"{SHORT} 9", f"{WARM} 9"]
    for user, best in (("p0", 1), ("p1", 0)):
        assert kept.rank("question 9?", responses, user=user)[0].index == best
    assert "all 20 people" in (folder / "mine/model/README.md").read_text()


def test_numbers_and_report_say_what_was_found(fitted):
    folder, result, said = fitted
    metrics = json.loads((folder / "mine/metrics.json").read_text())
    assert metrics == result.metrics
    assert metrics["seen"]["personal"] > 0.95 > 0.7 > metrics["seen"]["one_for_everyone"]
    assert metrics["unseen"]["personal"] > 0.95
    assert metrics["unseen"]["answers_each"] == 4
    page = (folder / "mine/report.html").read_text()
    assert "Does being personal pay here?" in page
    assert "people" in said[0]
    assert said[-1] == metrics["verdict"]


def test_saved_model_is_judged_on_people_it_knows_and_on_others(fitted, tmp_path):
    _, result, _ = fitted
    metrics = evaluate(result.model, write(tmp_path / "new.csv", 24))
    assert (metrics["seen"]["people"], metrics["unseen"]["people"]) == (20, 4)
    assert metrics["seen"]["personal"] > 0.95
    assert metrics["unseen"]["personal"] > metrics["unseen"]["without_answers"]


def test_attributes_tell_accuracies_apart_and_locate_strangers(tmp_path):
    """Of 40 people those with even numbers like warm answers, and are said to be old."""
    frame = pl.DataFrame(list(rows(40)), schema=["rater", "question", "chosen", "rejected"], orient="row")
    old = pl.when(pl.col("rater").str.slice(1).cast(pl.Int32) % 2 == 0).then(pl.lit("old"))
    frame = frame.with_columns(age=old.otherwise(pl.lit("young")))
    result = fit(frame, attributes=["age"], out=tmp_path / "mine", **FAST)
    by = result.metrics["by"]["age"]
    assert set(by) == {"old", "young"}
    assert sum(each["people"] for each in by.values()) == result.metrics["seen"]["people"]
    assert all(each["personal"] > 0.9 for each in by.values())
    assert ">age</span>" in (tmp_path / "mine/report.html").read_text()
    assert "attributes (age) are in the prior" in result.metrics["settings"]
    assert result.metrics["unseen"]["without_answers"] > 0.95
    model = RewardModel.load(tmp_path / "mine")
    assert model.fingerprint == result.model.fingerprint
    responses = [f"{SHORT} 9", f"{WARM} 9"]
    for age, best in (("old", 1), ("young", 0)):
        taste = Taste.from_json(model.taste_of({"age": age}).to_json(), model)
        assert model.rank("question 9?", responses, user=taste)[0].index == best
    one = model.adapt([("question 9?", *responses)], attributes={"age": "old"})
    assert one == model.adapt([("question 9?", *responses)]) + model.taste_of({"age": "old"})
    with pytest.raises(
        PalError, match=r"^attributes must be among age, which the model knows, got 'sex'; leave"
    ):
        model.taste_of({"sex": "f"})
    judged = evaluate(result.measured, frame)
    assert judged["unseen"]["without_answers"] > 0.95
    with pytest.raises(PalError, match=r"^rows has no column 'country', which is asked for as an attribute"):
        fit(frame, attributes=["country"], **FAST)


def test_one_person_has_one_taste(tmp_path):
    result = fit(write(tmp_path / "a.csv", 1), **{**FAST, "K": "auto"})
    assert result.model.config.K == 1
    assert "of one person" in result.metrics["settings"]


def test_one_reward_that_was_asked_for_accuses_nobody_and_says_that_nobody_was_compared(tmp_path):
    """Three of eleven people like warm answers: they differ from one reward, and are not careless."""
    few = [row for row in rows(22) if int(row[0][1:]) % 2 or int(row[0][1:]) < 6]
    frame = pl.DataFrame(few, schema=["rater", "question", "chosen", "rejected"], orient="row")
    result = fit(frame, out=tmp_path / "mine", **{**FAST, "method": "bt"})
    assert result.metrics["verdict"].startswith("Does being personal pay? Not measured.")
    assert result.people["answering"]["standing_out"] == 0
    assert result.metrics["source"] == "rows"
    assert len(repr(result)) < 1000
    assert "in which people want the same" in (tmp_path / "mine/report.html").read_text()


def test_one_comparison_is_too_few(tmp_path):
    frame = pl.DataFrame({"rater": ["ann"], "question": ["why?"], "chosen": ["so"], "rejected": ["no"]})
    with pytest.raises(PalError, match=r"^rows must hold at least 2 comparisons, got 1$"):
        fit(frame, **{**FAST, "method": "auto"})
    two = pl.concat([frame, frame.with_columns(question=pl.lit("how?"), rejected=pl.lit("maybe"))])
    assert "Not measured" in fit(two, **{**FAST, "method": "auto"}).metrics["verdict"]


def test_another_folder_is_never_replaced(tmp_path):
    (tmp_path / "photos").mkdir()
    with pytest.raises(PalError, match="is there already, and not from `pal fit`"):
        fit(write(tmp_path / "a.csv", 4), out=tmp_path / "photos", **FAST)


def test_a_model_of_joint_texts_reads_every_response_with_its_prompt(tmp_path):
    log = write(tmp_path / "answers.csv", 20)
    template = "{prompt} Then: {response}"
    fit(log, out=tmp_path / "mine", item=template, **FAST)
    model = RewardModel.load(tmp_path / "mine")
    assert model.encoder["responses"]["template"] == template
    assert "template" not in model.encoder["prompts"]
    prompt, responses = "question 9?", [f"{SHORT} 9", f"{WARM} 9"]
    texts = [f"question 9? Then: {each}" for each in responses]
    vectors = model.input_encoder.encode(texts, "responses", model.response_dim).tensor()
    rewards = model.score(prompt, responses, user="p1")
    torch.testing.assert_close(rewards, model.score(prompt, vectors, user="p1"))
    asked = model.encode_prompts(prompt, 1).tensor()
    chance = model.probability([prompt], responses[:1], responses[1:], user="p1")
    torch.testing.assert_close(chance, model.probability(asked, vectors[:1], vectors[1:], user="p1"))
    taste = model.adapt([(prompt, *responses), ("question 8?", f"{SHORT} 8", f"{WARM} 8")])
    assert model.rank(prompt, responses, user=taste)[0].index == 0
    assert len(model.ask([(prompt, *responses), (prompt, *responses[::-1])])) == 2
    assert evaluate(model, log)["seen"]["personal"] == 1
    page = (tmp_path / "mine/report.html").read_text()
    assert SHORT in page
    assert "Then:" not in page
    with pytest.raises(PalError, match="prompts must be texts, one for all or one for each of the 2"):
        model.score(None, responses)
    with pytest.raises(PalError, match=r"responses\[0\] is empty"):
        model.score(prompt, ["", "fine"])
    with pytest.raises(PalError, match=r"item must be separate, joint, or a text with \{prompt\}"):
        fit(log, item="{response}", **FAST)


def test_ties_are_learned_from_where_they_are_kept_and_never_tested_on(tmp_path):
    pairs = [
        (user, prompt, a, b, "tie" if n % 3 == 0 else "a") for n, (user, prompt, a, b) in enumerate(rows(20))
    ]
    names = ["user_id", "prompt", "response_a", "response_b", "winner"]
    log = tmp_path / "duels.csv"
    pl.DataFrame(pairs, schema=names, orient="row").write_csv(log)
    quick = {"encoder": "hashed-words", "method": "bt"}
    dropped, kept = fit(log, **quick), fit(log, ties="keep", **quick)
    assert kept.metrics["comparisons"] == 160 > dropped.metrics["comparisons"]
    assert kept.metrics["parts"]["seen test"] < 160 * 0.8 * 0.25 * 0.8
    assert float(dropped.model.population.ties) == 0 < float(kept.model.population.ties)
    with pytest.raises(
        PalError, match="encoder must be one that reads texts, got 'classical', which reads pict"
    ):
        fit(log, encoder="classical")
    with pytest.raises(PalError, match="--ties must be drop or keep, got 'half'"):
        fit(log, ties="half", **quick)


def test_two_answers_are_fitted_and_nothing_is_measured():
    rows = [{"user": user, "prompt": "why?", "chosen": "so", "rejected": "no"} for user in ("ann", "bob")]
    result = fit(rows, encoder="hashed-words", method="bt")
    assert "too few answers to hold any out" in result.metrics["verdict"]
    assert [each.response for each in result.model.rank("why?", ["no", "so"])] == ["so", "no"]
