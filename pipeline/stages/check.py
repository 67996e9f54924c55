"""check: hold params.yaml to what is allowed, and fingerprint what the sources name now.

The one stage that runs every time. DVC compares only the keys that a stage names, so a mistyped one would
rerun nothing and be seen by nobody; and it cannot see a user's folder change outside the repository.
"""

from dataclasses import asdict
from typing import Any

from pal.files import new_folder, write_json
from pipeline import params
from pipeline import paths as layout
from pipeline.datasets import DATASETS
from pipeline.datasets.base import Source
from pipeline.storage import hashes


def main() -> None:
    """Check all parameters, look into every chosen dataset's source, write one fingerprint each."""
    values = params.load()
    prints = {name: _fingerprint(DATASETS[name].find(values)) for name in values.datasets}
    with new_folder(layout.fingerprint("any").parent) as folder:
        for name, print_ in prints.items():
            write_json(folder / f"{name}.json", print_)


def _fingerprint(found: Source) -> dict[str, Any]:
    if found.check is not None:
        found.check()
    local = {**found.paths, **found.links}
    return {
        "source": found.source,
        "remotes": [asdict(remote) for remote in found.remotes],
        "sha256": {name: hashes.sha256(path) for name, path in local.items()},
    }
