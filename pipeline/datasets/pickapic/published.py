"""What was published of Pick-a-Pic, and how what was read compares: said, never enforced.

A folder may hold a part of the data on purpose, and a mirror may have left rows out.
"""

from pathlib import Path
from typing import Any

from pal.files import write_json
from pipeline.datasets import pickapic

ROWS = {
    "v1": {
        "train": 583_747, "validation": 17_439, "test": 14_073, "validation_unique": 500, "test_unique": 500,
    },
    "v2": {
        "train": 959_040, "validation": 20_596, "test": 20_716, "validation_unique": 500, "test_unique": 500,
    },
}  # fmt: skip
LEAKAGE = {"leakage": 10_587, "no_leakage": 7_804}


def write(out: Path, version: str, files: dict[str, Path], leakage: dict[str, Any] | None = None) -> None:
    """Write published.json: numbers read beside numbers published, and a sentence, which is printed too.

    Args:
        out: The folder.
        version: v1 or v2.
        files: The raw files by name.
        leakage: What `pickapic_v2` counted, where it did.
    """
    rows = compare_rows(version, files)
    says = say_rows(version, rows)
    write_json(
        out / "published.json", {"says": says, "rows": rows, **({"leakage": leakage} if leakage else {})}
    )
    print(says)


def compare_rows(version: str, files: dict[str, Path]) -> dict[str, dict[str, int]]:
    """Rows of each split that has files, read and published."""
    compared = {}
    for split, published in ROWS[version].items():
        of_split = {name: path for name, path in files.items() if pickapic.split_of(name) == split}
        if of_split:
            compared[split] = {"read": pickapic.count_rows(of_split), "published": published}
    return compared


def say_rows(version: str, rows: dict[str, dict[str, int]]) -> str:
    """Whether these are the published data, in one sentence."""
    other = [
        f"{split} {row['read']:,} of {row['published']:,}"
        for split, row in rows.items()
        if row["read"] != row["published"]
    ]
    if other:
        return f"Not the published Pick-a-Pic {version}: rows of {', '.join(other)}."
    return f"The published Pick-a-Pic {version} by the rows of {', '.join(rows)}."
