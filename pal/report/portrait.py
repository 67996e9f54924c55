"""A study's people as a report shows them, from a model and its judged answers; ready for JSON.

Shapes used in this module:
    n       comparisons
    users   users
"""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import numpy as np
import polars as pl
import torch
from jaxtyping import Float
from torch import Tensor

from pal.comparisons import Comparisons, Embeddings, Questions
from pal.errors import cut
from pal.evaluation.accuracy import rightness
from pal.evaluation.describe import Description, Liked, describe_rewards, main_directions, without_opening
from pal.models.base import PreferenceModel, PrototypeModel
from pal.report.people import MOST_PEOPLE, Row, answering, examples, for_whom, judge_people
from pal.users.care import care_of

MOST_QUESTIONS = 5000  # that tell what people want
MOST_PICTURED = 40  # people with pictures on the page
MOST_GROUPS = 20  # of an attribute, which are described in words
SHOWN = 4  # responses of either end of a description
SHORT = 200  # characters of an item
SIDES = {"prompt": "prompts", "chosen": "responses", "rejected": "responses"}  # of an answer
STACKS = 60  # of people who stand alike on the map, along a line
MARGIN = 14.0  # per cent of the map around the outermost people, for names
MOST_DRAWN = 1000  # people on the map
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


@dataclass(frozen=True)
class _Wants:
    """What people want, in words."""

    described: Sequence[Description] = ()  # prototypes or directions
    sides: Sequence[Sequence[int]] = ()  # rows of prompt and response, of each that descriptions are of
    plane: Float[np.ndarray, "users axes"] | None = None  # where people stand along the first two directions
    titles: Mapping[tuple[str, str], str] = field(default_factory=dict)  # of groups, by attribute and value

    def shown(self, most: int) -> list[Sequence[int]]:
        """Prompt and response of each that is to be shown."""
        ranks = (rank for each in self.described for rank in (*each.likes[:most], *each.dislikes[:most]))
        return [self.sides[rank.row] for rank in ranks]


class _Items:
    """Items on the page: texts cut short, without what all prompts open with; a picture once, by its name."""

    def __init__(self, items: Mapping[Item, Row], opening: int) -> None:
        self._items, self._opening = items, opening
        self.pictures: dict[str, str] = {}  # data URIs by name

    def cell(self, side: str, row: int) -> Row | None:
        """An item's text, or the name of its picture; None where there is none."""
        if row < 0:
            return None
        item = self._items.get((side, row), {})
        if item.get("image"):
            self.pictures[f"{side}-{row}"] = item["image"]
            return {"picture": f"{side}-{row}"}
        text = item.get("text") or ""
        return {"text": cut(text[self._opening :].strip() if side == "prompts" else text, SHORT)}

    def example(self, answer: Row) -> Row:
        """A judged answer."""
        cells = {name: self.cell(side, answer[name]) for name, side in SIDES.items()}
        return {**cells, "p": _rounded(answer["p"]), "p_one": _rounded(answer["p_one"])}

    def description(self, each: Description, wants: _Wants, most: int) -> Row:
        """A prototype or direction, with responses of either end.

        Where everybody is asked for one answer, as yes, what they say it to stands for what they like.
        """
        answers = {response for _, response in wants.shown(most)}
        answer = None
        if len(answers) == 1 and wants.sides[0][0] >= 0:
            answer = self._items.get(("responses", answers.pop()), {}).get("text")

        def liked(rank: Liked) -> Row:
            asked, said = map(self.cell, ("prompts", "responses"), wants.sides[rank.row])
            asked, said = (asked or {}).get("text"), said or {}
            prompt, text = (None, asked) if answer else (asked, said.get("text"))
            image = self.pictures.get(said.get("picture", ""))
            return {"prompt": prompt, "text": text, "image": image, "above": rank.above}

        ends, words = ("likes", "dislikes"), ("liked_words", "disliked_words", "features")
        return {
            **{name: getattr(each, name) for name in ("name", "share", "title")},
            "answer": answer,
            **{name: [word._asdict() for word in getattr(each, name)] for name in words},
            **{name: [liked(rank) for rank in getattr(each, name)[:most]] for name in ends},
        }


