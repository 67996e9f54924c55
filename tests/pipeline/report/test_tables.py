"""Accuracies as rows of tables, from accuracies made up here."""

from pipeline.report import tables


def accuracy(users, items, shots, model, value, test="", pairs="all"):
    """One row of accuracies, its interval two points wide."""
    row = {"users": users, "items": items, "shots": shots, "model": model, "accuracy": value}
    return {**row, "low": value - 0.01, "high": min(value + 0.01, 1), "test": test, "pairs": pairs}


def found():
    """Two kinds of items for seen users, three numbers of shots for unseen ones, K = 1 measured once."""
    made = [accuracy("unseen", "all", n, "model", a) for n, a in ((20, 0.994), (0, 0.833), (1, 0.9))]
    made += [accuracy("seen", "new", None, "model", 0.981), accuracy("seen", "known", None, "model", 0.998)]
    return [*made, accuracy("seen", "known", None, "k1", 0.834), accuracy("unseen", "all", 0, "k1", 0.832)]


def test_a_baseline_measured_once_stands_for_every_number_of_shots():
    table = tables.table(found())
    assert [row["place"] for row in table][:4] == [
        "Seen, known items",
        "Seen, new items",
        "Unseen, no comparisons",
        "Unseen, 1 comparison",
    ]
    assert {row["k1"]["accuracy"] for row in table[2:]} == {0.832}


def test_test_sets_stand_one_after_the_other_by_name():
    made = [
        accuracy(users, "all", shots, "model", 0.7, test=name)
        for name in ("test", "test_unique")
        for users, shots in (("all", 0), ("seen", None))
    ]
    made += [
        accuracy("all", "all", None, "k1", value, test=name)
        for name, value in (("test", 0.6), ("test_unique", 0.5))
    ]
    table = tables.table_by_test(made)
    assert [row["place"] for row in table] == [
        "test: seen",
        "test: all users, unseen from no comparisons",
        "test_unique: seen",
        "test_unique: all users, unseen from no comparisons",
    ]
    assert [row["k1"] and row["k1"]["accuracy"] for row in table] == [None, 0.6, None, 0.5]


def test_filtered_pairs_stand_beside_untouched_ones_for_seen_and_unseen_users():
    made = [
        accuracy(users, "all", shots, "model", 0.9, pairs=pairs)
        for pairs in ("untouched", "filtered")
        for users, shots in (("unseen", 0), ("unseen", 5), ("unseen", 10), ("seen", None))
    ]
    assert [row["place"] for row in tables.table_by_filter(made)] == [
        "Seen, filtered pairs",
        "Seen, untouched pairs",
        "Unseen, no comparisons, filtered pairs",
        "Unseen, no comparisons, untouched pairs",
        "Unseen, 10 comparisons, filtered pairs",
        "Unseen, 10 comparisons, untouched pairs",
    ]


def test_similarity_is_not_drawn_where_answers_are_few():
    def marks(balanced):
        model = {**accuracy("seen", "all", None, "model", 0.9), "balanced": balanced}
        return {
            mark["series"]
            for mark in tables.dots(tables.table([model, accuracy("seen", "all", None, "similarity", 0.5)]))
        }

    assert marks(None) == {"model", "similarity"}
    assert marks(0.9) == {"model"}


def test_a_majority_that_is_undecided_everywhere_is_not_drawn():
    half = {**accuracy("unseen", "all", None, "majority", 0.5), "low": 0.5, "high": 0.5}
    made = [accuracy("unseen", "all", n, "model", 0.8) for n in (0, 5)]
    assert {mark["series"] for mark in tables.dots(tables.table([*made, half]))} == {"model"}
    assert tables.curve([*made, half])[1] == []
    assert tables.curve([*made, {**half, "high": 0.6}])[1] == [{"series": "majority", "accuracy": 0.5}]


def test_opening_is_what_all_prompts_share_up_to_a_line_end():
    most = [{"prompt": f"Would you say this?\nI like {what}."} for what in ("art", "algebra")]
    assert tables.shared_opening([{"most": most, "least": []}]) == "Would you say this?\n"
    assert tables.shared_opening([{"most": most, "least": [{"prompt": None}]}]) == ""
    assert tables.shared_opening([{"most": most[:1], "least": []}]) == ""
