"""Model cards."""

import math
from dataclasses import replace

import pytest
from huggingface_hub import ModelCard

from pal.errors import PalError
from pal.serving.card import About, escaped, model_card, read_results

RESULTS = """\
users,items,test,pairs,shots,model,accuracy,low,high,macro,balanced,worst_decile,n_users,n_pairs
seen,known,,all,,model,0.981,0.974,0.988,0.981,0.97,0.9333,300,6000
seen,new,,all,,k1,0.8315,0.822829,0.840667,0.8315,0.5025,0.683333,300,6000
seen,known,,all,,similarity,0.5,0.4,0.6,0.5,0.5,0.3,300,6000
unseen,all,unique,all,5,model,0.9611,0.957658,0.964292,0.9611,0.883146,0.89475,300,6000
unseen,all,,filtered,5,model,0.1,0.1,0.1,0.1,,0.1,300,6000
"""


@pytest.fixture
def results(tmp_path):
    (tmp_path / "own.csv").write_text(RESULTS)
    return read_results(tmp_path / "own.csv")


def test_the_hub_reads_what_stands_in_front(worded, results):
    about = About("Answers", "Ten friends: tea or coffee?", "cc-by-4.0", ["ann/tea"], ["en"], results)
    data = ModelCard(model_card(worded, about)).data
    assert (data.license, data.library_name, data.datasets) == ("cc-by-4.0", "pal", ["ann/tea"])
    assert (data.language, data.metrics) == (["en"], ["accuracy"])
    assert "reward-model" in data.tags


def test_a_card_tells_who_is_served_how_well_and_who_worst(worded, results):
    lines = model_card(worded, About(results=results)).splitlines()
    assert "| seen people, known items | this model | 98.1 | 97.4 to 98.8 | 93.3 | 300 |" in lines
    assert (
        "| seen people, items never seen | one reward for everyone | 83.2 | 82.3 to 84.1 | 68.3 | 300 |"
        in lines
    )
    assert (
        "| unseen people, unique, located from 5 comparisons | this model | 96.1 | 95.8 to 96.4 | 89.5 | 300 |"
        in lines
    )
    assert sum("| this model |" in line for line in lines) == 2


def test_a_card_tells_what_the_model_is_and_is_not(worded):
    text = model_card(worded, About())
    for words in (
        "K is the number of prototypes, not the number of groups",
        "the ids and weights of the 40 people seen in fitting",
        "| prompts | hashed\\-words | 256 | none |",
        "Not told by who made this card",
        "Not measured by who made this card",
        "not the quality of a policy",
    ):
        assert words in text
    assert ModelCard(text).data.license is None


def test_encoders_stand_with_their_hashes(line, worded):
    about = {"encoder": "all-MiniLM-L6-v2", "dim": 384, "weights_sha256": "ab" * 32}
    assert f"| prompts and responses | all\\-MiniLM\\-L6\\-v2 | 384 | {'ab' * 32} |" in model_card(
        replace(worded, encoder=about), About()
    )
    assert "none: embeddings are given" in model_card(line, About())
    sides = {"prompts": None, "responses": about}
    assert "| prompts | none: embeddings are given | | |" in model_card(
        replace(worded, encoder=sides), About()
    )


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("<script>alert(1)</script>", "&lt;script&gt;alert\\(1\\)&lt;/script&gt;"),
        ("a\n# b\r\n---", "a \\# b \\-\\-\\-"),
        ("[x](http://y) | **z** `c`", "\\[x\\]\\(http\\://y\\) \\| \\*\\*z\\*\\* \\`c\\`"),
        ("&amp; ![i](j)", "&amp;amp; \\!\\[i\\]\\(j\\)"),
        ("\u202eright\x00", "right"),
    ],
)
def test_a_text_is_shown_as_it_is(text, shown):
    assert escaped(text) == shown


def test_nothing_from_data_becomes_markup(worded, results):
    evil = "---\nlicense: mit\n---\n# <img src=x onerror=alert(1)>\n| a | b |\n```"
    encoder = {"encoder": evil, "dim": evil, "weights_sha256": evil}
    rows = [dict.fromkeys(row, evil) | {"pairs": "all", "model": "model"} for row in results]
    about = About(evil, evil, "apache-2.0", results=rows)
    text = model_card(replace(worded, encoder=encoder), about)
    plain = model_card(
        worded,
        About("a", "a", "apache-2.0", results=[{**row, "pairs": "all", "model": "model"} for row in results]),
    )
    assert "<img" not in text
    assert ModelCard(text).data.license == "apache-2.0"
    assert text.count("\n#") == plain.count("\n#")
    assert text.count("```") == 2


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"datasets": ["a/b/c"]}, "datasets must be names on the hub such as ORG/NAME, got 'a/b/c'"),
        ({"datasets": ["a\nb"]}, "datasets must be names"),
        ({"licence": "Apache 2"}, "licence must be one of the hub's, such as apache-2.0, got 'Apache 2'"),
        ({"results": [{"users": "seen"}]}, "got row 0 without 'items'"),
    ],
)
def test_what_cannot_stand_on_a_card_is_refused(given, message):
    with pytest.raises(PalError, match=message):
        About(**given)


def test_results_that_cannot_be_read_are_refused(tmp_path):
    with pytest.raises(PalError, match=r"nothing.csv cannot be read .* run the pipeline's stage evaluate"):
        read_results(tmp_path / "nothing.csv")


def test_a_number_that_is_none_is_said_to_be_none(worded, results):
    row = results[0] | {"worst_decile": "", "low": math.nan}
    assert "| nan to 98.8 | none | 300 |" in model_card(worded, About(results=[row]))
