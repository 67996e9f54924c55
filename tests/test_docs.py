"""The pages' Python works, and their facts are those of the project; `test_dag.py` runs their commands."""

import json
import re
import subprocess
import sys
import tomllib
from importlib import import_module
from pathlib import Path

import pytest
import yaml

ROOT = Path(__file__).parents[1]
PAGES = [*sorted((ROOT / "docs").glob("*.md")), ROOT / "CHANGELOG.md"]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]


def blocks(page: str) -> list[tuple[str, str, str]]:
    """Fenced blocks in order: the language, the content, and what stands before it."""
    text = (ROOT / "docs" / page).read_text(encoding="utf-8")
    parts = re.split(r"^```(\w+)\n(.*?)^```$", text, flags=re.M | re.S)
    return list(zip(parts[1::3], parts[2::3], parts[0::3], strict=False))


def test_hiding_ids_and_taking_someone_out_work_as_written(tmp_path, monkeypatch):
    """The two pieces of Python of the page on privacy."""
    torch = pytest.importorskip("torch")
    from pal import FitConfig, HeadConfig, Points, RewardModel, make_model

    monkeypatch.chdir(tmp_path)
    hide, take_out = (content for language, content, _ in blocks("privacy.md") if language == "python")
    Path("user-ids.key").write_bytes(b"k" * 32)
    Path("answers.csv").write_text("user_id,prompt,chosen,rejected\n17,a,b,c\nann,a,c,b\n17,d,e,f\n")
    exec(hide, {})
    header, *lines = Path("hidden.csv").read_text().splitlines()
    assert header == "user_id,prompt,chosen,rejected"
    assert [re.fullmatch(r"([0-9a-f]{32}),(.*)", line)[2] for line in lines] == ["a,b,c", "a,c,b", "d,e,f"]
    assert lines[0][:32] == lines[2][:32] != lines[1][:32]

    weights = torch.tensor([[0.9, 0.1], [0.2, 0.8], [0.5, 0.5]])
    head = make_model(HeadConfig(model="A", K=2, latent=1), prompt_dim=0, response_dim=1)
    before = RewardModel(
        head, ["bob", "ann", "eve"], weights, Points.from_states(weights), FitConfig(), {}, 0, 1
    )
    before.save("model")
    exec(take_out, {})
    after = RewardModel.load("model")
    assert after.user_ids == ["bob", "eve"]
    assert torch.equal(after.state_of("eve"), before.state_of("eve"))
    assert after.fingerprint == before.fingerprint


def test_the_site_builds_strictly_and_loads_nothing_from_elsewhere(tmp_path):
    """Every page has its place, links and their anchors lead somewhere, and no script or font is another server's."""
    command = [sys.executable, "-m", "mkdocs", "build", "--strict", "--quiet", "--site-dir", str(tmp_path)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    for page in tmp_path.rglob("*.html"):
        text = page.read_text(encoding="utf-8")
        assert not re.findall(r"<(?:script|img|link)\b[^>]*(?:src|href)=\"(?:https?:)?//[^>]*>", text), page


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_links_of_pages_lead_somewhere(page):
    for link in re.findall(r"\]\((?!https?:)([^)#]*)#?[^)]*\)", page.read_text(encoding="utf-8")):
        assert not link or (page.parent / link).exists(), link


def test_the_page_on_choosing_has_the_measured_numbers():
    text = (ROOT / "docs/choosing.md").read_text(encoding="utf-8")
    results = json.loads((ROOT / "benchmarks/results.json").read_text(encoding="utf-8"))
    rows = {part: {row["what"].strip(): row["got"] for row in results[part]["rows"]} for part in results}
    persona, simulated = rows["persona"], rows["simulated"]
    for got, digits in [
        (persona["K*=3, 300 users, 100 queries: K=1"], 1),
        (persona["K=2"], 1),
        (persona["K=3"], 2),
        (persona["K=3, new statements"], 1),
        (persona["K=3, preset paper"], 2),
        (persona["K*=K=3, 3,000 users, 25 queries"], 2),
        (persona["K*=K=3, 3,000 users, 10 queries"], 1),
        (persona["K*=K=3, 3,000 users, 5 queries"], 1),
        (persona["K*=3, K=8, 3,000 users, 10 queries"], 2),
        (persona["unseen users, K*=K=3, 5 shots"], 1),
        (persona["unseen users, K*=K=3, 10 shots"], 1),
        (persona["unseen users, K*=K=3, 20 shots"], 2),
        (simulated["mixture, d=16, squared, preset ours"], 1),
        (simulated["mixture, d=16, l2, preset ours"], 1),
    ]:
        assert re.search(rf"\b{re.escape(f'{got:.{digits}f}')}\b", text), got


def test_the_page_on_the_paper_counts_the_ledgers_verdicts():
    text = (ROOT / "docs/paper.md").read_text(encoding="utf-8")
    counted = json.loads((ROOT / "metrics/paper.json").read_text(encoding="utf-8"))["verdicts"]
    rows = re.findall(r"^\| ([a-z ]+) \| (\d+) \|", text, re.M)
    assert {verdict: int(number) for verdict, number in rows} == counted


def test_scripts_are_there():
    for target in PROJECT["scripts"].values():
        module, name = target.split(":")
        assert callable(getattr(import_module(module), name))


def test_the_citation_is_of_this_version():
    citation = yaml.safe_load((ROOT / "CITATION.cff").read_text(encoding="utf-8"))
    assert citation["cff-version"] == "1.2.0"
    assert (citation["version"], citation["license"]) == (PROJECT["version"], PROJECT["license"])
    assert all(citation[name] for name in ("message", "title", "authors"))
    assert citation["references"][0]["url"].endswith("2406.08469")
