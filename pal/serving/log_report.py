"""The page that `pal fit` leaves: does being personal pay, for whom, what do people want."""

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import polars as pl
import torch

from pal.encoders.images import read, small_jpeg
from pal.errors import PalError
from pal.methods.auto import FEWEST_PEOPLE
from pal.models.base import margins
from pal.report.page import FOLDER, Row, data_uri, dots, pays, percent, render_page, script
from pal.report.people import Item, Portrait, judged_answers
from pal.serving.reward_model import RewardModel

if TYPE_CHECKING:
    from pal.serving.fit_log import Encoded

NAMES = {  # of what was measured: its words, and what mark it has
    "personal": ("personal reward", "model"),
    "without_answers": ("before any answer", "rest"),
    "one_for_everyone": ("one reward for everyone", "one"),
}
PLACES = {"seen": "Held-out answers of people in the model", "unseen": "People who were held out"}
WIDTH = 96  # of a thumbnail, in pixels


def people_of_log(data: "Encoded", model: RewardModel, shared: RewardModel | None) -> Row:
    """The people of a log, for the page; `shared` rewards everyone alike, None where the model does."""
    n_users, row = len(data.user_ids), model.rows
    table = model.locate(
        data.embeddings, data.rows(data.is_in("unseen", "adapt")), n_users=n_users, attributes=data.attributes
    )
    of_seen = [n for n, user in enumerate(data.user_ids) if user in row]
    table[of_seen] = model.states[[row[data.user_ids[n]] for n in of_seen]]
    rewards = [(model.head, table)]
    if shared is not None:
        rewards.append((shared.head, shared.state_of(None).expand(n_users, -1)))
    tables = []
    for half in ("seen", "unseen"):
        test = data.rows(data.is_in(half, "test"))
        found = (margins(head, states, data.embeddings, test) for head, states in rewards)
        tables.append(judged_answers(data.user_ids, half, test, *found))
    people = [
        {"user_id": user, "users": "seen" if user in row else "unseen", "group": None}
        for user in data.user_ids
    ]
    vectors = any(isinstance(item, np.ndarray) for item in data.contents["responses"][:1])
    texts = {
        side: [] if vectors else [item if isinstance(item, str) else None for item in items]
        for side, items in data.contents.items()
    }

    def show(wanted: set[Item]) -> dict[Item, str | None]:
        return {(side, row): _thumbnail(data.contents[side][row]) for side, row in wanted}

    asked = torch.unique(data.rows(data.is_in("seen", "train")).question)
    questions = data.comparisons.questions[asked]
    portrait = Portrait(model, data.embeddings, questions, people, table, pl.concat(tables), texts, show)
    return portrait.drawn(data.comparisons, data.habits)


def _thumbnail(item: Any) -> str | None:
    """A picture as a small JPEG in a data URI; None where there is none, or it cannot be opened."""
    if not isinstance(item, bytes | Path):
        return None
    try:
        return data_uri(small_jpeg(read(item if isinstance(item, bytes) else item.read_bytes()), WIDTH))
    except (OSError, PalError):
        return None


def render(metrics: Mapping[str, Any], summary: str, people: Row) -> str:
    """The page: what `pal fit` measured, what was understood of the log, and what `people_of_log` gives."""
    rows = [
        {
            "place": f"{title} ({metrics[half]['people']:,})",
            "marks": [
                {"name": words, "series": series, "accuracy": metrics[half][name]}
                | {end: metrics[half][f"{name}_{end}"] for end in ("low", "high")}
                for name, (words, series) in NAMES.items()
                if name in metrics[half] and not (metrics["one_reward"] and name != "one_for_everyone")
            ],
        }
        for half, title in PLACES.items()
        if half in metrics
    ]
    told = {**people, "pays": {**answer(metrics), **dots(rows)}}
    if told["whom"]:
        told["whom"]["groups"] += [
            {
                "attribute": name, "value": value or "not known", "people": each["people"], "title": "",
                "accuracy": each["personal"], "low": each["personal_low"], "high": each["personal_high"],
                "gain": each["personal"] - each["one_for_everyone"], "gain_low": None,
            }
            for name, values in metrics.get("by", {}).items()
            for value, each in values.items()
        ]  # fmt: skip
    who = "1 person" if metrics["people"] == 1 else f"{metrics['people']:,} people"
    return render_page(
        FOLDER / "log.html.j2", scripts=[script("errors"), script("people")], story=told, summary=summary,
        title=f"{Path(str(metrics['source'])).name}: {who}, {metrics['comparisons']:,} comparisons",
        settings=metrics["settings"],
    )  # fmt: skip


def answer(metrics: Mapping[str, Any]) -> dict[str, str]:
    """Whether being personal pays, in a word or two and a sentence."""
    seen = metrics.get("seen")
    if seen is None:
        said = "There are too few answers to hold any out, so nothing was measured."
        return {"answer": "Not measured", "sentence": said}
    if not metrics["one_reward"]:
        names = ("gain", "gain_low", "gain_high", "people", "personal", "one_for_everyone")
        return pays(*(seen[name] for name in names))
    right = percent(seen["one_for_everyone"])
    said = f"One reward for everyone is right on {right} of the answers held out; "
    if metrics["looked"]:
        return {"answer": "Not shown", "sentence": f"{said}that people differ could not be shown."}
    said += "whether people differ was not tested, which needs the method auto and at least "
    return {"answer": "Not measured", "sentence": f"{said}{FEWEST_PEOPLE} people in training."}


def verdict(metrics: Mapping[str, Any]) -> str:
    """What the numbers say, in sentences."""
    told, unseen = answer(metrics), metrics.get("unseen")
    said = f"Does being personal pay? {told['answer']}. {told['sentence']}"
    if unseen and not metrics["one_reward"]:
        personal, before, one = (percent(unseen[name]) for name in NAMES)
        said += (
            f" For people who were held out it is right on {personal} after {unseen['answers_each']} answers"
        )
        said += f" and on {before} before any, one reward for everyone on {one}."
    return said.replace("\u00a0", " ")
