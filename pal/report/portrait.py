"""A study's people as a report shows them, from a model and its judged answers; ready for JSON.

Shapes used in this module:
    n       comparisons
    users   users
"""

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import polars as pl
import torch
from jaxtyping import Float
from torch import Tensor

from pal.comparisons import Comparisons, Embeddings, Questions
from pal.evaluation.accuracy import rightness
from pal.evaluation.describe import describe_rewards, main_directions, without_opening
from pal.models.base import PreferenceModel, PrototypeModel
from pal.report import maps
from pal.report.page import shorten
from pal.report.people import MOST_PEOPLE, Row, answering, examples, for_whom, judge_people
from pal.users.care import care_of
from pal.users.population import Population

MOST_QUESTIONS = 5000  # that tell what people want
MOST_PICTURED = 40  # people with pictures on the page
MOST_GROUPS = 20  # of an attribute, which are described in words
SHOWN = 4  # responses of either end of a description
SHORT = 200  # characters of an item
Item = tuple[str, int]  # prompts or responses, and the item's row
Show = Callable[[set[Item]], Mapping[Item, Row]]


def judged_answers(
    user_ids: Sequence[str],
    half: str,
    pairs: Comparisons,
    margin: Float[Tensor, " n"],
    margin_one: Float[Tensor, " n"] | None,
) -> pl.DataFrame:
    """The table of judged answers that `pal.report.people` reads, of one half of the people."""
    q, ahead = pairs.questions[pairs.question], pairs.sign > 0
    columns: dict[str, Any] = {
        "user_id": np.array(user_ids, object)[pairs.user.numpy()].tolist(),
        "users": [half] * len(pairs),
        "prompt": q.prompt.numpy(),
        "chosen": torch.where(ahead, q.first, q.second).numpy(),
        "rejected": torch.where(ahead, q.second, q.first).numpy(),
    }
    none = pl.Series([None] * len(pairs), dtype=pl.Float64)
    for name, chance, margins in (("right", "p", margin), ("one", "p_one", margin_one)):
        columns[name] = none if margins is None else rightness(margins).astype(float)
        columns[chance] = none if margins is None else torch.sigmoid(margins.double()).numpy(force=True)
    return pl.DataFrame(columns, schema_overrides={"user_id": pl.String, "users": pl.String})


