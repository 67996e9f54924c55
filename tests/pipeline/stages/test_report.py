"""The report on made-up findings: what it says, what it draws, and that it stays one harmless file."""

import base64
import hashlib
import html
import io
import json
import random
import re
import shutil
import subprocess
from html.parser import HTMLParser
from types import SimpleNamespace

import numpy as np
import polars as pl
import pytest
from PIL import Image

from pal.report import maps
from pal.report.page import data_uri
from pal.report.people import answering, for_whom, judge_people
from pipeline import paths
from pipeline.stages import report

ATTACK = "</script><img src=x onerror=alert(1)>"
MINILM = {"name": "all-MiniLM-L6-v2", "weights_sha256": "53aa51172d142c89d9012cce15ae4d6c", "dim": 384}


def accuracy(users, items, shots, model, value, **more):
    """One row of accuracies, its interval two points wide."""
    row = {"users": users, "items": items, "shots": shots, "model": model, "accuracy": value}
    row |= {"test": "", "pairs": "all", "balanced": None, "worst_decile": None}
    ends = {"low": max(value - 0.01, 0), "high": min(value + 0.01, 1)}
    return {**row, **ends, "n_users": 300, "n_pairs": 6000, **more}


def accuracies(n_prototypes):
    """Known and new items for seen users, shots for unseen ones, baselines measured once."""
    rows = []
    for items, value in (("known", 0.998), ("new", 0.981)):
        rows.append(accuracy("seen", items, None, "model", value, balanced=0.99, worst_decile=0.951))
        rows.append(accuracy("seen", items, None, "majority", 0.832))
        rows += [accuracy("seen", items, None, "k1", 0.834)] * (n_prototypes > 1)
    for shots in (0, 1, 5, 20):
        rows.append(accuracy("unseen", "all", shots, "model", 0.994 - 0.161 * 0.72**shots))
    return rows + [accuracy("unseen", "all", 0, model, 0.832) for model in ("oracle", "k1")[:n_prototypes]]


def weights_near(draw, corner, n_prototypes):
    """Weights drawn with most of their mass on one corner."""
    raw = [draw.gammavariate(6.0 if k == corner else 0.4, 1) for k in range(n_prototypes)]
    return [value / sum(raw) for value in raw]


