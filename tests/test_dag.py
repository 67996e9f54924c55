"""The pipeline under real DVC, on a toy: what reruns, what does not, and what survives."""

import pytest

pytestmark = pytest.mark.xdist_group("dag")

EVERY = ("download", "prepare", "recolour", "split", "encode", "choose-k", "train", "evaluate")


def of(dataset: str, *stages: str) -> set[str]:
    return {f"{stage}@{dataset}" for stage in stages}


def test_the_first_repro_runs_every_stage_and_the_second_only_check(repository):
    assert repository.first == {"check", "report", *of("simulated", *EVERY), *of("own", *EVERY)}
    assert repository.repro() == {"check"}
    assert repository.run("git", "status", "--porcelain") == ""


def test_an_edit_reaches_the_stages_that_follow_what_was_edited(repository):
    """A model's code, a parameter, and a file outside the repository, which check looks at."""
    models = repository.home / "pal/models/__init__.py"
    models.write_text(models.read_text() + "UNUSED = 1\n")
    repository.edit("own.split.val", 0.2)
    repository.write_answers(extra=2)
    repository.run("python", "-m", "pipeline", "check")
    trained = [of(each, "choose-k", "train", "evaluate") for each in ("simulated", "own")]
    assert repository.changed() - {"check"} == {*of("own", "download", "split"), *trained[0], *trained[1]}
    repository.write_answers()
    repository.run("git", "reset", "-q", "--hard")
    repository.run("python", "-m", "pipeline", "check")


def test_a_killed_training_is_made_good_by_the_next_repro(repository):
    before = repository.metrics()
    repository.edit("own.train.epochs", 200_000)
    repository.repro_killed("train@own", 5)
    repository.run("git", "reset", "-q", "--hard")
    repository.repro()
    assert repository.metrics() == before
    assert repository.run("git", "status", "--porcelain") == ""


def test_a_bad_parameter_is_one_sentence_and_loses_nothing(repository):
    before = repository.metrics()
    repository.edit("own.train.epoch", 5)
    output = repository.run("dvc", "repro", ok=False)
    assert "error: own.train.epoch in params.yaml is not a known key; did you mean 'epochs'?" in output
    assert "Traceback" not in output
    assert repository.metrics() == before
    repository.run("git", "reset", "-q", "--hard")


@pytest.mark.slow
def test_a_pulled_clone_runs_only_check(repository, tmp_path):
    repository.run("dvc", "remote", "add", "-q", "-d", "-f", "here", str(tmp_path / "remote"))
    repository.commit()
    repository.run("dvc", "push", "-q")
    clone = tmp_path / "clone"
    repository.run("git", "clone", "-q", "--depth", "1", f"file://{repository.home}", str(clone))
    repository.run("dvc", "pull", "-q", cwd=clone)
    assert repository.repro(cwd=clone) == {"check"}
    assert repository.run("git", "status", "--porcelain", cwd=clone) == ""
