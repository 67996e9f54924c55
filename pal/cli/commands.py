"""What each command of `pal` does; `pal.cli.app` says which options it takes.

Only what every command needs is imported here: polars, uvicorn and the like take as long as a small ranking.
"""

import ipaddress
import json
import os
import socket
import sys
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import replace
from functools import partial
from itertools import chain, groupby
from pathlib import Path
from statistics import fmean
from typing import TYPE_CHECKING, Any

import torch

from pal.cli.tables import (
    TableModel,
    load_model,
    notes_of_fit,
    open_writer,
    places_of,
    read_table,
    read_tastes,
    shown,
    table_errors,
    unknown_user,
    users_of,
)
from pal.errors import PalError, cut
from pal.files import write_json, write_text
from pal.logs.tables import Cells, Row
from pal.models.base import PrototypeModel
from pal.serving.reward_model import RewardModel

if TYPE_CHECKING:
    from pal.cli.app import (
        Computing,
        FitOptions,
        LogOptions,
        OneFitOptions,
        Output,
        ServeOptions,
        StudyOptions,
        Users,
    )
    from pal.logs.shapes import Log
    from pal.serving.fit_log import Options

KEY = "PAL_API_KEY"
PURE = 0.9  # a user with more than this weight on one prototype counts as standing there
BAR_WIDTH, TEXT_WIDTH = 20, 70  # characters
WORDS = {  # of a description, and how they are headed
    "liked_words": "words, log-odds",
    "disliked_words": "not its words",
    "features": "and, rank correlation",
}


def fit(log: str, out: Path | None, options: "OneFitOptions") -> None:
    """Fit a log, and say what was understood, found and written."""
    from pal.serving import fit_log

    out = out or Path(Path(log.rstrip("/")).name.partition(".")[0] + "-model")
    if options.K != "auto" and not options.K.isdigit():
        raise PalError(f"-K must be auto or a whole number, got {options.K!r}")
    if not 0 <= options.unseen < 1:
        raise PalError(f"--unseen must be a share from 0 to below 1, got {options.unseen:g}")
    K = options.K if options.K == "auto" else int(options.K)
    given = _options(options, K=K, attributes=_names(options.attributes))
    try:
        fit_log.fit(log, out=out, options=given, say=lambda text: print(text, "\n", sep=""))
    except KeyboardInterrupt:
        kept = "what was encoded is kept, so that a rerun goes on from there"
        raise PalError(f"stopped before {out} was written; {kept}") from None
    print(f"{out / fit_log.REPORT}  what was found\n{out / fit_log.METRICS}  its numbers")
    print(f"{out / fit_log.KEPT}  the model:\n  pal rank {out} replies.csv --user NAME")


def eval(model: Path, log: str, options: "LogOptions") -> None:
    """Print the accuracies of a saved model on a log, as JSON."""
    from pal.serving import fit_log

    found = fit_log.evaluate(load_model(model, options), log, options=_options(options), say=_note)
    print(json.dumps(found, indent=2))
    if found["log"] == notes_of_fit(model).get("log"):
        _note("These are the answers that the model was fitted to, on which it is nearly always right.")


def compare(log: str, methods: str, out: Path | None, options: "FitOptions") -> None:
    """Print methods side by side on a log, and which to take; `out` is a JSON file to write."""
    from pal.methods.compare import printed
    from pal.serving import fit_log

    found = fit_log.compare(log, _names(methods), options=_options(options), say=_note)
    print(printed(found["rows"]))
    print("\n".join([*found["notes"], found["verdict"]]))
    if out is not None:
        write_json(out, found)


