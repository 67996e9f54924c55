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
) -> None:
    """Run one entry, or say that its data are not at hand."""
    from experiments import running

    print(running.main(entry, scale=scale))


@app.command()
def ledger() -> None:
    """Hold what was measured against what was published: metrics/paper.json and the page."""
    from experiments import ledger, page

    ledger.main()
    print(page.main())


@app.command()
def prints() -> None:
    """Fingerprint the real data that entries need, for DVC."""
    from experiments import sources

    sources.main()


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
