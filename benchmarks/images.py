"""Pictures: shrunk beside open_clip's own transform, and made vectors beside the bare encoder.

First, on one core, 55 JPEGs of 512 x 512 pixels become 224 x 224: by `images.read` and CLIP's `shrink`, as
uint8, and by the transform that open_clip hands out, as float32. Then, on two cores, JPEGs become vectors of
an untrained ViT-B-32, decoded ahead of the encoder as the encode stage does it, beside the same encoder given
the shrunk pictures. Variants run in turns, and the fastest of at least four rounds that were not disturbed
counts (benchmarks/rounds.py). About three minutes on two quiet cores.
"""

import io
from collections.abc import Iterator
from itertools import islice
from pathlib import Path

import numpy as np
import torch
from PIL import Image

from benchmarks.rounds import in_turns, peak
from benchmarks.studies import ROOT
from benchmarks.table import Row, Section, show
from pal import encoders
from pal.encoders import ImageEncoder, images
from pal.encoders.images import prefetch

NAME = "untrained-vit-b-32"
PHOTOS = ROOT.parent / "shared/data/dog_morphs/images.parquet"
SIDE, QUALITY, N_JPEGS = 512, 90, 55
N_PICTURES, BATCH, WORKERS, CORES = 96, 16, 1, 2


def measure() -> Section:
    """Both comparisons; torch's number of threads is put back."""
    jpegs = _jpegs()
    encoder = encoders.load(encoders.describe(NAME))
    threads = torch.get_num_threads()
    try:
        rows = [*_shrinking(jpegs, encoder), *_pipeline(jpegs, encoder)]
    finally:
        torch.set_num_threads(threads)
    about = {
        "pictures": f"{_source()}, brought to {SIDE} x {SIDE}, JPEG of quality {QUALITY}, "
        f"{np.mean([len(jpeg) for jpeg in jpegs]) / 1e3:.0f} kB each",
        "encoder": f"{NAME}: its weights are UNTRAINED, which changes no time",
        "to vectors": f"{N_PICTURES} pictures in batches of {BATCH}, {WORKERS} thread decodes, {CORES} cores",
    }
    return Section("Pictures, beside what they replace", about, rows)


def _shrinking(jpegs: list[bytes], encoder: ImageEncoder) -> list[Row]:
    from open_clip import image_transform

    torch.set_num_threads(1)
    peak.best = 0.0
    peak()
    transform = image_transform(224, is_train=False)
    plain = image_transform(224, is_train=False, mean=(0, 0, 0), std=(1, 1, 1))

    def ours() -> list[torch.Tensor]:
        return [encoder.shrink(images.read(jpeg)) for jpeg in jpegs]

    def theirs() -> list[torch.Tensor]:
        return [transform(Image.open(io.BytesIO(jpeg))) for jpeg in jpegs]

    off = [
        (255 * plain(Image.open(io.BytesIO(jpeg)))).round() - found
        for jpeg, found in zip(jpegs, ours(), strict=True)
    ]
    timed = in_turns(ours, theirs)
    fast, slow = timed.seconds
    unjudged = "" if timed.quiet else "the machine was disturbed"
    return [
        Row("JPEG to uint8 224", len(jpegs) / fast, "pictures/s", note=timed.note),
        Row("JPEG to float32 224, open_clip's transform", len(jpegs) / slow, "pictures/s"),
        Row("  ratio, one core", slow / fast, "x", at_least=3, unjudged=unjudged),
        Row(
            "  largest difference from Pillow's bicubic",
            float(torch.stack(off).abs().max()),
            "/255",
            at_most=1,
        ),
    ]


def _pipeline(jpegs: list[bytes], encoder: ImageEncoder) -> list[Row]:
    torch.set_num_threads(CORES)
    peak.best = 0.0
    peak()
    data = [jpegs[at % len(jpegs)] for at in range(N_PICTURES)]
    shrunk = [encoder.shrink(images.read(jpeg)) for jpeg in data]

    def bare() -> np.ndarray:
        return _vectors(iter(shrunk), encoder)

    def path() -> np.ndarray:
        found = prefetch(data, lambda jpeg: encoder.shrink(images.read(jpeg)), WORKERS, 2 * BATCH)
        return _vectors((done.result for done in found), encoder)

    assert np.array_equal(bare(), path()), "the path must not change the vectors"
    timed = in_turns(bare, path, at_most=8)
    quick, whole = timed.seconds
    unjudged = "" if timed.quiet else "the machine was disturbed"
    return [
        Row("bare encoder, shrunk pictures given", N_PICTURES / quick, "pictures/s", note=timed.note),
        Row("JPEG to vectors", N_PICTURES / whole, "pictures/s"),
        Row(
            "  ratio, two cores", quick / whole, "x", at_least=0.95, unjudged=unjudged,
            note=f"median over rounds {1 / timed.ratios[1]:.3f}",
        ),
    ]  # fmt: skip


def _vectors(shrunk: Iterator[torch.Tensor], encoder: ImageEncoder) -> np.ndarray:
    parts = []
    while batch := list(islice(shrunk, BATCH)):
        parts.append(encoder.encode_images(torch.stack(batch)))
    return np.concatenate(parts)


def _source() -> str:
    return "photographs and morphs of dogs" if PHOTOS.exists() else "drawn: the photographs were not found"


def _jpegs() -> list[bytes]:
    return [
        _saved(image.convert("RGB").resize((SIDE, SIDE), Image.Resampling.BICUBIC))
        for image in _images(PHOTOS)
    ]


def _images(photos: Path) -> list[Image.Image]:
    if photos.exists():
        import pyarrow.parquet as pq

        jpegs = pq.read_table(photos, columns=["jpg"])["jpg"].to_pylist()
        return [Image.open(io.BytesIO(jpeg)) for jpeg in jpegs[:N_JPEGS]]
    rng = np.random.default_rng(0)
    small = rng.integers(0, 256, (N_JPEGS, 32, 32, 3), dtype=np.uint8)
    return [Image.fromarray(pixels) for pixels in small]


def _saved(image: Image.Image) -> bytes:
    file = io.BytesIO()
    image.save(file, "JPEG", quality=QUALITY)
    return file.getvalue()


if __name__ == "__main__":
    show(measure())
