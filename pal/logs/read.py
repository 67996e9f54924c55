"""Logs of any common form to one table of texts, whose rows know their places.

Files (see `pal.logs.tables`), folders and globs of these, a `datasets` folder saved to disk,
`hf://datasets/ORG/NAME@revision`, standard input, rows in memory, and public data sets with people in them by
name (PRESETS), or `NAME:PATH` for a copy of one's own. A list or an object in a cell is kept
as its JSON; bytes stay bytes.
"""

import base64
import json
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path
from typing import Any

import polars as pl
import pyarrow as pa

from pal.errors import PalError, shorten
from pal.logs.tables import COMPRESSED, MOST_FAULTY, Row, open_table, row_place

HUB = "hf://datasets/"
FILE, ROW = "#file", "#row"  # columns of a table: which file a row is from, and its number there, from 1
SUFFIXES = (".csv", ".tsv", ".txt", ".json", ".jsonl", ".ndjson", ".parquet", ".arrow", ".feather", ".xlsx")
PACKED = tuple(suffix for _, suffix in COMPRESSED.values())
CHUNK = 20_000  # rows that are in memory as Python objects


# A row that was left out: its file, its number, and why, as the end of a sentence about it.
Rejected = tuple[str, int, str]


@dataclass(frozen=True)
class Table:
    """Rows as they were read.

    Args:
        frame: A column of texts (or bytes) for each of the files' columns, and `#file` and `#row`.
        source: What was read, in the user's words.
        folder: What paths in cells are relative to.
        said: What was understood of the files, one sentence each.
        rejected: Rows that could not be read.
    """

    frame: pl.DataFrame
    source: str
    folder: Path
    said: list[str] = field(default_factory=list)
    rejected: list[Rejected] = field(default_factory=list)

    @property
    def columns(self) -> list[str]:
        """The names of the files' columns."""
        return [name for name in self.frame.columns if name not in (FILE, ROW)]


@dataclass(frozen=True)
class Files:
    """The files of a log.

    Args:
        paths: Where they lie, by the names that messages use; what a file is, its bytes tell.
        source: What was asked for, in the user's words.
        folder: What paths in cells are relative to.
        said: What was understood, one sentence each.
    """

    paths: dict[str, Path]
    source: str
    folder: Path
    said: list[str] = field(default_factory=list)


def read(source: Any) -> Table:
    """Read a file, a folder, a glob of files, a data set of the hub, or standard input for `-`.

    Rows in memory are read too: mappings, a frame of polars or pandas, an Arrow table, a `datasets` table;
    and `Files` that were found before.

    Raises:
        PalError: If there is nothing to read, or a file cannot be read.
    """
    if not isinstance(source, str | Path | Files):
        return _in_memory(source)
    if isinstance(source, Files):
        files = source
    else:
        files = Files({"standard input": Path("-")}, "-", Path()) if source == "-" else find_files(source)
    said, rejected = list(files.said), []
    frames = [_read_file(path, name, said, rejected) for name, path in files.paths.items()]
    frame = pl.concat(frames, how="diagonal_relaxed") if len(frames) > 1 else frames[0]
    if len({tuple(sorted(each.columns)) for each in frames}) > 1:
        said.append("the files have not all the same columns; what one lacks is taken as empty there")
    return Table(frame, files.source, files.folder, said, rejected)


def _in_memory(rows: Any) -> Table:
    if isinstance(rows, pl.DataFrame):
        frame = _texts(rows.to_arrow())
    elif isinstance(rows, pa.Table):
        frame = _texts(rows)
    else:  # iterating over pandas gives the names of columns
        is_pandas = type(rows).__module__.startswith("pandas")
        rows = rows.to_dict("records") if is_pandas else rows
        frame = _frame_of(Row("rows", number, None, cells) for number, cells in enumerate(rows, 1))
    if not len(frame):
        raise PalError("a log must hold at least one row, got none")
    place = {FILE: pl.lit("rows").cast(pl.Categorical), ROW: pl.int_range(1, pl.len() + 1, dtype=pl.UInt32)}
    return Table(frame.with_columns(**place), "rows", Path())


