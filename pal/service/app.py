"""The service: models over HTTP, and tastes that grow with answers.

    app = create_app(Models({"support": Path("support-model")}), Answers("answers.db"))

Every error is `{"error": "one sentence"}` with its status.
"""

import asyncio
import hmac
import json
import logging
import re
import sys
from collections import OrderedDict
from collections.abc import AsyncIterator, Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager
from functools import partial
from typing import Annotated, Any

import torch
from fastapi import APIRouter, Depends, FastAPI, Header, HTTPException, Query, Request, Response
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse, PlainTextResponse
from fastapi.security import HTTPAuthorizationCredentials, HTTPBearer
from prometheus_client import CollectorRegistry, Gauge, Histogram, generate_latest
from starlette.datastructures import Headers
from starlette.exceptions import HTTPException as StarletteHTTPException

from pal import __version__
from pal.encoders import complaint
from pal.errors import PalError
from pal.service import RefusedError
from pal.service import requests as typed
from pal.service.answers import Answers
from pal.service.compute import Job, Models, Needed, Worker
from pal.serving.aggregates import Aggregate, Kind, rewards_for
from pal.serving.inputs import Preferences, Side
from pal.serving.reward_model import RewardModel
from pal.users.taste import Taste

MOST_TASTES = 4096  # that are kept in memory; others are rebuilt from the log
WRITERS = 4  # threads that write to the log
SLOWEST_BODY = 30.0  # seconds within which a request's body must have come
# Seconds after which the encoding thread and the one that reads requests take turns: by Python's default, ten
# times as many, encoding slows to a fourth while more requests come than can be served.
TURN = 0.0005
SIDES: tuple[Side, ...] = ("prompts", "responses")
AGAIN = {"Retry-After": "1"}
WITH_STATUS = {401: {"WWW-Authenticate": "Bearer"}, 429: AGAIN, 503: AGAIN}  # headers of what is refused
LOOPBACK = ("127.0.0.1", "localhost", "[::1]")
MOST_BODY = f"the body must have at most {typed.LARGEST_BODY:,} bytes, got more; send less at once"
POLICY = (
    b"default-src 'self'; img-src 'self' data:; frame-ancestors 'none'; base-uri 'none'; form-action 'self'"
)
FOR_BROWSERS = [
    (b"content-security-policy", POLICY),
    (b"x-content-type-options", b"nosniff"),
    (b"referrer-policy", b"no-referrer"),
]
log = logging.getLogger("pal.service")


