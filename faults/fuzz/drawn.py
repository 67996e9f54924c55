"""What is drawn, and what takes it."""

from collections.abc import Callable
from typing import Any

from hypothesis import strategies as st

from faults.fuzz import takers

TEXT = (
    st.text(max_size=20)
    | st.text(st.characters(), max_size=20)
    | st.sampled_from(
        ["", " ", "\0", "\ud800", "é" * 99, "nan", "1e999", "-0", "null", "<<", "&a", "*a", "!!x"]
    )
)
NUMBER = (
    st.integers() | st.floats() | st.sampled_from([0, -1, 2**31, 2**63, 2**64, 10**400, 1e308, float("nan")])
)
PLAIN = st.none() | st.booleans() | NUMBER | TEXT
VALUE = st.recursive(
    PLAIN, lambda inner: st.lists(inner, max_size=4) | st.dictionaries(TEXT, inner, max_size=4), max_leaves=8
)
COLUMNS = (
    "user_id", "prompt", "chosen", "rejected", "label", "split", "timestamp", "winner", "response_a",
    "response_b",
)  # fmt: skip
TENSOR = st.fixed_dictionaries(
    {
        "dtype": st.sampled_from(["F32", "F16", "F64", "I8", "BF16", "F8_E4M3"]) | TEXT,
        "shape": st.lists(st.integers(-1, 2**64) | st.integers(0, 4), max_size=3),
        "data_offsets": st.lists(st.integers(0, 64) | st.integers(), min_size=2, max_size=2),
    }
)


def targets() -> dict[str, tuple[st.SearchStrategy[Any], Callable[[Any], Any]]]:
    """What is drawn, and what takes it, by name."""
    place = st.integers(0, 10**6)
    rows = st.lists(st.lists(PLAIN, min_size=4, max_size=5), max_size=6)
    objects = VALUE | st.dictionaries(st.sampled_from(COLUMNS), VALUE)
    columns = st.dictionaries(st.sampled_from(COLUMNS), st.lists(PLAIN, min_size=3, max_size=3))
    ids = TEXT | st.text("0123456789abcdefABCDEF", min_size=32, max_size=33)
    header = st.dictionaries(TEXT | st.just("embeddings"), TENSOR | VALUE, max_size=3)
    return {
        "params.yaml, values": (st.lists(st.tuples(place, VALUE), min_size=1, max_size=3), takers.params),
        "params.yaml, text": (st.tuples(place, st.integers(0, 40), TEXT), takers.params_text),
        "own CSV": (rows, takers.csv),
        "own JSONL": (st.lists(objects, max_size=6), takers.jsonl),
        "own Parquet": (columns, takers.parquet),
        "ids": (st.lists(ids, max_size=5), takers.ids),
        "texts": (st.lists(TEXT | st.text(max_size=3000), min_size=1, max_size=4), takers.texts),
        "JSON of saved models": (st.tuples(place, VALUE, st.booleans()), takers.saved),
        "JSON of tastes": (st.tuples(place, VALUE), takers.taste),
        "safetensors headers": (
            st.tuples(header, st.integers(-9, 99), st.binary(max_size=64)),
            takers.safetensors,
        ),
    }
