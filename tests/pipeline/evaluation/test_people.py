"""Whether people differ: seen by their weights from training, unseen by their first shots."""

from pal.serving.saved_model import SavedModel
from pipeline import params, paths, study
from pipeline.evaluation import people
from pipeline.stages import train


def differ(dataset, users):
    model = SavedModel.load(paths.models(dataset) / "model")
    return people.differ(study.load(dataset), model, users, params.load().evaluate)


def test_two_groups_differ(small):
    """Own comparisons: half like red, half blue. Of six seen users' deals a tenth or so keep everyone's kind."""
    found = differ("own", "seen")
    assert found["gain"] > 0
    assert found["differ_p"] < 0.15


def test_unseen_users_are_tested_where_there_are_two(small):
    """Two unseen users: either deal is likely, so nothing can be shown, whatever they prefer."""
    assert differ("own", "unseen")["differ_p"] > 0.4


def test_with_one_prototype_nobody_differs(small):
    small.set({"model.K": 1})
    train.main("own")
    assert differ("own", "seen") == {"gain": 0.0, "differ_p": 1.0}
