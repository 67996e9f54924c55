"""Inputs as callers pass them, and their embeddings: texts, pictures, vectors, and comparisons of these.

Texts and pictures are encoded by the encoders that a model was fitted with. These are found from the model's
own description and loaded when they are first needed; their weights must have the hashes of the description,
so that a reward means what it meant when the model was fitted.

Shapes: n items or comparisons, distinct (items that differ), dim (width of an embedding).
"""

import os
import re
import warnings
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from itertools import pairwise
from numbers import Real
from pathlib import Path
from typing import Any, Literal, NamedTuple, TypeAlias, TypeVar

import numpy as np
import torch
from jaxtyping import Float, Int
from PIL.Image import Image
from torch import Tensor

from pal import encoders
from pal.conversations import completion_text, joint_text, prompt_text
from pal.encoders import complaint
from pal.errors import PalError, shorten

Picture: TypeAlias = bytes | Path | Image
Conversation: TypeAlias = Sequence[Mapping[str, Any]]  # messages, each with a role and a content
Item: TypeAlias = str | Conversation | Picture | Tensor | np.ndarray | Sequence[float]
Items: TypeAlias = Item | Collection[Item]  # a list, or a column of a table: see `listed`
ItemList: TypeAlias = Tensor | list[Any]  # what `as_list` returns: embeddings (n, dim), or texts and pictures
Row = TypeVar("Row", bound=tuple)  # Preference or Question

TEXT, IMAGE, VECTOR = "text", "image", "vector"
COLUMNS = ("chosen", "rejected", "label")
Side = Literal["prompts", "responses"]
PLURALS = {TEXT: "texts", IMAGE: "pictures"}
TOKENS_PER_BATCH, IMAGES_PER_BATCH = 4096, 32
FINITE_BLOCK = 8192  # embeddings that are checked at a time, so that nothing of the table's size is allocated


class Place(NamedTuple):
    """Where an item stands, and what an error about it carries."""

    name: str  # in messages, such as `responses[3]`
    column: str
    row: int
    user: str | None = None  # whose comparison it is, where there are several users

    def error(self, problem: str) -> PalError:
        """An error that says what is wrong with the item."""
        at = {"row": self.row, "column": self.column, "user": self.user}
        return PalError(f"{self.name} {problem}", **at, problem=problem)


Places: TypeAlias = Callable[[int], Place]


@dataclass(frozen=True)
class ItemEmbeddings:
    """Embeddings of a list of items; an item that repeats is stored once.

    `row` is each item's row of `table`, which may be of any float type; None where item i is row i.
    """

    table: Float[Tensor, "distinct dim"]
    row: Int[Tensor, " n"] | None = None

    @property
    def rows(self) -> Int[Tensor, " n"]:
        """Each item's row of the table."""
        return torch.arange(len(self.table), device=self.table.device) if self.row is None else self.row

    def tensor(self) -> Float[Tensor, "n dim"]:
        """One embedding per item, repeated where items repeat."""
        return self.table if self.row is None else self.table[self.row.to(self.table.device)]

    def distinct(self, items: slice) -> tuple[Float[Tensor, "distinct dim"], Int[Tensor, " n"]]:
        """Embeddings of some items that differ, and each item's row of them.

        Of items that are rows of a table these are exact; otherwise only neighbours are compared.
        """
        if self.row is not None:
            rows, row = torch.unique(self.row[items], return_inverse=True)
            return self.table[rows.to(self.table.device)], row
        table = self.table[items]
        new = torch.ones(len(table), dtype=torch.bool, device=table.device)
        if bool((table[1:, 0] == table[:-1, 0]).any()):  # the first number settles most cases
            new[1:] = (table[1:] - table[:-1]).abs_().amax(1) != 0  # takes half the time of comparing
            table = table[new]
        return table, new.long().cumsum(0) - 1


class Preference(NamedTuple):
    """One comparison: this response is preferred to that one, as answers to this prompt.

    `prompt` is None where the model reads no prompts; `label` is P(chosen is preferred), in [0, 1].
    """

    prompt: Item | None
    chosen: Item
    rejected: Item
    label: float = 1.0  # 0.5 is a tie


class Question(NamedTuple):
    """One question that may be asked: which of two responses to a prompt, where one is read, is preferred."""

    prompt: Item | None
    first: Item
    second: Item


