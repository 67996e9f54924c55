"""The command line `pal`: fit, compare, eval, score, rank, adapt, ask and inspect.

pal fit answers.csv
pal rank answers-model replies.csv --user ann

Help must not wait for torch, nor a small ranking for polars: a command imports what it needs when it runs.
"""

import ipaddress
import json
import os
import socket
import sys
import warnings
from collections import defaultdict
from collections.abc import Callable, Sequence
from dataclasses import dataclass, fields, is_dataclass, replace
from functools import partial, wraps
from importlib.util import find_spec
from inspect import Parameter, Signature, signature
from pathlib import Path
from statistics import fmean
from typing import Annotated, Any, Literal

import typer
from typer import Argument, Option
from typer.core import TyperGroup

from pal.errors import PalError
from pal.files import forget_output, sentence, write_json, write_text

BROKEN_PIPE = 141  # the exit code that a shell reports of a program that SIGPIPE ended
KEY = "PAL_API_KEY"


class Commands(TyperGroup):
    """Commands that tell users' mistakes in one sentence."""

    def invoke(self, ctx: Any) -> Any:
        """Run a command; the exit code is 1 after an error, 141 where nobody reads on (`pal ... | head`)."""
        try:
            return super().invoke(ctx)
        except BrokenPipeError:
            forget_output()
            raise typer.Exit(BROKEN_PIPE) from None
        except (PalError, OSError) as error:
            typer.echo(f"error: {sentence(error) if isinstance(error, OSError) else error}", err=True)
            if isinstance(error, OSError):
                forget_output()
            raise typer.Exit(1) from None


app = typer.Typer(
    cls=Commands,
    help=(
        "Reward models that differ from person to person: fitted to a log of answers, applied to tables.\n\n"
        "pal fit answers.csv\n\n"
        "pal rank answers-model replies.csv --user ann\n\n"
        "Tables are CSV, JSONL, Parquet and what else `pal fit` reads; written are JSONL, CSV or Parquet, by "
        "the suffix, else by --format, else JSONL (a terminal shows a table). - is standard input or output. "
        "Other columns are passed on. Cells are texts, or paths of images (relative to the table) where the "
        "model's encoder reads images; models that were fitted on vectors read lists of numbers.\n\n"
        "Exit codes: 0 done, 1 a mistake in the input (one sentence on standard error), 2 a command that was "
        "not understood."
    ),
    no_args_is_help=True,
    context_settings={"help_option_names": ["-h", "--help"]},
    pretty_exceptions_enable=False,
    rich_markup_mode=None,  # plain help starts in half the time
)


@dataclass
class Computing:
    """Where encoders come from, and where they compute."""

    weights: list[str] | None = Option(
        None, help="NAME=PLACE: an encoder's weights come from `package`, `hub` or a folder. Repeatable."
    )
    device: str = Option("cpu", help="Where to compute: cpu or cuda.")


@dataclass
class Users:
    """The options that say whose reward is meant."""

    user: str | None = Option(None, help="The user: someone seen in fitting, or in the file of --taste.")
    tastes: Path | None = Option(None, "--taste", help="Tastes, as `pal adapt` writes them.")
    average: bool = Option(False, "--average", help="The average user, whatever user_id says.")
    attributes: str | None = Option(None, help="Someone new of whom this is known, as country=DE,age=34.")


Model = Annotated[Path, Argument(metavar="MODEL", help="The folder of a model, or of `pal fit`.")]
Responses = Annotated[str, Argument(metavar="FILE", help="Columns: prompt, response[, user_id].")]
Out = Annotated[str, Option("--out", "-o", help="The file to write, or - for standard output.")]


@dataclass
class Output:
    """The options of what a table is written to."""

    out: Out = "-"
    kind: Literal["jsonl", "csv", "parquet"] | None = Option(
        None, "--format", help="The format to write where no suffix says it."
    )
    safe_csv: bool = Option(False, "--safe-csv", help="In CSV, put ' before texts that spreadsheets compute.")


def command(function: Callable[..., None]) -> Callable[..., None]:
    """Add a function to the app, with an option for each field of a parameter that is a dataclass."""
    parameters, groups = [], {}
    for parameter in signature(function).parameters.values():
        parts = [parameter]
        if is_dataclass(group := parameter.annotation):
            groups[parameter.name] = group
            parts = [
                parameter.replace(name=field.name, default=field.default, annotation=field.type)
                for field in fields(group)
            ]
        parameters += [part.replace(kind=Parameter.KEYWORD_ONLY) for part in parts]

    @wraps(function)
    def run(**given: Any) -> None:
        for name, group in groups.items():
            given[name] = group(**{field.name: given.pop(field.name) for field in fields(group)})
        function(**given)

    run.__signature__ = Signature(parameters)  # type: ignore[attr-defined]
    run.__annotations__ = {parameter.name: parameter.annotation for parameter in parameters}
    app.command()(run)
    return function


