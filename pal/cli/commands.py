"""The commands that read and write tables: `pal score`, `pal rank`, `pal ask` and `pal inspect`."""

import json
import sys
from collections.abc import Iterable, Iterator, Sequence
from itertools import chain, groupby
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from pal.cli.tables import (
    TableModel,
    load_model,
    notes_of_fit,
    open_writer,
    read_table,
    read_tastes,
    shown,
    table_errors,
    unknown_user,
    users_of,
)
from pal.errors import PalError
from pal.logs.tables import Cells, Row
from pal.models.base import PrototypeModel
from pal.serving.reward_model import RewardModel

if TYPE_CHECKING:
    from pal.cli.app import Computing, Output, Users
    from pal.evaluation.describe import Description

PURE = 0.9  # a user with more than this weight on one prototype counts as standing there
BAR_WIDTH, TEXT_WIDTH = 20, 70  # characters
WORDS = {  # of a description, and how they are headed
    "liked_words": "words, log-odds",
    "disliked_words": "not its words",
    "features": "and, rank correlation",
}


def score(
    model: Path, table: str, users: "Users", output: "Output", options: "Computing", *, ranked: bool
) -> None:
    """Add each response's reward to its row; `ranked` sorts the rows of each prompt (and user) by it."""
    written = ("reward", "rank") if ranked else ("reward",)
    inputs, schema = read_table(model, table, ["response"], written, options)
    given = users_of(inputs.model, inputs.rows, users)

    def scored(rows: list[Row]) -> list[tuple[Row, float]]:
        user = [given[row.number - 1] for row in rows] if isinstance(given, list) else given
        prompts, responses = inputs.prompts(rows), inputs.items(rows, "response")
        with table_errors(rows):
            rewards = inputs.model.score(prompts, responses, user=user)
        return [(row, shortest_float(reward)) for row, reward in zip(rows, rewards.numpy(), strict=True)]

    batches = map(scored, inputs.batches("response"))
    if ranked:
        by_user = ("user_id",) if isinstance(given, list) else ()
        written_rows = _ranked(chain.from_iterable(batches), (*inputs.prompt_columns, *by_user))
    else:
        written_rows = ([{**row.cells, "reward": reward} for row, reward in batch] for batch in batches)
    with open_writer(output.out, output.kind, schema, safe_csv=output.safe_csv) as write:
        for rows in written_rows:
            write(rows)


def shortest_float(number: np.float32) -> float:
    """The float whose repr is the shortest decimal of a float32."""
    return float(str(number))


def _ranked(scored: Iterable[tuple[Row, float]], columns: Sequence[str]) -> Iterator[list[Cells]]:
    """The rows of each prompt (and user), best first; they must stand together in the table."""
    seen: set[str] = set()

    def group_key(pair: tuple[Row, float]) -> str:
        return repr([pair[0].cells.get(name) for name in columns])

    for key, group in groupby(scored, group_key):
        pairs = list(group)
        if key in seen:
            row = pairs[0][0]
            raise PalError(
                f"rows of one prompt{' and user' * (len(columns) > 1)} must stand together, got {row.place} "
                f"apart from the others; sort the table by {', '.join(columns)}",
                file=row.file,
                row=row.number,
            )
        seen.add(key)
        pairs.sort(key=lambda pair: -pair[1])
        yield [{**row.cells, "rank": n, "reward": reward} for n, (row, reward) in enumerate(pairs, 1)]


def ask(
    model: Path,
    table: str,
    output: "Output",
    user: str | None,
    tastes: Path | None,
    options: "Computing",
    *,
    number: int,
    together: bool,
) -> None:
    """Write the pairs whose answers are expected to tell most of a user, with their bits.

    Asked together, all candidates are weighed against each other, so that none repeats what another tells;
    else each is weighed alone.
    """
    sides = ("response_a", "response_b")
    inputs, schema = read_table(model, table, sides, ["bits"], options)
    known = read_tastes(tastes, inputs.model) if tastes else {}
    if tastes is None and user in inputs.model.rows:
        raise PalError(
            f"--user needs --taste to ask: of {user!r}, seen in fitting, the model keeps weights and not "
            "how sure they are; adapt to this user's comparisons first"
        )
    if user is not None and user not in known:
        raise unknown_user(user, inputs.model)
    if user is None and len(known) > 1:
        raise PalError(f"--user must say whose of the {len(known):,} tastes in {tastes}")
    taste = next(iter(known.values()), None) if user is None else known[user]
    with table_errors(inputs.rows):
        chosen = inputs.model.ask(inputs.aligned(inputs.rows, sides), taste, n=number, together=together)
    with open_writer(output.out, output.kind, schema, safe_csv=output.safe_csv) as write:
        write([{**inputs.rows[each.index].cells, "bits": round(each.bits, 6)} for each in chosen])


