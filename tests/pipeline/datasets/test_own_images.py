"""Images by their paths: read where they lie, never from outside the table's folder, one item per content."""

import json
import re
import shutil

import polars as pl
import pytest

from pal.errors import PalError as PipelineError
from pal.files import sha256_of
from pipeline import params, study
from pipeline import paths as layout
from pipeline.datasets import own
from pipeline.stages import download, encode, prepare, recolour, split
from pipeline.storage import raw_files
from pipeline.storage.tables import image_id, text_id

HEADER = "user_id,prompt,response_a,response_b,winner\n"


@pytest.fixture
def folder(project):
    """A folder of a table and of files under images' names; the table names them relative to itself."""
    from PIL import Image

    home = project.root / "mine"
    (home / "pictures").mkdir(parents=True)
    for name, colour in {"red.png": "red", "blue.jpg": "blue", "green.webp": "green"}.items():
        Image.new("RGB", (4, 4), colour).save(home / "pictures" / name)
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


def test_images_become_items_by_the_hash_of_their_file(folder):
    rows(
        folder,
        "ann,p,pictures/red.png,./pictures//blue.jpg,a",
        "bob,p,pictures/red.png,pictures/green.webp,b",
    )
    items, pairs, counts = prepared()
    assert (counts["read"], counts["kept"], counts["dropped"]) == (2, 2, 0)
    red, blue, green = (
        sha256_of(folder / "pictures" / name) for name in ("red.png", "blue.jpg", "green.webp")
    )
    images = items.filter(pl.col("modality") == "image")
    assert dict(images.select("item_id", "file").iter_rows()) == {image_id(s): s for s in (red, blue, green)}
    assert (
        images.select("row_group", "row", "column", "filter", "text", "vector").null_count().row(0)
        == (3,) * 6
    )
    assert pairs["chosen"].to_list() == [image_id(red), image_id(green)]
    assert pairs["prompt"].to_list() == [text_id("p")] * 2


def test_images_are_read_where_they_lie(folder):
    rows(folder, "ann,p,pictures/red.png,pictures/blue.jpg,a")
    download.main("own")
    files = {file.name: file for file in raw_files.read_manifest("own").files}
    assert set(files) == {"table.csv", "pictures/red.png", "pictures/blue.jpg"}
    stored = raw_files.stored(files["pictures/red.png"], "own")
    assert stored.is_symlink()
    assert stored.resolve() == (folder / "pictures/red.png").resolve()
    assert not raw_files.stored(files["table.csv"], "own").is_symlink()


def test_one_image_under_two_names_is_one_item(folder):
    shutil.copy(folder / "pictures/red.png", folder / "pictures/again.png")
    (folder / "pictures/linked.png").symlink_to("red.png")
    rows(
        folder,
        "ann,p,pictures/red.png,pictures/blue.jpg,a",
        "ann,p,pictures/again.png,pictures/blue.jpg,a",
        "ann,p,pictures/linked.png,pictures/again.png,b",
    )
    items, pairs, counts = prepared()
    assert len(items.filter(pl.col("modality") == "image")) == 2
    assert pairs["chosen"].n_unique() == 1
    assert (counts["identical_dropped"], counts["duplicates"], counts["kept"]) == (1, 1, 2)


def test_prompts_may_be_images_too(folder, project):
    project.set({"own.prepare.prompts": "image", "own.prepare.responses": "text"})
    rows(folder, "ann,pictures/red.png,so,no,a")
    items, pairs, _ = prepared()
    assert pairs["prompt"].to_list() == [image_id(sha256_of(folder / "pictures/red.png"))]
    assert sorted(items["modality"]) == ["image", "text", "text"]


def test_folders_and_endings_of_images_may_be_called_anything(folder):
    (folder / "pictures").rename(folder / "vectors")
    (folder / "vectors/red.png").rename(folder / "vectors/a.csv.PNG")
    rows(folder, "ann,p,vectors/a.csv.PNG,vectors/blue.jpg,a")
    items, _, _ = prepared()
    assert (items["modality"] == "image").sum() == 2


