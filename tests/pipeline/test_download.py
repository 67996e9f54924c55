"""download: bytes into the store by their hash; the hub's are held to what was published, and never replaced."""

import hashlib
from pathlib import Path
from types import SimpleNamespace

import huggingface_hub
import pytest
from huggingface_hub.errors import HfHubHTTPError, LocalEntryNotFoundError, OfflineModeIsEnabled

from pipeline import datasets, download, layout, raw
from pipeline.datasets import Remote, persona
from pipeline.errors import PipelineError

NAMES = ["interest-in-art.jsonl", "interest-in-math.jsonl"]
COMMIT = "c0ffee" * 6


def stand_in(monkeypatch, listed, contents, asked, large=()):
    """A hub that lists files by their paths, has the contents by their names, and notes what it is asked for.

    Of `large` files it lists the sha256, as the real one does of those in Git LFS.
    """

    class Api:
        def dataset_info(self, repo, revision, files_metadata):
            assert files_metadata
            asked.append((repo, revision))
            return SimpleNamespace(sha=COMMIT, siblings=[sibling(path) for path in listed])

    def sibling(path):
        digest = hashlib.sha256(contents[listed[path]]).hexdigest()
        lfs = SimpleNamespace(sha256=digest) if path in large else None
        return SimpleNamespace(rfilename=path, lfs=lfs)

    def fetch(repo, name, *, repo_type, revision, local_dir):
        asked.append((repo, name, repo_type, revision))
        path = Path(local_dir) / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(contents[listed[name]])
        return str(path)

    monkeypatch.setattr(huggingface_hub, "HfApi", Api)
    monkeypatch.setattr(huggingface_hub, "hf_hub_download", fetch)


@pytest.fixture
def hub(project, monkeypatch):
    """A hub in place of the real one: two files, at one commit, counted as published."""
    project.set({"source.persona": "hub", "prepare.persona.personas": ["art", "math"]})
    asked = []
    contents = {name: f"content of {name}".encode() for name in NAMES}

    stand_in(monkeypatch, {f"persona/{name}": name for name in NAMES}, contents, asked)
    published = {name: hashlib.sha256(content).hexdigest() for name, content in contents.items()}
    monkeypatch.setattr(persona, "PUBLISHED_SHA256", published)
    return contents, asked


def test_files_of_a_folder_come_into_the_store(project):
    (project.root / "own.csv").write_text("hello")
    project.set({"datasets": ["own"], "source.own": "own.csv"})
    download.main("own")
    manifest = raw.read_manifest("own")
    assert (manifest.source, manifest.revision) == ("own: own.csv", None)
    assert raw.stored(manifest.files[0], "own").read_text() == "hello"


def test_a_generated_dataset_has_an_empty_manifest(project):
    download.main("simulated")
    assert raw.read_manifest("simulated").files == []


def test_files_of_the_hub_are_taken_at_the_commit_that_the_revision_names(hub):
    contents, asked = hub
    download.main("persona")
    manifest = raw.read_manifest("persona")
    assert manifest.revision == COMMIT
    assert [file.name for file in manifest.files] == NAMES
    assert raw.stored(manifest.files[1], "persona").read_bytes() == contents[NAMES[1]]
    repo = "Anthropic/model-written-evals"
    assert asked == [(repo, "main"), *((repo, f"persona/{name}", "dataset", COMMIT) for name in NAMES)]


def test_bytes_that_were_not_published_are_refused(hub):
    contents, _ = hub
    published = hashlib.sha256(contents[NAMES[1]]).hexdigest()
    contents[NAMES[1]] = b"something else"
    got = hashlib.sha256(b"something else").hexdigest()
    with pytest.raises(
        PipelineError, match=rf"{NAMES[1]} of .* must have the published sha256 {published}, got {got}"
    ):
        download.main("persona")
    assert not layout.raw("persona").exists()


def failing(error):
    def fail(*args, **kwargs):
        raise error

    return fail