class Service:
    """What requests are answered from: the models, the log of answers and the worker."""

    def __init__(self, models: Models, answers: Answers, worker: Worker | None = None) -> None:
        self.models, self.answers, self.worker = models, answers, worker or Worker()
        self.metrics = CollectorRegistry()
        self.seconds = Histogram(
            "pal_request_seconds", "Seconds of requests.", ["path", "status"], registry=self.metrics
        )
        gauge = Gauge("pal_worker", "What the worker did.", ["what"], registry=self.metrics)
        for what in self.worker.counts:
            gauge.labels(what).set_function(partial(self.worker.counts.get, what))
        gauge.labels("under_way").set_function(lambda: self.worker.under_way)
        self._tastes: OrderedDict[tuple[str, int, int], tuple[Taste, int]] = OrderedDict()
        self._writers, self._writes = ThreadPoolExecutor(WRITERS, "pal-writer"), 0

    async def served(self, name: str | None, version: str | None = None) -> tuple[str, RewardModel]:
        """The model that is meant; 409 where another version of it is."""
        name = self.models.name(name)
        model = self.models.loaded.get(name) or await asyncio.to_thread(self.models.get, name)
        if version not in (None, model.fingerprint):
            served = f"{model.fingerprint}, which is served as {name!r}"
            raise RefusedError(409, f"model_version must be {served}, got {version!r}")
        return name, model

    async def compute(self, *job: Any, **options: Any) -> Any:
        """The result of a `Job` on the worker."""
        return await asyncio.wrap_future(self.worker.submit(Job(*job, **options)))

    async def write(self, write: Callable[..., Any], *given: Any) -> Any:
        """Write to the log on threads of its own: others read on while writers wait for a locked database."""
        if self._writes >= self.worker.most_under_way:
            raise RefusedError(429, f"{self._writes} writes are under way already; try again")
        self._writes += 1
        try:
            return await asyncio.get_running_loop().run_in_executor(self._writers, write, *given)
        finally:
            self._writes -= 1

    def stop(self) -> None:
        """Finish what waits, then let go of everything."""
        self.worker.stop()
        self._writers.shutdown()
        self.answers.close()

    async def taste(self, name: str, model: RewardModel, user_id: str) -> tuple[Taste, int, int] | None:
        """Someone's taste by the answers that stand, its version and their number; None without a log."""
        found = await asyncio.to_thread(self.answers.version, name, user_id)
        if found is None:
            return None
        if (name, *found) not in self._tastes:
            read = await asyncio.to_thread(self.answers.read, name, user_id)
            if read is None:
                return None
            *found, entries = read
            taste = await self.adapt(model, [entry.answer for entry in entries])
            self._tastes[name, *found] = taste, len(entries)
            if len(self._tastes) > MOST_TASTES:
                self._tastes.popitem(last=False)
        return self._tastes[name, *found][0], found[1], self._tastes[name, *found][1]

    async def adapt(self, model: RewardModel, answers: Sequence[dict[str, Any]]) -> Taste:
        """The taste that answers give; also says whether they can be read at all."""
        if not answers:
            return Taste.empty(model)
        both = {side: [answer[side] for answer in answers] for side in ("chosen", "rejected")}
        needs = needs_of(model, [answer.get("prompt") for answer in answers], **both)
        label = [answer.get("label", 1.0) for answer in answers]
        return await self.compute(model, needs, lambda *sides: model.adapt(Preferences(*sides, label)))

    async def user(self, name: str, model: RewardModel, user_id: str) -> Taste | str:
        """A user by id: by answers given here, else as seen in fitting; 404 for others."""
        if known := await self.taste(name, model, user_id):
            return known[0]
        if user_id in model.rows:
            return user_id
        must = f"user_id must be of someone who answered here or was seen in fitting, got {user_id!r}"
        instead = "post answers to /v1/people/{id}/answers first, or leave user_id out for the average user"
        raise RefusedError(404, f"{must}; {instead}")

    async def users(self, name: str, model: RewardModel, user_ids: Sequence[str]) -> list[Taste | str]:
        """Users by ids, each looked up once."""
        known = {each: await self.user(name, model, each) for each in set(user_ids)}
        return [known[each] for each in user_ids]

    async def whose(self, name: str, model: RewardModel, request: typed.Whose) -> Any:
        """The user, taste or aggregate of a request, as `rewards_for` takes it."""
        given = [each for each in ("user_id", "taste", "aggregate") if getattr(request, each) is not None]
        if len(given) > 1:
            got = " and ".join(given)
            raise PalError(f"at most one of user_id, taste and aggregate may be given, got {got}")
        if request.user_id is not None:
            return await self.user(name, model, request.user_id)
        if request.taste is not None:
            return typed.read_taste(request.taste, model)
        if (of := request.aggregate) is None:
            return None
        groups = None if of.user_ids is None else await self.users(name, model, of.user_ids)
        return Aggregate(of.kind, groups, of.share, of.centred)

    async def rewards(
        self, model: RewardModel, users: Any, prompts: Sequence[Any], responses: Sequence[Any]
    ) -> list[float]:
        """A reward for each response; `prompts` are one for all, or one for each."""
        if len(prompts) not in (1, len(responses)):
            raise PalError(f"prompts must be as many as the {len(responses)} responses, got {len(prompts)}")
        needs = needs_of(model, prompts, responses=responses)
        if not isinstance(users, Aggregate):
            states = torch.atleast_2d(model.states_of(users, len(responses)))
            return await self.compute(model, needs, states=states)
        equal = [repr(prompt) for prompt in prompts] * (len(responses) if len(prompts) == 1 else 1)
        run = partial(rewards_for, model, users=users, prompt_of=equal)
        return (await self.compute(model, needs, run)).tolist()


