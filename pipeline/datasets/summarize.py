"""TL;DR: workers said which of two summaries of a post is better (openai/summarize_from_feedback).

A protocol says whose users are seen, which rows count and who answered: see `summarize_protocols`. The
prompt is the post, or the article where there is no post (CNN/DM rows, in the protocols that use them). The
response is the summary alone, or the summary followed by the post as one text: in that order, since encoders
cut long texts at their end, and what sets two responses to one post apart must not be cut.

OpenAI's raw JSON lines and the hub's converted Parquet are read into the same frame. The first row that is no
comparison is refused; whether a row without worker, post or text takes part is the protocol's choice.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from itertools import chain, islice
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import polars as pl
from pydantic import AfterValidator, BaseModel, Field, ValidationError

from pal.config import Config, explain
from pal.conversations import JOINT
from pal.errors import shorten
from pal.files import write_json
from pal.logs.tables import Row as Cells
from pal.logs.tables import open_table
from pipeline import PipelineError, paths
from pipeline.datasets import summarize_protocols as protocols
from pipeline.datasets.base import DatasetParams, HubFiles, Remote, Source
from pipeline.storage import tables

if TYPE_CHECKING:
    from pipeline.params import Params as AllParams

TITLE = "Summaries (TL;DR)"
ABOUT = "TL;DR: which of two summaries of a post from Reddit a worker preferred."
ITEMS_APART = False
NOTES = "notes.json"
JSON, PARQUET = (".json", ".jsonl"), (".parquet",)
CHUNK = 10_000  # rows turned into a frame at once, which bounds memory
# OpenAI's words for a row's split. The hub mixes valid1 and valid2, and has no comparisons of test.
SPLITS = {"train": "train", "valid1": "validation", "valid2": "validation", "test": "test"}
TEXTS = ("worker", "batch", "split", "post", "article", "text_0", "policy_0", "text_1", "policy_1")
SCHEMA = {**dict.fromkeys(TEXTS, pl.String), "choice": pl.Int8}
NEEDED = (("seen", "train"), ("seen", "test"), ("unseen", "adapt"), ("unseen", "test"))


class Prepare(Config):
    """Which of the published protocols on TL;DR, and what is encoded as a response (D10, D11)."""

    protocol: Literal["stiennon", "li2024", "iclr_simulated", "lore"]
    item: Literal["response", "joint"]


class Params(DatasetParams):
    """The section summarize of params.yaml."""

    hub: HubFiles
    prepare: Prepare

    @property
    def template(self) -> str | None:
        """See `DatasetParams`."""
        return JOINT if self.prepare.item == "joint" else None


def _whole(text: str) -> str:
    """Refuse half a surrogate pair, which JSON can hold and UTF-8 cannot."""
    text.encode()
    return text


Text = Annotated[str, AfterValidator(_whole)]


class Info(BaseModel):
    """What was summarised."""

    post: Text | None = None
    article: Text | None = None


class Summary(BaseModel):
    """A summary, and what wrote it."""

    text: Text | None = None
    policy: Text | None = None


class Row(BaseModel, strict=True):
    """A published row; whether one without worker, post or text takes part is the protocol's choice."""

    info: Info | None = None
    summaries: Annotated[list[Summary], Field(min_length=2, max_length=2)]
    choice: Literal[0, 1]
    worker: Text | None = None
    batch: Text | None = None
    split: Literal["train", "valid1", "valid2", "test"]


def find(params: "AllParams") -> Source:
    """The files of a folder, or what to fetch from the hub; the words say where answers are simulated.

    Raises:
        PipelineError: If the folder has no comparisons.
    """
    simulated = params.summarize.prepare.protocol == "iclr_simulated"
    answers = "; answers simulated by length" if simulated else ""
    source = params.summarize.source
    if source == "hub":
        repo, revision = params.summarize.hub.repo, params.summarize.hub.revision
        # Both splits' files have the same names, 0000.parquet, in folders of their own.
        remotes = [
            Remote(repo, revision, [f"comparisons/*{split}*.parquet"], prefix=f"{split}-")
            for split in ("train", "validation")
        ]
        return Source(f"hub: {repo} at {revision}{answers}", remotes=remotes)
    folder = paths.project_root() / Path(source).expanduser()
    files = find_files(source, folder)
    words = f"folder: {source}{answers}"

    def check() -> None:
        for file in files.items():
            with opened(*file):
                pass

    return Source(words, files, check=check)


def find_files(source: str, folder: Path) -> dict[str, Path]:
    """The files of comparisons in a folder, or in `comparisons` within it, by their names there.

    Raises:
        PipelineError: If there are none, or of both layouts, whose rows would count twice.
    """
    home = folder / "comparisons" if (folder / "comparisons").is_dir() else folder
    files = sorted(file for file in home.rglob("*") if file.suffix in JSON + PARQUET and file.is_file())
    layouts = {file.suffix in PARQUET for file in files}
    if len(layouts) == 1:
        return {file.relative_to(home).as_posix(): file for file in files}
    got = ("both" if layouts else "neither") if folder.is_dir() else f"no folder at {folder}"
    raise PipelineError(
        "summarize.source must be hub, or a folder of OpenAI's comparisons/*.json files or of the hub's "
        f"converted comparisons/**/*.parquet, got {source!r}: {got}"
    )


