"""Logs of any common form to one table of texts, whose rows know their places.

Files (see `pal.logs.tables`), folders and globs of these, a `datasets` folder saved to disk,
`hf://datasets/ORG/NAME@revision`, standard input, rows in memory, and public data sets (PRESETS). A list or
an object in a cell is kept as its JSON; bytes stay bytes.
"""

import base64
import json
from collections import defaultdict
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path
from typing import Any

import polars as pl
import pyarrow as pa

from pal.errors import PalError, shorten
from pal.files import download, expanded, list_files
from pal.logs.tables import COMPRESSED, MOST_FAULTY, Row, open_table, row_place

HUB = "hf://datasets/"
FILE, ROW = "#file", "#row"  # columns of a table: which file a row is from, and its number there, from 1
SUFFIXES = (".csv", ".tsv", ".txt", ".json", ".jsonl", ".ndjson", ".parquet", ".arrow", ".feather", ".xlsx")
PACKED = tuple(suffix for _, suffix in COMPRESSED.values())
CHUNK = 20_000  # rows that are in memory as Python objects
Rejected = tuple[str, int, str]  # a row that was left out: file, number, and why


@dataclass(frozen=True)
class Table:
    """Rows as they were read."""

    frame: pl.DataFrame  # texts (or bytes) in the files' columns, and `#file` and `#row`
    source: str  # what was read, in the user's words
    folder: Path  # what paths in cells are relative to
    said: list[str] = field(default_factory=list)  # what was understood of the files, one sentence each
    rejected: list[Rejected] = field(default_factory=list)  # rows that could not be read

    @property
    def columns(self) -> list[str]:
        """The names of the files' columns."""
        return [name for name in self.frame.columns if name not in (FILE, ROW)]


@dataclass(frozen=True)
class Files:
    """The files of a log."""

    paths: dict[str, Path]  # by the names that messages use; what a file is, its bytes tell
    source: str  # what was asked for, in the user's words
    folder: Path  # what paths in cells are relative to
    said: Sequence[str] = ()  # what was understood, one sentence each


def read(source: Any) -> Table:
    """Read a file, a folder, a glob of files, a data set of the hub, or standard input for `-`.

    Rows in memory are read too: mappings, a frame of polars or pandas, an Arrow table, a `datasets` table;
    and `Files` that were found before.
    """
    if isinstance(source, str) and source == "-":
        source = Files({"standard input": Path("-")}, "-", Path())
    elif isinstance(source, str | Path):
        source = find_files(source)
    elif not isinstance(source, Files):
        return _in_memory(source)
    said, rejected = list(source.said), []
    frames = [_read_file(path, name, said, rejected) for name, path in source.paths.items()]
    if len({tuple(sorted(each.columns)) for each in frames}) > 1:
        said.append("the files have not all the same columns; what one lacks is taken as empty there")
    return Table(pl.concat(frames, how="diagonal_relaxed"), source.source, source.folder, said, rejected)


def _in_memory(rows: Any) -> Table:
    if isinstance(rows, pl.DataFrame):
        rows = rows.to_arrow()
    if isinstance(rows, pa.Table):
        frame = _texts(rows)
    else:
        if type(rows).__module__.startswith("pandas"):  # iterating over it gives the names of columns
            rows = rows.to_dict("records")
        frame = _frame_of(Row("rows", number, None, cells) for number, cells in enumerate(rows, 1))
    if not len(frame):
        raise PalError("a log must hold at least one row, got none")
    return Table(frame.with_columns(pl.lit("rows", pl.Categorical).alias(FILE)), "rows", Path())


