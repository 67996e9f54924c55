import pytest
import torch

from pal.errors import PalError
from pal.serving.preferences import Preference, Preferences
from pal.serving.questions import Question, joined

ROW = Preference("q", "a", "b", 0.75)


@pytest.mark.parametrize(
    "given",
    [
        ROW,
        ("q", "a", "b", 0.75),
        ["q", "a", "b", 0.75],
        {"prompt": "q", "chosen": "a", "rejected": "b", "label": 0.75},
    ],
)
def test_a_comparison_comes_in_many_shapes(given):
    assert Preference.of(given) == ROW


def test_prompt_and_label_may_be_left_out():
    assert Preference.of({"chosen": "a", "rejected": "b"}) == Preference(None, "a", "b", 1.0)
    assert Preference.of(("q", "a", "b")).label == 1
    assert Question.of({"first": "a", "second": "b"}) == Question(None, "a", "b")
    assert Question.of(("q", "a", "b")) == Question("q", "a", "b")


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ("abc", "a mapping with prompt, chosen, rejected, label, or a tuple of these, got str"),
        (("a", "b"), "or a tuple of these, got tuple"),
        (("q", "a", "b", 1.0, 2), "got tuple"),
        ({"chosen": "a"}, "prompt, chosen, rejected, label and no other, got no 'rejected'"),
        ({"chosen": "a", "rejected": "b", "lable": 1}, "got 'lable' too"),
        ({"chosen": "a", "rejected": "b", 3: 1}, "got '3' too"),
    ],
)
def test_a_comparison_that_is_none_is_refused(given, message):
    with pytest.raises(PalError, match=message):
        Preference.of(given)


@pytest.mark.parametrize("label", [-0.1, 1.1, float("nan")])
def test_a_label_is_a_probability(label):
    with pytest.raises(PalError, match="must lie in"):
        Preference.of(("q", "a", "b", label))
    with pytest.raises(PalError, match="must lie in"):
        _ = Preferences("q", ["a"], ["b"], [label]).labels


def test_rows_become_columns():
    assert Preferences.of([ROW, ("p", "c", "d")]) == Preferences(
        ["q", "p"], ["a", "c"], ["b", "d"], [0.75, 1.0]
    )
    assert Preferences.of([(None, "a", "b")]).prompts is None
    columns = Preferences("q", ["a"], ["b"])
    assert Preferences.of(columns) is columns


@pytest.mark.parametrize("given", [ROW, {"chosen": "a"}, "rows", b"rows", 3, None])
def test_comparisons_are_a_list(given):
    with pytest.raises(PalError, match=f"comparisons must be a list, got {type(given).__name__}"):
        Preferences.of(given)


def columns(**change):
    given = {"prompts": None, "chosen": torch.zeros(2, 1), "rejected": torch.ones(2, 1), "label": None}
    return Preferences(**(given | change))


def test_columns_of_embeddings_count_as_rows_do(line):
    rows = [(None, torch.zeros(1), torch.ones(1))] * 2
    assert line.adapt(columns()) == line.adapt(rows)
    assert line.adapt(columns(label=torch.tensor([1.0, 0.5]))).comparisons == 2


def test_one_prompt_stands_for_all_of_a_column(worded):
    sides = {"chosen": ["a", "b"], "rejected": ["c", "d"]}
    one, both = (worded.adapt(columns(prompts=prompts, **sides)) for prompts in ("q", ["q", "q"]))
    assert one == both
    vectors = worded.reader.read(["q", "a", "b", "c", "d"], "responses", 256).block(0, 5)
    found = worded.adapt(Preferences(vectors[0], vectors[1:3], vectors[3:]))
    torch.testing.assert_close(found.state, one.state)


def test_people_with_and_without_comparisons_are_located_together(line):
    found = line.adapt_many({"ann": columns(), "bob": [], "cid": columns(label=[0.0, 0.0])})
    assert found["bob"].state.tolist() == [0.5, 0.5]
    torch.testing.assert_close(found["ann"].state, found["cid"].state.flip(0))
    assert line.adapt_many({}) == {}


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"rejected": torch.ones(1, 1)}, "as many as the 2 chosen, got 1 and 2"),
        ({"label": torch.ones(3)}, r"as many as the 2 chosen, got 2 and \(3,\)"),
        ({"chosen": torch.zeros(2, 3)}, "all embeddings of one width or none"),
        ({"chosen": torch.zeros(2, 3), "rejected": torch.ones(2, 3)}, r"the shape \(n, 1\)"),
        ({"rejected": torch.tensor([[1.0], [0.0]])}, "rejected of comparison 1 must differ"),
        ({"rejected": torch.tensor([[1.0], [torch.nan]])}, "NaN or infinity in rejected of comparison 1"),
    ],
)
def test_columns_that_do_not_fit_are_refused(line, change, message):
    with pytest.raises(PalError, match=message):
        line.adapt(columns(**change))


def test_prompts_of_a_column_are_one_or_as_many(worded):
    given = Preferences(["p", "q", "r"], ["a", "b"], ["c", "d"])
    with pytest.raises(PalError, match="prompts must be one, or one for each of 2 chosen, got 3"):
        worded.adapt(given)


def test_groups_of_people_are_cut_by_their_comparisons(line, monkeypatch):
    monkeypatch.setattr("pal.serving.answers.EMBEDDINGS_AT_ONCE", 3)
    many = {str(number): columns() for number in range(7)}
    assert set(line.adapt_many(many).values()) == {line.adapt(columns())}


def test_lists_of_items_are_joined():
    assert joined([["a"], [], ["b"]]) == ["a", "b"]
    assert joined([torch.zeros(0, 3), torch.ones(1, 2)]).shape == (1, 2)
    assert joined([]) == []
