"""TL;DR: workers said which of two summaries of a post is better (openai/summarize_from_feedback).

A protocol says who is seen, whose rows count and who answered. The prompt is the post, or the article where
there is no post (CNN/DM rows, in the protocols that use them). The response is the summary alone, or the
summary followed by the post as one text: in that order, since encoders cut what is too long at its end, and
what sets two responses to one post apart must not be cut.
"""

from pathlib import Path
from typing import TYPE_CHECKING, Literal

from pal.config import Config
from pal.files import write_json
from pipeline import paths as layout
from pipeline.datasets.base import DatasetParams, HubFiles, Remote, Source
from pipeline.datasets.summarize import files as summarize_files
from pipeline.datasets.summarize import protocols as summarize_protocols
from pipeline.errors import PipelineError
from pipeline.storage import tables

if TYPE_CHECKING:
    import polars as pl

    from pipeline.params import Params as AllParams

TITLE = "Summaries (TL;DR)"
ABOUT = "TL;DR: which of two summaries of a post from Reddit a worker preferred."
ITEMS_APART = False
NOTES = "notes.json"
_PLACES = (("seen", "train"), ("seen", "test"), ("unseen", "adapt"), ("unseen", "test"))


class Prepare(Config):
    """Which of the published protocols on TL;DR, and what is encoded as a response (D10, D11)."""

    protocol: Literal["stiennon", "li2024", "iclr_simulated", "lore"]
    item: Literal["response", "joint"]


class Params(DatasetParams):
    """The section summarize of params.yaml."""

    hub: HubFiles
    prepare: Prepare


def find(params: "AllParams") -> Source:
    """A folder's files, or what to fetch from the hub; the words say where answers are simulated.

    Raises:
        PipelineError: If the folder has no comparisons.
    """
    simulated = params.summarize.prepare.protocol == "iclr_simulated"
    answers = "; answers simulated by length" if simulated else ""
    source = params.summarize.source
    if source == "hub":
        repo, revision = params.summarize.hub.repo, params.summarize.hub.revision
        # The halves' files have the same names, 0000.parquet, in folders; once they were in one folder.
        remotes = [
            Remote(repo, revision, [f"comparisons/*{split}*.parquet"], prefix=f"{split}-")
            for split in ("train", "validation")
        ]
        return Source(f"hub: {repo} at {revision}{answers}", remotes=remotes)
    folder = layout.project_root() / Path(source).expanduser()
    if not folder.is_dir():
        raise PipelineError(
            f"summarize.source in {layout.PARAMS} must be hub, or an existing folder of OpenAI's "
            f"comparisons/*.json files or of the hub's converted Parquet, got {source!r}, "
            f"looked for at {folder}"
        )
    paths = summarize_files.find(source, folder)

    def check() -> None:
        for name, path in paths.items():
            summarize_files.look(name, path)

    return Source(f"folder: {source}{answers}", paths, check=check)


def prepare(params: "AllParams", files: dict[str, Path], out: Path) -> dict[str, int]:
    """Read all comparisons, place them as the protocol does, and write items, pairs and notes.

    Raises:
        PipelineError: If a row is no comparison, or the protocol leaves nothing to train or to test on.
    """
    knobs = params.summarize.prepare
    read = summarize_files.read(files)
    placed = summarize_protocols.apply(knobs.protocol, read.frame, params.prepare.seed)
    for note in placed.notes:
        print(f"prepare@summarize: {note}")
    _check_places(knobs.protocol, placed.rows, len(read.frame))
    rows = _chosen_first(placed.rows)
    write(rows, knobs.item, out)
    write_json(out / NOTES, placed.notes)
    counts = {"read": len(read.frame), "kept": len(rows), "dropped": len(read.frame) - len(rows)}
    counts |= {reason: n for reason, n in placed.dropped.items() if n}
    same = rows.select("worker", "prompt", "chosen", "rejected")
    counts["duplicates"] = len(rows) - same.n_unique()
    counts["identical_summaries"] = int((rows["chosen"] == rows["rejected"]).sum())
    if knobs.protocol == "iclr_simulated":
        counts["answers_simulated_by_length"] = len(rows)
    return counts | ({"axis_files_ignored": read.axis_files} if read.axis_files else {})


def _check_places(protocol: str, rows: "pl.DataFrame", read: int) -> None:
    there = set(rows.select("users", "split").unique().iter_rows())
    for users, split in _PLACES:
        if (users, split) not in there:
            raise PipelineError(
                f"protocol {protocol} must leave {split} comparisons of {users} users, got none: it keeps "
                f"{len(rows):,} of the {read:,} comparisons read; give summarize.source all files, or choose "
                f"another summarize.prepare.protocol in {layout.PARAMS}"
            )


def _chosen_first(rows: "pl.DataFrame") -> "pl.DataFrame":
    import polars as pl

    first = pl.col("choice") == 0
    return rows.select(
        "worker",
        "prompt",
        pl.when(first).then(pl.col("text_0")).otherwise(pl.col("text_1")).alias("chosen"),
        pl.when(first).then(pl.col("text_1")).otherwise(pl.col("text_0")).alias("rejected"),
        "users",
        "split",
        "group",
    )


def write(rows: "pl.DataFrame", item: Literal["response", "joint"], out: Path) -> None:
    """Write the tables of items and pairs.

    Args:
        rows: worker, prompt, chosen, rejected (texts), users, split and group.
        item: What a response is: the summary alone, or `joint_text` of it and its post.
        out: The folder.
    """
    import polars as pl

    sides = ("chosen", "rejected")
    prompts = _with_ids(rows.select(text="prompt").unique())
    pairs = [rows.select("prompt", summary=side) for side in sides]
    summaries = pl.concat(pairs).unique()
    text = pl.col("summary") if item == "response" else joint_text(pl.col("summary"), pl.col("prompt"))
    responses = _with_ids(summaries.with_columns(text=text))
    items = pl.concat([prompts, responses.select("text", "item_id")]).unique("item_id").sort("item_id")
    tables.write_table(out / tables.ITEMS, items.with_columns(modality=pl.lit("text")), tables.items_schema())
    ids_of = responses.drop("text")
    ids = [
        pairs[n].join(ids_of, on=["prompt", "summary"], maintain_order="left")["item_id"].alias(side)
        for n, side in enumerate(sides)
    ]
    prompt = rows.select(text="prompt").join(prompts, on="text", maintain_order="left")["item_id"]
    frame = rows.rename({"worker": "user_id"}).with_columns(
        *ids, prompt.alias("prompt"), pair_id=pl.int_range(pl.len()), label=pl.lit(1.0)
    )
    tables.write_table(out / tables.PAIRS, frame, tables.pairs_schema())


def joint_text(summary: "pl.Expr", prompt: "pl.Expr") -> "pl.Expr":
    """Summary and post as one text: the summary, an empty line, the post."""
    import polars as pl

    return pl.concat_str(summary, prompt, separator="\n\n")


def _with_ids(frame: "pl.DataFrame") -> "pl.DataFrame":
    """The frame with the item ids of its column `text`; one text at a time, since all of them are large."""
    import polars as pl

    return frame.with_columns(
        item_id=pl.Series([tables.text_id(text) for text in frame["text"]], dtype=pl.String)
    )