def find_files(source: Path | str, folder: Path | None = None, without: Iterable[Path] = ()) -> Files:
    """The files that a source names; `hf://datasets/ORG/NAME@revision` is downloaded.

    A relative path starts from the folder. Files to leave `without` may lie among those of the log.
    """
    source = str(source)
    if source.startswith(HUB):
        return _from_hub(source)
    path = (folder or Path()) / expanded(source)
    if path.is_file():
        return Files({path.name: path}, source, path.parent)
    root = path if path.is_dir() else path.parent
    if path.is_dir():
        saved = list(path.rglob("state.json")) and list(path.rglob("data-*-of-*.arrow"))
        paths = saved or path.rglob("*")
    else:
        paths = Path(path.anchor).glob(str(path.relative_to(path.anchor)))
        while any(mark in str(root) for mark in "*?["):
            root = root.parent
    others = {each.resolve() for each in without}
    named = {each.relative_to(root): each for each in sorted(paths) if _suffix(each.name) and each.is_file()}
    found = {
        name.as_posix(): each
        for name, each in named.items()
        if not any(part.startswith((".", "_")) for part in name.parts) and each.resolve() not in others
    }
    if not found:
        what = "holds no" if path.is_dir() else "is not there, and matches no"
        packed = f"(or these with {' or '.join(PACKED)})"
        raise PalError(f"{source} {what} file that ends in {', '.join(SUFFIXES)} {packed}", file=source)
    return Files(found, source, root)


def _suffix(name: str) -> str:
    """How the name of a table ends, but for `.gz` and the like; empty where it is no table."""
    path = Path(name.lower())
    suffix = Path(path.stem).suffix if path.suffix in PACKED else path.suffix
    return suffix if suffix in SUFFIXES else ""


def _from_hub(source: str) -> Files:
    repo, revision, below = hub_parts(source)
    advice = "download it by other means and name the folder"
    commit, files = list_files(repo, revision, advice=advice)
    names = hub_tables(files, below)
    folder = download(repo, commit, names, repo_type="dataset", advice=advice)
    said = [f"{repo} at {commit}, {len(names)} files"]
    return Files({name: folder / name for name in names}, source, folder, said)


def hub_parts(source: str) -> tuple[str, str, str]:
    """Repository, revision and folder of `hf://datasets/ORG/NAME@revision/FOLDER`."""
    repo, _, inside = source.removeprefix(HUB).partition("@")
    revision, _, inside = inside.partition("/")
    parts = repo.split("/")
    return "/".join(parts[:2]), revision or "main", "/".join([*parts[2:], *filter(None, [inside])])


def hub_tables(files: Iterable[str], below: str) -> list[str]:
    """Those of a repository's files that are read: of the same data in two formats, as many have, one."""
    suffixes = {name: _suffix(name) for name in sorted(files) if name.startswith(below) and _suffix(name)}
    if not suffixes:
        raise PalError(f"the repository must hold a table in {below or 'it'}, got none; name a folder of it")
    preferred = [suffix for suffix in (".parquet", ".jsonl", ".csv") if suffix in suffixes.values()]
    return [name for name, suffix in suffixes.items() if suffix in (preferred[:1] or SUFFIXES)]


def _read_file(path: Path, name: str, said: list[str], rejected: list[Rejected]) -> pl.DataFrame:
    """One file's rows; what was understood and what was rejected is added to the lists."""
    faults: list[Rejected] = []
    with open_table(path, name, lambda row, problem: faults.append((name, row.number, problem))) as table:
        frame = _frame_of(table.rows) if table.arrow is None else _texts(table.arrow)
    if len(faults) > MOST_FAULTY * (len(frame) + len(faults)):
        _, row, problem = faults[0]
        place = row_place(name, row, None, len(faults) - 1)
        raise PalError(f"{place} {problem}", file=name, row=row, problem=problem)
    if not len(frame):
        raise table.no_rows()
    said += table.said
    rejected += faults
    return frame.with_columns(pl.lit(table.name, pl.Categorical).alias(FILE))


def _texts(table: pa.Table) -> pl.DataFrame:
    """The columns of an Arrow table as texts or bytes, the first of one name, and the numbers of rows."""
    names = dict.fromkeys(table.column_names)
    columns = {name: _text_column(name, table.column(table.column_names.index(name))) for name in names}
    return pl.DataFrame(columns).with_row_index(ROW, 1)