def _version(value: bool | None) -> None:  # noqa: FBT001 - as typer calls it
    if value:
        from pal import __version__

        typer.echo(f"pal {__version__}")
        raise typer.Exit


@app.callback()
def about(
    *, _: bool | None = Option(None, "--version", callback=_version, is_eager=True, help="Print the version.")
) -> None:
    """See `help` above."""


@dataclass
class LogOptions(Computing):
    """The options of the commands that read a log."""

    columns: str | None = Option(
        None, help="What columns are, where their names do not tell: user_id=rater,prompt=task."
    )
    values: str | None = Option(None, help="What values of the winner mean: 0=a,1=b,2=tie.")
    seed: int = Option(0, help="Seeds what is drawn at random.")


@dataclass
class FitOptions(LogOptions):
    """The options of the commands that fit a log."""

    encoder: str = Option("all-MiniLM-L6-v2+measures", help="The encoder of texts.")
    image_encoder: str = Option("classical", help="The encoder of pictures.")
    item: str = Option(
        "separate",
        help="separate: prompt and response are encoded each alone; joint: as one text; or a template "
        "of that, such as '{prompt} {response}'.",
    )
    ties: str = Option("drop", help="drop: ties are left out; keep: learned from too, judged by nothing.")
    unseen: float = Option(0.2, help="Share of the people held out to measure; 0: nobody.")


@dataclass
class OneFitOptions(FitOptions):
    """The options of `pal fit`."""

    method: str = Option("auto", help="A method, such as pal_ours or mixed_effects; or auto.")
    K: str = Option("auto", "-K", help="Tastes to mix (prototypes): a number, or auto.")
    vectors: Path | None = Option(
        None, help="Embeddings that cells name by id: .parquet, .safetensors, .npy."
    )
    attributes: str | None = Option(
        None, help="Columns that tell of people, and by which accuracies are told: age,sex."
    )
    time_split: bool = Option(False, "--time-split", help="Hold out each one's latest answers.")


LOGS = "A file, folder or glob of CSV, JSON, JSONL, Parquet, Arrow or Excel, hf://datasets/ORG/NAME, or"
Log = Annotated[str, Argument(metavar="LOG", help=f"{LOGS} - for standard input.")]


@command
def fit(
    log: Log,
    *,
    out: Path | None = Option(None, "--out", "-o", help="The folder to write."),
    options: OneFitOptions,
) -> None:
    """Fit a personal reward model to a log of answers, and say how good it is.

    A row says what someone preferred: chosen and rejected; two or more responses and a winner or a ranking;
    or a rating or a thumb for one response. What was understood is printed. Writes model/, report.html,
    metrics.json and rejected-rows.csv; the model is of all people and answers.
    """
    from pal.serving import fit_log

    out = out or Path(Path(log.rstrip("/")).name.partition(".")[0] + "-model")
    if options.K != "auto" and not options.K.isdigit():
        raise PalError(f"-K must be auto or a whole number, got {options.K!r}")
    if not 0 <= options.unseen < 1:
        raise PalError(f"--unseen must be a share from 0 to below 1, got {options.unseen:g}")
    K = options.K if options.K == "auto" else int(options.K)
    given = _options(options, K=K, attributes=_names(options.attributes))
    try:
        fit_log.fit(log, out=out, say=partial(print, end="\n\n"), **vars(given))
    except KeyboardInterrupt:
        kept = "what was encoded is kept, so that a rerun goes on from there"
        raise PalError(f"stopped before {out} was written; {kept}") from None
    print(f"{out / fit_log.REPORT}  what was found\n{out / fit_log.METRICS}  its numbers")
    print(f"{out / fit_log.KEPT}  the model:\n  pal rank {out} replies.csv --user NAME")


@command
def compare(
    log: Log,
    *,
    methods: str = Option("bt,mixed_effects,pal_ours", help="Names of methods, separated by commas."),
    out: Path | None = Option(None, "--out", "-o", help="A JSON file of all numbers."),
    options: FitOptions,
) -> None:
    """Compare methods on a log, and say whether personalising pays."""
    from pal.methods.compare import printed
    from pal.serving import fit_log

    found = fit_log.compare(log, _names(methods), options=_options(options), say=_note)
    print(printed(found["rows"]), *found["notes"], found["verdict"], sep="\n")
    if out is not None:
        write_json(out, found)


