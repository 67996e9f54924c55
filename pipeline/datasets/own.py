"""Your own comparisons: who preferred which response to what, as any log that `pal fit` reads.

`docs/logs.md` says which files, shapes and names of columns are read, `docs/own-data.md` what else, and
`pal/logs/answers.py` how vectors are given. Pictures are read where they lie; bytes in cells are copied to
the store. Rows that cannot be used are counted, and listed in `data/prepared/own/rejected-rows.csv`.
"""

import hashlib
import re
from collections.abc import Iterator
from dataclasses import replace
from functools import partial
from pathlib import Path
from types import SimpleNamespace
from typing import Annotated, Any, Literal

import numpy as np
import polars as pl
import pyarrow as pa
from pydantic import AfterValidator, Field

from pal import encoders
from pal.config import Config
from pal.conversations import template_of
from pal.errors import PalError
from pal.evaluation.holding_out import Shares
from pal.files import write_bytes, write_json, write_text
from pal.logs import answers as logs
from pal.logs.read import HUB, Files, find_files, find_preset, hub_parts
from pal.logs.shapes import Log, read_log
from pipeline import PipelineError
from pipeline.datasets import base
from pipeline.paths import ATTRIBUTES, HABITS, PARAMS, project_root
from pipeline.storage.tables import ITEMS, PAIRS, write_table

TITLE = "Your own comparisons"
ABOUT = "Comparisons that you supplied: which of two responses a user preferred."
ITEMS_APART = True
REJECTED = "rejected-rows.csv"
PAIRS_AT_ONCE = 1 << 18
ITEMS_AT_ONCE = 65_536  # items of a block, since Arrow counts the numbers in lists in 31 bits
OPTION = re.compile(r"--(columns|values)(?=( {)?)")
LISTED = re.compile(r"'(\w+=[^',]*(?:,\w+=[^',]*)*)'")  # 'user_id=rater,prompt=task'
Modality = Literal["text", "image", "vector"]


def _is_item(item: str) -> str:
    template_of(item)
    return item


class Prepare(Config):
    """How one's own comparisons are read."""

    columns: dict[str, str] | None
    values: dict[str | int | float, str] | None
    attributes: list[base.Text] = Field(default_factory=list)
    user_ids: Literal["as_given", "normalised"]
    ties: Literal["drop", "keep"]
    prompts: Modality | None
    responses: Modality | None
    item: Annotated[base.Text, AfterValidator(_is_item)]


class Params(base.DatasetParams):
    """The section own of params.yaml."""

    source: base.Text | None
    vectors: base.Text | None
    prepare: Prepare
    split: Shares


def named(name: str) -> Any:
    """The same for a data set of one's own under another name: a section of params.yaml with `like: own`."""
    calls = {"find": partial(find, name=name), "prepare": partial(prepare, name=name)}
    return SimpleNamespace(Params=Params, TITLE=f"{TITLE}: {name}", ABOUT=ABOUT, ITEMS_APART=True, **calls)


def find(params: "base.AllParams", name: str = "own") -> base.Source:
    """The user's files: those of the log, and the pictures or the vectors that it names."""
    own = params[name]
    if own.source is None:
        raise PipelineError(
            f"{name}.source in {PARAMS} must name a file, a folder, a glob or a public data set, got null; "
            f"set it, or take {name} out of datasets"
        )
    about, (_, place) = f"{name}: {own.source}", find_preset(own.source)
    if place.startswith(HUB):
        repo, revision, below = hub_parts(place)
        remote = base.Remote(repo, revision, [f"{below}/"])
        return base.Source(about, remotes=[remote], make=partial(_write_pictures, own, name))
    vectors: dict[str, Path] = {}
    if own.vectors and {own.prepare.prompts, own.prepare.responses} & {"vector", None}:
        vectors = logs.find_vectors(project_root() / Path(own.vectors).expanduser())
    files = find_files(place, project_root(), vectors.values())
    log = _read(files, own, name)
    pictures: dict[str, Path] = {}
    for half, sides in logs.HALVES.items():
        wanted = getattr(own.prepare, half)
        if logs.modality_of([log.pairs[side] for side in sides], wanted, set()) == "image":
            pictures |= logs.find_pictures(log, list(sides))
    make = partial(_write_pictures, own, name) if pl.Binary in log.pairs.dtypes else None
    check = partial(_check, log, vectors, pictures, params, name)
    return base.Source(about, files.paths, {**pictures, **vectors}, make=make, check=check)


