"""Anthropic's Persona statements as a study: simulated people answer yes or no, each after one persona.

A person of persona P answers yes to a statement that agrees with P, and no to every other: those that
disagree with P, and all those of other personas (PAL, E.5, D24). A share of the statements is kept out of
training, so that accuracy on new statements can be told from that on known ones (D25).
"""

from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, Literal

import numpy as np
import pyarrow as pa
from pydantic import BaseModel, Field, ValidationError

from pal.config import Number, explain
from pal.logs.tables import open_table
from pipeline import PipelineError, paths
from pipeline.datasets import base
from pipeline.storage import raw_files, tables

TITLE = "Persona"
ABOUT = (
    "Simulated users, each of one known group, say yes or no to statements as their group would; the "
    "statements are text."
)
ITEMS_APART = True
# Anthropic's own files, as published; whatever the hub or a mirror sends under these names is held to them.
PUBLISHED_SHA256 = {
    "interest-in-art.jsonl": "e1dff1d0c0a10b29f525ced37b76c1bcb4974dfab36f6e64abcbfcaeeb021e07",
    "interest-in-literature.jsonl": "8b551e8279535e0505a599fe19504590acf529218b33a29e4da3d73f1fcc10a9",
    "interest-in-math.jsonl": "f835b449fb0cb1ba7642778899273be1f634ad93f661af5dbde5629432e1f254",
    "interest-in-music.jsonl": "0decabf189570e74301793c10ce4f745a130e7426c8252c46d18e4875d9a8468",
    "interest-in-science.jsonl": "c26039164631a3554db75a11904057af26c1b173228947c077f0a05c9dafa0ed",
    "interest-in-sports.jsonl": "891f2e676ed4de885e7973cfc4bcfebe7a1c3e6f2c30daa6496005b0fdebdeac",
}


class Prepare(base.Draws):
    """Which personas there are, and who is asked how much."""

    personas: Annotated[list[Annotated[str, Field(pattern=r"^[\w-]+$")]], Field(min_length=1), base.Differing]
    users_per_group: base.AtLeastOne
    unseen_users_per_group: base.AtLeastOne
    new_test_pairs: base.AtLeastOne
    new_statements: Annotated[Number, Field(gt=0, lt=1)]

    @property
    def seen_users(self) -> int:
        """All personas' seen users."""
        return len(self.personas) * self.users_per_group


class Params(base.DatasetParams):
    """The section persona of params.yaml."""

    hub: base.HubFiles
    prepare: Prepare


class Statement(BaseModel):
    """A line of Anthropic's files: a statement, and the persona that it is about."""

    persona: str
    question: Annotated[str, Field(pattern=r"\S")]
    statement: Annotated[str, Field(pattern=r"\S")]
    answer_matching_behavior: Literal[" Yes", " No"]

    @property
    def agrees(self) -> bool:
        """Whether the persona agrees with it."""
        return self.answer_matching_behavior == " Yes"


def find(params: "base.AllParams") -> base.Source:
    """The sample's files, a folder's, or what to fetch from the hub."""
    names = [f"interest-in-{persona}.jsonl" for persona in params.persona.prepare.personas]
    source, hub = params.persona.source, params.persona.hub
    if source == "hub":
        published = {name: PUBLISHED_SHA256[name] for name in names if name in PUBLISHED_SHA256}
        remote = base.Remote(hub.repo, hub.revision, [f"persona/{name}" for name in names], published)
        return base.Source(f"hub: {hub.repo} at {hub.revision}", remotes=[remote])
    folder, words = paths.SAMPLES / "persona", "sample: statements that come with this project"
    if source != "sample":
        folder, words = paths.project_root() / Path(source).expanduser(), f"folder: {source}"
    if not folder.is_dir():
        raise PipelineError(
            f"persona.source in {paths.PARAMS} must be sample, hub or an existing folder, "
            f"got {source!r}, looked for at {folder}"
        )
    files = {name: folder / name for name in names}
    for name in (name for name, path in files.items() if not path.is_file()):
        there = sorted(path.stem.removeprefix("interest-in-") for path in folder.glob("*.jsonl"))
        raise PipelineError(
            f"persona.prepare.personas in {paths.PARAMS} must name personas of persona.source {source!r}, "
            f"got one without a file {name}; there are: {', '.join(there) or 'none'}"
        )
    return base.Source(words, files, check=lambda: read_all(files) and None)


