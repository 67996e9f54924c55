"""YAML that nobody vouches for: plain values of a bounded size, nothing made by tags, no bombs of aliases."""

from typing import Any

LARGEST = 1 << 22  # characters
MOST = 200_000  # values, once aliases stand for what they name
DEEPEST = 50
LONGEST_INT = 128  # bits; Python cannot even print what is much longer


def load(text: str) -> Any:
    """The value of a YAML text.

    Raises:
        ValueError: With the reason in one line, if it is no YAML, or more than any file of ours holds.
    """
    import yaml

    if len(text) > LARGEST:
        raise ValueError(f"more than {LARGEST:,} characters")
    try:
        loader = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
        value = yaml.load(text, Loader=loader)  # noqa: S506 - a safe loader, the C one where there is one
    except RecursionError:
        raise ValueError("nested too deeply") from None
    except (yaml.YAMLError, ValueError, OverflowError, TypeError) as error:
        raise ValueError(" ".join(str(error).split())[:200]) from None
    _check_size(value)
    return value


def _check_size(value: Any) -> None:
    """Count values as a reader that follows aliases does: ten lines of them can stand for 10^10."""
    level, seen = [value], 0
    for _ in range(DEEPEST):
        seen += len(level)
        if seen > MOST:
            raise ValueError(f"more than {MOST:,} values")
        if any(isinstance(each, int) and each.bit_length() > LONGEST_INT for each in level):
            raise ValueError(f"a whole number of more than {LONGEST_INT} bits")
        level = [child for each in level for child in _children(each)][: MOST + 1]
        if not level:
            return
    raise ValueError(f"nested deeper than {DEEPEST} levels")


def _children(value: Any) -> list[Any]:
    if isinstance(value, dict):
        return [*value.keys(), *value.values()]
    return list(value) if isinstance(value, list | tuple | set) else []
