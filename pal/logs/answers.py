"""A log's comparisons as numbers of items, one for each question that a person answered.

One person's answers to one question (a prompt and two responses, in either order) are one comparison, so that
no answer is trained on while another is tested on.

Items are texts, pictures by their bytes, vectors by their numbers. The same content is one item; texts that
differ in white space or in Unicode's form alone are one, since encoders can hardly tell them apart. A log may
come from somebody else, so no path of a picture leads out of its folder.

Vectors are users' own embeddings by their ids, in one file; nothing is unpickled:

.parquet      columns `id` (text or whole numbers) and `embedding` (lists of numbers, all of one length)
.safetensors  a tensor `embeddings`, (n, width); ids in the metadata under `ids`, as a JSON list of n texts,
              or in a file beside it
.npy          an array (n, width); ids in a file beside it: of `NAME.npy` `NAME.ids.txt`, UTF-8, one id a line
"""

import hashlib
import json
import unicodedata
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path, PurePosixPath
from typing import Any

import numpy as np
import polars as pl
import pyarrow as pa
import pyarrow.parquet as pq
from safetensors import SafetensorError, safe_open

from pal.conversations import joint_text
from pal.encoders.vector_store import image_id, item_id, packed, text_id
from pal.errors import PalError, shorten
from pal.files import sha256_of
from pal.logs.shapes import SAME, TIES_LEFT_OUT, Log, rejected_rows
from pal.logs.tables import IMAGE_SUFFIXES, file_error, readable

TIE = 0.5
UNDECIDED = "answered both ways equally often"
SPLITS = ("train", "adapt", "val", "test")
OF_PEOPLE = 0.95  # share of people with one value, from which on an attribute is theirs and not the items'
HALVES = {"prompts": ("prompt",), "responses": ("chosen", "rejected")}  # and the columns that hold them
SIDES = ("prompt", "chosen", "rejected")
QUESTION = ["user_id", "prompt", "low", "high"]  # low and high are its responses, in the order of their rows
PAUSE = 600.0  # seconds, after which an answer was not given right after the one before
FOLDER = "own.vectors/"  # before the names of files of vectors, which may be a table's too


@dataclass(frozen=True)
class Items:
    """The distinct items of one modality."""

    ids: np.ndarray  # 32 hex digits each, ascending
    contents: Any  # texts as a Series; pictures as a list of paths and bytes; vectors, (items, width) float32
    files: tuple[str, ...] = ()  # the sha256 of each picture's bytes


Vectors = tuple[list[Any] | None, np.ndarray]  # ids, None where they stand beside the file; (ids, width)
Read = tuple[Items, dict[str, np.ndarray]]  # the items, and the row of each cell among them, by side


@dataclass(frozen=True)
class Answers:
    """What people preferred.

    `pairs` has a row for each question of a person: user_id; prompt (-1: there are none), chosen and
    rejected, the rows of their items; label, from 0.5 (a tie) to 1; weight, the answers behind it;
    contradicted, whether these differ; timestamp, split, and `at`, the row of `Log.pairs` that was first.

    In `counts` read = kept + dropped + merged, where dropped = ties_dropped + identical_dropped +
    undecided_dropped + unusable_dropped. merged are those that repeat another; of the comparisons with
    several answers contradicted were answered both ways, undecided_dropped so equally often.
    """

    pairs: pl.DataFrame
    items: dict[str, Items]  # by modality: text, image, vector
    modality: dict[str, str | None]  # of the prompts (None: there are none) and of the responses
    rejected: pl.DataFrame  # the log's rows that are in no comparison: file, row, reason
    counts: dict[str, int]
    habits: pl.DataFrame  # how each person answers, as the function of that name tells

    def sides_of(self, *modalities: str) -> list[str]:
        """The columns of `pairs` that number the items of a modality, or of several."""
        return [side for half, sides in HALVES.items() if self.modality[half] in modalities for side in sides]

    def used(self, modality: str) -> np.ndarray:
        """The rows of a modality's items that `pairs` names, ascending."""
        return np.unique(self.pairs.select(self.sides_of(modality)).to_numpy())


