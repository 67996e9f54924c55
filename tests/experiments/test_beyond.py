"""Beyond the texts, drawn from what the benchmark keeps."""

import json
from dataclasses import asdict

import pytest

from benchmarks import choose
from benchmarks.table import Section
from experiments import beyond, page


def kept(*rows):
    """Rows as benchmarks.table.keep writes them."""
    return [{**asdict(row), "verdict": row.verdict} for row in Section("", {}, list(rows)).rows]


ROWS = kept(
    choose.hits("simulation", 1, [1] * 10),
    choose.hits("simulation", 2, [2, 2, 2, 3, 2, 2, 2, 2, 2, 1]),
    choose.hits("Persona", 2, [2] * 10),
    choose.level([0.01] * 20 + [0.5] * 380),
    choose.power(choose.EASY[0], 10, 5, [0.01, 0.9, 0.02, 0.05]),
    choose.power(choose.HARD[0], 10, 5, [0.2, 0.9, 0.2, 0.05]),
)


def test_what_the_benchmark_calls_its_rows_is_what_the_page_looks_for():
    one, two = beyond.hits(ROWS)
    assert one["groups"] == 1
    assert set(one["by"]) == {"simulation"}
    assert two["by"]["simulation"]["hits"] == 8
    assert two["by"]["simulation"]["found"].count(3) == 1
    assert two["by"]["Persona"]["hits"] == 10
    assert [chart["title"] for chart in beyond.charts(ROWS)] == [
        "two groups, as drawn",
        "two groups, half as far apart, a tenth turned round",
    ]


def test_twenty_of_four_hundred_are_five_per_cent_with_wilson_s_interval():
    """p = 0.05, n = 400, z = 1.96: (0.05 + 0.0048 -+ 1.96 sqrt(0.00011875 + 0.000006)) / 1.0096."""
    found = beyond.level(ROWS)
    assert found["rejected"] == pytest.approx(5.0)
    assert (found["low"], found["high"]) == (pytest.approx(3.26, abs=0.01), pytest.approx(7.59, abs=0.01))
    assert beyond.wilson(0, 10)[0] == pytest.approx(0.0)
    assert beyond.wilson(10, 10)[1] == pytest.approx(1.0)


def test_power_is_drawn_as_it_was_found():
    """Three of four p-values are at most 0.05 in the easy case, one in the hard one."""
    easy, hard = (chart["chart"] for chart in beyond.charts(ROWS))
    assert '"power": 75.0' in json.dumps(easy)
    assert '"power": 25.0' in json.dumps(hard)


def test_the_page_shows_it_and_without_it_says_how_to_make_it(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    nothing = beyond.read()
    assert not nothing["found"]
    assert "<code>python -m benchmarks choose</code>" in page.render([], beyond=nothing)
    beyond.RESULTS.parent.mkdir()
    beyond.RESULTS.write_text(
        json.dumps({"choose": {"rows": ROWS, "about": {"before": "nine"}}}), encoding="utf-8"
    )
    html = page.render([], beyond=beyond.read())
    assert "in 400 simulations with one group" in html
    assert '<td class="number">8</td><td>3, 1</td>' in html
    assert "An earlier run: nine." in html
    assert html.count('id="chart-beyond-') == 2
