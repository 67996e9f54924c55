"""The command line as a shell sees it: exit codes, pipes, completion, one sentence for each mistake."""

import io
import os
import subprocess
import sys
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from typer.testing import CliRunner

from pal.cli.app import app

ROOT = Path(__file__).parents[3]
ENV = {**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
PAL = (sys.executable, "-m", "pal.cli.app")
ROW = b'{"prompt": "how", "response": "fine"}\n'


@pytest.mark.parametrize("command", app.registered_commands, ids=lambda command: command.callback.__name__)
def test_help_of_a_command_says_what_it_does(command):
    done = CliRunner().invoke(app, [command.callback.__name__, "--help"])
    assert done.exit_code == 0
    assert command.callback.__doc__.split("\n")[0] in done.stdout
    own = dict.fromkeys(("fit", "eval", "compare"), "--columns")
    own |= {"serve": "--port", "demo": "--port", "answers": "--out"}
    assert own.get(command.callback.__name__, "--format") in done.stdout


def test_help_imports_no_torch():
    heavy = "{'torch', 'pyarrow', 'numpy', 'sentence_transformers'}"
    code = (
        "import sys; from typer.testing import CliRunner; from pal.cli.app import app; "
        f"CliRunner().invoke(app, ['--help']); sys.exit(bool({heavy} & set(sys.modules)))"
    )
    assert subprocess.run([sys.executable, "-c", code], cwd=ROOT, check=False).returncode == 0


def test_a_model_of_texts_imports_no_torchvision():
    """Which takes as long to import as torch itself."""
    code = "import sys, pal.cli.commands; sys.exit('torchvision' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], cwd=ROOT, check=False).returncode == 0


@pytest.mark.parametrize("arguments", ["score", "score m rows.csv --usr ann", "scor", "ask m x -n 0"])
def test_a_command_that_is_not_understood_is_exit_code_2(arguments):
    assert CliRunner().invoke(app, arguments.split()).exit_code == 2


def test_shells_complete_commands_and_options():
    def installed(*arguments: str, **env: str) -> str:
        script = "import sys; sys.argv[0] = 'pal'; from pal.cli.app import main; main()"
        command = [sys.executable, "-c", script, *arguments]
        return subprocess.run(command, capture_output=True, text=True, env=ENV | env, check=True).stdout

    bash = {"_PAL_COMPLETE": "complete_bash"}
    assert installed(COMP_WORDS="pal sc", COMP_CWORD="1", **bash).split() == ["score"]
    assert installed(COMP_WORDS="pal ask m x --tog", COMP_CWORD="4", **bash).split() == ["--together"]


def test_a_closed_pipe_ends_quietly(words):
    pipe = subprocess.PIPE
    process = subprocess.Popen(
        [*PAL, "score", str(words), "-"], stdin=pipe, stdout=pipe, stderr=pipe, env=ENV
    )
    process.stdout.close()  # as `head` does once it has seen enough
    said = process.communicate(ROW * 20_000)[1]
    assert (process.returncode, said) == (141, b"")


def test_parquet_passes_through_pipes(words):
    out = io.BytesIO()
    pq.write_table(pa.table({"prompt": ["how"], "response": ["fine"], "id": [7]}), out)
    command = [*PAL, "score", str(words), "-", "--format", "parquet"]
    done = subprocess.run(command, input=out.getvalue(), capture_output=True, env=ENV, check=True)
    assert pq.read_table(io.BytesIO(done.stdout))["id"].to_pylist() == [7]
    assert done.stderr == b""  # no bar where it is no terminal


@pytest.mark.parametrize(
    ("content", "sentence"),
    [
        (None, "model.safetensors cannot be read (No such file or directory)"),
        (b"\x80\x04\x95 cos\nsystem\n(S'touch ran'\ntR.", "a pickle can run code and is never loaded"),
    ],
)
def test_a_broken_model_is_one_sentence_and_nothing_is_written(pal, words, content, sentence):
    (words / "model.safetensors").unlink()
    if content is not None:
        (words / "model.safetensors").write_bytes(content)
    assert sentence in pal("score", words, "-", "--out", "scored.jsonl", stdin=ROW, code=1)
    assert list(Path().iterdir()) == []


def test_a_defect_of_ours_is_not_passed_off_as_a_users(words, monkeypatch):
    def fail(*_, **__):
        raise ValueError("a defect")

    monkeypatch.setattr("pal.serving.reward_model.RewardModel.load", fail)
    done = CliRunner().invoke(app, ["inspect", str(words)])
    assert isinstance(done.exception, ValueError)
