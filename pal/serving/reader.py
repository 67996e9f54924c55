"""Raw items to embeddings, by the encoders that a model was fitted with.

Encoders are found from the model's own config and loaded when first needed; their weights are held to the
hashes that stand there, so that scores mean what they meant when the model was fitted.
"""

import os
import warnings
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from torch import Tensor

from pal.errors import PalError
from pal.serving.items import CALLED, TEXT, Items, Rows, Where, checked, kind_of, listed

Side = Literal["prompts", "responses"]
IN_PACKAGES = ("all-MiniLM-L6-v2",)  # whose weights come with this library's own dependencies
TOKENS_PER_BATCH = 4096
IMAGES_PER_BATCH = 32


@dataclass
class Reader:
    """A model's encoders, one for prompts and one for responses.

    Args:
        encoder: The model's: `{"prompts": {...} | None, "responses": {...}}`, or one description for both.
        weights: Where an encoder's weights come from, by its name: `package`, `hub` or a folder. Where
            nothing is said, the hub; for all-MiniLM-L6-v2 the package.
        device: Where encoders compute.
    """

    encoder: Mapping[str, Any]
    weights: Mapping[str, str | Path] = field(default_factory=dict)
    device: str = "cpu"
    _loaded: dict[tuple[str, str, str], tuple[Any, tuple[str, ...]]] = field(default_factory=dict, repr=False)

    def read(self, items: Items, side: Side, dim: int, where: Where | None = None) -> Rows:
        """Embeddings of items; texts and pictures that repeat are encoded once, embeddings pass through.

        Args:
            items: Texts, pictures (bytes, a Path, a PIL image) or embeddings (n, dim); one or many.
            side: Which encoder reads them.
            dim: How wide embeddings must be.
            where: What an item is called in messages, by its number; `responses[3]` where not given.

        Raises:
            PalError: If an item cannot be read, or the encoder is not to be had or not the model's own.
        """
        where = where or (lambda row: f"{side}[{row}]")
        found = listed(items)
        if isinstance(found, Tensor):
            checked(found, dim, where)
            once = len(found) > 1 and found.stride(0) == 0  # one embedding, expanded
            return Rows(found[:1]).repeated(len(found)) if once else Rows(found)
        if not found:
            return Rows(torch.zeros(0, dim))
        place: dict[Any, int] = {}
        row = torch.tensor([place.setdefault(_key(item), len(place)) for item in found])
        first = {at: number for number, at in reversed(list(enumerate(row.tolist())))}
        distinct = [found[first[at]] for at in range(len(place))]
        table = self._encoded(distinct, side, lambda at: where(first[at]))
        return Rows(checked(table, dim, lambda at: where(first[at])), row)

    def _encoded(self, items: list[Any], side: Side, where: Where) -> Tensor:
        """Embeddings of distinct texts and pictures, (len(items), dim) float32."""
        about = self.about(side)
        encoder, modalities = self._load(about, side)
        kinds = [kind_of(item) for item in items]
        for number, kind in enumerate(kinds):
            if kind not in modalities:
                reads = " and ".join(CALLED[one] for one in modalities)
                raise PalError(
                    f"{where(number)} must be one of the {reads} that {about['encoder']} reads, got one of "
                    f"the {CALLED[kind]}; give what the model was fitted on"
                )
        table = torch.empty(len(items), about["dim"])
        for kind in sorted(set(kinds)):
            rows = [number for number, one in enumerate(kinds) if one == kind]
            encode = _encode_texts if kind == TEXT else _encode_pictures
            for batch, vectors in encode(
                encoder, [items[at] for at in rows], lambda at, r=rows: where(r[at])
            ):
                # Training saw what was stored, which may have been of half precision.
                kept = vectors.astype(about.get("dtype", "float32")).astype("float32")
                table[torch.tensor([rows[at] for at in batch])] = torch.from_numpy(kept)
        return table

    def modalities(self, side: Side) -> tuple[str, ...]:
        """What one side's encoder reads: text, image or both.

        Raises:
            PalError: If the model names no encoder, or it is not to be had or not the model's own.
        """
        return self._load(self.about(side), side)[1]

    def about(self, side: Side) -> dict[str, Any]:
        """What the model's config says of one side's encoder.

        Raises:
            PalError: If it names none, so that only embeddings can be read.
        """
        both = set(self.encoder) <= {"prompts", "responses"}
        about = self.encoder.get(side) if both else self.encoder
        name = about.get("encoder") if isinstance(about, Mapping) else None
        if not isinstance(name, str) or name == "none":
            raise PalError(
                f"{side} must be embeddings, got texts or pictures; the model was fitted on vectors and "
                "names no encoder"
            )
        if type(about.get("dim")) is not int:
            raise PalError(f"the model's config must give the width of {name}, got {about.get('dim')!r}")
        return dict(about)

    def _load(self, about: dict[str, Any], side: Side) -> tuple[Any, tuple[str, ...]]:
        """The encoder, and the kinds of items that it reads."""
        name = about["encoder"]
        how = {"precision": about.get("precision", "float32"), "engine": about.get("engine", "torch")}
        key = (name, how["precision"], how["engine"])
        if key not in self._loaded:
            from pal import encoders

            source = str(self.weights.get(name, "package" if name in IN_PACKAGES else "hub"))
            try:
                described = encoders.describe(name, source, **how)
            except PalError as error:
                words = str(error).replace("encode.weights", f"weights={{{name!r}: ...}}")
                raise PalError(f"the encoder of the model's {side} cannot be used: {words}") from None
            _compare(about, described)
            self._loaded[key] = encoders.load(described, self.device), described.modalities
        return self._loaded[key]


