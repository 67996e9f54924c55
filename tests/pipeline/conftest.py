"""A project of its own for a test: a folder with params.yaml, in which stages run as `dvc repro` does it."""

import shutil
from copy import deepcopy
from functools import cache
from pathlib import Path
from typing import Any

import pytest
import yaml

ROOT = Path(__file__).parents[2]


@cache
def _shipped() -> dict[str, Any]:
    return yaml.safe_load((ROOT / "params.yaml").read_text(encoding="utf-8"))


class Project:
    """A folder with a params.yaml derived from the shipped one."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.values: dict[str, Any] = deepcopy(_shipped())
        self.save()

    def set(self, values: dict[str, Any]) -> None:
        """Set knobs by their dotted names, and write params.yaml."""
        for name, value in values.items():
            *path, last = name.split(".")
            self._section(path)[last] = value
        self.save()

    def drop(self, name: str) -> None:
        """Leave a key out of params.yaml."""
        *path, last = name.split(".")
        del self._section(path)[last]
        self.save()

    def save(self) -> None:
        self.text(
            yaml.dump(self.values, Dumper=getattr(yaml, "CSafeDumper", yaml.SafeDumper), sort_keys=False)
        )

    def text(self, text: str) -> None:
        """Write params.yaml as it is given."""
        (self.root / "params.yaml").write_text(text, encoding="utf-8")

    def _section(self, path: list[str]) -> dict[str, Any]:
        section = self.values
        for part in path:
            section = section[part]
        return section


SMALL = {
    "datasets": ["simulated", "own"],
    "model.K": 2,
    "source.own": "own.csv",
    "encoder.own": "hashed-words",
    "prepare.simulated.setting": "partition",
    "prepare.simulated.groups": 2,
    "prepare.simulated.dim": 3,
    "prepare.simulated.seen_users": 8,
    "prepare.simulated.unseen_users": 6,
    "prepare.simulated.train_pairs": 20,
    "prepare.simulated.adapt_pairs": 24,
    "prepare.simulated.val_pairs": 4,
    "prepare.simulated.test_pairs": 10,
    "head.own.latent": 4,
    "train.device": "cpu",
    "encode.device": "cpu",
    "train.simulated.epochs": 12,
    "train.simulated.validate_every": 4,
    "train.own.epochs": 60,
    "train.own.validate_every": 20,
    "train.own.restarts": 1,
    "split.own.unseen_users": 0.25,
    "split.own.val": 0.0,
    "evaluate.shots": [1, 5, 20],
    "evaluate.resamples": 100,
}


def own_csv() -> str:
    """Eight people, half of whom like whatever is red and half whatever is blue; 12 comparisons each."""
    lines = ["user_id,prompt,chosen,rejected"]
    for user in range(8):
        for n in range(12):
            red, blue = f"a red thing {n % 5}", f"a blue thing {n % 5}"
            chosen, rejected = (red, blue) if user % 2 else (blue, red)
            lines.append(f"user {user},which of {n % 6}?,{chosen},{rejected}")
    return "\n".join(lines) + "\n"


def build(root: Path, dataset: str, *, until: str = "evaluate") -> None:
    """Run a dataset's stages in the project at `root`, which must be the current folder."""
    from pipeline import download, encode, evaluate, prepare, recolour, split, train

    assert Path.cwd() == root
    for stage in (download, prepare, recolour, split, encode, train, evaluate):
        stage.main(dataset)
        if stage.__name__ == f"pipeline.{until}":
            return


def _enter(patch: pytest.MonkeyPatch, root: Path) -> None:
    patch.chdir(root)
    patch.setenv("PAL_STORE", str(root / "store"))
    patch.delenv("DVC_ROOT", raising=False)


@pytest.fixture
def project(tmp_path, monkeypatch):
    """A project with the shipped params.yaml, as the current folder, and a store of its own."""
    root = tmp_path / "project"
    root.mkdir()
    _enter(monkeypatch, root)
    return Project(root)


@pytest.fixture(scope="session")
def built(tmp_path_factory):
    """A project whose two small datasets, simulated and own, have been through every stage up to evaluate."""
    root = tmp_path_factory.mktemp("built")
    with pytest.MonkeyPatch.context() as patch:
        _enter(patch, root)
        Project(root).set(SMALL)
        (root / "own.csv").write_text(own_csv(), encoding="utf-8")
        for dataset in ("simulated", "own"):
            build(root, dataset)
    return root


@pytest.fixture
def small(built, tmp_path, monkeypatch):
    """A copy of the built project as the current folder, to read in and to change."""
    root = tmp_path / "small"
    shutil.copytree(built, root)
    _enter(monkeypatch, root)
    project = Project(root)
    project.set(SMALL)
    return project
