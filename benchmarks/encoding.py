"""Encoding of texts and pictures beside the libraries' own ways."""

import io
import os
import tempfile
from collections.abc import Callable, Iterator
from functools import partial
from itertools import islice, pairwise
from unittest.mock import patch

import numpy as np
import torch
from PIL import Image

from benchmarks.pickafilter import photographs
from benchmarks.studies import persona_or_sample, values
from benchmarks.table import Row, Section
from benchmarks.timing import in_turns, peak, threads
from pal import encoders
from pal.encoders.images import prefetch, read
from pipeline.datasets import persona

NAME = "all-MiniLM-L6-v2"
N_TEXTS, SLICE = 6_000, 1_000
THEIRS = "SentenceTransformer.encode"
# Engine, precision, times the speed of the defaults to reach, and how far from a cosine of 1 at most.
WAYS = {
    "torch, float32": ("torch", "float32", 1.1, 1e-5),
    "torch, bfloat16": ("torch", "bfloat16", 2.0, 1e-4),
    "onnx, float32": ("onnx", "float32", 1.3, 1e-5),
}
PICTURES = "untrained-vit-b-32"
SIDE, N_JPEGS, N_PICTURES, BATCH = 512, 55, 96, 16


def text() -> Section:
    """Texts by every engine and precision of a CPU, over sentence-transformers' defaults, on one thread.

    In batches as the encode stage makes them, and by `SentenceTransformer.encode` as it comes. Half a minute
    is rarely undisturbed, so the texts are cut into slices, by length. About 10 minutes on a quiet core.
    """
    folder, which = persona_or_sample()
    files = [persona.read(path.name, path) for path in sorted(folder.glob("*.jsonl"))]
    each = [statement.statement for file in files for statement in file[: -(-N_TEXTS // len(files))]]
    texts = sorted(each[:N_TEXTS], key=len)
    # What is derived from weights goes into a cache of this run's own.
    with threads(1), tempfile.TemporaryDirectory() as store, patch.dict(os.environ, PAL_STORE=store):
        ways = _ways()
        worst, timed = dict.fromkeys(ways, 0.0), []
        for start in range(0, len(texts), SLICE):
            some = texts[start : start + SLICE]
            expected = torch.from_numpy(ways[THEIRS](some))
            for way, encode in ways.items():
                cosine = torch.cosine_similarity(torch.from_numpy(encode(some)), expected)
                worst[way] = max(worst[way], float((1 - cosine).max()))
            timed.append(in_turns({way: partial(encode, some) for way, encode in ways.items()}, at_most=8))
        highest = peak.best
    seconds = {way: sum(each.seconds[way] for each in timed) for way in ways}
    unjudged = next((each.unjudged for each in timed if each.unjudged), "")
    first = f"{THEIRS}, defaults"
    rows = [Row(first, len(texts) / seconds[THEIRS], "items/s", note=timed[-1].note)]
    for way, (_, _, least, apart) in WAYS.items():
        ratio = seconds[THEIRS] / seconds[way]
        rows += [
            Row(way, len(texts) / seconds[way], "items/s"),
            Row("  times the defaults", ratio, "x", at_least=least, unjudged=unjudged),
            Row("  1 - smallest cosine to them", worst[way], "", at_most=apart),
        ]
    about = {"statements": which, "threads": 1, "best float32 matrix peak": f"{highest:.0f} GFLOP/s"}
    return Section(f"Encoding texts ({NAME}), over {THEIRS}", about, rows)


def _ways() -> dict[str, Callable[[list[str]], np.ndarray]]:
    """Every way, the defaults first."""
    from sentence_transformers import SentenceTransformer

    theirs = SentenceTransformer(str(encoders.describe(NAME).folder), device="cpu", local_files_only=True)
    ways: dict[str, Callable] = {THEIRS: partial(theirs.encode, show_progress_bar=False)}
    budget = values("persona", 0).encode.tokens_per_batch

    def as_stage(encoder: encoders.TextEncoder, texts: list[str]) -> np.ndarray:
        """Texts to vectors as the stage encode does it."""
        lengths = np.asarray(encoder.lengths(texts))
        order = np.argsort(lengths, kind="stable")
        edges = encoders.batches(lengths[order].tolist(), budget)
        rows = [order[start:end] for start, end in pairwise(edges)]
        vectors = np.concatenate([encoder.encode([texts[row] for row in some]) for some in rows])
        return vectors[np.argsort(order)]

    for way, (engine, precision, _, _) in WAYS.items():
        ours = encoders.load(encoders.describe(NAME, precision=precision, engine=engine))
        ways[way] = partial(as_stage, ours)
    return ways


def images() -> Section:
    """Pictures: shrunk beside open_clip's own transform, and made vectors beside the bare encoder.

    JPEGs become 224 x 224 pixels on one core; on two they become vectors, decoded ahead of the encoder as the
    encode stage does it, beside the same encoder given the shrunk pictures. About three minutes.
    """
    from open_clip import image_transform

    jpegs = _jpegs()
    encoder = encoders.load(encoders.describe(PICTURES))
    transform = image_transform(224, is_train=False)
    plain = image_transform(224, is_train=False, mean=(0, 0, 0), std=(1, 1, 1))
    data = [jpegs[at % len(jpegs)] for at in range(N_PICTURES)]

    def shrink(jpeg: bytes) -> torch.Tensor:
        return encoder.shrink(read(jpeg))

    def ours() -> list[torch.Tensor]:
        return [shrink(jpeg) for jpeg in jpegs]

    def theirs(way: Callable = transform) -> list[torch.Tensor]:
        return [way(Image.open(io.BytesIO(jpeg))) for jpeg in jpegs]

    def encode(some: Iterator[torch.Tensor]) -> np.ndarray:
        each = iter(lambda: list(islice(some, BATCH)), [])
        return np.concatenate([encoder.encode_images(torch.stack(batch)) for batch in each])

    def path() -> np.ndarray:
        return encode(future.result() for _, future in prefetch(data, shrink, 1, 2 * BATCH))

    with threads(1):
        off = [(255 * exact).round() - shrunk for exact, shrunk in zip(theirs(plain), ours(), strict=True)]
        timed = in_turns({"ours": ours, "theirs": theirs})
        fast, slow = timed.seconds.values()
        apart = float(torch.stack(off).abs().max())
        rows = [
            Row("JPEG to uint8 224", len(jpegs) / fast, "pictures/s", note=timed.note),
            Row("JPEG to float32 224, open_clip's transform", len(jpegs) / slow, "pictures/s"),
            Row("  ratio, one core", slow / fast, "x", at_least=3, unjudged=timed.unjudged),
            Row("  largest difference from Pillow's bicubic", apart, "/255", at_most=1),
        ]
    with threads(2):
        shrunk = [shrink(jpeg) for jpeg in data]
        assert np.array_equal(encode(iter(shrunk)), path()), "the path must not change the vectors"
        timed = in_turns({"bare": lambda: encode(iter(shrunk)), "path": path}, at_most=8)
        quick, whole = timed.seconds.values()
        rows += [
            Row("bare encoder, shrunk pictures given", N_PICTURES / quick, "pictures/s", note=timed.note),
            Row("JPEG to vectors", N_PICTURES / whole, "pictures/s"),
            Row("  ratio, two cores", quick / whole, "x", at_least=0.95, unjudged=timed.unjudged),
        ]
    about = {
        "pictures": f"photographs of dogs, brought to {SIDE} x {SIDE}, JPEG of quality 90",
        "encoder": f"{PICTURES}: its weights are UNTRAINED, which changes no time",
        "to vectors": f"{N_PICTURES} pictures in batches of {BATCH}, 1 thread decodes, 2 cores",
    }
    return Section("Pictures, beside what they replace", about, rows)


def _jpegs() -> list[bytes]:
    """Photographs of one size."""
    jpegs = []
    for stored in photographs()[:N_JPEGS]:
        image, file = Image.open(io.BytesIO(stored)).convert("RGB"), io.BytesIO()
        image.resize((SIDE, SIDE), Image.Resampling.BICUBIC).save(file, "JPEG", quality=90)
        jpegs.append(file.getvalue())
    return jpegs