ERRORS = [
    LocalEntryNotFoundError("no network\nat all"),
    OfflineModeIsEnabled("offline"),
    ConnectionError("refused"),
    TimeoutError("too slow"),
]


@pytest.mark.parametrize("error", ERRORS, ids=lambda error: type(error).__name__)
@pytest.mark.parametrize("where", ["hf_hub_download", "HfApi"])
def test_without_the_hub_there_is_one_sentence_and_no_sample(hub, monkeypatch, error, where):
    monkeypatch.setattr(huggingface_hub, where, failing(error))
    with pytest.raises(
        PipelineError,
        match=r"model-written-evals at main could not be downloaded \(.*\); check the network and params.yaml under "
        r"hub, or set source.persona to a folder of the files$",
    ) as caught:
        download.main("persona")
    assert "\n" not in str(caught.value)
    assert not layout.raw("persona").exists()


def test_an_answer_of_the_hub_that_is_an_error_is_one_sentence(hub, monkeypatch):
    http_error = HfHubHTTPError.__bases__[0]  # as of its HTTP library, which is no OSError
    assert not issubclass(http_error, OSError)
    error = http_error("404: no such revision")
    monkeypatch.setattr(huggingface_hub, "hf_hub_download", failing(error))
    with pytest.raises(PipelineError, match=r"could not be downloaded \(404: no such revision\)"):
        download.main("persona")


def test_a_failed_download_leaves_the_manifest_that_was_there(hub, monkeypatch):
    download.main("persona")
    before = layout.raw("persona").read_bytes()
    raw.stored(raw.read_manifest("persona").files[0], "persona").unlink()
    monkeypatch.setattr(huggingface_hub, "hf_hub_download", failing(ConnectionError("refused")))
    with pytest.raises(PipelineError, match=r"could not be downloaded"):
        download.main("persona")
    assert layout.raw("persona").read_bytes() == before


def test_files_that_are_there_are_not_asked_for_again(hub):
    """Their published hashes say which they are; the hub is asked for the list of its files alone."""
    _, asked = hub
    download.main("persona")
    before = layout.raw("persona").read_bytes()
    asked.clear()
    download.main("persona")
    assert asked == [("Anthropic/model-written-evals", "main")]
    assert layout.raw("persona").read_bytes() == before


def test_a_repository_without_the_file_is_one_sentence(hub, project):
    project.set({"prepare.persona.personas": ["art", "rocks"]})
    with pytest.raises(
        PipelineError,
        match=r"model-written-evals at main has no file persona/interest-in-rocks\.jsonl; is it another repository\?",
    ):
        download.main("persona")


LISTED = {"data/b.parquet": "b", "data/a.parquet": "a", "notes.md": "n", "other/a.parquet": "c"}
CONTENTS = {"a": b"A" * 5, "b": b"B" * 7, "n": b"N", "c": b"C"}


@pytest.fixture
def tables(project, monkeypatch):
    """A hub with two large tables, a third of the same name and a small file; what it is asked for."""
    asked = []
    contents = dict(CONTENTS)
    stand_in(monkeypatch, LISTED, contents, asked, large={"data/a.parquet", "data/b.parquet"})
    return contents, asked


def remote(*files, **how):
    return Remote("org/name", "v1", list(files), **how)


def fetched(asked):
    return [words[1] for words in asked if len(words) == 4]


def test_patterns_are_wishes_in_their_order_and_each_files_name_gets_the_prefix(tables):
    commit, files = download.from_hub(remote("notes.md", "data/*.parquet", "data/a*", prefix="v1-"), "own")
    assert commit == COMMIT
    assert [(file.name, file.size) for file in files] == [
        ("v1-notes.md", 1), ("v1-a.parquet", 5), ("v1-b.parquet", 7),
    ]  # fmt: skip
    assert raw.stored(files[2], "own").read_bytes() == b"B" * 7
    assert fetched(tables[1]) == ["notes.md", "data/a.parquet", "data/b.parquet"]


