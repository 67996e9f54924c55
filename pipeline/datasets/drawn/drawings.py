"""Pictures that the program draws: a coloured thing below a sky with some others, neatly or with a defect.

Each picture is drawn at twice its size and reduced, so that edges are smooth. Two neat drawings of one scene
differ in place, size and light, as two pictures made for one prompt do.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import product
from random import Random
from typing import TYPE_CHECKING

from pipeline.datasets.drawn import things as drawn_things
from pipeline.datasets.drawn.things import shade

if TYPE_CHECKING:
    from PIL.Image import Image
    from PIL.ImageDraw import ImageDraw

SIZE = 128
DRAWN = 2 * SIZE
HORIZON = int(0.66 * DRAWN)

COLOURS = {
    "red": (196, 48, 43), "orange": (226, 131, 38), "yellow": (228, 197, 54), "green": (64, 140, 66),
    "blue": (52, 98, 186), "purple": (126, 70, 150), "white": (236, 232, 222), "brown": (124, 82, 50),
}  # fmt: skip
THINGS = tuple(drawn_things.THINGS)
ABOVE = tuple(drawn_things.ABOVE)
COUNTS = ("one", "two", "three", "four")
DEFECTS = ("blurred", "noisy", "faded", "blocky", "unfinished")


@dataclass(frozen=True)
class Scene:
    """What a prompt asks for.

    Args:
        colour: The thing's colour, of `COLOURS`.
        thing: What stands below, of `THINGS`.
        above: What there is in the sky, of `ABOVE`.
        count: How many of these, from 1 to 4.
    """

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


def scenes() -> list[Scene]:
    """All scenes that there are: 1,024."""
    return [Scene(*parts) for parts in product(COLOURS, THINGS, ABOVE, (1, 2, 3, 4))]


def draw(scene: Scene, seed: str, defect: str | None = None) -> "Image":
    """Draw a scene: 128 x 128 pixels, RGB, the same for the same arguments.

    Args:
        scene: What to draw.
        seed: Decides place, size and light.
        defect: What is wrong with the picture, of `DEFECTS`; None draws it neatly.
    """
    from PIL import Image, ImageDraw

    random = Random(seed)  # noqa: S311 - no secret
    picture = Image.new("RGB", (DRAWN, DRAWN))
    pen = ImageDraw.Draw(picture)
    finished = defect != "unfinished"
    _background(pen, random, finished=finished)
    for x, y in _places(random, scene.count if finished else 0):
        drawn_things.ABOVE[scene.above](pen, x, y, random.uniform(15, 20))
    colour = shade(COLOURS[scene.colour], random.uniform(0.9, 1.1))
    x, y, size = random.uniform(95, 160), HORIZON + random.uniform(8, 30), random.uniform(38, 48)
    drawn_things.THINGS[scene.thing](pen, x, y, size, colour if finished else None)
    return spoil(picture.reduce(2), random, defect)


def _background(pen: "ImageDraw", random: Random, *, finished: bool) -> None:
    """A sky that pales towards the horizon, and ground with blades of grass."""
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


def _places(random: Random, count: int) -> Iterator[tuple[float, float]]:
    """Centres of what is in the sky, side by side."""
    for n in range(count):
        yield DRAWN * (n + 0.5) / count + random.uniform(-8, 8), random.uniform(26, 52)


def spoil(picture: "Image", random: Random, defect: str | None) -> "Image":
    """Give a picture a defect, as strong as it happens; `unfinished` can only be drawn.

    Args:
        picture: RGB, of any size.
        random: Decides how strong.
        defect: Of `DEFECTS`; None leaves it as it is.
    """
    from PIL import Image, ImageFilter

    if defect == "blurred":
        return picture.filter(ImageFilter.GaussianBlur(random.uniform(0.6, 2.4)))
    if defect == "noisy":
        return _add_noise(picture, random.getrandbits(32), random.uniform(6, 26))
    if defect == "faded":
        return Image.blend(
            picture, Image.new("RGB", picture.size, (176, 176, 176)), random.uniform(0.15, 0.6)
        )
    if defect == "blocky":
        small = picture.reduce(random.choice((2, 3, 4)))
        return small.resize(picture.size, Image.Resampling.NEAREST)
    return picture


def _add_noise(picture: "Image", seed: int, spread: float) -> "Image":
    import numpy as np
    from PIL import Image

    noise = np.random.default_rng(seed).normal(0, spread, (*picture.size[::-1], 3))
    return Image.fromarray((np.asarray(picture) + noise).round().clip(0, 255).astype(np.uint8))
