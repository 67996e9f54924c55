"""Encoding and scoring for many requests at once: one thread, a bounded queue, and a cache of embeddings.

Requests that wait are taken together: their texts and pictures are encoded in one batch, each distinct one
once (dynamic batching), and their rewards are taken in one go. Where too many are under way a request is
refused with 429, so that waiting and memory are bounded.
"""

import queue
import threading
from collections import OrderedDict
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Future
from dataclasses import dataclass, field
from functools import partial
from hashlib import blake2b
from pathlib import Path
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from pal.errors import PalError
from pal.service import RefusedError
from pal.service.requests import Raw
from pal.serving.inputs import Side
from pal.serving.reward_model import RewardModel
from pal.serving.saved_model import CONFIG

MOST_UNDER_WAY = 64  # requests that wait or are computed; a new one waits about as long as 64 take
MOST_TOGETHER = 1024  # texts and pictures of the requests that are taken together
MOST_CACHED = 16_384  # embeddings; 25 MB of 384 numbers
Needed = tuple[Side, list[Raw] | Tensor | None]  # None: the reward does not depend on this side


class Models:
    """Models in folders by name, each loaded as by `RewardModel.load` when it is first asked for.

    A folder without a model is a PalError at once, and one that cannot be loaded 503.
    """

    def __init__(
        self, folders: Mapping[str, Path], weights: Mapping[str, str] | None = None, device: str = "cpu"
    ) -> None:
        for name, folder in folders.items():
            if not (folder / CONFIG).is_file() and not (folder / "model" / CONFIG).is_file():
                raise PalError(f"{folder} must hold a saved model, got none; name what `pal fit` wrote")
            if not name or len(name) > 200:
                raise PalError(f"a model's name must have 1 to 200 characters, got {len(name)}")
        self.folders = dict(folders)
        self.loaded: dict[str, RewardModel] = {}
        self._options = {"weights": weights, "device": device}
        self._lock = threading.Lock()

    def name(self, given: str | None) -> str:
        """The name of the model that is meant; 404 where it is not served."""
        if given in self.folders:
            return given
        if given is None and len(self.folders) == 1:
            return next(iter(self.folders))
        names = ", ".join(map(repr, sorted(self.folders)))
        raise RefusedError(404 if given else 422, f"model must be one of {names}, got {given!r}")

    def get(self, name: str) -> RewardModel:
        """The model, loaded where it was not."""
        with self._lock:
            if name not in self.loaded:
                try:
                    self.loaded[name] = RewardModel.load(self.folders[name], **self._options)
                except PalError as error:
                    raise RefusedError(503, f"model {name!r} cannot be loaded: {error}") from None
            return self.loaded[name]


@dataclass(eq=False)
class Job:
    """What one request needs encoded, and what is then computed: `run`, or rewards where it is None.

    Rewards need prompts and responses, and are those of `states`: one row for all responses, or one for each.
    """

    model: RewardModel
    needs: Sequence[Needed]
    run: Callable[..., Any] | None = None
    states: Float[Tensor, "n state"] | None = None
    future: Future = field(default_factory=Future)
    keys: list[list[bytes] | None] = field(default_factory=list)  # of what is encoded; else None


