"""The command line: score, rank, adapt, ask and inspect.

pal rank data/models/own/model answers.csv --user ann
"""

import sys
from contextlib import nullcontext
from enum import StrEnum
from pathlib import Path
from typing import Annotated, Any

import typer
from typer.core import TyperGroup


class Commands(TyperGroup):
    """Commands whose errors a user can mend, each told in one sentence."""

    def invoke(self, ctx: Any) -> Any:
        """Run a command.

        Raises:
            typer.Exit: With exit code 1, once the sentence is told.
        """
        try:
            return super().invoke(ctx)
        except (ValueError, OSError) as error:
            from pal.errors import PalError
            from pal.files import forget_output, sentence

            if isinstance(error, ValueError) and not isinstance(error, PalError):
                raise
            told = sentence(error) if isinstance(error, OSError) else error
            typer.echo(f"error: {told}", err=True)
            if isinstance(error, OSError):
                forget_output()
            raise typer.Exit(1) from None


app = typer.Typer(
    cls=Commands,
    help=(
        "Reward models that differ from person to person, at work on tables.\n\n"
        "Tables are JSONL, CSV or Parquet, by their suffix; - is standard input or output, JSONL unless "
        "--format says otherwise. Other columns are passed on. Cells are texts, or paths of images (relative "
        "to the table) where the model's encoder reads images; models that were fitted on vectors read lists "
        "of numbers.\n\n"
        "Exit codes: 0 done, 1 something in what was given can be mended (one sentence on standard error), "
        "2 the command was not understood."
    ),
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,  # plain help starts in half the time
)


class Format(StrEnum):
    """What a table is."""

    jsonl = "jsonl"
    csv = "csv"
    parquet = "parquet"


class Kind(StrEnum):
    """What cells stand for."""

    text = "text"
    image = "image"


Model = Annotated[
    Path, typer.Argument(metavar="MODEL", help="The model's folder, as `RewardModel.save` writes it.")
]
Out = Annotated[str, typer.Option("--out", "-o", help="Where to: a file, or - for standard output.")]
Formatted = Annotated[
    Format | None, typer.Option("--format", help="Of standard input and output, and where no suffix tells.")
]
User = Annotated[str | None, typer.Option(help="Whose: someone seen in fitting, or in the file of --taste.")]
Tastes = Annotated[Path | None, typer.Option("--taste", help="Tastes, as `pal adapt` writes them.")]
Average = Annotated[bool, typer.Option("--average", help="The average user, whatever user_id says.")]
Weights = Annotated[
    list[str] | None,
    typer.Option(help="NAME=PLACE: an encoder's weights come from `package`, `hub` or a folder. Repeatable."),
]
Device = Annotated[str, typer.Option(help="Where encoders compute: cpu or cuda.")]
Prompts = Annotated[Kind | None, typer.Option(help="What prompts are, where the encoder reads both.")]
Responses = Annotated[Kind | None, typer.Option(help="What responses are, where the encoder reads both.")]


@app.command()
def score(
    model: Model,
    table: Annotated[str, typer.Argument(metavar="FILE", help="Columns: prompt, response[, user_id].")],
    *,
    user: User = None,
    tastes: Tastes = None,
    average: Average = False,
    out: Out = "-",
    kind: Formatted = None,
    weights: Weights = None,
    device: Device = "cpu",
    prompts: Prompts = None,
    responses: Responses = None,
) -> None:
    """Add the column reward to a table of responses.

    Whose reward: --user's; the only one's in --taste; each row's user_id; else the average user's. Only
    differences for one user and one prompt mean anything.
    """
    whose = {"user": user, "path": tastes, "average": average}
    _score(model, table, out, kind, whose, _options(weights, device, prompts, responses), ranked=False)


