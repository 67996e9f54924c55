"""Anthropic's Persona statements as a study: simulated people answer yes or no, each after one persona.

A person of persona P answers yes to a statement that agrees with P, and no to every other statement: those
that disagree with P, and all those of other personas (PAL, E.5, D24). A share of the statements is kept out
of training altogether, so that accuracy on statements never seen can be told from accuracy on statements
that training knows through other people (D25).
"""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

from pydantic import Field, model_validator

from pal.config import Config, Number
from pal.errors import shorten
from pipeline import paths as layout
from pipeline.datasets import persona_pairs
from pipeline.datasets.base import AtLeastOne, Count, DatasetParams, HubFiles, Remote, Source
from pipeline.errors import PipelineError
from pipeline.storage import tables

if TYPE_CHECKING:
    import numpy as np

    from pipeline.params import Params as AllParams

TITLE = "Persona"
ABOUT = (
    "Simulated users, each of one known group, say yes or no to statements as their group would; the "
    "statements are text."
)
ITEMS_APART = True
KEYS = ("question", "statement", "answer_matching_behavior", "answer_not_matching_behavior")
ANSWERS = {" Yes": True, " No": False}

# Anthropic's own files, as published; whatever the hub or a mirror sends under these names is held to them.
PUBLISHED_SHA256 = {
    "interest-in-art.jsonl": ("e1dff1d0c0a10b29f525ced37b76c1bcb4974dfab36f6e64abcbfcaeeb021e07"),
    "interest-in-literature.jsonl": ("8b551e8279535e0505a599fe19504590acf529218b33a29e4da3d73f1fcc10a9"),
    "interest-in-math.jsonl": ("f835b449fb0cb1ba7642778899273be1f634ad93f661af5dbde5629432e1f254"),
    "interest-in-music.jsonl": ("0decabf189570e74301793c10ce4f745a130e7426c8252c46d18e4875d9a8468"),
    "interest-in-science.jsonl": ("c26039164631a3554db75a11904057af26c1b173228947c077f0a05c9dafa0ed"),
    "interest-in-sports.jsonl": ("891f2e676ed4de885e7973cfc4bcfebe7a1c3e6f2c30daa6496005b0fdebdeac"),
}


class Prepare(Config):
    """Which personas there are, and who is asked how much."""

    personas: Annotated[list[Annotated[str, Field(pattern=r"^[\w-]+$")]], Field(min_length=1)]
    prompt: Literal["question", "statement"]
    users_per_group: AtLeastOne
    unseen_users_per_group: AtLeastOne
    train_pairs: AtLeastOne
    adapt_pairs: AtLeastOne
    val_pairs: Count
    test_pairs: AtLeastOne
    new_test_pairs: AtLeastOne
    new_statements: Annotated[Number, Field(gt=0, lt=1)]

    @model_validator(mode="after")
    def _personas_differ(self) -> "Prepare":
        if len(set(self.personas)) < len(self.personas):
            raise ValueError(f"personas must not repeat a persona, got {self.personas}")
        return self


class Params(DatasetParams):
    """The section persona of params.yaml."""

    hub: HubFiles
    prepare: Prepare

    @property
    def seen_users(self) -> int:
        """All personas' seen users."""
        return len(self.prepare.personas) * self.prepare.users_per_group

    @property
    def adapt_pairs(self) -> int:
        """Comparisons that shots are drawn from."""
        return self.prepare.adapt_pairs


@dataclass(frozen=True)
class Statement:
    """One statement: the persona that it is about, and whether that persona agrees with it."""

    persona: str
    question: str
    statement: str
    agrees: bool


def find(params: "AllParams") -> Source:
    """The sample's files, a folder's, or what to fetch from the hub.

    Raises:
        PipelineError: If a persona's file is missing or cannot be read.
    """
    names = [f"interest-in-{persona}.jsonl" for persona in params.persona.prepare.personas]
    if params.persona.source == "hub":
        remote = Remote(
            params.persona.hub.repo,
            params.persona.hub.revision,
            [f"persona/{name}" for name in names],
            {n: PUBLISHED_SHA256[n] for n in names if n in PUBLISHED_SHA256},
        )
        return Source(f"hub: {remote.repo} at {remote.revision}", remotes=[remote])
    if params.persona.source == "sample":
        folder, words = layout.SAMPLES / "persona", "sample: statements that come with this project"
    else:
        folder = layout.project_root() / Path(params.persona.source).expanduser()
        words = f"folder: {params.persona.source}"
    if not folder.is_dir():
        raise PipelineError(
            f"persona.source in {layout.PARAMS} must be sample, hub or an existing folder, "
            f"got {params.persona.source!r}, looked for at {folder}"
        )
    for name in names:
        if not (folder / name).is_file():
            there = ", ".join(
                sorted(file.stem.removeprefix("interest-in-") for file in folder.glob("*.jsonl"))
            )
            raise PipelineError(
                f"persona.prepare.personas in {layout.PARAMS} must name personas of persona.source "
                f"{params.persona.source!r}, got one without a file {name}; there are: {there or 'none'}"
            )
    paths = {name: folder / name for name in names}
    return Source(words, paths, check=lambda: [read(name, path) for name, path in paths.items()] and None)


