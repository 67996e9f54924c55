"""The command line: run entries of paper.yaml, write the ledger and its page.

python -m experiments persona-5a
"""

import sys
from typing import Annotated

import typer

app = typer.Typer(
    help="The paper's experiments; paper.yaml declares them.",
    add_completion=False,
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
)


@app.command()
def run(
    entry: Annotated[str | None, typer.Argument(help="An entry of paper.yaml; all without one.")] = None,
    scale: Annotated[str | None, typer.Option(help="laptop or paper; as paper.yaml says by default.")] = None,
    *,
    judge: Annotated[bool, typer.Option("--judge", help="Run nothing: judge what was measured.")] = False,
) -> None:
    """Run one entry, or all whose data are there; then write the ledger and its page."""
    from experiments import entries, ledger, running

    for name in [] if judge else [entry] if entry else entries.load().entries:
        print(running.main(name, scale=scale))
    print(ledger.main())


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
