"""A model as the commands use it: cells of a table become items, and errors say which row is meant."""

import re
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import torch

from pal.cli.tables import Row, Table
from pal.errors import PalError
from pal.serving.read_inputs import Side
from pal.serving.reward_model import RewardModel

Kind = Literal["text", "image"]
ROWS, PICTURES = 1024, 128

# How the library's messages name an item, and where to look instead.
_ITEM = re.compile(r"(prompt|response)s\[(\d+)\]")
_ANSWER = re.compile(r" of (?:comparison|question) (\d+)(?: of user '(\d+)')?")
_SIDES = {"first": "response_a", "second": "response_b"}


@dataclass(frozen=True)
class Serving:
    """A loaded model, and what its table's cells are.

    Args:
        model: The model.
        folder: Where paths of pictures are relative to: the table's folder.
        kinds: Whether the cells of a side are texts or paths of images, where that was said.
    """

    model: RewardModel
    folder: Path
    kinds: Mapping[Side, Kind | None]
    _known: dict[Side, Kind] = field(default_factory=dict, repr=False)

    @classmethod
    def open(
        cls,
        path: Path,
        folder: Path = Path(),
        *,
        prompts: Kind | None = None,
        responses: Kind | None = None,
        weights: Sequence[str] = (),
        device: str = "cpu",
    ) -> "Serving":
        """Load a model.

        Args:
            path: The model's folder.
            folder: See above.
            prompts: What cells of prompts are; by default text where the encoder reads any.
            responses: What cells of responses are; by default images where the encoder reads any.
            weights: Where encoders' weights come from, each as `NAME=PLACE`.
            device: Where encoders compute.
        """
        _check_device(device)
        places = dict(_pair(one) for one in weights)
        with plain_words():
            model = RewardModel.load(path, weights=places, device=device)
        return cls(model, folder, {"prompts": prompts, "responses": responses})

    def at_once(self, row: Row, column: str = "response") -> int:
        """How many rows to read together: seconds of encoding."""
        paths = isinstance(row.cells[column], str) and self._kind("responses") == "image"
        return PICTURES if paths else ROWS

    @property
    def prompt_columns(self) -> tuple[str, ...]:
        """`prompt`, where the model reads prompts."""
        return ("prompt",) if self.model.head.needs_prompts else ()

    def prompts(self, rows: Sequence[Row]) -> list[Any] | None:
        """One prompt per row; None where the model reads none."""
        return self.items(rows, "prompt", "prompts") if self.prompt_columns else None

    def items(self, rows: Sequence[Row], column: str, side: Side = "responses") -> list[Any]:
        """The items that a column's cells stand for: texts, pictures by their paths, or vectors.

        Raises:
            PalError: Naming the first cell that is none.
        """
        return [self._item(row, column, side) for row in rows]

    def _item(self, row: Row, column: str, side: Side) -> Any:
        cell = row.cells[column]
        if isinstance(cell, str):
            return self.folder / cell if self._kind(side) == "image" and cell else cell
        if isinstance(cell, list) and cell and all(type(one) in (int, float) for one in cell):
            return cell
        got = "nothing" if cell is None else f"a value of type {type(cell).__name__}"
        raise PalError(
            f"{column} in {row.place} must be a text, the path of an image or a list of numbers, got {got}"
        )

    def _kind(self, side: Side) -> Kind:
        """What texts in cells of a side are; asked of each side alone, since the other may be vectors."""
        if side not in self._known:
            otherwise: Kind = "text" if side == "prompts" else "image"
            with plain_words():
                read = self.model.input_encoder.modalities(side)
            self._known[side] = self.kinds[side] or (otherwise if otherwise in read else read[0])
        return self._known[side]


def _check_device(device: str) -> None:
    try:
        kind = torch.device(device).type
    except RuntimeError:
        kind = ""
    if kind not in ("cpu", "cuda"):
        raise PalError(f"--device must be cpu or cuda, got {device!r}")
    if kind == "cuda" and not torch.cuda.is_available():
        raise PalError(f"--device must be cpu where torch finds no GPU, got {device!r}")


def _pair(given: str) -> tuple[str, str]:
    name, mark, place = given.partition("=")
    if not (name and mark and place):
        raise PalError(f"--weights must be NAME=PLACE, got {given!r}; a place is package, hub or a folder")
    return name, place


def open_for(table: Table, model: Path, **options: Any) -> Serving:
    """A model for a table's rows, held to the columns that the model needs besides.

    Raises:
        PalError: If the model cannot be loaded, or reads prompts and the table has none.
    """
    serving = Serving.open(model, table.folder, **options)
    table.need(serving.prompt_columns)
    return serving


@contextmanager
def plain_words(*groups: Sequence[Row]) -> Iterator[None]:
    """Say errors of the library in the words of the command line: rows of a table, options.

    Args:
        groups: The rows that are worked on; several where the library is given several users, `0`, `1`, ...
    """
    try:
        yield
    except PalError as error:
        raise PalError(_reworded(str(error), groups)) from None


def _reworded(text: str, groups: Sequence[Sequence[Row]]) -> str:
    if groups:
        text = _ITEM.sub(lambda at: f"{at[1]} in {groups[0][int(at[2])].place}", text)
        text = _ANSWER.sub(lambda at: f" in {groups[int(at[2] or 0)][int(at[1])].place}", text)
        text = re.sub(r"\b(first|second)(?= in )", lambda at: _SIDES[at[1]], text)
    text = re.sub(r"weights=\{'([^']+)': \.\.\.\}", r"--weights \1=PLACE", text)
    text = text.replace("load(..., weights={name: folder})", "--weights NAME=FOLDER")
    return text.replace(
        "the model was fitted on vectors and names no encoder",
        "the model was fitted on vectors and names no encoder, so give lists of numbers in JSONL or Parquet",
    )