def prepare(params: "AllParams", files: dict[str, Path], out: Path) -> dict[str, int]:
    """Read all comparisons, place them as the protocol says, and write items, pairs and notes.

    Raises:
        PipelineError: If a row is no comparison, or the protocol leaves nothing to train or to test on.
    """
    options = params.summarize.prepare
    frame, axis_files = read(files)
    placed = protocols.apply(options.protocol, frame, params.prepare.seed)
    for note in placed.notes:
        print(f"prepare@summarize: {note}")
    n_read = len(frame)
    present = set(placed.rows.select("users", "split").unique().iter_rows())
    for users, split in NEEDED:
        if (users, split) not in present:
            raise PipelineError(
                f"protocol {options.protocol} must leave {split} comparisons of {users} users, got none: it "
                f"keeps {len(placed.rows):,} of the {n_read:,} comparisons read; give summarize.source all "
                f"files, or choose another summarize.prepare.protocol in {paths.PARAMS}"
            )
    first = pl.col("choice") == 0
    rows = placed.rows.select(
        "worker",
        "prompt",
        pl.when(first).then("text_0").otherwise("text_1").alias("chosen"),
        pl.when(first).then("text_1").otherwise("text_0").alias("rejected"),
        "users",
        "split",
        "group",
    )
    write(rows, options.item, out)
    write_json(out / NOTES, placed.notes)
    placed.dropped = {reason: n for reason, n in placed.dropped.items() if n}
    counts = placed.counts()
    counts["duplicates"] = len(rows) - rows.select("worker", "prompt", "chosen", "rejected").n_unique()
    counts["identical_summaries"] = int((rows["chosen"] == rows["rejected"]).sum())
    if options.protocol == "iclr_simulated":
        counts["answers_simulated_by_length"] = len(rows)
    return counts | ({"axis_files_ignored": axis_files} if axis_files else {})


def write(rows: pl.DataFrame, item: Literal["response", "joint"], out: Path) -> None:
    """Write the tables of items and pairs.

    `rows` has worker, prompt, chosen and rejected (texts), users, split and group. A response is the summary
    alone, or with `joint` the summary, an empty line and the post.
    """
    sides = {side: pl.col(side) for side in ("chosen", "rejected")}
    if item == "joint":
        sides = {side: pl.concat_str(side, "prompt", separator="\n\n") for side in sides}
    texts = rows.select("prompt", **sides)
    items = tables.text_items(pl.concat([texts[name] for name in texts.columns]).unique().to_list())
    tables.write_table(out / tables.ITEMS, items)
    ids = texts.select(pl.all().replace_strict(items["text"], items["item_id"]))
    frame = rows.rename({"worker": "user_id"}).with_columns(
        *ids, pair_id=pl.int_range(pl.len()), label=pl.lit(1.0)
    )
    tables.write_table(out / tables.PAIRS, frame)


def read(files: dict[str, Path]) -> tuple[pl.DataFrame, int]:
    """Read all files.

    Returns:
        The comparisons, one row each: worker, batch, split (train or validation), post (Reddit) or article
        (CNN/DM), text_0, policy_0, text_1, policy_1 and choice, the preferred summary's number; sorted by
        content, so that what is drawn from them does not depend on the files' paths. And how many files hold
        ratings along axes, which are ignored.

    Raises:
        PalError: Naming the file and the row of the first that is no comparison.
    """
    frames, n_axis_files = [pl.DataFrame(schema=SCHEMA)], 0
    for file in files.items():
        with opened(*file) as rows:
            if rows is None:
                n_axis_files += 1
                continue
            values = map(_values, rows)
            while chunk := list(islice(values, CHUNK)):
                frames.append(pl.DataFrame(chunk, schema=SCHEMA, orient="row"))
    frame = pl.concat(frames)
    if frame.is_empty():
        raise PipelineError(
            f"summarize.source must hold at least one comparison, got {n_axis_files} files of axis ratings "
            f"and {len(files) - n_axis_files} files without rows; name the folder of OpenAI's comparisons"
        )
    return frame.sort(frame.columns), n_axis_files


@contextmanager
def opened(name: str, path: Path) -> Iterator[Iterator[Cells] | None]:
    """The rows of a file of comparisons; None for one of axis ratings.

    Raises:
        PalError: If it holds neither, by its first row or its schema.
    """
    with open_table(path, name) as table:
        rows = iter(table.rows)
        keys = table.columns
        if keys is None:  # of JSON, where each row has its own
            first = next(rows, None)
            if first is None:
                raise table.no_rows()
            keys, rows = list(first.cells), chain([first], rows)
        if "summaries" not in keys and "summary" not in keys:
            raise PipelineError(f"{name} must have 'summaries', got {shorten(', '.join(map(repr, keys)))}")
        yield rows if "summaries" in keys else None


def _values(cells: Cells) -> tuple[Any, ...]:
    """A row's values in the order of `SCHEMA`."""
    try:
        row = Row.model_validate(cells.cells)
    except ValidationError as error:
        raise PipelineError(f"{cells.place}: {explain(error)[:200]}") from None
    info, (first, second) = row.info or Info(), row.summaries
    sides = (first.text, first.policy, second.text, second.policy)
    return (row.worker, row.batch, SPLITS[row.split], info.post, info.article, *sides, row.choice)