def find_files(source: Path | str, folder: Path | None = None, without: Iterable[Path] = ()) -> Files:
    """The files that a source names.

    Args:
        source: A file, a folder, a glob, or `hf://datasets/ORG/NAME@revision`, which is downloaded.
        folder: What a relative path starts from; None: the current folder.
        without: Files that are no part of the log, though they may lie in its folder.

    Raises:
        PalError: If there are none.
    """
    source, said = str(source), []
    if source.startswith(HUB):
        paths, root = _from_hub(source, said)
        return Files({path.relative_to(root).as_posix(): path for path in paths}, source, root, said)
    path = (folder or Path()) / Path(source).expanduser()
    if path.is_file():
        return Files({path.name: path}, source, path.parent)
    if path.is_dir():
        saved = sorted(path.rglob("data-*-of-*.arrow"))
        paths = saved if list(path.rglob("state.json")) and saved else sorted(path.rglob("*"))
        root = path
    else:
        paths, root = sorted(Path(path.anchor).glob(str(path.relative_to(path.anchor)))), path.parent
        while any(mark in str(root) for mark in "*?["):
            root = root.parent
    others = {each.resolve() for each in without}
    named = {each.relative_to(root): each for each in paths}
    found = {
        name.as_posix(): each
        for name, each in named.items()
        if is_table(each.name) and not any(part.startswith((".", "_")) for part in name.parts)
        and each.is_file() and each.resolve() not in others
    }  # fmt: skip
    if not found:
        allowed = ", ".join(SUFFIXES)
        what = "holds no" if path.is_dir() else "is not there, and matches no"
        raise PalError(
            f"{source} {what} file that ends in {allowed} (or these with {' or '.join(PACKED)})", file=source
        )
    return Files(found, source, root)


def is_table(name: str) -> bool:
    """Whether a file may be a table, by its name."""
    return _suffix(Path(name)) in SUFFIXES


def _suffix(path: Path) -> str:
    endings = [each.lower() for each in path.suffixes[-2:]]
    if endings and endings[-1] in PACKED:
        endings.pop()
    return endings[-1] if endings else ""


def _from_hub(source: str, said: list[str]) -> tuple[list[Path], Path]:
    from pal.files import download, list_files

    repo, revision, below = hub_parts(source)
    advice = "download it by other means and name the folder"
    commit, files = list_files(repo, revision, repo_type="dataset", advice=advice)
    wanted = hub_tables(files, below)
    folder = download(repo, commit, wanted, repo_type="dataset", advice=advice)
    said.append(f"{repo} at {commit}, {len(wanted)} files")
    return [folder / name for name in wanted], folder


def hub_parts(source: str) -> tuple[str, str, str]:
    """Repository, revision and folder of `hf://datasets/ORG/NAME@revision/FOLDER`."""
    repo, _, inside = source.removeprefix(HUB).partition("@")
    revision, _, inside = inside.partition("/")
    parts = repo.split("/")
    return "/".join(parts[:2]), revision or "main", "/".join([*parts[2:], *filter(None, [inside])])


def hub_tables(files: Iterable[str], below: str) -> list[str]:
    """Those of a repository's files that are read: of the same data in two formats, as many have, one.

    Raises:
        PalError: If there are none.
    """
    wanted = [name for name in files if is_table(name) and name.startswith(below)]
    for suffix in (".parquet", ".jsonl", ".csv"):
        if some := [name for name in wanted if _suffix(Path(name)) == suffix]:
            wanted = some
            break
    if not wanted:
        raise PalError(f"the repository must hold a table in {below or 'it'}, got none; name a folder of it")
    return sorted(wanted)


def _read_file(path: Path, name: str, said: list[str], rejected: list[Rejected]) -> pl.DataFrame:
    """One file's rows; what was understood and what was rejected is added to the lists."""
    faults: list[Rejected] = []
    with open_table(path, name, lambda row, _, problem: faults.append((name, row, problem))) as table:
        frame = _frame_of(table.rows) if table.arrow is None else _texts(table.arrow).with_row_index(ROW, 1)
    if len(faults) > MOST_FAULTY * (len(frame) + len(faults)):
        _, row, problem = faults[0]
        place = row_place(name, row, None, len(faults) - 1)
        raise PalError(f"{place} {problem}", file=name, row=row, problem=problem)
    if not len(frame):
        raise table.no_rows()
    said += table.said
    rejected += faults
    return frame.with_columns(
        pl.lit(table.name).cast(pl.Categorical).alias(FILE), pl.col(ROW).cast(pl.UInt32)
    )


def _texts(table: pa.Table) -> pl.DataFrame:
    """The columns of an Arrow table as texts or bytes; of two of one name the first."""
    columns: dict[str, pl.Series] = {}
    for index, field_ in enumerate(table.schema):
        if field_.name not in columns:
            columns[field_.name] = _text_column(field_.name, table.column(index))
    return pl.DataFrame(columns)


