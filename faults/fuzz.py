"""Structured nonsense for parameters, tables, ids, texts, JSON and safetensors headers.

Whatever comes in, the end is a result or one sentence of ours, within two seconds and a gigabyte.
"""

import io
import json
import resource
import struct
import tempfile
import time
from collections import Counter
from collections.abc import Callable
from copy import deepcopy
from functools import cache
from pathlib import Path
from typing import Any

from hypothesis import HealthCheck, Phase, given, seed, settings
from hypothesis import strategies as st

from faults.damage import _inside, _model
from faults.tally import Tally
from pal.errors import PalError
from pipeline.errors import PipelineError

EXAMPLES = 5_000
SECONDS = 2.0
MEMORY = 1 << 30  # bytes by which the process may grow, over all examples
ROOT = Path(__file__).parents[1]

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


def run(examples: int = EXAMPLES, number: int = 0) -> list[Tally]:
    """So many examples over all targets."""
    found = targets()
    before = _peak()
    tallies = [_campaign(name, *target, examples // len(found), number) for name, target in found.items()]
    grown = _peak() - before
    failures = [f"memory grew by {grown / 1e9:.1f} GB"] if grown > MEMORY else []
    return [
        *tallies,
        Tally("all of these within a gigabyte", 1, failures, {"grown": f"{grown / 1e6:,.0f} MB"}),
    ]


def targets() -> dict[str, tuple[st.SearchStrategy[Any], Callable[[Any], Any]]]:
    """What is drawn, and what takes it, by name."""
    place = st.integers(0, 10**6)
    rows = st.lists(st.lists(PLAIN, min_size=4, max_size=5), max_size=6)
    objects = VALUE | st.dictionaries(st.sampled_from(COLUMNS), VALUE)
    columns = st.dictionaries(st.sampled_from(COLUMNS), st.lists(PLAIN, min_size=3, max_size=3))
    ids = TEXT | st.text("0123456789abcdefABCDEF", min_size=32, max_size=33)
    header = st.dictionaries(TEXT | st.just("embeddings"), TENSOR | VALUE, max_size=3)
    return {
        "params.yaml, values": (st.lists(st.tuples(place, VALUE), min_size=1, max_size=3), _params),
        "params.yaml, text": (st.tuples(place, st.integers(0, 40), TEXT), _params_text),
        "own CSV": (rows, _csv),
        "own JSONL": (st.lists(objects, max_size=6), _jsonl),
        "own Parquet": (columns, _parquet),
        "ids": (st.lists(ids, max_size=5), _ids),
        "texts": (st.lists(TEXT | st.text(max_size=3000), min_size=1, max_size=4), _texts),
        "JSON of saved models": (st.tuples(place, VALUE, st.booleans()), _saved),
        "JSON of tastes": (st.tuples(place, VALUE), _taste),
        "safetensors headers": (st.tuples(header, st.integers(-9, 99), st.binary(max_size=64)), _safetensors),
    }


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


def _campaign(
    name: str, strategy: st.SearchStrategy[Any], take: Callable[[Any], Any], examples: int, number: int
) -> Tally:
    counts: Counter[str] = Counter()
    failures: dict[str, str] = {}
    with tempfile.TemporaryDirectory() as folder, _inside(Path(folder)):

        @seed(number)
        @settings(
            max_examples=examples, deadline=None, database=None, phases=[Phase.generate],
            suppress_health_check=list(HealthCheck),
        )  # fmt: skip
        @given(strategy)
        def each(example: Any) -> None:
            counts["tried"] += 1
            start = time.process_time()
            fault, place = _outcome(take, example)
            took = time.process_time() - start
            if took > SECONDS and counts["tried"] > 1:  # the first one loads modules
                fault, place = f"took {took:.1f} s", "time"
            counts["faults"] += bool(fault)
            if fault:
                failures.setdefault(place, f"{name}, seed {number}: {fault}, of {example!r}"[:600])

        each()
    more = counts["faults"] - len(failures)
    return Tally(
        f"examples of {name}",
        counts["tried"],
        list(failures.values()),
        {"more like these": more} if more else {},
    )


def _outcome(take: Callable[[Any], Any], example: Any) -> tuple[str, str]:
    """What went wrong, and where it was raised."""
    try:
        take(example)
    except (PalError, PipelineError) as error:
        return ("more than one line", "lines") if "\n" in str(error) else ("", "")
    except BaseException as error:
        if isinstance(error, KeyboardInterrupt):
            raise
        last = error.__traceback__
        while last and last.tb_next:
            last = last.tb_next
        where = f"{last.tb_frame.f_code.co_filename}:{last.tb_lineno}" if last else ""
        return f"{type(error).__name__}: {error} at {where}"[:300], where
    return "", ""


def _peak() -> int:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024


def _leaves(value: Any, path: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    """Every place in nested maps and lists, maps themselves among them."""
    inner = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    return [path, *(each for key, child in inner for each in _leaves(child, (*path, key)))]


def _put(whole: Any, at: int, value: Any) -> Any:
    """The whole with another value at one of its places."""
    changed = deepcopy(whole)
    places = _leaves(changed)
    path = places[at % len(places)]
    if not path:
        return value
    section = changed
    for part in path[:-1]:
        section = section[part]
    section[path[-1]] = value
    return changed


@cache
def _shipped() -> str:
    return (ROOT / "params.yaml").read_text(encoding="utf-8")


@cache
def _shipped_values() -> Any:
    import yaml

    return yaml.load(_shipped(), Loader=getattr(yaml, "CSafeLoader", yaml.SafeLoader))


def _load_params(text: str) -> None:
    from pipeline import params

    Path("params.yaml").write_bytes(text.encode("utf-8", "surrogatepass"))
    params.load()


def _params(changes: list[tuple[int, Any]]) -> None:
    values = _shipped_values()
    for at, value in changes:
        values = _put(values, at, value)
    _load_params(json.dumps(values, default=str))  # which is YAML too


def _params_text(change: tuple[int, int, str]) -> None:
    at, gone, text = change
    whole = _shipped()
    place = at % len(whole)
    _load_params(whole[:place] + text + whole[place + gone :])


def _read_own(name: str) -> None:
    from pipeline.datasets.own import files, rows

    rows.join([files.read_rows(name, Path(name))])


def _csv(rows: list[list[Any]]) -> None:
    lines = [",".join(str(cell) for cell in row) for row in rows]
    text = "\n".join(["user_id,prompt,chosen,rejected,label", *lines])
    Path("own.csv").write_bytes(text.encode("utf-8", "surrogatepass"))
    _read_own("own.csv")


def _jsonl(rows: list[Any]) -> None:
    Path("own.jsonl").write_text("\n".join(json.dumps(row) for row in rows), encoding="utf-8")
    _read_own("own.jsonl")


def _parquet(columns: dict[str, list[Any]]) -> None:
    import pyarrow as pa
    import pyarrow.parquet as pq

    arrays = {}
    for name, cells in columns.items():
        try:
            arrays[name] = pa.array(cells)
        except (pa.ArrowException, UnicodeError, OverflowError):
            arrays[name] = pa.array([repr(cell) for cell in cells])
    pq.write_table(pa.table(arrays), "own.parquet")
    _read_own("own.parquet")


def _ids(ids: list[str]) -> None:
    from pipeline import shards

    assert shards.unpacked(shards.packed(ids)) == ids


def _texts(texts: list[str]) -> None:
    from pal import encoders
    from pal.encoders.texts import complaint

    good = [text for text in texts if not complaint(text)]
    if good:
        encoder = encoders.load(encoders.describe("hashed-words"))
        encoder.lengths(good)
        assert encoder.encode(good).shape[0] == len(good)


@cache
def _model_files() -> dict[str, bytes]:
    with tempfile.TemporaryDirectory() as folder, _inside(Path(folder)):
        return {path.name: path.read_bytes() for path in _model().files}


def _saved(change: tuple[int, Any, bool]) -> None:
    import hashlib

    from pal.saved import SavedModel
    from pal.storage import seal

    at, value, users = change
    files = dict(_model_files())
    name = "users.json" if users else "config.json"
    changed = _put(json.loads(files[name]), at, value)
    files[name] = json.dumps(changed).encode()
    about = json.loads(files["config.json"])
    if isinstance(about, dict) and isinstance(about.get("sha256"), dict):
        if users:
            about["sha256"]["users.json"] = hashlib.sha256(files["users.json"]).hexdigest()
        about["sha256"]["config.json"] = seal(about)
        files["config.json"] = json.dumps(about).encode()
    folder = Path("model")
    folder.mkdir(exist_ok=True)
    for file, content in files.items():
        (folder / file).write_bytes(content)
    SavedModel.load(folder)


def _taste(change: tuple[int, Any]) -> None:
    from pal.taste import Taste

    usual = {
        "format": "pal-taste", "version": 1, "model": "0" * 32, "comparisons": 2, "unit": "2^-24 nats",
        "log_likelihood": [-5, 0, -7],
    }  # fmt: skip
    Taste.from_json(json.dumps(_put(usual, *change)))


def _safetensors(drawn: tuple[dict[str, Any], int, bytes]) -> None:
    from pipeline.datasets.own import vectors

    header, off, data = drawn
    text = json.dumps(header).encode()
    length = max(0, len(text) + off) if off < 0 else len(text)
    out = io.BytesIO(struct.pack("<Q", length) + text + data)
    Path("v.safetensors").write_bytes(out.getvalue())
    Path("v.ids.txt").write_text("a\nb\n")
    vectors.read(vectors.find(str(Path("v.safetensors").absolute())), {"a", "b"})
