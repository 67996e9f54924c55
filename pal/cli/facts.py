"""What `pal inspect` says: what a model is, and what its prototypes or directions like."""

from pathlib import Path
from typing import Any

import torch

from pal.cli.tables import TableModel, notes_of_fit, shown, table_errors
from pal.errors import cut
from pal.evaluation.describe import describe
from pal.models.base import PrototypeModel
from pal.serving.reward_model import RewardModel

PURE = 0.9  # a user with more than this weight on one prototype counts as standing there
BAR_WIDTH, TEXT_WIDTH = 20, 70  # characters
WORDS = {  # of a description, and how they are headed
    "liked_words": "words, log-odds",
    "disliked_words": "not its words",
    "features": "and, rank correlation",
}


def facts_of(inputs: TableModel, folder: Path, number: int) -> dict[str, Any]:
    """What the model in a folder is; of a table also which `number` responses its tastes like most."""
    notes, rows = notes_of_fit(folder), inputs.rows
    about = {name: notes[name] for name in ("method", "source") if name in notes} | model_facts(inputs.model)
    if not rows:
        return about
    with table_errors({"": rows}):
        responses, prompts = inputs.items(rows, "response"), inputs.prompts(rows)
        described = describe(inputs.model, responses, prompts, number=number)

    def shown_row(item: Any) -> dict[str, Any]:
        cells = rows[item.row].cells
        return {name: cells[name] for name in ("prompt", "response") if name in cells} | {"above": item.above}

    if "prototypes" not in about:
        about["directions"] = [{"direction": k} for k in range(1, len(described) + 1)]
    for row, each in zip(about.get("prototypes") or about["directions"], described, strict=True):
        row["title"] = each.title
        row |= {name: [word._asdict() for word in getattr(each, name)] for name in WORDS}
        row |= {end: [shown_row(item) for item in getattr(each, end)] for end in ("likes", "dislikes")}
    return about


def model_facts(model: RewardModel) -> dict[str, Any]:
    """What a model is, as JSON: its head, its encoders, and where it has prototypes its users' weights."""
    weights, config = model.states, model.config
    prompts, responses = (
        {"encoder": model.input_encoder.describe(side).get("encoder"), "dim": dim}
        for side, dim in (("prompts", model.prompt_dim), ("responses", model.response_dim))
    )
    about = {
        "model": config.model,
        **({"K": config.K} if isinstance(model.head, PrototypeModel) else {}),
        "latent": config.latent,
        "objective": model.fit_config.objective,
        "loss": model.fit_config.loss,
        "prompts": prompts if model.head.needs_prompts else None,
        "responses": responses,
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


def as_text(about: dict[str, Any]) -> str:
    """The same for people to read."""
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
                texts = " -> ".join(cut(cell, TEXT_WIDTH) for cell in cells)
                lines.append(f"  {item['above']:>+8.3f}  {texts}")
        lines.append("")
    return "\n".join(lines)
