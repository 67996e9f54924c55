"""The pages over the service: you, people, compare; or a study; and the calls to try."""

import asyncio
from pathlib import Path
from typing import Any, Literal

from fastapi import APIRouter, Depends, FastAPI
from fastapi.responses import HTMLResponse
from fastapi.staticfiles import StaticFiles
from jinja2 import Environment, FileSystemLoader, select_autoescape
from pydantic import Field

from pal.errors import PalError
from pal.service import RefusedError
from pal.service import requests as typed
from pal.service.app import Service
from pal.service.demo import Demo, Study
from pal.serving.aggregates import Aggregate
from pal.serving.reward_model import RewardModel
from pal.users.taste import Taste

HERE = Path(__file__).parent
MOST_COMPARED = 50


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