def prepare(params: "base.AllParams", files: dict[str, Path], out: Path, name: str = "own") -> dict[str, int]:
    """Read all files, and write items, pairs and the rows that were left out."""
    own = params[name]
    tables, vectors, pictures = _by_kind(files)
    log = _read(tables, own, name)
    for line in log.summary().splitlines():
        print(f"prepare@{name}: {line}")
    answers = _answers(log, own, vectors=vectors, pictures=pictures, sha256=lambda path: path.name)
    write_text(out / REJECTED, answers.rejected.write_csv())
    if own.prepare.attributes:
        write_json(out / ATTRIBUTES, logs.attributes_of_people(log.attributes, log.pairs["user_id"]))
    del log  # its cells take more memory than all that is written
    answers.habits.write_parquet(out / HABITS)
    write_tables(answers, out)
    return answers.counts


def _read(files: Files, own: Params, name: str) -> Log:
    options, files = own.prepare, replace(files, source=str(own.source))
    values = {str(value): side for value, side in (options.values or {}).items()}

    def as_map(listed: re.Match) -> str:
        parts = (part.split("=", 1) for part in listed[1].split(","))
        return "{" + ", ".join(f"{key}: {value or repr('')}" for key, value in parts) + "}"

    try:
        return read_log(
            files, options.columns, values=values, ties=options.ties, attributes=options.attributes,
            user_ids=options.user_ids,
        )  # fmt: skip
    except PalError as error:
        # Advice on the command line's options becomes advice on the keys of params.yaml.
        said = LISTED.sub(as_map, str(error))
        said = OPTION.sub(lambda match: f"{name}.prepare.{match[1]}{':' * bool(match[2])}", said)
        error.args = (said,)
        raise


def _answers(log: Log, own: Params, **found: object) -> logs.Answers:
    given = own.prepare
    halves = {"prompts": given.prompts, "responses": given.responses}
    return logs.read_answers(log, ties=given.ties, template=own.template, **halves, **found)


def _write_pictures(own: Params, name: str, folder: Path, files: dict[str, Path]) -> None:
    """Pictures that are bytes in cells as files, by their sha256."""
    log = _read(_by_kind(files)[0], own, name)
    for side in logs.SIDES:
        if log.pairs[side].dtype == pl.Binary:
            for data in log.pairs[side].unique():
                write_bytes(folder / hashlib.sha256(data).hexdigest(), data)


def _by_kind(files: dict[str, Path]) -> tuple[Files, dict[str, Path], dict[str, Path]]:
    """The files of the log, those of vectors, and pictures; those that were bytes are none of these."""
    pictures = {file: path for file, path in files.items() if file.lower().endswith(logs.IMAGE_SUFFIXES)}
    others = {file: path for file, path in files.items() if file not in pictures and file != path.name}
    vectors = {file: path for file, path in others.items() if file.startswith(logs.FOLDER)}
    tables = {file: path for file, path in others.items() if file not in vectors}
    return Files(tables, "", Path()), vectors, pictures


def write_tables(answers: logs.Answers, folder: Path) -> None:
    """Write items and pairs; a user with an adapt row is unseen, without a split the stage split decides."""
    write_table(folder / ITEMS, _item_blocks(answers))
    unseen = (pl.col("split") == "adapt").any().over("user_id")
    users = pl.when(unseen).then(pl.lit("unseen")).otherwise(pl.lit("seen"))
    pairs = answers.pairs.with_row_index("pair_id").select(
        pl.col("pair_id").cast(pl.Int64), "user_id", *logs.SIDES, "label", "split", time="timestamp",
        users=pl.when(pl.col("split").is_not_null()).then(users),
        weight=pl.when(pl.col("weight") > 1).then("weight").cast(pl.Float32),  # null stands for 1
    )  # fmt: skip
    write_table(folder / PAIRS, _pair_blocks(pairs, answers))


def _pair_blocks(pairs: pl.DataFrame, answers: logs.Answers) -> Iterator[pa.Table]:
    """The pairs some at a time, with the ids of their items."""
    for block in pairs.iter_slices(PAIRS_AT_ONCE):
        columns = {name: block[name].to_arrow() for name in block.columns if name not in logs.SIDES}
        for modality, items in answers.items.items():
            for side in answers.sides_of(modality):
                used, index = np.unique(block[side].to_numpy(), return_inverse=True)
                names = pa.array(items.ids[used]).cast(pa.string())
                columns[side] = pa.DictionaryArray.from_arrays(index.astype(np.int32), names)
        yield pa.table(columns)