def _text_column(name: str, column: pa.ChunkedArray) -> pl.Series:
    kind = column.type.value_type if pa.types.is_dictionary(column.type) else column.type
    if pa.types.is_nested(kind):
        cells = (as_text(cell) for cell in column.to_pylist())
        if pa.types.is_struct(kind) and "bytes" in {each.name for each in kind}:  # pictures of `datasets`
            pictures = column.to_pylist()
            if any(cell and cell["bytes"] for cell in pictures):
                return pl.Series(name, [cell and cell["bytes"] for cell in pictures], dtype=pl.Binary)
            cells = (cell and cell.get("path") for cell in pictures)
        return pl.Series(name, list(cells), dtype=pl.String)
    if pa.types.is_dictionary(column.type):  # of which polars would make categories
        chunks = [
            pl.Series(pl.from_arrow(c.dictionary)).gather(pl.from_arrow(c.indices)) for c in column.chunks
        ]
        series = (pl.concat(chunks) if chunks else pl.Series(dtype=pl.String)).alias(name)
    else:
        series = pl.Series(name, pl.from_arrow(column))
    if series.dtype.is_float():
        if (series.drop_nulls() == series.drop_nulls().round()).all() and series.is_finite().all():
            series = series.cast(pl.Int64, strict=False)
    elif series.dtype == pl.Boolean:
        series = series.cast(pl.String)
    elif series.dtype.is_temporal():
        return series.dt.to_string("iso") if series.dtype != pl.Time else series.cast(pl.String)
    return series if series.dtype == pl.Binary else series.cast(pl.String)


def as_text(cell: Any) -> str | None:
    """A JSON value as a text: a text as it is, 7.0 as 7, lists and objects as JSON."""
    if cell is None or isinstance(cell, str):
        return cell
    if cell != cell:  # NaN, pandas' empty cell
        return None
    if isinstance(cell, float) and cell.is_integer():
        return str(int(cell))
    if isinstance(cell, bool | int | float):
        return str(cell).lower()
    return json.dumps(cell, ensure_ascii=False, default=_encoded)


def _encoded(value: Any) -> str:
    return base64.b64encode(value).decode() if isinstance(value, bytes) else str(value)


def _frame_of(rows: Iterable[Row]) -> pl.DataFrame:
    """Rows as a frame of texts and their numbers, read in chunks; a text that repeats lies in memory once."""
    rows, frames, kinds = iter(rows), [], {}
    while chunk := list(islice(rows, CHUNK)):
        names = dict.fromkeys(name for row in chunk for name in row.cells)
        cells = {name: [as_text(row.cells.get(name)) for row in chunk] for name in names}
        try:
            texts = pl.DataFrame(cells, schema=dict.fromkeys(names, pl.String))
        except UnicodeEncodeError:
            _refuse_halves(chunk)
            raise
        for name in names.keys() - kinds.keys():
            kinds[name] = pl.Categorical(pl.Categories.random("log", pl.UInt32))
        place = pl.Series(ROW, [row.number for row in chunk], dtype=pl.UInt32)
        frames.append(texts.cast({name: kinds[name] for name in names}).with_columns(place))
    frame = pl.concat(frames, how="diagonal") if frames else pl.DataFrame()
    frames.clear()
    for name in kinds:
        coded = frame[name].to_arrow()
        frame = frame.with_columns(pl.Series(name, coded.dictionary).gather(pl.Series(coded.indices)))
    return frame


def _refuse_halves(rows: list[Row]) -> None:
    """Say which cell holds half of a surrogate pair, which is no character, and which JSON can write."""
    for row in rows:
        for name, value in row.cells.items():
            cell = as_text(value)
            if cell and any("\ud800" <= each <= "\udfff" for each in cell):
                problem = f"must be valid Unicode, got {shorten(cell)}; it holds half of a surrogate pair"
                raise Row(row.file, row.number, None, {}).error(name, problem)


@dataclass(frozen=True)
class Preset:
    """How a public data set is read.

    Args:
        source: What is read in its place; empty where the hub does not have it.
        about: What a user must know before: licence, terms, and who the people are.
        columns: Columns by role, where names do not tell.
        values: What values of the winner mean.
        reshape: Makes of its rows such as the reader takes.
    """

    source: str
    about: str
    columns: dict[str, str] = field(default_factory=dict)
    values: dict[str, str] = field(default_factory=dict)
    reshape: Callable[[pl.DataFrame], pl.DataFrame] | None = None


def find_preset(source: object) -> tuple[Preset | None, str]:
    """The preset that a source names, as `NAME` or `NAME:PATH`, and the place to read.

    Raises:
        PalError: If it has no place of its own, and none is given.
    """
    text = str(source)
    name, _, path = text.partition(":")
    if name not in PRESETS or (not path and Path(text).exists()):
        return None, text
    preset = PRESETS[name]
    if not (place := path or preset.source):
        raise PalError(f"{name} must be read from a copy, as {name}:PATH, got no path; {preset.about}")
    return preset, place


def _reward_models(frame: pl.DataFrame) -> pl.DataFrame:
    """Each of PersonalLLM's reward models as a person, who scores the eight responses to a prompt."""
    names = [name.removeprefix("response_1_") for name in frame.columns if name.startswith("response_1_")]
    responses = [f"response_{n}" for n in range(1, 9) if f"response_{n}" in frame.columns]
    others = ["prompt", *responses, *(name for name in frame.columns if name.startswith("#"))]
    return pl.concat(
        frame.select(
            *others,
            *(pl.col(f"{name}_{model}").alias(f"score_{n}") for n, name in enumerate(responses, 1)),
            user_id=pl.lit(model),
        )
        for model in names
    )