@dataclass(frozen=True)
class Preferences:
    """Comparisons of one person as columns, for embeddings in bulk."""

    prompts: Items | None  # one per comparison, or one for all; None where the model reads no prompts
    chosen: Items  # one per comparison: a list of texts and pictures, or embeddings (n, dim)
    rejected: Items  # aligned with these
    label: Tensor | Sequence[float] | None = None  # P(chosen is preferred) of each; None: all ones


def listed(column: Any) -> Any:
    """A table's column, as of pandas, polars, Arrow or `datasets`, as a list; anything else as it is.

    Tables and mappings are no columns: their elements are their names.
    """
    if isinstance(column, np.ndarray):
        return column.tolist() if column.dtype.kind in "OSTU" else column
    is_table = hasattr(column, "columns") or hasattr(column, "column_names")
    is_sequence = all(hasattr(column, f"__{name}__") for name in ("len", "iter", "getitem"))
    if isinstance(column, Tensor | Mapping | str | bytes | list | tuple) or is_table or not is_sequence:
        return column
    return column.to_pylist() if hasattr(column, "to_pylist") else list(column)


def as_list(items: Items) -> ItemList:
    """Items as a list of texts and pictures, or as one table of embeddings; one item is a list of one."""
    items = listed(items)
    if isinstance(items, Tensor | np.ndarray):
        table = _as_tensor(items)
        return table[None] if table.dim() == 1 else table
    if not isinstance(items, list | tuple) or (items and isinstance(items[0], Mapping | Real)):  # one item
        return _as_tensor(items)[None] if kind_of(items) == VECTOR else [items]
    n_vectors = sum(kind_of(item) == VECTOR for item in items)
    if not n_vectors:
        return list(items)
    if n_vectors < len(items):
        raise PalError("items must be all embeddings or none, got both; encode all, or leave it to the model")
    vectors = [_as_tensor(item) for item in items]
    shapes = {tuple(vector.shape) for vector in vectors}
    if len(shapes) > 1 or vectors[0].dim() != 1:
        raise PalError(f"embeddings in a list must be vectors of one width, got the shapes {sorted(shapes)}")
    return torch.stack(vectors)


def kind_of(item: object) -> str:
    """Whether an item is a text (or a conversation, which is read as one), an image or a vector."""
    if isinstance(item, str) or (isinstance(item, list | tuple) and item and isinstance(item[0], Mapping)):
        return TEXT
    if isinstance(item, bytes | Path | Image):
        return IMAGE
    is_list = isinstance(item, list | tuple) and item and isinstance(item[0], Real)
    if is_list or isinstance(item, Tensor | np.ndarray):
        return VECTOR
    wanted = "a text, messages, a picture (bytes, a Path or a PIL image) or an embedding"
    raise PalError(f"an item must be {wanted}, got {type(item).__name__}")


def concatenate(lists: Sequence[ItemList]) -> ItemList:
    """Several lists of items as one; all must be embeddings of one width, or none."""
    lists = [items for items in lists if len(items)]
    if not any(isinstance(items, Tensor) for items in lists):
        return [item for items in lists for item in items]
    if len({items.shape[1:] if isinstance(items, Tensor) else None for items in lists}) > 1:
        raise PalError("items must be all embeddings of one width or none, got several kinds")
    return torch.cat(lists) if len(lists) > 1 else lists[0]


def check_embeddings(table: Tensor, dim: int, places: Places) -> None:
    """Refuse a table of embeddings that is not finite floats of the model's width."""
    if table.dim() != 2 or table.shape[1] != dim:
        got = f"one of the shape {tuple(table.shape[1:])}; use the encoder that the model was fitted with"
        raise places(0).error(f"must be an embedding of {dim} numbers, got {got}")
    if not table.is_floating_point():
        raise places(0).error(f"must be an embedding of floats, got {table.dtype}; convert it")
    for number, block in enumerate(table.split(FINITE_BLOCK)):
        # One sum settles nearly every case; a sum of finite numbers may still overflow.
        if not bool(torch.isfinite(block.sum(dtype=torch.float32))):
            for row in (~torch.isfinite(block.float()).all(1)).nonzero()[:, 0].tolist():
                problem = "must be finite, got NaN or infinity; encode it again or leave it out"
                raise places(number * FINITE_BLOCK + row).error(problem)


