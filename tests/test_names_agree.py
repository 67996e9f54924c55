"""One word names a stage everywhere: dvc.yaml, the command line, its module and its tests."""

import importlib
from pathlib import Path

import pytest
import yaml

from pipeline import paths
from pipeline.__main__ import app
from pipeline.datasets import DATASETS
from pipeline.datasets.base import DatasetParams
from pipeline.params import Params

ROOT = Path(__file__).parents[1]
STAGES = yaml.safe_load((ROOT / "dvc.yaml").read_text())["stages"]
PARAMS = yaml.safe_load((ROOT / "params.yaml").read_text())


def test_stages_and_datasets_stand_in_one_order_everywhere():
    commands = [command.name for command in app.registered_commands]
    assert list(STAGES) == list(paths.STAGES) == commands[: len(STAGES)]
    assert [key for key in PARAMS if key in DATASETS] == list(DATASETS)


@pytest.mark.parametrize("name", STAGES)
def test_a_stage_is_named_alike_everywhere_and_follows_what_there_is(name):
    stage, module = STAGES[name], name.replace("-", "_")
    assert stage["desc"].endswith(".")
    assert stage["cmd"].split()[:4] == ["python", "-m", "pipeline", name]
    assert (ROOT / f"tests/pipeline/stages/test_{module}.py").exists()
    assert callable(importlib.import_module(f"pipeline.stages.{module}").main)
    for path in stage.get("deps", []):
        assert path.startswith(("data/", "metrics/")) or (ROOT / path).exists(), path
    for key in stage.get("params", []):
        for dataset in DATASETS:
            section = PARAMS
            for part in key.replace("${item.dataset}", dataset).split("."):
                assert part in section, f"{name} follows {key}, which params.yaml has not"
                section = section[part]


def test_every_parameter_is_followed_by_some_stage_or_checked():
    followed = {key for stage in STAGES.values() for key in stage.get("params", [])}
    assert {key.split(".")[0] for key in followed if not key.startswith("$")} == set(Params.model_fields)
    # check reads source on every run, and writes what it names into the fingerprint.
    of_datasets = {key.rpartition(".")[2] for key in followed if key.startswith("$")}
    assert of_datasets | {"source"} == set(DatasetParams.model_fields)


def test_metrics_are_kept_by_git_and_everything_else_by_dvc():
    for stage in STAGES.values():
        for entry in [*stage.get("metrics", []), *stage.get("plots", [])]:
            ((path, options),) = entry.items()
            assert path.startswith("metrics/")
            assert options["cache"] is False
        assert all(isinstance(out, str) and out.startswith("data/") for out in stage.get("outs", []))