def adapt(
    model: Path, log: str, out: str, tastes: Path | None, *, forget: bool, options: "LogOptions"
) -> None:
    """Write the tastes of the people of a log, one a line with the person's id where the log has ids.

    Args:
        model: The model's folder.
        log: The log, whose rows may come in any order.
        out: The file of tastes to write.
        tastes: Tastes that the comparisons are added to; those of people who are not in the log stay.
        forget: Whether the comparisons are taken out of these tastes instead.
        options: How the log is read, and where encoders come from.
    """
    from pal.logs.answers import attributes_of_people
    from pal.logs.columns import parse_columns
    from pal.logs.shapes import EVERYONE, read_log

    if out != "-" and Path(out).suffix.lower() not in (".json", ".jsonl"):
        raise PalError(f"out must end in .jsonl, or .json for one person, got {out!r}; tastes are JSON")
    if forget and tastes is None:
        raise PalError("--forget needs --taste, the tastes that comparisons are to be taken out of")
    loaded, columns = load_model(model, options), parse_columns(options.columns or "")
    prior = list(loaded.attributes.columns) if loaded.attributes else []
    read = read_log(
        log, columns, values=_values(options.values), ties="keep", known=prior, alone=True, seed=options.seed
    )
    known = read_tastes(tastes, loaded) if tastes else {}
    has_ids = bool(read.columns.roles.get("user_id"))
    if has_ids and "" in known:
        raise PalError(f"{tastes} must say whose taste it is, since {read.table.source} names people")
    if not has_ids and known.keys() - {""}:
        raise PalError(f"{read.table.source} must have a column user_id, since {tastes} names people; add it")
    inputs = TableModel(loaded, _rows(read, loaded), read.table.folder)
    before = set(known)
    for rows in inputs.batches("chosen"):
        groups: dict[str, list[Row]] = {}
        for row in rows:
            groups.setdefault(row.cells["user_id"] if has_ids else "", []).append(row)
        comparisons = {
            str(n): inputs.aligned(group, ("chosen", "rejected"), [row.cells["label"] for row in group])
            for n, group in enumerate(groups.values())
        }
        with table_errors(*groups.values()):
            located = loaded.adapt_many(comparisons).values()
        for user_id, taste in zip(groups, located, strict=True):
            if forget and user_id not in known:
                message = f"--taste has no taste of {user_id!r}; take away only what went in"
                raise PalError(message, user=user_id)
            try:
                had = known.get(user_id)
                known[user_id] = taste if had is None else had - taste if forget else had + taste
            except PalError as error:
                raise PalError(f"{error} (user {user_id!r})" if user_id else str(error)) from None
    told = attributes_of_people(read.attributes, read.pairs["user_id"])
    for user_id in known.keys() - before:  # of the others a taste has said it already
        if about := told.get(user_id or EVERYONE):
            known[user_id] += loaded.taste_of(about)
    if forget:  # people of whom nothing is left are forgotten altogether
        known = {user_id: taste for user_id, taste in known.items() if taste.comparisons}
    if out.lower().endswith(".json") and len(known) > 1:
        raise PalError(f"out must end in .jsonl for the tastes of {len(known):,} people, got {out!r}")
    with open_writer(out, "jsonl") as write:
        for user_id, taste in known.items():
            write([({"user_id": user_id} if user_id else {}) | json.loads(taste.to_json())])
    _note(read.summary())


def _rows(log: "Log", model: RewardModel) -> list[Row]:
    """A log's comparisons as rows of a table, with lists of numbers where the model reads vectors."""
    from pal.conversations import parsed_json
    from pal.logs.read import FILE, ROW

    sides = {"prompt": "prompts", "chosen": "responses", "rejected": "responses"}
    vectors = [column for column, side in sides.items() if not model.input_encoder.describe(side)]
    rows = []
    for cells in log.pairs.iter_rows(named=True):
        cells |= {column: parsed_json(cells[column]) for column in vectors}
        rows.append(Row(cells.pop(FILE), cells.pop(ROW), None, cells))
    return rows


def _note(text: str) -> None:
    """What was understood, beside what is printed for others to read."""
    print(text, "\n", sep="", file=sys.stderr)