def inspect(model: Path, table: str | None, options: "Computing", *, number: int, as_json: bool) -> None:
    """Print what a model is.

    Args:
        model: Its folder.
        table: Responses, several to a prompt, to tell what each prototype or direction likes; held in memory.
        options: Where encoders come from and compute.
        number: How many responses and words to show at most, most and least liked.
        as_json: Whether to print JSON, for programs.
    """
    if table is None:
        inputs = TableModel(load_model(model, options), (), Path())
    else:
        inputs, _ = read_table(model, table, ["response"], (), options)
    notes = notes_of_fit(model)
    about = {name: notes[name] for name in ("method", "source") if name in notes} | model_facts(inputs.model)
    if table is not None:
        described = _described(inputs, number)
        if "prototypes" not in about:
            about["directions"] = [{"direction": k} for k in range(1, len(described) + 1)]
        for each, words in zip(about.get("prototypes") or about["directions"], described, strict=True):
            each |= words
    text = json.dumps(about, indent=2, ensure_ascii=False) if as_json else _as_text(about)
    sys.stdout.buffer.write((text + "\n").encode(sys.stdout.encoding, "replace"))
    sys.stdout.buffer.flush()


def model_facts(model: RewardModel) -> dict[str, Any]:
    """What a model is, as JSON: its head, its encoders, and where it has prototypes its users' weights."""
    weights, config = model.states, model.config

    def side(name: Any, dim: int) -> dict[str, Any]:
        return {"encoder": model.input_encoder.name(name), "dim": dim}

    about = {
        "model": config.model,
        **({"K": config.K} if isinstance(model.head, PrototypeModel) else {}),
        "latent": config.latent,
        "objective": model.fit_config.objective,
        "loss": model.fit_config.loss,
        "prompts": side("prompts", model.prompt_dim) if model.head.needs_prompts else None,
        "responses": side("responses", model.response_dim),
        "users": len(model.user_ids),
        "population": model.population.name,
        "fingerprint": model.fingerprint,
    }
    if isinstance(model.head, PrototypeModel):
        nearest = torch.bincount(weights.argmax(1), minlength=config.K)
        about |= {
            "users_at_one_prototype": int((weights.amax(1) > PURE).sum()),
            "places_for_new_users": len(model.population.prior.masses),
            "prototypes": [
                {
                    "prototype": k + 1,
                    "mean_weight": round(float(weights[:, k].mean()), 4),
                    "sd_of_weight": round(float(weights[:, k].std(correction=0)), 4),
                    "nearest_users": int(nearest[k]),
                }
                for k in range(config.K)
            ],
        }
    return about


def _described(inputs: TableModel, number: int) -> list[dict[str, Any]]:
    """What each prototype or direction likes and dislikes among the rows of the table, and in which words.

    Raises:
        PalError: If no prompt has two responses.
    """
    from pal.evaluation.describe import describe

    rows = inputs.rows
    with table_errors(rows):
        responses, prompts = inputs.items(rows, "response"), inputs.prompts(rows)
        described = describe(inputs.model, responses, prompts, number=number)

    def facts(each: "Description") -> dict[str, Any]:
        def items(end: list[Any]) -> list[dict[str, Any]]:
            cells = [rows[item.row].cells for item in end]
            return [
                {name: cell[name] for name in ("prompt", "response") if name in cell} | {"above": item.above}
                for cell, item in zip(cells, end, strict=True)
            ]

        words = {name: [word._asdict() for word in getattr(each, name)] for name in WORDS}
        return {"title": each.title, **words, "likes": items(each.likes), "dislikes": items(each.dislikes)}

    return [facts(each) for each in described]


def _as_text(about: dict[str, Any]) -> str:
    lines, prototypes = [], about.get("prototypes", [])
    for name, value in about.items():
        if isinstance(value, dict):
            value = f"{value['encoder'] or 'vectors, no encoder'}, {value['dim']:,} numbers"
        if not isinstance(value, list):
            lines.append(f"{name.replace('_', ' '):<23} {'not read' if value is None else value}")
    if prototypes:
        names = ("prototype", "mean_weight", "sd_of_weight", "nearest_users")
        bars = ["#" * round(BAR_WIDTH * each["nearest_users"] / about["users"]) for each in prototypes]
        rows = [{name: each[name] for name in names} for each in prototypes]
        lines += ["", shown([{**row, "": bar} for row, bar in zip(rows, bars, strict=True)])]
    for each in (*prototypes, *about.get("directions", [])):
        if "likes" not in each:
            continue
        name = next(f"{key} {each[key]}" for key in ("prototype", "direction") if key in each)
        lines += [f"{name}: {each['title'] or 'no words tell what it likes'}"]
        for label, key in WORDS.items():
            found = [f"{word['name']} {word['strength']:+.2f}" for word in each[label][:6]]
            lines += [f"  {key}: {', '.join(found)}"] if found else []
        for end in ("likes", "dislikes"):
            lines += [f"  {end} most, against the average"] if each[end] else []
            for item in each[end]:
                cells = [" ".join(str(item[name]).split()) for name in ("prompt", "response") if name in item]
                texts = [cell if len(cell) <= TEXT_WIDTH else f"{cell[: TEXT_WIDTH - 1]}…" for cell in cells]
                lines.append(f"  {item['above']:>+8.3f}  {' -> '.join(texts)}")
        lines.append("")
    return "\n".join(lines)