@command
def eval(model: Model, log: Log, *, options: LogOptions) -> None:
    """Judge a model on a log of new answers, of people it knows and of others.

    Those it does not know are located by half of their answers, and by columns of attributes that the model
    knows, and judged on the rest. Prints JSON.
    """
    from pal.cli.tables import load_model, notes_of_fit
    from pal.serving import fit_log

    found = fit_log.evaluate(load_model(model, options), log, options=_options(options), say=_note)
    print(json.dumps(found, indent=2))
    if found["log"] == notes_of_fit(model).get("log"):
        _note("These are the answers that the model was fitted to, on which it is nearly always right.")


@command
def score(model: Model, table: Responses, *, users: Users, output: Output, options: Computing) -> None:
    """Add the column reward to a table of responses.

    The reward is that of --user; else of the only user in --taste; else of each row's user_id; else of the
    average user. Only differences for one user and one prompt mean anything.
    """
    from pal.cli.tables import write_rewards

    write_rewards(model, table, users, output, options)


@command
def rank(model: Model, table: Responses, *, users: Users, output: Output, options: Computing) -> None:
    """Sort the responses to each prompt, best first.

    Adds the columns rank and reward. Rows of one prompt (and of one user, where there is a user_id) must
    stand together. Users are chosen as in score.
    """
    from pal.cli.tables import write_rewards

    write_rewards(model, table, users, output, options, ranked=True)


@command
def adapt(
    model: Model,
    log: Log,
    *,
    out: Out = "-",
    tastes: Path | None = Option(None, "--taste", help="Tastes to add the comparisons to, exactly."),
    forget: bool = Option(False, "--forget", help="Take the comparisons out of --taste, exactly."),
    options: LogOptions,
) -> None:
    """Locate new users by their answers: write their tastes.

    Reads what `pal fit` reads, such as prompt, chosen, rejected[, user_id][, label]. One JSON object a line
    and user. A log without a column of users is one person's. Columns of attributes that the model knows tell
    of the person too.
    """
    from pal.cli import tables
    from pal.logs.answers import attributes_of_people
    from pal.logs.shapes import EVERYONE, read_log

    if out != "-" and Path(out).suffix.lower() not in (".json", ".jsonl"):
        raise PalError(f"out must end in .jsonl, or .json for one person, got {out!r}; tastes are JSON")
    if forget and tastes is None:
        raise PalError("--forget needs --taste, the tastes that comparisons are to be taken out of")
    loaded = tables.load_model(model, options)
    prior = list(loaded.attributes.columns) if loaded.attributes else []
    read = read_log(log, **_read_as(options), ties="keep", known=prior, alone=True, seed=options.seed)
    known = tables.read_tastes(tastes, loaded) if tastes else {}
    has_ids = bool(read.columns.roles.get("user_id"))
    if has_ids and "" in known:
        raise PalError(f"{tastes} must say whose taste it is, since {read.table.source} names people")
    if not has_ids and known.keys() - {""}:
        raise PalError(f"{read.table.source} must have a column user_id, since {tastes} names people; add it")
    inputs = tables.TableModel(loaded, tables.rows_of_log(read, loaded), read.table.folder)
    before = set(known)
    for rows in inputs.batches("chosen"):
        groups = defaultdict(list)
        for row in rows:
            groups[row.cells["user_id"] if has_ids else ""].append(row)
        comparisons = {
            user_id: inputs.aligned(group, ("chosen", "rejected"), [row.cells["label"] for row in group])
            for user_id, group in groups.items()
        }
        with tables.table_errors(groups):
            located = loaded.adapt_many(comparisons)
        for user_id, taste in located.items():
            had = known.get(user_id)
            if forget and had is None:
                raise PalError(f"--taste has no taste of {user_id!r}; take away only what went in")
            try:
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
    rows = [
        ({"user_id": user_id} if user_id else {}) | json.loads(taste.to_json())
        for user_id, taste in known.items()
    ]
    tables.write_rows([rows], out, "jsonl")
    _note(read.summary())