def _item_blocks(answers: logs.Answers) -> Iterator[pa.Table]:
    """The items that pairs name, some at a time."""
    for modality, items in answers.items.items():
        used = answers.used(modality)
        for rows in np.split(used, range(ITEMS_AT_ONCE, len(used), ITEMS_AT_ONCE)):
            ids = pa.array(items.ids[rows]).cast(pa.string())
            columns = {"item_id": ids, "modality": pa.array([modality] * len(rows))}
            if modality == "text":
                columns["text"] = items.contents[rows].to_arrow().cast(pa.string())
            elif modality == "image":
                columns["file"] = pa.array([items.files[row] for row in rows])
            else:
                width = items.contents.shape[1]
                offsets = np.arange(len(rows) + 1, dtype=np.int32) * width
                columns["vector"] = pa.ListArray.from_arrays(offsets, items.contents[rows].ravel())
            yield pa.table(columns)


def _check(
    log: Log, vectors: dict[str, Path], pictures: dict[str, Path], params: "base.AllParams", name: str
) -> list[str]:
    """Hold the log to what later stages need of it; sentences on what people should know of it."""
    own = params[name]
    # Before download, paths tell files apart.
    answers = _answers(log, own, vectors=vectors, pictures=pictures, sha256=str)
    if own.split.by == "time" and answers.pairs["split"].is_null().all():
        empty = log.pairs["timestamp"].is_null()
        if empty.all():
            raise PipelineError(
                f"{name}.split.by is time, which needs a column timestamp; add one, or set it to items",
                column="timestamp",
            )
        log.refuse("timestamp", empty, f"is empty or no time, which {name}.split.by: time does not allow")
    for half, modality in answers.modality.items():
        encoder = own.encoder_of(modality or "")
        reads = encoders.modalities(encoder)
        if modality not in (None, "vector") and reads and modality not in reads:
            raise PipelineError(
                f"{name}.encoder in {PARAMS} must read what {half} are, {modality} ({name}.prepare.{half}), "
                f"got {encoder!r}, which reads {' and '.join(reads)}; name another, or one per modality"
            )
    texts = answers.items["text"].contents if "text" in answers.items else []
    if params.encode.on_bad_item == "fail":
        for text, fault in ((text, fault) for text in texts if (fault := encoders.complaint(text))):
            for side in logs.SIDES:
                advice = "mend it, or set encode.on_bad_item to skip"
                log.refuse(side, log.pairs[side] == text, f"{fault}, got {{got}}; {advice}")
    return [*(said for said in log.said if said.startswith("warning:")), *_check_model(answers, params, name)]


def _check_model(answers: logs.Answers, params: "base.AllParams", name: str) -> list[str]:
    """Hold the model to the data's prompts and users, and say what was decided by the data."""
    own = params[name]
    rows, shares, said = answers.pairs, own.split, []
    n = rows.group_by("user_id").agg(pl.len(), train=(pl.col("split") == "train").any())
    if rows["split"].is_not_null().any():
        said.append(f"the file's column split says who trains and who is tested; {name}.split is not used")
        n_seen = int(n["train"].sum())
    else:
        n_users = len(n.filter(pl.col("len") >= shares.min_pairs))
        n_seen = n_users - shares.n_unseen(n_users)
        if not 0 < n_seen < n_users:
            raise PipelineError(
                f"{name}.split.unseen_users must leave at least one user seen and one unseen, got "
                f"{shares.unseen_users} of {n_users} users with at least {shares.min_pairs} pairs; add users "
                "or change the share"
            )
    K = params.model.K
    if K != "auto" and n_seen < K:
        raise PipelineError(
            f"model.K must be at most {n_seen}, the seen users of {name}, got {K}; lower it or add users"
        )
    if own.method is None and answers.modality["prompts"] is None:
        from pal.models.base import make_model

        head, _ = params.configs(name, prompts=False)
        try:
            make_model(head, prompt_dim=0, response_dim=1)
        except PalError as error:
            raise PipelineError(f"{name}.head.{error} (in {PARAMS})") from None
        if own.head.get("model") is None:
            reads = f"{name}.head.model is {head.model}, which reads responses alone"
            said.append(f"there are no prompts, so that {reads}")
    return said
