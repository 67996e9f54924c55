"""What people wrote for a winner or a ranking, as sides, strengths and ranks."""

import json
import re
from collections.abc import Mapping
from typing import Any

from pal.errors import PalError

TIES = {
    *("tie", "ties", "tied", "equal", "same", "draw", "both", "neither", "none", "both bad", "bothbad"),
    *("tie bothbad", "tie both bad", "about the same", "no preference", "unsure", "a b", "equally good", "c"),
}
_THINGS = ("", "model ", "response ", "answer ", "option ", "output ", "completion ")
SIDES = {
    **{f"{thing}{mark}": 0 for thing in _THINGS for mark in ("a", "first", "left", "one")},
    **{f"{thing}{mark}": 1 for thing in _THINGS for mark in ("b", "second", "right", "two")},
    **{f"{thing}{mark}": mark - 1 for thing in _THINGS[1:] for mark in (1, 2)},
}
WEAK = re.compile(r"\b(slightly|somewhat|a little|a bit|marginally|weakly)\b")
STRENGTH = re.compile(
    r"\b(is|are|was|much|clearly|significantly|strongly|definitely|better|preferred|prefer|wins|slightly|"
    r"somewhat|a little|a bit|marginally|weakly|than|over)\b"
)


def winners(
    distinct: list[str], marks: tuple[str, ...], values: Mapping[str, str]
) -> tuple[dict[str, tuple[int, float]], list[str]]:
    """What each value of a winner means: the side, and the label; (0, 0.5) is a tie.

    Raises:
        PalError: If the values are 0 and 1 alone, which mean the first response to some and the second to
            others.
    """
    words = {value: plain_words(value) for value in distinct}
    meaning: dict[str, tuple[int, float]] = {}
    for value, means in values.items():
        word = plain_words(means)
        if word not in (*SIDES, *marks, *TIES):
            raise PalError(f"--values must say a, b or tie, got {value}={means}")
        side = marks.index(word) if word in marks else SIDES.get(word, 0)
        meaning[value] = (side, 0.5 if word in TIES else 1.0)
    numbers = {value: float(value) for value in distinct if re.fullmatch(r"[+-]?\d+(\.\d+)?", value)}
    if numbers and min(numbers.values()) < 0:
        most = max(map(abs, numbers.values()))
        graded = {v: (int(n > 0), 0.5 + 0.5 * abs(n) / most) for v, n in numbers.items()}
        return {**graded, **meaning}, ["numbers below 0 prefer the first response"]
    doubled = any(">>" in value or "<<" in value for value in distinct)  # beside which a single > is weak
    for value, word in words.items():
        bare = " ".join(STRENGTH.sub(" ", word).split())
        arrows = re.findall("[<>]", value)
        weak = len(arrows) == 1 if doubled else bool(WEAK.search(word))
        if arrows:  # A>B, A<<B
            parts = re.split("[<>]+", value, maxsplit=1)
            bare = plain_words(parts[arrows[0] == "<"])
        if value in meaning:
            continue
        if word in TIES or bare in TIES:
            meaning[value] = (0, 0.5)
        elif bare in (*marks, *SIDES):
            side = marks.index(bare) if bare in marks else SIDES[bare]
            meaning[value] = (side, 0.75 if weak else 1.0)
    rest = {value: n for value, n in numbers.items() if value not in meaning}
    if 2.0 in rest.values() and set(rest.values()) <= {0.0, 1.0, 2.0}:
        meaning |= {value: (max(int(n) - 1, 0), 1.0 if n else 0.5) for value, n in rest.items()}
    elif {0.0, 1.0} & set(rest.values()) and set(rest.values()) <= {0.0, 0.5, 1.0}:
        raise PalError(
            "a winner of 0 or 1 means the first response to some and the second to others; say which, "
            "--values '0=a,1=b' or --values '1=a,0=b'",
            column="winner",
        )
    return meaning, []


def plain_words(value: str) -> str:
    """Words and numbers in lower case, with single spaces: `Model_A` is `model a`."""
    return " ".join(re.sub(r"[^\w+-]+|_|(?<=\w)-(?=\w)", " ", value.lower()).split())


def parse_ranking(text: str | None, marks: list[str]) -> list[float] | None:
    """The rank of each response, the lowest best, of `B>A=C`, `["B", "A", "C"]` or `[2, 1, 2]`.

    Returns:
        None where it does not rank exactly these responses.
    """
    if not text:
        return None
    if re.search("[<>=]", text):
        levels = re.split(">+", text) if "<" not in text else re.split("<+", text)[::-1]
        by_mark = {
            plain_words(mark).split(" ")[-1]: float(n)
            for n, level in enumerate(levels)
            for mark in re.split("[=~]+", level)
        }
        return [by_mark[mark] for mark in marks] if sorted(by_mark) == sorted(marks) else None
    try:
        cells = json.loads(text)
    except (ValueError, RecursionError):
        cells = re.split(r"[,;\s]+", text.strip())
    if not isinstance(cells, list) or len(cells) != len(marks):
        return None
    numbers = [as_number(cell) for cell in cells]
    if None not in numbers:
        return numbers
    order = [plain_words(str(cell)).split(" ")[-1] for cell in cells]
    return [float(order.index(mark)) for mark in marks] if sorted(order) == sorted(marks) else None


def as_number(cell: Any) -> float | None:
    """A cell as a number, None where it is none."""
    try:
        return float(cell)
    except (TypeError, ValueError):
        return None