@command
def ask(
    model: Model,
    table: Annotated[str, Argument(metavar="CANDIDATES", help="Columns: prompt, response_a, response_b.")],
    *,
    user: str | None = Option(None, help="Who is asked, where --taste holds several."),
    tastes: Path | None = Option(None, "--taste", help="Tastes, as `pal adapt` writes them."),
    number: int = Option(10, "--number", "-n", min=1, help="How many pairs."),
    together: bool = Option(False, "--together", help="Asked together (at most 10): none repeats another."),
    output: Output,
    options: Computing,
) -> None:
    """Say which pairs to put to someone next.

    Pairs whose answers tell most come first. The column bits is what an answer is expected to tell, 0 to 1.
    Without --taste the user is new.
    """
    from pal.cli import tables

    sides = ("response_a", "response_b")
    inputs, schema = tables.read_table(model, table, sides, ["bits"], options)
    known = tables.read_tastes(tastes, inputs.model) if tastes else {}
    if tastes is None and user in inputs.model.rows:
        kept = "the model keeps weights and not how sure they are; adapt to this user's comparisons first"
        raise PalError(f"--user needs --taste to ask: of {user!r}, seen in fitting, {kept}")
    if user is not None and user not in known:
        raise tables.unknown_user(user, inputs.model)
    if user is None and len(known) > 1:
        raise PalError(f"--user must say whose of the {len(known):,} tastes in {tastes}")
    taste = next(iter(known.values()), None) if user is None else known[user]
    with tables.table_errors({"": inputs.rows}):
        chosen = inputs.model.ask(inputs.aligned(inputs.rows, sides), taste, n=number, together=together)
    asked = [{**inputs.rows[each.index].cells, "bits": round(each.bits, 6)} for each in chosen]
    tables.write_rows([asked], output.out, output.kind, schema, safe_csv=output.safe_csv)


@command
def inspect(
    model: Model,
    table: str | None = Argument(None, metavar="[FILE]", help="Columns: prompt, response; several a prompt."),
    *,
    number: int = Option(5, "--number", "-n", min=1, help="Responses a prototype."),
    as_json: bool = Option(False, "--json", help="Print JSON."),
    options: Computing,
) -> None:
    """Say what a model is, and what its prototypes like.

    Without FILE, how users spread over the prototypes; with it, what each likes most and least too.
    """
    from pal.cli.facts import as_text, facts_of
    from pal.cli.tables import TableModel, load_model, read_table

    if table is None:
        inputs = TableModel(load_model(model, options), (), Path())
    else:
        inputs, _ = read_table(model, table, ["response"], (), options)
    about = facts_of(inputs, model, number)
    print(json.dumps(about, indent=2, ensure_ascii=False) if as_json else as_text(about))


@dataclass
class ServeOptions(Computing):
    """The options of the commands that serve."""

    host: str = Option("127.0.0.1", help="Where to listen; elsewhere than here, set PAL_API_KEY.")
    port: int = Option(8000, min=0, max=65535, help="0 takes a free one.")
    database: str = Option(
        "answers.db", help="Of answers: a file (SQLite), or postgresql+psycopg://USER@HOST/NAME."
    )


@dataclass
class StudyOptions:
    """The options of a study."""

    collect: Path | None = Option(None, help="Run a study in place of the demo, answers into this file.")
    consent: Path | None = Option(None, help="A text that participants agree to.")
    random_share: float = Option(0.2, "--random", help="Share of a study's questions drawn at random.")
    repeat_every: int = Option(10, "--repeat", min=0, help="Answers after which a study repeats a question.")
    number: int | None = Option(None, "--number", "-n", min=1, help="Answers of each participant of a study.")


@command
def serve(
    models: Annotated[list[str], Argument(metavar="MODEL...", help="Folders, or NAME=FOLDER.")],
    *,
    options: ServeOptions,
) -> None:
    """Serve models over HTTP: rewards, rankings and people's tastes.

    Needs the extra [serve]. Stops gracefully at Ctrl-C.
    """
    served = _load(models, options)
    from pal.service.pages import add_pages

    if len(models) == 1:
        served.get(served.name(None))
    _run(served, add_pages, options)


