"""results: the accuracies in the terminal, and where the report lies."""

from typing import Any

from pipeline import params, paths
from pipeline.storage.manifests import read_json


def main() -> None:
    """Print one table per dataset."""
    for dataset in params.load().datasets:
        found = read_json(paths.metrics(dataset), f"evaluate@{dataset}")
        print(f"\n{dataset}")
        for name, value in flatten(found):
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
