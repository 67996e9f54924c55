"""The drawn sample of Pick-a-Filter, in Pick-a-Pic's own format, under this project's licence.

Each picture shows a coloured thing below a sky, drawn at twice its size and reduced so that edges are smooth.
Of a prompt's two pictures one is neat and one has a defect. Everyone sees the neat one as better, but errs
now and then, or finds them equal: the colour filters add taste. Some people answer little, or in one split
alone, as in the real data, so that the selection of users has something to do.
"""

import io
from collections import Counter
from datetime import datetime, timedelta
from itertools import islice, product
from pathlib import Path
from random import Random
from typing import Any, NamedTuple
from uuid import UUID

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from PIL import Image, ImageDraw, ImageFilter

from pal.files import new_file
from pipeline.datasets import pickapic

PROMPTS = {"train": 300, "validation": 30, "test": 90}
ERRS, TIES = 0.12, 0.05
START = datetime(2023, 1, 1)

SIZE = 128
DRAWN = 2 * SIZE
HORIZON = int(0.66 * DRAWN)
INK = (52, 46, 44)
COLOURS = {
    "red": (196, 48, 43), "orange": (226, 131, 38), "yellow": (228, 197, 54), "green": (64, 140, 66),
    "blue": (52, 98, 186), "purple": (126, 70, 150), "white": (236, 232, 222), "brown": (124, 82, 50),
}  # fmt: skip
COUNTS = ("one", "two", "three", "four")
DEFECTS = ("blurred", "noisy", "faded", "blocky", "unfinished")
# Shapes in units of the thing's size, relative to its place: a kind, its coordinates, and what fills it.
#   box: left, top, right, bottom.  shape: corners.  disc: centre, radius.  line: points, width.  arc: box.
THINGS: dict[str, list[tuple[str, tuple[float, ...], Any]]] = {
    "house": [("box", (-1, -1.2, 1, 0), "own"), ("shape", (-1.2, -1.2, 0, -2.1, 1.2, -1.2), "darker"),
              ("box", (-0.2, -0.6, 0.2, 0), "darker"),
              ("box", (-0.8, -1, -0.4, -0.6), "pane"), ("box", (0.4, -1, 0.8, -0.6), "pane")],
    "tree": [("box", (-0.2, -1, 0.2, 0), "trunk"), ("disc", (-0.55, -1.3, 0.7), "own"),
             ("disc", (0.55, -1.3, 0.7), "own"), ("disc", (0, -1.9, 0.7), "own")],
    "boat": [("shape", (-1.3, -0.6, 1.3, -0.6, 0.8, 0, -0.8, 0), "own"), ("line", (0, -0.6, 0, -2.2), 5),
             ("shape", (0, -2.2, 1, -0.8, 0, -0.8), "pane")],
    "car": [("box", (-1.4, -0.8, 1.4, -0.2), "own"),
            ("shape", (-0.9, -0.8, -0.5, -1.4, 0.5, -1.4, 0.9, -0.8), "pane"),
            ("disc", (-0.8, -0.2, 0.33), "ink"), ("disc", (0.8, -0.2, 0.33), "ink")],
    "tent": [("shape", (-1.4, 0, 0, -1.8, 1.4, 0), "own"), ("shape", (-0.4, 0, 0, -1.2, 0.4, 0), "darker")],
    "tower": [("box", (-0.5, -2, 0.5, 0), "own"), ("box", (-0.5, -2.3, -0.3, -2), "own"),
              ("box", (-0.1, -2.3, 0.1, -2), "own"), ("box", (0.3, -2.3, 0.5, -2), "own"),
              ("box", (-0.15, -1, 0.15, -0.6), "pane"), ("box", (-0.15, -1.6, 0.15, -1.2), "pane")],
    "ball": [("disc", (0, -1, 1), "own"), ("arc", (-0.5, -2, 0.5, 0), None), ("line", (-1, -1, 1, -1), 3)],
    "mill": [("shape", (-0.8, 0, -0.5, -1.6, 0.5, -1.6, 0.8, 0), "own"),
             ("line", (0, -1.6, 0.7, -2.3), 6), ("line", (0, -1.6, -0.7, -2.3), 6),
             ("line", (0, -1.6, 0.7, -0.9), 6), ("line", (0, -1.6, -0.7, -0.9), 6),
             ("box", (-0.2, -0.6, 0.2, 0), "darker")],
}  # fmt: skip
ABOVE = ("cloud", "bird", "star", "balloon")


class Scene(NamedTuple):
    """What a prompt asks for: one of `THINGS`, of one of `COLOURS`, under 1 to 4 of one of `ABOVE`."""

    colour: str
    thing: str
    above: str
    count: int

    @property
    def prompt(self) -> str:
        """The scene in words."""
        article = "an" if self.colour[0] == "o" else "a"
        plural = "s" if self.count > 1 else ""
        return f"{article} {self.colour} {self.thing} under {COUNTS[self.count - 1]} {self.above}{plural}"