def portrait(
    head: PreferenceModel,
    population: Population,
    embeddings: Embeddings,
    questions: Questions,
    people: Sequence[Row],
    states: Float[Tensor, "users state"],
    answers: pl.DataFrame,
    texts: Mapping[str, Sequence[str | None]],
    show: Show,
    *,
    shown: int = SHOWN,
    attributes: Mapping[str, Mapping[str, str]] | None = None,
    outside: Sequence[str] = (),
    given: Comparisons | None = None,
    loss: str = "logistic",
    **how: pl.DataFrame | None,
) -> Row:
    """What the first part of a report shows, but for whether it pays.

    Args:
        head: The model.
        population: Its population.
        embeddings: Of all items.
        questions: Those of training: their responses tell what people want.
        people: user_id, users and group of each.
        states: Their states, aligned.
        answers: Held-out answers, judged.
        texts: Of prompts and of responses, by row; None where an item is a picture, none of vectors.
        show: Gives items as {"text": ...} or {"image": a data URI}.
        shown: Responses to show of what each likes, and of what each dislikes.
        attributes: By attribute each person's value.
        outside: People whom no mix of the prototypes explains.
        given: All answers of the people, by their number among `people`: they tell how carefully they answer.
        loss: The loss that the model was fitted with.
        **how: repeats, sides and times, as `answering` takes them.
    """
    judged = judge_people(answers)
    groups = {
        (name, value): torch.tensor([values.get(each["user_id"]) == value for each in people])
        for name, values in (attributes or {}).items()
        for value in sorted(set(values.values()))[:MOST_GROUPS]
    }
    means = {key: states[members].mean(0) for key, members in groups.items() if members.any()}
    wants, entries, plane, titles = _wants(head, population, embeddings, questions, states, texts, means)
    shown_rows = [rank.row for each in wants for rank in (*each.likes[:shown], *each.dislikes[:shown])]
    pictured = any(text is None for text in texts["responses"][:1])
    worst = judged.sort("accuracy", "n", descending=[False, True], maintain_order=True)["user_id"].to_list()
    worst = worst[: MOST_PICTURED if pictured else MOST_PEOPLE]
    # Of vectors there is nothing to show.
    found = examples(answers if texts["responses"] else answers.clear(), worst)
    wanted = {
        (side, entries[i][row]) for row in shown_rows for i, side in enumerate(("prompts", "responses"))
    }
    sides = {"prompt": "prompts", "chosen": "responses", "rejected": "responses"}
    for kinds in found.values():
        for row in (*kinds["telling"], *kinds["mistakes"]):
            wanted |= {(side, row[name]) for name, side in sides.items()}
    items = show({item for item in wanted if item[1] >= 0})
    asked = torch.unique(questions.prompt).tolist() if texts["prompts"] else []
    opening = len(_opening([texts["prompts"][row] for row in asked if row >= 0]))
    pictures = {}

    def cell(side: str, row: int) -> Row | None:
        if row < 0:
            return None
        item = items.get((side, row), {})
        if item.get("image"):
            pictures[f"{side}-{row}"] = item["image"]
            return {"picture": f"{side}-{row}"}
        text = item.get("text") or ""
        return {"text": shorten(text[opening:].strip() if side == "prompts" else text, SHORT)}

    def example(row: Row) -> Row:
        cells = {name: cell(side, row[name]) for name, side in sides.items()}
        return {**cells, "p": _rounded(row["p"]), "p_one": _rounded(row["p_one"])}

    if given is not None and len(given):
        found_care = care_of(head, population, embeddings, given, n_users=len(people), loss=loss)
        columns = {name: getattr(found_care, name).numpy() for name in ("lapse", "low")}
        how["care"] = pl.DataFrame({"user_id": [each["user_id"] for each in people], **columns})
    told = answering(judged, **how)
    why = {row["user_id"]: row["why"] for row in told["rows"]}
    number = {person["user_id"]: i for i, person in enumerate(people)}
    by_user = {row["user_id"]: row for row in judged.to_dicts()}
    weights = states.tolist() if isinstance(head, PrototypeModel) and head.config.K > 1 else None

    def one(user: str) -> Row:
        about = people[number[user]]
        facts = {name: _rounded(by_user[user][name]) for name in ("n", "accuracy", "one", "gain")}
        taste = None if weights is None else [_rounded(w) for w in weights[number[user]]]
        kinds = {name: [example(row) for row in rows] for name, rows in found[user].items()}
        return {
            **{name: about[name] for name in ("user_id", "users", "group")}, **facts, "weights": taste,
            "outside": user in set(outside), "why": why.get(user, []), **kinds,
        }  # fmt: skip

    def liked(rank: Any) -> Row:
        prompt, response = entries[0][rank.row], entries[1][rank.row]
        asked, said = cell("prompts", prompt) or {}, cell("responses", response) or {}
        picture = pictures.get(said.get("picture", ""))
        return {"prompt": asked.get("text"), "text": said.get("text"), "image": picture, "above": rank.above}

    whom = for_whom(judged, attributes)
    drawn = maps.draw(
        people,
        weights=states.numpy(force=True) if isinstance(head, PrototypeModel) else None,
        plane=plane,
        titles=[each.title for each in wants] or [""] * states.shape[1],
        shares=[each.share or 0.0 for each in wants] or states.mean(0).tolist(),
    )
    # Where everybody is asked for one answer, as yes, what they say it to is what they like.
    same = {entries[1][row] for row in shown_rows}
    answer = show({("responses", same.pop())}) if len(same) == 1 and entries[0][0] >= 0 else {}
    said = next((item.get("text") for item in answer.values()), None)

    def one_answer(row: Row) -> Row:
        return {**row, "prompt": None, "text": row["prompt"]} if said else row

    told_in = ("liked_words", "disliked_words", "features")
    described = [
        {
            **{name: getattr(each, name) for name in ("name", "share", "title")},
            "answer": said,
            **{name: [word._asdict() for word in getattr(each, name)] for name in told_in},
            **{
                name: [one_answer(liked(rank)) for rank in getattr(each, name)[:shown]]
                for name in ("likes", "dislikes")
            },
        }
        for each in wants
    ]
    if whom:
        tables = {name: _all_rounded(whom[name]) for name in ("worst", "groups")}
        for row in tables["groups"]:
            row["title"] = titles.get((row["attribute"], row["value"]), "")
        whom = {**whom, **tables, "outside": list(outside)}
    folk = [one(user) for user in worst if user in number]
    return {
        "whom": whom,
        "map": drawn,
        "wants": described,
        "people": folk,
        "pictures": pictures,
        "tastes": [{"name": each.name, "title": each.title} for each in wants]
        or [{"name": f"prototype {k + 1}", "title": ""} for k in range(states.shape[1])],
        "answering": {**told, "rows": _all_rounded(told["rows"])},
    }  # fmt: skip