def needs_of(model: RewardModel, prompts: Sequence[Any], **responses: Sequence[Any]) -> list[Needed]:
    """What is encoded: prompts, none where the reward does not depend on them, and lists of responses.

    Responses are in one text with their prompts where the model was fitted so. Lists are named in messages.
    """
    if model.reads_prompts and any(prompt is None for prompt in prompts):
        raise PalError("prompt must be given, got none; this model's reward depends on the prompt")
    read = typed.read_items(prompts, "prompts", "prompt") if model.reads_prompts else []
    needs: list[Needed] = [("prompts", read if model.head.needs_prompts else None)]
    for name, items in responses.items():
        items = typed.read_items(items, "responses", name)
        needs.append(("responses", model.input_encoder.joined(read, items)))
    return needs


def version_of(name: str, model: RewardModel) -> dict[str, str]:
    """What every answer says of the model."""
    return {"model": name, "model_version": model.fingerprint}


async def service_of(request: Request) -> Service:
    """The service that a request goes to."""
    return request.app.state.service


OfService = Annotated[Service, Depends(service_of)]
ModelName = Annotated[str | None, Query(max_length=200)]
router = APIRouter(prefix="/v1")


@router.post("/score", tags=["rewards"])
async def score(request: typed.Score, service: OfService) -> typed.Rewards:
    """Reward each response."""
    name, model = await service.served(request.model, request.model_version)
    n = len(request.responses)
    if request.user_ids is not None:
        if len(request.user_ids) != n or request.user_id or request.taste or request.aggregate:
            raise PalError(
                f"user_ids must be {n}, one per response, and stand alone, got {len(request.user_ids)}"
            )
        users: Any = await service.users(name, model, request.user_ids)
    else:
        users = await service.whose(name, model, request)
    prompts = [request.prompt] if request.prompts is None else request.prompts
    rewards = await service.rewards(model, users, prompts, request.responses)
    return typed.Rewards(rewards=rewards, **version_of(name, model))


@router.post("/rank", tags=["rewards"])
async def rank(request: typed.Rank, service: OfService) -> typed.Ranking:
    """Sort the responses to a prompt, best first; equal ones as they came."""
    name, model = await service.served(request.model, request.model_version)
    users = await service.whose(name, model, request)
    rewards = await service.rewards(model, users, [request.prompt], request.responses)
    order = sorted(range(len(rewards)), key=lambda row: -rewards[row])
    ranking = [typed.RankedResponse(index=row, reward=rewards[row]) for row in order]
    return typed.Ranking(ranking=ranking, **version_of(name, model))


@router.post("/openrlhf", tags=["rewards"])
async def openrlhf(
    request: typed.OpenRLHF,
    service: OfService,
    model: ModelName = None,
    user_id: Annotated[str | None, Query(max_length=200)] = None,
    aggregate: Kind | None = None,
    share: Annotated[float, Query(ge=0, le=1)] = 0.5,
    *,
    labels_are_users: bool = False,
) -> dict[str, Any]:
    """OpenRLHF's remote reward (`--reward.remote_url`): whose reward is meant stands in the address.

    With `labels_are_users` each row's label is its user's id.
    """
    name, loaded = await service.served(model)
    n = len(request.query)
    labels = request.labels or []
    if len(request.prompts) != n or (labels_are_users and len(labels) != n):
        raise PalError(f"prompts and labels must be as many as the {n} texts of query")
    if labels_are_users:
        users: Any = await service.users(name, loaded, [str(each) for each in labels])
    else:
        of = None if aggregate is None else typed.AggregateOf(kind=aggregate, share=share)
        users = await service.whose(name, loaded, typed.Whose(user_id=user_id, aggregate=of))
    pairs = [typed.split_query(*each) for each in zip(request.query, request.prompts, strict=True)]
    # A policy writes nothing now and then: that gets the least reward of the batch, as with TRL.
    spoken = [row for row, (_, text) in enumerate(pairs) if complaint(text) is None]
    some: list[float] = []
    if spoken:
        chosen = [users[row] for row in spoken] if isinstance(users, list) else users
        prompts, responses = zip(*(pairs[row] for row in spoken), strict=True)
        some = await service.rewards(loaded, chosen, prompts, responses)
    known = dict(zip(spoken, some, strict=True))
    rewards = [known.get(row, min(some, default=0.0)) for row in range(n)]
    return {"rewards": rewards, "scores": rewards, "extra_logs": {}}


