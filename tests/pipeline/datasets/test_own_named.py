"""Several data sets of one's own side by side, under names of one's choice."""

import json

import pytest

from pal import RewardModel
from pipeline import PipelineError, params, paths
from pipeline.stages import check, report
from tests.pipeline.conftest import build, own_csv

JOKES = """  like: own
  source: jokes.csv
  prepare:
    columns: {user_id: rater}
    values:
    user_ids: as_given
    ties: drop
    prompts:
    responses:
    item: separate
"""


@pytest.fixture
def two(project):
    """`own`, and beside it `jokes` with the same values but for its source and columns."""
    project.set({"own.encoder": "hashed-words", "own.source": "own.csv", "own.head": {}, "own.method": "bt"})
    project.set({"datasets": ["own", "jokes"], "encode.device": "cpu", "train.device": "cpu"})
    project.set({"evaluate.shots": [1, 5], "evaluate.headline_shots": 5, "evaluate.asked": 0})
    project.set({"own.train": {}, "own.split.unseen_users": 0.25, "own.split.val": 0.0, "model.K": 2})
    text = (project.root / "params.yaml").read_text().replace("\nown:\n", "\nown: &own\n")
    project.text(f"{text}\njokes:\n  <<: *own\n{JOKES}")
    (project.root / "own.csv").write_text(own_csv())
    jokes = own_csv().replace("user_id", "rater").replace("user ", "person ")
    (project.root / "jokes.csv").write_text(jokes)
    return project


def test_each_has_its_own_model_numbers_and_page(two, capsys):
    check.main()
    for dataset in ("own", "jokes"):
        build(two.root, dataset)
    report.main()
    assert "prepare@jokes:   user_id      'rater'" in capsys.readouterr().out
    for dataset, user in (("own", "user"), ("jokes", "person")):
        model = RewardModel.load(paths.models(dataset) / "model")
        assert all(each.startswith(user) for each in model.user_ids)
        assert json.loads(paths.metrics(dataset).read_text())["seen"]["accuracy"] > 0
    assert "Your own comparisons: jokes" in paths.REPORT.with_name("jokes.html").read_text()


@pytest.mark.parametrize(
    ("old", "new", "said"),
    [
        ("like: own", "like: persona", "jokes.like in params.yaml must be own, got 'persona'"),
        ("  like: own\n", "", "jokes in params.yaml is not a known key; known are datasets, "),
        ("\njokes:", "\nmodel_dump:", "that is not taken, got 'model_dump'; choose another"),
        ("\n- jokes", "\n- joke", "datasets must be some of simulated, "),
        ("source: jokes.csv", "source:", "jokes.source in params.yaml must name a file"),
        ("user_id: rater", "user_id: nobody", "jokes.csv"),
    ],
)
def test_mistakes_are_told_by_the_name_of_the_section(two, old, new, said):
    text = (two.root / "params.yaml").read_text()
    assert old in text
    two.text(text.replace(old, new))
    with pytest.raises(PipelineError if "csv" not in said else ValueError) as caught:
        check.main()
    assert said in str(caught.value)


def test_advice_is_on_keys_of_its_section(two):
    text = (two.root / "params.yaml").read_text()
    two.text(text.replace("columns: {user_id: rater}", "columns:"))
    (two.root / "jokes.csv").write_text(own_csv().replace("user_id", "who"))
    with pytest.raises(ValueError, match="must have a column that says who answered") as caught:
        check.main()
    assert "name it by jokes.prepare.columns: {user_id: ...}, or {user_id: ''} if" in str(caught.value)
    assert params.load().names[-2:] == ["own", "jokes"]
