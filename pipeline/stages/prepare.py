"""prepare: turn raw files, or nothing but a seed, into items and pairs."""

from pal.files import new_folder
from pipeline import params, paths
from pipeline.datasets import DATASETS
from pipeline.storage import raw_files
from pipeline.storage.tables import write_manifest


def main(dataset: str) -> None:
    """Write one dataset's items and pairs, and count what was read, kept and dropped."""
    values = params.load()
    manifest = raw_files.read_manifest(dataset)
    raw_files.renew(dataset, lambda: DATASETS[dataset].find(values))
    files = {file.name: raw_files.stored(file, dataset) for file in manifest.files}
    with new_folder(paths.prepared(dataset)) as out:
        counts = DATASETS[dataset].prepare(values, files, out)
        write_manifest(out, counts=counts, source=manifest.source)
    print(f"prepare@{dataset}: " + ", ".join(f"{count:,} {name}" for name, count in counts.items()))
