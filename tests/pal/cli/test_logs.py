"""`pal fit` and `pal eval` as a shell sees them, and the examples that the README shows."""

import json
import re
from pathlib import Path

import pytest
from typer.testing import CliRunner

from pal.cli.app import app
from pal.logs.columns import NAMES, STEMS
from pal.logs.shapes import read_log

ROOT = Path(__file__).parents[3]
README = (ROOT / "README.md").read_text(encoding="utf-8")


def test_example_is_understood_as_the_readme_shows():
    log = read_log(ROOT / "examples/support-answers.csv")
    shown = README.split("```\n  rows")[1].split("```")[0]
    assert f"  rows{shown.rstrip()}" in log.summary()


def test_example_of_ratings_becomes_comparisons_within_people():
    log = read_log(ROOT / "examples/joke-ratings.csv")
    assert (log.columns.shape, log.pairs["user_id"].n_unique()) == ("rating", 30)


def test_every_file_that_the_readme_fits_is_there():
    names = set(re.findall(r"examples/[\w-]+\.csv", README))
    assert len(names) == 4
    assert all((ROOT / name).is_file() for name in names)


def test_example_of_pictures_ranks_as_the_readme_says(pal):
    """The second visitor likes cool colours: the posters of even numbers."""
    command = f"fit {ROOT}/examples/poster-choices.csv --encoder hashed-words --method mixed_effects"
    assert "people       36" in pal(*command.split())
    ranked = pal("rank", "poster-choices-model", f"{ROOT}/examples/posters.csv", "--user", "visitor02")
    best = [json.loads(line)["response"] for line in ranked.splitlines()[:2]]
    assert set(best) == {"posters/concert-2.png", "posters/concert-6.png"}


def test_the_readmes_python_works_as_written(tmp_path, monkeypatch):
    """With a quicker encoder and method than the default."""
    quick = 'encoder="hashed-words", method="mixed_effects", out='
    code = README.split("```python\n")[1].split("```")[0].replace("examples/", f"{ROOT}/examples/")
    monkeypatch.chdir(tmp_path)
    names = {}
    exec(code.replace("out=", quick), names)
    probability = names["model"].probability(names["prompt"], *names["answers"], user=names["cas"])
    assert probability < 0.5  # she preferred the second


def test_names_in_the_docs_are_recognised():
    page = (ROOT / "docs/logs.md").read_text(encoding="utf-8").split("**Names.**")[1].split("Where names")[0]
    known = {name for names in NAMES.values() for name in names} | set(NAMES)
    for name in page.split("`")[1::2]:
        assert name in known or any(stem and stem in name for stem in STEMS) or "/" in name, name


def test_fit_then_eval(pal):
    rows = ["user,prompt,chosen,rejected"]
    rows += [
        f"p{n % 6},q{n % 4}?,{'short' if n % 2 else 'long'} {n % 4},{'long' if n % 2 else 'short'} {n % 4}"
        for n in range(72)
    ]
    Path("log.csv").write_text("\n".join(rows))
    said = pal("fit", "log.csv", "--encoder", "hashed-words", "--method", "mixed_effects")
    assert "pal rank log-model replies.csv" in said
    Path("replies.csv").write_text("prompt,response\nq9?,short 1\nq9?,long 1\n")
    assert (
        json.loads(pal("rank", "log-model", "replies.csv", "--user", "p1").splitlines()[0])["response"]
        == "short 1"
    )
    assert json.loads(pal("eval", "log-model", "log.csv"))["seen"]["personal"] > 0.9
    said = CliRunner().invoke(app, ["eval", "log-model", "log.csv"]).stderr
    assert "the answers that the model was fitted to" in said
    assert f"{'method':<23} mixed_effects\n{'source':<23} log.csv\n" in pal("inspect", "log-model")


def test_compare_prints_a_table_and_whether_personalising_pays(pal):
    rows = ["user,prompt,chosen,rejected"]
    sides = [("short", "long"), ("long", "short")]
    rows += [f"p{n % 12},q{n % 5}?,{a} {n},{b} {n}" for n in range(240) for a, b in [sides[n % 2]]]
    Path("log.csv").write_text("\n".join(rows))
    said = pal(
        "compare", "log.csv", "--encoder", "hashed-words", "--methods", "bt,mixed_effects", "-o", "c.json"
    )
    assert "known people, known items: accuracy" in said
    found = json.loads(Path("c.json").read_text())
    assert found["verdict"] in said
    assert "mixed_effects" in found["verdict"]
    accuracies = {
        row["method"]: row["accuracy"] for row in found["rows"] if row["place"] == found["rows"][0]["place"]
    }
    assert accuracies["mixed_effects"] > 0.9 > 0.7 > accuracies["bt"]


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (["-K", "some"], "-K must be auto or a whole number"),
        (["--unseen", "1"], "--unseen must be a share"),
        (["--values", "tie"], "--values must be VALUE=SIDE"),
        (["--columns", "rater"], "--columns must be ROLE=COLUMN"),
        (["--method", "magic"], "--method must be one of"),
    ],
)
def test_a_mistake_is_one_sentence(pal, arguments, sentence):
    Path("log.csv").write_text("user,prompt,chosen,rejected\na,q,x,y\na,p,x,z\nb,q,y,x\nb,p,z,x\n")
    assert sentence in pal("fit", "log.csv", "--encoder", "hashed-words", *arguments, code=1)