@router.post("/compare", tags=["rewards"])
async def compare(request: typed.Compare, service: OfService) -> typed.Probability:
    """P(first is preferred to second), by one user."""
    name, model = await service.served(request.model, request.model_version)
    user = await service.whose(name, model, request)
    if isinstance(user, Aggregate):
        raise PalError(
            "aggregate must be left out of a comparison, got one; compare the rewards of /v1/score"
        )
    needs = needs_of(model, [request.prompt], first=[request.first], second=[request.second])
    probability = await service.compute(model, needs, partial(model.probability, user=user))
    return typed.Probability(probability=float(probability), **version_of(name, model))


@router.post("/ask", tags=["people"])
async def ask(request: typed.Ask, service: OfService) -> typed.Asked:
    """Choose the questions whose answers tell most of someone."""
    name, model = await service.served(request.model, request.model_version)
    if request.user_id is not None and request.taste is not None:
        raise PalError("at most one of user_id and taste may be given, got both")
    taste = None if request.taste is None else typed.read_taste(request.taste, model)
    if request.user_id is not None and (known := await service.taste(name, model, request.user_id)):
        taste = known[0]
    items = ((each.prompt, each.first, each.second) for each in request.questions)
    asked, first, second = zip(*items, strict=True)
    needs = needs_of(model, asked, first=first, second=second)

    def run(prompts: Any, *both: Any) -> list[Any]:
        pairs = list(zip([None] * len(asked) if prompts is None else prompts, *both, strict=True))
        return model.ask(pairs, taste, n=request.n, together=request.together)

    chosen = await service.compute(model, needs, run)
    questions = [typed.AskedQuestion(index=each.index, bits=each.bits) for each in chosen]
    return typed.Asked(questions=questions, **version_of(name, model))


@router.get("/models", tags=["models"])
async def models(service: OfService) -> list[typed.Model]:
    """What is served; details of the models that were used already."""
    listed = {name: typed.Model(name=name, loaded=False) for name in service.models.folders}
    for name, model in service.models.loaded.items():
        listed[name] = typed.Model(
            name=name, loaded=True, version=model.fingerprint, users=len(model.rows),
            population=model.population.name, needs_prompts=model.reads_prompts,
            encoders={side: model.input_encoder.describe(side).get("encoder") for side in SIDES},
            prompt_dim=model.prompt_dim, response_dim=model.response_dim,
        )  # fmt: skip
    return list(listed.values())


@router.get("/people", tags=["people"])
async def people(service: OfService, model: ModelName = None) -> dict[str, list[str]]:
    """Ids of those who were seen in fitting, and of those who answered here."""
    name, loaded = await service.served(model)
    return {"seen": list(loaded.user_ids), "answered": await asyncio.to_thread(service.answers.people, name)}


@router.get("/people/{user_id:path}/export", tags=["people"])
async def export(user_id: str, service: OfService, model: ModelName = None) -> dict[str, Any]:
    """A person's taste and the answers that stand, as `pal adapt` and `pal fit` read them."""
    person = await read_person(user_id, service, model)
    answers = [
        {"user_id": user_id, "timestamp": entry.time, **entry.answer}
        for entry in await asyncio.to_thread(service.answers.entries, person.model, user_id)
    ]
    return {"user_id": user_id, "taste": person.taste, "answers": answers}