def _compare(about: dict[str, Any], described: Any) -> None:
    """Hold what was found to what the model was fitted with.

    Other files than the weights (a tokeniser's, a config) differ harmlessly between the hub's copy and a
    package's; that is told and not refused.
    """
    name = about["encoder"]
    for what in ("weights_sha256", "dim"):
        wanted, found = about.get(what), getattr(described, what)
        if wanted and wanted != found:
            raise PalError(
                f"{name} must have the {what} that the model was fitted with, {wanted}, got {found}; give "
                "the folder of the right weights, load(..., weights={name: folder})"
            )
    wanted, found = about.get("files_sha256"), described.files_sha256
    if wanted and wanted != found:
        warnings.warn(
            f"the weights of {name} are those that the model was fitted with, but its other files "
            "(tokeniser, configuration) are not the same; compare a few rewards with ones that you trust",
            stacklevel=2,
        )


def _key(item: Any) -> Any:
    """What is equal for the same item: the text, the bytes, the path; a picture in memory is itself alone."""
    return item if isinstance(item, str | bytes | Path) else ("picture", id(item))


def _encode_texts(encoder: Any, texts: list[str], where: Where) -> Iterator[tuple[Sequence[int], np.ndarray]]:
    """Batches of like length under a token budget, as rows and vectors."""
    from pal.encoders.registry import complaint

    for row, text in enumerate(texts):
        if fault := complaint(text):
            raise PalError(f"{where(row)} {fault}; leave it out, or give a text")
    lengths = encoder.lengths(texts)
    batch: list[int] = []
    for row in sorted(range(len(texts)), key=lengths.__getitem__):
        if batch and lengths[row] * (len(batch) + 1) > TOKENS_PER_BATCH:
            yield batch, encoder.encode([texts[at] for at in batch])
            batch = []
        batch.append(row)
    yield batch, encoder.encode([texts[at] for at in batch])


def _encode_pictures(
    encoder: Any, pictures: list[Any], where: Where
) -> Iterator[tuple[Sequence[int], np.ndarray]]:
    """Batches in the order given, decoded on threads ahead of the encoder, as rows and vectors."""
    from pal.encoders.images import prefetch

    workers = max(1, (os.cpu_count() or 1) - 1)
    done = prefetch(pictures, lambda one: encoder.shrink(_pixels(one)), workers, 2 * IMAGES_PER_BATCH)
    for start in range(0, len(pictures), IMAGES_PER_BATCH):
        rows = range(start, min(start + IMAGES_PER_BATCH, len(pictures)))
        batch = []
        for row in rows:
            one = next(done)
            if isinstance(one.error, PalError):
                raise PalError(f"{where(row)} cannot be read as a picture: {one.error}")
            if one.error is not None:
                raise one.error
            batch.append(one.result)
        yield rows, encoder.encode_images(torch.stack(batch))


def _pixels(picture: Any) -> Tensor:
    """Pixels of a picture, by way of `pal.encoders.images`, which limits sizes, wherever it comes from."""
    from pal.encoders import images

    if isinstance(picture, Path):
        try:
            picture = picture.read_bytes()
        except OSError as error:
            raise PalError(f"{picture} ({error.strerror})") from None
    return images.read(picture if isinstance(picture, bytes) else _png(picture))


def _png(image: Any) -> bytes:
    """A PIL image as a file, upright and without loss."""
    import io

    from PIL import ImageOps

    image = ImageOps.exif_transpose(image)
    if image.mode not in ("1", "L", "LA", "P", "RGB", "RGBA", "I;16"):
        image = image.convert("RGB")
    into = io.BytesIO()
    image.save(into, "PNG", compress_level=1)
    return into.getvalue()
