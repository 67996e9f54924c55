"""The report on what evaluate found in two small datasets: what it says and draws, one harmless file a page."""

import base64
import hashlib
import html
import json
import re
import shutil
import subprocess
from html.parser import HTMLParser

import pytest

from pal.report.page import data_uri
from pipeline import paths
from pipeline.stages import report

ATTACK = "</script><img src=x onerror=alert(1)>"
FROM_DATA = {"text", "title", "user_id", "user", "prompt", "group", "source", "notes", "name"}


def evaluated(dataset="own"):
    """What evaluate wrote."""
    found = json.loads((paths.evaluated(dataset) / "evaluated.json").read_text(encoding="utf-8"))
    return {**found, "curves": {}, "methods": {}}


def bare():
    """As little as the schema allows: every list empty, every value that may be null null."""
    portrait = {"whom": None, "map": None, "alike": False, "pictures": {}}
    portrait |= {"wants": [], "people": [], "tastes": []}
    portrait["answering"] = {"rows": [], "standing_out": 0, "sentence": ""}
    nothing = {"accuracies": [], "plurality": None, "portrait": portrait, "training": []}
    return {**evaluated(), **nothing, "calibration": {"ece": None, "bins": []}, "stability": None}


def pictured(picture):
    """The same with filtered pictures, two test sets, items that were dropped and an untrained encoder."""
    found = evaluated()
    rows = [row for row in found["accuracies"] if row["model"] == "model"]
    pair = {"prompt": "a lighthouse at dusk", "chosen": picture, "rejected": picture}
    stage = {"stage": "encode", "read": 500, "kept": 498, "dropped": 2, "details": {}}
    return {
        **found,
        "filters": [{**row, "pairs": pairs} for row in rows for pairs in ("filtered", "untouched")],
        "tests": [{**row, "test": test} for row in rows for test in ("test", "test_unique")],
        "test": "test",
        "gallery": [{**pair, "filtered": "winner", "group": "likes blue", "user": "user 1"}],
        "account": [{**stage, "reasons": {"it is cut short": 2}}],
        "split_table": [{"group": "G1, seen", "train": 58831, "val": 628, "test": None}],
        "encoder": {side: {**by, "name": "untrained-vit-h-14"} for side, by in found["encoder"].items()},
        "notes": ["Answers are simulated: the longer summary wins."],
    }


@pytest.fixture
def picture(drawn):
    """A small picture as evaluate puts it into its findings."""
    return data_uri(drawn(kind="JPEG"))


class Loads(HTMLParser):
    """Collects what a page would load: elements and attributes that fetch, and styles."""

    def __init__(self, page):
        super().__init__()
        self.fetching, self.tags, self.styles = [], [], ""
        self.feed(page)

    def handle_starttag(self, tag, attrs):
        self.tags.append(tag)
        for name, value in attrs:
            if name in ("src", "srcset", "href", "data", "action", "poster") and not value.startswith("#"):
                self.fetching.append((tag, name, value))
            assert not name.startswith("on"), f"an inline handler: {name}"

    def handle_data(self, data):
        if self.tags and self.tags[-1] == "style":
            self.styles += data


def specs(page):
    """Every specification in the page, by its figure's id."""
    found = re.findall(r'id="([\w-]+)-chart"></div>\s*<script type="application/json">(.*?)</script>', page)
    return {name: json.loads(text) for name, text in found}


def shown(page):
    """The page's text without tags, scripts and styles."""
    page = re.sub(r"(?s)<(script|style).*?</\1>", "", page)
    return " ".join(html.unescape(re.sub(r"<[^>]+>", " ", page)).replace("\u00a0", " ").split())


def test_empty_and_null_findings_are_said_not_drawn(small):
    page = report.render(bare())
    assert specs(page) == {}
    for said in (
        "No accuracies were measured",
        "nobody was judged",
        "Calibration was not",
        "No training log",
    ):
        assert said in shown(page)


@pytest.mark.parametrize(
    ("K", "objective", "grid_points", "said"),
    [
        (3, "mixture", 40, "K = 3 need not be"),
        (3, "mixture", 0, "is the number of groups that"),
        (1, "pal", 40, "there are no prototypes."),
    ],
)
def test_meaning_of_the_number_of_prototypes_follows_the_fit(small, K, objective, grid_points, said):
    fit = {**bare()["fit"], "objective": objective, "grid_points": grid_points}
    assert said in shown(report.render({**bare(), "fit": fit, "head": {**bare()["head"], "K": K}}))


