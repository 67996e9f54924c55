"""The demo, a study, and their pages over the service: you, people, compare; and the calls to try.

A demo has questions, pairs of responses, and a few responses to rank; both come from a log of answers, or
from a table of pairs. It asks what tells most, and shows a ranking that moves with each answer, and people.
Answers go to the same log as those of `/v1/people`. A study asks participants the same questions, but for a
share drawn at random and for repetitions.
"""

import asyncio
import base64
import json
import random
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal, NamedTuple

import torch
from fastapi import APIRouter, Depends, FastAPI
from fastapi.responses import HTMLResponse
from fastapi.staticfiles import StaticFiles
from jaxtyping import Float
from jinja2 import Environment, FileSystemLoader, select_autoescape
from pydantic import Field
from torch import Tensor

from pal.comparisons import Embeddings, Questions
from pal.errors import PalError, cut
from pal.files import read_bytes
from pal.logs.tables import read_rows
from pal.models.base import PrototypeModel
from pal.service import RefusedError
from pal.service import requests as typed
from pal.service.app import Service
from pal.serving.aggregates import Aggregate
from pal.serving.reward_model import RewardModel
from pal.users.population import Posterior
from pal.users.question_choice import answer_probabilities, choose_together, rank_questions
from pal.users.taste import Taste

HERE = Path(__file__).parent
MOST_COMPARED = 50
MOST_QUESTIONS = 200  # that the page chooses from
MOST_TABLE = 2000  # of a table of questions
MOST_RANKED = 6
MOST_SHOWN = 6  # directions or prototypes
MOST_PEOPLE = 500  # whom someone is compared with
MORE_ANSWERS = 10
LEAST_BEYOND = 0.01  # chance of a preference above the average person's
PICTURES = (".png", ".jpg", ".jpeg", ".webp")
LONGEST_LABEL = 60
Reason = Literal["telling", "random", "repeat"]


@dataclass(frozen=True)
class Pair:
    """A question, and its answer where it is one: the first was chosen. Items are as requests have them."""

    prompt: Any
    first: Any
    second: Any

    @property
    def key(self) -> str:
        """The same for both orders of the responses."""
        return json.dumps([self.prompt, *sorted([json.dumps(self.first), json.dumps(self.second)])])

    def turned(self, *, turned: bool) -> "Pair":
        """With its responses exchanged, or as it is."""
        return Pair(self.prompt, self.second, self.first) if turned else self


