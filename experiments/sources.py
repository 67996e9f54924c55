"""Where each dataset's real data are, if they are here: never a sample passed off as real."""

import os
from contextlib import chdir
from pathlib import Path

from benchmarks.studies import ROOT, real_data
from experiments.entries import Needs
from pipeline import params
from pipeline.storage import raw_files

NAMES = {
    "nothing": "nothing but a seed",
    "persona": "Anthropic's Persona files",
    "pickapic_v1": "Pick-a-Pic v1",
    "pickapic_v2": "Pick-a-Pic v2",
    "pickapic_v1_and_v2": "Pick-a-Pic v1 and v2",
    "summarize": "OpenAI's TL;DR comparisons",
}


def find(needs: Needs) -> str | None:
    """The source of the real data as params.yaml would name it; None where they are not here.

    Looked for in the variable PAL_PERSONA, PAL_PICKAPIC_V1 and so on, and in what params.yaml names where
    that is a folder. Nothing is ever fetched: `hub` in params.yaml is the shipped value, and 200 GB.
    """
    if needs == "nothing":
        return "generated"
    if needs == "pickapic_v1_and_v2":
        second = find("pickapic_v2")
        return second if second and first_version(second) else None
    if needs == "persona" and (beside := real_data("persona")):
        return str(beside)
    with chdir(ROOT):
        named = os.environ.get(f"PAL_{needs.upper()}") or params.load()[needs].source
    folder = (ROOT / Path(named).expanduser()).resolve()
    return str(folder) if named not in ("hub", "sample") and folder.is_dir() else None


def first_version(second: str) -> str | None:
    """Version 1 of Pick-a-Pic: beside version 2, or wherever else it is found; None where it is not here."""
    beside = Path(second).parent / "pickapic_v1"
    return str(beside) if beside.is_dir() else find("pickapic_v1")


def missing(needs: Needs) -> str:
    """What to say of an entry that could not run."""
    return f"not run: needs {NAMES[needs]}"


def fingerprint(needs: Needs) -> dict[str, object]:
    """The sha256 of the real data's files; the source alone where there are none."""
    source = find(needs)
    if source is None or needs == "nothing":
        return {"source": source}
    folders = {"sha256": source}
    if needs == "pickapic_v1_and_v2":
        folders = {"pickapic_v1": first_version(source) or source, "pickapic_v2": source}
    prints: dict[str, object] = {}
    for name, folder in folders.items():
        files = [p for p in sorted(Path(folder).rglob("*")) if p.suffix in (".jsonl", ".json", ".parquet")]
        prints[name] = {str(path.relative_to(folder)): raw_files.cached_sha256(path) for path in files}
    return prints
