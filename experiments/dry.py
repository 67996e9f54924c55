"""Dry runs: an entry's code path on a little data of the same shape, which is never a result.

Pick-a-Pic's shape is drawn (pictures that the program draws, in its files), TL;DR's is made of random words;
Persona's is the sample of the project.
"""

import json
import random
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from experiments.entries import ROOT, Run
from pipeline.datasets import drawn_scenes

PICTURES = {"train": 20, "validation": 3, "test": 10}
PEOPLE = (drawn_scenes.Crowd(40, (15, 18), 2, 8), drawn_scenes.Crowd(4, (0, 0), 1, 5))
SAMPLE = ROOT / "data/sample/persona"
SMALL = {"latent": 8, "hidden": 8}
FIT = {"epochs": 1, "validate_every": 1}


@contextmanager
def source(run: Run) -> Iterator[tuple[Run, str]]:
    """A small version of an entry's run, and where data of its shape lie for as long as the block runs."""
    small = smaller(run)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name) / run.needs
        if run.needs.startswith("pickapic"):
            write_pictures(folder)
            if run.needs != "pickapic_v1":
                write_version_1(folder)
        elif run.needs == "summarize":
            write_summaries(folder)
        yield small, {"nothing": "generated", "persona": str(SAMPLE)}.get(run.needs, str(folder))


def smaller(run: Run) -> Run:
    """One seed, a narrow head, the ends of every axis, few users and epochs, an encoder without weights."""
    grid = {axis: sorted({min(v), max(v)}) if len(v) > 1 else v for axis, v in run.grid.items()}
    if run.dataset == "persona":
        grid["groups"] = [2] if "groups" in grid else grid.pop("groups", [])
    prepare = {**run.prepare, **_few(run)}
    if "groups" in prepare:
        prepare["groups"] = min(int(prepare["groups"]), 3)
    encoder: Any = run.encoder if run.encoder == "none" else "hashed-words"
    if run.needs.startswith("pickapic"):
        encoder = {"text": "hashed-words", "image": "classical"}
    return run.model_copy(
        update={
            "grid": {axis: values for axis, values in grid.items() if values},
            "only": {},
            "seeds": run.seeds[:1],
            "head": {**run.head, **SMALL},
            "prepare": prepare,
            "encoder": encoder,
            "fit": {name: {**run.fit.get(name, {}), **FIT, **_few_restarts(name)} for name in run.presets},
            "shots": [n for n in run.shots if n <= 5] or ([1] if run.shots else []),
            "scales": {},
        }
    )


def _few_restarts(name: str) -> dict[str, int]:
    return {"restarts": 1} if name == "ours" else {}


def _few(run: Run) -> dict[str, Any]:
    """Knobs of a study of a few users."""
    if run.dataset == "simulated":
        return {
            "seen_users_per_group": 6,
            "unseen_users_per_group": 2,
            "adapt_pairs": 5,
            "val_pairs": 2,
            "test_pairs": 5,
            **({} if "train_pairs" in run.grid else {"train_pairs": 8}),
        }
    if run.dataset == "persona":
        return {
            "users_per_group": 6,
            "unseen_users_per_group": 3,
            "adapt_pairs": 5,
            "val_pairs": 2,
            "test_pairs": 5,
            "new_test_pairs": 5,
            **({} if "train_pairs" in run.grid else {"train_pairs": 20}),
        }
    return {"min_labels": 5, "seen_users_per_group": 10} if run.dataset == "pickafilter" else {}


def write_pictures(folder: Path) -> None:
    """Pick-a-Pic's files with drawn pictures: train, validation and test."""
    folder.mkdir()
    draw = random.Random("dry")  # noqa: S311 - no secret
    chosen = iter(draw.sample(drawn_scenes.scenes(), sum(PICTURES.values())))
    drawn = {split: [_pair(draw, next(chosen)) for _ in range(n)] for split, n in PICTURES.items()}
    drawn_scenes.write_answers(folder, drawn, PEOPLE, draw)


def write_version_1(second: Path) -> None:
    """Version 1 beside version 2: it trained on half of the prompts that version 2 tests on.

    One of those whom version 2 only tests stays new to version 1's training too.
    """
    import polars as pl

    first = second.with_name("pickapic_v1")
    first.mkdir()
    for split in PICTURES:
        rows = pl.read_parquet(next(second.glob(f"{split}-*.parquet")))
        if split == "train":
            test = pl.read_parquet(next(second.glob("test-*.parquet")))
            some = sorted(test["caption"].unique())[::2]
            new = sorted(set(test["user_id"]) - set(rows["user_id"]))[:1]
            there = pl.col("caption").is_in(some) & ~pl.col("user_id").is_in(new)
            rows = pl.concat([rows, test.filter(there)])
        rows.write_parquet(first / f"{split}-00000-of-00001.parquet")


def _pair(draw: random.Random, scene: drawn_scenes.Scene) -> drawn_scenes.Drawn:
    wrong = draw.choice(drawn_scenes.DEFECTS)
    jpegs = [
        drawn_scenes.jpeg(drawn_scenes.draw(scene, f"{scene.prompt} {draw.random()}", w))
        for w in (None, wrong)
    ]
    return drawn_scenes.Drawn(
        scene.prompt, (drawn_scenes.uid(draw), drawn_scenes.uid(draw)), (jpegs[0], jpegs[1])
    )


def write_summaries(folder: Path, rows: int = 9_000, workers: int = 30) -> None:
    """OpenAI's files with random words: the last ten workers occur in validation alone."""
    draw = random.Random("dry")  # noqa: S311 - no secret
    words = [f"word{i}" for i in range(300)]
    lines = []
    for i in range(rows):
        split = draw.choice(["train", "valid1", "valid2"])
        last = workers - 10 if split == "train" else workers
        summaries = [
            {
                "text": " " + " ".join(draw.choices(words, k=draw.randint(2, 9))),
                "policy": policy,
                "note": None,
            }
            for policy in ("sup1", "sup2")
        ]
        row = {
            "info": {"id": f"t3_{i}", "post": " ".join(draw.choices(words, k=30)), "title": "t"},
            "summaries": summaries,
            "choice": draw.randrange(2),
            "worker": f"worker{int(last * draw.random() ** 1.5):02d}",
            "batch": "batch3",
            "split": split,
        }
        lines.append(json.dumps(row) + "\n")
    (folder / "comparisons").mkdir(parents=True)
    (folder / "comparisons" / "batch3.json").write_text("".join(lines), encoding="utf-8")