@dataclass
class Demo:
    """A model with questions, encoded, and what people who were seen in fitting answered, by their ids."""

    model: RewardModel
    pairs: Sequence[Pair]
    people: dict[str, list[Pair]] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if not self.pairs:
            raise PalError("questions must hold at least one pair, got none")
        self.ranked_prompt, self.ranked = self._choose_ranked()
        self.numbers = {pair.key: number for number, pair in enumerate(self.pairs)}
        self.embeddings, self.questions = self.encode(self.pairs)
        ranked = [Pair(self.ranked_prompt, item, self.ranked[0]) for item in self.ranked]
        self._ranked = self.encode(ranked)
        self.axes = _axes(self.model)
        self.names = self._name_axes()
        self.states = self.model.states[:MOST_PEOPLE]

    def encode(self, pairs: Sequence[Pair]) -> tuple[Embeddings, Questions]:
        """Pairs as rows of embeddings."""
        prompts = None
        if self.model.reads_prompts:
            prompts = typed.read_items([pair.prompt for pair in pairs], "prompts", "prompts")
        items = [pair.first for pair in pairs] + [pair.second for pair in pairs]
        responses = typed.read_items(items, "responses", "responses")
        return self.model.encode_questions(prompts, responses, may_be_same=True)

    def probabilities(
        self, states: Float[Tensor, "states state"], encoded: tuple[Embeddings, Questions] | None = None
    ) -> Float[Tensor, "q states"]:
        """P(first) of each question at each state."""
        embeddings, questions = encoded or (self.embeddings, self.questions)
        head, loss = self.model.head, self.model.fit_config.loss
        return answer_probabilities(head, states.float(), embeddings, questions, loss)

    def view(self, taste: Taste, answers: Sequence[dict[str, Any]]) -> dict[str, Any]:
        """What the page shows after answers: the next question, the belief, the ranking, how sure it is."""
        belief = taste.posterior
        probability = self.probabilities(belief.states)
        left = self.left(answers)
        asked = self.next_question(probability, belief, left) if left else None
        embeddings, ranked = self._ranked
        prompt = embeddings.prompts[ranked.prompt] if self.model.head.needs_prompts else None
        mean = self.model.score(prompt, embeddings.responses[ranked.first], user=belief.mean.float())
        best = self.probabilities(belief.states, self._ranked).argmax(0)
        chance = torch.zeros(len(self.ranked), dtype=torch.float64).index_add(0, best, belief.masses.double())
        ranking = sorted(range(len(self.ranked)), key=lambda row: -float(mean[row]))
        right = probability @ belief.masses.double()
        return {
            "question": None if asked is None else {"number": asked, **vars(self.pairs[asked])},
            "ranking": [
                {"index": row, "reward": float(mean[row]), "best": float(chance[row])} for row in ranking
            ],
            "belief": self._bars(belief),
            "sure": float(torch.maximum(right, 1 - right).mean()),  # expected share of right guesses
        }

    def next_question(
        self, probability: Float[Tensor, "q states"], belief: Posterior, left: list[int]
    ) -> int:
        """The question that tells most of those that are left."""
        return left[rank_questions(probability[left], belief.masses)[0].index]

    def outlook(self, taste: Taste, answers: Sequence[dict[str, Any]]) -> dict[str, float]:
        """Share of answers that would be guessed right after ten more answers, and at most.

        Exact under the model: the ten questions that tell most together, every outcome weighed.
        """
        belief = taste.posterior
        probability, masses = self.probabilities(belief.states), belief.masses.double()
        left = self.left(answers)[:100]
        outcome = torch.ones(1, len(masses), dtype=torch.float64)
        if left:
            chosen = choose_together(probability[left], masses, min(MORE_ANSWERS, len(left)))
            for each in chosen:
                p = probability[left[each.index]]
                outcome = torch.cat([outcome * p, outcome * (1 - p)])
        joint = outcome * masses
        yes, whole = joint @ probability.T, joint.sum(1, keepdim=True)
        known = torch.maximum(probability, 1 - probability) @ masses
        return {"later": float(torch.maximum(yes, whole - yes).sum(0).mean()), "at_most": float(known.mean())}

    def person(self, user_id: str, state: Float[Tensor, " state"]) -> dict[str, Any]:
        """Someone among others: position, preferences beyond the average, who is alike, mistakes."""
        model = self.model
        average = model.population.mean
        theirs = self.probabilities(torch.stack([state, average]))
        apart = theirs[:, 0] - theirs[:, 1]
        order = apart.abs().argsort(descending=True).tolist()
        others = self.probabilities(self.states) > 0.5
        agreement = (others == (theirs[:, :1] > 0.5)).double().mean(0)
        alike = [row for row in agreement.argsort(descending=True).tolist() if model.user_ids[row] != user_id]
        beyond = []
        for number in order:
            turned = float(theirs[number, 0]) < 0.5
            own, usual = (float(1 - each if turned else each) for each in theirs[number])
            if own - usual > LEAST_BEYOND:
                pair = self.pairs[number].turned(turned=turned)
                beyond.append({**vars(pair), "theirs": own, "average": usual})
        return {
            "user_id": user_id,
            "place": self._place(state),
            "others": self._place(self.states),
            "beyond": beyond[:5],
            "alike": [
                {"user_id": model.user_ids[row], "agreement": float(agreement[row])} for row in alike[:5]
            ],
            **self._mistakes(user_id, state),
        }

    def _mistakes(self, user_id: str, state: Float[Tensor, " state"]) -> dict[str, Any]:
        """How often the model agrees with a person's own answers, and where it does least."""
        answers = self.people.get(user_id, [])
        if not answers:
            return {"answers": 0, "right": None, "mistakes": []}
        chance = self.probabilities(state[None], self.encode(answers))[:, 0]
        wrong = [number for number in chance.argsort().tolist() if float(chance[number]) < 0.5]
        return {
            "answers": len(answers),
            "right": float((chance > 0.5).double().mean()),
            "mistakes": [{**vars(answers[number]), "chance": float(chance[number])} for number in wrong[:3]],
        }

    def _place(self, states: Float[Tensor, "*states state"]) -> list[Any]:
        """Numbers of the axes that are shown: weights of prototypes, or standard deviations of directions."""
        centre, axes, _ = self.axes
        return ((states.double() - centre) @ axes).tolist()

    def _bars(self, belief: Posterior) -> list[dict[str, Any]]:
        _, axes, low = self.axes
        apart = (belief.states.double() - belief.mean.double()) @ axes
        spread = (apart.square() * belief.masses.double()[:, None]).sum(0).sqrt().tolist()
        ends = {"low": low, "high": 1.0 if low == 0 else -low}
        return [
            {"mean": at, "sd": sd, **ends} for at, sd in zip(self._place(belief.mean), spread, strict=True)
        ]

    def _name_axes(self) -> list[list[Any]]:
        """Each axis by the responses that its ends prefer: of the question on which they differ most."""
        centre, axes, low = self.axes
        names = []
        for axis in range(axes.shape[1]):
            if low == 0:  # a prototype against the mean of all
                ends = torch.stack(
                    [torch.eye(len(centre))[axis], torch.full((len(centre),), 1 / len(centre))]
                )
            else:
                step = torch.linalg.pinv(axes.T)[:, axis]
                ends = torch.stack([centre + step, centre - step])
            apart = self.probabilities(ends.float())
            number = int((apart[:, 0] - apart[:, 1]).abs().argmax())
            pair = self.pairs[number].turned(turned=bool(apart[number, 0] < apart[number, 1]))
            names.append([_label(pair.first), _label(pair.second)])
        return names

    def _choose_ranked(self) -> tuple[Any, list[Any]]:
        """The prompt with the most responses, and some of them; of several prompts where none is read."""
        by_prompt: dict[str, dict[str, Any]] = {}
        for pair in self.pairs:
            group = by_prompt.setdefault(json.dumps(pair.prompt), {})
            group |= {json.dumps(item): item for item in (pair.first, pair.second)}
        key, group = max(by_prompt.items(), key=lambda each: len(each[1]))
        if len(group) < 4 and not self.model.reads_prompts:
            key, group = "null", {json.dumps(pair.first): pair.first for pair in self.pairs}
        return json.loads(key), list(group.values())[:MOST_RANKED]

    def left(self, answers: Sequence[dict[str, Any]]) -> list[int]:
        """The questions that were not answered yet."""
        answered = {key_of(answer) for answer in answers}
        return [number for number, pair in enumerate(self.pairs) if pair.key not in answered]


