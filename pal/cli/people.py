"""Whose reward: a user who was seen in fitting, someone's taste from a file, or the average user.

A file of tastes has one person a line, as `pal adapt` writes it: a taste, with the person's `user_id` where
there are several.
"""

import json
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import torch
from torch import Tensor

from pal.cli.tables import LONGEST, Row
from pal.errors import PalError
from pal.serving.reward_model import RewardModel
from pal.users.taste import Taste


def read_tastes(path: Path, model: RewardModel) -> dict[str, Taste]:
    """People's tastes by their ids; one person alone may have none, and is ``.

    Raises:
        PalError: If the file cannot be read, a line is no taste of this model, or someone is there twice.
    """
    found: dict[str, Taste] = {}
    try:
        with path.open("rb") as file:
            for number, line in enumerate(iter(lambda: file.readline(LONGEST), b""), 1):
                if line.isspace():
                    continue
                who, taste = _read_taste(line, model, f"line {number:,} of {path}")
                if who in found:
                    raise PalError(
                        f"{path} must have one taste of {who!r}, got two; merge them with pal adapt"
                    )
                found[who] = taste
    except OSError as error:
        raise PalError(f"{path} cannot be read ({error.strerror}); name what pal adapt wrote") from None
    if not found:
        raise PalError(f"{path} must hold a taste, got an empty file; make one with pal adapt")
    if "" in found and len(found) > 1:
        raise PalError(
            f"{path} must say the user_id of every taste, since there are several, got one without"
        )
    return found


def _read_taste(line: bytes, model: RewardModel, where: str) -> tuple[str, Taste]:
    try:
        taste = Taste.from_json(line, model)
    except PalError as error:
        raise PalError(f"{where} cannot be used: {error}") from None
    who = json.loads(line).get("user_id", "")
    if not isinstance(who, str):
        raise PalError(f"user_id in {where} must be text, got {who!r}")
    return who, taste


def id_in(row: Row) -> str:
    """The `user_id` of a row; whole numbers are as good as texts.

    Raises:
        PalError: If it is empty, or something else.
    """
    cell = row.cells["user_id"]
    if type(cell) is int:
        return str(cell)
    if not isinstance(cell, str) or not cell:
        got = "nothing" if cell in (None, "") else f"a value of type {type(cell).__name__}"
        raise PalError(f"user_id in {row.place} must be text or a whole number, got {got}")
    return cell


def unknown(user_id: str, model: RewardModel) -> PalError:
    """What to say of someone who was never seen."""
    return PalError(
        f"user must be one of the {len(model.rows):,} seen in fitting, or in the file of --taste, got "
        f"{user_id!r}; adapt to this user's comparisons first, `pal adapt MODEL COMPARISONS --out TASTES`, "
        "and give `--taste TASTES`, or take --average for the average user"
    )


@dataclass
class People:
    """Whose reward each row asks for.

    Args:
        model: The model.
        tastes: People's tastes by their ids.
        everyone: Weights that all rows have; None where each row's `user_id` says whose it is.
    """

    model: RewardModel
    tastes: dict[str, Taste]
    everyone: Tensor | None
    _weights: dict[str, Tensor] = field(default_factory=dict)

    @classmethod
    def of(
        cls, model: RewardModel, first: Row, user: str | None, path: Path | None, *, average: bool
    ) -> "People":
        """From what was said on the command line, and what columns the table has.

        Args:
            model: The model.
            first: The table's first row.
            user: Whose reward all rows ask for.
            path: A file of tastes.
            average: Whether all rows ask for the average user's.

        Raises:
            PalError: If what was said contradicts itself, or someone is unknown.
        """
        if average and (user is not None or path is not None):
            raise PalError("--average must stand alone, got --user or --taste too; leave one out")
        people = cls(model, read_tastes(path, model) if path else {}, None)
        alone = people.tastes.get("")
        if average:
            people.everyone = model.state_of(None)
        elif user is not None:
            people.everyone = people.weights_of(user)
        elif alone is not None:
            people.everyone = alone.weights
        elif "user_id" not in first.cells:
            people.everyone = people._only()
        return people

    def _only(self) -> Tensor:
        """Without a word of whose: the only taste of a file, or the average user."""
        if len(self.tastes) > 1:
            raise PalError(
                f"--user must say whose of the {len(self.tastes):,} tastes, or a column user_id in the table"
            )
        return next((taste.weights for taste in self.tastes.values()), self.model.state_of(None))

    def weights_of(self, user_id: str) -> Tensor:
        """Someone's weights: by their taste, else as fitted.

        Raises:
            PalError: If neither is known.
        """
        if user_id not in self._weights:
            if user_id in self.tastes:
                self._weights[user_id] = self.tastes[user_id].weights
            elif user_id in self.model.rows:
                self._weights[user_id] = self.model.state_of(user_id)
            else:
                raise unknown(user_id, self.model)
        return self._weights[user_id]

    def weights(self, rows: Sequence[Row]) -> Tensor:
        """What `RewardModel.score` takes: weights (K,) for all rows, or (n, K), one row each.

        Raises:
            PalError: Naming the first row whose user is unknown.
        """
        if self.everyone is not None:
            return self.everyone
        found = []
        for row in rows:
            if "user_id" not in row.cells:
                raise PalError(f"{row.place} lacks the column user_id, which the rows before it have")
            try:
                found.append(self.weights_of(id_in(row)))
            except PalError as error:
                place = "" if row.place in str(error) else f" ({row.place})"
                raise PalError(f"{error}{place}") from None
        return torch.stack(found)
