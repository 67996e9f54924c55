"""A log as tensors: its items encoded, its comparisons placed into what is learned from and what is held out.

Shapes used in this module:
    n       comparisons
    rows    some of them
    items   distinct prompts or responses
    dim     width of an embedding
"""

import json
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from pal import encoders
from pal.comparisons import Comparisons, Embeddings
from pal.conversations import joint_text, template_of
from pal.encoders import complaint
from pal.encoders.vector_store import Embedder, EmbeddingStore, item_id, packed
from pal.errors import PalError
from pal.evaluation.holding_out import Shares, hold_out, on_known_items
from pal.files import store
from pal.logs.answers import TIE, attributes_of_people, read_answers
from pal.logs.items import SIDES, Items
from pal.logs.read import FILE, ROW
from pal.logs.shapes import Log
from pal.logs.vectors import find_vectors
from pal.serving.inputs import InputEncoder, Side
from pal.serving.reward_model import RewardModel
from pal.users.attributes import Attributes

TEXT_ENCODER, IMAGE_ENCODER = "all-MiniLM-L6-v2+measures", "classical"
UNREADABLE = "with an item that cannot be encoded"
# Users and split of each place, by its number; a comparison without a place is in the final fit alone.
PARTS = (("seen", "train"), ("seen", "val"), ("seen", "test"), ("unseen", "adapt"), ("unseen", "test"))
ENCODED_AT_ONCE = 2048  # items, after which their vectors are kept


@dataclass(frozen=True)
class Options:
    """How a log is fitted.

    Args:
        method: One of `pal.methods.METHODS`; `auto` chooses one.
        K: Prototypes, for methods that have some; `auto` chooses by cross-validation.
        encoder: The encoder of texts.
        image_encoder: The encoder of pictures.
        item: What is encoded as a response: it alone (`separate`), in one text with its prompt (`joint`), or
            by a template of such a text, with {prompt} and {response}.
        vectors: A file of embeddings that cells name by their ids; see `pal.logs.vectors`.
        attributes: Columns of the log by whose values accuracies are told apart; those of people are in the
            prior of their states where that helps people who are left out.
        ties: drop, or keep: they are learned from, and never tested on.
        weights: Where an encoder's weights come from, by its name: `package`, `hub` or a folder.
        device: Where encoders and fits compute.
        unseen: Share of the people who are held out, to measure on people who were not fitted; 0: nobody.
        time_split: Whether each person's latest answers are held out, by the column of the time.
        seed: Makes everything random.
    """

    method: str = "auto"
    K: int | str = "auto"
    encoder: str = TEXT_ENCODER
    image_encoder: str = IMAGE_ENCODER
    item: str = "separate"
    vectors: Path | str | None = None
    attributes: Sequence[str] = ()
    ties: str = "drop"
    weights: Mapping[str, str] | None = None
    device: str = "cpu"
    unseen: float = 0.2
    time_split: bool = False
    seed: int = 0


@dataclass(frozen=True)
class Encoded:
    """A log as tensors.

    Args:
        embeddings: One row per distinct prompt and response.
        comparisons: One of each person to each question.
        user_ids: The people, in the order of their numbers.
        pairs: The same comparisons as `Answers.pairs` has them.
        prompt_ids: The ids of the prompts, by row of their embeddings.
        encoder: What made the embeddings, as `RewardModel` keeps it.
        rejected: The log's rows that are not learned from: file, row, reason.
        contents: Prompts and responses themselves, by row of their embeddings.
        attributes: Of each person, those that the log tells of people.
    """

    embeddings: Embeddings
    comparisons: Comparisons
    user_ids: list[str]
    pairs: pl.DataFrame
    prompt_ids: list[str]
    encoder: dict[str, Any]
    rejected: pl.DataFrame
    contents: dict[str, list[Any]]
    attributes: list[Attributes]

    def rows(self, chosen: Bool[np.ndarray, " n"]) -> Comparisons:
        """Those comparisons that are marked."""
        return self.comparisons[torch.from_numpy(np.flatnonzero(chosen))]

    def of_part(
        self, part: Int[np.ndarray, " n"], number: int, among: Bool[np.ndarray, " n"] | None = None
    ) -> tuple[Comparisons, int]:
        """A part's comparisons, or some, with the people of its half numbered from 0; how many these are."""
        half = [n for n, (users, _) in enumerate(PARTS) if users == PARTS[number][0]]
        members = np.unique(self.comparisons.user.numpy()[np.isin(part, half)])
        row = torch.full((len(self.user_ids),), -1, dtype=torch.long)
        row[torch.from_numpy(members)] = torch.arange(len(members))
        chosen = self.rows(part == number if among is None else (part == number) & among)
        return replace(chosen, user=row[chosen.user]), len(members)

    def on_known_items(self, part: Int[np.ndarray, " n"]) -> Bool[np.ndarray, " n"]:
        """Which comparisons are on prompts (without prompts: on responses) that training knows."""
        asked = self.comparisons.questions[self.comparisons.question]
        return on_known_items(asked.prompt.numpy(), asked.first.numpy(), asked.second.numpy(), part == 0)


