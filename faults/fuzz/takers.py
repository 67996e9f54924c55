"""What takes what was drawn, each as the program would."""

import io
import json
import struct
import tempfile
from copy import deepcopy
from functools import cache
from pathlib import Path
from typing import Any

from faults.damage import _inside, _model

ROOT = Path(__file__).parents[2]


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


def params(changes: list[tuple[int, Any]]) -> None:
    """The shipped parameters with other values at some places."""
    values = _shipped_values()
    for at, value in changes:
        values = _put(values, at, value)
    _load_params(json.dumps(values, default=str))  # which is YAML too


def params_text(change: tuple[int, int, str]) -> None:
    """The shipped parameters with other text at one place."""
    at, gone, text = change
    whole = _shipped()
    place = at % len(whole)
    _load_params(whole[:place] + text + whole[place + gone :])


def _read_own(name: str) -> None:
    from pipeline.datasets.own import files, rows

    rows.join([files.read_rows(name, Path(name))])


def csv(rows: list[list[Any]]) -> None:
    """A CSV file of own comparisons."""
    lines = [",".join(str(cell) for cell in row) for row in rows]
    text = "\n".join(["user_id,prompt,chosen,rejected,label", *lines])
    Path("own.csv").write_bytes(text.encode("utf-8", "surrogatepass"))
    _read_own("own.csv")


def jsonl(rows: list[Any]) -> None:
    """A JSONL file of own comparisons."""
    Path("own.jsonl").write_text("\n".join(json.dumps(row) for row in rows), encoding="utf-8")
    _read_own("own.jsonl")


def parquet(columns: dict[str, list[Any]]) -> None:
    """A Parquet file of own comparisons."""
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


def ids(ids: list[str]) -> None:
    """Ids that are packed and unpacked."""
    from pipeline.storage import shards

    assert shards.unpacked(shards.packed(ids)) == ids


def texts(texts: list[str]) -> None:
    """Texts that are encoded."""
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


def saved(change: tuple[int, Any, bool]) -> None:
    """A saved model one of whose JSON files has another value at one place, with checksums that fit."""
    from pal.serving.saved_model import SUMS, SavedModel, checksums

    at, value, users = change
    files = {name: content for name, content in _model_files().items() if name != SUMS}
    name = "users.json" if users else "config.json"
    files[name] = json.dumps(_put(json.loads(files[name]), at, value)).encode()
    folder = Path("model")
    folder.mkdir(exist_ok=True)
    for file, content in (files | {SUMS: checksums(files)}).items():
        (folder / file).write_bytes(content)
    SavedModel.load(folder)


def taste(change: tuple[int, Any]) -> None:
    """A taste with another value at one place."""
    from pal.users.taste import Taste

    usual = {
        "format": "pal-taste", "version": 1, "model": "0" * 32, "comparisons": 2, "unit": "2^-24 nats",
        "log_likelihood": [-5, 0, -7],
    }  # fmt: skip
    Taste.from_json(json.dumps(_put(usual, *change)))


def safetensors(drawn: tuple[dict[str, Any], int, bytes]) -> None:
    """Vectors of one's own under a header."""
    from pipeline.datasets.own import vectors

    header, off, data = drawn
    text = json.dumps(header).encode()
    length = max(0, len(text) + off) if off < 0 else len(text)
    out = io.BytesIO(struct.pack("<Q", length) + text + data)
    Path("v.safetensors").write_bytes(out.getvalue())
    Path("v.ids.txt").write_text("a\nb\n")
    vectors.read(vectors.find(str(Path("v.safetensors").absolute())), {"a", "b"})
