"""From a log to a personal reward model: read, held out, encoded, fitted, judged, and fitted again on all.

    from pal import fit

    result = fit("answers.csv", out="mine")
    result.model.rank("What now?", ["Try more.", "Read on."], user="ann")

People and answers are held out to measure; the model that one keeps is then fitted again to all people and
all answers, with the settings and epochs of the one that was measured.

Shapes used in this module:
    n       comparisons
    rows    some of them
    users   people
    items   distinct prompts or responses
    dim     width of an embedding
"""

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor
from tqdm import tqdm

from pal import encoders
from pal.comparisons import Comparisons, Embeddings
from pal.config import preset, registered
from pal.conversations import joint_text, template_of
from pal.encoders import complaint
from pal.encoders.vector_store import Embedder, EmbeddingStore
from pal.errors import PalError
from pal.evaluation.accuracy import Judged, confidence_interval, paired_test
from pal.evaluation.holding_out import Shares, hold_out, on_known_items
from pal.files import new_folder, store, write_bytes, write_json, write_text
from pal.fitting.attributes import Attributes
from pal.logs.answers import HALVES, SIDES, TIE, Items, attributes_of_people, find_vectors, read_answers
from pal.logs.shapes import Log, read_log, rejected_rows
from pal.methods import METHODS
from pal.methods.auto import FEWEST_PEOPLE
from pal.methods.base import Learned, Task
from pal.methods.choose_k import USER_FOLDS, choose_k
from pal.methods.compare import compare as judge_methods
from pal.methods.compare import places
from pal.models.base import margins
from pal.serving.inputs import PLURALS, InputEncoder, Side
from pal.serving.log_report import people_of_log, render, verdict
from pal.serving.reward_model import RewardModel
from pal.serving.saved_model import CARD

PROTOTYPES, MOST_PROTOTYPES = 3, 5  # of the candidates of the method auto; tried where K is auto
MOST_VALUES = 20  # of an attribute
KEPT, MEASURED = "model", "measured"  # folders: the model to use, and the one that the numbers are of
METRICS, REPORT, REJECTED = "metrics.json", "report.html", "rejected-rows.csv"
UNREADABLE = "with an item that cannot be encoded"
# Users and split of each part, by its number; a comparison in none is in the final fit alone.
PARTS = (("seen", "train"), ("seen", "val"), ("seen", "test"), ("unseen", "adapt"), ("unseen", "test"))
SEEN_TEST, ADAPT, UNSEEN_TEST = 2, 3, 4
ENCODED_AT_ONCE = 2048  # items, after which their vectors are kept
progress = partial(tqdm, delay=1, leave=False, disable=None)  # a bar on a terminal, where it takes a while
Metrics = dict[str, Any]  # by name; of parts of the people by name again
Say = Callable[[str], None]  # called with each sentence on what was understood and done


@dataclass(frozen=True)
class Options:
    """How a log is read and fitted."""

    columns: Mapping[str, str] | None = None  # by role, where their names do not tell
    values: Mapping[str, str] | None = None  # what values of the winner mean
    method: str = "auto"  # one of `pal.methods.METHODS`; `auto` chooses one
    K: int | str = "auto"  # prototypes, for methods that have some; `auto` chooses by cross-validation
    encoder: str = "all-MiniLM-L6-v2+measures"  # of texts
    image_encoder: str = "classical"  # of pictures
    # What is encoded as a response: it alone (`separate`), in one text with its prompt (`joint`), or by a
    # template of such a text, with {prompt} and {response}.
    item: str = "separate"
    vectors: Path | str | None = None  # a file of embeddings that cells name by ids; see `pal.logs.answers`
    # Columns of the log by whose values accuracies are told apart; those of people are in the prior of their
    # states where that helps people who are left out.
    attributes: Sequence[str] = ()
    ties: str = "drop"  # or keep: they are learned from, and never tested on
    weights: Mapping[str, str] | None = None  # of encoders, by name: `package`, `hub` or a folder
    device: str = "cpu"  # where encoders and fits compute
    unseen: float = 0.2  # share of the people held out, to measure on such as were not fitted; 0: nobody
    time_split: bool = False  # whether each person's latest answers are held out, by the column of the time
    seed: int = 0  # makes everything random

    def read(self, source: Any, say: Say | None, known: Sequence[str] = ()) -> Log:
        """Read a log, and say what was understood; `known` are attributes that it may have."""
        log = read_log(
            source, self.columns, values=self.values, ties=self.ties, attributes=self.attributes, known=known,
            seed=self.seed,
        )  # fmt: skip
        if say:
            say(log.summary())
        return log


