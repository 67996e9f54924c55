"""The README's commands run, in its order, and its facts are those of the project."""

import json
import re
import shlex
from pathlib import Path

import pytest

from pipeline import paths
from pipeline.__main__ import flatten, shown

ROOT = Path(__file__).parents[1]
README = (ROOT / "README.md").read_text(encoding="utf-8")
SHELL = [line for block in re.findall(r"```sh\n(.*?)```", README, re.S) for line in block.splitlines()]
# Started from `make`, which makes an environment of its own; .ci/run runs both.
MADE = ("make repro", "make test")


@pytest.mark.xdist_group("dag")
def test_readme_commands_run(repository):
    repository.edit("datasets", ["own"])
    shutil_answers = (repository.outside / "answers.csv").read_bytes()
    (repository.home / "answers.csv").write_bytes(shutil_answers)
    repository.commit()
    repository.repro()
    for command in SHELL:
        if command not in MADE:
            repository.run(*shlex.split(command))
    shown = repository.run("dvc", "exp", "show", "--csv")
    assert len(re.findall("branch_commit|branch_base", shown)) >= 4
    assert "seen.accuracy" in repository.run("python", "-m", "pipeline", "results")


def test_every_make_target_that_the_readme_names_exists():
    targets = set(re.findall(r"^([a-z]+):", (ROOT / "Makefile").read_text(), re.M))
    assert set(re.findall(r"`make (\w+)`", README)) <= targets


def test_every_link_to_a_file_leads_somewhere():
    for link in re.findall(r"\]\((?!https?:)([^)#]+)\)", README):
        assert (ROOT / link).exists(), link


def test_readme_lists_the_stages():
    assert f"the pipeline: {', '.join(paths.STAGES)}" in " ".join(README.split())


def test_readme_shows_the_results_that_git_keeps():
    for dataset in ("simulated", "persona", "pickafilter"):
        found = json.loads((ROOT / paths.metrics(dataset)).read_text())
        for name, value in flatten(found):
            assert f"  {name:<34} {shown(name, value)}" in README
