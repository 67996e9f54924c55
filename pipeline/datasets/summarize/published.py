"""The published row counts of TL;DR's protocols, and what a reader should know where ours differ."""

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import polars as pl

# The published sizes of the real data, and of what the protocols leave of it.
FULL = {"train": 92_858, "validation": 86_086}
PUBLISHED: dict[str, dict[str, int]] = {
    "stiennon": {},
    "li2024": {
        "training rows of supervised policies": 38_487,
        "validation rows of supervised policies": 16_294,
        "train comparisons of seen users": 20_969,
        "val comparisons of seen users": 2_330,
        "test comparisons of seen users": 4_921,
        "test comparisons of unseen users": 11_373,
    },
    "iclr_simulated": {
        "train comparisons of seen users": 20_969,
        "val comparisons of seen users": 2_330,
        "test comparisons of seen users": 4_921,
        "unseen users": 31,
    },
    "lore": {},
}


def notes(protocol: str, split: "pl.Series", sizes: dict[str, int]) -> list[str]:
    """Whether the row counts are the published ones: the one sign that others read the same rows."""
    got = {name: int((split == name).sum()) for name in FULL}
    if got != FULL:
        expected, here = (f"{n['train']:,} training and {n['validation']:,} validation" for n in (FULL, got))
        return [f"These are not the full published comparisons ({expected} rows), but {here} rows."]
    published = PUBLISHED[protocol]
    if not published:
        return [
            f"These are the full published comparisons; no row counts of protocol {protocol} are published."
        ]
    wrong = {name: n for name, n in published.items() if sizes.get(name, 0) != n}
    if not wrong:
        return [f"All {len(published)} row counts of protocol {protocol} are the published ones."]
    return [
        f"Protocol {protocol} should give {n:,} {name}, as published, but gives {sizes.get(name, 0):,}."
        for name, n in wrong.items()
    ]
