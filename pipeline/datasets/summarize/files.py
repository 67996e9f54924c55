"""OpenAI's TL;DR comparisons as rows: the raw JSON lines and the hub's converted Parquet give the same frame.

Only what a protocol needs is kept of a row; a key that is absent is null. Rows that are no comparison at all
are refused at the first one; whether a row without worker, post or text takes part is the protocol's choice.
"""

from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING

from pipeline.datasets.summarize import json_lines as summarize_json
from pipeline.datasets.summarize import parquet as summarize_parquet
from pipeline.datasets.summarize.rows import schema
from pipeline.errors import PipelineError

if TYPE_CHECKING:
    import polars as pl

JSON, PARQUET = (".json", ".jsonl"), (".parquet",)


@dataclass(frozen=True)
class Comparisons:
    """All comparisons that were read.

    Args:
        frame: One row each: worker, batch, split (train or validation), post (Reddit) or article (CNN/DM),
            text_0, policy_0, text_1, policy_1 and choice, the preferred summary's number. Ordered by content,
            so that what is drawn from it does not depend on the files' layout.
        axis_files: Files of ratings along axes, which hold no comparisons and were passed over.
    """

    frame: "pl.DataFrame"
    axis_files: int


def find(source: str, folder: Path) -> dict[str, Path]:
    """The files of comparisons in a folder, or in `comparisons` within it, by their names there.

    Args:
        source: The folder as params.yaml names it.
        folder: The folder.

    Raises:
        PipelineError: If there are none, or of both layouts, whose rows would count twice.
    """
    home = folder / "comparisons" if (folder / "comparisons").is_dir() else folder
    files = sorted(file for file in home.rglob("*") if file.suffix in JSON + PARQUET and file.is_file())
    layouts = {file.suffix in PARQUET for file in files}
    if len(layouts) == 1:
        return {file.relative_to(home).as_posix(): file for file in files}
    got = "both" if layouts else "neither"
    raise PipelineError(
        "summarize.source must be hub, or a folder of OpenAI's comparisons/*.json files or of the hub's "
        f"converted comparisons/**/*.parquet, got {source!r}, which has {got}"
    )


def look(name: str, path: Path) -> bool:
    """Whether a file holds comparisons, from its first row or its schema alone; False for axis ratings.

    Raises:
        PipelineError: If it holds neither.
    """
    if path.stat().st_size == 0:
        raise PipelineError(f"{name} is empty (0 bytes); download it again")
    return _reader(name).look(name, path)


def read(files: dict[str, Path]) -> Comparisons:
    """Read all files, a chunk of rows at a time.

    Args:
        files: Where each file's bytes lie, by the name that says what it is.

    Raises:
        PipelineError: Naming the file and the line or row of the first that is no comparison.
    """
    import polars as pl

    here = {name: path for name, path in files.items() if look(name, path)}
    frames = [chunk for name, path in here.items() for chunk in _reader(name).chunks(name, path)]
    frame = pl.concat([pl.DataFrame(schema=schema()), *frames])
    if frame.is_empty():
        raise PipelineError(
            f"summarize.source must hold at least one comparison, got {len(files) - len(here)} files of axis "
            f"ratings and {len(here)} files without rows; name the folder of OpenAI's comparisons"
        )
    return Comparisons(frame.sort(frame.columns), len(files) - len(here))


def _reader(name: str) -> ModuleType:
    return summarize_parquet if Path(name).suffix in PARQUET else summarize_json
