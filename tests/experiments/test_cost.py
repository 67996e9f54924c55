"""What entries will cost is foreseen, and small enough for a laptop."""

import pytest

from experiments import cost, entries
from experiments.entries import Run


def a_run(**options):
    knobs = {"seen_users_per_group": 10, "unseen_users_per_group": 2, "train_pairs": 100}
    given = {"presets": ["paper"], "grid": {"groups": [2, 3], "K": [1, 2]}, "seeds": [0, 1], "prepare": knobs}
    return Run.from_options(dataset="simulated", **{**given, **options})


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


def test_simulation_and_persona_are_foreseen_to_take_three_quarters_of_an_hour_on_two_cores_at_most():
    declared = entries.load().entries
    assert sum(cost.estimate(entry.run.at("laptop")).minutes for entry in declared.values()) <= 45
    assert cost.estimate(declared["tldr-t1"].run).fits == 0


def test_the_table_names_what_will_run_and_the_sum():
    lines = cost.table().splitlines()
    assert lines[0].split()[:2] == ["entry", "fits"]
    assert lines[-1].startswith("in all, scale laptop")
    assert not any(line.startswith("pickapic") for line in lines)


def test_a_mixture_costs_its_batches_and_not_all_users_at_each_step():
    """Ten times the users in ten times the batches: as many steps, each as before."""
    knobs = {"unseen_users_per_group": 2, "train_pairs": 100}
    ours = {"max_steps": 40, "batch_size": 20_000}

    def seconds(users):
        run = Run.from_options(
            dataset="persona",
            model="B",
            presets=["ours"],
            fit={"ours": ours},
            prepare={**knobs, "users_per_group": users},
            grid={"groups": [2], "K": [2]},
            seeds=[0],
        )
        return cost.estimate(run).seconds

    few, many = 2 * 100 * 100, 2 * 1000 * 100
    assert seconds(1000) - seconds(100) == pytest.approx((many - few) * (cost.DRAWN + 2 * cost.KEPT))


def test_a_preset_that_stops_within_its_first_epoch_costs_the_answers_it_sees():
    whole, half = (a_run(answers=most) for most in ({}, {"paper": 50}))
    steps, pairs = 1000 * 2 * 2 * (2 + 3 - 1 - 2), 1000 * 2 * 2 * 2500
    less = steps * cost.STEP["A"] + pairs * cost.PAIR["A", 0] + 2 * 2 * 2500 * cost.KEPT
    assert cost.estimate(whole).seconds - cost.estimate(half).seconds == pytest.approx(less)