AUTO = Options()  # as nobody says otherwise


@dataclass(frozen=True)
class Encoded:
    """A log as tensors."""

    embeddings: Embeddings  # one row per distinct prompt and response, in the order of their ids
    comparisons: Comparisons  # one of each person to each question
    user_ids: list[str]  # in the order of their numbers
    pairs: pl.DataFrame  # the same comparisons as `Answers.pairs` has them
    encoder: dict[str, Any]  # what made the embeddings, as `RewardModel` keeps it
    rejected: pl.DataFrame  # the log's rows that are not learned from: file, row, reason
    contents: dict[str, list[Any]]  # prompts and responses themselves, by row of their embeddings
    attributes: list[Attributes]  # of each person, those that the log tells of people
    part: Int[np.ndarray, " n"]  # each comparison's part: its number in PARTS, or -1
    habits: pl.DataFrame  # how each person answers, as `pal.logs.answers.habits` tells

    def rows(self, chosen: Bool[np.ndarray, " n"]) -> Comparisons:
        """Those comparisons that are marked."""
        return self.comparisons[torch.from_numpy(np.flatnonzero(chosen))]

    def is_in(self, users: str, split: str) -> Bool[np.ndarray, " n"]:
        """Which comparisons are in a part."""
        return self.part == PARTS.index((users, split))

    def members(self, users: str) -> Int[np.ndarray, " users"]:
        """The people, seen or unseen, ascending."""
        half = [number for number, part in enumerate(PARTS) if part[0] == users]
        return np.unique(self.comparisons.user.numpy()[np.isin(self.part, half)])

    def of_part(
        self, users: str, split: str, among: Bool[np.ndarray, " n"] | None = None
    ) -> tuple[Comparisons, int]:
        """A part's comparisons, or some, with the people of its half numbered from 0; how many these are."""
        members, marked = torch.from_numpy(self.members(users)), self.is_in(users, split)
        chosen = self.rows(marked if among is None else marked & among)
        return replace(chosen, user=torch.searchsorted(members, chosen.user)), len(members)

    @property
    def on_known_items(self) -> Bool[np.ndarray, " n"]:
        """Which comparisons are on prompts (without prompts: on responses) that training knows."""
        asked = self.comparisons.questions[self.comparisons.question]
        sides = (each.numpy() for each in (asked.prompt, asked.first, asked.second))
        return on_known_items(*sides, self.is_in("seen", "train"))


