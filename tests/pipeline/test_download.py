"""download: bytes into the store by their hash; the hub's are held to what was published, and never replaced."""

import hashlib

import huggingface_hub
import pytest
from huggingface_hub.errors import HfHubHTTPError, LocalEntryNotFoundError, OfflineModeIsEnabled

from pipeline import download, layout, raw
from pipeline.datasets import persona
from pipeline.errors import PipelineError

NAMES = ["interest-in-art.jsonl", "interest-in-math.jsonl"]
COMMIT = "c0ffee" * 6


@pytest.fixture
def hub(project, monkeypatch, tmp_path):
    """A hub in place of the real one: two files, at one commit, counted as published."""
    project.set({"source.persona": "hub", "prepare.persona.personas": ["art", "math"]})
    asked = []
    contents = {name: f"content of {name}".encode() for name in NAMES}

    class Info:
        sha = COMMIT

    class Api:
        def dataset_info(self, repo, revision):
            asked.append((repo, revision))
            return Info()

    def fetch(repo, name, *, repo_type, revision):
        asked.append((repo, name, repo_type, revision))
        path = tmp_path / "hub" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(contents[path.name])
        return str(path)

    monkeypatch.setattr(huggingface_hub, "HfApi", Api)
    monkeypatch.setattr(huggingface_hub, "hf_hub_download", fetch)
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
        match=r"model-written-evals at main could not be downloaded \(.*\); check the network, or",
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
    monkeypatch.setattr(huggingface_hub, "hf_hub_download", failing(ConnectionError("refused")))
    with pytest.raises(PipelineError, match=r"could not be downloaded"):
        download.main("persona")
    assert layout.raw("persona").read_bytes() == before
