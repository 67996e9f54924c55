"""The pipeline under real DVC, on a toy: what reruns, what does not, and what survives."""

import json
import os
import re
import signal
import subprocess
import time

import pytest

pytestmark = pytest.mark.xdist_group("dag")


def of(dataset: str, *stages: str) -> set[str]:
    return {f"{stage}@{dataset}" for stage in stages}


EVERY = ("download", "prepare", "recolour", "split", "encode", "train", "evaluate")


def test_first_repro_runs_every_stage(repository):
    assert repository.first == {"check", "code", "report", *of("simulated", *EVERY), *of("own", *EVERY)}


def test_second_repro_runs_only_check(repository):
    assert repository.repro() == {"check"}
    assert repository.run("git", "status", "--porcelain") == ""


def test_more_prototypes_rerun_training_and_what_follows(repository):
    output = repository.run("dvc", "exp", "run", "-S", "model.K=3", "-S", "datasets=[own]")
    assert repository.stages_in(output) == {"check", "report", *of("own", "train", "evaluate")}
    assert "seen.accuracy" in repository.run("dvc", "metrics", "diff")
    repository.run("dvc", "plots", "diff", "HEAD")
    repository.restore()
    assert repository.repro() == {"check"}


def test_edited_input_reruns_exactly_its_dataset_also_in_a_temporary_copy(repository):
    answers = repository.outside / "answers.csv"
    kept = answers.read_bytes()
    repository.write_answers(extra=2)
    ran = repository.stages_in(repository.run("dvc", "exp", "run", "--temp"))
    assert ran == {"check", "report", *of("own", *EVERY)}
    answers.write_bytes(kept)
    repository.restore()
    assert repository.repro() == {"check"}
    assert repository.run("git", "status", "--porcelain") == ""
    repository.run("dvc", "exp", "remove", "-A")


def test_docstring_reruns_only_the_fingerprints(repository):
    path = repository.home / "pal/models/heads.py"
    kept = path.read_text()
    path.write_text(kept.replace('"""Reward heads:', '"""All the reward heads:', 1) + "\n# a comment\n")
    assert repository.repro() == {"check", "code"}
    repository.restore()
    assert repository.repro() == {"check"}


def test_edited_head_trains_again_and_encodes_nothing(repository):
    path = repository.home / "pal/models/heads.py"
    kept = path.read_text()
    path.write_text(kept + "\nUNUSED = 1\n")
    ran = repository.repro("train@own")
    assert ran == {"check", "code", "train@own"}
    repository.restore()
    assert repository.repro() == {"check"}
    assert repository.run("git", "status", "--porcelain") == ""


def test_forced_repro_leaves_metrics_byte_equal(repository):
    before = repository.metrics()
    repository.edit("datasets", ["own"])
    assert repository.repro("-f") == {"check", "code", "report", *of("own", *EVERY)}
    assert repository.metrics() == before
    repository.restore()
    assert repository.run("git", "status", "--porcelain") == ""


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
    repository.edit("own.train.epochs", 200_000)
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
    repository.run("git", "reset", "-q", "--hard")
    repository.repro()
    assert repository.metrics() == before
    assert repository.run("git", "status", "--porcelain") == ""


@pytest.mark.parametrize(
    ("key", "value", "sentence"),
    [
        ("model.K", 0, "model.K must be at least 1, got 0"),
        ("model.K", 11, "model.K must be at most 10, the seen users of simulated, got 11"),
        (
            "datasets",
            [],
            "datasets .*must name at least one of simulated, persona, .*, own, got an empty list",
        ),
        ("own.train.epoch", 5, "own.train.epoch .*not a known key; did you mean 'epochs'"),
        ("own.source", "nowhere.csv", "own.source .*must be an existing file or folder, got 'nowhere.csv'"),
        ("persona.source", "nowhere", None),
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
    repository.run("git", "reset", "-q", "--hard")
    assert repository.repro() == {"check"}


def test_more_prototypes_than_users_is_one_sentence_and_loses_nothing(repository):
    before = json.dumps({k: v.decode() for k, v in repository.metrics().items()})
    repository.edit("model.K", 9999)
    repository.edit("datasets", ["own"])
    output = repository.run("dvc", "repro", ok=False)
    assert re.search(
        r"error: model.K in params.yaml must be at most \d+, the seen users of \w+, got 9999", output
    )
    assert "Traceback" not in output
    repository.restore()
    assert repository.repro() == {"check"}
    assert json.dumps({k: v.decode() for k, v in repository.metrics().items()}) == before
