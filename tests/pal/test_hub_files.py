"""Files of the hub: checked by the hashes that it lists, used offline, and every failure is one sentence."""

from types import SimpleNamespace

import pytest
from huggingface_hub.errors import GatedRepoError, HfHubHTTPError, OfflineModeIsEnabled, RevisionNotFoundError

from pal import PalError, files
from tests.hub_client import hub_client  # noqa: F401

BIG = bytes(range(256)) * 10
FILES = {"config.json": b"{}", "model.safetensors": BIG, "pytorch_model.bin": b"pickle"}
WANTED = ["*.json", "*.safetensors"]


def answer(status, kind=HfHubHTTPError):
    return kind("\n words", response=SimpleNamespace(status_code=status, headers={}, request=None))


def get(revision=None):
    return files.download("org/name", revision, WANTED, advice="take a folder")


@pytest.fixture
def hub(hub_client):  # noqa: F811
    hub_client.first = hub_client.commit("org/name", FILES)
    return hub_client


def test_what_matches_is_downloaded_and_nothing_else(hub):
    folder = get()
    assert {path.name: path.read_bytes() for path in folder.iterdir()} == {
        "config.json": b"{}", "model.safetensors": BIG,
    }  # fmt: skip
    hub.commit("org/name", {"config.json": b"[]", "model.safetensors": BIG[::-1]})
    assert (get(hub.first) / "config.json").read_bytes() == b"{}"
    assert (get() / "config.json").read_bytes() == b"[]"


def test_a_commit_in_the_cache_is_used_without_the_hub_and_so_is_a_branch(hub):
    folder = get()
    hub.error = OfflineModeIsEnabled()
    assert get() == get(hub.first) == folder
    hub.error = answer(503)
    assert get() == folder
    hub.error = answer(404, RevisionNotFoundError)
    with pytest.raises(PalError, match="there is no such revision"):
        get()


@pytest.mark.parametrize(
    ("name", "algorithm"), [("config.json", "git-sha1"), ("model.safetensors", "sha256")]
)
def test_bytes_other_than_the_hub_lists_are_refused_and_fetched_again(hub, name, algorithm):
    hub.damaged = lambda data: data[::-1] if data == FILES[name] else data
    with pytest.raises(
        PalError,
        match=rf"^{name} of org/name at main must have the {algorithm} \w+ that .*, or take a folder$",
    ):
        get(None)
    hub.damaged = lambda data: data
    assert (get(hub.first) / name).read_bytes() == FILES[name]


@pytest.mark.parametrize(
    ("error", "words"),
    [
        (answer(403, GatedRepoError), r"its owner must grant access\); accept its terms there and log in"),
        (answer(404, RevisionNotFoundError), r"there is no such revision\); check the revision"),
        (answer(401), r"answered 401\); run `hf auth login`"),
        (answer(500), r"answered 500\); try again later"),
        (OfflineModeIsEnabled(), r"HF_HUB_OFFLINE is set\); unset it"),
        (OSError(28, "No space left on device", "/x"), r"/x: No space left on device\); make room there"),
        (ConnectionError("no\nroute"), r"no route\); check the network"),
    ],
)
def test_a_failure_is_one_sentence(hub, error, words):
    hub.error = error
    with pytest.raises(
        PalError, match=rf"^org/name at main could not be downloaded \(.*{words}, or take a folder$"
    ):
        get()
    with pytest.raises(PalError, match=words):
        files.list_files("org/name", "main", advice="take a folder")
    hub.error = None
    with pytest.raises(PalError, match=r"no such repository at .*, or it is private\); check its name"):
        files.download("org/other", None, WANTED, advice="x")
