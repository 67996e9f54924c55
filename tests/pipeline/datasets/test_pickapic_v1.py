"""Pick-a-Pic v1 through prepare: the exact published schema."""

import json
from pathlib import Path

import pyarrow.parquet as pq
import pytest

from pipeline.datasets import pickapic_files
from pipeline.stages import download, prepare

FIXTURE = Path(__file__).parents[3] / "../shared/data/pickapic_fixture"


def test_the_fixture_of_the_exact_schema_is_read(project, read_pairs):
    """12 rows, two of them ties (labels 1, 0, 1, 0, 1, .5, twice); 4 users; 4 prompts; pictures of their own."""
    if not FIXTURE.is_dir():
        pytest.skip("the fixture of the exact schema is not at hand")
    [path] = FIXTURE.glob("*.parquet")
    assert pq.read_schema(path).equals(pickapic_files.schema())
    project.set({"pickapic_v1.source": str(FIXTURE.resolve())})
    download.main("pickapic_v1")
    prepare.main("pickapic_v1")
    out = project.root / "data/prepared/pickapic_v1"
    counts = json.loads((out / "manifest.json").read_text())["counts"]
    assert counts == {
        "read": 12, "kept": 10, "dropped": 2, "validation_unique": 0, "incomplete": 0, "without_label": 0,
        "same_image": 0, "ties": 2, "prompts": 4, "images": 20, "users": 4,
    }  # fmt: skip
    pairs, _ = read_pairs(out)
    assert pairs["users"].unique().to_list() == ["seen"]
    raw = [path for path in (project.root / "store/raw").rglob("*") if not path.is_dir()]
    assert [path.is_symlink() for path in raw] == [True]
