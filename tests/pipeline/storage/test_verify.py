"""verify: finds what changed without a trace, in data, store and DVC's cache, and its commands mend it."""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from pipeline import paths
from pipeline.storage import raw_files, upkeep


def run(capsys, **options):
    """The exit code and what was printed."""
    try:
        upkeep.verify(**options)
        code = 0
    except SystemExit as ended:
        code = ended.code
    return code, capsys.readouterr().out


def flip(path):
    """Flip one bit and leave size, time and protection as they were."""
    about = path.stat()
    path.chmod(0o644)
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(data)
    path.chmod(about.st_mode)
    os.utime(path, ns=(about.st_atime_ns, about.st_mtime_ns))


DAMAGED = [
    "data/embeddings/own/text/shard-00000.parquet",
    "data/models/own/k1/SHA256SUMS",
    "data/raw/own.json",
    "data/models/simulated/manifest.json",
    "store/embeddings/hashed-words-*/*.parquet",
    "store/raw/??/*",
]


def test_a_flipped_bit_anywhere_is_named_and_nothing_is_removed(small, capsys):
    code, out = run(capsys)
    assert code == 0
    assert re.fullmatch(r"verified \d+ files of 0\.\d\d GB: all as they were written\n", out)
    for pattern in DAMAGED:
        path = min(small.root.glob(pattern))
        content = path.read_bytes()
        flip(path)
        code, out = run(capsys)
        assert code == 1
        assert re.search(rf"{path.name}( is damaged or was changed|\))", out)
        assert "rm -f" in out
        assert path.exists()
        path.chmod(0o644)
        path.write_bytes(content)
    path.unlink()
    assert f"{path.name} is missing (says data/raw/own.json (own.csv))" in run(capsys)[1]
    assert "dvc repro -f -s download@own && dvc repro" in run(capsys)[1]


def test_a_linked_file_is_read_where_it_lies_and_only_the_link_is_removed(project, capsys):
    assert run(capsys) == (0, "nothing to verify yet; run `dvc repro`\n")
    mine = project.root / "mine.csv"
    mine.write_text("before")
    raw_files.write_manifest("own", raw_files.Manifest("here", None, [raw_files.link(mine)]))
    assert run(capsys)[0] == 0
    mine.write_text("beyond")
    assert run(capsys, mend=True)[0] == 1
    assert mine.read_text() == "beyond"
    assert not [path for path in (paths.store() / "raw").glob("*/*") if path.is_symlink()]


TOY = """\
stages:
  one:
    cmd: mkdir -p data/one/deep; printf 11 > data/one/a; printf 22 > data/one/deep/b
    outs: [data/one]
  two:
    cmd: cat data/one/a data/one/deep/b > data/two
    deps: [data/one]
    outs: [data/two]
"""


def shell(command):
    environment = {**os.environ, "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"}
    done = subprocess.run(command, shell=True, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.fixture(scope="module")
def toy(tmp_path_factory):
    """A repository of two stages under real DVC, after a run."""
    root = tmp_path_factory.mktemp("toy")
    (root / "dvc.yaml").write_text(TOY)
    (root / ".dvc").mkdir()  # as `dvc init --no-scm` and `dvc config` make it
    (root / ".dvc/config").write_text("[core]\n    no_scm = True\n[cache]\n    type = hardlink,symlink\n")
    shell(f"cd {root} && dvc repro -q")
    return root


KINDS = [  # what is damaged, how, and how many files go
    ("one/a", flip, 2),  # of which DVC's cache is another name
    ("cache of two", lambda path: path.unlink(), 0),  # what the cache lacks is no damage
    ("cache of one", flip, 1),
]


@pytest.mark.parametrize(("name", "damage", "count"), KINDS)
def test_mending_removes_wrong_bytes_alone_commands_the_rest(toy, monkeypatch, capsys, name, damage, count):
    """DVC itself takes each of these caches for whole, and brings the damage back."""
    monkeypatch.chdir(toy)
    monkeypatch.setenv("PAL_STORE", str(toy / "store"))
    assert run(capsys)[0] == 0
    objects = {path: path.read_bytes() for path in Path(".dvc/cache/files").rglob("*") if path.is_file()}
    cached = {"cache of one": ".dir", "cache of two": "1122"}.get(name)
    path = Path("data") / name
    if cached:
        (path,) = (at for at, data in objects.items() if at.suffix == cached or data == cached.encode())
    damage(path)
    if not count:
        assert run(capsys)[0] == 0
        return
    said = run(capsys)[1]
    lines = said.split("to mend:\n")[1].splitlines()[:-1]
    assert [line.split()[0] for line in lines].count("rm") == count
    code, said = run(capsys, mend=True)
    assert (code, f"removed {count} files; now run: {lines[-1].strip()}\n" in said) == (1, True)
    kept = {at for at, data in objects.items() if at.exists() and at.read_bytes() == data}
    assert len(objects) - len(kept) == 1
    shell(lines[-1])
    assert run(capsys)[0] == 0
    assert Path("data/two").read_text() == "1122"
