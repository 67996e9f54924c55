"""Encoding of inputs: texts and pictures to embeddings, by the encoders that a model was fitted with.

Encoders are found from the model's own description and loaded when they are first needed. Their weights must
have the hashes of the description, so that a reward means what it meant when the model was fitted.
"""

import io
import os
import warnings
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from PIL import Image, ImageOps
from torch import Tensor

from pal import encoders
from pal.conversations import completion_text, joint_text, prompt_text
from pal.encoders.registry import complaint
from pal.errors import PalError
from pal.serving.inputs import (
    IMAGE,
    TEXT,
    ItemEmbeddings,
    ItemList,
    Items,
    Places,
    as_list,
    check_embeddings,
    kind_of,
    places_in,
)

Side = Literal["prompts", "responses"]
PLURALS = {TEXT: "texts", IMAGE: "pictures"}
TOKENS_PER_BATCH = 4096
IMAGES_PER_BATCH = 32


@dataclass
class InputEncoder:
    """A model's encoders, one for prompts and one for responses.

    Args:
        encoder: The model's: `{"prompts": {...} | None, "responses": {...}}`, or one description for both.
        weights: Where an encoder's weights come from, by its name: `package`, `hub` or a folder. By default
            the hub; for all-MiniLM-L6-v2 the package.
        device: Where encoders compute.
    """

    encoder: Mapping[str, Any]
    weights: Mapping[str, str | Path] = field(default_factory=dict)
    device: str = "cpu"
    _loaded: dict[tuple[str, str, str], tuple[Any, tuple[str, ...]]] = field(default_factory=dict, repr=False)

    def __post_init__(self) -> None:
        try:
            kind = torch.device(self.device).type
        except (RuntimeError, TypeError):
            kind = ""
        if kind not in ("cpu", "cuda"):
            raise PalError(f"device must be cpu or cuda, got {self.device!r}")
        if kind == "cuda" and not torch.cuda.is_available():
            raise PalError(f"device must be cpu where torch finds no GPU, got {self.device!r}")

    def __getstate__(self) -> dict[str, Any]:
        """Without loaded encoders, which another process loads itself: they may hold what cannot be sent."""
        return {**vars(self), "_loaded": {}}

    def encode(self, items: ItemList, side: Side, dim: int, places: Places | None = None) -> ItemEmbeddings:
        """Embeddings of items, as `as_list` gives them; texts and pictures that repeat are encoded once.

        Embeddings pass through, and must be `dim` wide. `places` names items in messages.
        """
        places = places or places_in(side)
        if isinstance(items, Tensor):
            n = len(items)
            # One embedding that was expanded is stored once.
            table = items[:1] if n > 1 and items.stride(0) == 0 else items
            check_embeddings(table, dim, places)
            return ItemEmbeddings(table).repeated(n) if len(table) != n else ItemEmbeddings(table)
        if not items:
            return ItemEmbeddings(torch.zeros(0, dim, dtype=torch.float32))
        read = prompt_text if side == "prompts" else completion_text
        items = [
            read(item, places(number).name) if isinstance(item, list | tuple) else item
            for number, item in enumerate(items)
        ]
        distinct: dict[Any, int] = {}  # each distinct item's row of the table, by what makes it distinct
        first_at: list[int] = []
        row = torch.empty(len(items), dtype=torch.long)
        for number, item in enumerate(items):
            # A PIL image in memory cannot be compared with others cheaply, so it only equals itself.
            key = item if isinstance(item, str | bytes | Path) else ("picture", id(item))
            if key not in distinct:
                distinct[key] = len(distinct)
                first_at.append(number)
            row[number] = distinct[key]
        table = torch.empty(len(distinct), self.describe(side)["dim"], dtype=torch.float32)
        for rows, vectors in self._batches(
            [items[at] for at in first_at], side, lambda at: places(first_at[at])
        ):
            table[torch.tensor(rows)] = torch.from_numpy(vectors)
        check_embeddings(table, dim, lambda at: places(first_at[at]))
        return ItemEmbeddings(table, row)

    @property
    def template(self) -> str | None:
        """How prompt and response are one text, where the model was fitted on such: see `template_of`."""
        responses = self.encoder.get("responses")
        return responses.get("template") if isinstance(responses, Mapping) else None

    def joined(self, prompts: Items | None, responses: ItemList) -> ItemList:
        """Responses in one text with their prompts, where there is a template; embeddings as they are.

        Raises:
            PalError: If prompts are not texts, or neither one nor as many as the responses.
        """
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

    def _batches(
        self, items: list[Any], side: Side, places: Places
    ) -> Iterator[tuple[Sequence[int], np.ndarray]]:
        """Distinct texts and pictures, batch by batch: their rows, and their embeddings in float32."""
        description = self.describe(side)
        encoder, modalities = self._load(side)
        rows: dict[str, list[int]] = {}
        for number, item in enumerate(items):
            kind = kind_of(item)
            if kind not in modalities:
                reads = " and ".join(PLURALS[modality] for modality in modalities)
                raise places(number).error(
                    f"must be one of the {reads} that {description['encoder']} reads, got one of the "
                    f"{PLURALS[kind]}; give what the model was fitted on"
                )
            rows.setdefault(kind, []).append(number)
        for kind, numbers in sorted(rows.items()):
            encode = _encode_texts if kind == TEXT else _encode_pictures
            for batch, vectors in encode(encoder, items, numbers, places):
                # Training read stored embeddings, which may have been rounded to float16.
                yield batch, vectors.astype(description.get("dtype", "float32")).astype("float32")

    def modalities(self, side: Side) -> tuple[str, ...]:
        """What one side's encoder reads: text, image or both."""
        return self._load(side)[1]

    def describe(self, side: Side) -> dict[str, Any]:
        """The model's description of one side's encoder; an error if it names none."""
        has_sides = set(self.encoder) <= {"prompts", "responses"}
        description = self.encoder.get(side) if has_sides else self.encoder
        name = description.get("encoder") if isinstance(description, Mapping) else None
        if not isinstance(name, str) or name == "none":
            raise PalError(
                f"{side} must be embeddings, got texts or pictures; the model was fitted on vectors and "
                "names no encoder, so give lists of numbers (in tables: JSONL or Parquet)"
            )
        if type(description.get("dim")) is not int:
            raise PalError(
                f"the model's config must give the width of {name}, got {description.get('dim')!r}"
            )
        return dict(description)

    def source(self, name: str) -> str:
        """Where an encoder's weights come from: `package`, `hub` or a folder."""
        return str(self.weights.get(encoders.plain_name(name)) or encoders.default_weights(name))

    def _load(self, side: Side) -> tuple[Any, tuple[str, ...]]:
        """The encoder, and the kinds of items that it reads; loaded once."""
        description = self.describe(side)
        name = description["encoder"]
        precision, engine = description.get("precision", "float32"), description.get("engine", "torch")
        key = (name, precision, engine)
        if key not in self._loaded:
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
                    "(tokeniser, configuration) are not the same; compare a few rewards with ones that you "
                    "trust",
                    stacklevel=2,
                )
            self._loaded[key] = encoders.load(described, self.device), described.modalities
        return self._loaded[key]


