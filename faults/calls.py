"""The n-th call that opens, writes, syncs, renames, makes or removes fails, for every n, once and for good.

Small real runs replace what an earlier run wrote. Whatever call fails, a run ends well, or with one sentence
and a code that is not 0; every output is the old one or the new one, byte for byte; run again, it is the one
of an undisturbed run, and nothing temporary is left.
"""

import hashlib
import io
import os
import re
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from contextlib import chdir, contextmanager, redirect_stderr, redirect_stdout
from dataclasses import dataclass
from pathlib import Path

import yaml

from faults.shim import FAULTS, Shim, installed
from faults.tally import Tally
from pal import temporaries

ROOT = Path(__file__).parents[1]
BOOKS = {"hashes.sqlite", ".claims", "uses", "about.json"}  # of who has what: no artefacts
BAR = re.compile(r"\r[^\r\n]*?\](\n|(?=error:)|(?=\r)|$)")
SENTENCE = re.compile(r"(warning: [^\n]*\n)*error: [^\n]+\n")
Ended = tuple[int, str]  # the exit code, and what was said on standard error
Act = Callable[[], Ended]
Start = Callable[[Shim], Ended]


@dataclass(frozen=True)
class Run:
    """A run to disturb.

    Args:
        what: In words.
        outputs: The files and folders that it writes, each old or new as a whole.
        before: What an earlier run did, and what is changed since.
        act: The run, in the current folder.
    """

    what: str
    outputs: tuple[str, ...]
    before: Callable[[], None]
    act: Act


def run(*, only: tuple[str, ...] = (), step: int = 1, child: bool = True) -> list[Tally]:
    """Disturb all runs.

    Args:
        only: Names of those to take; empty takes all.
        step: Every how manieth call fails.
        child: Whether to disturb a real `python -m pipeline` too.
    """
    tallies = [disturb(each, step=step) for name, each in RUNS.items() if not only or name in only]
    if child:
        tallies.append(
            disturb(RUNS["split"], step=step, start=in_a_child("split"), what="split, as a process")
        )
    return tallies


def disturb(
    each: Run,
    *,
    step: int = 1,
    start: Start | None = None,
    what: str = "",
    faults: tuple[str, ...] = FAULTS,
) -> Tally:
    """Have every call of one run fail, in every way."""
    failures: list[str] = []
    cases = ended_well = 0
    with tempfile.TemporaryDirectory() as home:
        base, whole = Path(home) / "base", Path(home) / "whole"
        base.mkdir()
        with _in(base):
            each.before()
        counts = {}
        for fault in ("EIO", "short"):
            shutil.rmtree(whole, ignore_errors=True)
            shutil.copytree(base, whole, symlinks=True)
            with _in(whole), installed(Shim(fault=fault)) as shim:
                code, said = each.act()
            if code:
                raise RuntimeError(f"{each.what}: the undisturbed run ended with {code}: {said}")
            counts[fault] = len(shim.seen)
        for fault in faults:
            for sticky in (False, True):
                for nth in range(1, counts["short" if fault == "short" else "EIO"] + 1, step):
                    shim = Shim(nth, fault, sticky)
                    complaint, code = _case(each, shim, Path(home), start or _in_this(each))
                    cases += 1
                    ended_well += code == 0
                    if complaint:
                        how = "for good" if sticky else "once"
                        failures.append(f"{each.what}: {fault} {how} at call {nth}: {complaint}")
    about = {"calls": counts["EIO"], "writes": counts["short"], "ended well": ended_well}
    return Tally(f"failing calls: {what or each.what}", cases, failures, about)


def _case(each: Run, shim: Shim, home: Path, start: Start) -> tuple[str, int]:
    """One disturbed run, and the one after it; what is wrong, empty if nothing, and how it ended."""
    place, base, whole = home / "case", home / "base", home / "whole"
    shutil.rmtree(place, ignore_errors=True)
    shutil.copytree(base, place, symlinks=True)
    with _in(place):
        code, said = start(shim)
        if code and not SENTENCE.fullmatch(said):
            return f"ended with {code} and said {said[-300:]!r}", code
        for output in each.outputs:
            now = snapshot(place / output)
            if now != snapshot(whole / output) and (code == 0 or now != snapshot(base / output)):
                return f"ended with {code}, and {output} is neither the old nor the new", code
        if wrong := _wrong_in_store(place / "store", base / "store"):
            return f"ended with {code}, and {wrong}", code
        temporaries.forget()  # as another process would
        again, said = each.act()
        if again:
            return f"run again, it ended with {again} and said {said[-300:]!r}", code
        for output in (*each.outputs, "store"):
            if snapshot(place / output) != snapshot(whole / output):
                return f"run again, {output} is not as it should be", code
    left = [path.name for path in place.rglob("*") if temporaries.OURS.fullmatch(path.name)]
    return (f"run again, {min(left)} is left" if left else ""), code


def snapshot(path: Path) -> dict[str, bytes]:
    """What stands at a place: bytes by path, without temporaries and the book of hashes."""
    if path.is_file():
        return {"": path.read_bytes()}
    found = {}
    for file in sorted(path.rglob("*")):
        inside = file.relative_to(path)
        if (
            file.is_file()
            and not BOOKS & set(file.parts)
            and not any(map(temporaries.OURS.fullmatch, inside.parts))
        ):
            found[inside.as_posix()] = file.read_bytes()
    return found