def test_images_go_all_the_way_to_a_study(folder, project):
    """Four people prefer red, four blue; prompts are encoded as texts, responses as images."""
    project.set({"own.encoder": {"text": "hashed-words", "image": "classical"}, "encode.device": "cpu"})
    answers = [
        f"u{u},p{n},pictures/red.png,pictures/blue.jpg,{'ab'[u % 2]}" for u in range(8) for n in range(4)
    ]
    rows(folder, *answers)
    prepared()
    for stage in (recolour, split, encode):
        stage.main("own")
    data = study.load("own")
    assert len(data.comparisons) == 32
    assert len(data.response_ids) == 2
    assert data.embeddings.responses.shape[0] == 2
    assert data.embeddings.prompts.shape[0] == 4


INSIDE = "must be a path relative to the table and inside its folder, got "
MISSING = "must be an existing file in the table's folder, got "
BAD_PATHS = {
    "missing.png": f"{MISSING}'missing.png'",
    "pictures\\red.png": f"{MISSING}'pictures\\\\red.png'; write / between folders",
    "../secret.png": f"{INSIDE}'../secret.png'",
    "pictures/../../secret.png": f"{INSIDE}'pictures/../../secret.png'",
    "/etc/motd.png": f"{INSIDE}'/etc/motd.png'",
    "out.png": f"{INSIDE}'out.png', which leads out of it",
    "outside/secret.png": f"{INSIDE}'outside/secret.png', which leads out of it",
    "https://a.org/b.png": f"{INSIDE}'https://a.org/b.png'; download the image first",
    "nul\0.png": f"{INSIDE}'nul\\x00.png'; is this the right column?",
    "x" * 2000 + ".png": f"{INSIDE}'{'x' * 78}…; is this the right column?",
    "x" * 300 + ".png": f"{MISSING}'{'x' * 78}…",
    "folder.png": "must be a file, got the folder 'folder.png'",
    "round.png": f"{MISSING}'round.png'",
    "pictures/vector.svg": "must be a .jpg, .jpeg, .png, .webp file, got 'pictures/vector.svg'",
    "a cat": "must be a .jpg, .jpeg, .png, .webp file, got 'a cat'",
}


@pytest.mark.parametrize("cell", BAD_PATHS, ids=lambda cell: cell[:20])
def test_a_path_that_leads_to_no_image_in_the_folder_is_refused(folder, cell):
    (folder / "folder.png").mkdir()
    (folder.parent / "secret.png").write_bytes(b"x")
    (folder / "out.png").symlink_to("../secret.png")
    (folder / "outside").symlink_to("..")
    (folder / "round.png").symlink_to("round.png")
    good = "ann,p,pictures/red.png,pictures/blue.jpg,a"
    rows(folder, good, f"ann,p,pictures/red.png,{cell},b", f"ann,p,{cell},pictures/red.png,a")
    told = f"response_b in row 2 (line 3) of table.csv (and 1 more row) {BAD_PATHS[cell]}"
    told = told.replace("\n", "")
    with pytest.raises(PipelineError, match=f"^{re.escape(told)}$"):
        own.find(params.load())


def test_the_column_is_named_as_it_stands_in_the_file(folder):
    rows(folder, "ann,p,gone.png,pictures/blue.jpg,b")
    with pytest.raises(
        PipelineError, match=r"^response_a in row 1 \(line 2\) of table\.csv must be an existing"
    ):
        own.find(params.load())


def test_an_image_changed_after_download_is_told(folder):
    rows(folder, "ann,p,pictures/red.png,pictures/blue.jpg,a")
    download.main("own")
    (folder / "pictures/red.png").write_bytes(b"other")
    with pytest.raises(
        PipelineError, match=r"^the raw file pictures/red\.png of own was changed where it lies; run"
    ):
        prepare.main("own")