def _text_column(name: str, column: pa.ChunkedArray) -> pl.Series:
    is_coded = pa.types.is_dictionary(column.type)
    kind = column.type.value_type if is_coded else column.type
    if pa.types.is_nested(kind):
        cells = column.to_pylist()
        if pa.types.is_struct(kind) and "bytes" in {each.name for each in kind}:  # pictures of `datasets`
            if any(cell and cell["bytes"] for cell in cells):
                return pl.Series(name, [cell and cell["bytes"] for cell in cells], dtype=pl.Binary)
            cells = [cell and cell.get("path") for cell in cells]
        return pl.Series(name, list(map(as_text, cells)), dtype=pl.String)
    if is_coded and column.num_chunks:  # of which polars would make categories
        series = pl.concat([_decoded(name, chunk) for chunk in column.chunks])
    else:
        series = pl.Series(name, pl.from_arrow(column))
    if series.dtype.is_float():
        if (series.drop_nulls() == series.drop_nulls().round()).all() and series.is_finite().all():
            series = series.cast(pl.Int64, strict=False)
    elif series.dtype.is_temporal() and series.dtype != pl.Time:
        return series.dt.to_string("iso")
    return series if series.dtype == pl.Binary else series.cast(pl.String)


def _decoded(name: str, coded: pa.DictionaryArray) -> pl.Series:
    """Texts of which each lies in memory once, however often it stands in the column."""
    return pl.Series(name, pl.from_arrow(coded.dictionary)).gather(pl.from_arrow(coded.indices))


def as_text(cell: Any) -> str | None:
    """A JSON value as a text: a text as it is, 7.0 as 7, lists and objects as JSON."""
    if cell is None or isinstance(cell, str):
        return cell
    if cell != cell:  # NaN, pandas' empty cell
        return None
    if isinstance(cell, bool | int | float):
        return str(int(cell) if isinstance(cell, float) and cell.is_integer() else cell).lower()

    def encoded(value: Any) -> str:
        return base64.b64encode(value).decode() if isinstance(value, bytes) else str(value)

    return json.dumps(cell, ensure_ascii=False, default=encoded)


def _frame_of(rows: Iterable[Row]) -> pl.DataFrame:
    """Rows as a frame of texts and their numbers, read in chunks; a text that repeats lies in memory once."""
    rows, frames = iter(rows), []
    kinds = defaultdict(lambda: pl.Categorical(pl.Categories.random("log", pl.UInt32)))
    while chunk := list(islice(rows, CHUNK)):
        names = dict.fromkeys(name for row in chunk for name in row.cells)
        if zero := next((name for name in names if "\0" in name), None):
            problem = f"must have no zero byte in a column's name, got {zero!r}; save it as UTF-8"
            raise PalError(f"{chunk[0].file} {problem}", file=chunk[0].file, column=zero, problem=problem)
        cells = {name: [as_text(row.cells.get(name)) for row in chunk] for name in names}
        try:
            texts = pl.DataFrame(cells, schema=dict.fromkeys(names, pl.String))
        except UnicodeEncodeError:
            _refuse_halves(chunk, cells)
            raise
        numbers = pl.Series(ROW, [row.number for row in chunk], dtype=pl.UInt32)
        frames.append(texts.cast({name: kinds[name] for name in names}).with_columns(numbers))
    frame = pl.concat(frames, how="diagonal") if frames else pl.DataFrame()
    frames.clear()
    for name in kinds:
        frame = frame.with_columns(_decoded(name, frame[name].to_arrow()))
    return frame


def _refuse_halves(rows: list[Row], cells: dict[str, list[str | None]]) -> None:
    """Say which cell holds half of a surrogate pair, which is no character, and which JSON can write."""
    for name, texts in cells.items():
        for row, text in zip(rows, texts, strict=True):
            if text and any("\ud800" <= character <= "\udfff" for character in text):
                problem = f"must be valid Unicode, got {shorten(text)}; it holds half of a surrogate pair"
                raise row._replace(line=None).error(name, problem)


@dataclass(frozen=True)
class Preset:
    """How a public data set is read."""

    source: str  # what is read in its place; empty where the hub does not have it
    about: str  # what a user must know before: licence, terms, and who the people are
    columns: str  # where names do not tell: as `--columns` has them
    values: dict[str, str] = field(default_factory=dict)  # what values of the winner mean
    reshape: Callable[[pl.DataFrame], pl.DataFrame] | None = None  # makes rows that the reader takes