@router.get("/people/{user_id:path}", tags=["people"])
async def read_person(user_id: str, service: OfService, model: ModelName = None) -> typed.Person:
    """What is known of a person."""
    name, loaded = await service.served(model)
    known = await service.taste(name, loaded, user_id)
    if known is None:
        await service.user(name, loaded, user_id)
        about = {"source": "seen", "state": loaded.state_of(user_id).tolist()}
    else:
        taste, version, count = known
        mean, sd = taste.posterior.mean.tolist(), taste.posterior.sd.tolist()
        about = {"source": "answers", "answers": count, "version": version, "state": mean, "sd": sd}
        about["taste"] = json.loads(taste.to_json())
    return typed.Person(user_id=user_id, **about, **version_of(name, loaded))


@router.post("/people/{user_id:path}/answers", tags=["people"])
async def add_answers(
    user_id: str,
    request: typed.NewAnswers,
    service: OfService,
    idempotency_key: Annotated[str | None, Header(max_length=200)] = None,
) -> typed.Added:
    """Append answers; on disk when this returns. With an Idempotency-Key a retry writes nothing twice."""
    name, model = await service.served(request.model, request.model_version)
    if not 0 < len(user_id) <= 200 or not user_id.isprintable():
        raise PalError(f"user_id must be 1 to 200 characters that can be printed, got {len(user_id)}")
    answers = [answer.model_dump(exclude_none=True) for answer in request.answers]
    await service.adapt(model, answers)  # refuses what could not be read later
    version, repeated = await service.write(service.answers.add, name, user_id, answers, idempotency_key)
    return typed.Added(user_id=user_id, version=version, repeated=repeated)


@router.delete("/people/{user_id:path}/answers/{version}", tags=["people"])
async def take_back(user_id: str, version: int, service: OfService, model: ModelName = None) -> typed.Added:
    """Take an answer back, by its number."""
    name, _ = await service.served(model)
    after = await service.write(service.answers.take_back, name, user_id, version)
    return typed.Added(user_id=user_id, version=after)


@router.delete("/people/{user_id:path}", status_code=204, tags=["people"])
async def delete_person(user_id: str, service: OfService, model: ModelName = None) -> None:
    """Delete a person's answers and taste; what a model learned in fitting stays."""
    name, _ = await service.served(model)
    if not await service.write(service.answers.delete, name, user_id):
        raise RefusedError(404, f"user_id must be of someone who answered here, got {user_id!r}")


class Guard:
    """What is done to every request: a time limit for its body, headers that bind browsers.

    What is too large is refused before it is read, and where the worker is busy posts to /v1; without a key
    also what calls this computer by another name, as a page elsewhere may whose name was made to lead here.
    """

    def __init__(self, app: Any, service: Service, key: str | None) -> None:
        self.app, self.worker, self.seconds, self.key = app, service.worker, service.seconds, key

    def check(self, scope: Any) -> None:
        """Refuse what need not be read."""
        headers = Headers(scope=scope)
        if not self.key and re.sub(r":\d+$", "", host := headers.get("host", "")) not in LOOPBACK:
            raise RefusedError(400, f"the host must be one of {', '.join(LOOPBACK)}, got {host[:100]!r}")
        if int(headers.get("content-length", 0)) > typed.LARGEST_BODY:
            raise RefusedError(413, MOST_BODY)
        if scope["method"] == "POST" and scope["path"].startswith("/v1/"):
            self.worker.refuse_if_busy()

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        """Serve a request."""
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        started = asyncio.get_running_loop().time()
        deadline: float | None = started + SLOWEST_BODY
        size = 0

        async def receive_in_time() -> Any:
            nonlocal deadline, size
            try:
                async with asyncio.timeout_at(deadline):
                    message = await receive()
            except TimeoutError:
                raise HTTPException(408, f"the body must come within {SLOWEST_BODY:.0f} seconds") from None
            size += len(message.get("body", b""))
            if size > typed.LARGEST_BODY:
                raise HTTPException(413, MOST_BODY)
            if not message.get("more_body", False):
                deadline = None
            return message

        async def send_guarded(message: Any) -> None:
            if message["type"] == "http.response.start":
                route = scope.get("route")  # by its pattern, so that ids of people are no labels
                seconds = asyncio.get_running_loop().time() - started
                self.seconds.labels(getattr(route, "path", "other"), message["status"]).observe(seconds)
                message["headers"] = [*message["headers"], *FOR_BROWSERS]
            await send(message)

        try:
            self.check(scope)
        except RefusedError as error:
            await (await refuse(Request(scope), error))(scope, receive, send_guarded)
            return
        await self.app(scope, receive_in_time, send_guarded)


