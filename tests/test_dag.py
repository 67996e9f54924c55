"""The pipeline under real DVC, on a toy: what reruns, what does not, and what survives.

One repository, copied from the working tree, with ten people's comparisons and a small simulation.
"""

import csv
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import yaml

ROOT = Path(__file__).parents[1]
pytestmark = pytest.mark.xdist_group("dag")


class Repository:
    """A copy of the project with its own cache and store."""

    def __init__(self, home: Path, outside: Path) -> None:
        self.home, self.outside = home, outside
        self.env = {
            **os.environ,
            "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}",
            "PAL_STORE": str(outside / "store"),
            "OMP_NUM_THREADS": "1",
            "GIT_CONFIG_GLOBAL": os.devnull,
            "GIT_CONFIG_SYSTEM": os.devnull,
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
        return stages_in(self.run("dvc", "repro", *options, **how))

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
        self.run("git", "checkout", "-q", ".")
        self.run("dvc", "checkout", "-q")

    def metrics(self) -> dict[str, bytes]:
        return {p.name: p.read_bytes() for p in sorted((self.home / "metrics").rglob("*.*"))}


def stages_in(output: str) -> set[str]:
    return set(re.findall(r"Running stage '([\w@]+)'", output))


def of(dataset: str, *stages: str) -> set[str]:
    return {f"{stage}@{dataset}" for stage in stages}


EVERY = ("download", "prepare", "recolour", "split", "encode", "train", "evaluate")


def write_answers(path: Path, extra: int = 0) -> None:
    """Ten people answer twenty questions each; half like tea, half coffee."""
    with path.open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["user_id", "prompt", "chosen", "rejected"])
        for user in range(10):
            for question in range(20 + extra):
                drinks = [f"a cup of tea {question}", f"a cup of coffee {question}"]
                writer.writerow(
                    [f"user {user}", f"what to drink at {question}?", *drinks[:: 1 if user % 2 else -1]]
                )


