"""paper.yaml is what it should be, and says so in a sentence where it is not."""

import pytest
import yaml

from experiments import entries, study
from experiments.entries import PAPER
from experiments.measure import READERS
from pipeline import PipelineError


def test_what_is_read_and_which_options_are_set_is_known():
    for entry in entries.load().entries.values():
        assert set(entry.run.read) <= set(READERS)
        for scale in entries.SCALES:
            run = entry.run.at(scale)
            for preset in run.presets:
                for cell in study.draws(run) if entry.run.kind != "parameters" else []:
                    for place in study.fits(run, preset, cell):
                        study.configs(run, preset, place)


NOWHERE = [{"at": {"beta": 1.0}, "value": 1.0, "place": "nowhere"}]


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda e: e["persona-5a"]["run"].update(greed={}), r"entries\.persona-5a\.run\.greed is not a known option"),
        (lambda e: e["persona-5a"]["paper"].update(published=NOWHERE), "paper names the axis beta, which run"),
        (lambda e: e["tldr-t2"]["paper"]["published"][-1].pop("why"), "why must be given for others' numbers"),
    ],
)  # fmt: skip
def test_a_faulty_entry_is_one_sentence(tmp_path, change, said):
    values = yaml.safe_load(PAPER.read_text(encoding="utf-8"))
    change(values["entries"])
    path = tmp_path / "paper.yaml"
    path.write_text(yaml.safe_dump(values), encoding="utf-8")
    with pytest.raises(PipelineError, match=said):
        entries.load(path)
