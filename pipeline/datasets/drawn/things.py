"""The shapes that drawn scenes consist of, each at a place, of a size, in a colour or in outline.

A fill of None leaves the outline alone.
"""

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from PIL.ImageDraw import ImageDraw


def shade(colour: tuple[float, float, float], factor: float) -> tuple[int, int, int]:
    """A colour, lighter or darker."""
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
    return None if fill is None else shade(fill, 0.62)


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


ABOVE = {"cloud": _cloud, "bird": _bird, "star": _star, "balloon": _balloon}
THINGS = {
    "house": _house, "tree": _tree, "boat": _boat, "car": _car,
    "tent": _tent, "tower": _tower, "ball": _ball, "mill": _mill,
}  # fmt: skip