@command
def demo(
    model: Annotated[str, Argument(metavar="MODEL", help="A folder, or NAME=FOLDER.")],
    *,
    log: str | None = Option(None, help="Answers to show; by default those that the model was fitted to."),
    questions: Path | None = Option(None, help="A table of pairs to ask: prompt, response_a, response_b."),
    study: StudyOptions,
    options: ServeOptions,
) -> None:
    """Serve a page on which a model is tried, or a study.

    The page learns your taste while you answer, shows people the model has seen, and compares responses.
    """
    served = _load([model], options)
    from pal.cli.tables import notes_of_fit
    from pal.logs.shapes import read_log
    from pal.service.pages import Demo, Study, add_pages, read_pairs, read_questions

    name = served.name(None)
    loaded, pairs, people = served.get(name), (), {}
    notes = notes_of_fit(served.folders[name])
    source, read_as = str(notes.get("source", "")), {} if log else notes.get("read_as", {})
    log = log or (source if source and Path(source).exists() else "")
    # Without an encoder cells are ids, of vectors that are not at hand.
    has_log = study.collect is None and loaded.input_encoder.describe("responses")
    if log and has_log:
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


@command
def answers(
    database: Annotated[str, Argument(metavar="DATABASE", help="Of pal serve or of a study.")],
    *,
    out: Path = Option(Path("answers.jsonl"), "--out", "-o", help="The file to write: JSONL."),
) -> None:
    """Write collected answers as a log that `pal fit` reads."""
    from pal.service.answers import Answers
    from pal.service.pages import consistency

    if "://" not in database and not Path(database).is_file():
        raise PalError(f"{database} must be a database of answers, got no file; name that of pal serve")
    rows = Answers(database).export(out.with_name(f"{out.stem}-pictures"))
    write_text(out, "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows))
    people = defaultdict(list)
    for row in rows:
        people[row["user_id"]].append(row)
    print(f"{len(rows):,} answers of {len(people):,} people in {out}")
    same = [share for theirs in people.values() if (share := consistency(theirs)) is not None]
    if same:
        print(f"  repeated questions: answered as before in {fmean(same):.0%}, mean of {len(same):,} people")
    print(f"  pal fit {out}")


def _note(text: str) -> None:
    """Print what was understood beside what is printed for others to read."""
    print(text, end="\n\n", file=sys.stderr)


def _options(options: LogOptions, **others: Any) -> Any:
    """Options of a fit from those of the command line: columns by role, sides by value."""
    from pal.cli.tables import places_of
    from pal.serving.fit_log import Options

    weights = {"weights": places_of(options.weights)}
    return Options(**(vars(options) | weights | _read_as(options) | others))


def _read_as(options: LogOptions) -> dict[str, dict[str, str]]:
    """What columns and values mean."""
    from pal.logs.columns import parse_columns

    values = dict(part.split("=", 1) for part in (options.values or "").split(",") if "=" in part)
    if options.values and not values:
        raise PalError(f"--values must be VALUE=SIDE, separated by commas, got {options.values!r}")
    return {"columns": parse_columns(options.columns or ""), "values": values}


def _names(text: str | None) -> list[str]:
    return [name.strip() for name in (text or "").split(",") if name.strip()]


def _run(models: Any, add_pages: Callable[..., Any], options: ServeOptions) -> None:
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
        got = f"got {port} ({error.strerror}); name another"
        raise PalError(f"--port must be free on {host}, {got}") from None
    address = f"http://{f'[{host}]' if ':' in host else host}:{listening.getsockname()[1]}"
    print(f"{', '.join(models.folders)} at {address} (calls to try: {address}/docs)", flush=True)
    if not key:
        print(f"{KEY} is not set: only this computer can call, and needs no key", flush=True)
    uvicorn.run(app, fd=listening.fileno(), log_level="warning", timeout_graceful_shutdown=30)


def _load(models: Sequence[str], options: ServeOptions) -> Any:
    """The models, by the names that are given or those of their folders; one core is left to HTTP.

    Without a key nobody else's computer may call.
    """
    try:
        loopback = options.host == "localhost" or ipaddress.ip_address(options.host).is_loopback
    except ValueError:
        loopback = False
    if not os.environ.get(KEY) and not loopback:
        rule = f"must be a loopback address where {KEY} is not set, got {options.host}; set it to a secret"
        raise PalError(f"--host {rule}")
    if find_spec("fastapi") is None:
        raise PalError("the service must have its extra; pip install 'pal-pluralistic-alignment[serve]'")
    import torch

    from pal.cli.tables import places_of
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


def main() -> None:
    """Run a command; warnings are printed as sentences too."""
    warnings.showwarning = lambda message, *_, **__: print(f"warning: {message}", file=sys.stderr)
    sys.stdout.reconfigure(errors="replace")  # type: ignore[union-attr] - of what a terminal cannot show
    # Threads that wait sleep: waiting awake costs more than they do where the work is small, or others work.
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
    app()


if __name__ == "__main__":
    main()
