"""People in a report, from a model and judged answers: for whom it pays, what they want, how they answer.

A table of judged answers has a row for each held-out answer: user_id, users (seen or unseen), prompt, chosen
and rejected (numbers of items), right and one (whether the personal reward and one reward for everyone prefer
what was chosen; one half is undecided), p and p_one (the chances that they gave it). `one` and `p_one` may
be null.
"""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property, partial
from types import MappingProxyType
from typing import Any, NamedTuple

import numpy as np
import polars as pl
import torch
from jaxtyping import Float
from scipy.special import bdtr
from torch import Tensor

from pal.comparisons import Comparisons, Embeddings, Questions
from pal.errors import cut
from pal.evaluation.accuracy import Judged, confidence_interval, paired_test, rightness
from pal.evaluation.describe import Description, Liked, describe_rewards, main_directions, without_opening
from pal.models.base import PrototypeModel
from pal.report.page import RARE, Row
from pal.users.care import care_of

MOST_PEOPLE = 300  # with a page of their own
EXAMPLES = 3  # of either kind on a person's page
WORST = 5
BIN = 0.05  # of gains
LEAST_REPEATS, LEAST_SIDES = 5, 10  # questions answered twice, and answers with a side, to be judged by
SELF, SIDE = 0.6, 0.9  # agreement with oneself at most, share of one side at least, of who stands out
LAPSE = 0.3  # share of answers at random which that of who stands out is surely above
FAST, FASTER = 3.0, 0.2  # seconds an answer, and share of the median person's, of who stands out
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
Margins = Float[Tensor, " n"]
Show = Callable[[set[Item]], Mapping[Item, str | None]]