class Shown(NamedTuple):
    """A question as it is shown: its number, why it was chosen, and whether its sides are exchanged."""

    number: int
    reason: Reason
    exchanged: bool


@dataclass(frozen=True)
class Study:
    """Which question a participant of a study sees next, and on which side its responses stand.

    Everything follows from the answers so far and the participant's id, so that a page that is loaded again
    finds the same question. A share is drawn at random, so that the answers stay usable for evaluation.
    """

    demo: Demo
    consent: str = ""  # what participants agree to
    random_share: float = 0.2
    repeat_every: int = 10  # answers, after which an earlier question comes again, exchanged; 0 repeats none
    questions: int | None = None  # answers, after which a participant is done; by default all questions

    def __post_init__(self) -> None:
        if not 0 <= self.random_share <= 1:
            raise PalError(f"--random must be a share from 0 to 1, got {self.random_share:g}")

    def next(self, user_id: str, taste: Taste, answers: Sequence[dict[str, Any]]) -> Shown | None:
        """The next question of a participant; None at the end."""
        n, demo = len(answers), self.demo
        if self.questions is not None and n >= self.questions:
            return None
        draw = random.Random(f"{user_id}\n{n}")  # noqa: S311
        first_of_two = random.Random(f"{user_id}\n{n // 2}\nside").random() < 0.5  # noqa: S311
        exchanged = first_of_two ^ bool(n % 2)  # each side once in every two questions
        before = [answer for answer in answers if answer.get("reason") != "repeat"]
        if self.repeat_every and n % (self.repeat_every + 1) == self.repeat_every and before:
            again = draw.choice(before)
            if (number := demo.numbers.get(key_of(again))) is not None:
                return Shown(number, "repeat", exchanged=not again.get("exchanged", False))
        if not (left := demo.left(answers)):
            return None
        if draw.random() < self.random_share:
            return Shown(draw.choice(left), "random", exchanged)
        belief = taste.posterior
        number = demo.next_question(demo.probabilities(belief.states), belief, left)
        return Shown(number, "telling", exchanged)


def key_of(answer: dict[str, Any]) -> str:
    """The question of an answer."""
    return Pair(answer.get("prompt"), answer["chosen"], answer["rejected"]).key


def consistency(answers: Sequence[dict[str, Any]]) -> float | None:
    """Share of repeated questions that were answered as before; None without any."""
    first: dict[str, Any] = {}
    same = []
    for answer in answers:
        if answer.get("reason") == "repeat" and key_of(answer) in first:
            same.append(first[key_of(answer)] == (answer["chosen"], answer.get("label", 1.0)))
        first.setdefault(key_of(answer), (answer["chosen"], answer.get("label", 1.0)))
    return sum(same) / len(same) if same else None


