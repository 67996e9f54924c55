"""An entry runs from drawing to intervals, and stands in the ledger whether it ran or not."""

import json

import pytest
import torch

from benchmarks.studies import ROOT
from experiments import entries, ledger, measure, running
from experiments.entries import Published, Run
from pal.comparisons import Comparisons
from pipeline import PipelineError

TINY = Run.from_options(
    dataset="simulated", model="A", head={"latent": 4}, presets=["paper"],
    fit={"paper": {"epochs": 3, "batch_size": 0}},
    prepare={
        "dim": 2, "groups": 2, "seen_users_per_group": 4, "unseen_users_per_group": 2,
        "adapt_pairs": 5, "val_pairs": 2, "test_pairs": 6,
    },
    grid={"train_pairs": [4, 8], "K": [1, 2]}, seeds=[0, 1, 2], read=["seen", "unseen", "recovered"],
    shots=[1, 5],
)  # fmt: skip


READ = [("seen", None), ("unseen", 1), ("unseen", 5)]


@pytest.fixture(autouse=True)
def short_descents(monkeypatch):
    """Free weights of new users by a few steps: how good they are is tested with them."""
    monkeypatch.setattr("pal.users.points.STEPS", 3)


@pytest.fixture
def folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("PAL_PERSONA", raising=False)
    return tmp_path


def test_the_bound_is_found_once_a_study_and_no_model_is_above_it(folder):
    run = TINY.model_copy(update={"bound": True, "seeds": [0]})
    best = [arm for arm in measure.run(run, "generated").arms if arm.at["preset"] == measure.BOUND]
    cells = [(arm.at["train_pairs"], arm.at["what"], arm.at.get("shots")) for arm in best]
    assert sorted(cells, key=str) == sorted(((n, *what) for n in (4, 8) for what in READ), key=str)
    assert not any("K" in arm.at for arm in best)
    (row,) = (running.best(a) for a in best if a.at["what"] == "seen" and a.at["train_pairs"] == 8)
    assert row["bound"] > 60
    assert set(row) == {"train_pairs", "what", "bound", "low", "high", "each"}


def test_parameters_are_those_worked_out_by_hand():
    rows = measure.run(entries.load().entries["parameters"].run, "generated").tables["counts"]
    both = 768 * 384 + 384 + 384 * 768 + 768

    def count(what, K=2):
        return ledger.count(Published(at={"what": what, "K": K}, value=592_512, place="S1"), rows)

    row = count("parameters")
    assert (row["ours"], row["verdict"]) == (both + 2 * 768, "reproduced")
    assert count("parameters", 4)["verdict"] == "not run"  # at another K than those counted
    with pytest.raises(PipelineError, match="nothing was counted under 'val'; there are"):
        count("val")


def test_agreement_counts_pairs_that_several_people_answered():
    class Data:
        """Three people: all see pair 0 (one differs), two pair 1 (they agree), one alone pair 2, twice."""

        def select(self, half, split):
            if (half, split) != ("seen", "train"):
                none = torch.zeros(0, dtype=torch.long)
                return Comparisons.from_pairs(user=none, prompt=none, chosen=none, rejected=none)
            user, prompt = torch.tensor([0, 1, 2, 0, 1, 2, 2]), torch.tensor([0, 0, 0, 1, 1, 2, 2])
            sides = torch.tensor([[0, 0, 1, 2, 2, 4, 5], [1, 1, 0, 3, 3, 5, 4]])
            return Comparisons.from_pairs(user=user, prompt=prompt, chosen=sides[0], rejected=sides[1])

    several, differ = measure.agreement(Data(), "train")
    assert (several["count"], differ["count"]) == (2, 1)
    assert [row["count"] for row in measure.agreement(Data(), "val")] == [0, 0]


def test_every_entry_stands_in_the_ledger_and_on_the_page_even_when_nothing_ran(folder):
    ledger.main()
    whole = json.loads((folder / ledger.LEDGER).read_text(encoding="utf-8"))
    heads = {row["entry"]: row["state"] for row in whole["rows"] if row["kind"] == "entry"}
    assert list(heads) == whole["entries"] == list(entries.load().entries)
    assert heads["pickapic-v1"] == "not run: needs Pick-a-Pic v1"
    verdicts = {row["verdict"] for row in whole["rows"] if row["kind"] != "entry"}
    assert verdicts == {"not run", "not repeated here"}
    html = (folder / ledger.PAGE).read_text(encoding="utf-8")
    assert "not run: needs OpenAI" in html
    assert "../report/report.html" not in html  # there is none
    assert "../report/report.html" in ledger.render([], report=True)
    assert "https://" not in html.split("<script", 1)[0].replace("https://arxiv.org/abs/2406.08469", "")


def test_a_run_is_measured_judged_and_drawn_from_metrics_alone(folder, monkeypatch):
    entry = entries.load().entries["simulated-13"]
    few = TINY.model_copy(update={"grid": {"K": [1, 2, 3]}, "read": ["seen", "recovered"]})
    tiny = entry.model_copy(update={"run": few})
    declared = entries.Declared(scale="laptop", entries={"simulated-13": tiny})
    monkeypatch.setattr(entries, "load", lambda: declared)
    monkeypatch.setattr(running.os, "cpu_count", lambda: 1)
    running.main("simulated-13")
    ledger.main()
    rows = json.loads((folder / ledger.LEDGER).read_text(encoding="utf-8"))["rows"]
    numbers = [row for row in rows if row["kind"] == "number"]
    assert [row["paper"] for row in numbers] == [72.2, 83.96, 91.26]
    presets = [preset for row in numbers for preset in row["presets"]]
    assert len(presets) == 3
    assert all(row["low"] <= row["ours"] <= row["high"] for row in presets)
    charts = ledger.charts(tiny, running.read("simulated-13", tiny))
    assert len(charts) == 1 + 3  # accuracy over K, and the plane at each K


SAMPLE = str(ROOT / "data/sample/persona")
QUICK = {"epochs": 1, "validate_every": 1}


def test_an_entry_on_personas_runs_on_the_sample():
    run = entries.load().entries["persona-5d"].run.model_copy(
        update={
            "encoder": "hashed-words", "presets": ["paper"], "head": {"latent": 8, "hidden": 8},
            "fit": {"paper": QUICK}, "grid": {"groups": [2], "K": [1, 2]}, "only": {}, "shots": [1, 5],
            "seeds": [0],
            "prepare": {
                "users_per_group": 6, "unseen_users_per_group": 3, "adapt_pairs": 5, "val_pairs": 2,
                "test_pairs": 5, "new_test_pairs": 5, "train_pairs": 20,
            },
        }
    )  # fmt: skip
    arms = measure.run(run, SAMPLE).arms
    assert {arm.at["what"] for arm in arms} == set(run.read)
    assert {arm.at["K"] for arm in arms if arm.at["preset"] == "paper"} == {1, 2}