def draw(scene: Scene, seed: str, defect: str | None = None) -> Image.Image:
    """Draw a scene from a seed, with one of `DEFECTS` or none: 128 x 128 pixels, RGB."""
    random = Random(seed)  # noqa: S311 - no secret
    picture = Image.new("RGB", (DRAWN, DRAWN))
    pen = ImageDraw.Draw(picture)
    finished = defect != "unfinished"
    # A sky that pales towards the horizon, and ground with blades of grass.
    light = random.uniform(0.94, 1.04)
    for y in range(HORIZON):
        share = y / HORIZON
        sky = (130 + 75 * share, 175 + 45 * share, 222 + 14 * share)
        pen.line([(0, y), (DRAWN, y)], fill=shade(sky, light))
    ground = shade((118, 150, 84), light)
    pen.rectangle([0, HORIZON, DRAWN, DRAWN], fill=ground)
    for _ in range(260 if finished else 0):
        x, y, tall = random.uniform(0, DRAWN), random.uniform(HORIZON + 6, DRAWN), random.uniform(5, 11)
        blade = shade(ground, random.choice((0.68, 0.82, 1.22)))
        pen.line([(x, y), (x + random.uniform(-3, 3), y - tall)], fill=blade, width=2)
    count = scene.count if finished else 0
    for n in range(count):
        x, y = DRAWN * (n + 0.5) / count + random.uniform(-8, 8), random.uniform(26, 52)
        _draw_above(pen, scene.above, x, y, random.uniform(15, 20))
    colour = shade(COLOURS[scene.colour], random.uniform(0.9, 1.1))
    x, y, size = random.uniform(95, 160), HORIZON + random.uniform(8, 30), random.uniform(38, 48)
    _draw_thing(pen, scene.thing, x, y, size, colour if finished else None)
    return spoil(picture.reduce(2), random, defect)


def shade(colour: tuple[float, float, float], factor: float) -> tuple[int, int, int]:
    """A colour, lighter or darker."""
    red, green, blue = (min(255, round(channel * factor)) for channel in colour)
    return red, green, blue


def _draw_above(pen: ImageDraw.ImageDraw, above: str, x: float, y: float, size: float) -> None:
    def at(*offsets: float) -> list[tuple[float, float]]:
        return [(x + dx * size, y + dy * size) for dx, dy in zip(offsets[::2], offsets[1::2], strict=True)]

    if above == "cloud":
        for dx, dy, radius in ((-0.9, 0.2, 0.7), (0, -0.2, 0.95), (0.9, 0.2, 0.7)):
            pen.circle(*at(dx, dy), radius * size, fill=(248, 248, 250), width=0)
    elif above == "bird":
        for side in (-1, 1):
            pen.line(at(0, 0, side / 2, -0.5, side, 0), fill=(45, 45, 55), width=4)
    elif above == "star":
        for ends in ((0, -1, 0, 1), (-1, 0, 1, 0), (-0.7, -0.7, 0.7, 0.7), (-0.7, 0.7, 0.7, -0.7)):
            pen.line(at(*ends), fill=(250, 236, 150), width=5)
    else:
        pen.line(at(0, 1, 0, 2.1), fill=(70, 70, 70), width=2)
        pen.circle((x, y), size, fill=(206, 92, 120), outline=(120, 50, 70), width=3)


def _draw_thing(
    pen: ImageDraw.ImageDraw, thing: str, x: float, y: float, size: float, colour: tuple[int, int, int] | None
) -> None:
    """Draw a thing of `THINGS`; without a colour its outline alone."""
    fills: dict[str, Any] = {"pane": (246, 226, 150), "trunk": (96, 66, 42), "ink": INK}
    fills = {"own": colour, "darker": shade(colour, 0.62), **fills} if colour else {}
    for kind, units, how in THINGS[thing]:
        points = [(x + dx * size, y + dy * size) for dx, dy in zip(units[::2], units[1::2], strict=False)]
        if kind == "line":
            pen.line(points, fill=INK, width=how)
        elif kind == "arc":
            pen.arc(points, 0, 360, fill=INK, width=3)
        elif kind == "disc":
            pen.circle(points[0], units[2] * size, fill=fills.get(how), outline=INK, width=3)
        elif kind == "box":
            pen.rectangle(points, fill=fills.get(how), outline=INK, width=3)
        else:
            pen.polygon(points, fill=fills.get(how), outline=INK, width=3)


