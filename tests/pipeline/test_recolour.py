"""recolour: no dataset here has images, so tables pass byte by byte."""

import pytest

from pipeline import layout, recolour, tables
from pipeline.errors import PipelineError


@pytest.mark.parametrize("dataset", ["simulated", "own"])
def test_tables_without_images_pass_as_they_are(small, dataset):
    recolour.main(dataset)
    for name in (tables.ITEMS, tables.PAIRS):
        before, after = layout.prepared(dataset) / name, layout.recoloured(dataset) / name
        assert after.read_bytes() == before.read_bytes()


def test_a_damaged_table_does_not_pass(small):
    path = layout.prepared("own") / tables.PAIRS
    path.write_bytes(path.read_bytes()[:-10])
    before = (layout.recoloured("own") / tables.PAIRS).read_bytes()
    with pytest.raises(PipelineError, match=r"pairs\.parquet is damaged .* run `dvc repro -f prepare@own`"):
        recolour.main("own")
    assert (layout.recoloured("own") / tables.PAIRS).read_bytes() == before


def test_without_tables_the_stage_to_run_is_named(project):
    with pytest.raises(PipelineError, match=r"items\.parquet is missing; run `dvc repro prepare@own`"):
        recolour.main("own")
