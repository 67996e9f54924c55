"""True groups as weights: one prototype per group."""

from types import SimpleNamespace

from pipeline.groups import group_weights


def test_weights_of_the_true_groups_are_unit_vectors_in_the_order_of_names():
    data = SimpleNamespace(groups={"seen": ["b", "a", "b"], "unseen": ["a"]})
    assert group_weights(data, "seen").tolist() == [[0, 1], [1, 0], [0, 1]]
    assert group_weights(data, "unseen").tolist() == [[1, 0]]


def test_without_groups_or_with_a_group_never_seen_there_is_no_oracle():
    assert group_weights(SimpleNamespace(groups=None), "seen") is None
    data = SimpleNamespace(groups={"seen": ["a"], "unseen": ["b"]})
    assert group_weights(data, "unseen") is None