def read(name: str, path: Path) -> list[Statement]:
    """Read one persona's file.

    Raises:
        PipelineError: Naming the first line that is not a statement in Anthropic's schema.
    """
    persona = name.removeprefix("interest-in-").removesuffix(".jsonl")
    try:
        text = path.read_bytes().decode("utf-8")
    except UnicodeDecodeError as error:
        raise PipelineError(
            f"{name} must be UTF-8, got byte {error.object[error.start]:#04x} at {error.start}"
        ) from None
    if not text:
        raise PipelineError(f"{name} must hold one JSON object a line, got an empty file")
    lines = text.removesuffix("\n").split("\n")  # not splitlines: a text may hold U+2028 and its like
    return [_statement(f"{name}, line {i + 1},", persona, line) for i, line in enumerate(lines)]


def _statement(where: str, persona: str, line: str) -> Statement:
    try:
        row: dict[str, Any] = json.loads(line)
    except ValueError:
        raise PipelineError(
            f"{where} must be a JSON object, got {shorten(line)}; is the file cut short?"
        ) from None
    if not isinstance(row, dict):
        raise PipelineError(f"{where} must be a JSON object, got {shorten(row)}")
    for key in KEYS:
        if not isinstance(row.get(key), str) or not row[key].strip():
            raise PipelineError(f"{where} must have a text {key!r}, got {shorten(row.get(key))}")
    if row["answer_matching_behavior"] not in ANSWERS:
        raise PipelineError(
            f"{where} answer_matching_behavior must be ' Yes' or ' No', "
            f"got {row['answer_matching_behavior']!r}"
        )
    agrees = ANSWERS[row["answer_matching_behavior"]]
    return Statement(persona, row["question"], row["statement"], agrees)


def prepare(params: "AllParams", files: dict[str, Path], out: Path) -> dict[str, int]:
    """Draw who is asked what, and answer as each person's persona would."""
    import numpy as np

    knobs = params.persona.prepare
    statements = [s for name, path in files.items() for s in read(name, path)]
    rng = np.random.default_rng(params.prepare.seed)
    known, new = divide(rng, statements, knobs)
    _check_enough(knobs, len(known), len(new))
    prompts = [s.question if knobs.prompt == "question" else s.statement for s in statements]
    tables.write_table(out / tables.ITEMS, tables.text_items([*prompts, "Yes", "No"]), tables.items_schema())
    n_pairs = persona_pairs.write(
        rng,
        knobs,
        persona_pairs.Answers(
            knobs.personas, [s.persona for s in statements], [s.agrees for s in statements], prompts
        ),
        known,
        new,
        out,
    )
    return {"read": n_pairs, "kept": n_pairs, "dropped": 0, "statements": len(statements)}


def divide(
    rng: "np.random.Generator", statements: list[Statement], knobs: Prepare
) -> tuple["np.ndarray", "np.ndarray"]:
    """Rows of the statements that training may use, and of those kept out of it.

    Statements that differ in case alone stay on one side: the encoder reads them alike.
    """
    import numpy as np

    folded = np.array([s.statement.casefold().strip() for s in statements])
    distinct, home = np.unique(folded, return_inverse=True)
    n_new = round(knobs.new_statements * len(distinct))
    is_new = np.zeros(len(distinct), dtype=bool)
    is_new[rng.permutation(len(distinct))[:n_new]] = True
    return np.flatnonzero(~is_new[home]), np.flatnonzero(is_new[home])


def _check_enough(knobs: Prepare, n_known: int, n_new: int) -> None:
    """Questions are drawn without replacement, so there must be enough of them (D27)."""
    asked = max(knobs.train_pairs, knobs.adapt_pairs) + knobs.val_pairs + knobs.test_pairs
    if asked > n_known:
        raise PipelineError(
            f"persona.prepare asks each user {asked} questions (train_pairs or adapt_pairs, val_pairs and "
            f"test_pairs) without replacement, but there are {n_known} statements for training; lower them "
            "or add personas"
        )
    if knobs.new_test_pairs > n_new:
        raise PipelineError(
            f"persona.prepare.new_test_pairs must be at most {n_new}, the statements kept out of training, "
            f"got {knobs.new_test_pairs}; lower it or raise persona.prepare.new_statements"
        )