def as_row(kind: type[Row], given: Any, place: str) -> Row:
    """A `Preference` or `Question` from a mapping, which may leave out `prompt`, or a tuple in its order."""
    with suppress(TypeError):  # too few, too many or other names
        if isinstance(given, Mapping):
            return kind(**{"prompt": None, **given})
        if isinstance(given, list | tuple):
            return kind(*given)
    names = ", ".join(kind._fields)
    raise PalError(f"{place} must be {names}, by name or in this order, got {shorten(given)}")


def as_columns(comparisons: Any, *, needs_prompts: bool) -> Preferences:
    """Comparisons as columns of equal length, labels as float32; without prompts where none are needed."""
    columns = comparisons if isinstance(comparisons, Preferences) else _columns_of_rows(comparisons)
    chosen, rejected = as_list(columns.chosen), as_list(columns.rejected)
    n, label = len(chosen), None
    if columns.label is not None:
        try:
            label = torch.as_tensor(listed(columns.label), dtype=torch.float32).reshape(-1)
        except (TypeError, ValueError, RuntimeError) as error:
            raise PalError(f"label must be numbers in [0, 1], got something else ({error})") from None
        for row in (~((label >= 0) & (label <= 1))).nonzero()[:1, 0].tolist():  # so that NaN is refused
            raise Place(f"label of comparison {row}", "label", row).error(
                f"must lie in [0, 1], got {float(label[row]):g}; 1 is chosen preferred, 0.5 a tie"
            )
    if len(rejected) != n or (label is not None and label.shape != (n,)):
        raise PalError(
            f"rejected and labels must be as many as the {n} chosen, got {len(rejected)} and "
            f"{n if label is None else tuple(label.shape)}"
        )
    if columns.prompts is None or not needs_prompts:
        return Preferences(None, chosen, rejected, label)
    prompts = as_list(columns.prompts)
    if len(prompts) not in (1, n):
        raise PalError(f"prompts must be one, or one for each of {n} chosen, got {len(prompts)}")
    if len(prompts) != n:
        prompts = prompts.expand(n, -1) if isinstance(prompts, Tensor) else prompts * n
    return Preferences(prompts, chosen, rejected, label)


def _columns_of_rows(comparisons: Any) -> Preferences:
    if isinstance(comparisons, Preference | Mapping | str | bytes) or not hasattr(comparisons, "__iter__"):
        raise PalError(f"comparisons must be a list, got {type(comparisons).__name__}; put it in a list")
    rows = [as_row(Preference, given, f"comparison {row}") for row, given in enumerate(comparisons)]
    without_prompt = [number for number, row in enumerate(rows) if row.prompt is None]
    if without_prompt and len(without_prompt) < len(rows):
        problem = f"all have a prompt or none, got none in comparison {without_prompt[0]}; add it"
        raise PalError(f"comparisons must {problem}", row=without_prompt[0], column="prompt")
    prompts = None if without_prompt or not rows else [row.prompt for row in rows]
    return Preferences(prompts, *([getattr(row, side) for row in rows] for side in COLUMNS))


def _as_tensor(vector: Any) -> Tensor:
    if isinstance(vector, Tensor | np.ndarray) and not vector.ndim:
        raise PalError("an embedding must be a list of numbers, got a single number; give one of dimension 1")
    if isinstance(vector, Tensor):
        if vector.layout != torch.strided or vector.is_meta:
            got = "one on the meta device" if vector.is_meta else f"one of the layout {vector.layout}"
            raise PalError(f"an embedding must be a dense tensor with its numbers, got {got}; use to_dense()")
        return vector
    try:
        array = np.ascontiguousarray(vector, None if isinstance(vector, np.ndarray) else "f4")
        with warnings.catch_warnings():  # of arrays that cannot be written to, as columns of a file are
            warnings.filterwarnings("ignore", "The given NumPy array is not writable")
            return torch.as_tensor(array)
    except (TypeError, ValueError) as error:
        raise PalError(f"an embedding must be numbers, got something else ({error})") from None


class LoadedEncoder(NamedTuple):
    """One side's encoder, and what the model says of it."""

    encoder: Any
    modalities: tuple[str, ...]  # that it reads: text, image or both
    description: Mapping[str, Any]


