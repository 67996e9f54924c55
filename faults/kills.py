"""SIGKILL at seeded moments of real stages; what resumes must end with the same bytes as what was left alone.

encode, download and train run as commands in projects of their own; the store's own writing in a loop. Each
notes what it is at, and is killed a seeded few milliseconds after it has noted a seeded number of lines: so a
busy machine moves no kill to where nothing is done yet. What was done twice is counted in the notes of the
killed run and of the one after.
"""

import os
import random
import shutil
import signal
import subprocess
import tempfile
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path

from faults.killed import PATIENCE, Target, begin, finish, noted, targets
from faults.tally import Tally
from faults.trace import twice

KILLS = 20
TEXTS = 5_000
AT_ONCE = 2
LATEST = 0.9  # of the lines, after which no kill is aimed: the end would come first
DELAY = 0.05  # seconds after a line, at most
LOOK = 0.002  # seconds between looks at the notes


@dataclass(frozen=True)
class Kill:
    """One kill, and what came of it.

    Args:
        fault: What went wrong; empty if nothing.
        at_work: Whether it had begun and not ended.
        redone: Pieces that were begun twice.
    """

    fault: str
    at_work: bool
    redone: int = 0


@dataclass(frozen=True)
class Aim:
    """When to kill: so many seconds after so many lines were noted."""

    lines: int
    delay: float

    def __str__(self) -> str:
        return f"{1000 * self.delay:.0f} ms after line {self.lines}"


def run(kills: int = KILLS, texts: int = TEXTS, seed: int = 0, only: tuple[str, ...] = ()) -> list[Tally]:
    """So many kills of each target, or of some."""
    with tempfile.TemporaryDirectory() as folder:
        return [
            _campaign(target, Path(folder) / target.name.replace(" ", "-"), kills, texts, seed)
            for target in targets()
            if not only or target.name in only
        ]


def _campaign(target: Target, folder: Path, kills: int, texts: int, seed: int) -> Tally:
    first = folder / "undisturbed"
    target.ready(first, texts)
    shutil.copytree(first, folder / "fresh", symlinks=True)
    fault = finish(begin(target, first), first)
    if fault:
        raise RuntimeError(f"{target.name} undisturbed {fault}")
    wanted, lines = hashes(first, target.made), noted(first)
    aims = aimed(len(lines), kills, f"{seed} {target.name}")

    def once(number: int) -> Kill:
        here = folder / f"{number}"
        shutil.copytree(folder / "fresh", here, symlinks=True)
        found = _kill(target, here, aims[number], wanted)
        shutil.rmtree(here)
        return found

    with ThreadPoolExecutor(AT_ONCE) as pool:
        found = list(pool.map(once, range(kills)))
    failures = [
        f"{target.name}, seed {seed}, kill {n}, {aims[n]}: {kill.fault}"
        for n, kill in enumerate(found)
        if kill.fault
    ]
    return _tally(target, found, failures, sum(line.startswith("start") for line in lines))


def _tally(target: Target, found: list[Kill], failures: list[str], pieces: int) -> Tally:
    at_work = sum(kill.at_work for kill in found)
    if at_work < len(found) - len(found) // 10:
        failures = [*failures, f"{target.name}: only {at_work} of {len(found)} were at work when killed"]
    about = {"at work when killed": at_work}
    if pieces:
        redone = [kill.redone for kill in found]
        about |= {"pieces": pieces, "redone at most": max(redone), "redone in all": sum(redone)}
    return Tally(f"kills of {target.name}", len(found), failures, about)


def aimed(lines: int, kills: int, seed: str) -> list[Aim]:
    """Kills spread by chance over the first nine tenths of the lines of an undisturbed run."""
    rng = random.Random(seed)
    return [Aim(rng.randint(1, max(1, int(LATEST * lines))), rng.uniform(0.0, DELAY)) for _ in range(kills)]


def _kill(target: Target, here: Path, aim: Aim, wanted: dict[str, str]) -> Kill:
    """Kill a run, resume it, and look at what both have done."""
    at_work = _killed(target, here, aim)
    kept = target.finished(here)
    half = [name for name in kept if sha256((here / name).read_bytes()).hexdigest() != Path(name).stem]
    if half:
        return Kill(f"a file under a final name is not whole: {half[0]}", at_work)
    fault = finish(begin(target, here), here)
    if fault:
        return Kill(f"a rerun {fault}", at_work)
    redone, lost = twice(noted(here))
    if lost:
        fault = f"{lost} pieces were kept and yet done again"
    elif redone > 1:  # each of these works in one thread
        fault = f"{redone} pieces were done twice"
    elif not kept <= target.finished(here):
        fault = "what was finished is gone"
    elif hashes(here, target.made) != wanted:
        fault = "other bytes than undisturbed"
    return Kill(fault, at_work, redone)


def _killed(target: Target, here: Path, aim: Aim) -> bool:
    """Run a target until its moment has come; whether it was at work then."""
    process = begin(target, here)
    end = time.monotonic() + PATIENCE
    while process.poll() is None and len(noted(here)) < aim.lines and time.monotonic() < end:
        time.sleep(LOOK)
    try:
        process.wait(aim.delay)
    except subprocess.TimeoutExpired:
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()
    lines = noted(here)
    return bool(lines) and lines[-1] != "end"


def hashes(root: Path, made: tuple[str, ...]) -> dict[str, str]:
    """Every file's hash by its place, but of hidden ones: leftovers of dead runs."""
    files = [path for name in made for path in sorted((root / name).rglob("*")) if path.is_file()]
    return {
        path.relative_to(root).as_posix(): sha256(path.read_bytes()).hexdigest()
        for path in files
        if not any(part.startswith(".") for part in path.relative_to(root).parts)
    }