def judged_answers(
    user_ids: Sequence[str], half: str, pairs: Comparisons, own: Margins, one: Margins | None = None
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
    for name, chance, margins in (("right", "p", own), ("one", "p_one", one)):
        columns[name] = none if margins is None else rightness(margins).astype(float)
        columns[chance] = none if margins is None else torch.sigmoid(margins.double()).numpy(force=True)
    return pl.DataFrame(columns, schema_overrides={"user_id": pl.String, "users": pl.String})


def judge_people(answers: pl.DataFrame) -> pl.DataFrame:
    """Each person's held-out answers, accuracies and gain: user_id, users, n, accuracy, one, gain."""
    people = answers.group_by("user_id", "users", maintain_order=True)
    judged = people.agg(n=pl.len(), accuracy=pl.col("right").mean(), one=pl.col("one").mean())
    return judged.with_columns(gain=pl.col("accuracy") - pl.col("one"))


def for_whom(people: pl.DataFrame, attributes: Mapping[str, Mapping[str, str]] | None = None) -> Row | None:
    """For whom it pays: the distribution of gains, the worst served by id, and means by attribute.

    Takes what `judge_people` returns, and by attribute each person's value. None where nobody was judged.
    """
    if people.is_empty():
        return None
    worst = people.sort("accuracy", "n", descending=[False, True], maintain_order=True).head(WORST)
    n = int(people["n"].median())  # type: ignore[arg-type]
    mean = float(people["accuracy"].mean())  # type: ignore[arg-type]
    reach = 1.96 * np.sqrt(max(mean * (1 - mean), 0.02) / n)
    said, bins, named = [], [], (attributes or {}).items()
    if people["gain"].null_count() < len(people):
        gain = people["gain"].drop_nulls().to_numpy()
        helped, hurt = int((gain > 1e-9).sum()), int((gain < -1e-9).sum())
        more = f"Of {len(gain):,} people the personal reward is right more often for {helped:,}"
        said.append(f"{more}, as often for {len(gain) - helped - hurt:,}, and less often for {hurt:,}.")
        place = np.round(gain / BIN).astype(int)
        bins = [
            {"at": round(float(at * BIN), 4), "people": int((place == at).sum())}
            for at in range(min(place.min(), 0), max(place.max(), 0) + 1)
        ]
    known = f"With {n:,} held-out answer{'s' * (n > 1)} a person"
    said.append(f"{known}, a single person's accuracy is uncertain by about {100 * reach:.0f} points.")
    return {
        "sentence": " ".join(said),
        "bins": bins,
        "most": max((each["people"] for each in bins), default=0),
        "worst": worst.to_dicts(),
        "groups": [group for name, values in named for group in _groups(people, name, values)],
    }


def _groups(people: pl.DataFrame, attribute: str, values: Mapping[str, str]) -> list[Row]:
    """Means over the people of each value of an attribute, with 95 % intervals of the gain."""
    value = pl.col("user_id").replace_strict(dict(values), default=None, return_dtype=pl.String)
    told, rows = people.with_columns(value=value), []
    for value in sorted(told["value"].drop_nulls().unique().to_list()):
        some = told.filter(pl.col("value") == value)
        row = {"attribute": attribute, "value": value, "people": len(some), "gain": None, "gain_low": None}
        total = some["n"].cast(pl.Int64).to_numpy()
        own = Judged((some["accuracy"] * some["n"]).to_numpy(), total)
        row["accuracy"] = own.macro
        row["low"], row["high"] = confidence_interval(own, mean="macro")
        if some["gain"].null_count() == 0:
            test = paired_test(own, Judged((some["one"] * some["n"]).to_numpy(), total), flips=1)
            row |= {"gain": test.difference, "gain_low": test.low, "gain_high": test.high}
        rows.append(row)
    return rows


def examples(answers: pl.DataFrame, users: Sequence[str]) -> dict[str, dict[str, list[Row]]]:
    """Each person's worst mistakes and most telling answers: right where one reward is surely wrong."""
    p_one = pl.col("p_one").fill_null(0.5)
    some = answers.filter(pl.col("user_id").is_in(list(users))).with_columns(telling=pl.col("p") - p_one)
    right = some.filter(pl.col("right") > 0.5).sort("telling", descending=True, maintain_order=True)
    wrong = some.filter(pl.col("right") < 0.5).sort("p", maintain_order=True)
    found: dict[str, dict[str, list[Row]]] = {user: {"telling": [], "mistakes": []} for user in users}
    for kind, rows in (("telling", right), ("mistakes", wrong)):
        top = rows.group_by("user_id", maintain_order=True).head(EXAMPLES)
        for row in top.iter_rows(named=True):
            found[row["user_id"]][kind].append(row)
    return found


def answering(
    people: pl.DataFrame,
    habits: pl.DataFrame | None = None,
    care: pl.DataFrame | None = None,
    *,
    personal: bool = True,
) -> Row:
    """How people answer, so that careless ones are seen before they are believed.

    Takes `people` as `judge_people` returns them, `habits` as `pal.logs.answers.habits` does, and `care`
    (user_id, lapse, low: the share of answers at random, and what it is surely above). Where the model is not
    `personal`, agreement with it says nothing of care. Of the rows returned, those who stand out come first;
    lapse is the mean.
    """
    table = people.select("user_id", "n", agreement="accuracy")
    for each in (habits, care):
        if each is not None and len(each):
            known = [column.name for column in each if column.null_count() < len(each)]
            table = table.join(each.select(known), on="user_id", how="left")
    rows = table.to_dicts()
    typical = float((table["agreement"] * table["n"]).sum() / max(table["n"].sum(), 1))
    pace = table["seconds"].median() if "seconds" in table.columns else None
    for row in rows:
        row["why"] = why = []
        right = round(row["agreement"] * row["n"])
        if personal and row["agreement"] <= SELF and bdtr(right, row["n"], typical) * len(rows) < RARE:
            why.append("hardly agrees with their own model")
        if (row.pop("low", None) or 0) > LAPSE:
            why.append("answers as if at random")
        if row.get("itself") is not None and row["repeated"] >= LEAST_REPEATS and row["itself"] <= SELF:
            why.append("answers the same question in both ways")
        if row.get("first") is not None and row["shown"] >= LEAST_SIDES:
            one_side = max(row["first"], 1 - row["first"])
            fewer = round((1 - one_side) * row["shown"])
            p = 2 * bdtr(fewer, row["shown"], 0.5) * len(rows)  # of a fair coin, two-sided
            if one_side >= SIDE and p < RARE:
                side = "first" if row["first"] > 0.5 else "second"
                why.append(f"nearly always chooses the response shown {side}")
        if row.get("seconds") is not None and row["seconds"] <= min(FAST, FASTER * pace):  # type: ignore[operator]
            why.append(f"answers every {row['seconds']:.1f} seconds")
    rows.sort(key=lambda row: (not row["why"], row["agreement"]))
    out = sum(bool(row["why"]) for row in rows)
    said = "Nobody stands out."
    if out:
        said = f"{out:,} of {len(rows):,} people stand out: look at their answers before believing them."
    lapse = table["lapse"].mean() if "lapse" in table.columns else None
    return {"rows": rows[:MOST_PEOPLE], "standing_out": out, "sentence": said, "lapse": lapse}


class _Wants(NamedTuple):
    """What people want, in words."""

    described: Sequence[Description] = ()  # prototypes or directions
    sides: Sequence[Sequence[int]] = ()  # rows of prompt and response, of each that descriptions are of
    plane: Float[np.ndarray, "users axes"] | None = None  # where people stand along the first two directions
    titles: Mapping[tuple[str, str], str] = MappingProxyType({})  # of groups, by attribute and value


@dataclass
class Portrait:
    """People as the first part of a report shows them, but for whether being personal pays."""

    model: Any  # a `RewardModel`
    embeddings: Embeddings  # of all items
    questions: Questions  # of training: their responses tell what people want
    people: Sequence[Row]  # user_id, users and group of each
    states: Float[Tensor, "users state"]  # theirs
    answers: pl.DataFrame  # held out, judged
    texts: Mapping[str, Sequence[str | None]]  # of prompts and responses; None: a picture; empty of vectors
    show: Show  # gives pictures as data URIs; None of one that cannot be opened
    shown: int = SHOWN  # responses of what each likes, and of what each dislikes
    attributes: Mapping[str, Mapping[str, str]] = field(default_factory=dict)  # by attribute each one's value
    outside: Sequence[str] = ()  # people whom no mix of the prototypes explains
    pictures: dict[str, str] = field(default_factory=dict, init=False)  # data URIs by name

    def drawn(self, given: Comparisons | None = None, habits: pl.DataFrame | None = None) -> Row:
        """What the templates show.

        All answers, `given` by the number among `people`, tell how carefully people answer; so do `habits`.
        """
        people, states, wants, model = self.people, self.states, self.wants, self.model
        # One reward for everyone knows no one's answers: who differs from it is not careless.
        alike = bool((states == states[:1]).all())
        care = None
        if given is not None and len(given) and not alike:
            fitted, loss = (model.head, model.population), model.fit_config.loss
            found = care_of(*fitted, self.embeddings, given, n_users=len(people), loss=loss)
            columns = {name: getattr(found, name).numpy() for name in ("lapse", "low")}
            care = pl.DataFrame({"user_id": [each["user_id"] for each in people], **columns})
        told = answering(self.judged, habits, care, personal=not alike)
        weights = states.numpy(force=True) if isinstance(model.head, PrototypeModel) else None
        tastes = [{"name": each.name, "title": each.title} for each in wants.described]
        tastes = tastes or [{"name": f"prototype {k + 1}", "title": ""} for k in range(states.shape[1])]
        whom = for_whom(self.judged, self.attributes)
        if whom is not None:
            whom["worst"] = list(map(_rounded, whom["worst"]))
            whom["groups"] = [
                {**_rounded(row), "title": wants.titles.get((row["attribute"], row["value"]), "")}
                for row in whom["groups"]
            ]
            whom["outside"] = list(self.outside)
        shares = [each.share or 0.0 for each in wants.described] or states.mean(0).tolist()
        titles = [each["title"] for each in tastes]
        return {
            "whom": whom,
            "map": draw_map(people, weights=weights, plane=wants.plane, titles=titles, shares=shares),
            "alike": alike,
            "wants": [self._description(each) for each in wants.described],
            "people": self._pages(weights, {row["user_id"]: row["why"] for row in told["rows"]}),
            "pictures": self.pictures,
            "tastes": tastes,
            "answering": {**told, "rows": list(map(_rounded, told["rows"]))},
        }

    @cached_property
    def judged(self) -> pl.DataFrame:
        """Each person's accuracies."""
        return judge_people(self.answers)

    @cached_property
    def examples(self) -> Mapping[str, Mapping[str, Sequence[Row]]]:
        """Answers to show of each person, the worst served first; of vectors there is nothing to show."""
        worst = self.judged.sort("accuracy", "n", descending=[False, True], maintain_order=True)["user_id"]
        most = MOST_PICTURED if None in self.texts["responses"][:1] else MOST_PEOPLE
        answers = self.answers if self.texts["responses"] else self.answers.clear()
        return examples(answers, worst.head(most).to_list())

    @cached_property
    def wants(self) -> _Wants:
        """What people want, beyond the average person."""
        head = self.model.head
        population, questions, texts = self.model.population, self.questions, self.texts
        if len(questions) < 2 or head.shared_state is not None:
            return _Wants()
        some = questions[torch.linspace(0, len(questions) - 1, min(len(questions), MOST_QUESTIONS)).long()]
        sides = torch.stack([torch.cat([some.prompt, some.prompt]), torch.cat([some.first, some.second])], 1)
        sides = torch.unique(sides, dim=0)
        prompt, response = sides[:, 0], sides[:, 1]
        group = torch.unique(prompt, return_inverse=True)[1]
        prompts = self.embeddings.prompts[prompt] if head.needs_prompts else None
        rewards = partial(self.model.score_states, prompts, self.embeddings.responses[response])
        described, titles, plane = [], {}, None
        if texts["responses"]:
            said = [texts["responses"][row] for row in response.tolist()]
            asked = [texts["prompts"][row] if row >= 0 else None for row in prompt.tolist()]
            describe = partial(describe_rewards, head, population, self.states, rewards, group, said, asked)
            described = describe()
            if means := self._group_means():
                named = describe(targets={str(n): mean for n, mean in enumerate(means.values())})
                titles = {key: each.title for key, each in zip(means, named, strict=True)}
        if not isinstance(head, PrototypeModel):
            along, _ = main_directions(population, rewards, group)
            apart = (self.states - population.mean).double()
            plane = (apart @ torch.linalg.pinv(along.double()))[:, :2].numpy(force=True)
        return _Wants(described, sides.tolist(), plane, titles)

    def _group_means(self) -> dict[tuple[str, str], Float[Tensor, " state"]]:
        """The mean state of the people of each value of an attribute."""
        groups = {
            (name, value): torch.tensor([values.get(each["user_id"]) == value for each in self.people])
            for name, values in self.attributes.items()
            for value in sorted(set(values.values()))[:MOST_GROUPS]
        }
        return {key: self.states[members].mean(0) for key, members in groups.items() if members.any()}

    @cached_property
    def responses(self) -> list[Sequence[int]]:
        """Prompt and response of each that descriptions show."""
        ends = (end[: self.shown] for each in self.wants.described for end in (each.likes, each.dislikes))
        return [self.wants.sides[rank.row] for end in ends for rank in end]

    @cached_property
    def images(self) -> Mapping[Item, str | None]:
        """The pictures that the page shows, in descriptions and in people's examples."""
        wanted = {
            item for both in self.responses for item in zip(("prompts", "responses"), both, strict=True)
        }
        for kinds in self.examples.values():
            for answer in (*kinds["telling"], *kinds["mistakes"]):
                wanted |= {(side, answer[name]) for name, side in SIDES.items()}
        return self.show({(side, row) for side, row in wanted if row >= 0 and self.texts[side][row] is None})

    @cached_property
    def opening(self) -> int:
        """Characters with which all prompts open, which the page leaves out."""
        asked = torch.unique(self.questions.prompt).tolist() if self.texts["prompts"] else []
        prompts = [self.texts["prompts"][row] for row in asked if row >= 0]
        if len(prompts) < 2 or None in prompts:
            return 0
        return len(prompts[0]) - len(without_opening(prompts)[0])

    def _cell(self, side: str, row: int) -> Row | None:
        """An item's text, cut short, or the name of its picture; None where there is none."""
        if row < 0:
            return None
        if image := self.images.get((side, row)):
            self.pictures[f"{side}-{row}"] = image
            return {"picture": f"{side}-{row}"}
        text = self.texts[side][row] or ""
        return {"text": cut(text[self.opening :].strip() if side == "prompts" else text, SHORT)}

    def _description(self, each: Description) -> Row:
        """A prototype or direction, with responses of either end.

        Where everybody is asked for one answer, as yes, what they say it to stands for what they like.
        """
        answers, answer = {response for _, response in self.responses}, None
        if len(answers) == 1 and self.wants.sides[0][0] >= 0:
            answer = self.texts["responses"][answers.pop()]

        def liked(rank: Liked) -> Row:
            asked, said = map(self._cell, ("prompts", "responses"), self.wants.sides[rank.row])
            asked, said = (asked or {}).get("text"), said or {}
            prompt, text = (None, asked) if answer else (asked, said.get("text"))
            image = self.pictures.get(said.get("picture", ""))
            return {"prompt": prompt, "text": text, "image": image, "above": rank.above}

        ends, words = ("likes", "dislikes"), ("liked_words", "disliked_words", "features")
        return {
            **{name: getattr(each, name) for name in ("name", "share", "title")},
            "answer": answer,
            **{name: [word._asdict() for word in getattr(each, name)] for name in words},
            **{name: [liked(rank) for rank in getattr(each, name)[: self.shown]] for name in ends},
        }

    def _pages(self, weights: np.ndarray | None, why: Mapping[str, list[str]]) -> list[Row]:
        """A page for each person of whom there are examples."""
        number = {person["user_id"]: n for n, person in enumerate(self.people)}
        facts = {row["user_id"]: row for row in self.judged.to_dicts()}
        mixed = weights is not None and weights.shape[1] > 1
        return [
            {
                **self.people[number[user]],
                **_rounded(facts[user]),
                "weights": [round(each, 4) for each in weights[number[user]].tolist()] if mixed else None,
                "outside": user in self.outside,
                "why": why.get(user, []),
                **{name: [self._example(answer) for answer in answers] for name, answers in kinds.items()},
            }
            for user, kinds in self.examples.items()
        ]

    def _example(self, answer: Row) -> Row:
        """A judged answer."""
        cells = {name: self._cell(side, answer[name]) for name, side in SIDES.items()}
        return {**cells, **_rounded({name: answer[name] for name in ("p", "p_one")})}


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
    `shares` how much of the people's weight, or of their differences, each has. Places are percentages of the
    map's width and height, y downwards. None where there is nothing to tell apart.
    """
    K = 0 if weights is None else weights.shape[1]
    if not people or K == 1 or (weights is None and plane is None):
        return None
    edges: list[Any] = []
    ring = np.empty((0, 2))
    if K == 2:
        kind, places, ring = "line", _stacked(weights[:, 0]), np.array([(1.0, 0.0), (-1.0, 0.0)])
    elif K:
        ring = corners(K)
        kind, places = "polygon", _spread(weights @ ring)
        edges = list(zip(ring.tolist(), np.roll(ring, -1, 0).tolist(), strict=True))
    else:
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
    marks = [0] * len(people) if weights is None else weights.argmax(1).tolist()  # the nearest prototype
    if groups:
        marks = [groups.index(str(person["group"])) for person in people]
    points = [
        {"user_id": person["user_id"], "users": person["users"], **place(*at), "mark": mark}
        for person, at, mark in zip(people, places.tolist(), marks, strict=True)
    ][:: -(-len(people) // MOST_DRAWN)]
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
    number, size = pl.int_range(pl.len()).over(frame.columns), pl.len().over(frame.columns)
    return tuple(column.to_numpy() for column in frame.select(number=number, size=size))


def _rounded(row: Row) -> Row:
    """A row with four decimals of its numbers; null for what is no finite number."""
    return {
        key: (round(value, 4) if math.isfinite(value) else None) if isinstance(value, float) else value
        for key, value in row.items()
    }
