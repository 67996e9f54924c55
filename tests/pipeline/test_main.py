"""The command line: stages in order, help for each, one sentence and exit code 1 for what a user can mend."""

import errno
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
from typer.testing import CliRunner

from pal.errors import PalError
from pal.files import write_json
from pipeline import __main__ as cli
from pipeline import paths

ROOT = Path(__file__).parents[2]
COMMANDS = [*paths.STAGES, "results", "verify", "store"]


def run(*words, cwd=ROOT, python=("-m", "pipeline"), **options):
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "COLUMNS": "100", "NO_COLOR": "1"}
    command = [sys.executable, *python, *words]
    options = {"capture_output": True, **options}
    return subprocess.run(command, cwd=cwd, env=environment, text=True, timeout=60, **options)


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


def test_help_lists_the_commands_in_order_and_each_has_its_own():
    runner = CliRunner()
    listed = re.findall(r"^ +([a-z-]+)  +[A-Z]", runner.invoke(cli.app, ["--help"]).output, re.MULTILINE)
    assert listed[-len(COMMANDS) :] == COMMANDS
    for stage, words in paths.STAGES.items():
        assert words in " ".join(runner.invoke(cli.app, [stage, "--help"]).output.split())


def test_an_unknown_dataset_is_one_sentence_and_exit_code_1(main):
    code, out, err = main("split", "personna")
    assert (code, out) == (1, "")
    assert re.fullmatch(r"error: dataset must be one of simulated, .*, own, got 'personna'\n", err)


@pytest.mark.parametrize(
    ("words", "again"),
    [
        (("prepare", "own"), "download@own"),
        (("split", "own"), "prepare@own"),
        (("train", "own"), "encode@own"),
        (("report",), "evaluate@simulated"),
        (("results",), "evaluate@simulated"),
    ],
)
def test_a_stage_without_its_input_names_the_stage_to_run(main, words, again):
    code, out, err = main(*words)
    assert (code, out) == (1, "")
    assert re.fullmatch(rf"error: (data|metrics)/\S+ .*run `dvc repro {again}`\n", err)


def test_results_prints_per_cent_p_values_and_words(main, project):
    project.set({"datasets": ["own"]})
    metrics = {"seen": {"accuracy": 0.98765, "plurality_p": 0.0001}, "encoder": "untrained-vit-h-14"}
    write_json(paths.metrics("own"), metrics)
    code, out, _ = main("results")
    assert code == 0
    assert [line.split() for line in out.splitlines() if line.startswith("  ")] == [
        ["seen.accuracy", "98.77", "%"],
        ["seen.plurality_p", "0.0001"],
        ["encoder", "untrained-vit-h-14"],
    ]
    assert "report: data/report/report.html" in out


def test_stages_that_need_no_torch_run_without_it(small):
    """From check to split, and report, in a Python where torch cannot be imported."""
    words = "import sys; sys.modules['torch'] = None; "
    words += "from pipeline.stages import check, prepare, report, split; "
    words += "check.main(); [stage.main('own') for stage in (prepare, split)]"
    done = run(words, cwd=small.root, python=("-c",))
    assert (done.returncode, done.stderr) == (0, "")


@pytest.mark.parametrize(
    ("error", "told"),
    [
        (PermissionError(errno.EACCES, "Permission denied", "data/x"), r"data/x .*\(Permission denied\)"),
        (OSError(errno.EMFILE, "Too many open files", "a"), r"a cannot be used \(Too many open files\); allow"),
        (OSError(errno.ENOSPC, "No space left on device"), r".*\(No space left on device\)"),
    ],
)  # fmt: skip
def test_what_the_system_refuses_is_one_sentence(main, monkeypatch, error, told):
    def fail():
        raise error

    monkeypatch.setattr("pipeline.params.load", fail)
    code, out, err = main("check")
    assert (code, out) == (1, "")
    assert re.fullmatch(rf"error: {told}[^\n]*\n", err)


def test_an_output_that_a_killed_run_had_moved_away_is_put_back_at_the_next_start(main, small):
    """A folder is replaced by two renames, and a kill may come between them."""
    Path("data/splits/own").rename("data/splits/.own.0123456789abcdef.old")
    main("check")
    assert [path.name for path in Path("data/splits").iterdir() if path.name != "simulated"] == ["own"]


def test_store_may_begin_with_the_home_folder_and_is_the_same_from_every_folder(monkeypatch, tmp_path):
    """As in an .env file, which no shell expands."""
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("PAL_STORE", "~/pal-store")
    assert paths.store() == tmp_path / "pal-store"
    for name, message in (
        ("store", "must be an absolute path or begin with ~, got 'store'"),
        ("~nobody-here/x", "home folder"),
    ):
        monkeypatch.setenv("PAL_STORE", name)
        with pytest.raises(PalError, match=message):
            paths.store()