def read_answers(
    log: Log,
    *,
    prompts: str | None = None,
    responses: str | None = None,
    vectors: Mapping[str, Path] | None = None,
    pictures: Mapping[str, Path] | None = None,
    sha256: Callable[[Path], str] = sha256_of,
    ties: str = "drop",
    template: str | None = None,
) -> Answers:
    """Read a log's items, and make one comparison of a person's answers to one question.

    `prompts` and `responses` are text, image or vector, by default what `modality_of` tells. `vectors` are
    the files of `find_vectors`; `pictures` files by the paths in cells, by default those in the log's folder,
    and `sha256` hashes such a file. `ties` are dropped, or kept as labels of 0.5. A `template` puts prompt
    and response into one text. A PalError says which cell stands for nothing, or that no comparison is left.
    """
    log = log if template is None else joined(log, template)
    items, rows = {}, {"prompt": np.full(len(log.pairs), -1, np.int32)}
    named, ids, values = "", [], np.empty((0, 0), np.float32)
    if vectors:
        wanted = {cell for side in SIDES for cell in log.pairs[side].drop_nulls().unique()}
        named, ids, values = read_vectors(vectors, wanted)
    stated = {"prompts": prompts, "responses": responses}
    modality = {
        half: modality_of([log.pairs[side] for side in sides], stated[half], set(ids))
        for half, sides in HALVES.items()
    }
    if "vector" in modality.values() and not vectors:
        advice = "name it, or give texts or pictures"
        raise PalError(f"vectors must be in a file that is named, got none; {advice}")
    for kind in dict.fromkeys(filter(None, modality.values())):
        sides = [side for half, sides in HALVES.items() if modality[half] == kind for side in sides]
        if kind == "text":
            items[kind], of_kind = read_texts(log, sides)
        elif kind == "image":
            found = find_pictures(log, sides) if pictures is None else pictures
            items[kind], of_kind = read_pictures(log, sides, found, sha256)
        else:
            items[kind], of_kind = read_vectors_of(log, sides, named, ids, values)
        rows |= of_kind
    frame = log.pairs.select("user_id", "label", "timestamp", "split").with_columns(
        at=pl.int_range(pl.len(), dtype=pl.UInt32), **{side: pl.Series(rows[side]) for side in SIDES}
    )
    frame = frame.with_columns(
        low=pl.min_horizontal("chosen", "rejected"), high=pl.max_horizontal("chosen", "rejected")
    )
    if (split := log.pairs["split"]).is_not_null().any():
        advice = "fill it in, or leave it empty in every row to have places drawn"
        log.refuse("split", split.is_null(), f"is empty, while other rows have one; {advice}")
        rule = f"must be one of {', '.join(SPLITS)}, got {{got}}; say `split=` among the columns where it "
        log.refuse("split", ~split.is_in(SPLITS), f"{rule}means something else")
    same = frame.filter(pl.col("chosen") == pl.col("rejected"))["at"]
    merged = merge_repeats(frame.filter(pl.col("chosen") != pl.col("rejected")), log)
    undecided = merged.filter((pl.col("label") == TIE) & (ties == "drop"))
    kept = merged.filter((pl.col("label") != TIE) | (ties != "drop"))
    of_users = frame.filter(pl.col("user_id").is_in(undecided["user_id"].implode()))
    lost = of_users.join(undecided, on=QUESTION, how="semi")["at"]
    rejected = [rejected_rows(log.pairs[at], pl.lit(why)) for at, why in ((same, SAME), (lost, UNDECIDED))]
    reasons = dict(log.rejected["reason"].value_counts().iter_rows())
    tied, identical = reasons.pop(TIES_LEFT_OUT, 0), reasons.pop(SAME, 0) + len(same)
    unusable = sum(reasons.values())
    counts = {
        "read": len(log.pairs) + len(log.rejected),
        "ties": tied + int((log.pairs["label"] == TIE).sum()),
        "ties_dropped": tied,
        "identical_dropped": identical,
        **({"unusable_dropped": unusable} if unusable else {}),
        "merged": len(frame) - len(same) - len(merged),
        "contradicted": int(merged["contradicted"].sum()),
        "undecided_dropped": len(undecided),
        "kept": len(kept),
        "dropped": tied + identical + unusable + len(undecided),
    }
    if kept.is_empty():
        why = f"ties ({tied + len(undecided):,}) and responses compared with themselves ({identical:,})"
        none = f"none of {counts['read']:,} comparisons in {log.table.source}"
        raise PalError(f"{none} is left once {why} are dropped; add comparisons")
    check_splits(kept, log)
    left_out = pl.concat([log.rejected, *rejected])
    told = habits(log.pairs.select("user_id", "timestamp", "first"), merged)
    return Answers(kept.drop("low", "high"), items, modality, left_out, counts, told)


