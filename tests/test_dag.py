"""The pipeline under real DVC, on a toy: what reruns and what survives; the pages' commands and the five minutes."""

import json
import re
import shlex
from pathlib import Path

import pytest
from typer.testing import CliRunner

from pal.cli.app import app

ROOT = Path(__file__).parents[1]
PAGES = "".join((ROOT / f"docs/{page}.md").read_text(encoding="utf-8") for page in ("own-data", "pipeline"))
SHELL = [line for block in re.findall(r"```sh\n(.*?)```", PAGES, re.S) for line in block.splitlines()]
PARTS = re.split(
    r"^```(\w+)\n(.*?)^```$", (ROOT / "docs/five-minutes.md").read_text(encoding="utf-8"), flags=re.M | re.S
)
NUMBERS = ("reward", "bits")  # left out where the page shows rows
EVERY = ("download", "prepare", "split", "encode", "choose-k", "train", "evaluate", "compare")


def of(dataset: str, *stages: str) -> set[str]:
    return {f"{stage}@{dataset}" for stage in stages}


def test_the_first_repro_runs_every_stage_and_the_second_only_check(repository):
    assert repository.stages_in(*repository.said.values()) == {"check", "report", *of("own", *EVERY)}
    assert repository.repro() == {"check"}
    assert repository.run("git", "status", "--porcelain") == ""


def test_an_edit_reaches_the_stages_that_follow_what_was_edited(repository):
    """A model's code, a parameter, and the file of answers, which check looks at."""
    models = repository.home / "pal/models/__init__.py"
    models.write_text(models.read_text() + "UNUSED = 1\n")
    repository.edit("own.split.val", 0.2)
    repository.write_answers(extra=2)
    repository.run("python", "-m", "pipeline", "check")
    edited = of("own", "download", "split", "choose-k", "train", "evaluate", "compare")
    assert repository.changed() - {"check"} == edited
    repository.run("git", "reset", "-q", "--hard")


def test_a_killed_training_is_made_good_by_the_next_repro(repository):
    before = repository.metrics()
    repository.edit("own.train.epochs", 200_000)
    repository.repro_killed("train@own", 4)
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


def shown(output: str) -> list[dict]:
    rows = [json.loads(line) for line in output.splitlines()]
    return [{name: cell for name, cell in row.items() if name not in NUMBERS} for row in rows]


def test_the_five_minutes_work_as_written(repository, monkeypatch, capsys):
    """`pal` and Python run in this process, which has imported torch already."""
    monkeypatch.chdir(repository.home)
    monkeypatch.setenv("PAL_STORE", repository.env["PAL_STORE"])
    said, made = "", []
    for language, content, before in zip(PARTS[1::3], PARTS[2::3], PARTS[0::3], strict=False):
        if language == "csv":
            path = repository.home / re.findall(r"`([\w-]+\.csv)`", before)[-1]
            if path.name == "answers.csv":  # of which the page shows the first rows of two users
                assert set(content.splitlines()) <= set(path.read_text().splitlines())
            else:
                path.write_text(content)
                made.append(path)
        elif language == "sh":
            for command in content.splitlines():
                name, *arguments = shlex.split(command)
                if name == "pal":
                    done = CliRunner().invoke(app, arguments)
                    assert done.exit_code == 0, done.output
                    said = done.stdout
                else:
                    said = repository.run(name, *arguments)
        elif language == "python":
            capsys.readouterr()
            exec(content, {})
            said = capsys.readouterr().out
        elif language == "jsonl":
            assert shown(said) == shown(content)
        else:
            assert (language, said) == ("text", content)
    for path in [*made, repository.home / "tastes.jsonl"]:
        path.unlink()
    repository.restore()


def test_commands_of_pages_print_what_they_say_and_stand_in_no_one_s_way(repository):
    """The toy is a fresh clone: what others' caches hold is not here, and must not be missed. The queue comes
    first, in whose copy of the repository K = 5 is fitted; the run in the repository takes that from the cache."""
    said = dict(repository.said)
    repository.commit()  # whose experiments are those of here
    for command in sorted(SHELL, key=lambda command: not re.search("queue|run-all", command)):
        if command not in said:
            said[command] = repository.run(*shlex.split(command.replace("K=1,2,5", "K=2,5")))
    assert set(said) == set(SHELL)
    assert "Running stage 'train@own'" in said["dvc exp run --run-all"]
    assert "Running stage 'train@own'" not in said["dvc exp run -S model.K=5"]
    diff = said["dvc metrics diff"]
    table = next(output for command, output in said.items() if command.startswith("dvc exp show"))
    assert diff.split()[:5] == ["Path", "Metric", "HEAD", "workspace", "Change"]
    assert "metrics/own.json" in diff
    assert max(map(len, [*diff.splitlines(), *table.splitlines()])) <= 100
    names = re.findall(r"[0-9a-f]{7} \[([a-z]+-[a-z]+)\]", table)
    assert len(names) == 3  # K = 2 and 5 of the queue, and 5 once more
    repository.run("dvc", "exp", "apply", names[-1])
    repository.run("dvc", "checkout")
    assert repository.changed() == {"check"}
    assert "seen.accuracy" in repository.run("python", "-m", "pipeline", "results")