def people(n_prototypes, groups):
    """60 users whose weights go with their group."""
    draw, rows = random.Random(0), []
    for i in range(60):
        near = weights_near(draw, i % (len(groups) or n_prototypes) % n_prototypes, n_prototypes)
        group = groups[i % len(groups)] if groups else None
        rows.append(
            {"user_id": f"user-{i}", "users": ("seen", "unseen")[i // 3 % 2], "group": group, "near": near}
        )
    return rows


def drawn_portrait(n_prototypes, groups, text="I enjoy painting landscapes.", image=None, user="user-0"):
    """What evaluate would have drawn of 60 people with ten answers each."""
    folk = people(n_prototypes, groups)
    folk[0]["user_id"] = user
    answers = pl.DataFrame(
        [(each["user_id"], each["users"], float(n > i % 4), 0.5) for i, each in enumerate(folk) for n in range(10)],
        schema=["user_id", "users", "right", "one"], orient="row",
    )  # fmt: skip
    judged = judge_people(answers)
    cell = {"picture": "responses-0"} if image else {"text": text}
    example = {"prompt": {"text": text}, "chosen": cell, "rejected": cell, "p": 0.9, "p_one": None}
    item = {"prompt": text, "text": "" if image else text, "image": image, "above": 0.5}
    word = {"name": text[:20], "strength": 1.0, "low": 0.5, "high": 1.5}
    wants = [
        {"name": f"prototype {k}", "share": 1 / n_prototypes, "title": text[:20], "answer": None, "liked_words": [word],
         "disliked_words": [word], "features": [word], "likes": [item, item], "dislikes": [item]}
        for k in range(1, n_prototypes + 1)
    ]  # fmt: skip
    weights = np.array([each["near"] for each in folk])
    shown = [
        {
            **each,
            **row,
            "weights": each["near"],
            "outside": False,
            "why": [],
            "telling": [example],
            "mistakes": [],
        }
        for each, row in zip(folk, judged.to_dicts(), strict=True)
    ]
    for each in shown:
        del each["near"]
    return {
        "whom": {**for_whom(judged), "outside": [user]},
        "map": maps.draw(
            folk, weights=weights, titles=[each["title"] for each in wants], shares=[0.5] * n_prototypes
        ),
        "wants": wants if n_prototypes > 1 else [],
        "people": shown,
        "pictures": {"responses-0": image} if image else {},
        "tastes": [{"name": each["name"], "title": each["title"]} for each in wants],
        "answering": answering(judged),
    }


def known_truth(n_prototypes):
    """True points in the plane, predicted ones a little beside them."""
    corners = [(1.3, -0.2), (-0.8, 0.9), (-0.4, -1.1), (0.5, 1.0), (0.9, 0.9)][:n_prototypes]
    draw, rows = random.Random(1), []
    for i in range(60):
        true = maps.mean(weights_near(draw, i % n_prototypes, n_prototypes), corners)
        who = {"user_id": f"u{i}", "users": "seen" if i % 2 else "unseen", "group": None}
        rows.append({**who, "true": list(true), "predicted": [value + draw.gauss(0, 0.08) for value in true]})
    predicted = [[x + 0.05, y - 0.04] for x, y in corners]
    points = {"prototypes": [{"true": list(corner)} for corner in corners], "predicted_prototypes": predicted}
    return {"axes": "The first two principal axes of the true ideal points.", "users": rows, **points}


def evaluated(dataset="persona", n_prototypes=3, groups=("art", "literature", "math"), **more):
    """What evaluate would write."""
    bins = [{"predicted": i / 10 + 0.05, "observed": i / 10 + 0.04, "count": i} for i in range(1, 10)]
    bins.insert(0, {"predicted": None, "observed": None, "count": 0})
    difference = {"difference": 0.164, "low": 0.16, "high": 0.168, "p": 0.0001}
    epochs = [{"epoch": e, "loss": 0.9**e, "val_loss": None, "val_accuracy": 1 - 0.8**e} for e in range(1, 9)]
    stability = {
        "seeds": 2, "agreement": 0.97, "by_prototype": [0.97] * n_prototypes, "same_groups": 0.96,
        "same_answers": 0.99, "true_groups": 0.98, "n_groups": 3, "dead": [],
        "outside": {"seen": {"users": 1, "of": 300}, "unseen": {"users": 0, "of": 300}},
    }  # fmt: skip
    never_seen = [accuracy("unseen", "never seen", n, "model", v) for n, v in ((0, 0.8), (20, 0.95))]
    made = {
        "dataset": dataset,
        "source": "sample: 1,200 statements that come with this project",
        "encoder": {"prompts": MINILM, "responses": MINILM},
        "head": {"K": n_prototypes, "model": "B", "latent": 16},
        "fit": {"objective": "mixture", "grid_points": 40, "epochs": 30},
        "counts": {"seen_users": 30, "unseen_users": 30, "train_pairs": 30000},
        **{
            name: []
            for name in ("notes", "published", "account", "split_table", "tests", "filters", "gallery")
        },
        "test": "",
        "beside": {},
        "accuracies": accuracies(n_prototypes),
        "plurality": {"seen": difference, "unseen": difference},
        "portrait": drawn_portrait(n_prototypes, groups),
        "calibration": {"ece": 0.004, "bins": bins},
        "training": epochs,
        "truth": None,
        "never_seen": {"why": "", "pairs": 400, "left_out": 0, "accuracies": never_seen},
        "stability": None if n_prototypes == 1 else stability,
    }
    return {**made, **more}


def simulated(n_prototypes=3):
    """Vectors: no prototypes in words, no groups, the truth known."""
    encoder = {"prompts": None, "responses": {"name": "none", "weights_sha256": "", "dim": 16}}
    more = {"source": "generated: drawn from seed 0", "encoder": encoder, "truth": known_truth(n_prototypes)}
    told = {**drawn_portrait(n_prototypes, ()), "wants": []}
    return evaluated("simulated", n_prototypes, (), portrait=told, **more)


def bare():
    """As little as the schema allows: every list empty, every value that may be null null."""
    empty = {"whom": None, "map": None, "wants": [], "people": [], "pictures": {}, "tastes": []}
    empty["answering"] = {"rows": [], "standing_out": 0, "sentence": ""}
    nothing = {"accuracies": [], "plurality": None, "portrait": empty, "training": []}
    return evaluated("own", **nothing, calibration={"ece": None, "bins": []})


def pixel(colour=(200, 80, 40), size=(72, 96)):
    """A one-coloured picture as evaluate puts it into its findings."""
    out = io.BytesIO()
    Image.new("RGB", size, colour).save(out, "JPEG")
    return data_uri(out.getvalue())


def pictured(dataset="pickafilter", **more):
    """Filtered pairs, two encoders, pictures among the prototypes, two test sets, items that were dropped."""
    prompt = "a lighthouse at dusk, oil on canvas"
    filters = [
        accuracy(users, "all", shots, model, value - 0.1 * (pairs == "untouched"), pairs=pairs)
        for pairs in ("filtered", "untouched")
        for users, shots, model, value in (
            ("seen", None, "model", 0.95), ("seen", None, "similarity", 0.66), ("unseen", 0, "model", 0.74),
            ("unseen", 20, "model", 0.93), ("unseen", None, "k1", 0.74),
        )
    ]  # fmt: skip
    tests = [
        accuracy(users, "all", shots, "model", value, test=test)
        for test in ("test", "test_unique")
        for users, shots, value in (("seen", None, 0.71), ("unseen", 0, 0.69), ("all", 0, 0.7))
    ]
    pair = {"prompt": prompt, "chosen": pixel((40, 80, 220)), "rejected": pixel((150, 150, 150), (96, 64))}
    gallery = [
        {**pair, "filtered": filtered, "group": group, "user": f"user {n}"}
        for n, (filtered, group) in enumerate([("winner", "likes blue"), ("loser", "likes red")] * 2)
    ]
    account = [
        {
            "stage": stage,
            "read": read,
            "kept": read - dropped,
            "dropped": dropped,
            "details": {},
            "reasons": {},
        }
        for stage, read, dropped in (("prepare", 1000, 100), ("encode", 500, 2))
    ]
    account[0]["details"], account[1]["reasons"] = {"ties_dropped": 100}, {"it is cut short": 2}
    given = {
        "encoder": {"prompts": MINILM, "responses": {"name": "untrained-vit-h-14", "weights_sha256": "", "dim": 1024}},
        "filters": filters, "tests": tests, "test": "test", "gallery": gallery, "account": account,
        "split_table": [{"group": "G1, seen", "train": 58831, "val": 628, "test": None}],
        "portrait": drawn_portrait(2, ("likes blue", "likes red"), prompt, pixel()),
        "notes": ["Answers are simulated: the longer summary wins."],
        "published": ["Not the published Pick-a-Pic v1: rows of train 5 of 583,747."],
        "beside": {"similarity": {"difference": 0.09, "low": 0.07, "high": 0.11, "p": 0.0001}},
    }  # fmt: skip
    return evaluated(dataset, 2, ("likes blue", "likes red"), **{**given, **more})


class Loads(HTMLParser):
    """Collects what a page would load: elements and attributes that fetch, script text, styles."""

    def __init__(self):
        super().__init__()
        self.fetching, self.tags, self.texts = [], [], {"script": [], "style": []}

    def handle_starttag(self, tag, attrs):
        self.tags.append(tag)
        for name, value in attrs:
            if name in ("src", "srcset", "href", "data", "action", "poster") and not value.startswith("#"):
                self.fetching.append((tag, name, value))
            assert not name.startswith("on"), f"an inline handler: {name}"

    def handle_data(self, data):
        if self.tags and self.tags[-1] in self.texts:
            self.texts[self.tags[-1]].append(data)


def specs(page):
    """Every specification in the page, by its figure's id."""
    found = re.findall(r'id="([\w-]+)-chart"></div>\s*<script type="application/json">(.*?)</script>', page)
    return {name: json.loads(text) for name, text in found}


def shown(page):
    """The page's text without tags, scripts and styles."""
    page = re.sub(r"(?s)<(script|style).*?</\1>", "", page)
    return " ".join(html.unescape(re.sub(r"<[^>]+>", " ", page)).replace("\u00a0", " ").split())


@pytest.mark.parametrize("n_prototypes", [1, 2, 5])
def test_every_figure_is_there_for_every_number_of_prototypes(n_prototypes):
    page = report.render(evaluated(n_prototypes=n_prototypes))
    assert set(specs(page)) == {
        f"persona-{name}" for name in ("dots", "curve", "reliability", "loss", "validation")
    }
    assert page.count('data-person="') == (60 if n_prototypes > 1 else 0)
    assert ("everyone is given one reward" in shown(page)) == (n_prototypes == 1)
    assert page.index('id="pays"') < page.index('id="whom"') < page.index("In detail")


def test_the_three_questions_come_first_and_all_else_is_folded():
    page = report.render(evaluated())
    said = shown(page)
    assert "Does being personal pay here? Yes" in said
    places = [
        said.index(words)
        for words in ("pay here?", "For whom?", "What do people want?", "One person", "In detail")
    ]
    assert places == sorted(places)
    assert "<details open" not in page
    assert re.findall(r'<details id="([\w-]+)"', page) == [
        "answering", "tested", "accuracy", "few-shot", "never-seen", "trust", "calibration", "training", "data",
    ]  # fmt: skip


def test_what_a_reader_must_not_overlook_is_said():
    page = " ".join(shown(report.render(each)) for each in (evaluated(), simulated(), pictured()))
    for said in (
        "sample data", "Source: sample: 1,200 statements that come with this project", "generated data",
        "untrained weights", "untrained-vit-h-14 similarity", "Answers are simulated: the longer summary wins.",
        "Not the published Pick-a-Pic v1: rows of train 5 of 583,747.",
        "Encoder: all-MiniLM-L6-v2, 384 numbers per item", "Encoder of prompts: all-MiniLM-L6-v2",
        "Encoder of responses: untrained-vit-h-14, 1024 numbers per item",
        "Encoder: none, items are vectors already", "prepare 1,000 900 100 ties dropped 100",
        "encode 500 498 2 it is cut short: 2", "G1, seen 58,831 628 \u2013",
        "test_unique: all users, unseen from no comparisons 70.0 %",
        "Unseen, 20 comparisons, untouched pairs 83.0 %", "those of the test set test.",
        "No mix of the prototypes explains 1 person:", "cannot be told in words",
    ):  # fmt: skip
        assert said in page, said
    alone = shown(report.render(evaluated(groups=())))
    for said in ("untrained weights", "and what was dropped", "Colour and shape"):
        assert said not in alone


def test_empty_and_null_findings_are_said_not_drawn():
    page = report.render(bare())
    assert specs(page) == {}
    for said in (
        "No accuracies were measured",
        "nobody was judged",
        "Calibration was not",
        "No training log",
    ):
        assert said in shown(page)


def test_text_from_data_cannot_become_markup():
    hostile = drawn_portrait(3, (ATTACK, "b", "c"), ATTACK, user="<b>x</b>\u202e")
    found = evaluated(groups=(ATTACK, "b", "c"), source=ATTACK, portrait=hostile)
    pairs = pictured("own", notes=[ATTACK], account=[], split_table=[{ATTACK: ATTACK}])
    pairs["gallery"][0] |= {"prompt": ATTACK + '" x="', "user": ATTACK, "group": ATTACK}
    page = report.render(found) + report.render(pairs)
    loads = Loads()
    loads.feed(page)
    assert loads.tags.count("img") == 8 + 6
    assert "<b>x</b>" not in page
    assert "\u202e" not in page
    assert ATTACK not in re.sub(r"(?s)<script.*?</script>", "", page)
    assert html.escape(ATTACK) in page


def test_pictures_are_part_of_the_page_and_nothing_else_may_be_one():
    page = report.render(pictured())
    loads = Loads()
    loads.feed(page)
    sources = [value for tag, name, value in loads.fetching if (tag, name) == ("img", "src")]
    assert len(sources) == 8 + 6
    assert all(value.startswith("data:image/jpeg;base64,") for value in sources)
    assert [other for other in loads.fetching if other[0] != "img"] == [("a", "href", "report.html")]
    assert "img-src data:;" in page


@pytest.mark.parametrize(
    "uri",
    ["https://example.org/a.jpg", "data:text/html;base64,PGI+", 'data:image/jpeg;base64,x" onerror="y', None],
)
def test_an_address_that_is_no_thumbnail_is_no_picture(uri):
    found = pictured(portrait=bare()["portrait"])
    found["gallery"][0]["chosen"] = uri
    page = report.render(found)
    loads = Loads()
    loads.feed(page)
    assert loads.tags.count("img") == 7
    assert "example.org" not in page


def test_the_page_loads_nothing_and_its_policy_forbids_it():
    page = report.render(evaluated()) + report.render_index([evaluated(), simulated()])
    loads = Loads()
    loads.feed(page)
    assert set(loads.fetching) == {
        ("a", "href", name) for name in ("report.html", "persona.html", "simulated.html")
    }
    assert not {"link", "iframe", "object", "embed", "base", "form"} & set(loads.tags)
    assert not re.search(r"url\(|@import", "".join(loads.texts["style"]))
    assert "default-src 'none'" in page
    assert "unsafe-eval" not in page
    assert not re.search(r"https?://", "".join(map(json.dumps, specs(page).values())))


def test_the_policy_allows_just_the_scripts_of_the_page():
    page = report.render(evaluated())
    allowed = re.findall(r"'(sha256-[^']+)'", page[: page.index("<style>")])
    scripts = re.findall(r"<script>(.*?)</script>", page, re.DOTALL)
    digests = [base64.b64encode(hashlib.sha256(script.encode()).digest()).decode() for script in scripts]
    assert allowed == [f"sha256-{digest}" for digest in digests]


def test_main_writes_a_page_for_each_dataset_and_one_that_leads_to_them(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for found in (bare(), simulated()):
        path = paths.evaluated(found["dataset"]) / "evaluated.json"
        path.parent.mkdir(parents=True)
        path.write_text(json.dumps(found))
    monkeypatch.setattr(report.params, "load", lambda: SimpleNamespace(datasets=["simulated", "own"]))
    report.main()
    index = paths.REPORT.read_text(encoding="utf-8")
    assert 0 < index.index('href="simulated.html"') < index.index('href="own.html"')
    assert {path.name for path in paths.REPORT.parent.iterdir()} == {
        "report.html",
        "simulated.html",
        "own.html",
    }
    assert "../paper/paper.html" not in index
    assert '<a href="../paper/paper.html">' in report.render_index([bare()], paper=True)


CHROMIUM = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
FLAGS = [
    "--headless=new", "--no-sandbox", "--disable-gpu", "--disable-background-networking", "--disable-sync",
    "--disable-component-update", "--no-first-run", "--virtual-time-budget=20000", "--dump-dom",
]  # fmt: skip


@pytest.mark.skipif(CHROMIUM is None, reason="needs Chromium to open the report in")
def test_a_browser_draws_every_chart_shows_a_person_and_meets_no_error(tmp_path):
    rows = [{**row, "low": None, "high": None} for row in accuracies(2)]
    hostile = evaluated(portrait=drawn_portrait(3, (), ATTACK))
    for found in (simulated(5), hostile, evaluated("own", 2, accuracies=rows), pictured()):
        page, file = report.render(found), tmp_path / "report.html"
        file.write_text(page.replace("<details", "<details open"), encoding="utf-8")
        command = [CHROMIUM, *FLAGS, f"--user-data-dir={tmp_path / 'profile'}", file.as_uri()]
        dom = subprocess.run(command, capture_output=True, text=True, timeout=120, check=True).stdout
        errors = re.search(r'<div id="errors"[^>]*>(.*?)</div>', dom, re.DOTALL)
        assert errors
        assert "hidden" in errors.group().split(">")[0], shown(errors.group(1))
        drawn = re.findall(r'id="([\w-]+)-chart"[^>]*>(?:(?!</figure>).)*?<svg', dom, re.DOTALL)
        assert drawn == list(specs(page))
        assert re.search(r'<div id="person"[^>]*><h3><bdi>user-0</bdi></h3>', dom)
