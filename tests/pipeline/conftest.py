"""A project of its own for a test: a folder with params.yaml, in which stages run as `dvc repro` does it."""

import io
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
        self.values["own"]["method"] = None  # so that head and train are read; `auto` has tests of its own
        self.save()

    def set(self, values: dict[str, Any]) -> None:
        """Set parameters by their dotted names, and write params.yaml."""
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
        dumper = getattr(yaml, "CSafeDumper", yaml.SafeDumper)
        self.text(yaml.dump(self.values, Dumper=dumper, sort_keys=False))

    def text(self, text: str) -> None:
        """Write params.yaml as it is given."""
        (self.root / "params.yaml").write_text(text, encoding="utf-8")

    def _section(self, path: list[str]) -> dict[str, Any]:
        section = self.values
        for part in path:
            section = section[part]
        return section


SMALL = {
    "datasets": ["simulated", "own"], "model.K": 2, "own.source": "own.csv", "own.encoder": "hashed-words",
    "simulated.prepare.setting": "partition", "simulated.prepare.groups": 2, "simulated.prepare.dim": 3,
    "simulated.prepare.seen_users": 8, "simulated.prepare.unseen_users": 6,
    "simulated.prepare.train_pairs": 20, "simulated.prepare.adapt_pairs": 24,
    "simulated.prepare.val_pairs": 4, "simulated.prepare.test_pairs": 10,
    "simulated.train.epochs": 12, "simulated.train.validate_every": 4,
    "own.head.latent": 4, "own.train.epochs": 60, "own.train.validate_every": 20, "own.train.restarts": 1,
    "own.split.unseen_users": 0.25, "own.split.val": 0.0,
    "train.device": "cpu", "train.more_seeds": 1, "encode.device": "cpu", "evaluate.shots": [1, 5, 20],
}  # fmt: skip


def knobs(**changes: Any):
    """The options of evaluate, three numbers of shots and no questions."""
    from pipeline.params import Evaluate

    usual = {"seed": 0, "shots": [1, 5, 20], "headline_shots": 20, "draws": 20, "asked": 0}
    return Evaluate(**{**usual, "locate": "posterior", **changes})


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
    from pipeline.stages import download, encode, evaluate, prepare, split, train

    assert Path.cwd() == root
    for stage in (download, prepare, split, encode, train, evaluate):
        stage.main(dataset)
        if stage.__name__ == f"pipeline.stages.{until}":
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


def picture(seed: int = 0, kind: str = "PNG", size: tuple[int, int] = (24, 16)) -> bytes:
    """A small picture's bytes: noise around a colour of its own."""
    import numpy as np
    from PIL import Image

    rng = np.random.default_rng(seed)
    noise = rng.integers(0, 60, (size[1], size[0], 3)) + rng.integers(0, 190, 3)
    out = io.BytesIO()
    Image.fromarray(noise.astype(np.uint8)).save(out, kind)
    return out.getvalue()


class Album:
    """Raw files of the dataset own that hold pictures, and the items that name these."""

    def __init__(self, project: Project) -> None:
        self.project = project
        self.places: list[dict[str, Any]] = []
        self.texts: list[str] = []
        self._files: list[Any] = []

    def file(self, name: str, data: bytes, **place: Any) -> str:
        """A raw file that is itself a picture, and its item, whose id is returned."""
        self._keep(name, data)
        return self.item(self._files[-1].sha256, **place)

    def table(self, name: str, rows: dict[str, list[Any]], rows_per_group: int) -> str:
        """A Parquet file with pictures in its columns; its sha256."""
        import pyarrow as pa
        import pyarrow.parquet as pq

        out = io.BytesIO()
        pq.write_table(pa.table(rows), out, row_group_size=rows_per_group)
        self._keep(name, out.getvalue())
        return self._files[-1].sha256

    def item(self, file: str, **place: Any) -> str:
        """An item; its id."""
        from pipeline.storage import tables

        self.places.append({"file": file, **place})
        self.places[-1]["item_id"] = tables.image_id(**self.places[-1])
        return self.places[-1]["item_id"]

    def write(self) -> None:
        """The items as prepare leaves them."""
        import polars as pl

        from pipeline import paths
        from pipeline.storage import tables

        columns = {"file": pl.String, "row_group": pl.Int32, "row": pl.Int32, "column": pl.String}
        schema = {"item_id": pl.String, **columns, "filter": pl.String}
        images = pl.DataFrame(self.places, schema=schema).with_columns(modality=pl.lit("image"))
        items = pl.concat([images, tables.text_items(self.texts)], how="diagonal")
        path = paths.prepared("own") / tables.ITEMS
        tables.write_table(path, items)

    def _keep(self, name: str, data: bytes) -> None:
        from pipeline.storage import raw_files

        (self.project.root / name).write_bytes(data)
        self._files.append(raw_files.keep(self.project.root / name))
        raw_files.write_manifest("own", raw_files.Manifest("an album", None, self._files))


@pytest.fixture
def album(project):
    """An empty album in a project that encodes texts and images without a model, in small batches."""
    encoders = {"text": "hashed-words", "image": "classical"}
    project.set({"datasets": ["own"], "own.encoder": encoders, "encode.device": "cpu"})
    project.set({"encode.images_per_batch": 4, "encode.workers": 1})
    return Album(project)


@pytest.fixture
def drawn():
    """The function that makes a small picture's bytes from a seed."""
    return picture


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