def joined(log: Log, template: str) -> Log:
    """The log with each response in one text with its prompt."""
    if log.pairs["prompt"].dtype != pl.String or log.pairs["chosen"].dtype != pl.String:
        raise PalError("prompts and responses must be texts to be joint, got pictures; let them be separate")
    if log.pairs["prompt"].is_null().any():
        raise PalError("prompts must be given to be joint with responses, got none; let them be separate")
    pairs = log.pairs
    for side in SIDES[1:]:
        texts = [joint_text(template, *both) for both in pairs.select("prompt", side).iter_rows()]
        pairs = pairs.with_columns(pl.Series(side, texts))
    return replace(log, pairs=pairs)


def merge_repeats(rows: pl.DataFrame, log: Log) -> pl.DataFrame:
    """One row for each question of a user, in the order of their first rows.

    Its label is the mean of P(chosen is preferred), its chosen response the one that is preferred on the
    whole; weight is the number of rows, and contradicted says whether they prefer now one, now the other.
    Their `split` must be one.
    """
    low_is_chosen = pl.col("chosen") < pl.col("rejected")
    first = pl.when(low_is_chosen).then("label").otherwise(1 - pl.col("label")).cast(pl.Float64)
    rows = rows.with_columns(first=first, low_is_chosen=low_is_chosen)
    # Most rows repeat none, and grouping a million costs as much memory as the log: two of one hash may.
    hashes = rows.select(pl.struct(QUESTION).hash()).to_series()
    ordered = hashes.sort()
    again = hashes.is_in(ordered.filter(ordered == ordered.shift()).implode())
    several = rows.filter(again).group_by(QUESTION, maintain_order=True).agg(
        pl.col("first").mean().round(6), weight=pl.len(), timestamp=pl.col("timestamp").max(),
        contradicted=(pl.col("first").max() > TIE) & (pl.col("first").min() < TIE),
        low_is_chosen=pl.col("low_is_chosen").first(), at=pl.col("at").first(),
        split=pl.col("split").first(), places=pl.col("split").n_unique(),
    )  # fmt: skip
    alone = rows.filter(~again).with_columns(
        pl.col("first").round(6), weight=pl.lit(1, pl.get_index_type()), contradicted=pl.lit(value=False),
        places=pl.lit(1, pl.get_index_type()),
    )  # fmt: skip
    merged = pl.concat([alone.select(several.columns), several]).sort("at")
    if (merged["places"] > 1).any():
        apart = rows.join(merged.filter(pl.col("places") > 1), on=QUESTION, how="semi")
        apart = apart.filter(pl.col("split").ne_missing(pl.col("split").first().over(QUESTION)))
        _refuse(apart, "must be the same wherever a user answers one question, got {got}", log)
    low = (pl.col("first") > TIE) | ((pl.col("first") == TIE) & pl.col("low_is_chosen"))
    return merged.select(
        "user_id", "prompt",
        pl.when(low).then("low").otherwise("high").alias("chosen"),
        pl.when(low).then("high").otherwise("low").alias("rejected"),
        pl.max_horizontal("first", 1 - pl.col("first")).cast(pl.Float32).alias("label"),
        "weight", "contradicted", "timestamp", "split", "at", "low", "high",
    )  # fmt: skip


