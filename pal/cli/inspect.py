"""`pal inspect`: what a model is, how its users spread over the prototypes, and what each prototype likes."""

import json
import sys
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from pal.cli.loading import TableModel, open_inputs, table_errors
from pal.errors import PalError
from pal.serving.reward_model import RewardModel
from pal.table_files import Row

PURE = 0.9  # a user with more than this weight on one prototype counts as standing there
BAR_WIDTH, TEXT_WIDTH = 20, 70  # characters


def inspect(model: Path, table: str | None, options: dict[str, Any], *, number: int, as_json: bool) -> None:
    """Print what a model is.

    Args:
        model: Its folder.
        table: Responses, several to a prompt, to show what each prototype likes; held in memory.
        options: The arguments of `open_inputs` that all commands share.
        number: How many responses to show a prototype, most and least liked.
        as_json: Whether to print JSON, for programs.
    """
    with open_inputs(model, table, ["response"], **options) as inputs:
        about = model_facts(inputs.model)
        if table is not None:
            for prototype, likes in zip(about["prototypes"], _likes(inputs, number), strict=True):
                prototype |= likes
    text = json.dumps(about, indent=2, ensure_ascii=False) if as_json else _as_text(about)
    sys.stdout.buffer.write((text + "\n").encode(sys.stdout.encoding, "replace"))
    sys.stdout.buffer.flush()


def model_facts(model: RewardModel) -> dict[str, Any]:
    """What a model is, as JSON: its head, its encoders, and its users' weights in summary.

    Raises:
        PalError: If users' states are not weights on prototypes.
    """
    if (population := model.population.name) != "points":
        raise PalError(
            f"pal inspect shows how users weigh prototypes, so the population must be 'points', got "
            f"{population!r}; read the states of such a model in Python, as RewardModel.load(...).states"
        )
    weights, config = model.states, model.config
    nearest = torch.bincount(weights.argmax(1), minlength=config.K)

    def side(name: Any, dim: int) -> dict[str, Any]:
        try:
            return {"encoder": model.input_encoder.describe(name)["encoder"], "dim": dim}
        except PalError:
            return {"encoder": None, "dim": dim}  # fitted on vectors

    return {
        "model": config.model,
        "K": config.K,
        "latent": config.latent,
        "objective": model.fit_config.objective,
        "loss": model.fit_config.loss,
        "prompts": side("prompts", model.prompt_dim) if model.head.needs_prompts else None,
        "responses": side("responses", model.response_dim),
        "users": len(model.user_ids),
        "users_at_one_prototype": int((weights.amax(1) > PURE).sum()),
        "places_for_new_users": len(model.population.prior.masses),
        "fingerprint": model.fingerprint,
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


def _likes(inputs: TableModel, number: int) -> list[dict[str, Any]]:
    """The rows that each prototype likes most and least, compared with the others of the same prompt.

    Raises:
        PalError: If no prompt has two responses.
    """
    rows: list[Row] = []
    rewards: list[Tensor] = []
    for batch in inputs.batches():
        prompts, responses = inputs.prompts(batch), inputs.items(batch, "response")
        with table_errors(batch):
            states = torch.eye(inputs.model.config.K)  # a user who stands at the prototype
            rewards.append(inputs.model.score_states(prompts, responses, states))
        rows += batch
    groups: dict[str, int] = {}
    keys = [repr([row.cells[name] for name in inputs.prompt_columns]) for row in rows]
    group = torch.tensor([groups.setdefault(key, len(groups)) for key in keys])
    count = torch.bincount(group)
    if int(count.max()) < 2:
        problem = "some prompt must have two responses or more, got one each; rewards only compare these"
        raise PalError(problem)
    # Rewards for one prompt mean nothing but by their differences, so they are given above its mean.
    reward = torch.cat(rewards)
    mean = torch.zeros(len(groups), reward.shape[1]).index_add_(0, group, reward) / count[:, None]
    compared = (count[group] > 1).nonzero()[:, 0]
    above = (reward - mean[group])[compared]

    def shown(index: int, column: Tensor) -> dict[str, Any]:
        cells = rows[int(compared[index])].cells
        shared = {name: cells[name] for name in ("prompt", "response") if name in cells}
        return {**shared, "above_mean": round(float(column[index]), 4)}

    likes = []
    for column in above.T:
        order = column.argsort(descending=True, stable=True)
        ends = {"likes_most": order[:number], "likes_least": order.flip(0)[:number]}
        likes.append({name: [shown(index, column) for index in end.tolist()] for name, end in ends.items()})
    return likes


def _as_text(about: dict[str, Any]) -> str:
    def side(facts: dict[str, Any] | None) -> str:
        if facts is None:
            return "are not read"
        return f"{facts['encoder'] or 'vectors, no encoder'}, {facts['dim']:,} numbers"

    users = about["users"]
    lines = [
        f"model {about['model']}, {about['K']} prototypes, latent {about['latent']}; "
        f"fitted by {about['objective']}, {about['loss']} loss",
        *(f"{name:<12}{side(about[name])}" for name in ("prompts", "responses")),
        f"{'users':<12}{users:,} seen in fitting; {about['users_at_one_prototype']:,} have more than "
        f"{PURE:.0%} of their weight on one prototype",
        f"{'new users':<12}are looked for at {about['places_for_new_users']:,} places",
        f"{'fingerprint':<12}{about['fingerprint']}",
        "",
        "prototype   mean weight ± sd   users nearest",
    ]
    for each in about["prototypes"]:
        bar = "#" * round(BAR_WIDTH * each["nearest_users"] / users)
        lines.append(
            f"{each['prototype']:>9}   {each['mean_weight']:>11.3f} ± {each['sd_of_weight']:.3f}   "
            f"{each['nearest_users']:>6,}  {bar}"
        )
    for each in about["prototypes"]:
        for end in ("most", "least"):
            items = each.get(f"likes_{end}", [])
            lines += ["", f"prototype {each['prototype']} likes {end}"] if items else []
            for item in items:
                cells = [" ".join(str(item[name]).split()) for name in ("prompt", "response") if name in item]
                texts = [cell if len(cell) <= TEXT_WIDTH else f"{cell[: TEXT_WIDTH - 1]}…" for cell in cells]
                lines.append(f"{item['above_mean']:>+9.3f}  {' -> '.join(texts)}")
    return "\n".join(lines)