def portrait(
    model: Any,
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
    **how: pl.DataFrame | None,
) -> Row:
    """What the first part of a report shows, but for whether it pays.

    Args:
        model: A `RewardModel`.
        embeddings: Of all items.
        questions: Those of training: their responses tell what people want.
        people: user_id, users and group of each.
        states: Theirs.
        answers: Held-out answers, judged.
        texts: Of prompts and of responses, by row; None where an item is a picture, none of vectors.
        show: Gives items as {"text": ...} or {"image": a data URI}.
        shown: Responses to show of what each likes, and of what each dislikes.
        attributes: By attribute each person's value.
        outside: People whom no mix of the prototypes explains.
        given: All answers, by the number among `people`: they tell how carefully people answer.
        **how: repeats, sides and times, as `answering` takes them.
    """
    judged = judge_people(answers)
    groups = {
        (name, value): torch.tensor([values.get(each["user_id"]) == value for each in people])
        for name, values in (attributes or {}).items()
        for value in sorted(set(values.values()))[:MOST_GROUPS]
    }
    means = {key: states[members].mean(0) for key, members in groups.items() if members.any()}
    wants = _wants(model, embeddings, questions, states, texts, means)
    pictured = any(text is None for text in texts["responses"][:1])
    worst = judged.sort("accuracy", "n", descending=[False, True], maintain_order=True)["user_id"].to_list()
    # Of vectors there is nothing to show.
    found = examples(
        answers if texts["responses"] else answers.clear(),
        worst[: MOST_PICTURED if pictured else MOST_PEOPLE],
    )
    items = _items(questions, texts, show, wants, shown, found)
    # One reward for everyone knows no one's answers: who differs from it is not careless.
    alike = bool((states == states[:1]).all())
    if given is not None and len(given) and not alike:
        care = care_of(
            model.head, model.population, embeddings, given, n_users=len(people), loss=model.fit_config.loss
        )
        columns = {name: getattr(care, name).numpy() for name in ("lapse", "low")}
        how["care"] = pl.DataFrame({"user_id": [each["user_id"] for each in people], **columns})
    told = answering(judged, personal=not alike, **how)
    weights = states.numpy(force=True) if isinstance(model.head, PrototypeModel) else None
    names = [Description(f"prototype {k + 1}", None, [], [], [], [], []) for k in range(states.shape[1])]
    tastes = wants.described or names
    whom = for_whom(judged, attributes)
    if whom is not None:
        whom |= {"worst": _all_rounded(whom["worst"]), "groups": _all_rounded(whom["groups"])}
        for row in whom["groups"]:
            row["title"] = wants.titles.get((row["attribute"], row["value"]), "")
        whom["outside"] = list(outside)
    return {
        "whom": whom,
        "map": draw_map(
            people,
            weights=weights,
            plane=wants.plane,
            titles=[each.title for each in tastes],
            shares=[each.share or 0.0 for each in wants.described] or states.mean(0).tolist(),
        ),
        "alike": alike,
        "wants": [items.description(each, wants, shown) for each in wants.described],
        "people": _folk(people, judged, weights, outside, told["rows"], found, items),
        "pictures": items.pictures,
        "tastes": [{"name": each.name, "title": each.title} for each in tastes],
        "answering": {**told, "rows": _all_rounded(told["rows"])},
    }


def _items(
    questions: Questions,
    texts: Mapping[str, Sequence[str | None]],
    show: Show,
    wants: _Wants,
    shown: int,
    found: Mapping[str, Mapping[str, Sequence[Row]]],
) -> _Items:
    """All that the page shows: responses of descriptions, and people's examples."""
    wanted = {
        item for pair in wants.shown(shown) for item in zip(("prompts", "responses"), pair, strict=True)
    }
    for answer in (answer for kinds in found.values() for answers in kinds.values() for answer in answers):
        wanted |= {(side, answer[name]) for name, side in SIDES.items()}
    asked = torch.unique(questions.prompt).tolist() if texts["prompts"] else []
    prompts = [texts["prompts"][row] for row in asked if row >= 0]
    opening = 0
    if len(prompts) > 1 and None not in prompts:
        opening = len(prompts[0]) - len(without_opening(prompts)[0])
    return _Items(show({item for item in wanted if item[1] >= 0}), opening)