def test_the_sentence_on_choose_k_gives_both_numbers_and_says_why_they_may_differ(small):
    def said(**curves):
        candidates = [{"K": 1, "accuracy": 0.8, "standard_error": 0.01}]
        found = {name.replace("_", " "): {"K": K, "candidates": candidates} for name, K in curves.items()}
        return shown(report.render({**bare(), "curves": found}))

    both = said(as_fitted=2, one_prototype_per_user=3)
    for sentence in ("3 groups describe these users (K = 3).", "K = 2 suffices.", "affine in the weights"):
        assert sentence in both
    assert "The model of this page has K = 2." in both
    alone = said(one_prototype_per_user=1)
    assert "nobody is told apart (K = 1)" in alone
    assert "affine" not in alone


def test_the_strictest_split_says_why_it_is_not_there_and_what_was_left_out(small):
    def said(**split):
        return shown(report.render({**bare(), "never_seen": {**split, "accuracies": []}}))

    assert "It cannot be formed here: no one is new." in said(why="no one is new", pairs=0, left_out=0)
    left = said(why="", pairs=1200, left_out=3)
    assert "1,200 comparisons of unseen users; 3 were left out" in left


def hostile(value, key=""):
    """Findings in which every text that comes from data holds markup."""
    if isinstance(value, dict):
        return {name: hostile(each, name) for name, each in value.items()}
    if isinstance(value, list):
        return [hostile(each, key) for each in value]
    return value + ATTACK if isinstance(value, str) and key in FROM_DATA else value


def test_text_from_data_cannot_become_markup(small, picture):
    page = report.render({**hostile(pictured(picture)), "notes": [ATTACK], "split_table": [{ATTACK: ATTACK}]})
    assert Loads(page).tags.count("img") == 2
    assert ATTACK not in re.sub(r"(?s)<script.*?</script>", "", page)
    assert html.escape(ATTACK) in page


@pytest.mark.parametrize(
    "uri",
    ["https://example.org/a.jpg", "data:text/html;base64,PGI+", 'data:image/jpeg;base64,x" onerror="y', None],
)
def test_an_address_that_is_no_thumbnail_is_no_picture(small, picture, uri):
    found = {**pictured(picture), "portrait": bare()["portrait"]}
    found["gallery"][0]["chosen"] = uri
    page = report.render(found)
    assert [value for tag, _, value in Loads(page).fetching if tag == "img"] == [picture]
    assert "example.org" not in page


def test_pages_load_nothing_and_their_policy_allows_just_their_scripts(small):
    report.main()
    folder = paths.REPORT.parent
    assert {path.name for path in folder.iterdir()} == {"report.html", "simulated.html", "own.html"}
    page, index = ((folder / name).read_text(encoding="utf-8") for name in ("own.html", "report.html"))
    links = [value for _, _, value in Loads(index).fetching]
    assert links == ["simulated.html", "own.html"]
    loads = Loads(page)
    assert set(loads.fetching) == {("a", "href", "report.html")}
    assert not {"link", "iframe", "object", "embed", "base", "form"} & set(loads.tags)
    assert not re.search(r"url\(|@import", loads.styles)
    assert "default-src 'none'" in page
    assert "unsafe-eval" not in page
    assert not re.search(r"https?://", "".join(map(json.dumps, specs(page).values())))
    allowed = re.findall(r"'(sha256-[^']+)'", page[: page.index("<style>")])
    scripts = re.findall(r"<script>(.*?)</script>", page, re.DOTALL)
    digests = [base64.b64encode(hashlib.sha256(script.encode()).digest()).decode() for script in scripts]
    assert allowed == [f"sha256-{digest}" for digest in digests]
    assert '<a href="../paper/paper.html">' in report.render_index([bare()], paper=True)


CHROMIUM = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
FLAGS = [
    "--headless=new", "--no-sandbox", "--disable-gpu", "--disable-background-networking", "--disable-sync",
    "--disable-component-update", "--no-first-run", "--virtual-time-budget=20000", "--dump-dom",
]  # fmt: skip


@pytest.mark.skipif(CHROMIUM is None, reason="needs Chromium to open the report in")
def test_a_browser_draws_every_chart_shows_a_person_and_meets_no_error(small, picture, tmp_path):
    page, file = report.render(hostile(pictured(picture))), tmp_path / "report.html"
    file.write_text(page.replace("<details", "<details open"), encoding="utf-8")
    command = [CHROMIUM, *FLAGS, f"--user-data-dir={tmp_path / 'profile'}", file.as_uri()]
    dom = subprocess.run(command, capture_output=True, text=True, timeout=120, check=True).stdout
    errors = re.search(r'<div id="errors"[^>]*>(.*?)</div>', dom, re.DOTALL)
    assert errors
    assert "hidden" in errors.group().split(">")[0], shown(errors.group(1))
    drawn = re.findall(r'id="([\w-]+)-chart"[^>]*>(?:(?!</figure>).)*?<svg', dom, re.DOTALL)
    assert drawn == list(specs(page))
    assert re.search(r'<div id="person"[^>]*><h3><bdi>', dom)
