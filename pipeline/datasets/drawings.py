"""Pictures that the program draws: a coloured thing below a sky with some others, neatly or with a defect.

Each picture is drawn at twice its size and reduced, so that edges are smooth. Two neat drawings of one scene
differ in place, size and light, as two pictures made for one prompt do.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import product
from random import Random
from typing import TYPE_CHECKING

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
THINGS = ("house", "tree", "boat", "car", "tent", "tower", "ball", "mill")
ABOVE = ("cloud", "bird", "star", "balloon")
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
        _ABOVE[scene.above](pen, x, y, random.uniform(15, 20))
    colour = _shade(COLOURS[scene.colour], random.uniform(0.9, 1.1))
    x, y, size = random.uniform(95, 160), HORIZON + random.uniform(8, 30), random.uniform(38, 48)
    _THINGS[scene.thing](pen, x, y, size, colour if finished else None)
    return _spoil(picture.reduce(2), random, defect)


def _background(pen: "ImageDraw", random: Random, *, finished: bool) -> None:
    """A sky that pales towards the horizon, and ground with blades of grass."""
    light = random.uniform(0.94, 1.04)
    for y in range(HORIZON):
        share = y / HORIZON
        sky = (130 + 75 * share, 175 + 45 * share, 222 + 14 * share)
        pen.line([(0, y), (DRAWN, y)], fill=_shade(sky, light))
    ground = _shade((118, 150, 84), light)
    pen.rectangle([0, HORIZON, DRAWN, DRAWN], fill=ground)
    for _ in range(260 if finished else 0):
        x, y, tall = random.uniform(0, DRAWN), random.uniform(HORIZON + 6, DRAWN), random.uniform(5, 11)
        blade = _shade(ground, random.choice((0.68, 0.82, 1.22)))
        pen.line([(x, y), (x + random.uniform(-3, 3), y - tall)], fill=blade, width=2)


def _places(random: Random, count: int) -> Iterator[tuple[float, float]]:
    """Centres of what is in the sky, side by side."""
    for n in range(count):
        yield DRAWN * (n + 0.5) / count + random.uniform(-8, 8), random.uniform(26, 52)


def _spoil(picture: "Image", random: Random, defect: str | None) -> "Image":
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

    noise = np.random.default_rng(seed).normal(0, spread, (SIZE, SIZE, 3))
    return Image.fromarray((np.asarray(picture) + noise).round().clip(0, 255).astype(np.uint8))


def _shade(colour: tuple[float, float, float], factor: float) -> tuple[int, int, int]:
    red, green, blue = (min(255, round(part * factor)) for part in colour)
    return red, green, blue


def _cloud(pen: "ImageDraw", x: float, y: float, size: float) -> None:
    for dx, dy, radius in ((-0.9, 0.2, 0.7), (0, -0.2, 0.95), (0.9, 0.2, 0.7)):
        _disc(pen, x + dx * size, y + dy * size, radius * size, (248, 248, 250))


def _bird(pen: "ImageDraw", x: float, y: float, size: float) -> None:
    for side in (-1, 1):
        pen.line(
            [(x, y), (x + side * size / 2, y - size / 2), (x + side * size, y)], fill=(45, 45, 55), width=4
        )


def _star(pen: "ImageDraw", x: float, y: float, size: float) -> None:
    for turn in (
        ((0, -1), (0, 1)),
        ((-1, 0), (1, 0)),
        ((-0.7, -0.7), (0.7, 0.7)),
        ((-0.7, 0.7), (0.7, -0.7)),
    ):
        pen.line([(x + size * dx, y + size * dy) for dx, dy in turn], fill=(250, 236, 150), width=5)


def _balloon(pen: "ImageDraw", x: float, y: float, size: float) -> None:
    pen.line([(x, y + size), (x, y + 2.1 * size)], fill=(70, 70, 70), width=2)
    _disc(pen, x, y, size, (206, 92, 120), edge=(120, 50, 70))


_Fill = tuple[int, int, int] | None
INK = (52, 46, 44)


def _disc(
    pen: "ImageDraw", x: float, y: float, radius: float, fill: _Fill, edge: tuple[int, int, int] | None = None
) -> None:
    pen.ellipse(
        [x - radius, y - radius, x + radius, y + radius], fill=fill, outline=edge, width=3 if edge else 0
    )


def _box(pen: "ImageDraw", left: float, top: float, right: float, bottom: float, fill: _Fill) -> None:
    pen.rectangle([left, top, right, bottom], fill=fill, outline=INK, width=3)


def _shape(pen: "ImageDraw", corners: list[tuple[float, float]], fill: _Fill) -> None:
    pen.polygon(corners, fill=fill, outline=INK, width=3)


def _darker(fill: _Fill) -> _Fill:
    return None if fill is None else _shade(fill, 0.62)


def _pane(fill: _Fill) -> _Fill:
    return None if fill is None else (246, 226, 150)


def _house(pen: "ImageDraw", x: float, y: float, size: float, fill: _Fill) -> None:
    _box(pen, x - size, y - 1.2 * size, x + size, y, fill)
    roof = [(x - 1.2 * size, y - 1.2 * size), (x, y - 2.1 * size), (x + 1.2 * size, y - 1.2 * size)]
    _shape(pen, roof, _darker(fill))
    _box(pen, x - 0.2 * size, y - 0.6 * size, x + 0.2 * size, y, _darker(fill))
    for side in (-0.6, 0.6):
        _box(pen, x + (side - 0.2) * size, y - size, x + (side + 0.2) * size, y - 0.6 * size, _pane(fill))


def _tree(pen: "ImageDraw", x: float, y: float, size: float, fill: _Fill) -> None:
    _box(pen, x - 0.2 * size, y - size, x + 0.2 * size, y, None if fill is None else (96, 66, 42))
    for dx, dy in ((-0.55, 1.3), (0.55, 1.3), (0, 1.9)):
        _disc(pen, x + dx * size, y - dy * size, 0.7 * size, fill, INK)


def _boat(pen: "ImageDraw", x: float, y: float, size: float, fill: _Fill) -> None:
    hull = [
        (x - 1.3 * size, y - 0.6 * size),
        (x + 1.3 * size, y - 0.6 * size),
        (x + 0.8 * size, y),
        (x - 0.8 * size, y),
    ]
    _shape(pen, hull, fill)
    pen.line([(x, y - 0.6 * size), (x, y - 2.2 * size)], fill=INK, width=5)
    _shape(pen, [(x, y - 2.2 * size), (x + size, y - 0.8 * size), (x, y - 0.8 * size)], _pane(fill))


def _car(pen: "ImageDraw", x: float, y: float, size: float, fill: _Fill) -> None:
    _box(pen, x - 1.4 * size, y - 0.8 * size, x + 1.4 * size, y - 0.2 * size, fill)
    cabin = ((-0.9, 0.8), (-0.5, 1.4), (0.5, 1.4), (0.9, 0.8))
    _shape(pen, [(x + dx * size, y - dy * size) for dx, dy in cabin], _pane(fill))
    for side in (-0.8, 0.8):
        _disc(pen, x + side * size, y - 0.2 * size, 0.33 * size, None if fill is None else INK, INK)


def _tent(pen: "ImageDraw", x: float, y: float, size: float, fill: _Fill) -> None:
    _shape(pen, [(x - 1.4 * size, y), (x, y - 1.8 * size), (x + 1.4 * size, y)], fill)
    _shape(pen, [(x - 0.4 * size, y), (x, y - 1.2 * size), (x + 0.4 * size, y)], _darker(fill))


def _tower(pen: "ImageDraw", x: float, y: float, size: float, fill: _Fill) -> None:
    _box(pen, x - 0.5 * size, y - 2 * size, x + 0.5 * size, y, fill)
    for side in (-0.5, -0.1, 0.3):
        _box(pen, x + side * size, y - 2.3 * size, x + (side + 0.2) * size, y - 2 * size, fill)
    for up in (0.6, 1.2):
        _box(pen, x - 0.15 * size, y - (up + 0.4) * size, x + 0.15 * size, y - up * size, _pane(fill))


def _ball(pen: "ImageDraw", x: float, y: float, size: float, fill: _Fill) -> None:
    _disc(pen, x, y - size, size, fill, INK)
    pen.arc([x - 0.5 * size, y - 2 * size, x + 0.5 * size, y], 0, 360, fill=INK, width=3)
    pen.line([(x - size, y - size), (x + size, y - size)], fill=INK, width=3)


def _mill(pen: "ImageDraw", x: float, y: float, size: float, fill: _Fill) -> None:
    base = [
        (x - 0.8 * size, y),
        (x - 0.5 * size, y - 1.6 * size),
        (x + 0.5 * size, y - 1.6 * size),
        (x + 0.8 * size, y),
    ]
    _shape(pen, base, fill)
    for dx, dy in ((0.7, 0.7), (-0.7, 0.7), (0.7, -0.7), (-0.7, -0.7)):
        pen.line([(x, y - 1.6 * size), (x + dx * size, y - (1.6 + dy) * size)], fill=INK, width=6)
    _box(pen, x - 0.2 * size, y - 0.6 * size, x + 0.2 * size, y, _darker(fill))


_ABOVE = {"cloud": _cloud, "bird": _bird, "star": _star, "balloon": _balloon}
_THINGS = {
    "house": _house, "tree": _tree, "boat": _boat, "car": _car,
    "tent": _tent, "tower": _tower, "ball": _ball, "mill": _mill,
}  # fmt: skip
