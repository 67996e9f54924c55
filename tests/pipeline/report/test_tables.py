"""Accuracies as rows of tables, from accuracies made up here."""

from pipeline.report import tables


def accuracy(users, shots, model, value, items="all", **more):
    """One row of accuracies, its interval two points wide."""
    row = {"users": users, "items": items, "shots": shots, "model": model, "accuracy": value}
    row |= {"test": "", "pairs": "all"}
    return {**row, "low": value - 0.01, "high": min(value + 0.01, 1), **more}


def test_what_would_squeeze_the_other_marks_is_not_drawn():
    def drawn(*rows):
        names = {model: model for model in tables.MODELS}
        picture = tables.dots(tables.table([*rows]), names)
        return {mark["name"] for row in picture["rows"] for mark in row["marks"]}

    model, similar = accuracy("seen", None, "model", 0.9), accuracy("seen", None, "similarity", 0.5)
    assert drawn(model, similar) == {"model", "similarity"}
    assert drawn({**model, "balanced": 0.9}, similar) == {"model"}  # answers are few
    undecided = {**accuracy("unseen", None, "majority", 0.5), "low": 0.5, "high": 0.5}
    rows = [accuracy("unseen", n, "model", 0.8) for n in (0, 5)]
    assert drawn(*rows, undecided) == {"model"}
    assert tables.curve([*rows, undecided])[1] == []
    assert tables.curve([*rows, {**undecided, "high": 0.6}])[1] == [{"series": "majority", "accuracy": 0.5}]
