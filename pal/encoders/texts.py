"""Which texts an encoder cannot do justice to, and why."""

import unicodedata

LONGEST = 2_000_000
"""Characters in the longest text that is read; all but its first tokens are cut anyway."""

UNSEEN = {"Cc", "Cf", "Cn", "Co", "Zs", "Zl", "Zp"}
"""Unicode categories without a glyph: controls, marks of direction, unassigned and private ones, spaces."""


def unreadable(text: str) -> str | None:
    """What is wrong with a text that no encoder can read, None where nothing is: the end of a sentence."""
    if len(text) > LONGEST:
        return f"is longer than {LONGEST:,} characters (got {len(text):,})"
    if not text.isascii() and _has_half_a_pair(text):
        return "holds half of a surrogate pair, which is no character"
    return None


def complaint(text: str) -> str | None:
    """What is wrong with a text as an encoder's input, None where nothing is.

    What passes has a finite vector. Nothing is judged that an encoder copes with: long texts are cut to its
    limit, controls and unknown characters count as it counts them. A text of which a tokeniser keeps nothing
    though there is something to see, such as a lone accent, has the vector of no text at all.

    Args:
        text: Any Python string.

    Returns:
        The end of a sentence that begins with the text's name: "is empty".
    """
    if not text:
        return "is empty"
    if fault := unreadable(text):
        return fault
    if all(unicodedata.category(character) in UNSEEN for character in text):
        return "holds nothing but spaces and invisible characters"
    return None


def _has_half_a_pair(text: str) -> bool:
    try:
        text.encode("utf-8")
    except UnicodeEncodeError:
        return True
    return False
