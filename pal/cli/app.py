"""The command line `pal`: fit, compare, eval, score, rank, adapt, ask and inspect.

pal fit answers.csv
pal rank answers-model replies.csv --user ann
"""

import os
import sys
from collections.abc import Callable
from dataclasses import dataclass, fields, is_dataclass
from functools import wraps
from importlib import import_module
from inspect import Parameter, Signature, signature
from pathlib import Path
from typing import Annotated, Any, Literal

import typer
from typer import Argument, Option
from typer.core import TyperGroup

BROKEN_PIPE = 141  # the exit code that a shell reports of a program that SIGPIPE ended


class Commands(TyperGroup):
    """Commands that tell users' mistakes in one sentence."""

    def invoke(self, ctx: Any) -> Any:
        """Run a command.

        Raises:
            typer.Exit: With exit code 1 after an error, 141 where nobody reads on (`pal ... | head`).
        """
        try:
            return super().invoke(ctx)
        except BrokenPipeError:
            from pal.files import forget_output

            forget_output()
            raise typer.Exit(BROKEN_PIPE) from None
        except (ValueError, OSError) as error:
            from pal.errors import PalError
            from pal.files import forget_output, sentence

            if isinstance(error, ValueError) and not isinstance(error, PalError):
                raise
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
    safe_csv: bool = Option(
        False, "--safe-csv", help="In CSV, put ' before texts that spreadsheets would compute."
    )


def command(function: Callable[..., None]) -> Callable[..., None]:
    """Add a command to the app: it runs the function of the same name and parameters in `pal.cli.commands`.

    That module imports torch, so it is not imported before a command runs. A parameter that is a dataclass
    becomes one option for each of its fields.
    """
    parameters: list[Parameter] = []
    groups = {}
    for parameter in signature(function).parameters.values():
        group = parameter.annotation
        if not is_dataclass(group):
            parameters.append(parameter.replace(kind=Parameter.KEYWORD_ONLY))
            continue
        groups[parameter.name] = group
        parameters += [
            Parameter(field.name, Parameter.KEYWORD_ONLY, default=field.default, annotation=field.type)
            for field in fields(group)
        ]

    @wraps(function)
    def run(**given: Any) -> None:
        for name, group in groups.items():
            given[name] = group(**{field.name: given.pop(field.name) for field in fields(group)})
        getattr(import_module("pal.cli.commands"), function.__name__)(**given)

    run.__signature__ = Signature(parameters)  # type: ignore[attr-defined]
    run.__annotations__ = {parameter.name: parameter.annotation for parameter in parameters}
    return app.command()(run)


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
    ties: str = Option(
        "drop", help="drop: ties are left out; keep: they are learned from too, and judged by nothing."
    )
    unseen: float = Option(0.2, help="Share of the people held out to measure; 0: nobody.")


@dataclass
class OneFitOptions(FitOptions):
    """The options of `pal fit`."""

    method: str = Option("auto", help="A method, such as pal_ours or mixed_effects; or auto.")
    K: str = Option("auto", "-K", help="Tastes to mix (prototypes): a number, or auto.")
    vectors: Path | None = Option(
        None, help="Embeddings that cells name by ids: .parquet, .safetensors or .npy."
    )
    attributes: str | None = Option(
        None, help="Columns that tell of people, and by which accuracies are told: age,sex."
    )
    time_split: bool = Option(False, "--time-split", help="Hold out each one's latest answers.")


Log = Annotated[
    str,
    Argument(
        metavar="LOG",
        help=(
            "A file, folder or glob of CSV, JSON, JSONL, Parquet, Arrow or Excel, hf://datasets/ORG/NAME, or "
            "- for standard input."
        ),
    ),
]


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


@command
def compare(
    log: Log,
    *,
    methods: str = Option("bt,mixed_effects,pal_ours", help="Names of methods, separated by commas."),
    out: Path | None = Option(None, "--out", "-o", help="A JSON file of all numbers."),
    options: FitOptions,
) -> None:
    """Compare methods on a log, and say whether personalising pays."""


@command
def eval(model: Model, log: Log, *, options: LogOptions) -> None:
    """Judge a model on a log of new answers, of people it knows and of others.

    Those it does not know are located by half of their answers, and by columns of attributes that the model
    knows, and judged on the rest. Prints JSON.
    """


@command
def score(model: Model, table: Responses, *, users: Users, output: Output, options: Computing) -> None:
    """Add the column reward to a table of responses.

    The reward is that of --user; else of the only user in --taste; else of each row's user_id; else of the
    average user. Only differences for one user and one prompt mean anything.
    """


@command
def rank(model: Model, table: Responses, *, users: Users, output: Output, options: Computing) -> None:
    """Sort the responses to each prompt, best first.

    Adds the columns rank and reward. Rows of one prompt (and of one user, where there is a user_id) must
    stand together. Users are chosen as in score.
    """


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


@command
def ask(
    model: Model,
    table: Annotated[str, Argument(metavar="CANDIDATES", help="Columns: prompt, response_a, response_b.")],
    *,
    user: str | None = Option(None, help="Who is asked, where --taste holds several."),
    tastes: Path | None = Option(None, "--taste", help="Tastes, as `pal adapt` writes them."),
    number: int = Option(10, "--number", "-n", min=1, help="How many pairs."),
    together: bool = Option(
        False, "--together", help="To be asked together (at most 10): none repeats another."
    ),
    output: Output,
    options: Computing,
) -> None:
    """Say which pairs to put to someone next.

    Pairs whose answers tell most come first. The column bits is what an answer is expected to tell, 0 to 1.
    Without --taste the user is new.
    """


@command
def inspect(
    model: Model,
    table: str | None = Argument(
        None, metavar="[FILE]", help="Columns: prompt, response; several to a prompt."
    ),
    *,
    number: int = Option(5, "--number", "-n", min=1, help="Responses a prototype."),
    as_json: bool = Option(False, "--json", help="Print JSON."),
    options: Computing,
) -> None:
    """Say what a model is, and what its prototypes like.

    Without FILE, how users spread over the prototypes; with it, what each likes most and least too.
    """


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
    random_share: float = Option(
        0.2, "--random", help="Share of a study's questions that are drawn at random."
    )
    repeat_every: int = Option(
        10, "--repeat", min=0, help="After so many answers a study repeats a question."
    )
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


@command
def answers(
    database: Annotated[str, Argument(metavar="DATABASE", help="Of pal serve or of a study.")],
    *,
    out: Path = Option(Path("answers.jsonl"), "--out", "-o", help="The file to write: JSONL."),
) -> None:
    """Write collected answers as a log that `pal fit` reads."""


def main() -> None:
    """Run a command; warnings are printed as sentences too."""
    import warnings

    def print_warning(message: Any, *_: Any, **__: Any) -> None:
        print(f"warning: {message}", file=sys.stderr)

    warnings.showwarning = print_warning
    # Threads that wait sleep: waiting awake costs more than they do where the work is small, or others work.
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
    app()


if __name__ == "__main__":
    main()
