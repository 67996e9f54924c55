import base64
import json
import socket
import sqlite3
import zlib
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from functools import partial
from urllib.parse import quote, urlsplit
from urllib.request import urlopen

import pytest
import torch

from pal.cli.app import ServeOptions, serve
from pal.errors import PalError
from pal.service.answers import Answers
from pal.service.app import create_app
from pal.service.compute import Models, Worker
from pal.serving.aggregates import Aggregate
from pal.users.taste import Taste

from .conftest import picture, served

PREFERENCE = {"prompt": "What now?", "chosen": "Tea, please.", "rejected": "Coffee, quick."}
TEXTS = ["Tea, please.", "Coffee, quick.", "Water."]


def test_scores_rankings_and_probabilities_are_the_models(start, worded):
    client = start(worded=worded)
    for whose, user in (
        ({}, None),
        ({"user_id": "user 3"}, "user 3"),
        ({"taste": json.loads(worded.adapt([PREFERENCE]).to_json())}, worded.adapt([PREFERENCE])),
    ):
        body = {"prompt": "What now?", "responses": TEXTS, **whose}
        rewards = client.post("/v1/score", json=body).json()["rewards"]
        assert rewards == pytest.approx(worded.score("What now?", TEXTS, user=user).tolist(), abs=1e-5)
        ranking = client.post("/v1/rank", json=body).json()["ranking"]
        assert [each["index"] for each in ranking] == [
            each.index for each in worded.rank("What now?", TEXTS, user=user)
        ]
        both = {"prompt": "What now?", "first": TEXTS[0], "second": TEXTS[1], **whose}
        probability = client.post("/v1/compare", json=both).json()["probability"]
        expected = worded.probability("What now?", TEXTS[0], TEXTS[1], user=user)
        assert probability == pytest.approx(float(expected), abs=1e-5)


def test_conversations_are_read_as_texts(start, worded):
    client = start(worded=worded)
    prompt = [{"role": "system", "content": "Be kind."}, {"role": "user", "content": "What now?"}]
    responses = [[{"role": "assistant", "content": text}] for text in TEXTS]
    said = client.post("/v1/score", json={"prompt": prompt, "responses": responses}).json()
    plain = client.post("/v1/score", json={"prompt": "What now?", "responses": TEXTS}).json()
    assert said == plain


def test_aggregates_of_the_population_and_of_named_people(start, line):
    """On the line responses 0 and 1 are worth 0 and -1 to `zero`, -1 and 0 to `one`."""
    client = start(line=line)
    for aggregate, expected in (
        ({"kind": "mean"}, [-0.5, -0.5]),
        ({"kind": "worst"}, [-1, -1]),
        ({"kind": "worst", "user_ids": ["zero"]}, [0, -1]),
        ({"kind": "quantile", "share": 1}, [0, 0]),
    ):
        body = {"responses": [[0.0], [1.0]], "aggregate": aggregate}
        assert client.post("/v1/score", json=body).json()["rewards"] == pytest.approx(expected)
    assert Aggregate("mean").name == "mean"


def test_a_taste_grows_with_answers_and_is_that_of_the_library(start, line):
    client = start(line=line)
    answers = [{"chosen": [0.0], "rejected": [1.0]}, {"chosen": [0.2], "rejected": [0.9], "label": 0.7}]
    for number, answer in enumerate(answers, 1):
        added = client.post("/v1/people/new%2Fone/answers", json={"answers": [answer]}).json()
        assert (added["version"], added["repeated"]) == (number, False)
    person = client.get("/v1/people/new%2Fone").json()
    taste = line.adapt([
        {side: torch.tensor(each[side]) for side in ("chosen", "rejected")} | {"label": each.get("label", 1.0)}
        for each in answers
    ])  # fmt: skip
    assert Taste.from_json(json.dumps(person["taste"]), line) == taste
    assert person["state"] == pytest.approx(taste.posterior.mean.tolist())
    ranked = client.post("/v1/rank", json={"responses": [[1.0], [0.0]], "user_id": "new/one"}).json()
    assert ranked["ranking"][0]["index"] == 1
    exported = client.get("/v1/people/new%2Fone/export").json()
    assert [{name: each.get(name) for name in ("chosen", "label")} for each in exported["answers"]] == [
        {"chosen": [0.0], "label": 1.0}, {"chosen": [0.2], "label": 0.7}
    ]  # fmt: skip

    assert client.delete("/v1/people/new%2Fone/answers/2").json()["version"] == 3
    assert client.get("/v1/people/new%2Fone").json()["answers"] == 1
    assert client.get("/v1/people").json() == {"seen": ["zero", "one"], "answered": ["new/one"]}
    assert client.delete("/v1/people/new%2Fone").status_code == 204
    assert client.get("/v1/people/new%2Fone").status_code == 404