def encode_log(log: Log, options: Options, model: RewardModel | None = None) -> Encoded:
    """Encode a log's items, and make one comparison of a person's answers to one question: their mean.

    Args:
        log: The log.
        options: The encoders.
        model: A model whose encoders and people these are to be, other people after them; None takes the
            encoders of the options, and the log's people alone.
    """
    template = model.input_encoder.template if model else template_of(options.item)
    vectors = find_vectors(Path(options.vectors)) if options.vectors else None
    answers = read_answers(log, vectors=vectors, template=template, ties=options.ties)
    pairs, rejected = answers.pairs, answers.rejected
    described: dict[str, Any] = {"prompts": None}
    embedded: dict[str, Tensor] = {"prompts": torch.zeros(0, 0)}
    names: dict[str, list[str]] = {"prompts": []}
    contents: dict[str, list[Any]] = {"prompts": []}
    readable = np.ones(len(pairs), bool)
    tables: dict[tuple[str, str], tuple[Tensor, np.ndarray]] = {}
    for half, sides in (("prompts", SIDES[:1]), ("responses", SIDES[1:])):
        modality = answers.modality[half]
        if modality is None:
            continue
        name = options.image_encoder if modality == "image" else options.encoder
        about = dict(model.encoder.get(half) or {}) if model else {}
        about.pop("template", None)
        described[half] = about or _describe(name, options.weights or {}, answers.items[modality], modality)
        used = answers.used(modality)
        # Prompts and responses that one encoder reads share one table.
        key = (modality, json.dumps(described[half], sort_keys=True))
        if key not in tables:
            tables[key] = _encode(answers.items[modality], used, modality, half, described[half], options)
        embedded[half], row = tables[key]
        read, found = used[row[used] >= 0], answers.items[modality]
        names[half] = [each.decode() for each in found.ids[read]]
        contents[half] = [found.contents[int(each)] for each in read]
        for side in sides:
            pairs = pairs.with_columns(pl.Series(side, row[pairs[side].to_numpy()]))
            readable &= (pairs[side] >= 0).to_numpy()
    if not readable.all():
        lost = log.pairs[pairs.filter(~readable)["at"]]
        place = {"file": pl.col(FILE).cast(pl.String), "row": pl.col(ROW).cast(pl.Int64)}
        rejected = pl.concat([rejected, lost.select(**place, reason=pl.lit(UNREADABLE))])
        pairs = pairs.filter(readable)
    if template is not None:
        described["responses"] = {**described["responses"], "template": template}
        both = [log.pairs.select("prompt", side).unique() for side in SIDES[1:]]
        alone = {joint_text(template, *row): row[1] for frame in both for row in frame.iter_rows()}
        contents["responses"] = [alone.get(text, text) for text in contents["responses"]]
    if pairs.is_empty():
        raise PalError(f"{log.table.source} must hold a comparison that an encoder can read, got none")
    known = list(model.user_ids) if model else []
    people = known + sorted(set(pairs["user_id"].unique()) - set(known))
    column = {side: torch.from_numpy(pairs[side].cast(pl.Int64).to_numpy().copy()) for side in SIDES}
    comparisons = Comparisons.from_pairs(
        user=torch.from_numpy(pairs["user_id"].cast(pl.Enum(people)).to_physical().to_numpy().astype(np.int64)),
        prompt=column["prompt"] if answers.modality["prompts"] else None,
        chosen=column["chosen"], rejected=column["rejected"],
        label=torch.from_numpy(pairs["label"].to_numpy().copy()),
        weight=torch.from_numpy(pairs["weight"].cast(pl.Float32).to_numpy().copy()),
    )  # fmt: skip
    embeddings = Embeddings(embedded["prompts"], embedded["responses"])
    told = attributes_of_people(log.attributes, log.pairs["user_id"])
    attributes = [told.get(user, {}) for user in people]
    return Encoded(
        embeddings, comparisons, people, pairs, names["prompts"], described, rejected, contents, attributes
    )