def _options(options: "LogOptions", **others: Any) -> "Options":
    """Options of a fit from those of the command line: columns by role, sides by value."""
    from pal.logs.columns import parse_columns
    from pal.serving.fit_log import Options

    read = {"columns": parse_columns(options.columns or ""), "values": _values(options.values)}
    return Options(**(vars(options) | {"weights": places_of(options.weights)} | read | others))


def _values(text: str | None) -> dict[str, str]:
    sides = dict(part.split("=", 1) for part in (text or "").split(",") if "=" in part)
    if text and not sides:
        raise PalError(f"--values must be VALUE=SIDE, separated by commas, got {text!r}")
    return sides


def _names(text: str | None) -> list[str]:
    return [name.strip() for name in (text or "").split(",") if name.strip()]


def rank(**options: Any) -> None:
    """Add each response's reward to its row, and sort the rows of each prompt (and user) by it."""
    score(**options, ranked=True)


def score(
    model: Path, table: str, users: "Users", output: "Output", options: "Computing", *, ranked: bool = False
) -> None:
    """Add each response's reward to its row; `ranked` sorts as `rank` does."""
    written = ("reward", "rank") if ranked else ("reward",)
    inputs, schema = read_table(model, table, ["response"], written, options)
    given = users_of(inputs.model, inputs.rows, users)

    def scored(rows: list[Row]) -> list[tuple[Row, float]]:
        user = [given[row.number - 1] for row in rows] if isinstance(given, list) else given
        prompts, responses = inputs.prompts(rows), inputs.items(rows, "response")
        with table_errors(rows):
            rewards = inputs.model.score(prompts, responses, user=user)
        # The float whose repr is the shortest decimal of a float32.
        return [(row, float(str(reward))) for row, reward in zip(rows, rewards.numpy(), strict=True)]

    batches = map(scored, inputs.batches("response"))
    if ranked:
        by_user = ("user_id",) if isinstance(given, list) else ()
        written_rows = _ranked(chain.from_iterable(batches), (*inputs.prompt_columns, *by_user))
    else:
        written_rows = ([{**row.cells, "reward": reward} for row, reward in batch] for batch in batches)
    with open_writer(output.out, output.kind, schema, safe_csv=output.safe_csv) as write:
        for rows in written_rows:
            write(rows)


def _ranked(scored: Iterable[tuple[Row, float]], columns: Sequence[str]) -> Iterator[list[Cells]]:
    """The rows of each prompt (and user), best first; they must stand together in the table."""
    seen: set[str] = set()

    def group_key(pair: tuple[Row, float]) -> str:
        return repr([pair[0].cells.get(name) for name in columns])

    for key, group in groupby(scored, group_key):
        pairs = list(group)
        if key in seen:
            row = pairs[0][0]
            raise PalError(
                f"rows of one prompt{' and user' * (len(columns) > 1)} must stand together, got {row.place} "
                f"apart from the others; sort the table by {', '.join(columns)}",
                file=row.file,
                row=row.number,
            )
        seen.add(key)
        pairs.sort(key=lambda pair: -pair[1])
        yield [{**row.cells, "rank": n, "reward": reward} for n, (row, reward) in enumerate(pairs, 1)]


def ask(
    model: Path,
    table: str,
    user: str | None,
    tastes: Path | None,
    *,
    number: int,
    together: bool,
    output: "Output",
    options: "Computing",
) -> None:
    """Write the pairs whose answers are expected to tell most of a user, with their bits.

    Asked together, all candidates are weighed against each other, so that none repeats what another tells;
    else each is weighed alone.
    """
    sides = ("response_a", "response_b")
    inputs, schema = read_table(model, table, sides, ["bits"], options)
    known = read_tastes(tastes, inputs.model) if tastes else {}
    if tastes is None and user in inputs.model.rows:
        raise PalError(
            f"--user needs --taste to ask: of {user!r}, seen in fitting, the model keeps weights and not "
            "how sure they are; adapt to this user's comparisons first"
        )
    if user is not None and user not in known:
        raise unknown_user(user, inputs.model)
    if user is None and len(known) > 1:
        raise PalError(f"--user must say whose of the {len(known):,} tastes in {tastes}")
    taste = next(iter(known.values()), None) if user is None else known[user]
    with table_errors(inputs.rows):
        chosen = inputs.model.ask(inputs.aligned(inputs.rows, sides), taste, n=number, together=together)
    with open_writer(output.out, output.kind, schema, safe_csv=output.safe_csv) as write:
        write([{**inputs.rows[each.index].cells, "bits": round(each.bits, 6)} for each in chosen])