@dataclass
class InputEncoder:
    """A model's encoders, one for prompts and one for responses."""

    encoder: Mapping[str, Any]  # the model's: `{"prompts": {...} | None, "responses": {...}}`
    # Where an encoder's weights come from, by its name: `package`, `hub` or a folder. By default the hub; for
    # all-MiniLM-L6-v2 the package.
    weights: Mapping[str, str | Path] = field(default_factory=dict)
    device: str = "cpu"  # where encoders compute
    # How prompt and response are one text, where the model was fitted on such: see `template_of`.
    template: str | None = field(init=False)
    _loaded: dict[Side, LoadedEncoder] = field(default_factory=dict, init=False, repr=False)

    def __post_init__(self) -> None:
        self.template = self.describe("responses").get("template")
        device = str(self.device)  # a torch.device, too
        is_gpu = re.fullmatch(r"cuda(:\d+)?", device)
        if device != "cpu" and not (is_gpu and torch.cuda.is_available()):
            raise PalError(f"device must be cpu, or cuda where torch finds a GPU, got {self.device!r}")

    def __getstate__(self) -> dict[str, Any]:
        """Without loaded encoders, which another process loads itself: they may hold what cannot be sent."""
        return {**vars(self), "_loaded": {}}

    def describe(self, side: Side) -> dict[str, Any]:
        """The model's description of one side's encoder; empty where items are given as vectors."""
        description = self.encoder.get(side)
        name = description.get("encoder") if isinstance(description, Mapping) else None
        return dict(description) if isinstance(name, str) and name != "none" else {}

    def source(self, name: str) -> str:
        """Where an encoder's weights come from: `package`, `hub` or a folder."""
        return str(self.weights.get(encoders.plain_name(name)) or encoders.default_weights(name))

    def joined(self, prompts: Items | None, responses: ItemList) -> ItemList:
        """Responses in one text with their prompts, where there is a template; embeddings as they are."""
        if self.template is None or isinstance(responses, Tensor):
            return responses
        prompts = [] if prompts is None else as_list(prompts)
        if isinstance(prompts, Tensor) or len(prompts) not in (1, len(responses)):
            raise PalError(
                f"prompts must be texts, one for all or one for each of the {len(responses)} responses, got "
                f"{len(prompts)}; this model reads both as one text"
            )
        prompts = [prompt_text(prompt) for prompt in prompts] * (len(responses) if len(prompts) == 1 else 1)
        texts = [completion_text(response) for response in responses]
        # What cannot be read alone stays as it is, to be refused by its name.
        return [
            text if complaint(text) else joint_text(self.template, prompt, text)
            for prompt, text in zip(prompts, texts, strict=True)
        ]

    def encode(
        self, items: ItemList, side: Side, dim: int, places: Places | None = None, *, start: int = 0
    ) -> ItemEmbeddings:
        """Embeddings of items, as `as_list` gives them; texts and pictures that repeat are encoded once.

        Embeddings pass through, and must be `dim` wide. `places` names items in messages; by default they are
        numbered from `start`, as `responses[3]`.
        """
        places = places or (lambda row: Place(f"{side}[{start + row}]", side, start + row))
        if isinstance(items, Tensor):
            repeats = len(items) > 1 and items.stride(0) == 0  # one embedding, which is stored once
            table = items[:1] if repeats else items
            check_embeddings(table, dim, places)
            return ItemEmbeddings(table, torch.zeros(len(items), dtype=torch.long) if repeats else None)
        if not items:
            return ItemEmbeddings(torch.zeros(0, dim))
        encoder, modalities, description = self.load(side)
        as_one_text = prompt_text if side == "prompts" else completion_text
        numbers: dict[Any, int] = {}  # of distinct items, by what makes them distinct
        first_at, rows = [], []
        by_kind: dict[str, dict[int, Any]] = {}  # distinct items by their numbers
        for at, item in enumerate(items):
            if isinstance(item, list | tuple):
                item = as_one_text(item, places(at).name)
            # A PIL image in memory cannot be compared with others cheaply, so it only equals itself.
            key = item if isinstance(item, str | bytes | Path) else id(item)
            if key not in numbers:
                if (kind := kind_of(item)) not in modalities:
                    reads = " and ".join(PLURALS[modality] for modality in modalities)
                    raise places(at).error(
                        f"must be one of the {reads} that {description['encoder']} reads, got one of the "
                        f"{PLURALS[kind]}; give what the model was fitted on"
                    )
                if kind == TEXT and (fault := complaint(item)):
                    raise places(at).error(f"{fault}; leave it out, or give a text")
                numbers[key] = len(numbers)
                by_kind.setdefault(kind, {})[numbers[key]] = item
                first_at.append(at)
            rows.append(numbers[key])
        table = torch.empty(len(numbers), description["dim"])
        # Training read stored embeddings, which may have been rounded to float16.
        stored = description.get("dtype", "float32")
        for kind, of_kind in by_kind.items():
            encode = _encode_texts if kind == TEXT else _encode_pictures
            for batch, vectors in encode(encoder, of_kind, lambda row: places(first_at[row])):
                table[torch.tensor(batch)] = torch.from_numpy(vectors.astype(stored).astype("float32"))
        check_embeddings(table, dim, lambda row: places(first_at[row]))
        return ItemEmbeddings(table, torch.tensor(rows))

    def load(self, side: Side) -> LoadedEncoder:
        """One side's encoder, loaded once, also where both sides have the same; with the model's weights."""
        if side in self._loaded:
            return self._loaded[side]
        description = self.describe(side)
        if not description:
            raise PalError(
                f"{side} must be embeddings, got texts or pictures; the model was fitted on vectors and "
                "names no encoder, so give lists of numbers (in tables: JSONL or Parquet)"
            )
        name, dim = description["encoder"], description.get("dim")
        if type(dim) is not int:
            raise PalError(f"the model's config must give the width of {name}, got {dim!r}")
        for other in self._loaded.values():
            if other.description | {"template": None} == description | {"template": None}:
                return self._loaded.setdefault(side, other)
        precision, engine = description.get("precision", "float32"), description.get("engine", "torch")
        try:
            described = encoders.describe(name, self.source(name), precision=precision, engine=engine)
        except PalError as error:
            raise PalError(
                f"the encoder of the model's {side} cannot be used: {error} (for encode.weights "
                f"give pal --weights {name}=PLACE, or load weights={{{name!r}: PLACE}})"
            ) from None
        for what in ("weights_sha256", "dim"):
            wanted, got = description.get(what), getattr(described, what)
            if wanted and wanted != got:
                raise PalError(
                    f"{name} must have the {what} that the model was fitted with, {wanted}, got {got}; "
                    f"give the folder of the right weights, --weights {name}=FOLDER, in Python load(..., "
                    f"weights={{{name!r}: FOLDER}})"
                )
        # Tokenisers and configs differ harmlessly between the hub's copy and a package's.
        if description.get("files_sha256") not in (None, "", described.files_sha256):
            warnings.warn(
                f"the weights of {name} are those that the model was fitted with, but its other files "
                "(tokeniser, configuration) are not the same; compare a few rewards with ones that you trust",
                stacklevel=2,
            )
        encoder = encoders.load(described, self.device)
        return self._loaded.setdefault(side, LoadedEncoder(encoder, described.modalities, description))