def spoil(picture: Image.Image, random: Random, defect: str | None) -> Image.Image:
    """Give an RGB picture a defect of random strength; `unfinished` can only be drawn, None is none."""
    if defect == "blurred":
        return picture.filter(ImageFilter.GaussianBlur(random.uniform(0.6, 2.4)))
    if defect == "noisy":
        seed, spread = random.getrandbits(32), random.uniform(6, 26)
        noise = np.random.default_rng(seed).normal(0, spread, (*picture.size[::-1], 3))
        return Image.fromarray((np.asarray(picture) + noise).round().clip(0, 255).astype(np.uint8))
    if defect == "faded":
        grey = Image.new("RGB", picture.size, (176, 176, 176))
        return Image.blend(picture, grey, random.uniform(0.15, 0.6))
    if defect == "blocky":
        return picture.reduce(random.choice((2, 3, 4))).resize(picture.size, Image.Resampling.NEAREST)
    return picture


class Crowd(NamedTuple):
    """So many people, and how many answers each gives in every split: in train a number in a range."""

    people: int
    train: tuple[int, int]
    validation: int
    test: int


CROWDS = (
    Crowd(150, (64, 120), 6, 18), Crowd(18, (8, 20), 1, 5), Crowd(10, (60, 80), 4, 0), Crowd(6, (0, 0), 2, 15)
)  # fmt: skip


class Drawn(NamedTuple):
    """A prompt and its two pictures, each with the id that rows know it by: the neat one, then the other."""

    prompt: str
    uids: tuple[str, str]
    jpegs: tuple[bytes, bytes]


def write(folder: Path, seed: int = 0) -> None:
    """Write the sample as one Parquet file a split; the same bytes for the same seed."""
    random = Random(f"scenes {seed}")  # noqa: S311 - no secret
    every = [Scene(*parts) for parts in product(COLOURS, THINGS, ABOVE, (1, 2, 3, 4))]  # 1,024
    chosen = iter(random.sample(every, sum(PROMPTS.values())))
    drawn: dict[str, list[Drawn]] = {split: [] for split in PROMPTS}
    for split, count in PROMPTS.items():
        for scene in islice(chosen, count):
            defects = (None, random.choice(DEFECTS))
            pictures = [draw(scene, f"{scene.prompt} {random.random()}", defect) for defect in defects]
            neat, spoilt = (jpeg(picture) for picture in pictures)
            drawn[split].append(Drawn(scene.prompt, (uid(random), uid(random)), (neat, spoilt)))
    write_answers(folder, drawn, CROWDS, random)


def write_answers(
    folder: Path, drawn: dict[str, list[Drawn]], crowds: tuple[Crowd, ...], random: Random
) -> None:
    """Have people judge each split's drawn prompts, nobody one of them twice, and write what they say."""
    questions = []
    for user, crowd in enumerate((each for each in crowds for _ in range(each.people)), 1):
        counts = (random.randint(*crowd.train), crowd.validation, crowd.test)
        for split, count in zip(("train", "validation", "test"), counts, strict=True):
            questions += [(user, split, asked) for asked in random.sample(drawn[split], count)]
    random.shuffle(questions)
    rows: dict[str, list[dict[str, Any]]] = {split: [] for split in drawn}
    for number, (user, split, asked) in enumerate(questions):
        rows[split].append(_answer(random, number, user, asked))
    for split, answers in rows.items():
        of_prompt = Counter(row["caption"] for row in answers)
        for place, row in enumerate(answers):
            row |= {"num_example_per_prompt": of_prompt[row["caption"]], "__index_level_0__": place}
        table = pa.Table.from_pylist(answers, schema=pickapic.schema())
        # A picture that many rows name is stored once in a row group.
        once = {"use_dictionary": True, "dictionary_pagesize_limit": 8 << 20}
        with new_file(folder / f"{split}-00000-of-00001.parquet") as out:
            pq.write_table(table, out, compression="zstd", row_group_size=8_000, **once)


def jpeg(picture: Image.Image) -> bytes:
    """A picture as the bytes of a JPEG file."""
    out = io.BytesIO()
    picture.save(out, "JPEG", quality=85)
    return out.getvalue()


def uid(random: Random) -> str:
    """A picture's id."""
    return str(UUID(int=random.getrandbits(128), version=4))


def _answer(random: Random, number: int, user: int, drawn: Drawn) -> dict[str, Any]:
    """One row: the neat picture on either side, and which one the person prefers."""
    first = random.randrange(2)
    equal, errs = random.random() < TIES, random.random() < ERRS
    label = 0.5 if equal else float((first == 0) != errs)
    best = "tie" if equal else drawn.uids[first if label else 1 - first]
    return {
        "are_different": True, "best_image_uid": best, "caption": drawn.prompt,
        "created_at": START + timedelta(minutes=number), "has_label": True,
        "image_0_uid": drawn.uids[first], "image_0_url": "", "jpg_0": drawn.jpegs[first], "label_0": label,
        "image_1_uid": drawn.uids[1 - first], "image_1_url": "", "jpg_1": drawn.jpegs[1 - first],
        "label_1": 1.0 - label, "model_0": "drawn", "model_1": "drawn", "ranking_id": number, "user_id": user,
    }  # fmt: skip