def read_questions(log: Any, folder: Path | None) -> tuple[list[Pair], dict[str, list[Pair]]]:
    """Distinct questions of a log's pairs, some where there are many, and every person's answers.

    The log is a table of user_id, prompt, chosen and rejected; paths of pictures are relative to the folder.
    """
    draw = random.Random(0)  # noqa: S311
    distinct: dict[str, Pair] = {}
    people: dict[str, list[Pair]] = {}
    for user_id, *items in log.select("user_id", "prompt", "chosen", "rejected").iter_rows():
        pair = Pair(*(item_of(item, folder) for item in items))
        answers = people.setdefault(user_id, [])
        if len(answers) < MOST_QUESTIONS:
            answers.append(pair)
        distinct.setdefault(pair.key, pair)
    pairs = draw.sample(list(distinct.values()), min(MOST_QUESTIONS, len(distinct)))
    return [pair.turned(turned=draw.random() < 0.5) for pair in pairs], people


def read_pairs(path: str, *, needs_prompts: bool) -> list[Pair]:
    """Questions of a table with prompt, response_a and response_b: texts, paths of pictures or vectors."""
    table, folder = read_rows(path), Path(path).parent
    table.require(["response_a", "response_b", *(["prompt"] if needs_prompts else [])])
    columns = ("prompt", "response_a", "response_b")
    rows = table.rows[:MOST_TABLE]
    return [Pair(*(item_of(row.cells.get(column), folder) for column in columns)) for row in rows]


def item_of(cell: Any, folder: Path | None) -> Any:
    """A cell of a log or table as requests have it; the path of a picture becomes the picture."""
    if isinstance(cell, str) and folder is not None and cell.lower().endswith(PICTURES):
        cell = read_bytes(folder / cell, "copy the pictures beside the table")
    return {"image": base64.b64encode(cell).decode()} if isinstance(cell, bytes) else cell


