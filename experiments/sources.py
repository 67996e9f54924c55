"""Where each dataset's real data are, if they are here: never a sample passed off as real."""

import os
from contextlib import chdir
from pathlib import Path

from experiments.entries import ROOT, Needs
from pipeline import hashes, params

NAMES = {
    "nothing": "nothing but a seed",
    "persona": "Anthropic's Persona files",
    "pickapic_v1": "Pick-a-Pic v1",
    "pickapic_v2": "Pick-a-Pic v2",
    "summarize": "OpenAI's TL;DR comparisons",
}


def find(needs: Needs) -> str | None:
    """The source of the real data as params.yaml would name it; None where they are not here.

    Looked for in the variable PAL_PERSONA, PAL_PICKAPIC_V1 and so on, and in what params.yaml names where
    that is a folder. Nothing is ever fetched: `hub` in params.yaml is the shipped value, and 200 GB.
    """
    if needs == "nothing":
        return "generated"
    if needs == "persona":
        beside = Path(os.environ.get("PAL_PERSONA") or ROOT.parent / "shared/data/persona").resolve()
        if (beside / "interest-in-art.jsonl").is_file():
            return str(beside)
    with chdir(ROOT):
        named = os.environ.get(f"PAL_{needs.upper()}") or getattr(params.load().source, needs)
    folder = (ROOT / Path(named).expanduser()).resolve()
    return str(folder) if named not in ("hub", "sample") and folder.is_dir() else None


def missing(needs: Needs) -> str:
    """What to say of an entry that could not run."""
    return f"not run: needs {NAMES[needs]}"


def fingerprint(needs: Needs) -> dict[str, object]:
    """What the real data are now: DVC cannot see a folder outside the repository change."""
    source = find(needs)
    if source is None or needs == "nothing":
        return {"source": source}
    folder = Path(source)
    names = [p for p in sorted(folder.rglob("*")) if p.suffix in (".jsonl", ".json", ".parquet")]
    return {"sha256": {str(path.relative_to(folder)): hashes.sha256(path) for path in names}}