def _wrong_in_store(store: Path, before: Path) -> str:
    """The store's files are named after what they hold, and none goes."""
    now = snapshot(store)
    for name, data in now.items():
        if hashlib.sha256(data).hexdigest() != Path(name).stem:
            return f"the store's {name} does not hold what its name says"
    gone = snapshot(before).keys() - now.keys()
    return f"the store's {min(gone)} is gone" if gone else ""


@contextmanager
def _in(place: Path) -> Iterator[None]:
    kept = os.environ.get("PAL_STORE")
    os.environ["PAL_STORE"] = str(place / "store")
    try:
        with chdir(place):
            yield
    finally:
        if kept is None:
            del os.environ["PAL_STORE"]
        else:
            os.environ["PAL_STORE"] = kept


def _in_this(each: Run) -> Start:
    def start(shim: Shim) -> Ended:
        with installed(shim):
            return each.act()

    return start


def in_a_child(name: str) -> Start:
    """The stage as a process of its own."""

    def start(shim: Shim) -> Ended:
        how = "sticky" if shim.sticky else "once"
        done = subprocess.run(
            [sys.executable, "-m", "faults.shim", str(shim.nth), shim.fault, how, name, "own"],
            env={**os.environ, "PYTHONPATH": str(ROOT)},
            capture_output=True,
            check=False,
        )
        return done.returncode, BAR.sub("", done.stderr.decode("utf-8"))

    return start


def _ended(main: Callable[[], object], words: list[str]) -> Ended:
    """Run a command line in this process."""
    out, err, kept = io.StringIO(), io.StringIO(), sys.argv
    sys.argv = words
    try:
        with redirect_stdout(out), redirect_stderr(err):
            main()
    except SystemExit as end:
        return int(end.code or 0), BAR.sub("", err.getvalue())
    except BaseException as error:
        return 1, f"Traceback: {type(error).__name__}: {error}"
    finally:
        sys.argv = kept
    return 0, ""


def stage(name: str, dataset: str = "own") -> Ended:
    """Run a stage through the pipeline's command line."""
    from pipeline.__main__ import main

    return _ended(main, ["pipeline", name, dataset])


def _project(people: int = 6) -> None:
    """Half of the people like whatever is red, half whatever is blue; three epochs."""
    lines = ["user_id,prompt,chosen,rejected"]
    for user in range(people):
        for n in range(8):
            things = [f"a red thing {n % 5}", f"a blue thing {n % 5}"]
            first, second = things if user % 2 else things[::-1]
            lines.append(f"user {user},which of {n % 4}?,{first},{second}")
    Path("own.csv").write_text("\n".join(lines) + "\n", encoding="utf-8")
    values = yaml.safe_load((ROOT / "params.yaml").read_text(encoding="utf-8"))
    values["datasets"], values["model"]["K"] = ["own"], 2
    values["own"]["source"], values["own"]["encoder"] = "own.csv", "hashed-words"
    values["encode"]["device"] = values["train"]["device"] = "cpu"
    values["own"]["head"]["latent"] = 4
    values["own"]["train"] |= {"epochs": 3, "validate_every": 3, "restarts": 1}
    values["own"]["split"]["unseen_users"] = 0.34
    Path("params.yaml").write_text(yaml.safe_dump(values), encoding="utf-8")


def _until(name: str) -> Callable[[], None]:
    """A first pass over all stages up to one; then there is one person more, and that one is to run again."""
    names = ("download", "prepare", "recolour", "split", "encode", "train")

    def before() -> None:
        for people in (6, 7):
            _project(people)
            for each in names[: names.index(name) + (people == 6)]:
                code, said = stage(each)
                if code:
                    raise RuntimeError(f"{each} ended with {code}: {said}")

    return before


def _old_table() -> None:
    Path("table.parquet").write_bytes(b"the old table")


def _write_table() -> Ended:
    from pipeline.__main__ import main
    from pipeline.storage import tables

    def write() -> None:
        from pipeline import __main__

        kept, __main__.app = (
            __main__.app,
            lambda: tables.write_table(
                Path("table.parquet"), tables.text_items(["a", "b"]), tables.items_schema()
            ),
        )
        try:
            main()
        finally:
            __main__.app = kept

    return _ended(write, ["pipeline"])


def _model() -> None:
    _until("train")()
    stage("train")
    Path("in.jsonl").write_text('{"prompt": "which?", "response": "a red thing 1"}\n' * 3, encoding="utf-8")
    Path("out.jsonl").write_text("old\n", encoding="utf-8")


def _score() -> Ended:
    from pal.cli.app import main

    return _ended(main, ["pal", "score", "data/models/own/model", "in.jsonl", "--out", "out.jsonl"])


RUNS = {
    "table": Run("a table", ("table.parquet",), _old_table, _write_table),
    **{
        name: Run(name, outputs, _until(name), lambda name=name: stage(name))
        for name, outputs in {
            "download": ("data/raw/own.json",),
            "prepare": ("data/prepared/own",),
            "split": ("data/splits/own",),
            "encode": ("data/embeddings/own",),
            "train": ("data/models/own", "metrics/training/own.csv"),
        }.items()
    },
    "score": Run("pal score", ("out.jsonl",), _model, _score),
}
