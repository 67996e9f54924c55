"""download: bytes into the store by their hash; the hub's are held to what was published, and never replaced."""

import hashlib

import pytest

from pal import PalError
from pipeline import PipelineError, paths
from pipeline.datasets import DATASETS, persona
from pipeline.datasets.base import Remote, Source
from pipeline.stages import download
from pipeline.storage import raw_files
from tests.hub_client import hub_client  # noqa: F401

NAMES = ["interest-in-art.jsonl", "interest-in-math.jsonl"]
REPO = "Anthropic/model-written-evals"
A, B, C = (letter * 5_000 for letter in (b"A", b"B", b"C"))  # large enough for Git LFS
FILES = {"data/b.parquet": B, "data/a.parquet": A, "notes.md": b"N", "other/a.parquet": C}


@pytest.fixture
def hub(hub_client, project, monkeypatch):  # noqa: F811
    """Two files at one commit, counted as published."""
    project.set({"persona.source": "hub", "persona.prepare.personas": ["art", "math"]})
    contents = {name: f"content of {name}".encode() for name in NAMES}
    published = {name: hashlib.sha256(content).hexdigest() for name, content in contents.items()}
    monkeypatch.setattr(persona, "PUBLISHED_SHA256", published)
    hub_client.newest = hub_client.commit(REPO, {f"persona/{name}": data for name, data in contents.items()})
    return hub_client


@pytest.fixture
def tables(hub_client, project):  # noqa: F811
    """A hub with two large tables, a third of the same name and a small file; its commit."""
    hub_client.newest = hub_client.commit("org/name", FILES)
    return hub_client


def remote(*files, **how):
    return Remote("org/name", "v1", list(files), **how)


def stored_files():
    files = [path for path in paths.store().rglob("*") if path.is_file() and path.parent.parent.name == "raw"]
    return sorted(path.read_bytes() for path in files)


def test_files_of_the_hub_are_taken_at_the_commit_that_the_revision_names(hub):
    download.main("persona")
    manifest = raw_files.read_manifest("persona")
    assert manifest.revision == hub.newest
    assert [file.name for file in manifest.files] == NAMES
    assert raw_files.stored(manifest.files[1], "persona").read_bytes() == f"content of {NAMES[1]}".encode()
    before = paths.raw("persona").read_bytes()
    hub.downloaded.clear()
    download.main("persona")
    assert hub.downloaded == []
    assert paths.raw("persona").read_bytes() == before


def test_bytes_that_were_not_published_are_refused(hub):
    hub.commit(REPO, {f"persona/{name}": b"something else" for name in NAMES})
    published = persona.PUBLISHED_SHA256[NAMES[0]]
    got = hashlib.sha256(b"something else").hexdigest()
    message = rf"{NAMES[0]} of .* must have the published sha256 {published}, got {got}"
    with pytest.raises(PipelineError, match=message):
        download.main("persona")
    assert not paths.raw("persona").exists()
    assert stored_files() == []


def test_a_failed_download_is_one_sentence_and_leaves_the_manifest_that_was_there(hub, project):
    download.main("persona")
    before = paths.raw("persona").read_bytes()
    project.set({"persona.prepare.personas": ["art", "rocks"]})
    message = r"at main has no file persona/interest-in-rocks\.jsonl; is it another repository\?"
    with pytest.raises(PipelineError, match=message):
        download.main("persona")
    hub.error = ConnectionError("no route to it")
    message = r"at main could not be downloaded \(no route to it\); check the network, or look at persona.hub"
    with pytest.raises(PalError, match=message + " in params.yaml, or set persona.source to a folder"):
        download.main("persona")
    assert paths.raw("persona").read_bytes() == before


def test_patterns_are_taken_in_their_order_and_each_files_name_gets_the_prefix(tables):
    commit, files = download.from_hub(remote("notes.md", "data/*.parquet", "data/a*", prefix="v1-"), "own")
    assert commit == tables.newest
    assert [(file.name, file.size) for file in files] == [
        ("v1-notes.md", 1), ("v1-a.parquet", 5_000), ("v1-b.parquet", 5_000),
    ]  # fmt: skip
    assert raw_files.stored(files[2], "own").read_bytes() == B
    assert sorted(tables.downloaded) == ["data/a.parquet", "data/b.parquet", "notes.md"]
    assert not list((paths.store() / "downloads").iterdir())
    # A second download, as after a broken one, fetches only what is missing.
    raw_files.stored(files[2], "own").unlink()
    tables.downloaded.clear()
    download.from_hub(remote("data/*"), "own")
    assert stored_files() == [A, B, b"N"]
    assert tables.downloaded == ["data/b.parquet"]


def source(monkeypatch, found):
    monkeypatch.setattr(DATASETS["own"], "find", lambda params: found)


def test_two_files_of_one_name_need_a_prefix(tables, monkeypatch):
    """prepare knows raw files by their names, so one would take the other's place."""
    source(monkeypatch, Source("hub", remotes=[remote("data/a*"), remote("other/*", prefix="tables-")]))
    download.main("own")
    manifest = raw_files.read_manifest("own")
    assert [file.name for file in manifest.files] == ["a.parquet", "tables-a.parquet"]
    assert manifest.revision == f"{tables.newest}, {tables.newest}"


def test_files_of_a_folder_are_copied_and_linked_ones_are_read_where_they_lie(project, monkeypatch):
    there = project.root / "big.parquet"
    there.write_bytes(b"big")
    (project.root / "own.csv").write_text("hello")
    found = Source("a folder", paths={"own.csv": project.root / "own.csv"}, links={"big.parquet": there})
    source(monkeypatch, found)
    download.main("own")
    manifest = raw_files.read_manifest("own")
    assert (manifest.source, manifest.revision) == ("a folder", None)
    copied, linked = (raw_files.stored(file, "own") for file in manifest.files)
    assert (copied.read_text(), copied.is_symlink(), linked.resolve()) == ("hello", False, there)