def _folk(
    people: Sequence[Row],
    judged: pl.DataFrame,
    weights: Float[np.ndarray, "users K"] | None,
    outside: Sequence[str],
    answering: Sequence[Row],
    found: Mapping[str, Mapping[str, Sequence[Row]]],
    items: _Items,
) -> list[Row]:
    """A page for each person of whom examples were found, in that order."""
    mixed = weights is not None and weights.shape[1] > 1
    number = {person["user_id"]: n for n, person in enumerate(people)}
    facts = {row["user_id"]: row for row in judged.to_dicts()}
    why = {row["user_id"]: row["why"] for row in answering}
    return [
        {
            **{name: people[number[user]][name] for name in ("user_id", "users", "group")},
            **{name: _rounded(facts[user][name]) for name in ("n", "accuracy", "one", "gain")},
            "weights": list(map(_rounded, weights[number[user]].tolist())) if mixed else None,
            "outside": user in outside,
            "why": why.get(user, []),
            **{name: [items.example(answer) for answer in answers] for name, answers in kinds.items()},
        }
        for user, kinds in found.items()
        if user in number
    ]


def _wants(
    model: Any,
    embeddings: Embeddings,
    questions: Questions,
    states: Float[Tensor, "users state"],
    texts: Mapping[str, Sequence[str | None]],
    means: Mapping[tuple[str, str], Float[Tensor, " state"]],
) -> _Wants:
    head: PreferenceModel = model.head
    if len(questions) < 2 or head.shared_state is not None:
        return _Wants()
    some = questions[torch.linspace(0, len(questions) - 1, min(len(questions), MOST_QUESTIONS)).long()]
    sides = torch.stack([torch.cat([some.prompt, some.prompt]), torch.cat([some.first, some.second])], 1)
    sides = torch.unique(sides, dim=0)
    prompt, response = sides[:, 0], sides[:, 1]
    group = torch.unique(prompt, return_inverse=True)[1]
    embedded = torch.zeros(len(prompt), 0)
    if head.needs_prompts:
        embedded = embeddings.prompts[prompt].float()

    def rewards(table: Float[Tensor, "points state"]) -> Float[Tensor, "n points"]:
        row, items = torch.arange(len(prompt)), embeddings.responses[response].float()
        with torch.no_grad():
            read = head.embed_prompts(embedded)
            return torch.stack([head.reward_embedded(read, row, items, state) for state in table], 1)

    described, titles = [], {}
    if texts["responses"]:
        said = [texts["responses"][row] for row in response.tolist()]
        asked = [texts["prompts"][row] if row >= 0 else None for row in prompt.tolist()]
        describe = partial(describe_rewards, head, model.population, states, rewards, group, said, asked)
        described = describe()
        if means:
            named = describe(targets={str(n): mean for n, mean in enumerate(means.values())})
            titles = {key: each.title for key, each in zip(means, named, strict=True)}
    plane = None
    if not isinstance(head, PrototypeModel):
        along, _ = main_directions(model.population, rewards, group)
        apart = (states - model.population.mean).double()
        plane = (apart @ torch.linalg.pinv(along.double()))[:, :2].numpy(force=True)
    return _Wants(described, sides.tolist(), plane, titles)


