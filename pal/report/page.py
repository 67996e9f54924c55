"""Pages in one file that need nothing but a browser; texts are escaped and keep their direction.

The page's security policy allows its own scripts, by their digests, and pictures that are part of it.
"""

import base64
import hashlib
import json
import math
import re
import unicodedata
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import jinja2
from markupsafe import Markup

from pal.errors import cut

Row = dict[str, Any]
FOLDER = Path(__file__).parent
NO_BREAK, DASH, MINUS = "\u00a0", "\u2013", "\u2212"
TURNS = {"LRE", "RLE", "LRO", "RLO", "PDF", "LRI", "RLI", "FSI", "PDI"}  # Unicode's controls of direction
FONT = 'system-ui, -apple-system, "Segoe UI", Roboto, "Helvetica Neue", Arial, sans-serif'
SHORT = 280  # characters of an item
FEW_PEOPLE = 8  # with fewer nothing is claimed of people in general
RARE = 0.05  # chance that a difference, or anyone's standing out, is told though there is none
THUMBNAIL_BYTES = 64_000
_PICTURE = re.compile(r"data:image/jpeg;base64,[A-Za-z0-9+/]+={0,2}")


def percent(share: float | None) -> str:
    """A share of 1 as a percentage with one decimal."""
    return DASH if share is None else f"{100 * share:.1f}{NO_BREAK}%"


def points(share: float) -> str:
    """A difference of shares in percentage points with one decimal, its minus a minus sign."""
    return f"{100 * share:z.1f}".replace("-", MINUS)


def number(value: float) -> str:
    """A number with two decimals, its minus a minus sign."""
    return f"{value:z.2f}".replace("-", MINUS)


def isolated(text: str) -> str:
    """A text that is written from right to left, or turns the direction, so that what follows it stays."""
    if text.isascii():
        return text
    kinds = {character: unicodedata.bidirectional(character) for character in text}
    if not {"R", "AL", *TURNS} & {*kinds.values()}:
        return text
    kept = "".join(character for character in text if kinds[character] not in TURNS)
    return f"\u2068{kept}\u2069"  # first strong isolate, pop directional isolate


def gained(gain: float | None) -> str:
    """A person's gain in points with its sign."""
    if gain is None:
        return DASH
    return f"+{points(gain)}" if round(gain, 3) > 0 else points(gain)


def data_uri(jpeg: bytes | None) -> str | None:
    """A JPEG as a data URI; None for what is missing, no JPEG, or too large to be a thumbnail."""
    if not jpeg or len(jpeg) > THUMBNAIL_BYTES or not jpeg.startswith(b"\xff\xd8\xff"):
        return None
    return f"data:image/jpeg;base64,{base64.b64encode(jpeg).decode()}"


def script_json(value: Any) -> Markup:
    """JSON for a script element: nothing in it ends the element, and its texts keep their direction."""

    def each(value: Any) -> Any:
        if isinstance(value, dict):
            return {key: each(item) for key, item in value.items()}
        if isinstance(value, list | tuple):
            return [each(item) for item in value]
        return isolated(value) if isinstance(value, str) else value

    text = json.dumps(each(value), ensure_ascii=False, allow_nan=False, separators=(",", ":"))
    for character in "<>&\u2028\u2029":
        text = text.replace(character, f"\\u{ord(character):04x}")
    return Markup(text)  # noqa: S704 - escaped in the lines above


def script(name: str) -> str:
    """A script of this folder."""
    return (FOLDER / f"{name}.js").read_text(encoding="utf-8")


def render_page(
    template: Path, *, scripts: Sequence[str] = (), filters: Mapping[str, Any] = {}, **context: Any
) -> str:
    """Render a template, which may use those of this folder; equal findings give equal bytes.

    Scripts, `scripts` in the template, hold no data. Every text of the context is escaped and isolated.
    """
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader([template.parent, FOLDER]),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        finalize=lambda value: isolated(value) if type(value) is str else value,
    )
    environment.filters |= {each.__name__: each for each in (script_json, percent, points, number, gained)}
    environment.filters |= {
        "shorten": lambda text, limit=SHORT: cut(text, limit),
        # A thumbnail's address, where it is part of the page.
        "picture": lambda uri: uri if uri and _PICTURE.fullmatch(uri) else None,
        "words": lambda key: key.replace("_", " "),
        **filters,
    }
    digests = [hashlib.sha256(script.encode()).digest() for script in scripts]
    return environment.get_template(template.name).render(
        **context,
        font=Markup(FONT),  # noqa: S704 - a constant of ours
        scripts=[Markup(script) for script in scripts],  # noqa: S704 - no data in them
        hashes=[f"sha256-{base64.b64encode(digest).decode()}" for digest in digests],
    )


def pays(
    difference: float, low: float, high: float, users: int, personal: float, one: float, p: float = 0.0
) -> Row:
    """Whether being personal pays: an answer in a word or two, and a sentence that claims no more.

    The difference is the mean over `users` people of the personal reward's accuracy less that of one reward
    for everyone, from `low` to `high` at 95 %, with the p-value `p` where there is one; `personal` and `one`
    are these rewards' accuracies over answers.
    """
    said = f"A personal reward is right on {percent(personal)} of the answers held out, "
    said += f"one reward for everyone on {percent(one)}"
    who = "1 person" if users == 1 else f"{users:,} people"
    if users < FEW_PEOPLE:
        few = f"{who} {'says' if users == 1 else 'say'} little of others, at least {FEW_PEOPLE} are needed"
        return {"answer": "Too few people to tell", "sentence": f"{said}; but {few}."}
    if high < 0 and p < RARE:  # the sentence speaks of how much worse: the interval is turned round
        answer, how = "No, it costs", f"the loss is {points(-difference)} points"
        low, high = -high, -low
    elif low > 0 and p < RARE:
        answer, how = "Yes", f"the gain is {points(difference)} points"
    else:
        answer, how = "Not shown", f"the gain, {points(difference)} points, may be chance"
    interval = f"95{NO_BREAK}% interval {points(low)} to {points(high)}, {who}"
    return {"answer": answer, "sentence": f"{said}; with every person counting the same, {how} ({interval})."}


class Axis:
    """An axis of accuracies, as percentages of its width; ends in fives."""

    def __init__(self, values: Sequence[float]) -> None:
        self.low = max(0, 5 * math.floor((100 * min(values, default=0.5) - 1) / 5))
        self.high = min(100, 5 * math.ceil((100 * max(values, default=1.0) + 1) / 5))
        step = 5 if self.high - self.low <= 30 else 10 if self.high - self.low <= 60 else 20
        self.ticks = list(range(-(-self.low // step) * step, self.high + 1, step))

    def place(self, share: float) -> float:
        """Where an accuracy stands."""
        return round(100 * (100 * share - self.low) / (self.high - self.low), 2)


def dots(rows: Sequence[Row]) -> Row:
    """What the macro `dots` draws: places with `marks`: a name, a series, an accuracy, its low and high."""
    ends = [mark[end] for row in rows for mark in row["marks"] for end in ("accuracy", "low", "high")]
    return {"rows": rows, "axis": Axis([end for end in ends if end is not None])}