def _with_jokes(frame: pl.DataFrame) -> pl.DataFrame:
    """Ratings with the jokes' texts, which stand in a file of their own."""
    jokes = frame.filter(pl.col("rating").is_null()).select("joke_id", "text")
    return frame.filter(pl.col("rating").is_not_null()).drop("text").join(jokes, on="joke_id")


_ASSESSED, _WORKERS, _RAW = "metadata.assessments[]", "normal_worker_annotations[]", "raw_annotations[]"
_FIRST = {f"response_{mark}": f"first_turn_response_{mark}" for mark in "abcd"}
# Written from the published schemas, not tried on the data themselves: the reader says what it finds.
PRESETS = {
    "prism": Preset(
        f"{HUB}HannahRoseKirk/prism-alignment@main/utterances",
        "PRISM: prompts CC BY 4.0, responses CC BY-NC 4.0; scores of 1 to 100, of a turn's prompt alone",
        {"user_id": "user_id", "prompt": "user_prompt", "response": "model_response", "rating": "score"},
    ),
    "personal_reward_bench": Preset(
        f"{HUB}MichaelR207/prism_personalized_0125",
        "PRISM's people, as PersonalRewardBench splits them; responses are for non-commercial "
        "use, as PRISM's",
        {"user_id": "user_id", "prompt": "context", "chosen": "chosen", "rejected": "rejected", "split": ""},
    ),
    "community_alignment": Preset(
        f"{HUB}facebook/community-alignment-dataset@97343c7f6399fcbea430ed0f37c1768281a78d56/"
        "community_alignment.csv",
        "CC BY 4.0; the first turn's choice of four; who is how old and lives where stands beside it",
        {
            "user_id": "annotator_id", "prompt": "first_turn_prompt", **_FIRST,
            "winner": "first_turn_preferred_response",
        },
    ),
    "collective_alignment": Preset(
        f"{HUB}openai/collective-alignment-1@main/comparisons",
        "each person's own ranking of four answers; look at its licence on its page",
        {
            "user_id": f"{_ASSESSED}.annotator_id", "prompt": "prompt.messages",
            "ranking": f"{_ASSESSED}.ranking_blocks.personal[].ranking",
        },
    ),
    "multipref": Preset(
        f"{HUB}allenai/multipref",
        "ODC-BY, as far as known; the overall preferences of its normal workers, slight ones as soft labels",
        {
            "user_id": f"{_WORKERS}.evaluator", "prompt": "text", "winner": f"{_WORKERS}.overall_pref",
            "response_a": "completion_a", "response_b": "completion_b",
        },
    ),
    "chatbot_arena": Preset(
        f"{HUB}lmsys/chatbot_arena_conversations",
        "gated: accept the terms on its page and log in first",
        {"user_id": "judge"},
    ),
    "hpdv2_test": Preset(
        f"{HUB}ymhao/HPDv2@main/test.json",
        "Apache 2.0; pictures are paths in archives beside it, so unpack these and read hpdv2_test:PATH",
        {
            "user_id": f"{_RAW}.user_hash", "prompt": "prompt", "responses": "image_path",
            "ranking": f"{_RAW}.rank",
        },
    ),
    "dices": Preset(
        "",
        "CC BY 4.0, a CSV of github.com/google-research-datasets/dices-dataset; raters say whether a "
        "conversation's last response is unsafe, so a person's safe ones stand over the unsafe ones",
        {"user_id": "rater_id", "prompt": "", "response": "response", "thumb": "Q_overall"},
        {"No": "up", "Yes": "down"},
    ),
    "personal_llm": Preset(
        f"{HUB}namkoong-lab/PersonalLLM",
        "its people are ten reward models, as simulated people are mixtures of these; its code "
        "is Apache 2.0, look at its page for the data's licence",
        {"user_id": "user_id", "prompt": "prompt"},
        reshape=_reward_models,
    ),
    "shp": Preset(
        f"{HUB}stanfordnlp/SHP@e94b5f32602712d78ed494fe79105b1959396686",
        "its people are subreddits, whose votes are one answer; look at its page for its licence",
        {"user_id": "domain", "prompt": "history", "winner": "labels"},
        {"1": "a", "0": "b"},
    ),
    "jester": Preset(
        "",
        "a folder with ratings (user_id, joke_id, rating) and jokes (joke_id, text); free for research, from "
        "eigentaste.berkeley.edu/dataset",
        {"user_id": "user_id", "prompt": "", "response": "text", "rating": "rating"},
        reshape=_with_jokes,
    ),
}  # fmt: skip
