"""What all tests share: an environment without the user's, and a toy repository under real DVC.

The toy is a copy of the working tree; tests of it stand in one file (`test_dag.py`), so that one process builds it.
"""

import csv
import json
import os
import re
import shlex
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import pytest
import yaml
from hypothesis import settings

# The same examples everywhere, and no limit of time: machines differ, and may be busy.
settings.register_profile("quick", max_examples=20, deadline=None, derandomize=True, database=None)
settings.load_profile("quick")

ROOT = Path(__file__).parents[1]
# All that tests see of the user's environment: stores, caches, proxies, tokens, and the configuration of Git and
# of DVC must not reach them, nor they those.
KEPT = re.compile(
    "PATH|TMPDIR|LANG|LC_.*|TERM|SEEDS|OMP_NUM_THREADS|VIRTUAL_ENV|LD_LIBRARY_PATH|(PYTHON|PYTEST|CUDA).*"
)
# What the page on own data says is to be run, by which the toy is made.
FIRST = "dvc exp run -S 'datasets=[own]' -S own.source=answers.csv"
HOME = pytest.StashKey[tempfile.TemporaryDirectory]()


def pytest_configure(config):
    """Give the tests of this process an environment and a home folder of their own."""
    config.stash[HOME] = home = tempfile.TemporaryDirectory(prefix="pal-tests-home-")
    kept = {name: value for name, value in os.environ.items() if KEPT.fullmatch(name)}
    os.environ.clear()
    os.environ.update(
        kept,
        HOME=home.name,
        PAL_STORE=f"{home.name}/store",
        GIT_CONFIG_NOSYSTEM="1",
        DVC_SYSTEM_CONFIG_DIR=home.name,
        DVC_SITE_CACHE_DIR=home.name,
    )


def pytest_unconfigure(config):
    config.stash[HOME].cleanup()


@pytest.hookimpl(trylast=True)
def pytest_collection_modifyitems(items):
    """The toy's tests first: they take longest, so that a second process has the rest to do meanwhile."""
    items.sort(key=lambda item: item.path.name != "test_dag.py")


class Repository:
    """A copy of the project with its own cache and store."""

    def __init__(self, home: Path, store: Path) -> None:
        self.home = home
        self.said: dict[str, str] = {}  # what the first run printed
        self.env = {
            **{name: value for name, value in os.environ.items() if name != "PYTHONDONTWRITEBYTECODE"},
            "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}",
            "PAL_STORE": str(store),
            "OMP_NUM_THREADS": "1",
            "GIT_AUTHOR_NAME": "A",
            "GIT_AUTHOR_EMAIL": "a@example.org",
            "GIT_COMMITTER_NAME": "A",
            "GIT_COMMITTER_EMAIL": "a@example.org",
        }

    def run(self, *command: str, ok: bool = True, cwd: Path | None = None) -> str:
        """Run a command; its output, both streams."""
        done = subprocess.run(
            command,
            cwd=cwd or self.home,
            env=self.env,
            text=True,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            timeout=300,
            check=False,
        )
        assert (done.returncode == 0) is ok, done.stdout[-3000:]
        return done.stdout

    def repro(self, *options: str, **how) -> set[str]:
        """Run `dvc repro`; the stages that ran."""
        return self.stages_in(self.run("dvc", "repro", *options, **how))

    @staticmethod
    def stages_in(output: str) -> set[str]:
        """The stages that DVC says it ran."""
        return set(re.findall(r"Running stage '([\w@-]+)'", output))

    def changed(self) -> set[str]:
        """The stages whose own dependencies or parameters have changed, as `dvc status` has it."""
        return set(json.loads(self.run("dvc", "status", "--json")))

    def repro_killed(self, stage: str, seconds: float) -> None:
        """Run `dvc repro`, and kill it some seconds after a stage has begun."""
        process = subprocess.Popen(
            ["dvc", "repro"],
            cwd=self.home,
            env=self.env,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            start_new_session=True,
        )
        for line in process.stdout:
            if f"Running stage '{stage}'" in line:
                break
        time.sleep(seconds)
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()
        process.stdout.close()

    def write_answers(self, extra: int = 0) -> None:
        """The toy's comparisons: ten people answer twenty questions each; half like tea, half coffee."""
        with (self.home / "answers.csv").open("w", newline="") as file:
            writer = csv.writer(file)
            writer.writerow(["user_id", "prompt", "chosen", "rejected"])
            for user in range(10):
                for question in range(20 + extra):
                    drinks = [f"a cup of tea {question}", f"a cup of coffee {question}"]
                    drinks = drinks if user % 2 else drinks[::-1]
                    writer.writerow([f"user {user}", f"what to drink at {question}?", *drinks])

    def edit(self, key: str, value) -> None:
        """Set a dotted key of params.yaml."""
        path = self.home / "params.yaml"
        params = yaml.safe_load(path.read_text())
        section = params
        *parents, last = key.split(".")
        for part in parents:
            section = section[part]
        section[last] = value
        path.write_text(yaml.safe_dump(params, sort_keys=False))

    def commit(self) -> None:
        self.run("git", "add", "-A")
        self.run("git", "commit", "-qm", "toy", "--allow-empty")

    def restore(self) -> None:
        """Back to the last commit: parameters, code, metrics and, from DVC's cache, data."""
        self.run("git", "reset", "-q", "--hard")  # not `checkout`: DVC stages dvc.lock in the index
        self.run("dvc", "checkout", "-q")

    def metrics(self) -> dict[str, bytes]:
        return {p.name: p.read_bytes() for p in sorted((self.home / "metrics").rglob("*.*"))}


@pytest.fixture(scope="session")
def repository(tmp_path_factory) -> Repository:
    home = tmp_path_factory.mktemp("toy") / "repository"
    listed = subprocess.run(
        ["git", "ls-files", "-co", "--exclude-standard"], cwd=ROOT, capture_output=True, text=True, check=True
    ).stdout.splitlines()
    for name in listed:
        if (ROOT / name).is_file() and not name.startswith(("tests/", "metrics/", "dvc.lock")):
            (home / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(ROOT / name, home / name)
    repository = Repository(home, tmp_path_factory.mktemp("store"))
    repository.write_answers()
    for key, value in {
        "own.encoder": "hashed-words",
        "own.method": None,  # and K = 2: what the five minutes fit, so that it is fitted once
        "model.K": 2,
        "encode.device": "cpu",
        "train.device": "cpu",
        "train.more_seeds": 0,
        "evaluate.asked": 2,
    }.items():
        repository.edit(key, value)
    repository.run("git", "init", "-q")
    repository.commit()
    repository.said[FIRST] = repository.run(*shlex.split(FIRST))
    repository.commit()
    return repository
