"""Charts of choose-k."""

from pipeline.paths import AS_FITTED, ONE_PER_USER
from pipeline.report import charts


def curve(K, *accuracies):
    rows = [
        {"K": k, "accuracy": accuracy, "standard_error": 0.01, "sufficient": k >= K}
        for k, accuracy in enumerate(accuracies, 1)
    ]
    return {"K": K, "candidates": rows, "n_users": 30, "n_comparisons": 600}


def test_bars_are_one_standard_error_and_end_at_a_hundred():
    drawn = charts.choices({AS_FITTED: curve(2, 0.8, 0.95, 0.95), ONE_PER_USER: curve(3, 0.8, 0.9, 0.995)})
    (values,) = drawn["datasets"].values()
    last = next(value for value in values if value["way"] == ONE_PER_USER and value["K"] == 3)
    assert (last["accuracy"], last["low"], last["high"], last["chosen"]) == (99.5, 98.5, 100.0, True)
    assert [value["K"] for value in values if value["chosen"]] == [2, 3]