def read_all(files: dict[str, Path]) -> list[Statement]:
    """Read the files of several personas."""
    return [statement for name, path in files.items() for statement in read(name, path)]


def read(name: str, path: Path) -> list[Statement]:
    """Read one persona's file; the first row that is no statement in Anthropic's schema is refused."""
    persona, statements = name.removeprefix("interest-in-").removesuffix(".jsonl"), []
    with open_table(path, name) as table:
        for row in table.rows:
            try:
                statements.append(Statement.model_validate({**row.cells, "persona": persona}))
            except ValidationError as error:
                raise PipelineError(f"{row.place}: {explain(error)[:200]}") from None
        if not statements:
            raise table.no_rows()
    return statements


def prepare(params: "base.AllParams", files: dict[str, Path], out: Path) -> dict[str, int]:
    """Draw who is asked what, and answer as each person's persona would."""
    options = params.persona.prepare
    statements = read_all(files)
    rng = np.random.default_rng(params.prepare.seed)
    known, new = divide(rng, statements, options)
    # Enough questions to draw without replacement (D27).
    n_asked = max(options.train_pairs, options.adapt_pairs) + options.val_pairs + options.test_pairs
    if n_asked > len(known):
        raise PipelineError(
            f"persona.prepare asks each user {n_asked} questions (train_pairs or adapt_pairs, val_pairs and "
            f"test_pairs) without replacement, but there are {len(known)} statements for training; lower "
            "them or add personas"
        )
    if options.new_test_pairs > len(new):
        raise PipelineError(
            f"persona.prepare.new_test_pairs must be at most {len(new)}, the statements kept out of "
            f"training, got {options.new_test_pairs}; lower it or raise persona.prepare.new_statements"
        )
    items = tables.text_items([*(s.question for s in statements), "Yes", "No"])
    tables.write_table(out / tables.ITEMS, items)
    drawn = {}
    for users, splits in options.splits(options.new_test_pairs).items():
        count = options.users_per_group if users == "seen" else options.unseen_users_per_group
        each = ((known, len(splits) - options.new_test_pairs), (new, options.new_test_pairs))
        parts = [draw_statements(rng, pool, len(options.personas) * count, n) for pool, n in each]
        drawn[users] = np.concatenate(parts, axis=1)
    tables.write_table(out / tables.PAIRS, pair_blocks(options, statements, drawn))
    n_pairs = sum(rows.size for rows in drawn.values())
    return {"read": n_pairs, "kept": n_pairs, "dropped": 0, "statements": len(statements)}


def divide(
    rng: np.random.Generator, statements: list[Statement], options: Prepare
) -> tuple[np.ndarray, np.ndarray]:
    """Rows of the statements that training may use, and of those kept out; case does not tell them apart."""
    folded = np.array([s.statement.casefold().strip() for s in statements])
    distinct, home = np.unique(folded, return_inverse=True)
    n_new = round(options.new_statements * len(distinct))
    is_new = np.zeros(len(distinct), dtype=bool)
    is_new[rng.permutation(len(distinct))[:n_new]] = True
    return np.flatnonzero(~is_new[home]), np.flatnonzero(is_new[home])


def draw_statements(rng: np.random.Generator, pool: np.ndarray, n_users: int, count: int) -> np.ndarray:
    """(n_users, count) members of the pool, for each user without replacement."""
    drawn = np.empty((n_users, count), np.int32)
    for row in drawn:
        row[:] = rng.choice(pool, count, replace=False, shuffle=True)
    return drawn


