"""Pick-a-Pic v1 through prepare: the exact published schema, and the four cells of D32."""

import json
from pathlib import Path

import pyarrow.parquet as pq
import pytest

from pipeline.datasets import drawn_scenes, pickapic_files
from pipeline.stages import download, prepare, recolour, split
from pipeline.storage import tables

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


def test_the_four_cells_of_users_and_test_sets_reach_the_split(project, read_pairs):
    """test_unique is the test set again; users 5 and 6 have no train rows, and of the other four one is kept out."""
    whole = project.root / "sample"
    whole.mkdir()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(drawn_scenes, "PROMPTS", {"train": 12, "validation": 2, "test": 6})
        patch.setattr(
            drawn_scenes, "CROWDS", (drawn_scenes.Crowd(4, (6, 9), 1, 4), drawn_scenes.Crowd(2, (0, 0), 0, 5))
        )
        drawn_scenes.write(whole)
    (whole / "test_unique-0.parquet").write_bytes((whole / "test-00000-of-00001.parquet").read_bytes())
    project.set({"pickapic_v1.source": str(whole), "pickapic_v1.prepare.unseen_users": 0.25})
    for stage in (download, prepare, recolour, split):
        stage.main("pickapic_v1")
    pairs, _ = read_pairs(project.root / "data/recoloured/pickapic_v1")
    splits = tables.read_table(project.root / "data/splits/pickapic_v1" / tables.SPLITS, "")
    assert len(splits) == len(pairs)
    tested = pairs.filter(pairs["split"] == "test").group_by("users", "test").len()
    found = {(users, test): count for users, test, count in tested.iter_rows()}
    assert set(found) == {(u, t) for u in ("seen", "unseen") for t in ("test", "test_unique")}
    assert found["seen", "test"] == found["seen", "test_unique"] > 0
    assert pairs.filter(pairs["users"] == "unseen")["user_id"].n_unique() == 3
