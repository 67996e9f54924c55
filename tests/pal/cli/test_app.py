"""The command line as a shell sees it: exit codes, pipes, one sentence for what a user can mend."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from typer.testing import CliRunner

from pal.cli.app import app

ROOT = Path(__file__).parents[3]
PAL = (sys.executable, "-m", "pal.cli.app")


@pytest.fixture
def words(worded, tmp_path) -> Path:
    worded.save(tmp_path / "words")
    return tmp_path / "words"


def shell(*command: object, stdin: bytes = b"", **how) -> subprocess.CompletedProcess:
    env = {**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1", **how.pop("env", {})}
    arguments = [*PAL, *map(str, command)]
    return subprocess.run(
        arguments, input=stdin, capture_output=True, env=env, timeout=120, check=False, **how
    )


@pytest.mark.parametrize("command", app.registered_commands, ids=lambda command: command.callback.__name__)
def test_every_command_says_what_it_does(command):
    done = CliRunner().invoke(app, [command.callback.__name__, "--help"])
    assert done.exit_code == 0
    assert command.callback.__doc__.split("\n")[0] in done.stdout


def test_help_imports_no_torch():
    code = "import sys, pal.cli; sys.exit(bool({'torch', 'pyarrow', 'numpy'} & set(sys.modules)))"
    assert subprocess.run([sys.executable, "-c", code], cwd=ROOT, check=False).returncode == 0


def test_what_is_not_understood_is_exit_code_2():
    runner = CliRunner()
    for arguments in (
        ["score"],
        ["score", "m", "rows.csv", "--usr", "ann"],
        ["scor"],
        ["ask", "m", "x", "-n", "0"],
    ):
        assert runner.invoke(app, arguments).exit_code == 2


AS_INSTALLED = "import sys; sys.argv[0] = 'pal'; from pal.cli.app import main; main()"


def installed(*arguments: str, **env: str) -> str:
    """Standard output of the script `pal`."""
    done = subprocess.run(
        [sys.executable, "-c", AS_INSTALLED, *arguments],
        capture_output=True,
        text=True,
        env={**os.environ, "PYTHONPATH": str(ROOT), **env},
        timeout=120,
        check=True,
    )
    return done.stdout


def test_shells_complete_commands_and_options():
    how = {"_PAL_COMPLETE": "complete_bash"}
    assert installed(COMP_WORDS="pal s", COMP_CWORD="1", **how).split() == ["score"]
    assert installed(COMP_WORDS="pal ask m x --tog", COMP_CWORD="4", **how).split() == ["--together"]
    shown = installed("--show-completion", "bash", _TYPER_COMPLETE_TEST_DISABLE_SHELL_DETECTION="1")
    assert "complete -o default -F _pal_completion pal" in shown


def test_rows_go_through_pipes_and_a_closed_one_is_no_trouble(words):
    row = json.dumps({"prompt": "how", "response": "fine"}).encode() + b"\n"
    process = subprocess.Popen(
        [*PAL, "score", str(words), "-"],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        env={**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"},
    )
    process.stdout.close()  # as `head` does once it has seen enough
    said = process.communicate(row * 20_000)[1]
    assert (process.returncode, said) == (141, b"")


def test_empty_standard_input_is_one_sentence(words):
    done = shell("score", words, "-")
    assert (done.returncode, done.stdout) == (1, b"")
    assert done.stderr.startswith(b"error: standard input must hold at least one row, got none")


def test_a_long_table_shows_no_bar_where_nobody_looks(words):
    rows = b"".join(b'{"prompt": "how", "response": "fine"}\n' for _ in range(3000))
    done = shell("score", words, "-", stdin=rows)
    assert (done.returncode, done.stderr) == (0, b"")
    assert len(done.stdout.splitlines()) == 3000


def broken(folder: Path, how: str) -> None:
    config = folder / "config.json"
    about = json.loads(config.read_text())
    tensors = folder / "model.safetensors"
    if how == "missing file":
        tensors.unlink()
    elif how == "no folder":
        folder.rename(folder.with_name("elsewhere"))
    elif how == "wrong hash":
        tensors.write_bytes(tensors.read_bytes()[:-1] + b"\x01")
    elif how == "newer version":
        config.write_text(json.dumps(about | {"version": 99}))
    elif how == "pickle":
        tensors.write_bytes(b"\x80\x04\x95 cos\nsystem\n(S'touch ran'\ntR.")
    else:
        config.write_text(json.dumps(about | {"format": "other"}))


@pytest.mark.parametrize(
    ("how", "sentence"),
    [
        ("missing file", "model.safetensors cannot be read (No such file or directory)"),
        ("no folder", "config.json cannot be read (No such file or directory)"),
        ("wrong hash", "must have the sha256 that SHA256SUMS gives"),
        ("newer version", "must have the version 2, got 99; fit the model again"),
        ("pickle", "a pickle can run code and is never loaded"),
        ("other format", "must be of the format 'pal-reward-model', got another"),
    ],
)
def test_a_broken_model_is_one_sentence_and_nothing_is_written(words, tmp_path, monkeypatch, how, sentence):
    home = tmp_path / "home"
    home.mkdir()
    monkeypatch.chdir(home)
    broken(words, how)
    given = '{"prompt": "how", "response": "fine"}\n'
    done = CliRunner().invoke(app, ["score", str(words), "-", "--out", "scored.jsonl"], input=given)
    assert done.exit_code == 1
    assert sentence in done.stderr
    assert done.stderr.count("\n") == 1
    assert list(home.iterdir()) == []


def test_a_defect_of_ours_is_not_passed_off_as_a_users(words, monkeypatch):
    def fail(*_, **__):
        raise ValueError("a defect")

    monkeypatch.setattr("pal.serving.reward_model.RewardModel.load", fail)
    done = CliRunner().invoke(app, ["inspect", str(words)])
    assert isinstance(done.exception, ValueError)
