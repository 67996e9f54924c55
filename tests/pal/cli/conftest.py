import csv
import json
from dataclasses import replace
from pathlib import Path

import pytest
from typer.testing import CliRunner

from pal.cli.app import app


@pytest.fixture
def words(worded, tmp_path) -> Path:
    """The model of hashed words, saved: prompts and responses are texts."""
    worded.save(tmp_path / "words")
    return tmp_path / "words"


@pytest.fixture
def on_a_line(line, tmp_path) -> Path:
    """The model on a line, saved: responses are lists of one number."""
    replace(line, states=line.states.clone()).save(tmp_path / "line")
    return tmp_path / "line"


@pytest.fixture
def pal(tmp_path, monkeypatch):
    """Run `pal` in an empty folder; standard output where it ends well, else its one sentence."""
    home = tmp_path / "home"
    home.mkdir()
    monkeypatch.chdir(home)

    def run(*arguments, stdin: str | bytes = b"", code: int = 0):
        done = CliRunner().invoke(app, [str(one) for one in arguments], input=stdin)
        if done.exception is not None and not isinstance(done.exception, SystemExit):
            raise done.exception
        assert done.exit_code == code, done.output
        if code == 1:
            assert done.stderr.count("\n") == 1
        return done.stdout if code == 0 else done.stderr

    return run


@pytest.fixture
def rows():
    """A table's rows, from JSONL or, where it opens with a name, CSV."""

    def read(text: str) -> list[dict]:
        if text.startswith("{"):
            return [json.loads(line) for line in text.splitlines()]
        return list(csv.DictReader(text.splitlines()))

    return read
