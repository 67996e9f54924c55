"""The command line `pal`: score, rank, adapt, ask and inspect.

pal rank data/models/own/model answers.csv --user ann
"""

import sys
from collections.abc import Callable
from dataclasses import MISSING, dataclass, fields, is_dataclass
from enum import StrEnum
from functools import wraps
from inspect import Parameter, Signature, signature
from pathlib import Path
from typing import Annotated, Any

import typer
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
        "Reward models that differ from person to person, applied to tables.\n\n"
        "Tables are JSONL, CSV or Parquet, by their suffix; - is standard input or output, JSONL unless "
        "--format says otherwise. Other columns are passed on. Cells are texts, or paths of images (relative "
        "to the table) where the model's encoder reads images; models that were fitted on vectors read lists "
        "of numbers.\n\n"
        "Exit codes: 0 done, 1 a mistake in the input (one sentence on standard error), 2 a command that was "
        "not understood."
    ),
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,  # plain help starts in half the time
)


class Format(StrEnum):
    """The format of a table."""

    jsonl = "jsonl"
    csv = "csv"
    parquet = "parquet"


class Kind(StrEnum):
    """What cells are."""

    text = "text"
    image = "image"


@dataclass
class Options:
    """The options of every command."""

    kind: Annotated[
        Format | None,
        typer.Option("--format", help="The format of standard input and output, and without a suffix."),
    ] = None
    weights: Annotated[
        list[str] | None,
        typer.Option(
            help="NAME=PLACE: an encoder's weights come from `package`, `hub` or a folder. Repeatable."
        ),
    ] = None
    device: Annotated[str, typer.Option(help="Where encoders compute: cpu or cuda.")] = "cpu"
    prompts: Annotated[Kind | None, typer.Option(help="What prompts are, where the encoder reads both.")] = (
        None
    )
    responses: Annotated[
        Kind | None, typer.Option(help="What responses are, where the encoder reads both.")
    ] = None


@dataclass
class Users:
    """The options that say whose reward is meant."""

    user: Annotated[
        str | None, typer.Option(help="The user: someone seen in fitting, or in the file of --taste.")
    ] = None
    tastes: Annotated[Path | None, typer.Option("--taste", help="Tastes, as `pal adapt` writes them.")] = None
    average: Annotated[bool, typer.Option("--average", help="The average user, whatever user_id says.")] = (
        False
    )


Model = Annotated[
    Path, typer.Argument(metavar="MODEL", help="The model's folder, as `RewardModel.save` writes it.")
]
Responses = Annotated[str, typer.Argument(metavar="FILE", help="Columns: prompt, response[, user_id].")]
Out = Annotated[str, typer.Option("--out", "-o", help="The file to write, or - for standard output.")]


@dataclass
class Output:
    """The options of what a table is written to."""

    out: Out = "-"
    safe_csv: Annotated[
        bool, typer.Option("--safe-csv", help="In CSV, put ' before texts that spreadsheets would compute.")
    ] = False


def command(function: Callable[..., None]) -> Callable[..., None]:
    """Add a command to the app; a parameter that is a dataclass becomes one option for each of its fields."""
    parameters: list[Parameter] = []
    groups = {}
    for parameter in signature(function).parameters.values():
        group = parameter.annotation
        if not is_dataclass(group):
            parameters.append(parameter.replace(kind=Parameter.KEYWORD_ONLY))
            continue
        groups[parameter.name] = group
        for field in fields(group):
            default = Parameter.empty if field.default is MISSING else field.default
            parameters.append(
                Parameter(field.name, Parameter.KEYWORD_ONLY, default=default, annotation=field.type)
            )

    @wraps(function)
    def run(**given: Any) -> None:
        for name, group in groups.items():
            given[name] = group(**{field.name: given.pop(field.name) for field in fields(group)})
        function(**given)

    run.__signature__ = Signature(parameters)  # type: ignore[attr-defined]
    run.__annotations__ = {parameter.name: parameter.annotation for parameter in parameters}
    return app.command()(run)


@command
def score(model: Model, table: Responses, *, users: Users, output: Output, options: Options) -> None:
    """Add the column reward to a table of responses.

    The reward is that of --user; else of the only user in --taste; else of each row's user_id; else of the
    average user. Only differences for one user and one prompt mean anything.
    """
    from pal.cli import commands

    commands.score(model, table, vars(output), vars(users), vars(options), ranked=False)


@command
def rank(model: Model, table: Responses, *, users: Users, output: Output, options: Options) -> None:
    """Sort the responses to each prompt, best first.

    Adds the columns rank and reward. Rows of one prompt (and of one user, where there is a user_id) must
    stand together. Users are chosen as in score.
    """
    from pal.cli import commands

    commands.score(model, table, vars(output), vars(users), vars(options), ranked=True)


@command
def adapt(
    model: Model,
    table: Annotated[
        str, typer.Argument(metavar="FILE", help="Columns: prompt, chosen, rejected[, user_id][, label].")
    ],
    *,
    out: Out = "-",
    tastes: Annotated[
        Path | None, typer.Option("--taste", help="Tastes to add the comparisons to, exactly.")
    ] = None,
    forget: Annotated[
        bool, typer.Option("--forget", help="Take the comparisons out of --taste, exactly.")
    ] = False,
    options: Options,
) -> None:
    """Locate new users by their comparisons: write their tastes.

    One JSON object a line and user. A table without user_id is one person's. label is P(chosen is
    preferred); 1 where it is not given.
    """
    from pal.cli import commands

    commands.adapt(model, table, out, tastes, vars(options), forget=forget)


@command
def ask(
    model: Model,
    table: Annotated[
        str, typer.Argument(metavar="CANDIDATES", help="Columns: prompt, response_a, response_b.")
    ],
    *,
    user: Annotated[str | None, typer.Option(help="Who is asked, where --taste holds several.")] = None,
    tastes: Annotated[
        Path | None, typer.Option("--taste", help="Tastes, as `pal adapt` writes them.")
    ] = None,
    number: Annotated[int, typer.Option("--number", "-n", min=1, help="How many pairs.")] = 10,
    together: Annotated[
        bool, typer.Option("--together", help="To be asked together (at most 10): none repeats another.")
    ] = False,
    output: Output,
    options: Options,
) -> None:
    """Say which pairs to put to someone next.

    Pairs whose answers tell most come first. The column bits is what an answer is expected to tell, 0 to 1.
    Without --taste the user is new.
    """
    from pal.cli import commands

    commands.ask(model, table, vars(output), user, tastes, vars(options), number=number, together=together)


@command
def inspect(
    model: Model,
    table: Annotated[
        str | None, typer.Argument(metavar="[FILE]", help="Columns: prompt, response; several to a prompt.")
    ] = None,
    *,
    number: Annotated[int, typer.Option("--number", "-n", min=1, help="Responses a prototype.")] = 5,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
    options: Options,
) -> None:
    """Say what a model is, and what its prototypes like.

    Without FILE, how users spread over the prototypes; with it, what each likes most and least too.
    """
    from pal.cli.inspect import inspect as inspect_model

    inspect_model(model, table, vars(options), number=number, as_json=as_json)


def main() -> None:
    """Run a command; warnings are printed as sentences too."""
    import warnings

    def print_warning(message: Any, *_: Any, **__: Any) -> None:
        print(f"warning: {message}", file=sys.stderr)

    warnings.showwarning = print_warning
    app()


if __name__ == "__main__":
    main()
