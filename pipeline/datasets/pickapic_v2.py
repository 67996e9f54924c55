"""Pick-a-Pic v2, and which of its test comparisons version 1 trained or validated on.

PAL reports 10,587 of the 18,391 untied test comparisons as overlapping with v1's train and validation, and
nowhere says by what: here by whether v1 compared the same two pictures.
"""

from dataclasses import replace
from pathlib import Path
from typing import Literal

import polars as pl

from pipeline.datasets import base, pickapic

TITLE = "Pick-a-Pic, version 2"
ABOUT = (
    "Pick-a-Pic, version 2: people asked for a picture in words, and said which of two they preferred. "
    "Its test set in part repeats what version 1 trained on."
)
ITEMS_APART = False
V1 = "v1/"
OVERLAPS = ("train", "validation")
PUBLISHED = {"leakage": 10_587, "no_leakage": 7_804}


class Prepare(pickapic.Prepare):
    """Version 2 contains test comparisons that version 1 trained on: whether they are told apart."""

    leakage: Literal["derive", "skip"]


class Params(base.DatasetParams):
    """The section pickapic_v2 of params.yaml."""

    hub: base.HubFiles
    prepare: Prepare


def find(params: "base.AllParams") -> base.Source:
    """The hub's files, or links to those in the folder; with them v1's tables, where they are needed."""
    remote = pickapic.from_hub(params.pickapic_v2.hub)
    v2 = pickapic.source_of(params.pickapic_v2.source, "pickapic_v2.source", remote, "Pick-a-Pic v2")
    if params.pickapic_v2.prepare.leakage == "skip":
        return v2
    source = params.pickapic_v1.source
    if source == "hub":
        v1 = pickapic.from_hub(params.pickapic_v1.tables, OVERLAPS, V1)
        return replace(v2, remotes=[*v2.remotes, v1])
    links = pickapic.from_folder(source, "pickapic_v1.source", OVERLAPS, V1)

    def check() -> None:
        pickapic.check(v2.links, pixels=True)
        pickapic.check(links, pixels=False)

    return replace(v2, links={**v2.links, **links}, check=check)


def prepare(params: "base.AllParams", files: dict[str, Path], out: Path) -> dict[str, int]:
    """Write items and pairs, and what overlaps with v1 beside the published numbers."""
    options = params.pickapic_v2.prepare
    v1 = {name: path for name, path in files.items() if name.startswith(V1)}
    v2 = {name: path for name, path in files.items() if name not in v1}
    kept, images = pickapic.load(v2, ties=options.ties)
    rows, said = pickapic.place(kept.rows, options.unseen_users, params.prepare.seed), []
    if options.leakage == "derive":
        rows, overlap = mark_leakage(rows, pickapic.read(v1, pixels=False))
        said.append(overlap)
    pickapic.write_notes(out, "v2", v2, *said)
    return kept.counts() | pickapic.write(rows, images, out)


def mark_leakage(rows: pl.DataFrame, v1: pl.DataFrame) -> tuple[pl.DataFrame, str]:
    """Call test comparisons of two pictures that v1 compared leakage, and say in a sentence how many are."""
    ends = (pl.min_horizontal("uid_0", "uid_1"), pl.max_horizontal("uid_0", "uid_1"))
    both = pl.concat_str(*ends, separator="|").alias("both")
    known = v1.select(both)["both"].drop_nulls().unique()
    word = pl.when(both.is_in(known.implode()).fill_null(value=False)).then(pl.lit("leakage"))
    word = word.otherwise(pl.lit("no_leakage"))
    rows = rows.with_columns(test=pl.when(pl.col("test") == "test").then(word).otherwise("test"))
    tested = rows.filter(pl.col("label") != 0.5)["test"]
    counts = {name: int((tested == name).sum()) for name in PUBLISHED}
    says = "{leakage:,} of the untied test comparisons overlap with v1 and {no_leakage:,} do not"
    published = "as published" if counts == PUBLISHED else f"published was: {says.format(**PUBLISHED)}"
    return rows, f"{says.format(**counts)}{',' if counts == PUBLISHED else ';'} {published}."
