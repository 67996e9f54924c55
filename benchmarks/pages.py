"""The pages and reports in Chromium: axe-core, the console, outside requests, the time of a click.

axe-core (MPL) is no part of the project: npm fetches it for the check, or PAL_AXE names its axe.min.js.
Where it, Playwright or Chromium is missing, all is left out.
"""

import json
import os
import random
import re
import shutil
import subprocess
import tarfile
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from importlib.util import find_spec
from itertools import product
from pathlib import Path
from statistics import median
from tempfile import TemporaryDirectory
from typing import Any

import polars
from PIL import Image, ImageDraw

from benchmarks.studies import ROOT, python
from benchmarks.table import LeftOut, Row, Section
from pal import fit

WIDTHS, SCHEMES = (390, 1300), ("light", "dark")
VISITORS = 5
CLICK = """() => new Promise((done) => {
  const list = document.getElementById("ranking"), began = performance.now();
  new MutationObserver(() => requestAnimationFrame(() => done(performance.now() - began)))
    .observe(list, { childList: true });
  document.querySelector("[data-choice=first]").click();
})"""


def find_axe(folder: Path) -> str:
    """The text of axe.min.js: of PAL_AXE, else as npm packs it."""
    if given := os.environ.get("PAL_AXE"):
        return Path(given).read_text(encoding="utf-8")
    try:
        subprocess.run(["npm", "pack", "axe-core"], cwd=folder, capture_output=True, check=True)
    except (OSError, subprocess.CalledProcessError) as error:
        raise LeftOut(f"needs axe-core, of npm or PAL_AXE: {error}") from None
    with tarfile.open(next(folder.glob("axe-core-*.tgz"))) as archive:
        return archive.extractfile("package/axe.min.js").read().decode()  # type: ignore[union-attr]


def write_logs(folder: Path) -> dict[str, tuple[Path, list[dict[str, Any]]]]:
    """Logs of texts, of pictures (half of the people like red ones), of vectors, and 40 questions of each."""
    draw, pictures = random.Random(0), {"red": [], "blue": []}
    for number in range(8):
        for colour, names in pictures.items():
            image, at = Image.new("RGB", (96, 96), "white"), draw.randrange(50)
            shape = ImageDraw.Draw(image)
            (shape.ellipse if number % 2 else shape.rectangle)((at, at, at + 40, at + 40), fill=colour)
            names.append(f"{colour}{number}.png")
            image.save(folder / names[-1])
    vectors = {f"item {n}": [round(draw.gauss(0, 1), 3) for _ in range(8)] for n in range(40)}
    table = polars.DataFrame({"id": list(vectors), "embedding": list(vectors.values())})
    table.write_parquet(folder / "vectors.parquet")
    rows: dict[str, list[dict[str, Any]]] = {"image": [], "vector": []}
    for person in range(24):
        for _ in range(16):
            two = [draw.choice(names) for names in pictures.values()]
            ranked = sorted(draw.sample(list(vectors), 2), key=vectors.__getitem__)
            for name, sides in (("image", two), ("vector", ranked)):
                chosen, rejected = sides if person % 2 else sides[::-1]
                rows[name].append({"user_id": f"rater {person}", "chosen": chosen, "rejected": rejected})
    example = ROOT / "examples/support-answers.csv"
    logs = {name: write_lines(folder / f"{name}.jsonl", answers) for name, answers in rows.items()}
    names = {"prompt": "prompt", "response_a": "chosen", "response_b": "rejected"}
    table = polars.read_csv(example, new_columns=["user_id", *names.values(), "preference"])
    logs["text"], rows["text"] = example, table.to_dicts()

    def question(row: dict[str, Any]) -> dict[str, Any]:
        return {to: vectors.get(row[name], row[name]) for to, name in names.items() if name in row}

    return {kind: (logs[kind], [question(row) for row in answers[:40]]) for kind, answers in rows.items()}


def write_lines(path: Path, rows: list[dict[str, Any]]) -> Path:
    """Write rows as JSON lines."""
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


@contextmanager
def demo(folder: Path, *options: str) -> Iterator[str]:
    """`pal demo` of a model, in a process of its own; its address."""
    command = ["-u", "-m", "pal.cli.app", "demo", str(folder), "--port", "0", *options]
    with python(*command, cwd=folder.parent, stdout=subprocess.PIPE) as process:
        said = process.stdout.readline() if process.stdout else ""
        try:
            yield re.findall(r"http://[\d.:]+", said)[0]
        finally:
            process.terminate()


