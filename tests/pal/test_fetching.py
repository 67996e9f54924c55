"""A model's files as one folder: whichever way they came, with the bytes that the hub lists."""

import json
import shutil
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from types import SimpleNamespace

import huggingface_hub
import pytest
from huggingface_hub import constants

from pal.errors import PalError
from pal.fetching import FetchError, Patience, fetch_folder, listing
from pal.fetching.patience import asked_for
from tests.hub_server import as_endpoint, cut_at, first, instead, serve, status

WEIGHTS = bytes(range(256)) * 40  # 10,240 bytes, in Git LFS
FILES = {
    "model.safetensors": WEIGHTS,
    "config.json": b"{}",
    "1_Pooling/config.json": b"[]",
    "model.bin": b"no",
}
WANTED = ["*.json", "*.safetensors"]
KEPT = {"model.safetensors", "config.json", "1_Pooling/config.json"}


@pytest.fixture
def hub(monkeypatch, tmp_path):
    """A hub with one model, and the cache of its client, empty."""
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(constants, "HF_HUB_DISABLE_XET", True)
    with serve() as hub, as_endpoint(hub.address):
        hub.commit = hub.repo("org/name", "model").commit(FILES)
        yield hub


@pytest.fixture
def get(hub, tmp_path):
    """Fetches the folder, and notes what is said."""

    def get(revision=None):
        patience = Patience(timeout=2.0, sleep=lambda seconds: None, say=get.said.append)
        return fetch_folder("org/name", revision, WANTED, tmp_path / "home", patience)

    get.said = []
    return get


def contents(folder):
    paths = [path for path in folder.rglob("*") if path.is_file()]
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in paths}


def expected():
    return {name: FILES[name] for name in KEPT}


def by_client(hub):
    """As another program of the user has filled the hub's own cache."""
    return huggingface_hub.snapshot_download("org/name", allow_patterns=WANTED)


def test_what_is_wanted_is_fetched_and_nothing_else(get, tmp_path):
    folder = get()
    assert contents(folder) == expected()
    assert not (tmp_path / "home/org--name/partial").exists()


def test_a_commit_that_is_here_is_not_asked_for_again(hub, get):
    folder = get(hub.commit)
    hub.forget()
    assert get(hub.commit) == folder
    assert hub.asked == []


def test_a_damaged_file_is_fetched_again(hub, get):
    folder = get(hub.commit)
    (folder / "model.safetensors").write_bytes(WEIGHTS[::-1])
    (folder / "config.json").write_bytes(b"[]")
    hub.forget()
    assert contents(get(hub.commit)) == expected()
    assert hub.counts == {"file": 2}


def test_a_cut_and_wrong_bytes_are_mended(hub, get):
    hub.fault = first(1, cut_at(5_000))
    assert contents(get()) == expected()
    shutil.rmtree(get())
    hub.forget()
    hub.fault = first(2, instead(bytes.upper))
    assert contents(get()) == expected()


def test_the_cache_of_the_hubs_client_is_used_as_it_is(hub, get):
    folder = by_client(hub)
    hub.forget()
    assert str(get()) == folder
    assert [asked.what for asked in hub.asked] == ["info"]


def test_a_damaged_file_in_that_cache_is_not_used(hub, get, tmp_path):
    folder = by_client(hub)
    (tmp_path / "cache/models--org--name/snapshots" / hub.commit / "model.safetensors").resolve().write_bytes(
        WEIGHTS[::-1]
    )
    found = get()
    assert str(found) != folder
    assert contents(found) == expected()
    assert any("has not the bytes that the hub lists" in line for line in get.said)


@pytest.mark.parametrize("revision", [None, "commit"])
def test_without_the_hub_its_clients_cache_is_used_and_checked(hub, get, revision):
    revision = revision and hub.commit
    folder = by_client(hub)
    hub.fault = lambda handler, asked: status(503)(handler, asked)
    assert str(get(revision)) == folder
    assert any("using what is here of commit" in line for line in get.said)


def test_without_the_hub_a_branch_is_as_it_was_last_seen(hub, get):
    folder = get("main")
    hub.repo("org/name", "model").commit({**FILES, "config.json": b"[1]"})
    hub.fault = lambda handler, asked: status(500)(handler, asked)
    assert get("main") == folder
    hub.forget()
    assert json.loads((get("main") / "config.json").read_text()) == [1]


def test_a_revision_that_is_gone_is_an_error_though_an_older_one_is_here(hub, get):
    get("main")
    hub.repo("org/name", "model").branches.clear()
    with pytest.raises(FetchError, match="there is no such revision"):
        get("main")


def test_a_list_that_was_damaged_here_is_asked_for_again(hub, get, tmp_path):
    get("main")
    for path in (tmp_path / "home/org--name/seen").iterdir():
        path.write_text('{"files": 3}')
    assert contents(get("main")) == expected()


@pytest.mark.parametrize(
    ("headers", "seconds"),
    [
        ({}, None),
        ({"Retry-After": "7"}, 7.0),
        ({"Retry-After": "soon"}, None),
        ({"Retry-After": "-1"}, None),
        ({"RateLimit": '"api";r=0;t=55'}, 55.0),
        ({"RateLimit": '"api";r=12;t=55'}, None),
    ],
)
def test_the_hub_may_ask_to_wait(headers, seconds):
    assert asked_for(headers) == seconds


def test_the_hub_may_ask_to_wait_until_a_time():
    then = datetime.now(UTC) + timedelta(hours=1)
    assert 3_500 < asked_for({"Retry-After": format_datetime(then, usegmt=True)}) <= 3_600


@pytest.mark.parametrize(
    ("sha", "siblings", "words"),
    [
        ("../../x", [], "names no commit"),
        (None, [], "names no commit"),
        ("0" * 40, [{"rfilename": "a"}] * 50_000, "at most 50,000"),
    ],
)
def test_a_list_that_cannot_be_is_refused(hub, monkeypatch, sha, siblings, words):
    listed = [SimpleNamespace(**one, size=1, blob_id="0" * 40, lfs=None) for one in siblings]
    answer = SimpleNamespace(sha=sha, siblings=listed)
    monkeypatch.setattr(huggingface_hub.HfApi, "repo_info", lambda *args, **kwargs: answer)
    with pytest.raises(PalError, match=words):
        listing("org/name", "model", None)


def test_a_file_without_a_hash_is_refused(hub, get, monkeypatch):
    one = SimpleNamespace(rfilename="config.json", size=2, blob_id=None, lfs=None)
    answer = SimpleNamespace(sha="0" * 40, siblings=[one])
    monkeypatch.setattr(huggingface_hub.HfApi, "repo_info", lambda *args, **kwargs: answer)
    with pytest.raises(PalError, match="lists neither its size nor its hash"):
        get()