def test_asking_chooses_what_tells_most(start, line):
    """The second pair, 0 against 0.1, hardly tells `zero` from `one`."""
    client = start(line=line)
    questions = [{"first": [0.0], "second": [0.1]}, {"first": [0.0], "second": [1.0]}]
    body = {"questions": questions, "user_id": "new", "n": 2}
    asked = client.post("/v1/ask", json=body).json()["questions"]
    assert [each["index"] for each in asked] == [1, 0]
    assert asked[0]["bits"] > asked[1]["bits"]


def test_two_models_are_loaded_when_they_are_first_asked(start, line, worded):
    client = start(line=line, worded=worded)
    assert [each["loaded"] for each in client.get("/v1/models").json()] == [False, False]
    assert client.post("/v1/score", json={"responses": [[0.0]]}).status_code == 422
    assert client.post("/v1/score", json={"model": "line", "responses": [[0.0]]}).status_code == 200
    assert [each["loaded"] for each in client.get("/v1/models").json()] == [True, False]


SCORE, PEOPLE = "/v1/score", "/v1/people/a/answers"


@pytest.mark.parametrize(
    ("path", "body", "status", "sentence"),
    [
        (SCORE, '{"responses": [[NaN]]}', 422, "responses[0][0] must be a finite number"),
        (SCORE, '{"responses": ' + "[" * 50_000 + "]" * 50_000 + "}", 400, "must be JSON"),
        (SCORE, '{"responses": [', 400, "must be JSON"),
        (SCORE, '{"responses": [[1e39]]}', 422, "responses[0] must be finite"),
        (SCORE, '{"responses": [[0, 0]]}', 422, "responses[0] must be an embedding of 1 numbers"),
        (SCORE, '{"responses": [3]}', 422, "responses[0] must be a text, messages"),
        (SCORE, '{"responses": ["a"]}', 422, "responses must be embeddings"),
        (SCORE, '{"responses": []}', 422, "responses must have at least 1 item"),
        (SCORE, json.dumps({"responses": [[0]] * 513}), 422, "responses must have at most 512 items"),
        (SCORE, '{"responses": [[0]], "user_id": "../../etc"}', 404, "got '../../etc'"),
        (SCORE, '{"responses": [[0]], "model": "other"}', 404, "model must be one of 'line', got 'other'"),
        (SCORE, '{"responses": [[0]], "model_version": "old"}', 409, "model_version must be"),
        (SCORE, '{"responses": [[0]], "who": "a"}', 422, "who is no field of this request"),
        (SCORE, '{"responses": [[0]], "taste": {"format": "x"}}', 422, "a taste must be of the format"),
        (SCORE, '{"responses": [[0]], "user_id": "zero", "taste": {}}', 422, "at most one of"),
        (PEOPLE, '{"answers": [{"chosen": [0], "rejected": [0]}]}', 422, "must differ"),
        (PEOPLE, '{"answers": [{"chosen": [0], "rejected": [1], "label": 2}]}', 422, "label must be less than"),
    ],
)  # fmt: skip
def test_a_bad_request_is_refused_in_a_sentence(start, line, path, body, status, sentence):
    client = start(line=line)
    answer = client.post(path, content=body, headers={"content-type": "application/json"})
    assert answer.status_code == status, answer.text
    assert sentence in answer.json()["error"]
    assert client.get("/v1/people").json()["answered"] == []


def test_a_taste_of_another_model_is_refused(start, line, worded):
    client = start(line=line)
    taste = json.loads(worded.adapt([PREFERENCE]).to_json())
    answer = client.post("/v1/score", json={"responses": [[0]], "taste": taste})
    assert answer.status_code == 409
    assert "the taste must be of this model" in answer.json()["error"]


def test_a_body_that_is_too_large_is_refused(start, line):
    body = b"[" + b"1," * (9 << 20)
    for content in (body, iter([body])):  # with its length said before, and without
        answer = start(line=line).post("/v1/score", content=content)
        assert answer.status_code == 413
        assert answer.json()["error"].startswith("the body must have at most 16,777,216 bytes")


def test_with_a_key_nothing_is_said_without_it(start, line):
    client = start(line=line, key="secret")
    for headers in ({}, {"Authorization": "Bearer wrong"}, {"Authorization": "secret"}):
        assert client.get("/v1/models", headers=headers).status_code == 401
    assert client.get("/v1/models", headers={"Authorization": "Bearer secret"}).status_code == 200
    assert client.get("/healthz").json() == {"status": "ok"}


def test_where_too_many_are_under_way_others_are_refused_unread(start, line):
    """A worker that may have none under way; a body that is no JSON is not looked at."""
    client = start(line=line, worker=Worker(most_under_way=0))
    answer = client.post("/v1/score", content=b"no JSON")
    assert (answer.status_code, answer.headers["Retry-After"]) == (429, "1")
    assert answer.json()["error"] == "0 requests are under way already; try again"
    assert 'pal_worker{what="refused"} 1.0' in client.get("/metrics").text


def test_without_a_key_no_other_name_of_this_computer_is_served(start, line):
    """So that a page elsewhere, whose name was made to lead here, can read nothing."""
    answer = start(line=line).get("/v1/models", headers={"Host": "evil.example"})
    assert (answer.status_code, answer.json()["error"][:21]) == (400, "the host must be one ")
    assert start(line=line).get("/v1/models", headers={"Host": "[::1]:80"}).status_code == 200


