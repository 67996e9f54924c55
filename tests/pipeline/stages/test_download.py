"""download: bytes into the store by their hash; the hub's are held to what was published, and never replaced."""

import hashlib

import pytest

from pal.fetching import Patience
from pipeline import paths
from pipeline.datasets import DATASETS, persona
from pipeline.datasets.base import Remote, Source
from pipeline.errors import PipelineError
from pipeline.stages import download
from pipeline.stages import hub as access
from pipeline.storage import raw
from tests.hub_server import as_endpoint, instead, serve, status

NAMES = ["interest-in-art.jsonl", "interest-in-math.jsonl"]
REPO = "Anthropic/model-written-evals"


@pytest.fixture
def server(project, monkeypatch):
    """A hub on this machine, and nobody who really waits for it."""
    monkeypatch.setattr(access, "PATIENCE", Patience(sleep=lambda seconds: None))
    with serve() as server, as_endpoint(server.address):
        yield server


@pytest.fixture
def hub(server, project, monkeypatch):
    """Two files at one commit, counted as published."""
    project.set({"persona.source": "hub", "persona.prepare.personas": ["art", "math"]})
    contents = {name: f"content of {name}".encode() for name in NAMES}
    published = {name: hashlib.sha256(content).hexdigest() for name, content in contents.items()}
    monkeypatch.setattr(persona, "PUBLISHED_SHA256", published)
    server.repo(REPO).commit({f"persona/{name}": content for name, content in contents.items()})
    return server


def fetched(server):
    """The files that the hub was asked for."""
    return [asked.path.split("/", 6)[-1] for asked in server.asked if asked.what == "file"]


def test_files_of_a_folder_come_into_the_store(project):
    (project.root / "own.csv").write_text("hello")
    project.set({"datasets": ["own"], "own.source": "own.csv"})
    download.main("own")
    manifest = raw.read_manifest("own")
    assert (manifest.source, manifest.revision) == ("own: own.csv", None)
    assert raw.stored(manifest.files[0], "own").read_text() == "hello"


def test_a_generated_dataset_has_an_empty_manifest(project):
    download.main("simulated")
    assert raw.read_manifest("simulated").files == []


def test_files_of_the_hub_are_taken_at_the_commit_that_the_revision_names(hub):
    download.main("persona")
    manifest = raw.read_manifest("persona")
    commit = hub.repos["dataset", REPO].branches["main"]
    assert manifest.revision == commit
    assert [file.name for file in manifest.files] == NAMES
    assert raw.stored(manifest.files[1], "persona").read_bytes() == f"content of {NAMES[1]}".encode()
    assert [asked.path for asked in hub.asked] == [
        f"/api/datasets/{REPO}/revision/main",
        *(f"/datasets/{REPO}/resolve/{commit}/persona/{name}" for name in NAMES),
    ]


def test_bytes_that_were_not_published_are_refused(hub):
    other = {f"persona/{name}": b"something else" for name in NAMES}
    hub.repo(REPO).commit(other)
    published = persona.PUBLISHED_SHA256[NAMES[0]]
    got = hashlib.sha256(b"something else").hexdigest()
    with pytest.raises(
        PipelineError, match=rf"{NAMES[0]} of .* must have the published sha256 {published}, got {got}"
    ):
        download.main("persona")
    assert not paths.raw("persona").exists()
    assert [path for path in paths.store().rglob("*") if path.is_file()] == []


@pytest.mark.parametrize("what", ["info", "file"])
def test_without_the_hub_there_is_one_sentence_and_no_sample(hub, what):
    hub.fault = lambda handler, asked: asked.what == what and status(502)(handler, asked)
    with pytest.raises(
        PipelineError,
        match=r"model-written-evals at main could not be downloaded \(.* answered 502, .*\); try again later, look "
        r"at persona.hub in params.yaml, or set persona.source to a folder of the files$",
    ) as caught:
        download.main("persona")
    assert "\n" not in str(caught.value)
    assert not paths.raw("persona").exists()


def test_without_going_online_there_is_one_sentence(hub, monkeypatch):
    from huggingface_hub import constants

    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    with pytest.raises(PipelineError, match=r"could not be downloaded \(HF_HUB_OFFLINE is set\); unset it, "):
        download.main("persona")
    assert hub.asked == []


def test_a_failed_download_leaves_the_manifest_that_was_there(hub):
    download.main("persona")
    before = paths.raw("persona").read_bytes()
    raw.stored(raw.read_manifest("persona").files[0], "persona").unlink()
    hub.fault = lambda handler, asked: asked.what == "file" and status(403)(handler, asked)
    with pytest.raises(PipelineError, match=r"could not be downloaded"):
        download.main("persona")
    assert paths.raw("persona").read_bytes() == before


def test_files_that_are_there_are_not_asked_for_again(hub):
    """Their published hashes say which they are; the hub is asked for the list of its files alone."""
    download.main("persona")
    before = paths.raw("persona").read_bytes()
    hub.forget()
    download.main("persona")
    assert [asked.what for asked in hub.asked] == ["info"]
    assert paths.raw("persona").read_bytes() == before