def inspect(model: Path, table: str | None, *, number: int, as_json: bool, options: "Computing") -> None:
    """Print what a model is.

    Args:
        model: Its folder.
        table: Responses, several to a prompt, to tell what each prototype or direction likes; held in memory.
        number: How many responses and words to show at most, most and least liked.
        as_json: Whether to print JSON, for programs.
        options: Where encoders come from and compute.
    """
    if table is None:
        inputs = TableModel(load_model(model, options), (), Path())
    else:
        inputs, _ = read_table(model, table, ["response"], (), options)
    notes = notes_of_fit(model)
    about = {name: notes[name] for name in ("method", "source") if name in notes} | model_facts(inputs.model)
    if table is not None:
        described = _described(inputs, number)
        if "prototypes" not in about:
            about["directions"] = [{"direction": k} for k in range(1, len(described) + 1)]
        for each, words in zip(about.get("prototypes") or about["directions"], described, strict=True):
            each |= words
    text = json.dumps(about, indent=2, ensure_ascii=False) if as_json else _as_text(about)
    sys.stdout.buffer.write((text + "\n").encode(sys.stdout.encoding, "replace"))
    sys.stdout.buffer.flush()


def model_facts(model: RewardModel) -> dict[str, Any]:
    """What a model is, as JSON: its head, its encoders, and where it has prototypes its users' weights."""
    weights, config = model.states, model.config

    def side(name: Any, dim: int) -> dict[str, Any]:
        return {"encoder": model.input_encoder.describe(name).get("encoder"), "dim": dim}

    about = {
        "model": config.model,
        **({"K": config.K} if isinstance(model.head, PrototypeModel) else {}),
        "latent": config.latent,
        "objective": model.fit_config.objective,
        "loss": model.fit_config.loss,
        "prompts": side("prompts", model.prompt_dim) if model.head.needs_prompts else None,
        "responses": side("responses", model.response_dim),
        "users": len(model.user_ids),
        "population": model.population.name,
        "fingerprint": model.fingerprint,
    }
    if isinstance(model.head, PrototypeModel):
        nearest = torch.bincount(weights.argmax(1), minlength=config.K)
        about |= {
            "users_at_one_prototype": int((weights.amax(1) > PURE).sum()),
            "places_for_new_users": len(model.population.prior.masses),
            "prototypes": [
                {
                    "prototype": k + 1,
                    "mean_weight": round(float(weights[:, k].mean()), 4),
                    "sd_of_weight": round(float(weights[:, k].std(correction=0)), 4),
                    "nearest_users": int(nearest[k]),
                }
                for k in range(config.K)
            ],
        }
    return about


def _described(inputs: TableModel, number: int) -> list[dict[str, Any]]:
    """What each prototype or direction likes and dislikes among the rows of the table, and in which words.

    Raises:
        PalError: If no prompt has two responses.
    """
    from pal.evaluation.describe import describe

    rows = inputs.rows
    with table_errors(rows):
        responses, prompts = inputs.items(rows, "response"), inputs.prompts(rows)
        described = describe(inputs.model, responses, prompts, number=number)

    def shown(item: Any) -> dict[str, Any]:
        cells = rows[item.row].cells
        return {name: cells[name] for name in ("prompt", "response") if name in cells} | {"above": item.above}

    return [
        {
            "title": each.title,
            **{name: [word._asdict() for word in getattr(each, name)] for name in WORDS},
            **{end: [shown(item) for item in getattr(each, end)] for end in ("likes", "dislikes")},
        }
        for each in described
    ]


