"""Items as the report shows them: a text, or a small picture that is part of the page."""

import base64
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import polars as pl

SIZE = 96
MAX_BYTES = 64_000


@dataclass(frozen=True)
class Shown:
    """What stands for an item on the page.

    Args:
        text: Its text; None where it is no text.
        image: Its thumbnail as a data URI; None where it is no image, or could not be opened.
    """

    text: str | None = None
    image: str | None = None


def show(items: "pl.DataFrame", dataset: str, wanted: set[str]) -> dict[str, Shown]:
    """Texts and thumbnails of some items, by item id; vectors have neither.

    Args:
        items: The items table.
        dataset: Whose they are.
        wanted: Item ids; others are not opened.
    """
    import polars as pl

    here = items.filter(pl.col("item_id").is_in(list(wanted))).with_columns(
        pl.col("modality").cast(pl.String)
    )
    texts = here.filter(pl.col("modality") == "text")
    found = {item: Shown(text=text) for item, text in texts.select("item_id", "text").iter_rows()}
    images = here.filter(pl.col("modality") == "image")
    if len(images):
        small = draw(images, dataset, SIZE)
        found |= {item: Shown(image=uri(small.get(item))) for item in images["item_id"].to_list()}
    return found


def uri(jpeg: bytes | None) -> str | None:
    """A JPEG as a data URI; None for what is missing, no JPEG, or too large to be a thumbnail."""
    if not jpeg or len(jpeg) > MAX_BYTES or not jpeg.startswith(b"\xff\xd8\xff"):
        return None
    return f"data:image/jpeg;base64,{base64.b64encode(jpeg).decode()}"


def draw(items: "pl.DataFrame", dataset: str, size: int) -> dict[str, bytes]:
    """JPEGs of images with their filters, at most `size` pixels wide and high, by item id."""
    from pipeline.encoding import images

    return images.thumbnails(items, dataset, size)