def habits(given: pl.DataFrame, merged: pl.DataFrame | None = None) -> pl.DataFrame:
    """How each person answers; null where the log does not tell.

    From answers as they were `given` (user_id, timestamp, and first: whether the response shown first was
    chosen) and from `merge_repeats`, before what is undecided is left out. Returns for each user_id:
    repeated, the questions answered several times; itself, the chance that two of the answers to one of these
    agree; first, the share of the answers, shown many, in which the response shown first was chosen; seconds,
    the median since the answer before, pauses aside. Without `merged` nothing is told of repeats.
    """
    gap = pl.col("timestamp").diff().over("user_id").dt.total_milliseconds() / 1000
    gaps = given.select("user_id", "timestamp").drop_nulls().sort("user_id", "timestamp")
    gaps = gaps.select("user_id", seconds=gap).filter((pl.col("seconds") > 0) & (pl.col("seconds") < PAUSE))
    told = [
        given.drop_nulls("first").group_by("user_id").agg(pl.col("first").mean(), shown=pl.len()),
        gaps.group_by("user_id").agg(pl.col("seconds").median()),
    ]
    if merged is not None:
        n, share = pl.col("weight"), pl.col("label").cast(pl.Float64)
        # Graded answers, whose share is no whole number of answers, and ties are no repeats.
        whole = ((n * share) - (n * share).round()).abs() < 1e-3
        repeats = merged.filter((n > 1) & whole & ((share != TIE) | pl.col("contradicted")))
        alike = (n * (share.pow(2) + (1 - share).pow(2)) - 1) / (n - 1)
        told.append(repeats.group_by("user_id").agg(itself=alike.mean(), repeated=pl.len()))
    table = given.select("user_id").unique(maintain_order=True)
    for each in told:
        table = table.join(each, on="user_id", how="left", maintain_order="left")
    return table


def check_splits(kept: pl.DataFrame, log: Log) -> None:
    """Refuse a split that lacks a place, or has a user both seen and unseen (with adapt rows), or neither."""
    if kept["split"].is_null().all():
        return
    has_train, has_adapt = ((pl.col("split") == name).any().over("user_id") for name in ("train", "adapt"))
    both = kept.filter(has_train & has_adapt & (pl.col("split") == "adapt"))
    _refuse(both, "must not be {got} where the user has train rows too; a user is either seen or unseen", log)
    names = sorted(kept["split"].unique())
    if not {"train", "adapt", "test"} <= set(names):
        advice = "add them, or have places drawn: --columns 'split=', or own.prepare.columns: {split: ''}"
        rule = "split must have rows of train, adapt and test"
        raise PalError(f"{rule}, got only {', '.join(names)}; {advice}", column="split")
    lost = kept.filter(~has_train & ~has_adapt)
    _refuse(lost, "must not be {got} alone; a user needs train rows or adapt rows", log)
    for half, name, member in (("seen", "train", ~has_adapt), ("unseen", "adapt", has_adapt)):
        if "test" not in kept.filter(member)["split"]:
            rule = f"must have test rows of {half} users (those with {name} rows), got none"
            raise PalError(f"split {rule}", column="split")


def _refuse(rows: pl.DataFrame, rule: str, log: Log) -> None:
    """Raise at the first of these rows, if there is one: what its column split must be."""
    log.refuse("split", pl.int_range(len(log.pairs), eager=True).is_in(rows["at"].to_list()), rule)


def attributes_of_people(attributes: pl.DataFrame, user_id: pl.Series) -> dict[str, dict[str, Any]]:
    """The attributes of each person: columns that hardly ever differ between a person's rows."""
    told: dict[str, dict[str, Any]] = {}
    for name in attributes.columns:
        cells = pl.DataFrame({"user_id": user_id, "cell": attributes[name]}).drop_nulls("cell")
        people = cells.group_by("user_id", maintain_order=True).agg(
            pl.col("cell").mode(maintain_order=True).first(), n=pl.col("cell").n_unique()
        )
        if len(people) and (people["n"] == 1).mean() >= OF_PEOPLE:
            for user, cell, _ in people.iter_rows():
                told.setdefault(user, {})[name] = cell
    return told


def modality_of(cells: list[pl.Series], stated: str | None, vectors: set[str]) -> str | None:
    """What the cells of a prompt's or of the responses' columns stand for: text, image or vector.

    What is `stated`; else pictures where every cell is bytes or the path of one, vectors where one is the id
    of a vector, else text. None where all cells are empty, as where there are no prompts.
    """
    if all(column.null_count() == len(column) for column in cells):
        return None
    if stated or any(column.dtype == pl.Binary for column in cells):
        return stated or "image"
    if vectors and any(column.is_in(list(vectors)).any() for column in cells):
        return "vector"
    is_path = [column.str.contains(r"(?i)\.(jpe?g|png|webp)$") for column in cells]
    return "image" if all(column.all() for column in is_path) else "text"