class Check:
    """Pages that were opened in one browser, and what is wrong with them."""

    def __init__(self, browser: Any, axe: str) -> None:
        self.browser, self.axe = browser, axe
        self.pages, self.wrong, self.serious, self.wide = 0, [], [], []

    def __call__(self, title: str, address: str, act: Any = lambda page: None) -> None:
        """Open a page at each width, light and dark; `act` brings it to its complete state."""
        for width, scheme in product(WIDTHS, SCHEMES):
            size = {"width": width, "height": 900}
            context = self.browser.new_context(viewport=size, color_scheme=scheme, reduced_motion="reduce")
            page, name = context.new_page(), f"{title} {width} {scheme}"
            page.on("console", partial(self._console, name))
            page.on("pageerror", lambda error, name=name: self.wrong.append(f"{name}: {error}"))
            page.on("request", partial(self._request, name, address))
            page.goto(address)
            act(page)
            page.wait_for_load_state("networkidle")
            for each in page.evaluate(self.axe + "; axe.run().then((result) => result.violations)"):
                if each["impact"] in ("serious", "critical"):
                    self.serious += [f"{name}: {each['id']} {node['target']}" for node in each["nodes"]]
            if page.evaluate("document.documentElement.scrollWidth") > width:
                self.wide.append(name)
            if shots := os.environ.get("PAL_SHOTS"):
                page.screenshot(path=f"{shots}/{name.replace(' ', '-')}.png", full_page=True)
            self.pages += 1
            context.close()

    def _console(self, name: str, said: Any) -> None:
        if said.type == "error":
            self.wrong.append(f"{name}: {said.text}")

    def _request(self, name: str, address: str, asked: Any) -> None:
        here = address.split("/")[2] or "file:"  # a report is a file, which needs no other
        if not asked.url.startswith(("data:", "blob:", "file:")) and here not in asked.url:
            self.wrong.append(f"{name}: {asked.url}")


def show_someone(page: Any) -> None:
    """The page shows the first person by itself; then the one who is most alike."""
    page.wait_for_selector("#shown:not([hidden])")
    page.click("#alike button")


def compare_some(page: Any) -> None:
    """Rank the responses that stand on the page."""
    page.wait_for_selector("#ids option", state="attached")
    page.click("button[type=submit]")
    page.wait_for_selector("#rankings:not([hidden])")


def answer_one(page: Any) -> None:
    """Answer the first question."""
    page.wait_for_selector(".choice .item:not(:empty)")
    page.keyboard.press("1")
    page.wait_for_selector("#back:enabled")


def start_study(page: Any) -> None:
    """Agree, and answer the first question."""
    page.click("button[type=submit]")
    page.wait_for_selector(".choice .item:not(:empty)")
    page.keyboard.press("2")
    page.wait_for_load_state("networkidle")


def click_times(browser: Any, address: str) -> list[float]:
    """Milliseconds from each visitor's first click to the frame with the new ranking."""
    times = []
    for _ in range(VISITORS):
        context = browser.new_context()
        page = context.new_page()
        page.goto(address)
        page.wait_for_selector(".choice .item:not(:empty)")
        page.wait_for_load_state("networkidle")
        times.append(page.evaluate(CLICK))
        context.close()
    return times


def pages() -> Section:
    """Models of texts, pictures and vectors, fitted on the spot; five minutes."""
    browsers = [path for path in map(shutil.which, ("chromium", "google-chrome")) if path]
    if not browsers or find_spec("playwright") is None:
        raise LeftOut("needs Chromium, Playwright for Python, and npm or PAL_AXE")
    from playwright.sync_api import sync_playwright

    with TemporaryDirectory() as name:
        folder = Path(name)
        axe = find_axe(folder)
        with sync_playwright() as driver:
            browser = driver.chromium.launch(executable_path=browsers[0], args=["--no-sandbox"])
            check, clicks = Check(browser, axe), []
            for kind, (log, questions) in write_logs(folder).items():
                home = folder / kind
                table = write_lines(folder / f"{kind}-questions.jsonl", questions)
                vectors = folder / "vectors.parquet" if kind == "vector" else None
                fit(log, out=home, method="mixed_effects", vectors=vectors)
                check(f"{kind} report", (home / "report.html").as_uri())
                shown = ("--questions", str(table)) if vectors else ("--log", str(log))
                with demo(home, "--database", f"{home}.db", *shown) as url:
                    if kind == "text":
                        clicks = click_times(browser, url)
                    check(f"{kind} you", url + "/", answer_one)
                    check(f"{kind} people", url + "/people", show_someone)
                    check(f"{kind} compare", url + "/compare", compare_some)
                    check(f"{kind} calls", url + "/docs")
                with demo(home, "--questions", str(table), "--collect", f"{home}-study.db") as url:
                    check(f"{kind} study", url + "/", start_study)
            for report in sorted((ROOT / "data/report").glob("*.html")):  # as the pipeline wrote them
                check(f"pipeline {report.stem}", report.as_uri())
            browser.close()
    for each in (*check.serious, *check.wrong, *check.wide):
        print(f"  {each}")
    n = f"{check.pages} pages"
    about = {"browser": "Chromium", "widths": "390 and 1,300 pixels, light and dark"}
    return Section("Pages: in a browser", about, [
        Row("serious or critical findings of axe-core", len(check.serious), "", at_most=0, note=n),
        Row("errors in the console, and outside requests", len(check.wrong), "", at_most=0, note=n),
        Row("pages wider than the screen", len(check.wide), "", at_most=0, note=n),
        Row("text model: a visitor's first click to the new ranking", median(clicks), "ms", at_most=300,
            note=f"of {len(clicks)}; the service's first {clicks[0]:.0f} ms, slowest {max(clicks):.0f} ms"),
    ])  # fmt: skip
