"""results: the accuracies in the terminal."""

import pytest

from pal.files import write_json
from pipeline import paths, results
from pipeline.errors import PipelineError


def test_nested_metrics_become_dotted_names():
    tree = {"seen": {"accuracy": 0.5, "k1": {"accuracy": 0.25}}, "p": 1}
    assert results.flatten(tree) == [("seen.accuracy", 0.5), ("seen.k1.accuracy", 0.25), ("p", 1)]


def test_accuracies_are_printed_in_percent_and_p_as_it_is(project, capsys):
    project.set({"datasets": ["own"]})
    write_json(paths.metrics("own"), {"seen": {"accuracy": 0.98765, "plurality_p": 0.0001}})
    results.main()
    out = capsys.readouterr().out
    assert "seen.accuracy" in out
    assert "98.77 %" in out or "98.76 %" in out
    assert "0.0001" in out
    assert "report: data/report/report.html" in out


def test_words_beside_the_numbers_are_printed_as_they_are(project, capsys):
    project.set({"datasets": ["own"]})
    write_json(paths.metrics("own"), {"seen": {"accuracy": 0.5}, "encoder": "untrained-vit-h-14"})
    results.main()
    assert "encoder                            untrained-vit-h-14" in capsys.readouterr().out


def test_missing_metrics_name_the_stage_to_run(project):
    with pytest.raises(
        PipelineError, match=r"metrics/simulated\.json is missing; run `dvc repro evaluate@simul"
    ):
        results.main()
