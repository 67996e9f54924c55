"""The command line: one command per stage, in the pipeline's order, and `results`.

python -m pipeline train persona
"""

import sys
from typing import Annotated, Any

import typer
from typer.core import TyperGroup

from pipeline.errors import PipelineError


class Commands(TyperGroup):
    """Commands that say so when nobody reads what they print; click would end without a word."""

    def invoke(self, ctx: Any) -> Any:
        """Run a command.

        Raises:
            PipelineError: If standard output is closed.
        """
        try:
            return super().invoke(ctx)
        except BrokenPipeError:
            raise PipelineError(
                "standard output cannot be written (Broken pipe); whoever read it has ended"
            ) from None


app = typer.Typer(
    cls=Commands,
    help="PAL's stages, as dvc.yaml runs them. They read params.yaml, and run without DVC too.",
    add_completion=False,
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,  # plain help starts in half the time
)
Dataset = Annotated[str, typer.Argument(help="A dataset of params.yaml, such as persona or own.")]


@app.command()
def check() -> None:
    """Check params.yaml, and fingerprint the sources."""
    from pipeline.stages import check

    check.main()


@app.command()
def code() -> None:
    """Fingerprint the code that each stage runs."""
    from pipeline import code

    code.main()


@app.command()
def download(dataset: Dataset) -> None:
    """Bring raw files into the store, pinned by their hashes."""
    from pipeline.stages import download

    download.main(_known(dataset))


@app.command()
def prepare(dataset: Dataset) -> None:
    """Turn raw files into items and pairs."""
    from pipeline.stages import prepare

    prepare.main(_known(dataset))


@app.command()
def recolour(dataset: Dataset) -> None:
    """Give images their colour filters; text and vectors pass."""
    from pipeline.stages import recolour

    recolour.main(_known(dataset))


@app.command()
def split(dataset: Dataset) -> None:
    """Mark users seen or unseen, pairs train, adapt, val or test."""
    from pipeline.stages import split

    split.main(_known(dataset))


@app.command()
def encode(
    dataset: Dataset,
    rank: Annotated[int | None, typer.Option(help="Encode this share alone, from 0, into the store.")] = None,
    world: Annotated[int | None, typer.Option(help="How many shares; 1 does everything.")] = None,
) -> None:
    """Embed every item once with the frozen encoder.

    Without --rank and --world: as torchrun's RANK and WORLD_SIZE or SLURM's SLURM_PROCID and SLURM_NTASKS
    say, else everything. A rank puts vectors into the store (PAL_STORE, shared by all) and waits for nobody;
    the run with --world 1 afterwards, or `dvc repro`, writes the shards and encodes what is still missing.
    """
    from pipeline.stages import encode

    encode.main(_known(dataset), rank, world)


@app.command("choose-k")
def choose_k(
    dataset: Dataset,
    *,
    if_auto: Annotated[
        bool, typer.Option("--if-auto", help="Only where model.K is auto; else note the number.")
    ] = False,
) -> None:
    """Find how many prototypes a dataset asks for, by cross-validation."""
    from pipeline.stages import choose_k

    choose_k.main(_known(dataset), always=not if_auto)


@app.command()
def train(dataset: Dataset) -> None:
    """Fit the head, and the baselines beside it."""
    from pipeline.stages import train

    train.main(_known(dataset))


@app.command()
def evaluate(dataset: Dataset) -> None:
    """Measure accuracy on seen and on unseen users."""
    from pipeline.stages import evaluate

    evaluate.main(_known(dataset))


@app.command()
def report() -> None:
    """Write the report, one HTML page that opens offline."""
    from pipeline.stages import report

    report.main()


@app.command()
def results() -> None:
    """Print the accuracies as a table, and the report's path."""
    from pipeline import results

    results.main()


@app.command()
def verify(
    *,
    mend: Annotated[
        bool, typer.Option("--mend", help="Remove what is wrong, so that it is made anew.")
    ] = False,
) -> None:
    """Hold every byte to its hash; say how to mend what is wrong."""
    from pipeline.storage import verify

    verify.main(mend=mend)


@app.command()
def store(
    *,
    clean: Annotated[bool, typer.Option("--clean", help="Remove what nobody refers to.")] = False,
    days: Annotated[float, typer.Option(min=0, help="Keep what is younger, whoever refers to it.")] = 7,
) -> None:
    """Show what the store holds, and what could go.

    Referred to are the raw files of this repository and of all others that used this store and are still
    where they were, older versions in their DVC caches included, and the embeddings that were used when a
    dataset was last encoded. Nothing is removed without --clean.
    """
    from pipeline.storage import cleanup

    cleanup.main(clean=clean, days=days)


def _known(dataset: str) -> str:
    from pipeline.datasets import DATASETS

    if dataset not in DATASETS:
        raise PipelineError(f"dataset must be one of {', '.join(DATASETS)}, got {dataset!r}")
    return dataset


def main() -> None:
    """Run a command; what a user can mend is one sentence and exit code 1."""
    from pal.errors import PalError
    from pal.files import sentence

    try:
        _put_back()
        try:
            app()
        finally:
            _flush()
    except PalError as error:
        print(f"error: {error}", file=sys.stderr)
        sys.exit(1)
    except OSError as error:
        print(f"error: {sentence(error)}", file=sys.stderr)
        sys.exit(1)


def _flush() -> None:
    """Print what is left in the buffer: when Python ends that would fail with nobody to tell.

    Raises:
        PipelineError: If it cannot be printed.
    """
    from pal.files import forget_output, sentence

    try:
        sys.stdout.flush()
    except OSError as error:
        forget_output()
        raise PipelineError(sentence(error, "standard output cannot be written")) from None


def _put_back() -> None:
    """See to what a killed run left: where it had moved an old output away, that takes its place again."""
    from pathlib import Path

    from pal.files import sweep

    for place in Path("data").glob("*"):
        sweep(place)


if __name__ == "__main__":
    main()