def pair_blocks(
    options: Prepare, statements: list[Statement], drawn: dict[str, np.ndarray]
) -> Iterator[pa.Table]:
    """Blocks of the pairs table, whole users at a time.

    The paper has sixty million pairs, too many rows for memory: what is kept of each is one number. `drawn`
    has for seen and unseen users the rows, (users, pairs), of the statements that each is asked.
    """

    def categorical(codes: np.ndarray, names: list[str]) -> pa.DictionaryArray:
        return pa.DictionaryArray.from_arrays(pa.array(codes.astype(np.int32)), pa.array(names, pa.string()))

    personas = options.personas
    about = np.array([personas.index(s.persona) for s in statements])
    agrees = np.array([s.agrees for s in statements])
    ids, prompt = np.unique([tables.text_id(s.question) for s in statements], return_inverse=True)
    answers, start = [tables.text_id("Yes"), tables.text_id("No")], 0
    for users, splits in options.splits(options.new_test_pairs).items():
        at_once, kinds = max(1, tables.BLOCK_ROWS // len(splits)), sorted(set(splits))
        per_group = len(drawn[users]) // len(personas)
        for low in range(0, len(drawn[users]), at_once):
            questions = drawn[users][low : low + at_once]
            people, width = questions.shape
            group, number = np.divmod(np.arange(low, low + people), per_group)
            says_no = ~(agrees[questions] & (about[questions] == group[:, None])).ravel()
            names = [f"{users}-{personas[g]}-{n:05d}" for g, n in zip(group, number, strict=True)]
            columns = {
                "pair_id": np.arange(start, start + questions.size),
                "user_id": categorical(np.repeat(np.arange(people), width), names),
                "prompt": categorical(prompt[questions.ravel()], ids.tolist()),
                "chosen": categorical(says_no, answers), "rejected": categorical(~says_no, answers),
                "label": np.ones(questions.size, np.float32),
                "group": categorical(np.repeat(group, width), personas),
                "users": categorical(np.zeros(questions.size), [users]),
                "split": categorical(np.tile([kinds.index(split) for split in splits], people), kinds),
            }  # fmt: skip
            yield pa.table(columns)
            start += questions.size


def known_answers(data: "base.Study", statements: list[Statement], options: Prepare) -> "base.Tensor":
    """(personas, prompts): whether a user of each persona says yes to each item of the prompts' table."""
    import torch

    rows = {item: row for row, item in enumerate(data.prompt_ids)}
    table = torch.zeros(len(options.personas), len(rows), dtype=torch.bool)
    for s in statements:
        if (item := tables.text_id(s.question)) in rows:
            table[options.personas.index(s.persona), rows[item]] |= s.agrees
    return table


def is_yes(data: "base.Study", pairs: "base.Comparisons") -> "base.Tensor":
    """(n,): which comparisons were answered yes."""
    first = pairs.questions.first[pairs.question]
    return (first == data.response_ids.index(tables.text_id("Yes"))) == (pairs.sign > 0)


def agrees(data: "base.Study", says_yes: "base.Tensor", pairs: "base.Comparisons") -> "base.Tensor":
    """(n, personas): whether a user of each persona would answer each comparison as it was answered."""
    return says_yes.T[pairs.questions.prompt[pairs.question]] == is_yes(data, pairs)[:, None]


def bound(data: "base.Study", params: "base.AllParams") -> base.Truth | None:
    """What each persona answers; None where the files are not stored any more."""
    if data.groups is None:
        return None
    try:
        files = {f.name: raw_files.stored(f, "persona") for f in raw_files.read_manifest("persona").files}
    except PipelineError as error:
        print(f"evaluate@persona: without the bound of a learner who knows the personas: {error}")
        return None
    says_yes = known_answers(data, read_all(files), params.persona.prepare)
    return base.Truth(lambda pairs: agrees(data, says_yes, pairs))