def _encode_texts(
    encoder: Any, items: list[Any], rows: list[int], places: Places
) -> Iterator[tuple[Sequence[int], np.ndarray]]:
    """Batches of texts of like length under a token budget, as rows and vectors."""
    for row in rows:
        if fault := complaint(items[row]):
            raise places(row).error(f"{fault}; leave it out, or give a text")
    lengths = dict(zip(rows, encoder.lengths([items[row] for row in rows]), strict=True))
    batch: list[int] = []
    for row in sorted(rows, key=lengths.__getitem__):
        if batch and lengths[row] * (len(batch) + 1) > TOKENS_PER_BATCH:
            yield batch, encoder.encode([items[at] for at in batch])
            batch = []
        batch.append(row)
    yield batch, encoder.encode([items[at] for at in batch])


def _encode_pictures(
    encoder: Any, items: list[Any], rows: list[int], places: Places
) -> Iterator[tuple[Sequence[int], np.ndarray]]:
    """Batches of pictures in order, decoded on threads ahead of the encoder, as rows and vectors."""
    from pal.encoders import images  # torchvision, which takes as long to import as torch

    def pixels(picture: Any) -> Tensor:
        """Every kind goes through the decoder of files, which limits sizes."""
        if isinstance(picture, Path):
            try:
                picture = picture.read_bytes()
            except OSError as error:
                raise PalError(f"{picture} ({error.strerror})") from None
        if not isinstance(picture, bytes):  # a PIL image: to a file, upright and without loss
            image = ImageOps.exif_transpose(picture)
            if image.mode in ("I", "F") or image.mode.startswith("I;16"):
                values = np.asarray(image)
                if image.mode == "F" or values.min(initial=0) < 0 or values.max(initial=0) > 0xFFFF:
                    kind = "floating point" if image.mode == "F" else "beyond 16 bits"
                    raise PalError(
                        f"its mode {image.mode} is {kind}, whose white nobody knows; convert it to RGB"
                    )
                if image.mode == "I" and 0 < values.max(initial=0) <= 0xFF:
                    raise PalError(
                        "its mode I has values up to 255 alone, of 8 or of 16 bits; convert it to L"
                    )
                image = Image.fromarray(values.astype(np.uint16))  # Pillow's own conversions clip at 255
            elif image.mode not in ("1", "L", "LA", "P", "RGB", "RGBA"):
                image = image.convert("RGB")
            buffer = io.BytesIO()
            image.save(buffer, "PNG", compress_level=1)
            picture = buffer.getvalue()
        return encoder.shrink(images.read(picture))

    workers = max(1, (os.cpu_count() or 1) - 1)
    decoded = images.prefetch([items[row] for row in rows], pixels, workers, 2 * IMAGES_PER_BATCH)
    for start in range(0, len(rows), IMAGES_PER_BATCH):
        batch, stack = rows[start : start + IMAGES_PER_BATCH], []
        for row, outcome in zip(batch, decoded, strict=False):
            if isinstance(outcome.error, PalError):
                raise places(row).error(f"cannot be read as a picture: {outcome.error}")
            if outcome.error is not None:
                raise outcome.error
            stack.append(outcome.result)
        yield batch, encoder.encode_images(torch.stack(stack))
