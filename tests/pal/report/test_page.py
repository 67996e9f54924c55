"""Pages: what comes from data cannot become markup, turn the direction of writing, or load anything."""

import json
from pathlib import Path

import pytest

from pal.report.page import isolated, render_page, script_json


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("a = b", "a = b"),
        ("a\u202eb", "\u2068ab\u2069"),
        ("אב", "\u2068אב\u2069"),
        ("a\u2069b", "\u2068ab\u2069"),
    ],
)
def test_text_from_data_turns_no_direction_but_its_own(text, shown):
    assert isolated(text) == shown
    assert json.loads(script_json({"values": [{"user": text}]})) == {"values": [{"user": shown}]}


def test_script_json_escapes_what_could_end_a_script():
    text = script_json({"a": "</script>&<!--\u2028\u2029"})
    assert not set("<>&\u2028\u2029") & set(text)
    assert json.loads(text) == {"a": "</script>&<!--\u2028\u2029"}


def test_every_text_that_a_template_shows_is_escaped_and_isolated(tmp_path: Path):
    (tmp_path / "a.j2").write_text('<a title="{{ text }}">{{ text }}{{ n }}</a>')
    assert render_page(tmp_path / "a.j2", text='<"\u202e', n=3) == (
        '<a title="\u2068&lt;&#34;\u2069">\u2068&lt;&#34;\u2069</a>'.replace("</a>", "3</a>")
    )
