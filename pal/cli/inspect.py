"""`pal inspect`: what a model is, how its people spread, and what its prototypes or directions like."""

import json
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch

from pal.cli.loading import TableModel, load_model, notes_of_fit, read_table, table_errors
from pal.evaluation.describe import Description, describe
from pal.logs.tables import Row
from pal.models.base import PrototypeModel
from pal.serving.reward_model import RewardModel

if TYPE_CHECKING:
    from pal.cli.app import Computing

PURE = 0.9  # a user with more than this weight on one prototype counts as standing there
BAR_WIDTH, TEXT_WIDTH = 20, 70  # characters
WORDS = {  # of a description, and how they are headed
    "liked_words": "words, log-odds",
    "disliked_words": "not its words",
    "features": "and, rank correlation",
}


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
    rows: list[Row] = [row for batch in inputs.batches() for row in batch]
    with table_errors(rows):
        responses, prompts = inputs.items(rows, "response"), inputs.prompts(rows)
        described = describe(inputs.model, responses, prompts, number=number)

    def facts(each: Description) -> dict[str, Any]:
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
    def side(facts: dict[str, Any] | None) -> str:
        if facts is None:
            return "are not read"
        return f"{facts['encoder'] or 'vectors, no encoder'}, {facts['dim']:,} numbers"

    users, prototypes = about["users"], about.get("prototypes", [])
    what = f", {about['K']} prototypes" if prototypes else ""
    spread = (
        [
            f"{'users':<12}{users:,} seen in fitting; {about['users_at_one_prototype']:,} have more than "
            f"{PURE:.0%} of their weight on one prototype",
            f"{'new users':<12}are looked for at {about['places_for_new_users']:,} places",
        ]
        if prototypes
        else [f"{'users':<12}{users:,} seen in fitting; their population is {about['population']}"]
    )
    lines = [
        *([f"method {about['method']}, fitted to {about['source']}"] if "method" in about else []),
        f"model {about['model']}{what}, latent {about['latent']}; "
        f"fitted by {about['objective']}, {about['loss']} loss",
        *(f"{name:<12}{side(about[name])}" for name in ("prompts", "responses")),
        *spread,
        f"{'fingerprint':<12}{about['fingerprint']}",
    ]
    lines += ["", "prototype   mean weight ± sd   users nearest"] if prototypes else []
    for each in prototypes:
        bar = "#" * round(BAR_WIDTH * each["nearest_users"] / users)
        lines.append(
            f"{each['prototype']:>9}   {each['mean_weight']:>11.3f} ± {each['sd_of_weight']:.3f}   "
            f"{each['nearest_users']:>6,}  {bar}"
        )
    for each in (*prototypes, *about.get("directions", [])):
        if "likes" not in each:
            continue
        name = next(f"{key} {each[key]}" for key in ("prototype", "direction") if key in each)
        lines += ["", f"{name}: {each['title'] or 'no words tell what it likes'}"]
        for label, key in WORDS.items():
            found = [f"{word['name']} {word['strength']:+.2f}" for word in each[label][:6]]
            lines += [f"  {key}: {', '.join(found)}"] if found else []
        for end in ("likes", "dislikes"):
            lines += [f"  {end} most, against the average"] if each[end] else []
            for item in each[end]:
                cells = [" ".join(str(item[name]).split()) for name in ("prompt", "response") if name in item]
                texts = [cell if len(cell) <= TEXT_WIDTH else f"{cell[: TEXT_WIDTH - 1]}…" for cell in cells]
                lines.append(f"  {item['above']:>+8.3f}  {' -> '.join(texts)}")
    return "\n".join(lines)
