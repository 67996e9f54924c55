"""TL;DR: workers said which of two summaries of a post is better (openai/summarize_from_feedback).

The prompt is the post, or the article where there is no post (CNN/DM rows, in the protocols that use them).
The response is the summary alone, or the summary followed by the post as one text: in that order, since
encoders cut long texts at their end, and what sets two responses to one post apart must not be cut.

OpenAI's raw JSON lines and the hub's converted Parquet are read into the same frame. A published protocol, a
pure function of the frame and a seed, says which comparisons take part, whose users are seen, and who
answered; figures of different ones must never be mixed:

stiennon        PAL against Stiennon et al.: all comparisons; users in training are seen
li2024          PAL against Li et al.: supervised policies; the ten busiest workers are seen
iclr_simulated  the same rows as the PAL authors' code has them, answers simulated by the summaries' length
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from itertools import chain, islice
from pathlib import Path
from typing import Annotated, Any, Literal

import numpy as np
import polars as pl
from pydantic import AfterValidator, BaseModel, Field, ValidationError

from pal.config import Config, explain
from pal.errors import shorten
from pal.files import write_json
from pal.logs.tables import Row as Cells
from pal.logs.tables import open_table
from pipeline import PipelineError, paths
from pipeline.datasets import base
from pipeline.storage import tables

TITLE = "Summaries (TL;DR)"
ABOUT = "TL;DR: which of two summaries of a post from Reddit a worker preferred."
ITEMS_APART = False
JSON, PARQUET = (".json", ".jsonl"), (".parquet",)
CHUNK = 10_000  # rows turned into a frame at once, which bounds memory
# OpenAI's words for a row's split. The hub mixes valid1 and valid2, and has no comparisons of test.
SPLITS = {"train": "train", "valid1": "validation", "valid2": "validation", "test": "test"}
TEXTS = ("worker", "batch", "split", "post", "article", "text_0", "policy_0", "text_1", "policy_1")
SCHEMA = {**dict.fromkeys(TEXTS, pl.String), "choice": pl.Int8}
NEEDED = (("seen", "train"), ("seen", "test"), ("unseen", "adapt"), ("unseen", "test"))
BOTH_SPLITS = ("train", "validation")
SEEN_WORKERS = 10
# iclr_simulated: these of the ten busiest workers, counted from 0, prefer the shorter summary.
SHORTER_RANKS = (3, 4, 5)
# iclr_simulated: unseen workers have at least so many rows; 9 of the authors' 31 prefer the shorter summary.
UNSEEN_ROWS, SHORTER_OF, UNSEEN_USERS = 100, 9, 31
GROUPS = ("prefers longer (simulated)", "prefers shorter (simulated)")
# The published sizes of the real data, and of what the protocols leave of it.
FULL = {"train": 92_858, "validation": 86_086}
OF_SEEN = {
    f"{split} comparisons of seen users": n
    for split, n in (("train", 20_969), ("val", 2_330), ("test", 4_921))
}
PUBLISHED: dict[str, dict[str, int]] = {
    "stiennon": {},
    "li2024": {
        "training rows of supervised policies": 38_487, "validation rows of supervised policies": 16_294,
        **OF_SEEN, "test comparisons of unseen users": 11_373,
    },
    "iclr_simulated": {**OF_SEEN, "unseen users": 31},
}  # fmt: skip
# Half a surrogate pair, which JSON can hold and UTF-8 cannot, is refused.
Text = Annotated[str, AfterValidator(lambda text: text.encode().decode())]
Divide = Callable[[pl.DataFrame, np.random.Generator], pl.DataFrame]  # rows to rows with their split


class Prepare(Config):
    """Which of the published protocols on TL;DR, and what is encoded as a response (D10, D11)."""

    protocol: Literal["stiennon", "li2024", "iclr_simulated"]
    item: Literal["response", "joint"]


class Params(base.DatasetParams):
    """The section summarize of params.yaml."""

    hub: base.HubFiles
    prepare: Prepare


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


def find(params: "base.AllParams") -> base.Source:
    """The files of a folder, or what to fetch from the hub; the words say where answers are simulated."""
    simulated = params.summarize.prepare.protocol == "iclr_simulated"
    answers = "; answers simulated by length" if simulated else ""
    source = params.summarize.source
    if source == "hub":
        repo, revision = params.summarize.hub.repo, params.summarize.hub.revision
        # Both splits' files have the same names, 0000.parquet, in folders of their own.
        remotes = [
            base.Remote(repo, revision, [f"comparisons/*{split}*.parquet"], prefix=f"{split}-")
            for split in ("train", "validation")
        ]
        return base.Source(f"hub: {repo} at {revision}{answers}", remotes=remotes)
    files = find_files(source, paths.project_root() / Path(source).expanduser())

    def check() -> None:
        for file in files.items():
            with opened(*file):
                pass

    return base.Source(f"folder: {source}{answers}", files, check=check)


def find_files(source: str, folder: Path) -> dict[str, Path]:
    """The files of comparisons in a folder, or in `comparisons` within it, of one layout, by name."""
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


def prepare(params: "base.AllParams", files: dict[str, Path], out: Path) -> dict[str, int]:
    """Read all comparisons, place them as the protocol says, and write items, pairs and notes."""
    options = params.summarize.prepare
    frame, axis_files = read(files)
    placed = apply(options.protocol, frame, params.prepare.seed)
    for note in placed.notes:
        print(f"prepare@summarize: {note}")
    present = set(placed.rows.select("users", "split").unique().iter_rows())
    for users, split in NEEDED:
        if (users, split) not in present:
            raise PipelineError(
                f"protocol {options.protocol} must leave {split} comparisons of {users} users, got none: it "
                f"keeps {len(placed.rows):,} of the {len(frame):,} comparisons read; give summarize.source "
                f"all files, or choose another summarize.prepare.protocol in {paths.PARAMS}"
            )
    first = pl.col("choice") == 0
    rows = placed.rows.select(
        "prompt", "users", "split", "group", user_id="worker", label=pl.lit(1.0),
        chosen=pl.when(first).then("text_0").otherwise("text_1"),
        rejected=pl.when(first).then("text_1").otherwise("text_0"),
    ).with_row_index("pair_id")  # fmt: skip
    # A response is the summary alone, or with `joint` the summary, an empty line and the post.
    joint = {side: pl.concat_str(side, "prompt", separator="\n\n") for side in tables.SIDES}
    texts = rows.select("prompt", *tables.SIDES).with_columns(**joint if options.item == "joint" else {})
    items = tables.text_items(pl.concat([texts[name] for name in texts.columns]).unique().to_list())
    tables.write_table(out / tables.ITEMS, items)
    ids = texts.select(pl.all().replace_strict(items["text"], items["item_id"]))
    tables.write_table(out / tables.PAIRS, rows.with_columns(*ids))
    write_json(out / paths.NOTES, placed.notes)
    placed.dropped = {reason: n for reason, n in placed.dropped.items() if n}
    counts = placed.counts()
    counts["duplicates"] = len(rows) - rows.select("user_id", "prompt", *tables.SIDES).n_unique()
    counts["identical_summaries"] = int((rows["chosen"] == rows["rejected"]).sum())
    if options.protocol == "iclr_simulated":
        counts["answers_simulated_by_length"] = len(rows)
    return counts | ({"axis_files_ignored": axis_files} if axis_files else {})


def read(files: dict[str, Path]) -> tuple[pl.DataFrame, int]:
    """Read all files: the comparisons in the columns of SCHEMA, and how many files hold ratings along axes.

    A row has a post (Reddit) or an article (CNN/DM), and as choice the preferred summary's number. Sorted by
    content, so that what is drawn does not depend on paths; the first that is no comparison is refused.
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
    """The rows of a file of comparisons, by its first row or its schema; None for one of axis ratings."""
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