def _axes(model: RewardModel) -> tuple[Tensor, Tensor, float]:
    """Where axes start, their directions as columns, and their low end: 0 for weights of prototypes."""
    size = model.head.state_dim
    if isinstance(model.head, PrototypeModel):
        shown = min(size, MOST_SHOWN)
        return torch.zeros(size, dtype=torch.float64), torch.eye(size, dtype=torch.float64)[:, :shown], 0.0
    prior = model.population.prior
    centre = prior.mean.double()
    apart = prior.states.double() - centre
    covariance = (apart * prior.masses.double()[:, None]).T @ apart
    values, vectors = torch.linalg.eigh(covariance)
    shown = [row for row in range(size - 1, -1, -1) if float(values[row]) > 1e-9][: MOST_SHOWN // 2]
    return centre, vectors[:, shown] / values[shown].sqrt(), -3.0


def _label(item: Any) -> Any:
    """A response in a few words; pictures and embeddings as they are."""
    return cut(" ".join(item.split()), LONGEST_LABEL) if isinstance(item, str) else item


class Click(typed.Request):
    """What a visitor or participant chose; without a choice, only what to show is asked for."""

    user_id: typed.Id
    number: int | None = None
    choice: Literal["first", "second", "tie"] | None = None
    key: typed.Id | None = None
    answers: int | None = Field(None, description="That the page knew of; a study checks it.")


class Pasted(typed.Request):
    """Responses to compare."""

    prompt: typed.Item | None = None
    responses: list[typed.Item] = Field(min_length=2, max_length=MOST_COMPARED)
    user_id: typed.Id | None = None


def answer_to(demo: Demo, number: int, choice: str, **noted: Any) -> dict[str, Any]:
    """The answer as it is kept."""
    if not 0 <= number < len(demo.pairs):
        raise PalError(f"number must be a question's, 0 to {len(demo.pairs) - 1}, got {number}")
    pair = demo.pairs[number].turned(turned=choice == "second")
    label = {"label": 0.5} if choice == "tie" else {}
    prompt = {} if pair.prompt is None else {"prompt": pair.prompt}
    return {**prompt, "chosen": pair.first, "rejected": pair.second, **label, **noted}


async def known_of(
    service: Service, name: str, model: RewardModel, user_id: str
) -> tuple[Taste, list[dict[str, Any]], int | None]:
    """Someone's taste by their answers, these, and the last one's number."""
    known = await service.taste(name, model, user_id)
    entries = await asyncio.to_thread(service.answers.entries, name, user_id)
    last = entries[-1].version if entries else None
    taste = known[0] if known else Taste.empty(model)
    return taste, [entry.answer for entry in entries], last


def demo_router(service: Service, name: str, demo: Demo) -> APIRouter:
    """What the pages you, people and compare call."""
    router, model = APIRouter(prefix="/demo", include_in_schema=False), demo.model

    @router.get("/setup")
    async def setup() -> dict[str, Any]:
        ids = model.user_ids[:5000]
        return {
            "model": name,
            "ranked": {"prompt": demo.ranked_prompt, "responses": demo.ranked},
            "questions": len(demo.pairs),
            "people": [{"name": each, "answers": len(demo.people.get(each, []))} for each in ids],
            "names": demo.names,
            "needs_prompts": model.reads_prompts,
        }

    @router.post("/you")
    async def you(click: Click) -> dict[str, Any]:
        if click.choice is not None and click.number is not None:
            answer = answer_to(demo, click.number, click.choice)
            await service.write(service.answers.add, name, click.user_id, [answer], click.key)
        taste, answers, last = await known_of(service, name, model, click.user_id)
        shown = await service.compute(model, [], lambda: demo.view(taste, answers))
        return {**shown, "answers": len(answers), "last": last}

    @router.post("/outlook")
    async def outlook(click: Click) -> dict[str, float]:
        taste, answers, _ = await known_of(service, name, model, click.user_id)
        return await service.compute(model, [], lambda: demo.outlook(taste, answers))

    @router.get("/people/{user_id:path}")
    async def person(user_id: str) -> dict[str, Any]:
        if user_id not in model.rows:
            raise RefusedError(404, f"user_id must be of someone seen in fitting, got {user_id!r}")
        return await service.compute(model, [], lambda: demo.person(user_id, model.state_of(user_id)))

    @router.post("/compare")
    async def compare(pasted: Pasted) -> dict[str, Any]:
        by: dict[str, Any] = {"average": None, "worst": Aggregate("worst", centred=True)}
        if pasted.user_id is not None:
            by["person"] = await service.user(name, model, pasted.user_id)
        ranked = {}
        for who, user in by.items():
            rewards = await service.rewards(model, user, [pasted.prompt], pasted.responses)
            ranked[who] = sorted(range(len(rewards)), key=lambda row, rewards=rewards: -rewards[row])
        return ranked

    return router


def study_router(service: Service, name: str, study: Study) -> APIRouter:
    """What the page of a study calls: open to participants, who have no key."""
    router, demo = APIRouter(prefix="/study", include_in_schema=False), study.demo

    @router.get("/consent")
    async def consent() -> dict[str, str]:
        return {"consent": study.consent}

    @router.post("/next")
    async def next_pair(click: Click) -> dict[str, Any]:
        shown, answers = await current(click.user_id)
        if click.choice is not None and click.answers == len(answers) and shown is not None:
            choice = click.choice
            if shown.exchanged and choice != "tie":
                choice = "second" if choice == "first" else "first"
            noted = {"reason": shown.reason, "exchanged": shown.exchanged}
            answer = answer_to(demo, shown.number, choice, **noted)
            key = f"answer {len(answers)}"  # a page that is open twice answers a question once
            await service.write(service.answers.add, name, click.user_id, [answer], key)
            shown, answers = await current(click.user_id)
        if shown is None:
            return {"question": None, "answers": len(answers)}
        question = vars(demo.pairs[shown.number].turned(turned=shown.exchanged))
        return {"question": question, "answers": len(answers), "of": study.questions}

    async def current(user_id: str) -> tuple[Any, list[dict[str, Any]]]:
        taste, answers, _ = await known_of(service, name, demo.model, user_id)
        return await service.compute(demo.model, [], lambda: study.next(user_id, taste, answers)), answers

    return router


def add_pages(app: FastAPI, name: str = "", demo: Demo | None = None, study: Study | None = None) -> FastAPI:
    """Add pages to the service: the calls to try; those of a demo; or that of a study alone.

    Participants of a study see nothing of other people.
    """
    environment = Environment(
        loader=FileSystemLoader(HERE / "templates"), autoescape=select_autoescape(default=True)
    )
    pages = {"/docs": "calls"}
    if study is not None:
        pages["/"] = "study"
        app.include_router(study_router(app.state.service, name, study))
    elif demo is not None:
        pages |= {"/": "you", "/people": "people", "/compare": "compare"}
        router = demo_router(app.state.service, name, demo)
        app.include_router(router, dependencies=[Depends(app.state.check_key)])
    menu = {path: page for path, page in pages.items() if page not in ("calls", "study")}
    for path, template in pages.items():
        html = environment.get_template(f"{template}.html").render(page=template, menu=menu, model=name)
        app.add_route(path, lambda _, html=html: HTMLResponse(html), include_in_schema=False)
    app.mount("/static", StaticFiles(directory=HERE / "static"))
    return app
