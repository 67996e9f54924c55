"""train: fit the head on the seen users, and beside it the models that it is compared with.

model    the method, or the head, that params.yaml asks for
k1       one reward for everyone: the same head with one prototype, or of the methods `bt`
oracle   where the true groups are known: one prototype per group, everyone's group given
again-1  and so on: the model from further seeds, which tell whether prototypes come out the same
"""

from collections.abc import Iterator
from dataclasses import asdict, replace
from typing import Any

import torch
from tqdm import tqdm

from pal.config import registered
from pal.files import new_folder, write_csv, write_json
from pal.methods import METHODS
from pal.methods.base import Learned, Task
from pal.models import MODELS
from pal.models.base import PrototypeModel
from pal.serving.reward_model import RewardModel
from pipeline import PipelineError, params, paths, study
from pipeline.storage.tables import write_manifest
from pipeline.study import Study


def main(dataset: str) -> None:
    """Fit one dataset's models."""
    values = params.load()
    data, K = study.load(dataset), values.n_prototypes(dataset)
    if alike := study.alike_responses(data):
        print(f"train@{dataset}: warning: {alike}")
    task = Task(
        data.embeddings, data.select("seen", "train"), data.n_users("seen"), data.select("seen", "val"), K=K,
        seed=values.train.seed, device=values.device("train"),
    )  # fmt: skip
    people = study.attributes_of(data, "seen")
    encoder = {side: asdict(by) if by else None for side, by in data.embedders.items()}
    if (template := values[dataset].template) is not None:
        encoder["responses"] |= {"template": template}
    fits = _by_method if values[dataset].method is not None else _by_options
    with new_folder(paths.models(dataset)) as folder:
        for name, learned in fits(data, values, task):
            if name == "model":
                learned = learned.with_attributes(task, people) if any(people) else learned
                for sentence in learned.said:
                    print(f"train@{dataset}: {sentence}")
                write_json(folder / "method.json", {"method": values[dataset].method, "said": learned.said})
                history = learned.fitted.history
            RewardModel.from_fit(
                learned.fitted, data.embeddings, user_ids=data.user_ids["seen"], fit_config=learned.config,
                encoder=encoder, attributes=learned.attributes,
            ).save(folder / name)  # fmt: skip
        write_manifest(folder)
    # The training curve: one row per validation, with empty cells where there are no validation pairs.
    names = ("loss", "val_loss", "val_accuracy")
    numbers = [{name: round(row[name], 6) if name in row else "" for name in names} for row in history]
    rows = [{"epoch": int(row["epoch"]), **shown} for row, shown in zip(history, numbers, strict=True)]
    write_csv(paths.plot("training", dataset), rows)


def _by_method(data: Study, values: params.Params, task: Task) -> Iterator[tuple[str, Learned]]:
    """What the dataset's method learns, and beside it one reward for everyone."""
    names = {"model": str(values[data.dataset].method), "k1": "bt"}
    for name, method in tqdm(names.items(), desc=f"train@{data.dataset}", unit="method"):
        yield name, registered(METHODS, method).learn(task)


def _by_options(data: Study, values: params.Params, task: Task) -> Iterator[tuple[str, Learned]]:
    """What preset, head and train say, the same with one prototype, the oracle, and further seeds."""
    head, config = values.configs(data.dataset, task.K, prompts=bool(data.prompt_ids))
    if task.n_users < head.K:
        raise PipelineError(
            f"model.K in {paths.PARAMS} must be at most {task.n_users}, the seen users of {data.dataset}, "
            f"got {head.K}; lower it"
        )
    # By name: the seed, and the users' weights where they are given.
    models: dict[str, tuple[int, torch.Tensor | None]] = {"model": (task.seed, None)}
    if issubclass(registered(MODELS, head.model), PrototypeModel):
        # Without true groups there is no oracle.
        given = {"k1": torch.ones(task.n_users, 1), "oracle": data.group_weights("seen")}
        models |= {name: (task.seed, given[name]) for name in paths.CONTROLS if given[name] is not None}
    if head.K > 1:  # one prototype comes out the same anyway
        # Seeds that share none with the model's or each other's restarts.
        again = range(1, values.train.more_seeds + 1)
        models |= {f"again-{n}": (task.seed + n * config.restarts, None) for n in again}
    for name, (seed, weights) in models.items():
        shape = head if weights is None else head.model_copy(update={"K": weights.shape[1]})
        with tqdm(total=config.epochs * config.restarts, desc=f"train {name}", unit="epoch") as bar:

            def step(epoch: int, loss: float, bar: Any = bar) -> None:
                bar.update()
                bar.set_postfix(loss=f"{loss:.4f}", refresh=False)

            learned = replace(task, seed=seed, progress=step).fit(shape, config, weights)
        yield name, learned