def draw_map(
    people: Sequence[Row],
    *,
    weights: Float[np.ndarray, "users K"] | None = None,
    plane: Float[np.ndarray, "users axes"] | None = None,
    titles: Sequence[str] = (),
    shares: Sequence[float] = (),
) -> Row | None:
    """A map of people: between prototypes, or along the directions in which they differ most.

    People have a user_id, users (seen or unseen) and a group, and either weights of prototypes or a place in
    the plane of the first directions, in standard deviations. `titles` say prototypes or directions in words,
    `shares` how much of the people's weight, or of their differences, each has.

    Returns points (user_id, x, y, mark, users), labels, edges, groups, kind; None where there is nothing to
    tell apart. Places are percentages of the map's width and height, y downwards.
    """
    if not people or (weights is not None and weights.shape[1] < 2) or (weights is None and plane is None):
        return None
    edges: list[Any] = []
    ring = np.empty((0, 2))
    if weights is not None and weights.shape[1] == 2:
        kind, places, ring = "line", _stacked(weights[:, 0]), np.array([(1.0, 0.0), (-1.0, 0.0)])
    elif weights is not None:
        ring = corners(weights.shape[1])
        kind, places = "polygon", _spread(weights @ ring)
        edges = list(zip(ring.tolist(), np.roll(ring, -1, 0).tolist(), strict=True))
    else:
        assert plane is not None  # noqa: S101 - asked above
        flat = np.pad(plane, ((0, 0), (0, max(0, 2 - plane.shape[1]))))[:, :2]
        kind, places = "plane", flat / max(float(np.abs(flat).max()), 1e-9)
        edges = [((-1.0, 0.0), (1.0, 0.0)), ((0.0, -1.0), (0.0, 1.0))]
    ys = np.concatenate([places, ring])[:, 1] if kind != "plane" else np.array([-1.0, 1.0])
    height = max(float(np.ptp(ys)), 0.5)
    middle, scale = float(ys.max() + ys.min()) / 2, (100 - 2 * MARGIN) / 2

    def place(x: float, y: float) -> Row:
        return {"x": round(50 + scale * x, 2), "y": round(50 - 2 * scale * (y - middle) / height, 2)}

    groups = sorted(
        {str(person["group"]) for person in people if person["group"] is not None},
        key=lambda name: (not name.isdecimal(), int(name) if name.isdecimal() else 0, name),
    )
    if groups:
        marks = [groups.index(str(person["group"])) for person in people]
    else:  # by the nearest prototype
        marks = [0] * len(people) if weights is None else weights.argmax(1).tolist()
    drawn = zip(people, places.tolist(), marks, strict=True)
    points = [
        {"user_id": person["user_id"], "users": person["users"], **place(*at), "mark": mark}
        for person, at, mark in list(drawn)[:: -(-len(people) // MOST_DRAWN)]
    ]
    labels = [
        {**place(1.12 * x, 1.12 * y), "name": f"prototype {k + 1}", "title": title, "share": share, "mark": k}
        for k, ((x, y), title, share) in enumerate(zip(ring.tolist(), titles, shares, strict=False))
    ]
    return {
        "kind": kind,
        "ratio": 0.8 if kind == "plane" else round(min(max(height / 2, 0.4), 1.0), 3),
        "points": points,
        "labels": labels,
        "edges": [(place(*a), place(*b)) for a, b in edges],
        "groups": groups,
        "drawn": len(points),
        "of": len(people),
        "axes": list(titles[:2]) if kind == "plane" else [],
    }


def corners(n_prototypes: int) -> Float[np.ndarray, "K 2"]:
    """The corners of a regular polygon of radius 1, the first on top, clockwise."""
    angles = np.pi / 2 - 2 * np.pi * np.arange(n_prototypes) / n_prototypes
    return np.stack([np.cos(angles), np.sin(angles)], 1)


def _spread(places: Float[np.ndarray, "users 2"]) -> Float[np.ndarray, "users 2"]:
    """Points that share a place become a small disc around it, so that their number shows."""
    number, size = _number_equal((50 * places).round())
    radius = np.minimum(0.025, 0.2 / np.sqrt(size)) * np.sqrt(number)
    angle = np.pi * (3 - np.sqrt(5)) * number  # the golden angle: a disc without rows
    return places + radius[:, None] * np.stack([np.cos(angle), np.sin(angle)], 1)


def _stacked(values: Float[np.ndarray, " users"]) -> Float[np.ndarray, "users 2"]:
    """Values in [0, 1] along a line, of which equal ones stand above and below each other."""
    number, size = _number_equal((STACKS * values).round()[:, None])
    height = min(0.05, 1.3 / size.max()) * ((number + 1) // 2) * np.where(number % 2, 1, -1)
    return np.stack([2 * values - 1, height], 1)


def _number_equal(cells: Float[np.ndarray, "users axes"]) -> tuple[np.ndarray, np.ndarray]:
    """Each row's number among those equal to it, from 0, and how many these are."""
    frame = pl.DataFrame(cells)
    count = pl.int_range(pl.len()).over(frame.columns), pl.len().over(frame.columns)
    number, size = frame.select(number=count[0], size=count[1])
    return number.to_numpy(), size.to_numpy()


def _rounded(value: float | None) -> float | None:
    if value is None or (isinstance(value, float) and not math.isfinite(value)):
        return None
    return value if isinstance(value, int) else round(float(value), 4)


def _all_rounded(rows: Sequence[Row]) -> list[Row]:
    return [{k: _rounded(v) if isinstance(v, float) else v for k, v in row.items()} for row in rows]
