"""The command line: stages in order, help for each, one sentence and exit code 1 for what a user can mend."""

import errno
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
from typer.testing import CliRunner

from pipeline import __main__ as cli

ROOT = Path(__file__).parents[2]
STAGES = (
    "check", "code", "download", "prepare", "recolour", "split", "encode", "train", "evaluate", "report",
)  # fmt: skip


def run(*words, cwd=ROOT, python=()):
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "COLUMNS": "100", "NO_COLOR": "1"}
    command = [sys.executable, *python, "-m", "pipeline", *words]
    return subprocess.run(command, cwd=cwd, env=environment, capture_output=True, text=True, timeout=60)


@pytest.fixture
def main(project, monkeypatch, capsys):
    """Run a command in this process, in an empty project; its exit code and what it said."""

    def main(*words):
        monkeypatch.setattr(sys, "argv", ["pipeline", *words])
        with pytest.raises(SystemExit) as caught:
            cli.main()
        said = capsys.readouterr()
        return caught.value.code, said.out, said.err

    return main


def test_help_lists_the_stages_in_order_and_then_results():
    done = run("--help")
    assert (done.returncode, done.stderr) == (0, "")
    listed = re.findall(r"^ +([a-z]+)  +[A-Z]", done.stdout, re.MULTILINE)
    assert tuple(listed) == (*STAGES, "results", "verify", "store")


@pytest.mark.parametrize("command", [*STAGES, "results", "verify", "store"])
def test_every_command_has_help(command):
    done = CliRunner().invoke(cli.app, [command, "--help"])
    assert done.exit_code == 0
    (registered,) = (c for c in cli.app.registered_commands if c.callback.__name__ == command)
    assert registered.callback.__doc__
    assert registered.callback.__doc__.split()[0] in done.output


def test_an_unknown_dataset_is_one_sentence_and_exit_code_1():
    done = run("split", "personna")
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr == (
        "error: dataset must be one of simulated, persona, pickafilter, pickapic_v1, pickapic_v2, summarize, own, "
        "got 'personna'\n"
    )


@pytest.mark.parametrize(
    ("words", "again"),
    [
        (("prepare", "own"), "download@own"),
        (("recolour", "own"), "prepare@own"),
        (("split", "own"), "recolour@own"),
        (("encode", "own"), "recolour@own"),
        (("train", "own"), "encode@own"),
        (("evaluate", "own"), "encode@own"),
        (("report",), "evaluate@simulated"),
        (("results",), "evaluate@simulated"),
    ],
)
def test_a_stage_without_its_input_names_the_stage_to_run(main, words, again):
    code, out, err = main(*words)
    assert (code, out) == (1, "")
    assert re.fullmatch(
        rf"error: data/\S+ .*run `dvc repro {again}`\n|error: metrics/\S+ .*`dvc repro {again}`\n", err
    )


@pytest.mark.parametrize("words", [("check",), ("split", "own"), ("report",)])
def test_bad_params_are_one_sentence(main, project, words):
    project.set({"model.K": 0})
    assert main(*words) == (1, "", "error: model.K must be at least 1, got 0 (in params.yaml)\n")


def test_an_error_of_the_library_is_one_sentence_too(main, small):
    path = Path("data/models/own/model/users.json")
    path.write_text("[]")
    code, out, err = main("evaluate", "own")
    assert (code, out) == (1, "")
    assert re.fullmatch(r"error: data/models/own/model/users\.json must have the sha256 .*\n", err)


def test_a_fault_of_our_own_keeps_its_traceback(project, monkeypatch):
    def fail():
        raise RuntimeError("ours")

    monkeypatch.setattr("pipeline.params.load", fail)
    monkeypatch.setattr(sys, "argv", ["pipeline", "check"])
    with pytest.raises(RuntimeError, match="ours"):
        cli.main()


def test_check_runs_from_the_command_line(project):
    project.set({"datasets": ["simulated"]})
    done = run("check", cwd=project.root)
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
    assert (project.root / "data/check/simulated.json").exists()


@pytest.mark.parametrize("command", ["check", "download", "prepare", "recolour", "split"])
def test_a_stage_that_needs_no_torch_does_not_import_it(command):
    """Nor anything else heavy, on the way to its help text."""
    done = run(command, "--help", python=("-X", "importtime"))
    assert done.returncode == 0
    names = {line.rpartition("|")[2].strip().split(".")[0] for line in done.stderr.splitlines()}
    assert "typer" in names
    assert not names & {"torch", "polars", "pyarrow", "numpy", "pandas", "transformers", "altair", "sklearn"}


@pytest.mark.parametrize("stage", ["prepare", "recolour", "split"])
def test_a_stage_that_needs_no_torch_runs_without_it(small, stage):
    """Not its help alone: the whole stage, in a Python where torch cannot be imported."""
    words = f"import sys; sys.modules['torch'] = None; from pipeline import {stage}; {stage}.main('own')"
    done = subprocess.run(
        [sys.executable, "-c", words],
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert (done.returncode, done.stderr) == (0, "")


@pytest.mark.parametrize(
    ("error", "told"),
    [
        (
            PermissionError(errno.EACCES, "Permission denied", "data/x"),
            r"data/x cannot be used \(Permission denied\)",
        ),
        (
            OSError(errno.EMFILE, "Too many open files", "a"),
            r"a cannot be used \(Too many open files\); allow more",
        ),
        (
            OSError(errno.ENOSPC, "No space left on device"),
            r"the system refused a call \(No space left on device\)",
        ),
        (BrokenPipeError(errno.EPIPE, "Broken pipe"), r"standard output cannot be written \(Broken pipe\)"),
        (OSError("odd"), r"the system refused a call \(odd\)"),
    ],
)
def test_what_the_system_refuses_is_one_sentence(main, monkeypatch, error, told):
    def fail():
        raise error

    monkeypatch.setattr("pipeline.params.load", fail)
    code, out, err = main("check")
    assert (code, out) == (1, "")
    assert re.fullmatch(rf"error: {told}[^\n]*\n", err)


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs /dev/full, a disk that is always full")
def test_a_full_disk_behind_standard_output_is_one_sentence():
    with Path("/dev/full").open("wb") as full:
        done = subprocess.run(
            [sys.executable, "-m", "pipeline", "--help"],
            cwd=ROOT,
            stdout=full,
            stderr=subprocess.PIPE,
            text=True,
        )
    assert done.returncode == 1
    assert re.fullmatch(r"error: [^\n]*\(No space left on device\); free space[^\n]*\n", done.stderr)


def test_an_output_that_a_killed_run_had_moved_away_is_put_back_at_the_next_start(main, small):
    """A folder is replaced by two renames, and a kill may come between them."""
    Path("data/splits/own").rename("data/splits/.own.0123456789abcdef.old")
    main("check")
    assert [path.name for path in Path("data/splits").iterdir() if path.name != "simulated"] == ["own"]