def test_what_was_downloaded_lies_in_the_store_once(tables):
    download.from_hub(remote("data/*"), "own")
    there = [path for path in layout.store().rglob("*") if path.is_file() and path.name != "hashes.sqlite"]
    assert sorted(path.read_bytes() for path in there) == [b"A" * 5, b"B" * 7]
    assert {path.parent.parent for path in there} == {layout.store() / "raw"}


def test_large_files_are_known_by_the_hash_that_the_hub_lists(tables):
    """A second download, as after a broken one, fetches only what is missing."""
    _, asked = tables
    _, files = download.from_hub(remote("data/*"), "own")
    raw.stored(files[1], "own").unlink()
    asked.clear()
    assert download.from_hub(remote("data/*"), "own") == (COMMIT, files)
    assert fetched(asked) == ["data/b.parquet"]


def test_bytes_other_than_the_hub_lists_are_refused(tables, monkeypatch):
    contents, _ = tables
    real = huggingface_hub.hf_hub_download

    def cut(repo, name, **how):
        path = real(repo, name, **how)
        Path(path).write_bytes(contents["a"][:3])
        return path

    monkeypatch.setattr(huggingface_hub, "hf_hub_download", cut)
    with pytest.raises(PipelineError, match=r"a\.parquet of org/name must have the published sha256 .*, got"):
        download.from_hub(remote("data/a.parquet"), "own")
    assert not list(layout.store().rglob("a.parquet"))


def source(monkeypatch, found):
    monkeypatch.setattr(datasets, "of", lambda dataset: SimpleNamespace(find=lambda params: found))


def test_two_files_of_one_name_are_refused(tables, monkeypatch):
    """prepare knows raw files by their names, so one would take the other's place."""
    found = datasets.Found("hub", remotes=[remote("data/a*"), remote("other/*")])
    source(monkeypatch, found)
    with pytest.raises(
        PipelineError, match=r"^2 raw files of own are named a\.parquet; give each source its"
    ):
        download.main("own")
    assert not layout.raw("own").exists()


def test_several_repositories_are_told_apart_by_their_prefixes(tables, monkeypatch):
    found = datasets.Found("hub", remotes=[remote("data/a*"), remote("other/*", prefix="tables-")])
    source(monkeypatch, found)
    download.main("own")
    manifest = raw.read_manifest("own")
    assert [file.name for file in manifest.files] == ["a.parquet", "tables-a.parquet"]
    assert manifest.revision == f"{COMMIT}, {COMMIT}"


def test_linked_files_are_read_where_they_lie(project, monkeypatch):
    there = project.root / "big.parquet"
    there.write_bytes(b"big")
    source(monkeypatch, datasets.Found("a folder", links={"big.parquet": there}))
    download.main("own")
    (file,) = raw.read_manifest("own").files
    assert raw.stored(file, "own").resolve() == there


def test_what_the_program_makes_itself_comes_into_the_store(project, monkeypatch):
    """By its bytes: made again they are the same files, and the folder in which they were made is gone."""

    def make(folder):
        (folder / "b.txt").write_text("second")
        (folder / "a.txt").write_text("first")

    source(monkeypatch, datasets.Found("drawn", make=make))
    download.main("own")
    files = raw.read_manifest("own").files
    assert [(file.name, raw.stored(file, "own").read_text()) for file in files] == [
        ("a.txt", "first"), ("b.txt", "second"),
    ]  # fmt: skip
    before = layout.raw("own").read_bytes()
    download.main("own")
    assert layout.raw("own").read_bytes() == before
    assert {path.name for path in layout.store().iterdir()} == {"raw", "uses"}


def test_what_fails_to_be_made_leaves_nothing(project, monkeypatch):
    def make(folder):
        (folder / "a.txt").write_text("first")
        raise PipelineError("it cannot be drawn")

    source(monkeypatch, datasets.Found("drawn", make=make))
    with pytest.raises(PipelineError, match="cannot be drawn"):
        download.main("own")
    assert [path for path in layout.store().rglob("*") if path.is_file()] == []
