"""YAML that nobody vouches for: values, or the reason why not in one line."""

import pytest

from pipeline import plain_yaml


def test_values_come_back():
    assert plain_yaml.load("a: [1, x, null]\nb: &b {c: 2}\nd: *b\n") == {
        "a": [1, "x", None],
        "b": {"c": 2},
        "d": {"c": 2},
    }


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("a: [", "expected"),
        ("a: !!python/name:os.system x", "could not determine a constructor"),
        ("a: &a [*a]", "more than|nested deeper than 50 levels"),
        ("a: " + "[" * 60 + "]" * 60, "nested deeper than 50 levels"),
        ("a: 2000-99-99", "month must be in 1..12"),
        ("a: " + "9" * 5000, "4300|digits"),
        ("a: " + "9" * 50, "a whole number of more than 128 bits"),
        ("a: " + "x" * (1 << 22), "more than 4,194,304 characters"),
        (
            "a: &a [1, 1, 1, 1, 1, 1]\n"
            + "".join(
                f"{n}: &{n} [{', '.join(['*a' if n == 'b' else f'*{chr(ord(n) - 1)}'] * 20)}]\n"
                for n in "bcdef"
            ),
            "more than 200,000 values",
        ),
    ],
)
def test_what_is_no_plain_value_is_one_line(text, reason):
    with pytest.raises(ValueError, match=reason) as caught:
        plain_yaml.load(text)
    assert "\n" not in str(caught.value)