class Worker:
    """The thread that encodes and scores, for requests of which a limited number waits or is computed."""

    def __init__(self, most_under_way: int = MOST_UNDER_WAY) -> None:
        self.most_under_way = most_under_way
        self.under_way = 0
        self._lock = threading.Lock()
        self._waiting: queue.SimpleQueue[Job | None] = queue.SimpleQueue()
        self.counts = {"batches": 0, "jobs": 0, "encoded": 0, "cached": 0, "refused": 0}
        self._cache: OrderedDict[bytes, Tensor] = OrderedDict()
        self._thread = threading.Thread(target=self._work, name="pal-worker", daemon=True)
        self._thread.start()

    def refuse_if_busy(self) -> None:
        """Raise 429 where as many requests as may be are under way."""
        if self.under_way >= self.most_under_way:
            self.counts["refused"] += 1
            raise RefusedError(429, f"{self.most_under_way} requests are under way already; try again")

    def submit(self, job: Job) -> Future:
        """Compute a job: `run(*embeddings)`, one table for each of its lists, or its rewards."""
        with self._lock:
            self.refuse_if_busy()
            self.under_way += 1
        # Before whoever waits is told, since they may send the next request at once.
        job.future.add_done_callback(lambda future: None if future.cancelled() else self._ended(1))
        self._waiting.put(job)
        return job.future

    def _ended(self, n: int) -> None:
        with self._lock:
            self.under_way -= n

    def stop(self) -> None:
        """Finish what waits, then end the thread."""
        self._waiting.put(None)
        self._thread.join()

    def _work(self) -> None:
        ended = False
        while not ended:
            jobs, size = [], 0
            job = self._waiting.get()
            while job is not None:
                jobs.append(job)
                size += sum(len(items) for _, items in job.needs if items is not None)
                if size >= MOST_TOGETHER:
                    break
                try:
                    job = self._waiting.get_nowait()
                except queue.Empty:
                    break
            ended = job is None
            taken, jobs = len(jobs), [job for job in jobs if job.future.set_running_or_notify_cancel()]
            self._ended(taken - len(jobs))
            self.counts["batches"] += 1
            self.counts["jobs"] += len(jobs)
            known = self._encode(jobs)
            ready = [(job, tables) for job in jobs if (tables := _tables(job, known)) is not None]
            for model in {id(job.model): job.model for job, _ in ready if job.run is None}.values():
                _reward_together(
                    model, [(job, *tables) for job, tables in ready if job.run is None and job.model is model]
                )
            for job, tables in ready:
                if job.run is not None:
                    _finish(job, partial(job.run, *tables))

    def _encode(self, jobs: Sequence[Job]) -> dict[bytes, Tensor | PalError]:
        """Embeddings of all texts and pictures that jobs need, by their keys, or what is wrong with them."""
        table: dict[bytes, Tensor | PalError] = {}
        missing: dict[bytes, dict[bytes, tuple[RewardModel, Side, Raw]]] = {}  # by encoder, then by item
        for job in jobs:
            for side, items in job.needs:
                if not isinstance(items, list):
                    job.keys.append(None)
                    continue
                encoder = _encoder(job.model, side)
                keys = [_key(encoder, item) for item in items]
                job.keys.append(keys)
                for key, item in zip(keys, items, strict=True):
                    if key in self._cache:
                        self._cache.move_to_end(key)
                        table[key] = self._cache[key]
                    elif key not in table:
                        missing.setdefault(encoder, {})[key] = (job.model, side, item)
        self.counts["cached"] += len(table)
        for items in missing.values():
            self._encode_missing(items, table)
        return table

    def _encode_missing(
        self, items: Mapping[bytes, tuple[RewardModel, Side, Raw]], table: dict[bytes, Tensor | PalError]
    ) -> None:
        """Encode items of one encoder together; where one of them cannot be, each alone."""
        model, side, _ = next(iter(items.values()))
        dim = model.prompt_dim if side == "prompts" else model.response_dim
        try:
            vectors = model.input_encoder.encode([item for *_, item in items.values()], side, dim).tensor()
        except Exception as error:
            if len(items) > 1:
                for key, item in items.items():
                    self._encode_missing({key: item}, table)
            else:
                given = error if isinstance(error, PalError) else PalError(f"cannot be encoded: {error}")
                table[next(iter(items))] = given
            return
        self.counts["encoded"] += len(items)
        for key, vector in zip(items, vectors, strict=True):
            table[key] = self._cache[key] = vector.clone()  # not a view, which would keep the whole batch
        while len(self._cache) > MOST_CACHED:
            self._cache.popitem(last=False)


def _encoder(model: RewardModel, side: Side) -> bytes:
    """What tells encoders apart; a side that is given as vectors has one of its own."""
    about = repr(sorted(model.input_encoder.describe(side).items()) or (model.fingerprint, side))
    return blake2b(about.encode(), digest_size=16).digest()


def _key(encoder: bytes, item: str | bytes) -> bytes:
    kind, data = (b"t", item.encode("utf-8", "surrogatepass")) if isinstance(item, str) else (b"i", item)
    return blake2b(encoder + kind + data, digest_size=16).digest()


def _tables(job: Job, known: Mapping[bytes, Tensor | PalError]) -> list[Any] | None:
    """The embeddings of each of a job's lists; None where an item has none, which its future then says."""
    for (side, _), keys in zip(job.needs, job.keys, strict=True):
        for row, key in enumerate(keys or []):
            if isinstance(fault := known[key], PalError):
                job.future.set_exception(PalError(f"{side}[{row}] {fault.problem or fault}"))
                return None
    both = zip(job.needs, job.keys, strict=True)
    return [items if keys is None else torch.stack([known[key] for key in keys]) for (_, items), keys in both]


def _reward_together(model: RewardModel, jobs: Sequence[tuple[Job, Any, Tensor]]) -> None:
    """Rewards of several requests in one go; where that fails each alone, so that one fails for itself.

    With hardly an operation of torch for a single request: each may wait for its turn at the interpreter.
    """
    counts = [len(responses) for *_, responses in jobs]
    read = model.head.needs_prompts
    try:
        prompts = _for_each([prompt for _, prompt, _ in jobs], counts) if read else None
        states = _for_each([job.states for job, *_ in jobs], counts)
        responses = torch.cat([responses for *_, responses in jobs])
        rewards = model.score(prompts, responses, user=states).tolist()
    except (PalError, RuntimeError):  # RuntimeError: widths differ
        for (job, *tables), n in zip(jobs, counts, strict=True):
            score = partial(model.score, *tables, user=job.states.expand(n, -1))
            _finish(job, lambda score=score: score().tolist())
        return
    start = 0
    for (job, *_), n in zip(jobs, counts, strict=True):
        _finish(job, partial(rewards.__getitem__, slice(start, start := start + n)))


def _for_each(tables: Sequence[Tensor], counts: Sequence[int]) -> Tensor:
    """One row per response, of tables that have that or a single row."""
    rows: list[int] = []
    start = 0
    for table, n in zip(tables, counts, strict=True):
        rows += [start] * n if len(table) == 1 else range(start, start + len(table))
        start += len(table)
    return torch.cat(list(tables))[rows]


def _finish(job: Job, run: Callable[[], Any]) -> None:
    try:
        job.future.set_result(run())
    except Exception as error:  # belongs to the request, whatever it is
        job.future.set_exception(error)
