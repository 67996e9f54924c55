"""The command line as a shell sees it: exit codes, pipes, completion, one sentence for each mistake."""

import os
import subprocess
import sys
from pathlib import Path

from typer.testing import CliRunner

from pal.cli.app import app

ROOT = Path(__file__).parents[3]
ENV = {**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
PAL = (sys.executable, "-m", "pal.cli.app")
ROW = b'{"prompt": "how", "response": "fine"}\n'


def test_help_imports_no_torch():
    heavy = "{'torch', 'pyarrow', 'numpy', 'sentence_transformers'}"
    code = (
        "import sys; from typer.testing import CliRunner; from pal.cli.app import app; "
        f"CliRunner().invoke(app, ['--help']); sys.exit(bool({heavy} & set(sys.modules)))"
    )
    assert subprocess.run([sys.executable, "-c", code], cwd=ROOT, check=False).returncode == 0


def test_a_closed_pipe_ends_quietly(words):
    pipe = subprocess.PIPE
    process = subprocess.Popen(
        [*PAL, "score", str(words), "-"], stdin=pipe, stdout=pipe, stderr=pipe, env=ENV
    )
    process.stdout.close()  # as `head` does once it has seen enough
    said = process.communicate(ROW * 20_000)[1]
    assert (process.returncode, said) == (141, b"")


def test_a_defect_of_ours_is_not_passed_off_as_a_users(words, monkeypatch):
    def fail(*_, **__):
        raise ValueError("a defect")

    monkeypatch.setattr("pal.serving.reward_model.RewardModel.load", fail)
    done = CliRunner().invoke(app, ["inspect", str(words)])
    assert isinstance(done.exception, ValueError)