@dataclass
class Placed(base.Kept):
    """What a protocol leaves of the comparisons: the frame's columns, and prompt, users, split and group."""

    sizes: dict[str, int] = field(default_factory=dict)  # row counts, by the names of PUBLISHED
    notes: list[str] = field(default_factory=list)  # what a reader of the results must know


def stiennon(placed: Placed, rng: np.random.Generator) -> None:
    """Seen users: everybody in training; unseen: who is in validation alone, half adapt, half test."""
    _keep_complete(placed, "post", "article")
    seen = placed.rows.filter(split="train")["worker"].unique().to_list()
    placed.rows = _divide(placed.rows, seen, _halve, rng)
    placed.notes.append(
        "Protocol stiennon: workers with training comparisons are seen, and one in ten of these comparisons "
        "chooses the epoch; workers in validation alone are unseen, half of their comparisons is for shots "
        "and the rest for tests (the paper gives no share)."
    )


def li2024(placed: Placed, rng: np.random.Generator) -> None:
    """Seen users: the ten busiest; unseen: every other validation worker, tested on all validation rows."""
    top = _keep_supervised(placed, without_cnn=True)
    _keep_complete(placed, "post")
    tested = pl.col("split") == "validation"
    placed.keep(pl.col("worker").is_in(top) | tested.any().over("worker"), "dropped_other_workers")
    place = pl.when(tested).then(pl.lit("test")).otherwise(pl.lit("adapt"))
    placed.rows = _divide(placed.rows, top, lambda rows, _: rows.with_columns(split=place), rng)
    placed.notes.append(
        "Protocol li2024: unseen users are tested on all their validation comparisons, as published "
        "(zero-shot); shots are their training comparisons, which the paper does not use, and users without "
        "any stay at zero shots."
    )