def _as_text(about: dict[str, Any]) -> str:
    lines, prototypes = [], about.get("prototypes", [])
    for name, value in about.items():
        if isinstance(value, dict):
            value = f"{value['encoder'] or 'vectors, no encoder'}, {value['dim']:,} numbers"
        if not isinstance(value, list):
            lines.append(f"{name.replace('_', ' '):<23} {'not read' if value is None else value}")
    if prototypes:
        names = ("prototype", "mean_weight", "sd_of_weight", "nearest_users")
        bars = ["#" * round(BAR_WIDTH * each["nearest_users"] / about["users"]) for each in prototypes]
        rows = [{name: each[name] for name in names} for each in prototypes]
        lines += ["", shown([{**row, "": bar} for row, bar in zip(rows, bars, strict=True)])]
    for each in (*prototypes, *about.get("directions", [])):
        if "likes" not in each:
            continue
        name = next(f"{key} {each[key]}" for key in ("prototype", "direction") if key in each)
        lines += [f"{name}: {each['title'] or 'no words tell what it likes'}"]
        for label, key in WORDS.items():
            found = [f"{word['name']} {word['strength']:+.2f}" for word in each[label][:6]]
            lines += [f"  {key}: {', '.join(found)}"] if found else []
        for end in ("likes", "dislikes"):
            lines += [f"  {end} most, against the average"] if each[end] else []
            for item in each[end]:
                cells = [" ".join(str(item[name]).split()) for name in ("prompt", "response") if name in item]
                texts = " -> ".join(cut(cell, TEXT_WIDTH) for cell in cells)
                lines.append(f"  {item['above']:>+8.3f}  {texts}")
        lines.append("")
    return "\n".join(lines)


def serve(models: Sequence[str], options: "ServeOptions") -> None:
    """Serve models, each a folder or NAME=FOLDER, until the process is asked to end."""
    _check_address(options.host)
    from pal.service.pages import add_pages

    served = _load(models, options)
    if len(models) == 1:
        served.get(served.name(None))
    _run(served, add_pages, options)


def demo(
    model: str, log: str | None, questions: Path | None, study: "StudyOptions", options: "ServeOptions"
) -> None:
    """Serve a model with pages on which it is tried, or with a study that collects answers.

    Args:
        model: Its folder, or NAME=FOLDER.
        log: Answers to show, and to take questions from; by default those that it was fitted to.
        questions: A table of pairs: prompt, response_a, response_b.
        study: Where a study keeps its answers, None for the demo; and how it asks.
        options: Where to listen, and where encoders come from and compute.
    """
    _check_address(options.host)
    from pal.service.demo import Demo, Study, read_pairs, read_questions
    from pal.service.pages import add_pages

    served = _load([model], options)
    name = served.name(None)
    loaded = served.get(name)
    people: dict[str, Any] = {}
    pairs: Sequence[Any] = []
    notes = notes_of_fit(served.folders[name])
    source, read_as = str(notes.get("source", "")), {} if log else notes.get("read_as", {})
    log = log or (source if source and Path(source).exists() else "")
    # Without an encoder cells are ids, of vectors that are not at hand.
    has_log = study.collect is None and loaded.input_encoder.describe("responses")
    if log and has_log:
        from pal.logs.shapes import read_log

        read = read_log(log, **read_as)
        pairs, people = read_questions(read.pairs, read.table.folder)
    if questions is not None:
        pairs = read_pairs(str(questions), needs_prompts=loaded.reads_prompts)
    if not pairs:
        needed = f", or --log the answers that the model was fitted to ({source})" if has_log else ""
        raise PalError(f"--questions must name a table of prompt, response_a, response_b{needed}, got none")
    tried = Demo(loaded, pairs, people)
    if study.collect is None:
        _run(served, partial(add_pages, name=name, demo=tried), options)
        return
    try:
        text = study.consent.read_text(encoding="utf-8") if study.consent else ""
    except (OSError, UnicodeError) as error:
        raise PalError(f"{study.consent} cannot be read as text ({error}); name a file of text") from None
    asked = Study(tried, text, study.random_share, study.repeat_every, study.number)
    options = replace(options, database=str(study.collect))
    _run(served, partial(add_pages, name=name, study=asked), options)