def test_metrics_count_requests_and_name_nobody(start, line):
    client = start(line=line)
    client.post("/v1/people/ann/answers", json={"answers": [{"chosen": [0], "rejected": [1]}]})
    client.get("/v1/people/ann")
    text = client.get("/metrics").text
    assert 'pal_request_seconds_count{path="/v1/people/{user_id:path}/answers",status="200"} 1.0' in text
    assert "ann" not in text.replace("channel", "")


def test_while_the_database_is_locked_all_but_writers_are_served(start, line, tmp_path, monkeypatch):
    """Eight writers wait; none of them holds up someone who only wants a reward by a taste."""
    monkeypatch.setattr("pal.service.answers.BUSY_SECONDS", 1)
    client = start(line=line)
    add = partial(client.post, "/v1/people/a/answers", json={"answers": [{"chosen": [0], "rejected": [1]}]})
    assert add().status_code == 200
    with closing(sqlite3.connect(tmp_path / "answers.db")) as other, ThreadPoolExecutor(8) as pool:
        other.execute("BEGIN IMMEDIATE")
        writes = [pool.submit(add) for _ in range(8)]
        score = client.post("/v1/score", json={"responses": [[0]], "user_id": "a"})
        assert score.status_code == 200
        assert not all(write.done() for write in writes)
        assert client.get("/healthz").status_code == 200
        refused = {write.result().status_code for write in writes}
    assert refused == {503}
    assert add().status_code == 200


def test_pictures_that_would_fill_the_memory_are_refused_before_they_are_decoded(start, pictures):
    """A PNG of a few kilobytes with 10 billion pixels; its neighbour is scored as ever."""
    client = start(pictures=pictures)
    bomb = bytearray(base64.b64decode(picture()))
    bomb[16:24] = (100_000).to_bytes(4, "big") * 2
    bomb[29:33] = zlib.crc32(bomb[12:29]).to_bytes(4, "big")
    bad = {"image": base64.b64encode(bomb).decode()}
    items = {422: (bad, {"image": "no base64"}, "a text"), 200: ({"image": picture()},)}
    for item, status in ((item, status) for status, some in items.items() for item in some):
        answer = client.post("/v1/score", json={"responses": [item]})
        assert answer.status_code == status, answer.text
        assert status == 200 or "responses[0]" in answer.json()["error"]


def test_a_body_that_does_not_come_is_given_up(line, tmp_path, monkeypatch):
    """Someone sends half of a body and waits; another is served meanwhile."""
    monkeypatch.setattr("pal.service.app.SLOWEST_BODY", 0.5)
    line.save(tmp_path / "line")
    app = create_app(Models({"line": tmp_path / "line"}), Answers(str(tmp_path / "a.db")))
    with served(app) as url, socket.create_connection(urlsplit(url)[1].split(":"), timeout=20) as slow:
        slow.sendall(b"POST /v1/score HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Length: 100\r\n\r\n{")
        with urlopen(f"{url}/healthz", timeout=20) as answer:
            assert answer.status == 200
        assert slow.recv(100).startswith(b"HTTP/1.1 408")


def test_the_key_is_in_no_log_and_no_answer(start, line, caplog):
    caplog.set_level("DEBUG")
    client = start(line=line, key="open-sesame")
    for key in ("open-sesame", "open-sesame-not"):
        for path in ("/v1/models", "/v1/people/nobody", "/metrics"):
            answer = client.get(path, headers={"Authorization": f"Bearer {key}"})
            assert "sesame" not in answer.text
    assert "sesame" not in caplog.text


def test_ids_are_names_not_paths_and_scripts_are_texts(start, line, tmp_path):
    """Whatever an id is, it lies in the database alone; answers are JSON, never pages."""
    client, before = start(line=line), sorted(path.name for path in tmp_path.iterdir())
    body = {"answers": [{"chosen": [0], "rejected": [1]}]}
    for name in ("../../etc/passwd", "<script>alert(1)</script>", "'; DROP TABLE people; --"):
        path = f"/v1/people/{quote(name, safe='')}"
        assert client.post(f"{path}/answers", json=body).json()["version"] == 1
        answer = client.get(path)
        assert answer.json()["user_id"] == name
        assert answer.headers["content-type"] == "application/json"
        assert "script-src" not in answer.headers["content-security-policy"]  # default-src 'self' binds it
    assert client.post("/v1/people/a%00b/answers", json=body).status_code == 422
    assert client.get("/static/..%2f..%2fapp.py").status_code == 404
    assert sorted(path.name for path in tmp_path.iterdir()) == before


def test_two_models_of_one_name_are_refused(line, tmp_path):
    line.save(tmp_path / "line")
    with pytest.raises(PalError, match="two models must not have one name, got 'a' twice"):
        serve(
            [f"a={tmp_path / 'line'}"] * 2, options=ServeOptions(weights=[], device="cpu", host="127.0.0.1")
        )