def _wants(
    head: PreferenceModel,
    population: Population,
    embeddings: Embeddings,
    questions: Questions,
    states: Float[Tensor, "users state"],
    texts: Mapping[str, Sequence[str | None]],
    means: Mapping[tuple[str, str], Float[Tensor, " state"]],
) -> tuple[list[Any], tuple[list[int], list[int]], Float[np.ndarray, "users axes"] | None, dict[Any, str]]:
    """Descriptions, the prompts and responses they are of, people in the plane, and groups in words."""
    if len(questions) < 2 or head.shared_state is not None:
        return [], ([], []), None, {}
    some = questions[torch.linspace(0, len(questions) - 1, min(len(questions), MOST_QUESTIONS)).long()]
    sides = torch.stack([torch.cat([some.prompt, some.prompt]), torch.cat([some.first, some.second])], 1)
    sides = torch.unique(sides, dim=0)
    prompt, response = sides[:, 0], sides[:, 1]
    group = torch.unique(prompt, return_inverse=True)[1]
    needs = head.needs_prompts
    embedded = embeddings.prompts[prompt].float() if needs else torch.zeros(len(prompt), 0)

    def rewards(table: Float[Tensor, "points state"]) -> Float[Tensor, "n points"]:
        row, items = torch.arange(len(prompt)), embeddings.responses[response].float()
        with torch.no_grad():
            read = head.embed_prompts(embedded)
            return torch.stack([head.reward_embedded(read, row, items, state) for state in table], 1)

    shown = bool(texts["responses"])
    said = [texts["responses"][row] for row in response.tolist()] if shown else []
    asked = [texts["prompts"][row] if row >= 0 and shown else None for row in prompt.tolist()]
    described = describe_rewards(head, population, states, rewards, group, said, asked) if shown else []
    titles = {}
    if shown and means:
        named = describe_rewards(
            head, population, states, rewards, group, said, asked,
            targets={str(n): mean for n, mean in enumerate(means.values())},
        )  # fmt: skip
        titles = {key: each.title for key, each in zip(means, named, strict=True)}
    plane = None
    if not isinstance(head, PrototypeModel):
        along, _ = main_directions(population, rewards, group)
        apart = (states - population.mean).double()
        plane = (apart @ torch.linalg.pinv(along.double()))[:, :2].numpy(force=True)
    return described, (prompt.tolist(), response.tolist()), plane, titles


def _opening(prompts: Sequence[str | None]) -> str:
    texts = [text for text in prompts if text is not None]
    if len(texts) < 2 or len(texts) < len(prompts):
        return ""
    return texts[0][: len(texts[0]) - len(without_opening(texts)[0])]


def _rounded(value: float | None) -> float | None:
    if value is None or (isinstance(value, float) and not math.isfinite(value)):
        return None
    return value if isinstance(value, int) else round(float(value), 4)


def _all_rounded(rows: Sequence[Row]) -> list[Row]:
    return [{k: _rounded(v) if isinstance(v, float) else v for k, v in row.items()} for row in rows]


class Axis:
    """An axis of accuracies, as percentages of its width; ends in fives."""

    def __init__(self, values: Sequence[float]) -> None:
        self.low = max(0, 5 * math.floor((100 * min(values, default=0.5) - 1) / 5))
        self.high = min(100, 5 * math.ceil((100 * max(values, default=1.0) + 1) / 5))
        step = 5 if self.high - self.low <= 30 else 10 if self.high - self.low <= 60 else 20
        self.ticks = list(range(-(-self.low // step) * step, self.high + 1, step))

    def place(self, share: float) -> float:
        """Where an accuracy stands."""
        return round(100 * (100 * share - self.low) / (self.high - self.low), 2)

    def width(self, low: float, high: float) -> float:
        """The width of an interval."""
        return round(self.place(high) - self.place(low), 2)


def story(portrait: Row, answer: Row, rows: Sequence[Row]) -> Row:
    """What `story.html.j2` shows: the portrait, and whether it pays.

    Args:
        portrait: From `portrait`.
        answer: From `pays`.
        rows: For each place a name and `marks`: name, series (model, one or rest), accuracy, low, high.
    """
    values = [
        v for row in rows for mark in row["marks"] for v in (mark["accuracy"], mark["low"], mark["high"])
    ]
    axis = Axis([value for value in values if value is not None])
    whom, drawn = portrait["whom"], portrait["map"]
    if whom:
        whom = {
            **whom,
            "groups": [*whom["groups"]],
            "zero": next((i for i, each in enumerate(whom["bins"]) if not each["at"]), 0),
        }
    if drawn:
        drawn = {**drawn, "hollow": any(point["users"] == "unseen" for point in drawn["points"])}
    return {**portrait, "whom": whom, "map": drawn, "pays": {**answer, "rows": rows, "axis": axis}}