@pytest.fixture(scope="module")
def repository(tmp_path_factory) -> Repository:
    outside = tmp_path_factory.mktemp("outside")
    home = tmp_path_factory.mktemp("toy") / "repository"
    listed = subprocess.run(
        ["git", "ls-files", "-co", "--exclude-standard"], cwd=ROOT, capture_output=True, text=True, check=True
    ).stdout.splitlines()
    for name in listed:
        if (ROOT / name).is_file() and not name.startswith(("tests/", "metrics/", "dvc.lock")):
            (home / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(ROOT / name, home / name)
    write_answers(outside / "answers.csv")
    repository = Repository(home, outside)
    for key, value in {
        "datasets": ["simulated", "own"],
        "model.K": 2,
        "source.own": str(outside / "answers.csv"),
        "encoder.own": "hashed-words",
        "prepare.simulated.seen_users": 10,
        "prepare.simulated.unseen_users": 5,
        "prepare.simulated.train_pairs": 20,
        "prepare.simulated.adapt_pairs": 20,
        "prepare.simulated.test_pairs": 10,
        "train.simulated.epochs": 3,
        "train.own.epochs": 40,
        "train.own.restarts": 1,
    }.items():
        repository.edit(key, value)
    repository.run("git", "init", "-q")
    repository.commit()
    assert repository.repro() == {
        "check",
        "code",
        "report",
        *of("simulated", *EVERY),
        *of("own", *EVERY),
    }
    repository.commit()
    return repository


def test_second_repro_runs_only_check(repository):
    assert repository.repro() == {"check"}
    assert repository.run("git", "status", "--porcelain") == ""


def test_more_prototypes_rerun_training_and_what_follows(repository):
    output = repository.run("dvc", "exp", "run", "-S", "model.K=3", "-S", "datasets=[own]")
    assert stages_in(output) == {"check", "report", *of("own", "train", "evaluate")}
    assert "seen.accuracy" in repository.run("dvc", "metrics", "diff")
    repository.run("dvc", "plots", "diff", "HEAD")
    repository.restore()
    assert repository.repro() == {"check"}


def test_queued_experiments_run_one_per_value(repository):
    repository.run("dvc", "exp", "run", "--queue", "-S", "model.K=1,2", "-S", "datasets=[simulated]")
    repository.run("dvc", "exp", "run", "--run-all")
    shown = repository.run("dvc", "exp", "show", "--csv")
    rows = [
        row
        for row in csv.DictReader(shown.splitlines())
        if row.get("typ") in ("branch_base", "branch_commit")
    ]
    found = {row["model.K"] for row in rows if row["Experiment"]}
    assert found >= {"1", "2"}, shown[:2000]
    repository.run("dvc", "exp", "remove", "-A")


def test_edited_input_reruns_exactly_its_dataset_also_in_a_temporary_copy(repository):
    answers = repository.outside / "answers.csv"
    kept = answers.read_bytes()
    write_answers(answers, extra=2)
    ran = stages_in(repository.run("dvc", "exp", "run", "--temp"))
    assert ran == {"check", "report", *of("own", *EVERY)}
    answers.write_bytes(kept)
    repository.restore()
    assert repository.repro() == {"check"}
    assert repository.run("git", "status", "--porcelain") == ""
    repository.run("dvc", "exp", "remove", "-A")


def test_docstring_reruns_only_the_fingerprints(repository):
    path = repository.home / "pal/heads.py"
    kept = path.read_text()
    path.write_text(kept.replace('"""Reward heads:', '"""All the reward heads:', 1) + "\n# a comment\n")
    assert repository.repro() == {"check", "code"}
    path.write_text(kept)


def test_edited_head_trains_again_and_encodes_nothing(repository):
    path = repository.home / "pal/heads.py"
    kept = path.read_text()
    path.write_text(kept + "\nUNUSED = 1\n")
    ran = repository.repro("train@own")
    assert ran == {"check", "code", "train@own"}
    repository.restore()
    assert repository.repro() == {"check"}
    assert repository.run("git", "status", "--porcelain") == ""


def test_forced_repro_leaves_metrics_byte_equal(repository):
    before = repository.metrics()
    assert len(repository.repro("-f")) == 3 + 2 * len(EVERY)
    assert repository.metrics() == before


def test_pulled_clone_runs_only_check(repository, tmp_path):
    repository.run("dvc", "remote", "add", "-q", "-d", "-f", "here", str(tmp_path / "remote"))
    repository.commit()
    repository.run("dvc", "push", "-q")
    clone = tmp_path / "clone"
    repository.run("git", "clone", "-q", "--depth", "1", f"file://{repository.home}", str(clone))
    repository.run("dvc", "pull", "-q", cwd=clone)
    assert repository.repro(cwd=clone) == {"check"}
    assert repository.run("git", "status", "--porcelain", cwd=clone) == ""


def test_killed_training_is_made_good_by_the_next_repro(repository):
    before = repository.metrics()
    repository.edit("train.own.epochs", 200_000)
    process = subprocess.Popen(
        ["dvc", "repro"],
        cwd=repository.home,
        env=repository.env,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        start_new_session=True,
    )
    for line in process.stdout:
        if "Running stage 'train@own'" in line:
            break
    time.sleep(5)
    os.killpg(process.pid, signal.SIGKILL)
    process.wait()
    process.stdout.close()
    repository.run("git", "checkout", "-q", "params.yaml")
    repository.repro()
    assert repository.metrics() == before
    assert repository.run("git", "status", "--porcelain") == ""


@pytest.mark.parametrize(
    ("key", "value", "sentence"),
    [
        ("model.K", 0, "model.K must be at least 1, got 0"),
        ("datasets", [], "datasets .*must name at least one of simulated, persona, own, got an empty list"),
        ("train.own.epoch", 5, "train.own.epoch .*not a known key; did you mean 'epochs'"),
        ("source.own", "nowhere.csv", "source.own .*must be an existing file or folder, got 'nowhere.csv'"),
        ("source.persona", "nowhere", None),
    ],
)
def test_bad_parameter_is_one_sentence_and_loses_nothing(repository, key, value, sentence):
    before = repository.metrics()
    repository.edit(key, value)
    output = repository.run("dvc", "repro", ok=sentence is None)
    if sentence is not None:
        assert re.search(f"error: {sentence}", output)
        assert "Traceback" not in output
    assert repository.metrics() == before
    repository.run("git", "checkout", "-q", ".")
    assert repository.repro() == {"check"}


def test_more_prototypes_than_users_is_one_sentence_and_loses_nothing(repository):
    before = json.dumps({k: v.decode() for k, v in repository.metrics().items()})
    repository.edit("model.K", 9999)
    output = repository.run("dvc", "repro", ok=False)
    assert re.search(
        r"error: model.K in params.yaml must be at most \d+, the seen users of \w+, got 9999", output
    )
    assert "Traceback" not in output
    repository.restore()
    assert repository.repro() == {"check"}
    assert json.dumps({k: v.decode() for k, v in repository.metrics().items()}) == before
