"""check: hold params.yaml to what is allowed, and fingerprint what the sources name now.

The one stage that runs every time. DVC compares only the keys that a stage names, so a mistyped one would
rerun nothing and be seen by nobody; and it cannot see a user's folder change outside the repository.
"""

from dataclasses import asdict

from pal.files import new_folder, write_json
from pipeline import params, paths
from pipeline.datasets import DATASETS
from pipeline.storage import raw_files


def main() -> None:
    """Check all parameters, look into every chosen dataset's source, write one fingerprint each."""
    values = params.load()
    if not str(paths.project_root().resolve()).isascii():
        fails = "DVC's queue fails in a folder whose path has letters beyond ASCII"
        print(f"warning: {fails}; `dvc repro` does not")
    fingerprints = {}
    for name in values.datasets:
        source = DATASETS[name].find(values)
        for sentence in (source.check() if source.check else None) or ():
            print(f"check: {name}: {sentence}")
        files, remotes = {**source.paths, **source.links}, [asdict(remote) for remote in source.remotes]
        hashes = {file: raw_files.cached_sha256(path) for file, path in files.items()}
        fingerprints[name] = {"source": source.source, "remotes": remotes, "sha256": hashes}
    with new_folder(paths.fingerprint("any").parent) as folder:
        for name, fingerprint in fingerprints.items():
            write_json(folder / f"{name}.json", fingerprint)