def find_preset(source: object) -> tuple[Preset | None, str]:
    """The preset that a source names, as `NAME` or `NAME:PATH`, and the place to read."""
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


_FIRST = ",".join(f"response_{mark}=first_turn_response_{mark}" for mark in "abcd")
# Written from the published schemas, not tried on the data themselves: the reader says what it finds.
PRESETS = {
    "prism": Preset(
        f"{HUB}HannahRoseKirk/prism-alignment@main/utterances",
        "PRISM: prompts CC BY 4.0, responses CC BY-NC 4.0; scores of 1 to 100, of a turn's prompt alone",
        "user_id=user_id,prompt=user_prompt,response=model_response,rating=score",
    ),
    "personal_reward_bench": Preset(
        f"{HUB}MichaelR207/prism_personalized_0125",
        "PRISM's people, as PersonalRewardBench splits them; responses are for non-commercial use, as "
        "PRISM's",
        "user_id=user_id,prompt=context,chosen=chosen,rejected=rejected,split=",
    ),
    "community_alignment": Preset(
        f"{HUB}facebook/community-alignment-dataset@97343c7f6399fcbea430ed0f37c1768281a78d56/"
        "community_alignment.csv",
        "CC BY 4.0; the first turn's choice of four; who is how old and lives where stands beside it",
        f"user_id=annotator_id,prompt=first_turn_prompt,{_FIRST},winner=first_turn_preferred_response",
    ),
    "collective_alignment": Preset(
        f"{HUB}openai/collective-alignment-1@main/comparisons",
        "each person's own ranking of four answers; look at its licence on its page",
        "user_id=metadata.assessments[].annotator_id,prompt=prompt.messages,"
        "ranking=metadata.assessments[].ranking_blocks.personal[].ranking",
    ),
    "multipref": Preset(
        f"{HUB}allenai/multipref",
        "ODC-BY, as far as known; the overall preferences of its normal workers, slight ones as soft labels",
        "user_id=normal_worker_annotations[].evaluator,prompt=text,response_a=completion_a,"
        "response_b=completion_b,winner=normal_worker_annotations[].overall_pref",
    ),
    "chatbot_arena": Preset(
        f"{HUB}lmsys/chatbot_arena_conversations",
        "gated: accept the terms on its page and log in first",
        "user_id=judge",
    ),
    "hpdv2_test": Preset(
        f"{HUB}ymhao/HPDv2@main/test.json",
        "Apache 2.0; pictures are paths in archives beside it, so unpack these and read hpdv2_test:PATH",
        "user_id=raw_annotations[].user_hash,prompt=prompt,responses=image_path,ranking=raw_annotations[].rank",
    ),
    "dices": Preset(
        "",
        "CC BY 4.0, a CSV of github.com/google-research-datasets/dices-dataset; raters say whether a "
        "conversation's last response is unsafe, so a person's safe ones stand over the unsafe ones",
        "user_id=rater_id,prompt=,response=response,thumb=Q_overall",
        {"No": "up", "Yes": "down"},
    ),
    "personal_llm": Preset(
        f"{HUB}namkoong-lab/PersonalLLM",
        "its people are ten reward models, as simulated people are mixtures of these; its code is Apache "
        "2.0, look at its page for the data's licence",
        "user_id=user_id,prompt=prompt",
        reshape=_reward_models,
    ),
    "shp": Preset(
        f"{HUB}stanfordnlp/SHP@e94b5f32602712d78ed494fe79105b1959396686",
        "its people are subreddits, whose votes are one answer; look at its page for its licence",
        "user_id=domain,prompt=history,winner=labels",
        {"1": "a", "0": "b"},
    ),
    "jester": Preset(
        "",
        "a folder with ratings (user_id, joke_id, rating) and jokes (joke_id, text); free for research, from "
        "eigentaste.berkeley.edu/dataset",
        "user_id=user_id,prompt=,response=text,rating=rating",
        reshape=_with_jokes,
    ),
}