def read_texts(log: Log, sides: list[str]) -> Read:
    """Texts; of several spellings of one the shortest stands for all."""
    cells = pl.concat([log.pairs[side].alias("text") for side in sides]).to_frame()

    def plain_id(text: str) -> str:
        return text_id(" ".join(unicodedata.normalize("NFC", text).split()))

    texts = cells.unique().with_columns(plain=pl.col("text").map_elements(plain_id, pl.String))
    shortest = texts.sort(pl.col("text").str.len_chars(), "text").unique("plain", keep="first")
    items = shortest.with_columns(id=pl.col("text").map_elements(text_id, pl.String)).sort("id")
    row_of = texts.join(items.with_row_index("row").select("plain", "row"), "plain").select("text", "row")
    row = cells.join(row_of, "text", how="left", maintain_order="left")["row"].to_numpy().astype(np.int32)
    rows = dict(zip(sides, np.split(row, len(sides)), strict=True))
    return Items(packed(items["id"].to_list()), items["text"]), rows


def read_pictures(
    log: Log, sides: list[str], pictures: Mapping[str, Path], sha256: Callable[[Path], str]
) -> Read:
    """Pictures by their bytes, or by their paths in the log's folder; see `find_pictures`."""
    content: dict[str, Any] = {}  # by sha256
    sha_of: dict[Any, str] = {}
    for cell in dict.fromkeys(cell for side in sides for cell in log.pairs[side].unique(maintain_order=True)):
        picture = cell if isinstance(cell, bytes) else pictures[str(PurePosixPath(cell))]
        sha_of[cell] = sha256(picture) if picture is not cell else hashlib.sha256(cell).hexdigest()
        content.setdefault(sha_of[cell], picture)
    shas = sorted(content, key=image_id)
    row_of = {sha: row for row, sha in enumerate(shas)}
    items = Items(packed([*map(image_id, shas)]), [content[sha] for sha in shas], tuple(shas))
    return items, {side: _rows(log.pairs[side], lambda cell: row_of[sha_of[cell]]) for side in sides}


def read_vectors_of(log: Log, sides: list[str], name: str, ids: list[str], values: np.ndarray) -> Read:
    """Vectors by their own ids, as `read_vectors` returns them; several of the same numbers are one item."""
    for side in sides:
        log.refuse(side, ~log.pairs[side].is_in(ids), f"must be an id in {name}, got {{got}}")
    items = packed([item_id("vector", row.astype("<f4").tobytes()) for row in values])
    distinct, first, row = np.unique(items, return_index=True, return_inverse=True)
    row_of = dict(zip(ids, row.tolist(), strict=True))
    found = Items(distinct, values[first])
    return found, {side: _rows(log.pairs[side], row_of.__getitem__) for side in sides}


def _rows(cells: pl.Series, row_of: Callable[[Any], int]) -> np.ndarray:
    distinct = cells.unique().to_list()
    return cells.replace_strict(distinct, list(map(row_of, distinct)), return_dtype=pl.Int32).to_numpy()


def find_pictures(log: Log, sides: list[str]) -> dict[str, Path]:
    """The pictures that paths name, by their path in the log's folder."""
    pictures: dict[str, Path] = {}
    root = log.table.folder.resolve()
    for cells in (log.pairs[side] for side in sides if log.pairs[side].dtype == pl.String):
        distinct = cells.drop_nulls().unique(maintain_order=True)
        problems = {cell: _path_problem(cell, root) for cell in distinct}
        if first := next(filter(None, problems.values()), None):
            wrong = [cell for cell, problem in problems.items() if problem == first]
            log.refuse(cells.name, cells.is_in(wrong), first)
        paths = (str(PurePosixPath(cell)) for cell in problems)  # `./a//b.png` is a/b.png
        pictures |= {path: root / path for path in paths}
    return pictures


def _path_problem(cell: str, root: Path) -> str | None:
    """What is wrong with the path of a picture; None where nothing is."""
    inside = "must be a path relative to the log and inside its folder, got {got}"
    if "://" in cell:
        return f"{inside}; download the image first"
    path = PurePosixPath(cell)
    if path.suffix.lower() not in IMAGE_SUFFIXES:
        return f"must be a {', '.join(IMAGE_SUFFIXES)} file, got {{got}}"
    with suppress(OSError, RuntimeError, ValueError):  # a name too long, links in a circle, a zero byte
        real = (root / path).resolve()
        if ".." in path.parts or not real.is_relative_to(root):
            return inside
        if real.is_file():
            return None
    advice = "; write / between folders" if "\\" in cell else ""
    return f"must be an existing file in the log's folder, got {{got}}{advice}"