def _encode(
    found: Items, used: np.ndarray, modality: str, side: Side, known: Mapping[str, Any], options: Options
) -> tuple[Float[Tensor, "items dim"], np.ndarray]:
    """The embeddings of items, some at a time: what is done is kept in the store, however the run ends.

    Args:
        found: The items.
        used: Rows of those that are named.
        modality: What they are.
        side: The half of the model that reads them.
        known: The encoder, as it is kept beside a model.
        options: Where the encoder's weights come from, and where it computes.

    Returns:
        The embeddings, and the row of each item among them: -1 where it is not used, or no encoder reads it.
    """
    items = [found.contents[int(row)] for row in used]
    good = [n for n, item in enumerate(items) if modality != "text" or not complaint(item)]
    row_of = np.full(len(found), -1, np.int64)
    row_of[used[good]] = np.arange(len(good))
    items = [items[n] for n in good]
    if modality == "vector":
        return torch.from_numpy(np.stack(items)), row_of
    contents = [
        ("text", item.encode()) if isinstance(item, str)
        else ("image", item if isinstance(item, bytes) else item.read_bytes()) for item in items
    ]  # fmt: skip
    ids = packed([item_id(*content) for content in contents])
    # Apart from the pipeline's, whose vectors do not depend on what was encoded in one batch.
    kept = EmbeddingStore(Embedder(**known), options.device, store() / "fit")
    reader = InputEncoder({side: known}, options.weights or {}, options.device)
    missing = np.flatnonzero(kept.find(ids).missing)
    with progress(len(items), f"encode {side}") as bar:
        bar(len(items) - len(missing))
        for rows in np.split(missing, range(ENCODED_AT_ONCE, len(missing), ENCODED_AT_ONCE)):
            if len(rows):
                block = reader.encode([items[row] for row in rows], side, known["dim"]).tensor()
                kept.add(ids[rows], block.numpy())
                bar(len(rows))
    places, table = kept.find(ids), np.empty((len(items), known["dim"]), np.float32)
    kept.read(places, table)
    return torch.from_numpy(table), row_of


def _describe(name: str, weights: Mapping[str, str], items: Items, modality: str) -> dict[str, Any]:
    """What is kept of an encoder beside a model; of vectors, that there is none."""
    if modality == "vector":
        return asdict(Embedder("none", "", "", items.contents.shape[1], "float32", "as given", "none"))
    about = encoders.describe(name, weights.get(encoders.plain_name(name), encoders.default_weights(name)))
    return asdict(Embedder.from_described(about))


def place(
    data: Encoded, options: Options, rows: Int[np.ndarray, " rows"] | None = None, **shares: Any
) -> Int[np.ndarray, " n"]:
    """Each comparison's place: its number in PARTS, or -1 where it has none; of some rows alone.

    The log's column split is obeyed where it has one, as `pal.logs.answers.check_splits` says.
    """
    part = np.full(len(data.comparisons), -1)
    numbers = {place: number for number, place in enumerate(PARTS)}
    if rows is None and data.pairs["split"].null_count() == 0:
        unseen = (pl.col("split") == "adapt").any().over("user_id")
        users = pl.when(unseen).then(pl.lit("unseen")).otherwise(pl.lit("seen"))
        placed = data.pairs.with_row_index("pair_id").select("pair_id", users=users, split="split")
    else:
        rows = np.arange(len(data.comparisons)) if rows is None else rows
        comparisons = data.comparisons[torch.from_numpy(rows)]
        asked = comparisons.questions[comparisons.question]
        times = data.pairs["timestamp"][rows]
        if options.time_split and times.null_count():
            raise PalError("--time-split needs a time in every row: ISO 8601 text, or seconds since 1970")
        columns = {"user": comparisons.user, "prompt": asked.prompt, "low": asked.first, "high": asked.second}
        frame = pl.DataFrame({name: column.numpy() for name, column in columns.items()})
        time = times.cast(pl.Int64) if options.time_split else pl.lit(0)
        prompts = [""]
        if data.prompt_ids:
            used, number = np.unique(frame["prompt"].to_numpy(), return_inverse=True)
            frame = frame.with_columns(prompt=pl.Series(number))
            prompts = [data.prompt_ids[row] for row in used]
        frame = frame.with_columns(pair_id=pl.Series(rows), time=time)
        by = "time" if options.time_split else "items"
        drawn = Shares.from_options(**{"unseen_users": options.unseen, "by": by, **shares})
        placed, _ = hold_out(frame, drawn, options.seed, users=data.user_ids, prompts=prompts)
    part[placed["pair_id"].to_numpy()] = [
        numbers.get(place, -1) for place in placed.select("users", "split").iter_rows()
    ]
    part[(data.pairs["label"] == TIE).to_numpy() & np.isin(part, (2, 4))] = -1  # neither right nor wrong
    return part


@contextmanager
def progress(total: int | None, what: str) -> Iterator[Any]:
    """A bar on a terminal, where the work takes a while; gives what moves it on."""
    from tqdm import tqdm

    with tqdm(total=total, desc=what, delay=1, leave=False, disable=not sys.stderr.isatty()) as bar:
        yield bar.update