def create_app(
    models: Models, answers: Answers, *, key: str | None = None, worker: Worker | None = None
) -> FastAPI:
    """The service as an ASGI app.

    `Authorization: Bearer` must give the key; without one requests to this computer's own names are served.
    """
    service = Service(models, answers, worker)

    @asynccontextmanager
    async def lifespan(_: FastAPI) -> AsyncIterator[None]:
        before = sys.getswitchinterval()
        sys.setswitchinterval(TURN)
        yield
        sys.setswitchinterval(before)
        await asyncio.to_thread(service.stop)

    about = {"title": "pal", "summary": "Reward models that differ from person to person."}
    app = FastAPI(**about, version=__version__, lifespan=lifespan, docs_url=None, redoc_url=None)
    app.state.service = service
    bearer = HTTPBearer(auto_error=False)

    async def check_key(given: Annotated[HTTPAuthorizationCredentials | None, Depends(bearer)]) -> None:
        if key and not (given and hmac.compare_digest(given.credentials.encode(), key.encode())):
            raise RefusedError(401, "Authorization must be Bearer and the service's key")

    app.state.check_key = check_key
    with_key = [Depends(check_key)]
    app.include_router(router, dependencies=with_key)

    @app.get("/metrics", tags=["service"], dependencies=with_key, response_class=PlainTextResponse)
    async def metrics() -> str:
        """Counts and times for Prometheus."""
        return generate_latest(service.metrics).decode()

    @app.get("/healthz", tags=["service"])
    async def healthz(response: Response) -> dict[str, str]:
        """Whether the service can answer: its database can be read."""
        try:
            await asyncio.to_thread(answers.version, "", "")
        except RefusedError as error:
            response.status_code = 503
            return {"status": str(error)}
        return {"status": "ok"}

    for kind in (PalError, RequestValidationError, StarletteHTTPException, Exception):
        app.add_exception_handler(kind, refuse)
    app.add_middleware(Guard, service=service, key=key)
    return app


async def refuse(_: Request, error: Exception) -> JSONResponse:
    """An error as its status and one sentence."""
    status, headers = 422, None
    if isinstance(error, PalError):
        status, said = getattr(error, "status", 422), str(error)
        headers = WITH_STATUS.get(status)
    elif isinstance(error, RequestValidationError):
        first = error.errors()[0]
        if first["type"] == "json_invalid":
            status, said = 400, f"the body must be JSON, got something else ({first['ctx']['error']})"
        else:
            said = _invalid(first)
    elif isinstance(error, StarletteHTTPException):
        status, said, headers = error.status_code, str(error.detail), error.headers
        if status == 400:
            said = "the body must be JSON, not nested by hundreds of levels, got something else"
    else:
        log.error("a request failed", exc_info=error)
        status, said = 500, f"the service failed ({type(error).__name__}); its log says more"
    return JSONResponse({"error": said}, status, headers)


def _invalid(error: dict[str, Any]) -> str:
    """What is wrong with a field, from what pydantic says of it."""
    tags = {"text", "messages", "image", "vector"}
    at = [part for part in error["loc"][1:] if part not in tags] or ["the request"]
    where = "".join(f"[{part}]" if isinstance(part, int) else f".{part}" for part in at).lstrip(".")
    if error["type"] == "extra_forbidden":
        return f"{where} is no field of this request; leave it out"
    if error["type"] == "missing":
        return f"{where} must be given, got nothing"
    message = error["msg"].removeprefix("Input ").removeprefix("String ").removeprefix("List ")
    message = message.replace("should", "must", 1).replace(" after validation, not", ", got")
    return f"{where} {message[0].lower()}{message[1:]}"
