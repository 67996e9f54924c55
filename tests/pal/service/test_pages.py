"""The pages: what a click does, what a study shows and keeps, and how it looks to a browser."""

import shutil

import pytest
from starlette.testclient import TestClient

from pal.cli.app import answers
from pal.service.answers import Answers
from pal.service.app import create_app
from pal.service.compute import Models
from pal.service.pages import Demo, Pair, Study, add_pages

from .conftest import served

PAIRS = [Pair("What now?", f"tea number {n}", f"coffee, cold {n}") for n in range(6)]
BROWSER = shutil.which("chromium") or shutil.which("google-chrome")


@pytest.fixture
def app(worded, tmp_path):
    """The app of a demo of six questions, or of a study."""
    worded.save(tmp_path / "worded")

    def make(**study):
        app = create_app(Models({"worded": tmp_path / "worded"}), Answers(str(tmp_path / "answers.db")))
        model = app.state.service.models.get("worded")
        demo = Demo(model, PAIRS, {})
        return add_pages(app, "worded", demo, Study(demo, **study) if study else None)

    return make


def test_a_click_is_kept_moves_the_belief_and_can_be_taken_back(app):
    with TestClient(app(), base_url="http://127.0.0.1") as client:
        first = client.post("/demo/you", json={"user_id": "me"}).json()
        shown = client.post(
            "/demo/you",
            json={"user_id": "me", "number": first["question"]["number"], "choice": "first", "key": "1"},
        ).json()
        assert (first["answers"], shown["answers"]) == (0, 1)
        assert shown["question"]["number"] != first["question"]["number"]
        assert len(client.get("/v1/people/me/export").json()["answers"]) == 1
        client.delete(f"/v1/people/me/answers/{shown['last']}")
        again = client.post("/demo/you", json={"user_id": "me"}).json()
        assert again["answers"] == 0
        assert again["question"] == first["question"]


def test_a_study_repeats_balances_sides_and_keeps_why_it_asked(app, tmp_path, capsys):
    with TestClient(app(repeat_every=2, questions=8), base_url="http://127.0.0.1") as client:
        for n in range(8):
            shown = client.post("/study/next", json={"user_id": "ann"}).json()
            assert shown["answers"] == n
            tea = "first" if "tea" in shown["question"]["first"] else "second"
            client.post("/study/next", json={"user_id": "ann", "choice": tea, "answers": n})
        assert client.post("/study/next", json={"user_id": "ann"}).json()["question"] is None
        kept = client.get("/v1/people/ann/export").json()["answers"]
    assert [answer["reason"] == "repeat" for answer in kept] == [False, False, True] * 2 + [False, False]
    assert all("tea" in answer["chosen"] for answer in kept)
    assert {answer["exchanged"] for answer in kept} == {False, True}
    answers(str(tmp_path / "answers.db"), out=tmp_path / "log.jsonl")
    assert "answered as before in 100%, mean of 1 people" in capsys.readouterr().out


@pytest.mark.skipif(BROWSER is None, reason="no Chromium on this machine")
def test_in_a_browser_answers_are_given_by_keyboard_and_nothing_is_fetched_from_elsewhere(app):
    playwright = pytest.importorskip("playwright.sync_api", reason="playwright is not installed")
    wrong = []
    with served(app()) as url, playwright.sync_playwright() as driver:
        browser = driver.chromium.launch(executable_path=BROWSER, args=["--no-sandbox"])
        for width in (390, 1300):
            page = browser.new_page(viewport={"width": width, "height": 900})
            page.on("console", lambda said: wrong.append(said.text) if said.type == "error" else None)
            page.on("request", lambda asked: asked.url.startswith((url, "data:")) or wrong.append(asked.url))
            page.goto(url)
            page.wait_for_selector(".choice .item:not(:empty)")
            shown = page.text_content(".choices")
            page.keyboard.press("1")
            page.wait_for_selector("#back:enabled")
            assert page.text_content(".choices") != shown
            for path in ("/people", "/compare"):
                page.goto(url + path)
                page.wait_for_load_state("networkidle")
                assert page.evaluate("document.documentElement.scrollWidth") <= width
        browser.close()
    assert wrong == []
