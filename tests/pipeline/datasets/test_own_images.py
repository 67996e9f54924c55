"""Images by their paths: read where they lie, never from outside the table's folder, one item per content."""

import json
import re

import polars as pl
import pytest
from PIL import Image

from pal.errors import PalError
from pal.files import sha256_of
from pipeline import params
from pipeline import paths as layout
from pipeline.datasets import own
from pipeline.stages import download, prepare
from pipeline.storage import raw_files
from pipeline.storage.tables import image_id, text_id

HEADER = "user_id,prompt,response_a,response_b,winner\n"
RED, BLUE, GREEN = "pictures/red.png", "pictures/blue.jpg", "pictures/green.webp"


@pytest.fixture
def folder(project):
    """A folder of a table and of images; the table names them relative to itself."""
    home = project.root / "mine"
    (home / "pictures").mkdir(parents=True)
    for name, colour in {RED: "red", BLUE: "blue", GREEN: "green"}.items():
        Image.new("RGB", (4, 4), colour).save(home / name)
    project.set({"own.source": "mine", "own.prepare.responses": "image"})
    return home


def rows(folder, *lines):
    (folder / "table.csv").write_text(HEADER + "".join(f"{line}\n" for line in lines), encoding="utf-8")


def prepared():
    download.main("own")
    prepare.main("own")
    folder = layout.prepared("own")
    counts = json.loads((folder / "manifest.json").read_text())["counts"]
    return pl.read_parquet(folder / "items.parquet"), pl.read_parquet(folder / "pairs.parquet"), counts


def test_images_become_items_by_the_hash_of_their_file_and_stay_where_they_lie(folder):
    rows(folder, f"ann,p,{RED},./pictures//blue.jpg,a", f"bob,p,{RED},{GREEN},b")
    items, pairs, counts = prepared()
    assert (counts["read"], counts["kept"], counts["dropped"]) == (2, 2, 0)
    red, blue, green = (sha256_of(folder / name) for name in (RED, BLUE, GREEN))
    images = items.filter(pl.col("modality") == "image")
    assert dict(images.select("item_id", "file").iter_rows()) == {image_id(s): s for s in (red, blue, green)}
    empty = images.select("row_group", "row", "column", "filter", "text", "vector")
    assert empty.null_count().row(0) == (3,) * 6
    assert pairs["chosen"].to_list() == [image_id(red), image_id(green)]
    assert pairs["prompt"].to_list() == [text_id("p")] * 2
    files = {file.name: file for file in raw_files.read_manifest("own").files}
    assert set(files) == {"table.csv", RED, BLUE, GREEN}
    stored = raw_files.stored(files[RED], "own")
    assert stored.is_symlink()
    assert stored.resolve() == (folder / RED).resolve()
    (folder / RED).write_bytes(b"other")
    with pytest.raises(PalError, match=rf"^the raw file {RED} of own was changed at .*; run"):
        prepare.main("own")


INSIDE = "must be a path relative to the log and inside its folder, got "
MISSING = "must be an existing file in the log's folder, got "
BAD_PATHS = {
    "missing.png": f"{MISSING}'missing.png'",
    "pictures\\red.png": f"{MISSING}'pictures\\\\red.png'; write / between folders",
    "../secret.png": f"{INSIDE}'../secret.png'",
    "/etc/motd.png": f"{INSIDE}'/etc/motd.png'",
    "outside/secret.png": f"{INSIDE}'outside/secret.png'",
    "https://a.org/b.png": f"{INSIDE}'https://a.org/b.png'; download the image first",
    "nul\0.png": f"{MISSING}'nul\\x00.png'",
    "x" * 2000 + ".png": f"{MISSING}'{'x' * 78}…",
    "folder.png": f"{MISSING}'folder.png'",
    "round.png": f"{MISSING}'round.png'",
    "a cat": "must be a .jpg, .jpeg, .png, .webp file, got 'a cat'",
}


@pytest.mark.parametrize("cell", BAD_PATHS, ids=lambda cell: cell[:20])
def test_a_path_that_leads_to_no_image_in_the_folder_is_refused(folder, cell):
    """The columns are named as they are in the table, not as chosen or rejected."""
    (folder / "folder.png").mkdir()
    (folder.parent / "secret.png").write_bytes(b"x")
    (folder / "outside").symlink_to("..")
    (folder / "round.png").symlink_to("round.png")
    rows(folder, f"ann,p,{RED},{BLUE},a", f"ann,p,{RED},{cell},b", f"ann,p,{cell},{RED},a")
    sentence = f"response_a or response_b in row 2 of table.csv (and 1 more row) {BAD_PATHS[cell]}"
    with pytest.raises(PalError, match=f"^{re.escape(sentence)}$"):
        own.find(params.load())
