"""choose-k: a number is noted as it is; auto asks the seen users' training pairs."""

import pytest

from pipeline import PipelineError, paths
from pipeline.stages import choose_k, train
from pipeline.storage.tables import read_json


def test_a_number_is_noted_without_any_fit(small):
    choose_k.main("simulated")
    assert read_json(paths.chosen("simulated"), "") == {"K": 2, "curves": {}}


def test_auto_takes_what_suffices_and_train_fits_it(small, capsys):
    small.set({"model.K": "auto", "model.most_prototypes": 3})
    choose_k.main("simulated")
    found = read_json(paths.chosen("simulated"), "")
    assert list(found["curves"]) == [paths.AS_FITTED, paths.ONE_PER_USER]
    assert found["K"] == found["curves"][paths.AS_FITTED]["K"]
    assert [row["K"] for row in found["curves"][paths.ONE_PER_USER]["candidates"]] == [1, 2, 3]
    assert "simulated, one prototype per user: K = " in capsys.readouterr().out
    train.main("simulated")
    from pal.serving.reward_model import RewardModel

    assert found["K"] == RewardModel.load(paths.models("simulated") / "model").config.K


def test_without_the_stage_train_says_which_to_run(small):
    small.set({"model.K": "auto"})
    with pytest.raises(PipelineError, match="run `dvc repro choose-k@simulated`"):
        train.main("simulated")