def test_a_repository_without_the_file_is_one_sentence(hub, project):
    project.set({"persona.prepare.personas": ["art", "rocks"]})
    with pytest.raises(
        PipelineError,
        match=r"model-written-evals at main has no file persona/interest-in-rocks\.jsonl; is it another repository\?",
    ):
        download.main("persona")


A, B, C = (letter * 5_000 for letter in (b"A", b"B", b"C"))  # large enough for Git LFS
FILES = {"data/b.parquet": B, "data/a.parquet": A, "notes.md": b"N", "other/a.parquet": C}


@pytest.fixture
def tables(server):
    """A hub with two large tables, a third of the same name and a small file; its commit."""
    server.commit = server.repo("org/name").commit(FILES, "v1")
    return server


def remote(*files, **how):
    return Remote("org/name", "v1", list(files), **how)


def test_patterns_are_wishes_in_their_order_and_each_files_name_gets_the_prefix(tables):
    commit, files = access.from_hub(remote("notes.md", "data/*.parquet", "data/a*", prefix="v1-"), "own")
    assert commit == tables.commit
    assert [(file.name, file.size) for file in files] == [
        ("v1-notes.md", 1), ("v1-a.parquet", 5_000), ("v1-b.parquet", 5_000),
    ]  # fmt: skip
    assert raw.stored(files[2], "own").read_bytes() == B
    assert fetched(tables) == ["notes.md", "data/a.parquet", "data/b.parquet"]


def test_what_was_downloaded_lies_in_the_store_once(tables):
    access.from_hub(remote("data/*"), "own")
    there = [path for path in paths.store().rglob("*") if path.is_file() and path.name != "hashes.sqlite"]
    assert sorted(path.read_bytes() for path in there) == [A, B]
    assert {path.parent.parent for path in there} == {paths.store() / "raw"}


def test_large_files_are_known_by_the_hash_that_the_hub_lists(tables):
    """A second download, as after a broken one, fetches only what is missing."""
    _, files = access.from_hub(remote("data/*"), "own")
    raw.stored(files[1], "own").unlink()
    tables.forget()
    assert access.from_hub(remote("data/*"), "own") == (tables.commit, files)
    assert fetched(tables) == ["data/b.parquet"]


def test_bytes_other_than_the_hub_lists_are_refused(tables):
    tables.fault = lambda handler, asked: asked.what == "file" and instead(bytes.lower)(handler, asked)
    with pytest.raises(
        PipelineError,
        match=r"a\.parquet of org/name at v1 could not .*its bytes must have the sha256 .*, got .* 3 times",
    ):
        access.from_hub(remote("data/a.parquet"), "own")
    assert [path for path in paths.store().rglob("*") if path.is_file()] == []


def source(monkeypatch, found):
    monkeypatch.setattr(DATASETS["own"], "find", lambda params: found)


def test_two_files_of_one_name_are_refused(tables, monkeypatch):
    """prepare knows raw files by their names, so one would take the other's place."""
    found = Source("hub", remotes=[remote("data/a*"), remote("other/*")])
    source(monkeypatch, found)
    with pytest.raises(
        PipelineError, match=r"^2 raw files of own are named a\.parquet; give each source its"
    ):
        download.main("own")
    assert not paths.raw("own").exists()


def test_several_repositories_are_told_apart_by_their_prefixes(tables, monkeypatch):
    found = Source("hub", remotes=[remote("data/a*"), remote("other/*", prefix="tables-")])
    source(monkeypatch, found)
    download.main("own")
    manifest = raw.read_manifest("own")
    assert [file.name for file in manifest.files] == ["a.parquet", "tables-a.parquet"]
    assert manifest.revision == f"{tables.commit}, {tables.commit}"


def test_linked_files_are_read_where_they_lie(project, monkeypatch):
    there = project.root / "big.parquet"
    there.write_bytes(b"big")
    source(monkeypatch, Source("a folder", links={"big.parquet": there}))
    download.main("own")
    (file,) = raw.read_manifest("own").files
    assert raw.stored(file, "own").resolve() == there


def test_what_the_program_makes_itself_comes_into_the_store(project, monkeypatch):
    """By its bytes: made again they are the same files, and the folder in which they were made is gone."""

    def make(folder):
        (folder / "b.txt").write_text("second")
        (folder / "a.txt").write_text("first")

    source(monkeypatch, Source("drawn", make=make))
    download.main("own")
    files = raw.read_manifest("own").files
    assert [(file.name, raw.stored(file, "own").read_text()) for file in files] == [
        ("a.txt", "first"), ("b.txt", "second"),
    ]  # fmt: skip
    before = paths.raw("own").read_bytes()
    download.main("own")
    assert paths.raw("own").read_bytes() == before
    assert {path.name for path in paths.store().iterdir()} == {"raw", "uses"}


def test_what_fails_to_be_made_leaves_nothing(project, monkeypatch):
    def make(folder):
        (folder / "a.txt").write_text("first")
        raise PipelineError("it cannot be drawn")

    source(monkeypatch, Source("drawn", make=make))
    with pytest.raises(PipelineError, match="cannot be drawn"):
        download.main("own")
    assert [path for path in paths.store().rglob("*") if path.is_file()] == []