def encode_log(log: Log, options: Options, model: RewardModel | None = None) -> Encoded:
    """Encode a log's items, and make one comparison of a person's answers to one question: their mean.

    All of them are in training until `place` says otherwise. Where a model is given, encoders are its own and
    its people come first; otherwise encoders are those of the options.
    """
    template = model.input_encoder.template if model else template_of(options.item)
    vectors = find_vectors(Path(options.vectors)) if options.vectors else None
    answers = read_answers(log, vectors=vectors, template=template, ties=options.ties)
    pairs = answers.pairs
    described: dict[str, Any] = {"prompts": None}
    embedded: dict[str, Tensor] = {"prompts": torch.zeros(0, 0)}
    contents: dict[str, list[Any]] = {"prompts": []}
    tables: dict[tuple[str, str], tuple[Tensor, np.ndarray]] = {}
    for half, modality in answers.modality.items():
        if modality is None:
            continue
        items, used = answers.items[modality], answers.used(modality)
        about = dict(model.encoder.get(half) or {}) if model else {}
        about.pop("template", None)
        described[half] = about or _describe(options, items, modality)
        # Prompts and responses that one encoder reads share one table.
        key = (modality, json.dumps(described[half], sort_keys=True))
        if key not in tables:
            tables[key] = _encode(items, used, modality, half, described[half], options)
        embedded[half], row = tables[key]
        read = used[row[used] >= 0]
        contents[half] = [items.contents[int(each)] for each in read]
        pairs = pairs.with_columns(pl.Series(side, row[pairs[side].to_numpy()]) for side in HALVES[half])
    unreadable = pl.any_horizontal(pl.col(answers.sides_of(*filter(None, answers.modality.values()))) < 0)
    lost = rejected_rows(log.pairs[pairs.filter(unreadable)["at"]], pl.lit(UNREADABLE))
    pairs = pairs.filter(~unreadable)
    if template is not None:
        described["responses"] = {**described["responses"], "template": template}
        both = [log.pairs.select("prompt", side).unique() for side in SIDES[1:]]
        alone = {joint_text(template, *row): row[1] for frame in both for row in frame.iter_rows()}
        contents["responses"] = [alone.get(text, text) for text in contents["responses"]]
    if pairs.is_empty():
        raise PalError(f"{log.table.source} must hold a comparison that an encoder can read, got none")
    known = list(model.user_ids) if model else []
    people = known + sorted(set(pairs["user_id"].unique()) - set(known))
    numbers = pairs.select(pl.col("user_id").cast(pl.Enum(people)).to_physical(), *SIDES).cast(pl.Int64)
    user, prompt, chosen, rejected_side = (column.to_torch() for column in numbers)
    comparisons = Comparisons.from_pairs(
        user=user, prompt=prompt if answers.modality["prompts"] else None, chosen=chosen,
        rejected=rejected_side, label=pairs["label"].to_torch(),
        weight=pairs["weight"].cast(pl.Float32).to_torch(),
    )  # fmt: skip
    embeddings = Embeddings(embedded["prompts"], embedded["responses"])
    told = attributes_of_people(log.attributes, log.pairs["user_id"])
    attributes, part = [told.get(user, {}) for user in people], np.zeros(len(comparisons), int)
    rejected = pl.concat([answers.rejected, lost])
    return Encoded(
        embeddings,
        comparisons,
        people,
        pairs,
        described,
        rejected,
        contents,
        attributes,
        part,
        answers.habits,
    )


def _encode(
    found: Items, used: np.ndarray, modality: str, side: Side, known: Mapping[str, Any], options: Options
) -> tuple[Float[Tensor, "items dim"], np.ndarray]:
    """The embeddings of the items that are `used`, and each item's row among them: -1 where there is none.

    Some are encoded at a time: what is done is kept in the store, however the run ends.
    """
    used = used[[modality != "text" or not complaint(found.contents[int(row)]) for row in used]]
    items, ids = [found.contents[int(row)] for row in used], found.ids[used]
    row_of = np.full(len(found.ids), -1, np.int64)
    row_of[used] = np.arange(len(used))
    if modality == "vector":
        return torch.from_numpy(np.stack(items)), row_of
    # Apart from the pipeline's, whose vectors do not depend on what was encoded in one batch.
    kept = EmbeddingStore(Embedder(**known), options.device, store() / "fit")
    reader = InputEncoder({side: known}, options.weights or {}, options.device)
    missing = np.flatnonzero(kept.find(ids).missing)
    with progress(total=len(items), initial=len(items) - len(missing), desc=f"encode {side}") as bar:
        for start in range(0, len(missing), ENCODED_AT_ONCE):
            rows = missing[start : start + ENCODED_AT_ONCE]
            block = reader.encode([items[row] for row in rows], side, known["dim"]).tensor()
            kept.add(ids[rows], block.numpy())
            bar.update(len(rows))
    places, table = kept.find(ids), np.empty((len(items), known["dim"]), np.float32)
    kept.read(places, table)
    return torch.from_numpy(table), row_of


