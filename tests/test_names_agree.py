"""One word names a stage everywhere: dvc.yaml, the command line, its module, its tests, its fingerprint."""

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
# Stages that run before fingerprints exist, or make them.
UNFINGERPRINTED = {"check", "code"}


def test_stages_stand_in_one_order_everywhere():
    commands = [command.name or command.callback.__name__ for command in app.registered_commands]
    assert list(STAGES) == list(paths.STAGES) == commands[: len(STAGES)]


@pytest.mark.parametrize("name", STAGES)
def test_stage_is_named_alike_everywhere(name):
    module = paths.module(name)
    stage = STAGES[name]
    assert stage["desc"].endswith(".")
    assert stage["cmd"].split()[:4] == ["python", "-m", "pipeline", name]
    home = "pipeline" if name == "code" else "pipeline.stages"
    assert (ROOT / f"tests/{home.replace('.', '/')}/test_{module}.py").exists()
    assert callable(importlib.import_module(f"{home}.{module}").main)
    assert name in UNFINGERPRINTED or f"data/code/{name}.txt" in stage["deps"]


@pytest.mark.parametrize("command", app.registered_commands, ids=lambda c: c.callback.__name__)
def test_command_has_help(command):
    assert command.callback.__doc__


@pytest.mark.parametrize("name", STAGES)
def test_stage_follows_only_params_that_exist(name):
    for key in STAGES[name].get("params", []):
        for dataset in DATASETS:
            section = PARAMS
            for part in key.replace("${item.dataset}", dataset).split("."):
                assert part in section, f"{name} follows {key}, which params.yaml has not"
                section = section[part]


def test_every_parameter_is_followed_by_some_stage_or_checked():
    followed = {key for stage in STAGES.values() for key in stage.get("params", [])}
    shared = {key.split(".")[0] for key in followed if not key.startswith("$")}
    assert shared == set(Params.model_fields)
    # check reads source on every run, and writes what it names into the fingerprint.
    of_datasets = {key.rpartition(".")[2] for key in followed if key.startswith("$")}
    assert of_datasets | {"source"} == set(DatasetParams.model_fields)


def test_datasets_stand_in_one_order_everywhere():
    assert [key for key in PARAMS if key in DATASETS] == list(DATASETS)


def test_metrics_are_kept_by_git_and_everything_else_by_dvc():
    for stage in STAGES.values():
        for kind in ("metrics", "plots"):
            for entry in stage.get(kind, []):
                ((path, options),) = entry.items()
                assert path.startswith("metrics/")
                assert options["cache"] is False
        assert all(isinstance(out, str) and out.startswith("data/") for out in stage.get("outs", []))