def answers(database: str, out: Path) -> None:
    """Write all answers that stand as a log that `pal fit` reads: JSONL, pictures in a folder beside it.

    Of a study it also says how often people answered a repeated question as before.
    """
    from pal.service.answers import Answers
    from pal.service.demo import consistency

    if "://" not in database and not Path(database).is_file():
        raise PalError(f"{database} must be a database of answers, got no file; name that of pal serve")
    rows = Answers(database).export(out.with_name(f"{out.stem}-pictures"))
    write_text(out, "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows))
    people: dict[str, list[dict[str, Any]]] = {}
    for row in rows:
        people.setdefault(row["user_id"], []).append(row)
    print(f"{len(rows):,} answers of {len(people):,} people in {out}")
    same = [share for theirs in people.values() if (share := consistency(theirs)) is not None]
    if same:
        print(f"  repeated questions: answered as before in {fmean(same):.0%}, mean of {len(same):,} people")
    print(f"  pal fit {out}")


def _run(models: Any, add_pages: Callable[..., Any], options: "ServeOptions") -> None:
    """Listen until the process is asked to end; without a key at a loopback address alone."""
    import uvicorn

    from pal.service.answers import Answers
    from pal.service.app import create_app

    key, host, port = os.environ.get(KEY), options.host, options.port
    app = add_pages(create_app(models, Answers(options.database), key=key))
    listening = socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET)
    listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        listening.bind((host, port))
    except OSError as error:
        raise PalError(
            f"--port must be free on {host}, got {port} ({error.strerror}); name another"
        ) from None
    address = f"http://{f'[{host}]' if ':' in host else host}:{listening.getsockname()[1]}"
    print(f"{', '.join(models.folders)} at {address} (calls to try: {address}/docs)", flush=True)
    if not key:
        print(f"{KEY} is not set: only this computer can call, and needs no key", flush=True)
    uvicorn.run(app, fd=listening.fileno(), log_level="warning", timeout_graceful_shutdown=30)


def _check_address(host: str) -> None:
    """Refuse to listen to others without a key."""
    try:
        loopback = host == "localhost" or ipaddress.ip_address(host).is_loopback
    except ValueError:
        loopback = False
    if not os.environ.get(KEY) and not loopback:
        raise PalError(
            f"--host must be a loopback address where {KEY} is not set, got {host}; set it to a secret"
        )
    try:
        import fastapi  # noqa: F401
    except ImportError:
        raise PalError(
            "the service must have its extra; pip install 'pal-pluralistic-alignment[serve]'"
        ) from None


def _load(models: Sequence[str], options: "ServeOptions") -> Any:
    """The models, by the names that are given or those of their folders; one core is left to HTTP."""
    from pal.service.compute import Models

    torch.set_num_threads(max(1, (os.cpu_count() or 1) - 1))
    named: dict[str, Path] = {}
    for given in models:
        name, _, folder = given.rpartition("=") if not Path(given).exists() else ("", "", given)
        path = Path(folder).expanduser()
        whole = path.resolve()
        name = name or (whole.name == "model" and whole.parent.name) or whole.name
        if name in named:
            raise PalError(f"two models must not have one name, got {name!r} twice; give NAME=FOLDER")
        named[name] = path
    return Models(named, places_of(options.weights), options.device)