def _describe(options: Options, items: Items, modality: str) -> dict[str, Any]:
    """What is kept of an encoder beside a model; of vectors, that there is none."""
    if modality == "vector":
        return asdict(Embedder("none", "", "", items.contents.shape[1], "float32", "as given", "none"))
    option = "image_encoder" if modality == "image" else "encoder"
    name = getattr(options, option)
    if (reads := encoders.modalities(name)) and modality not in reads:
        wanted, got = PLURALS[modality], PLURALS[reads[0]]
        raise PalError(f"{option} must be one that reads {wanted}, got {name!r}, which reads {got}")
    about = encoders.describe(name, InputEncoder({}, options.weights or {}).source(name))
    return asdict(Embedder.from_described(about))


def place(
    data: Encoded, options: Options, rows: Int[np.ndarray, " rows"] | None = None, **shares: Any
) -> Int[np.ndarray, " n"]:
    """Each comparison's part: its number in PARTS, or -1; of some rows alone.

    The log's column split is obeyed where it has one, as `pal.logs.answers.check_splits` says.
    """
    part = np.full(len(data.comparisons), -1)
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
        if len(data.embeddings.prompts):
            frame = frame.with_columns(pl.col("prompt").rank("dense").cast(pl.Int64) - 1)
        names = [f"{row:09}" for row in range(frame["prompt"].max() + 1)]  # which sort as prompts' ids do
        time = times.cast(pl.Int64) if options.time_split else pl.lit(0)
        frame = frame.with_columns(pair_id=pl.Series(rows), time=time)
        by = "time" if options.time_split else "items"
        drawn = Shares.from_options(**{"unseen_users": options.unseen, "by": by, **shares})
        placed, _ = hold_out(frame, drawn, options.seed, users=data.user_ids, prompts=names)
    numbers = {place: number for number, place in enumerate(PARTS)}
    parts = placed.select("users", "split").iter_rows()
    part[placed["pair_id"].to_numpy()] = [numbers.get(each, -1) for each in parts]
    tied = (data.pairs["label"] == TIE).to_numpy()  # neither right nor wrong
    part[tied & np.isin(part, (SEEN_TEST, UNSEEN_TEST))] = -1
    return part


@dataclass(frozen=True)
class Result:
    """What a fit of a log gives."""

    model: RewardModel  # fitted to all people and answers
    measured: RewardModel  # fitted without those that were held out: the one that `metrics` are of
    metrics: Metrics = field(repr=False)  # what was measured, ready for JSON
    log: Log = field(repr=False)  # what was read
    rejected: pl.DataFrame = field(repr=False)  # rows that were not learned from: file, row, reason
    people: dict[str, Any] = field(repr=False)  # what the report shows of the people

    def save(self, folder: Path | str) -> None:
        """Write models, numbers, report and rejected rows into a folder, all or nothing."""
        folder = _replaceable(folder)
        people, answers = self.metrics["people"], self.metrics["comparisons"]
        cards = {
            KEPT: f"Fitted to all {people:,} people and {answers:,} comparisons. The numbers in ../{METRICS} "
            f"are of ../{MEASURED}, which was fitted the same way without those that were held out.\n",
            MEASURED: f"Fitted without the people and answers that were held out; ../{METRICS} has its "
            f"numbers. Use ../{KEPT}.\n",
        }  # fmt: skip
        with new_folder(folder) as new:
            for name, model in ((KEPT, self.model), (MEASURED, self.measured)):
                for file, data in model.files().items():
                    write_bytes(new / name / file, data)
                write_text(new / name / CARD, cards[name])
            write_json(new / METRICS, self.metrics)
            write_text(new / REPORT, render(self.metrics, self.log.summary(), self.people))
            write_text(new / REJECTED, self.rejected.write_csv())


