"""The drawn sample: pictures that the program draws and people that it simulates, in Pick-a-Pic's own files.

Of a prompt's two pictures one is neat and one has a defect. Everyone sees the neat one as better, but errs
now and then, or finds them equal. Nobody's taste differs here: the colour filters add that. Some people
answer little, or in one split alone, as in the real data, so that choosing users has something to do.
Pictures, people and answers are this project's own, under its licence.
"""

import io
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path
from random import Random
from typing import Any
from uuid import UUID

from pipeline.datasets.drawn import drawings

PROMPTS = {"train": 300, "validation": 30, "test": 90}
ERRS, TIES = 0.12, 0.05
QUALITY = 85  # of the JPEGs
ROW_GROUP_ROWS = 8_000
DICTIONARY_BYTES = 8 << 20  # a picture that many rows name lies once in a row group
START = datetime(2023, 1, 1)


@dataclass(frozen=True)
class Crowd:
    """People who answer alike much.

    Args:
        people: How many.
        train: Fewest and most answers in train; each gives a number between.
        validation: Answers in validation.
        test: Answers in test.
    """

    people: int
    train: tuple[int, int]
    validation: int
    test: int


CROWDS = (
    Crowd(150, (64, 120), 6, 18),
    Crowd(18, (8, 20), 1, 5),
    Crowd(10, (60, 80), 4, 0),
    Crowd(6, (0, 0), 2, 15),
)


@dataclass(frozen=True)
class Drawn:
    """A prompt and its two pictures, each with the id that rows know it by: the neat one, then the other."""

    prompt: str
    uids: tuple[str, str]
    jpegs: tuple[bytes, bytes]


def write(folder: Path, seed: int = 0) -> None:
    """Write the sample as one Parquet file a split; the same bytes for the same seed."""
    random = Random(f"scenes {seed}")  # noqa: S311 - no secret
    write_answers(folder, _draw_all(random), CROWDS, random)


def write_answers(
    folder: Path, drawn: dict[str, list[Drawn]], crowds: tuple[Crowd, ...], random: Random
) -> None:
    """Have people answer, and write what they say.

    Args:
        folder: Where to write.
        drawn: Each split's prompts with their pictures.
        crowds: The people.
        random: Decides who is asked what, and who errs.
    """
    asked = list(_ask(random, {split: len(prompts) for split, prompts in drawn.items()}, crowds))
    random.shuffle(asked)
    rows: dict[str, list[dict[str, Any]]] = {split: [] for split in drawn}
    for number, (user, split, prompt) in enumerate(asked):
        rows[split].append(_answer(random, number, user, drawn[split][prompt]))
    for split, answers in rows.items():
        _write_split(folder / f"{split}-00000-of-00001.parquet", answers)


def _draw_all(random: Random) -> dict[str, list[Drawn]]:
    """Each split's prompts, none in two splits, with two pictures each."""
    chosen = iter(random.sample(drawings.scenes(), sum(PROMPTS.values())))
    return {split: [_draw(random, next(chosen)) for _ in range(count)] for split, count in PROMPTS.items()}


def _draw(random: Random, scene: drawings.Scene) -> Drawn:
    defect = random.choice(drawings.DEFECTS)
    pictures = [drawings.draw(scene, f"{scene.prompt} {random.random()}", wrong) for wrong in (None, defect)]
    neat, spoilt = (jpeg(picture) for picture in pictures)
    return Drawn(scene.prompt, (uid(random), uid(random)), (neat, spoilt))


def jpeg(picture: "Image") -> bytes:  # noqa: F821
    """A picture as the bytes of a JPEG file."""
    out = io.BytesIO()
    picture.save(out, "JPEG", quality=QUALITY)
    return out.getvalue()


def uid(random: Random) -> str:
    """A picture's id."""
    return str(UUID(int=random.getrandbits(128), version=4))


def _ask(
    random: Random, prompts: dict[str, int], crowds: tuple[Crowd, ...]
) -> Iterator[tuple[int, str, int]]:
    """Who is asked about which prompt of which split, nobody twice about one."""
    user = 0
    for crowd in crowds:
        for _ in range(crowd.people):
            user += 1
            counts = {
                "train": random.randint(*crowd.train),
                "validation": crowd.validation,
                "test": crowd.test,
            }
            for split, count in counts.items():
                for prompt in random.sample(range(prompts[split]), count):
                    yield user, split, prompt


def _answer(random: Random, number: int, user: int, drawn: Drawn) -> dict[str, Any]:
    """One row: the neat picture on either side, and what the person made of the two."""
    first = random.randrange(2)
    equal, errs = random.random() < TIES, random.random() < ERRS
    label = 0.5 if equal else float((first == 0) != errs)
    best = "tie" if equal else drawn.uids[first if label else 1 - first]
    return {
        "are_different": True,
        "best_image_uid": best,
        "caption": drawn.prompt,
        "created_at": START + timedelta(minutes=number),
        "has_label": True,
        "image_0_uid": drawn.uids[first],
        "image_0_url": "",
        "image_1_uid": drawn.uids[1 - first],
        "image_1_url": "",
        "jpg_0": drawn.jpegs[first],
        "jpg_1": drawn.jpegs[1 - first],
        "label_0": label,
        "label_1": 1.0 - label,
        "model_0": "drawn",
        "model_1": "drawn",
        "ranking_id": number,
        "user_id": user,
    }


def _write_split(path: Path, rows: list[dict[str, Any]]) -> None:
    from collections import Counter

    import pyarrow as pa
    import pyarrow.parquet as pq

    from pal.files import new_file
    from pipeline.datasets import pickapic

    asked = Counter(row["caption"] for row in rows)
    for place, row in enumerate(rows):
        row |= {"num_example_per_prompt": asked[row["caption"]], "__index_level_0__": place}
    with new_file(path) as out:
        pq.write_table(
            pa.Table.from_pylist(rows, schema=pickapic.schema()),
            out,
            compression="zstd",
            row_group_size=ROW_GROUP_ROWS,
            use_dictionary=True,
            dictionary_pagesize_limit=DICTIONARY_BYTES,
        )