def iclr_simulated(placed: Placed, rng: np.random.Generator) -> None:
    """Li et al.'s workers, but the longer summary wins, for some users the shorter; ties: the second one."""
    top = _keep_supervised(placed, without_cnn=False)
    counts = placed.rows.filter(~pl.col("worker").is_in(top), split="validation")["worker"].value_counts()
    unseen = sorted(counts.filter(pl.col("count") >= UNSEEN_ROWS)["worker"].drop_nulls().to_list())
    _keep_complete(placed, "post")
    is_unseen = pl.col("worker").is_in(unseen) & (pl.col("split") == "validation")
    placed.keep(pl.col("worker").is_in(top) | is_unseen, "dropped_other_workers")
    drawn = rng.permutation(np.array(unseen, dtype=object))[: round(len(unseen) * SHORTER_OF / UNSEEN_USERS)]
    shorter = [top[rank] for rank in SHORTER_RANKS if rank < len(top)] + list(drawn)
    prefers_shorter = pl.col("worker").is_in(shorter)
    first, second = (pl.col(text).str.len_chars() for text in ("text_0", "text_1"))
    first_wins = pl.when(prefers_shorter).then(first < second).otherwise(first > second)
    rows = placed.rows.with_columns(
        choice=pl.when(first_wins).then(0).otherwise(1).cast(pl.Int8),
        group=pl.when(prefers_shorter).then(pl.lit(GROUPS[1])).otherwise(pl.lit(GROUPS[0])),
    )
    placed.rows = _divide(rows, top, _halve, rng)
    placed.sizes["unseen users"] = placed.rows.filter(users="unseen")["worker"].n_unique()
    placed.notes += [
        "Answers are simulated by length, nobody gave them: some users prefer the longer summary and the "
        "others the shorter one, and where both are equally long the second one wins.",
        "Protocol iclr_simulated: which unseen users prefer the shorter summary is drawn at random here, "
        f"{SHORTER_OF} of {UNSEEN_USERS} as in the authors' code; half of an unseen user's comparisons is "
        "for shots, the rest for tests.",
    ]


PROTOCOLS = {each.__name__: each for each in (stiennon, li2024, iclr_simulated)}


def apply(protocol: str, frame: pl.DataFrame, seed: int) -> Placed:
    """Place the comparisons as a protocol does, and say whether its row counts are the published ones."""
    placed = Placed(frame.with_columns(group=pl.lit(None, pl.String)))
    PROTOCOLS[protocol](placed, np.random.default_rng(seed))
    places = placed.rows.group_by("users", "split").len().iter_rows()
    placed.sizes |= {f"{split} comparisons of {users} users": n for users, split, n in places}
    got = {name: int((frame["split"] == name).sum()) for name in FULL}
    if got != FULL:
        expected, given = (f"{n['train']:,} training and {n['validation']:,} validation" for n in (FULL, got))
        said = f"These are not the full published comparisons ({expected} rows), but {given} rows."
        placed.notes.append(said)
        return placed
    published = PUBLISHED[protocol]
    wrong = {name: n for name, n in published.items() if placed.sizes.get(name, 0) != n}
    for name, n in wrong.items():
        gives = f"{placed.sizes.get(name, 0):,}"
        placed.notes.append(f"Protocol {protocol} should give {n:,} {name}, as published, but gives {gives}.")
    if published and not wrong:
        placed.notes.append(f"All {len(published)} row counts of protocol {protocol} are the published ones.")
    elif not published:
        full = "These are the full published comparisons"
        placed.notes.append(f"{full}; no row counts of protocol {protocol} are published.")
    return placed


