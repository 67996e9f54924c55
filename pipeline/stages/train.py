"""train: fit the head on the seen users, and beside it the models that it is compared with.

model    the head that params.yaml asks for
k1       the same with one prototype: one reward for everyone
oracle   where the true groups are known: one prototype per group, everyone's group given
again-1  and so on: the model from further seeds, which tell whether prototypes come out the same
"""

from dataclasses import asdict
from pathlib import Path

import torch

from pal.config import FitConfig, HeadConfig
from pal.fitting.fit import Fitted, fit
from pal.fitting.many import Job, fit_many
from pal.serving.saved_model import SavedModel
from pipeline import params, paths, progress, study
from pipeline.devices import pick
from pipeline.errors import PipelineError
from pipeline.groups import group_weights
from pipeline.stages import choose_k
from pipeline.storage import manifest
from pipeline.storage.files import new_folder, write_csv
from pipeline.study import Study

CONTROLS = ("k1", "oracle")


def main(dataset: str) -> None:
    """Fit one dataset's models."""
    values = params.load()
    head, config = values.configs(dataset, choose_k.chosen(dataset, values))
    data = study.load(dataset)
    n_users = data.n_users("seen")
    if n_users < head.K:
        raise PipelineError(
            f"model.K in {paths.PARAMS} must be at most {n_users}, the seen users of {dataset}, "
            f"got {head.K}; lower it"
        )
    device = pick(values.train.device, "train.device")
    with new_folder(paths.models(dataset)) as folder:
        fitted = _fit(data, "model", head, config, None, device, values.train.seed)
        _save(data, fitted, config, folder / "model")
        for name in CONTROLS:
            weights = control_weights(data, name)
            if weights is None:
                continue
            shape = head.model_copy(update={"K": weights.shape[1]})
            control = _fit(data, name, shape, config, weights, device, values.train.seed)
            _save(data, control, config, folder / name)
        seeds = _further_seeds(values.train.seed, values.train.more_seeds, head, config)
        for n, fitted_again in enumerate(_fit_again(data, head, config, device, seeds), 1):
            _save(data, fitted_again, config, folder / f"again-{n}")
        manifest.seal(folder)
    write_csv(paths.plot("training", dataset), _history(fitted))


def _further_seeds(seed: int, n: int, head: HeadConfig, config: FitConfig) -> list[int]:
    """Seeds that share none with the model's or each other's restarts; one prototype is the same anyway."""
    return [seed + (i + 1) * config.restarts for i in range(n)] if head.K > 1 else []


def _fit_again(
    data: Study, head: HeadConfig, config: FitConfig, device: str, seeds: list[int]
) -> list[Fitted]:
    """The model from further seeds, all of them at once."""
    if not seeds:
        return []
    train, val, n_users = data.select("seen", "train"), data.select("seen", "val"), data.n_users("seen")
    jobs = [Job(train, n_users, head, seed=seed, val=val) for seed in seeds]
    with progress.bar(len(jobs) * config.restarts, "train again", "fit") as bar:

        def step(done: int, _: int) -> None:
            bar.update(done - bar.n)

        return fit_many(data.embeddings, jobs, config=config, device=device, progress=step)


def again(models: Path) -> list[Path]:
    """The folders of the fits from further seeds, in order."""
    found = [path for path in models.glob("again-*") if path.is_dir()]
    return sorted(found, key=lambda path: int(path.name.partition("-")[2]))


def control_weights(data: Study, name: str) -> torch.Tensor | None:
    """The weights that a control's users are given; None where it cannot be had."""
    if name == "k1":
        return torch.ones(data.n_users("seen"), 1)
    return group_weights(data, "seen")


def _fit(
    data: Study,
    name: str,
    head: HeadConfig,
    config: FitConfig,
    weights: torch.Tensor | None,
    device: str,
    seed: int,
) -> Fitted:
    with progress.bar(config.epochs * config.restarts, f"train {name}", "epoch") as bar:

        def step(epoch: int, loss: float) -> None:
            bar.update()
            bar.set_postfix(loss=f"{loss:.4f}", refresh=False)

        return fit(
            data.embeddings,
            data.select("seen", "train"),
            n_users=data.n_users("seen"),
            head=head,
            config=config,
            val=data.select("seen", "val"),
            weights=weights,
            device=device,
            seed=seed,
            progress=step,
        )


def _save(data: Study, fitted: Fitted, config: FitConfig, folder: Path) -> None:
    SavedModel.from_fit(
        fitted,
        data.embeddings,
        user_ids=data.user_ids["seen"],
        fit_config=config,
        encoder={part: asdict(by) if by else None for part, by in data.embedders.items()},
    ).save(folder)


def _history(fitted: Fitted) -> list[dict[str, float | int | str]]:
    """One row per look at the validation comparisons, for the training curve."""
    return [
        {
            "epoch": int(look["epoch"]),
            "loss": round(look["loss"], 6),
            "val_loss": round(look["val_loss"], 6) if "val_loss" in look else "",
            "val_accuracy": round(look["val_accuracy"], 6) if "val_accuracy" in look else "",
        }
        for look in fitted.history
    ]