def fit(source: Any, *, out: Path | str | None = None, say: Say | None = None, **others: Any) -> Result:
    """Fit a personal reward model to a log.

    Args:
        source: What `pal.logs.shapes.read_log` reads.
        out: A folder to write to; None writes nothing.
        say: Called with each sentence on what was understood and done.
        **others: Single `Options`.

    Raises:
        PalError: If the log cannot be read, or there is too little in it.
    """
    options, say = Options(**others), say or (lambda _: None)
    log = options.read(source, say)
    if out is not None:
        _replaceable(out)  # before hours of work
    data = encode_log(log, options)
    if len(data.comparisons) < 2:
        raise PalError(f"{log.table.source} must hold at least 2 comparisons, got 1")
    everyone, held_out = data, replace(data, part=place(data, options))
    if held_out.is_in("seen", "train").any():  # else there are too few answers to hold any out
        data = held_out
    method, K, why = _settings(data, options)
    if merged := len(log.pairs) - len(data.comparisons):
        others = f"{merged:,} more told the same again, or could not be encoded"
        why = f"{len(data.comparisons):,} comparisons, one of each person and question; {others}\n{why}"
    measured, learned = _fit(data, method, K, options, "measure")
    method = learned.method or method
    say(why := "\n".join([why, *learned.said]))
    personal = registered(METHODS, method).personal and (K > 1 or not registered(METHODS, method).prototypes)
    shared = _fit(data, "bt", 1, options, "one for everyone", None)[0] if personal else measured
    looked = options.method == "auto" and len(measured.user_ids) >= FEWEST_PEOPLE
    metrics = _measure(data, measured, shared, personal=personal, looked=looked)
    people = people_of_log(data, measured, shared if personal else None)
    of_all = None if measured.attributes is None else "in"
    final, _ = _fit(everyone, method, K, options, "fit all", of_all, learned.scale)
    metrics = {
        "source": log.table.source,
        "log": log.fingerprint,
        "read_as": {"columns": dict(options.columns or {}), "values": dict(options.values or {})},
        "people": len(data.user_ids),
        "comparisons": len(data.comparisons),
        "parts": {" ".join(name): int((data.part == n).sum()) for n, name in enumerate(PARTS)},
        "method": method,
        "K": final.config.K,
        "settings": why,
        **metrics,
        "answers_at_random": round(float(people["answering"]["lapse"] or 0.0), 4),
    }
    if told := [row for row in people["answering"]["rows"] if row["why"]]:
        metrics["look_at"] = {row["user_id"]: row["why"] for row in told}
        say(people["answering"]["sentence"])
    if by := _by_attribute(log, data, measured, shared):
        metrics["by"] = by
    say(metrics["verdict"])
    result = Result(final, measured, metrics, log, data.rejected, people)
    if out is not None:
        result.save(out)
    return result


def _replaceable(folder: Path | str) -> Path:
    folder = Path(folder)
    if folder.exists() and not (folder / METRICS).is_file():
        raise PalError(f"{folder} is there already, and not from `pal fit`; choose another place with --out")
    return folder


