"""Raw files: pinned by their sha256 in a small manifest, their bytes in the store, shared by all datasets."""

import hashlib
import secrets
from dataclasses import asdict, dataclass
from pathlib import Path

from pal.files import move_file, new_file, sentence, sha256_of, write_json
from pipeline import paths
from pipeline.errors import PipelineError
from pipeline.storage import hashes, uses
from pipeline.storage.manifests import read_json

BLOCK = 1 << 20  # bytes


@dataclass(frozen=True)
class RawFile:
    """One raw file.

    Args:
        name: Its name within the dataset.
        sha256: What its bytes must hash to.
        size: Bytes.
    """

    name: str
    sha256: str
    size: int


@dataclass(frozen=True)
class Manifest:
    """What download leaves in place of the bytes: where they came from, and which they are.

    Args:
        source: The words of params.yaml that chose them.
        revision: The hub's commits that they were taken from; None elsewhere.
        files: The files, in the order to read them in.
    """

    source: str
    revision: str | None
    files: list[RawFile]


def find_files(source: str, what: str, suffixes: tuple[str, ...]) -> list[Path]:
    """The files behind a FOLDER or FILE in params.yaml, in the order of their names.

    Args:
        source: The path as written, absolute or relative to the repository.
        what: The parameter that holds it, for messages.
        suffixes: Endings of the files to take from a folder, and allowed for a file.

    Raises:
        PipelineError: If there is no such path, or no such file in it.
    """
    path = paths.project_root() / Path(source).expanduser()
    if path.is_file():
        if path.suffix not in suffixes:
            raise PipelineError(f"{what} must be a {', '.join(suffixes)} file, got {source!r}")
        return [path]
    if not path.is_dir():
        raise PipelineError(
            f"{what} must be an existing file or folder, got {source!r}, looked for at {path}"
        )
    found = sorted(file for file in path.iterdir() if file.suffix in suffixes and file.is_file())
    if not found:
        raise PipelineError(f"{what} must hold {', '.join(suffixes)} files, got {source!r}, which has none")
    return found


def keep(path: Path, name: str | None = None) -> RawFile:
    """Bring a file's bytes into the store, if they are not there, and say which they are."""
    sha256 = sha256_of(path)
    home = home_of(sha256)
    if home.is_symlink() or not home.exists():  # what a link leads to may change or go
        digest = hashlib.sha256()
        with new_file(home) as out, path.open("rb") as file:
            while block := file.read(BLOCK):
                digest.update(block)
                out.write(block)
            if digest.hexdigest() != sha256:
                raise PipelineError(f"{path} changed while it was being copied; run the stage again")
    return RawFile(name or path.name, sha256, path.stat().st_size)


def link(path: Path, name: str | None = None) -> RawFile:
    """Have the store point to a file where it lies, in place of a copy, and say which bytes it has."""
    sha256 = hashes.sha256(path)
    home = home_of(sha256)
    if not home.exists() or hashes.sha256(home) != sha256:  # or an older link leads elsewhere by now
        _link_to(path.resolve(), home)
    return RawFile(name or path.name, sha256, path.stat().st_size)


def move_in(path: Path, name: str, sha256: str | None = None) -> RawFile:
    """Bring a file that nobody else needs into the store without copying it, and say which bytes it has.

    Args:
        path: The file.
        name: Its name within the dataset.
        sha256: Of its bytes, where that is known already.
    """
    size, sha256 = path.stat().st_size, sha256 or sha256_of(path)
    move_file(path, home_of(sha256))
    return RawFile(name, sha256, size)


def find(sha256: str, name: str) -> RawFile | None:
    """A file that the store has, by its hash; None where it has not, or not any more."""
    home = home_of(sha256)
    if not home.exists() or hashes.sha256(home) != sha256:
        return None
    return RawFile(name, sha256, home.stat().st_size)


def stored(file: RawFile, dataset: str) -> Path:
    """Where the store holds a raw file, its hash checked; the last part of the path is its sha256.

    Raises:
        PipelineError: If it is not there or damaged.
    """
    home = home_of(file.sha256)
    again = f"run `dvc repro -f -s download@{dataset}`"
    if not home.exists():
        raise PipelineError(
            f"the raw file {file.name} of {dataset} is not in the store {paths.store()}; {again}"
        )
    if hashes.sha256(home) != file.sha256:
        what = "was changed where it lies" if home.is_symlink() else "was damaged in the store"
        home.unlink()
        raise PipelineError(f"the raw file {file.name} of {dataset} {what}; {again}")
    return home


def write_manifest(dataset: str, manifest: Manifest) -> None:
    """Write what download found, as JSON."""
    write_json(paths.raw(dataset), asdict(manifest))
    uses.record(dataset, "raw")


def read_manifest(dataset: str) -> Manifest:
    """Read what download found.

    Raises:
        PipelineError: If it is missing, or not what was written.
    """
    path, stage = paths.raw(dataset), f"download@{dataset}"
    values = read_json(path, stage)
    try:
        return Manifest(values["source"], values["revision"], [RawFile(**file) for file in values["files"]])
    except (LookupError, TypeError) as error:
        raise PipelineError(f"{path} is damaged ({error}); run `dvc repro -f {stage}`") from None


def home_of(sha256: str) -> Path:
    """Where the store holds the bytes of a hash, if it does."""
    return paths.store() / "raw" / sha256[:2] / sha256


def _link_to(target: Path, home: Path) -> None:
    """Make `home` a symbolic link, in place of what it was."""
    temporary = home.with_name(f".{home.name}.{secrets.token_hex(8)}.new")
    try:
        home.parent.mkdir(parents=True, exist_ok=True)
        temporary.symlink_to(target)
        temporary.replace(home)
    except OSError as error:
        raise PipelineError(sentence(error, f"{home} cannot be written")) from None