def find_vectors(path: Path) -> dict[str, Path]:
    """A file of vectors, and that of its ids where there is one, by their names."""
    if not path.is_file() or path.suffix not in READERS:
        raise PalError(f"vectors must be in a {', '.join(READERS)} file that exists, got {str(path)!r}")
    files = (path, path.with_suffix(".ids.txt"))
    return {f"{FOLDER}{file.name}": file for file in files if file.is_file()}


def read_vectors(files: Mapping[str, Path], wanted: set[str]) -> tuple[str, list[str], np.ndarray]:
    """Of the files that `find_vectors` returns the name, the wanted ids, and their vectors, (ids, width)."""
    given, path = next((name, path) for name, path in files.items() if not name.endswith(".ids.txt"))
    name = given.removeprefix(FOLDER)
    errors = (SafetensorError, TypeError, EOFError, OverflowError)
    with readable(name, "cannot be read as vectors ({reason}); export it again", *errors):
        ids, table = READERS[Path(name).suffix](name, path)
        if ids is None:
            beside = Path(name).with_suffix(".ids.txt").name
            if FOLDER + beside not in files:
                problem = f"must have a file {beside} beside it, one id a line in the order of its rows, "
                raise PalError(f"{name} {problem}got none")
            try:
                ids = files[FOLDER + beside].read_text(encoding="utf-8-sig").removesuffix("\n").split("\n")
            except UnicodeDecodeError:
                raise file_error(beside, "must be UTF-8; save it as UTF-8") from None
        if table.ndim != 2 or not table.size:
            raise file_error(name, f"must hold vectors, (n, width), got an array of shape {table.shape}")
        if len(ids) != len(table):
            got = f"{len(ids):,} ids for {len(table):,} vectors"
            raise file_error(name, f"must have one id a vector, got {got}")
        seen: set[str] = set()
        for row, id_ in enumerate(ids, 1):
            if type(id_) is not str or not id_ or id_ in seen:
                problem = f"must name each vector by a text of its own, got {shorten(id_)} as vector {row:,}"
                raise file_error(name, problem, row=row)
            seen.add(id_)
        places = np.array([place for place, id_ in enumerate(ids) if id_ in wanted], np.int64)
        with np.errstate(over="ignore"):
            values = table[places].astype(np.float32, copy=False)
    used = [ids[place] for place in places]
    if len(bad := np.flatnonzero(~np.isfinite(values).all(axis=1))):
        message = f"the vector {shorten(used[bad[0]])} in {name} must be finite in float32, got NaN, infinity"
        raise PalError(f"{message} or nothing", file=name, row=int(places[bad[0]]) + 1)
    return name, used, values


def _read_safetensors(name: str, path: Path) -> Vectors:
    with safe_open(path, framework="numpy") as file:
        ids = (file.metadata() or {}).get("ids")
        return ids and json.loads(ids), file.get_tensor("embeddings")


def _read_parquet(name: str, path: Path) -> Vectors:
    table = pq.read_table(path, columns=["id", "embedding"])
    lists = table["embedding"].cast(pa.large_list(pa.float32()), safe=False).combine_chunks()
    lengths = lists.value_lengths().fill_null(0).to_numpy()
    if (wrong := np.flatnonzero(lengths != lengths[:1])).size:
        row = int(wrong[0]) + 1
        problem = f"must have {lengths[0]} numbers, as the first, got {lengths[wrong[0]]}"
        raise PalError(f"vector {row:,} of {name} {problem}", file=name, row=row)
    values = lists.flatten().to_numpy(zero_copy_only=False)  # with NaN for what is empty
    return table["id"].cast(pa.string()).to_pylist(), values.reshape(len(lists), -1)


READERS = {
    ".parquet": _read_parquet,
    ".safetensors": _read_safetensors,
    ".npy": lambda _, path: (None, np.lib.format.open_memmap(path, mode="r")),  # np.load takes other formats
}
