"""Pages in one file that need nothing but a browser; texts are escaped and keep their direction.

Nothing is ever fetched: the page's security policy allows its own scripts by their digests, and pictures
that are part of it.
"""

import base64
import hashlib
import json
import re
import unicodedata
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import jinja2
from markupsafe import Markup

FOLDER = Path(__file__).parent
NO_BREAK, DASH, MINUS = "\u00a0", "\u2013", "\u2212"
TURNS = {"LRE", "RLE", "LRO", "RLO", "PDF", "LRI", "RLI", "FSI", "PDI"}  # Unicode's controls of direction
FONT = 'system-ui, -apple-system, "Segoe UI", Roboto, "Helvetica Neue", Arial, sans-serif'
SHORT = 280  # characters of an item
_PICTURE = re.compile(r"data:image/jpeg;base64,[A-Za-z0-9+/]+={0,2}")


def percent(share: float | None) -> str:
    """A share of 1 as a percentage with one decimal."""
    return DASH if share is None else f"{100 * share:.1f}{NO_BREAK}%"


def points(share: float) -> str:
    """A difference of shares in percentage points with one decimal, its minus a minus sign."""
    return f"{100 * share:.1f}".replace("-0.0", "0.0").replace("-", MINUS)


def number(value: float) -> str:
    """A number with two decimals, its minus a minus sign."""
    return f"{value:.2f}".replace("-", MINUS)


def isolated(text: str) -> str:
    """A text that is written from right to left, or turns the direction, so that what follows it stays."""
    if text.isascii():
        return text
    kinds = {unicodedata.bidirectional(character) for character in text}
    if not kinds & {"R", "AL", *TURNS}:
        return text
    kept = "".join(character for character in text if unicodedata.bidirectional(character) not in TURNS)
    return f"\u2068{kept}\u2069"  # first strong isolate, pop directional isolate


def shorten(text: str, limit: int = SHORT) -> str:
    """A text cut to some characters."""
    return text if len(text) <= limit else text[: limit - 1].rstrip() + "…"


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
    template: Path, *, scripts: Sequence[str] = (), filters: dict[str, Any] | None = None, **context: Any
) -> str:
    """Render a template, which may use those of this folder; equal findings give equal bytes.

    Args:
        template: The file.
        scripts: Scripts of the page, `scripts` in the template; no data in them.
        filters: Further filters.
        **context: What the template shows; every text is escaped and isolated.
    """
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader([template.parent, FOLDER]),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        finalize=lambda value: isolated(value) if type(value) is str else value,
    )
    environment.filters |= {
        "script_json": script_json,
        "percent": percent,
        "points": points,
        "number": number,
        "shorten": shorten,
        # A thumbnail's address, where it is part of the page.
        "picture": lambda uri: uri if uri and _PICTURE.fullmatch(uri) else None,
        "words": lambda key: key.replace("_", " "),
        **(filters or {}),
    }
    digests = [hashlib.sha256(script.encode()).digest() for script in scripts]
    return environment.get_template(template.name).render(
        **context,
        font=Markup(FONT),  # noqa: S704 - a constant of ours
        scripts=[Markup(script) for script in scripts],  # noqa: S704 - no data in them
        hashes=[f"sha256-{base64.b64encode(digest).decode()}" for digest in digests],
    )