def _keep_complete(placed: Placed, *prompts: str) -> None:
    """Keep rows in the two splits with a worker, both summaries and what they summarise; blank is missing."""
    texts = ("worker", "text_0", "text_1", "post", "article")
    filled = {text: pl.col(text).str.strip_chars() != "" for text in texts}
    placed.keep(pl.col("split").is_in(BOTH_SPLITS), "dropped_other_split")
    placed.keep(filled["worker"], "dropped_without_worker")
    placed.keep(filled["text_0"] & filled["text_1"], "dropped_without_summary")
    given = [pl.when(filled[text]).then(pl.col(text)) for text in prompts]
    placed.rows = placed.rows.with_columns(prompt=pl.coalesce(given))
    placed.keep(pl.col("prompt").is_not_null(), "dropped_without_post")


def _keep_supervised(placed: Placed, *, without_cnn: bool) -> list[str]:
    """Keep comparisons of two supervised policies; return the busiest workers of training, busiest first."""
    for policy in (pl.col("policy_0"), pl.col("policy_1")):
        has = {word: policy.str.contains(word, literal=True) for word in ("sup", "ppo", "cnn")}
        supervised = has["sup"] & ~has["ppo"] & ~(has["cnn"] & pl.lit(value=without_cnn))
        placed.keep(supervised, "dropped_other_policies")
    rows = {name: placed.rows.filter(split=name) for name in BOTH_SPLITS}
    for name, words in (("train", "training"), ("validation", "validation")):
        placed.sizes[f"{words} rows of supervised policies"] = len(rows[name])
    counts = rows["train"]["worker"].drop_nulls().value_counts()
    return counts.sort("count", "worker", descending=[True, False])["worker"].head(SEEN_WORKERS).to_list()


def _divide(
    rows: pl.DataFrame, seen: list[str], place_unseen: Divide, rng: np.random.Generator
) -> pl.DataFrame:
    """Mark seen workers, their validation rows test, one in ten of the others val; and place the unseen."""
    is_seen = pl.col("worker").is_in(seen)
    train = rows.filter(is_seen, split="train")
    train = train.join(one_in_ten(train["worker"]), on="worker", maintain_order="left")
    place = place_in_user(train, rng)
    val = pl.when(place < train["n_val"]).then(pl.lit("val")).otherwise(pl.lit("train"))
    test = rows.filter(is_seen, split="validation").with_columns(split=pl.lit("test"))
    of_seen = pl.concat([train.with_columns(split=val).drop("n_val"), test])
    of_unseen = place_unseen(rows.filter(~is_seen), rng)
    halves = {"seen": of_seen, "unseen": of_unseen}
    return pl.concat([half.with_columns(users=pl.lit(users)) for users, half in halves.items()])


def one_in_ten(workers: pl.Series) -> pl.DataFrame:
    """How many rows of each worker make up a tenth of all, rounded up: worker, n_val.

    What is missing once tenths are cut off comes one by one from the workers who lost most, never the last.
    """
    n_val = (len(workers) + 9) // 10
    counts = workers.value_counts().with_columns(n_val=pl.col("count") // 10, rest=pl.col("count") % 10)
    missing = n_val - int(counts["n_val"].sum())
    only = pl.col("count") == 1
    order = counts.sort(only, pl.col("rest"), "worker", descending=[False, True, False])
    gives = (pl.int_range(pl.len()) < missing) & ~only
    return order.select("worker", pl.col("n_val") + gives.cast(pl.Int64))


def _halve(rows: pl.DataFrame, rng: np.random.Generator) -> pl.DataFrame:
    """Half of each unseen user's rows, rounded down, is adapt, the rest test.

    It is less where a worker answers one question again: all of these rows are tests if any is.
    """
    sides = (pl.col("text_0"), pl.col("text_1"))
    question = ("worker", "prompt", pl.min_horizontal(*sides), pl.max_horizontal(*sides))
    placed = rows.with_columns(place=place_in_user(rows, rng))
    is_adapt = pl.col("place").max().over(question) < pl.len().over("worker") // 2
    split = pl.when(is_adapt).then(pl.lit("adapt")).otherwise(pl.lit("test"))
    return placed.with_columns(split=split).drop("place")


def place_in_user(rows: pl.DataFrame, rng: np.random.Generator) -> pl.Series:
    """Each row's place, from 0, in a random order of its worker's rows in the same split."""
    drawn = rows.select("worker", "split", draw=pl.Series(rng.permutation(len(rows)), dtype=pl.Int64))
    place = pl.col("draw").rank("ordinal").over("worker", "split").cast(pl.Int64) - 1
    return drawn.select(place=place)["place"]
