"""prepare: turn raw files, or nothing but a seed, into items and pairs."""

from pipeline import datasets, layout, params, raw, tables
from pipeline.files import new_folder
from pipeline.manifest import write as write_manifest


def main(dataset: str) -> None:
    """Write one dataset's items and pairs, and count what was read, kept and dropped."""
    values = params.load()
    manifest = raw.read_manifest(dataset)
    files = {file.name: raw.stored(file, dataset) for file in manifest.files}
    with new_folder(layout.prepared(dataset)) as out:
        counts = datasets.of(dataset).prepare(values, files, out)
        write_manifest(out, counts, out / tables.PAIRS, source=manifest.source)
    print(f"prepare@{dataset}: " + ", ".join(f"{count:,} {name}" for name, count in counts.items()))