def _encode_texts(encoder: Any, texts: dict[int, str], _: Places) -> Iterator[tuple[list[int], np.ndarray]]:
    """Batches of texts of like length under a token budget, as rows and vectors."""
    lengths = dict(zip(texts, encoder.lengths(list(texts.values())), strict=True))
    order = sorted(lengths, key=lengths.__getitem__)
    for start, end in pairwise(encoders.batches(sorted(lengths.values()), TOKENS_PER_BATCH)):
        yield order[start:end], encoder.encode([texts[row] for row in order[start:end]])


def _encode_pictures(
    encoder: Any, pictures: dict[int, Any], places: Places
) -> Iterator[tuple[list[int], np.ndarray]]:
    """Batches of pictures in order, decoded on threads ahead of the encoder, as rows and vectors."""
    from pal.encoders import images  # torchvision, which takes as long to import as torch

    def pixels(picture: Any) -> Tensor:
        if isinstance(picture, Path):
            try:
                picture = picture.read_bytes()
            except OSError as error:
                raise PalError(f"{picture} ({error.strerror})") from None
        return encoder.shrink(images.read(picture))

    workers = max(1, (os.cpu_count() or 1) - 1)
    decoded = images.prefetch(pictures.values(), pixels, workers, 2 * IMAGES_PER_BATCH)
    rows = list(pictures)
    for start in range(0, len(rows), IMAGES_PER_BATCH):
        batch, stack = rows[start : start + IMAGES_PER_BATCH], []
        for row, (_, future) in zip(batch, decoded, strict=False):
            try:
                stack.append(future.result())
            except PalError as error:
                raise places(row).error(f"cannot be read as a picture: {error}") from None
        yield batch, encoder.encode_images(torch.stack(stack))
