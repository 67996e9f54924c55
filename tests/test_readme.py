"""The README's facts are those of the project; `pal/cli/test_logs.py` runs its commands."""

import getpass
import json
import os
import re
import subprocess
import sys
from pathlib import Path

from pipeline import paths
from pipeline.__main__ import flatten, shown

ROOT = Path(__file__).parents[1]
README = (ROOT / "README.md").read_text(encoding="utf-8")


def test_tests_see_nothing_of_the_users_environment():
    """Stores, caches, proxies, tokens, and the configuration of Git and of DVC."""
    users = {
        "PAL_STORE": "/mine", "GIT_CONFIG_GLOBAL": "/mine", "GIT_DIR": "/mine", "DVC_GLOBAL_CONFIG_DIR": "/mine",
        "HTTPS_PROXY": "http://mine", "HF_TOKEN": "mine", "HF_HOME": "/mine", "XDG_CACHE_HOME": "/mine",
        "RAY_ADDRESS": "mine", "HOME": "/mine", "PAL_PERSONA": "/mine",
    }  # fmt: skip
    code = (
        "import os, conftest, types; config = types.SimpleNamespace(stash={});"
        "conftest.pytest_configure(config); print(os.environ); conftest.pytest_unconfigure(config)"
    )
    command = [sys.executable, "-c", code]
    env = {**os.environ, **users, "PYTHONPATH": str(ROOT / "tests")}
    seen = subprocess.run(command, env=env, capture_output=True, text=True, check=True).stdout
    assert "PATH" in seen
    assert "mine" not in seen
    assert os.environ["HOME"] != str(Path("~" + getpass.getuser()).expanduser())


def test_make_repro_without_git_is_one_sentence_before_anything_is_installed(tmp_path):
    command = ["make", "-s", "-f", str(ROOT / "Makefile"), "git"]
    for folder, code in ((tmp_path, 2), (ROOT, 0)):
        env = {**os.environ, "GIT_CEILING_DIRECTORIES": str(tmp_path.parent)}
        done = subprocess.run(command, cwd=folder, env=env, capture_output=True, text=True, check=False)
        assert (done.returncode, "run git clone" in done.stderr) == (code, code == 2)


def test_every_make_target_that_is_named_exists():
    targets = set(re.findall(r"^([a-z]+):", (ROOT / "Makefile").read_text(), re.M))
    for text in (README, *(page.read_text(encoding="utf-8") for page in (ROOT / "docs").glob("*.md"))):
        assert set(re.findall(r"(?:`|^    )make (\w+)", text, re.M)) <= targets


def test_the_table_of_real_people_is_what_was_measured():
    """Rows of `auto` and of `bt`: data set and pairs a person, in the order of the benchmark's."""
    rows = json.loads((ROOT / "benchmarks/results.json").read_text())["real_people"]["rows"]
    got = {row["what"]: row["got"] for row in rows}
    shown = [line.split("|")[2:-1] for line in README.splitlines() if re.match(r"\| .*\| `(auto|bt)`", line)]
    studies = [f"{name}, {pairs} pairs" for name in ("jester", "ukpconvarg") for pairs in (100, 20)]
    tests = ("known items", "new items", "unseen people, 20 answers", "unseen people, 50 answers")
    expected = [
        [
            f" `{method}` ",
            *(f" {round(got[f'{study}: {test}, {method} less plain'], 1):+.1f} " for test in tests),
        ]
        for study in studies
        for method in ("auto", "bt")
    ]
    assert shown == [[cell.replace("+0.0", "0.0").replace("-0.0", "0.0") for cell in row] for row in expected]


def test_every_link_to_a_file_leads_somewhere():
    for link in re.findall(r"\]\((?!https?:)([^)#]+)\)", README):
        assert (ROOT / link).exists(), link


def test_the_page_on_the_pipeline_has_the_stages_and_the_results_that_git_keeps():
    page = (ROOT / "docs/pipeline.md").read_text(encoding="utf-8")
    assert f"(`dvc.yaml`): {', '.join(paths.STAGES)}" in " ".join(page.split())
    for dataset in ("simulated", "persona", "pickafilter"):
        found = json.loads((ROOT / paths.metrics(dataset)).read_text())
        for name, value in flatten(found):
            assert f"  {name:<34} {shown(name, value)}" in page
