"""The command line: run an entry, write the ledger and its page.

python -m experiments run persona-5a
"""

import sys
from typing import Annotated

import typer

app = typer.Typer(
    help="The paper's experiments, as experiments/dvc.yaml runs them; paper.yaml declares them.",
    add_completion=False,
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
)


@app.command()
def run(
    entry: Annotated[str, typer.Argument(help="An entry of paper.yaml.")],
    scale: Annotated[str | None, typer.Option(help="laptop or paper; as paper.yaml says by default.")] = None,
    dry: Annotated[bool, typer.Option(help="On data of the same shape; nothing is a result.")] = False,  # noqa: FBT002
) -> None:
    """Run one entry, or say that its data are not here."""
    from experiments import running

    print(running.main(entry, scale=scale, is_dry=dry))


@app.command()
def ledger() -> None:
    """Hold what was found against what was published: metrics/paper.json and the page."""
    from experiments import ledger, page

    ledger.main()
    print(page.main())


@app.command()
def cost(
    scale: Annotated[str | None, typer.Option(help="laptop or paper; as paper.yaml says by default.")] = None,
) -> None:
    """Foresee how long the simulation's and Persona's entries take, without running any."""
    from experiments import cost

    print(cost.table(scale))


@app.command()
def search(
    dataset: Annotated[str, typer.Argument(help="simulated or persona.")],
) -> None:
    """Hold preset `ours` against 24 drawn configurations, on validation pairs; a quarter of an hour."""
    from experiments import search

    print(search.main(dataset))


@app.command()
def prints() -> None:
    """Fingerprint code and data, for DVC."""
    from experiments import prints

    prints.main()


def main() -> None:
    """Run a command; a user's mistake is one sentence."""
    from pal.errors import PalError

    try:
        app()
    except PalError as error:
        print(f"error: {error}", file=sys.stderr)
        sys.exit(1)


if __name__ == "__main__":
    main()