def _settings(data: Encoded, options: Options) -> tuple[str, int, str]:
    """Method, prototypes and why: as asked, or by cross-validation."""
    name = options.method
    if name not in METHODS:
        raise PalError(f"--method must be one of {', '.join(METHODS)}, got {name!r}")
    train, n_users = data.of_part("seen", "train")
    if n_users < 2:
        return "bt", 1, "one reward: of one person in training there are no tastes to tell apart"
    method, K = registered(METHODS, name), options.K
    if name == "auto" and K == "auto":
        return name, min(n_users, PROTOTYPES), "auto, by cross-validation over people, answers and items"
    if not method.prototypes:
        return name, 1, f"{name}: {method.title}"
    if K == "auto":
        most, curve = min(MOST_PROTOTYPES, n_users - -(-n_users // USER_FOLDS)), "too few people to choose"
        K = 1
        if n_users >= USER_FOLDS and most > 1:
            head, config = preset("ours", "B" if len(data.embeddings.prompts) else "A", head={"K": 1})
            choice = choose_k(
                data.embeddings, train, n_users=n_users, head=head, config=config,
                candidates=range(1, most + 1), device=options.device, seed=options.seed,
            )  # fmt: skip
            K, curve = choice.K, ", ".join(f"{each.K}: {each.accuracy:.1%}" for each in choice.candidates)
        return name, K, f"{name} with K = {K}, by cross-validation over people ({curve})"
    if not isinstance(K, int) or not 1 <= K <= n_users:
        raise PalError(f"-K must be auto, or from 1 to the {n_users} people that are fitted, got {K!r}")
    return name, K, f"{name} with K = {K}, as asked"


def _fit(
    data: Encoded,
    method: str,
    K: int,
    options: Options,
    what: str,
    attributes: str | None = "judged",
    scale: tuple[float, float] = (1.0, 1.0),
) -> tuple[RewardModel, Learned]:
    """A model of the people in training, and what its method left behind.

    `attributes` are judged (whether they help), in the prior without that, or left alone; a
    Gaussian population is multiplied by `scale`, where no validation answers tell.
    """
    train, n_users = data.of_part("seen", "train")
    val, _ = data.of_part("seen", "val")
    with progress(desc=what) as bar:
        task = Task(
            data.embeddings, train, n_users, val if len(val) else None, K=K, seed=options.seed,
            device=options.device, progress=lambda *_: bar.update(),
        )  # fmt: skip
        learned = registered(METHODS, method).learn(task).rescaled(scale, task)
    seen = data.members("seen")
    if attributes and any(data.attributes):
        people = [data.attributes[user] for user in seen]
        learned = learned.with_attributes(task, people, judged=attributes == "judged")
    model = RewardModel.from_fit(
        learned.fitted, data.embeddings, user_ids=[data.user_ids[user] for user in seen],
        fit_config=learned.config, encoder=data.encoder, attributes=learned.attributes,
    )  # fmt: skip
    return model, learned


# By name: a model, and users' states.
Rewards = Mapping[str, tuple[RewardModel, Float[Tensor, "users state"]]]


def _measure(
    data: Encoded, model: RewardModel, shared: RewardModel, *, personal: bool, looked: bool
) -> Metrics:
    """Accuracies of the model and of one reward for everyone, on held-out answers and on held-out people."""
    metrics: Metrics = {}
    known = data.on_known_items
    for of_items, suffix in ((known, ""), (~known, "_on_new_items")):
        test, n_users = data.of_part("seen", "test", of_items)
        if not len(test):
            continue
        if "seen" in metrics:  # which are of known items, with which those of new ones are never added up
            found, _ = _judge(data, test, n_users, _both(model, shared, suffix))
            metrics["seen"] |= found | {"people": metrics["seen"]["people"]}
            continue
        metrics["seen"], both = _judge(data, test, n_users, _both(model, shared))
        paired = paired_test(*both)
        metrics["seen"] |= _interval("gain", paired.difference, paired.low, paired.high)
    metrics |= {**_measure_unseen(data, model, shared), "one_reward": not personal, "looked": looked}
    return {**metrics, "verdict": verdict(metrics)}


def _both(model: RewardModel, shared: RewardModel, suffix: str = "") -> Rewards:
    """A personal reward and one for everyone, of people who were fitted."""
    return {f"{name}{suffix}": (each, each.states) for name, each in
            (("personal", model), ("one_for_everyone", shared))}  # fmt: skip


def _judge(data: Encoded, test: Comparisons, n_users: int, rewards: Rewards) -> tuple[Metrics, list[Judged]]:
    """People who are tested, the accuracy of each reward with its interval, and its right answers."""
    judged = [
        Judged.from_margins(margins(model.head, states, data.embeddings, test), test.user, n_users=n_users)
        for model, states in rewards.values()
    ]
    found: Metrics = {"people": int((judged[0].total > 0).sum())}
    for name, each in zip(rewards, judged, strict=True):
        found |= _interval(name, each.micro, *confidence_interval(each))
    return found, judged


def _interval(name: str, value: float, low: float, high: float) -> dict[str, float]:
    """A number and the ends of its interval, rounded, by their names among the metrics."""
    ends = zip(("", "_low", "_high"), (value, low, high), strict=True)
    return {f"{name}{end}": round(float(number), 4) for end, number in ends}


def _by_attribute(log: Log, data: Encoded, model: RewardModel, shared: RewardModel) -> Metrics:
    """Accuracies on held-out answers on known items, by the commonest values of each attribute."""
    known = data.on_known_items
    tests, n_users = data.of_part("seen", "test", known)
    at, found = data.pairs["at"].filter(data.is_in("seen", "test") & known), {}
    for name in log.attributes.columns if len(tests) else ():
        cells = log.attributes[name][at].cast(pl.String).fill_null("")
        found[name] = {}
        for value, count in cells.value_counts(sort=True).head(MOST_VALUES).iter_rows():
            some = tests[torch.from_numpy((cells == value).arg_true().to_numpy().astype(np.int64))]
            accuracies, _ = _judge(data, some, n_users, _both(model, shared))
            found[name][value] = {**accuracies, "answers": count}
    return found


def _measure_unseen(data: Encoded, model: RewardModel, shared: RewardModel | None = None) -> Metrics:
    """Accuracies on people who were not fitted, before any answer and located by some; empty without such."""
    n_all = len(data.user_ids)
    adapt, unseen = data.rows(data.is_in("unseen", "adapt")), data.is_in("unseen", "test")
    if shared is not None and (known := data.on_known_items & unseen).any():
        unseen = known
    test = data.rows(unseen)
    if not len(test):
        return {}
    options = {"n_users": n_all, "attributes": data.attributes}
    answers = {"personal": adapt, "without_answers": data.rows(np.zeros_like(unseen))}
    rewards = {
        name: (model, model.locate(data.embeddings, some, **options)) for name, some in answers.items()
    }
    if shared is not None:
        rewards["one_for_everyone"] = (shared, shared.state_of(None).expand(n_all, -1))
    _, counts = np.unique(adapt.user.numpy(), return_counts=True)
    each = int(np.median(counts)) if len(counts) else 0
    return {"unseen": {"answers_each": each, **_judge(data, test, n_all, rewards)[0]}}


def compare(source: Any, methods: Sequence[str], options: Options = AUTO, say: Say | None = None) -> Metrics:
    """Methods side by side on a log: what the pipeline's stage `compare` finds on the same data.

    Arguments are those of `fit`, beside the names of `methods` in `pal.methods.METHODS`; of K, auto is 3.
    Returns what `pal.methods.compare.compare` does.
    """
    chosen = {name: registered(METHODS, name) for name in methods}
    data = encode_log(options.read(source, say), options)
    data = replace(data, part=place(data, options))
    (train, n_seen), (val, _), _, (adapt, n_unseen), _ = (data.of_part(*part) for part in PARTS)
    items, halves = {"known": data.on_known_items, "new": ~data.on_known_items}, ("seen", "unseen")
    tests = {(half, of): data.of_part(half, "test", rows)[0] for half in halves for of, rows in items.items()}
    held = places({"seen": train, "unseen": adapt}, tests, {"seen": n_seen, "unseen": n_unseen})
    K = min(n_seen, PROTOTYPES if options.K == "auto" else int(options.K))
    task = Task(data.embeddings, train, n_seen, val if len(val) else None, K, options.seed, options.device)
    return judge_methods(chosen, task, held)


def evaluate(model: RewardModel, source: Any, options: Options = AUTO, say: Say | None = None) -> Metrics:
    """Judge a saved model on new comparisons, of people it knows and of people it does not.

    People whom it does not know are located by half of their answers and judged on the others. Arguments are
    those of `fit`; none of what `source` holds should have been fitted.
    """
    log = options.read(source, say, list(model.attributes.columns) if model.attributes else [])
    data = encode_log(log, options, model=model)
    part = np.where(data.comparisons.user.numpy() < len(model.user_ids), SEEN_TEST, ADAPT)
    new = np.flatnonzero(part == ADAPT)
    if len(new):
        halves = place(data, options, new, unseen_users=0.0, new_items=0.0, val=0.0, test=0.5)
        part[new] = np.where(halves[new] == SEEN_TEST, UNSEEN_TEST, ADAPT)
    data = replace(data, part=part)
    metrics: Metrics = {"log": log.fingerprint, "comparisons": len(part)}
    metrics |= _measure_unseen(data, model)
    if len(of_seen := data.rows(data.is_in("seen", "test"))):
        metrics["seen"], _ = _judge(data, of_seen, len(model.user_ids), {"personal": (model, model.states)})
    return metrics