@app.command()
def rank(
    model: Model,
    table: Annotated[str, typer.Argument(metavar="FILE", help="Columns: prompt, response[, user_id].")],
    *,
    user: User = None,
    tastes: Tastes = None,
    average: Average = False,
    out: Out = "-",
    kind: Formatted = None,
    weights: Weights = None,
    device: Device = "cpu",
    prompts: Prompts = None,
    responses: Responses = None,
) -> None:
    """Put the responses to each prompt in order, best first.

    Adds the columns rank and reward. Rows of one prompt (and of one user, where there is a user_id) must
    stand together. Whose: as in score.
    """
    whose = {"user": user, "path": tastes, "average": average}
    _score(model, table, out, kind, whose, _options(weights, device, prompts, responses), ranked=True)


@app.command()
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
    kind: Formatted = None,
    weights: Weights = None,
    device: Device = "cpu",
    prompts: Prompts = None,
    responses: Responses = None,
) -> None:
    """Locate new users by their comparisons: their tastes.

    One JSON object a line and user. A table without user_id is one person's. label is P(chosen is
    preferred); 1 where it is not given.
    """
    from pal.cli.adapt import adapt as work

    options = _options(weights, device, prompts, responses)
    with _table(table, kind, "chosen", "rejected") as source:
        work(source, model, out, tastes, options, forget=forget)


@app.command()
def ask(
    model: Model,
    table: Annotated[
        str, typer.Argument(metavar="CANDIDATES", help="Columns: prompt, response_a, response_b.")
    ],
    *,
    user: Annotated[str | None, typer.Option(help="Who is asked, where --taste holds several.")] = None,
    tastes: Tastes = None,
    number: Annotated[int, typer.Option("--number", "-n", min=1, help="How many pairs.")] = 10,
    together: Annotated[
        bool, typer.Option("--together", help="To be put together (at most 10): none repeats another.")
    ] = False,
    out: Out = "-",
    kind: Formatted = None,
    weights: Weights = None,
    device: Device = "cpu",
    prompts: Prompts = None,
    responses: Responses = None,
) -> None:
    """Say which pairs to put to someone next.

    Those whose answers tell most come first. The column bits is what an answer is expected to tell, 0 to 1.
    Without --taste it is someone new.
    """
    from pal.cli.ask import ask as work

    options = _options(weights, device, prompts, responses)
    with _table(table, kind, "response_a", "response_b") as source:
        work(source, model, out, kind, (user, tastes), options, number=number, together=together)


@app.command()
def inspect(
    model: Model,
    table: Annotated[
        str | None, typer.Argument(metavar="[FILE]", help="Columns: prompt, response; several to a prompt.")
    ] = None,
    *,
    number: Annotated[int, typer.Option("--number", "-n", min=1, help="Responses a prototype.")] = 5,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
    kind: Formatted = None,
    weights: Weights = None,
    device: Device = "cpu",
    prompts: Prompts = None,
    responses: Responses = None,
) -> None:
    """Say what a model is, and what its prototypes like.

    Without FILE, how users spread over the prototypes; with it, what each likes most and least too.
    """
    from pal.cli.inspect import inspect as work

    options = _options(weights, device, prompts, responses)
    with nullcontext() if table is None else _table(table, kind, "response") as source:
        work(model, source, options, number=number, as_json=as_json)


def _score(
    model: Path,
    table: str,
    out: str,
    kind: Format | None,
    whose: dict[str, Any],
    options: dict[str, Any],
    *,
    ranked: bool,
) -> None:
    from pal.cli.score import score as work

    with _table(table, kind, "response") as source:
        work(source, model, out, kind, whose, options, ranked=ranked)


def _table(path: str, kind: Format | None, *needed: str) -> Any:
    from pal.cli.tables import Table

    return Table(path, kind, needed)


def _options(
    weights: list[str] | None, device: str, prompts: Kind | None, responses: Kind | None
) -> dict[str, Any]:
    return {"weights": weights or (), "device": device, "prompts": prompts, "responses": responses}


def main() -> None:
    """Run a command; warnings are sentences too."""
    import warnings

    def told(message: Any, *_: Any, **__: Any) -> None:
        print(f"warning: {message}", file=sys.stderr)

    warnings.showwarning = told
    app()


if __name__ == "__main__":
    main()
