"""The command line: one command per stage, in the pipeline's order, and results, verify and store.

python -m pipeline train persona
"""

import os
import sys
from collections.abc import Callable
from importlib import import_module
from pathlib import Path
from typing import Annotated, Any

import typer

from pipeline import PipelineError, paths

app = typer.Typer(
    help="PAL's stages, as dvc.yaml runs them. They read params.yaml, and run without DVC too.",
    add_completion=False,
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,  # plain help starts in half the time
)
Dataset = Annotated[str, typer.Argument(help="A dataset of params.yaml, such as persona or own.")]
Rank = Annotated[int | None, typer.Option(help="Encode this share alone, from 0, into the store.")]
World = Annotated[int | None, typer.Option(help="How many shares; 1 does everything.")]
IfAuto = Annotated[bool, typer.Option("--if-auto", help="Only where model.K is auto; else note the number.")]
Mend = Annotated[bool, typer.Option("--mend", help="Remove what is wrong, so that it is made anew.")]
Clean = Annotated[bool, typer.Option("--clean", help="Remove what nobody refers to.")]
Days = Annotated[float, typer.Option(min=0, help="Keep what is younger, whoever refers to it.")]
ENCODE = """

Without --rank and --world: as torchrun's RANK and WORLD_SIZE or SLURM's SLURM_PROCID and SLURM_NTASKS
say, else everything. A rank puts vectors into the store (PAL_STORE, shared by all) and waits for nobody;
the run with --world 1 afterwards, or `dvc repro`, writes the shards and encodes what is still missing.
"""


def command(stage: str) -> Callable[..., None]:
    """The function behind a stage's command; it imports the stage's module only when it runs."""

    def all_datasets() -> None:
        import_module(f"pipeline.stages.{stage}").main()

    def run(dataset: str, *args: Any, **options: Any) -> None:
        from pipeline import params
        from pipeline.datasets import DATASETS

        if dataset not in DATASETS and dataset not in (names := params.load().names):
            raise PipelineError(f"dataset must be one of {', '.join(names)}, got {dataset!r}")
        import_module(f"pipeline.stages.{stage.replace('-', '_')}").main(dataset, *args, **options)

    def one_dataset(dataset: Dataset) -> None:
        run(dataset)

    def encode(dataset: Dataset, rank: Rank = None, world: World = None) -> None:
        run(dataset, rank, world)

    def choose_k(dataset: Dataset, *, if_auto: IfAuto = False) -> None:
        run(dataset, always=not if_auto)

    others = {"check": all_datasets, "encode": encode, "choose-k": choose_k, "report": all_datasets}
    return others.get(stage, one_dataset)


for _stage, _help in paths.STAGES.items():
    app.command(_stage, help=_help + (ENCODE if _stage == "encode" else ""))(command(_stage))


@app.command()
def results() -> None:
    """Print the accuracies as a table, and the report's path."""
    from pipeline import params
    from pipeline.storage.tables import read_json

    for dataset in params.load().datasets:
        metrics = read_json(paths.metrics(dataset), f"evaluate@{dataset}")
        print(f"\n{dataset}")
        for name, value in flatten(metrics):
            print(f"  {name:<34} {shown(name, value)}")
    print(f"\nreport: {paths.REPORT}")


def shown(name: str, value: float | str) -> str:
    """An accuracy in per cent, a p-value as it is, and words, as of an untrained encoder, as they are."""
    if isinstance(value, str):
        return value
    return f"{value:9.4f}" if name.endswith("_p") else f"{100 * value:8.2f} %"


def flatten(tree: dict[str, Any], prefix: str = "") -> list[tuple[str, Any]]:
    """Nested metrics as dotted names and values, as `dvc metrics show` names them."""
    rows: list[tuple[str, Any]] = []
    for key, value in tree.items():
        rows += flatten(value, f"{prefix}{key}.") if isinstance(value, dict) else [(prefix + key, value)]
    return rows


@app.command()
def verify(*, mend: Mend = False) -> None:
    """Hold every byte to its hash; say how to mend what is wrong."""
    from pipeline.storage import upkeep

    upkeep.verify(mend=mend)


@app.command()
def store(*, clean: Clean = False, days: Days = 7) -> None:
    """Show what the store holds, and what could go.

    Referred to are the raw files of this repository and of all others that used this store and are still
    where they were, older versions in their DVC caches included, and the embeddings that were used when a
    dataset was last encoded. Nothing is removed without --clean.
    """
    from pipeline.storage import upkeep

    upkeep.clean(remove=clean, days=days)


def main() -> None:
    """Run a command; what a user can mend is one sentence and exit code 1."""
    from pal.errors import PalError
    from pal.files import forget_output, sentence, sweep

    if not sys.stderr.isatty():  # in a log a progress bar is a line now and then
        os.environ.setdefault("TQDM_MININTERVAL", "10")
    try:
        for place in Path("data").glob("*"):
            sweep(place)  # where a killed run had moved an old output away, that takes its place again
        try:
            app()
        finally:
            try:
                sys.stdout.flush()  # when Python ends, it would fail with nobody to tell
            except OSError as error:
                forget_output()
                raise PipelineError(sentence(error, "standard output cannot be written")) from None
    except (PalError, OSError) as error:
        print(f"error: {sentence(error) if isinstance(error, OSError) else error}", file=sys.stderr)
        sys.exit(1)


if __name__ == "__main__":
    main()
