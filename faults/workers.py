"""A worker of a cluster killed, a rank that never comes: nothing is lost or there twice, and nobody hangs."""

import os
import random
import signal
import subprocess
import tempfile
from collections.abc import Callable
from pathlib import Path

from faults.encoding import Project, ended, kill, wait_until
from faults.tally import Tally

MOMENTS = 5
TEXTS = 30_000
RAY = {"RAY_ADDRESS": "local"}


def run(moments: int = MOMENTS, texts: int = TEXTS, ranks: bool = True) -> list[Tally]:  # noqa: FBT001, FBT002
    """Ray with two workers, one of them killed at seeded moments; and, unless told not to, missing ranks."""
    with tempfile.TemporaryDirectory() as folder:
        first = Project(Path(folder) / "first", texts)
        assert first.run()[0] == 0
        whole, groups = first.output(), len(first.files())
        tallies = []
        failures, stored = [], []
        for seed in range(moments):
            after = 1 + random.Random(seed).randrange(groups // 2)
            at, fault = _kill_a_worker(Path(folder) / f"ray {seed}", texts, after, whole, groups)
            stored.append(at)
            if fault:
                failures.append(f"killed at {at} of {groups} groups: {fault}")
        about = {"groups": groups, "of which stored at the kill": ", ".join(map(str, stored))}
        tallies.append(Tally("Ray with two workers, one killed", moments, failures, about))
        if ranks:
            tallies.append(_ranks(Path(folder), whole))
    return tallies


def _kill_a_worker(
    root: Path, texts: int, after: int, whole: dict[str, bytes], groups: int
) -> tuple[int, str]:
    """Kill one of two workers once so many groups are stored; how many were, and what did not end well."""
    project = Project(root, texts, engine="ray")
    process = project.start(**RAY)
    wait_until(lambda: len(_workers(process)) >= 2, process)
    workers = _workers(process)
    if outside := _listening(process):
        kill(process)
        return 0, f"open to other machines: {outside}"
    if len(workers) < 2 or not wait_until(lambda: len(project.files()) >= after, process):
        return 0, f"no two workers came: {ended(process)[1][-300:]}"
    os.kill(random.Random(after).choice(workers), signal.SIGKILL)
    at = len(project.files())
    code, said = ended(process)
    if code:
        return at, f"exit code {code}: {said[-400:]}"
    return at, "workers are left" if _workers(process) else _difference(project, whole, groups)


def _difference(project: Project, whole: dict[str, bytes], groups: int) -> str:
    if project.output() != whole:
        return "other bytes"
    if len(project.files()) != groups:
        return f"{len(project.files())} files in the store in place of {groups}"
    return f"left lying: {project.litter()}" if project.litter() else ""


def _workers(process: "subprocess.Popen[str]") -> list[int]:
    """Processes of Ray's actors below a run, by their title."""
    import psutil

    try:
        below = psutil.Process(process.pid).children(recursive=True)
    except psutil.NoSuchProcess:
        return []
    found = []
    for one in below:
        try:
            title = " ".join(one.cmdline())
        except psutil.Error:
            continue
        if title.startswith("ray::Worker"):
            found.append(one.pid)
    return sorted(found)


def _listening(process: "subprocess.Popen[str]") -> set[str]:
    """Addresses, other than the loopback ones, on which processes below a run listen."""
    import psutil

    found = set()
    try:
        for one in psutil.Process(process.pid).children(recursive=True):
            sockets = one.net_connections("tcp")
            found |= {socket.laddr.ip for socket in sockets if socket.status == psutil.CONN_LISTEN}
    except psutil.Error:
        return set()  # one ended meanwhile
    return {address for address in found if not address.removeprefix("::ffff:").startswith(("127.", "::1"))}


def _ranks(folder: Path, whole: dict[str, bytes]) -> Tally:
    cases = {case.__name__.strip("_").replace("_", " "): case for case in MISSING}
    failures = []
    for number, (name, case) in enumerate(cases.items()):
        project = Project(folder / f"ranks {number}", TEXTS)
        case(project)
        code, said = project.run()
        if code:
            failures.append(f"{name}: the run for all ended {code}: {said[-300:]}")
        elif project.output() != whole:
            failures.append(f"{name}: other bytes")
    return Tally("ranks of which one is missing, killed or called twice", len(cases), failures)


def _the_second_of_three_never_comes(project: Project) -> None:
    _all_ended(project, (0, 2), 3)


def _only_the_last_comes(project: Project) -> None:
    _all_ended(project, (3,), 4)


def _one_is_killed(project: Project) -> None:
    processes = [project.start("--rank", str(rank), "--world", "2") for rank in range(2)]
    wait_until(lambda: len(project.files()) >= 3, processes[0])
    kill(processes[0])
    ended(processes[1])


def _one_comes_twice(project: Project) -> None:
    _all_ended(project, (0, 1, 1), 2)


def _ranks_of_different_worlds(project: Project) -> None:
    both = [project.start("--rank", "0", "--world", "2"), project.start("--rank", "2", "--world", "5")]
    for one in both:
        ended(one)


def _all_ended(project: Project, ranks: tuple[int, ...], world: int) -> None:
    for one in [project.start("--rank", str(rank), "--world", str(world)) for rank in ranks]:
        ended(one)


MISSING: list[Callable[[Project], None]] = [
    _the_second_of_three_never_comes,
    _only_the_last_comes,
    _one_is_killed,
    _one_comes_twice,
    _ranks_of_different_worlds,
]
