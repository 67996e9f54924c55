"""What entries will cost is foreseen, and small enough for a laptop."""

import pytest

from experiments import cost, entries
from experiments.entries import Run


def a_run(**options):
    knobs = {"seen_users_per_group": 10, "unseen_users_per_group": 2, "train_pairs": 100}
    given = {"presets": ["paper"], "grid": {"groups": [2, 3], "K": [1, 2]}, "seeds": [0, 1], "prepare": knobs}
    return Run.of(dataset="simulated", **{**given, **options})


def test_fits_are_cells_times_presets_times_seeds():
    assert cost.estimate(a_run()).fits == 2 * 2 * 2
    assert cost.estimate(a_run(presets=["paper", "ours"])).fits == 16
    assert cost.estimate(a_run(presets=["paper"], only={"paper": {"K": [2]}})).fits == 4


def test_a_fit_costs_its_epochs_its_comparisons_and_its_steps():
    once = cost.estimate(a_run(fit={"paper": {"epochs": 100}})).seconds
    twice = cost.estimate(a_run(fit={"paper": {"epochs": 200}})).seconds
    # 2,000 comparisons are two steps of an epoch, 3,000 three; two K and two seeds of each.
    steps, pairs = 2 * 2 * (2 + 3), 2 * 2 * (2000 + 3000)
    assert twice - once == pytest.approx(100 * (steps * cost.STEP["A"] + pairs * cost.PAIR["A", 0]))


def test_seeds_of_a_lone_study_are_dealt_three_to_two():
    lone = cost.estimate(a_run(grid={"groups": [2], "K": [1]}, seeds=[0, 1, 2, 3, 4]))
    assert lone.minutes == pytest.approx(lone.seconds / 60 * 3 / 5)


def test_simulation_and_persona_are_foreseen_to_take_three_quarters_of_an_hour_on_two_cores_at_most():
    declared = entries.load().entries
    assert sum(cost.estimate(entry.run.at("laptop")).minutes for entry in declared.values()) <= 45
    assert cost.estimate(declared["tldr-t1"].run).fits == 0


def test_the_table_names_what_will_run_and_the_sum():
    lines = cost.table().splitlines()
    assert lines[0].split()[:2] == ["entry", "fits"]
    assert lines[-1].startswith("in all, scale laptop")
    assert not any(line.startswith("pickapic") for line in lines)
