"""train: fit the head on the seen users, and beside it the models that it is compared with.

model    the head that params.yaml asks for
k1       the same with one prototype: one reward for everyone
oracle   where the true groups are known: one prototype per group, everyone's group given
again-1  and so on: the model from further seeds, which tell whether prototypes come out the same
"""

from dataclasses import asdict, replace

import torch
from tqdm import tqdm

from pal.config import FitConfig, HeadConfig, registered
from pal.files import new_folder, write_csv
from pal.fitting.trainer import Fitted, fit
from pal.models import MODELS
from pal.models.base import PrototypeModel
from pal.serving.saved_model import SavedModel
from pal.users.gaussian import Gaussian
from pipeline import PipelineError, params, paths, study
from pipeline.storage.manifests import write_manifest
from pipeline.study import Study


def main(dataset: str) -> None:
    """Fit one dataset's models."""
    values = params.load()
    data, K = study.load(dataset), study.n_prototypes(dataset, values)
    head, config = values.configs(dataset, K, prompts=bool(data.prompt_ids))
    n_users, first = data.n_users("seen"), values.train.seed
    if n_users < head.K:
        raise PipelineError(
            f"model.K in {paths.PARAMS} must be at most {n_users}, the seen users of {dataset}, "
            f"got {head.K}; lower it"
        )
    if alike := study.alike_responses(data):
        print(f"train@{dataset}: warning: {alike}")
    # By name: the seed, and the users' weights where they are given.
    models: dict[str, tuple[int, torch.Tensor | None]] = {"model": (first, None)}
    if issubclass(registered(MODELS, head.model), PrototypeModel):
        models |= {name: (first, weights) for name, weights in control_weights(data).items()}
    if head.K > 1:  # one prototype comes out the same anyway
        # Seeds that share none with the model's or each other's restarts.
        again = range(1, values.train.more_seeds + 1)
        models |= {f"again-{n}": (first + n * config.restarts, None) for n in again}
    device = study.pick_device(values.train.device, "train.device")
    with new_folder(paths.models(dataset)) as folder:
        for name, (seed, weights) in models.items():
            shape = head if weights is None else head.model_copy(update={"K": weights.shape[1]})
            fitted = _fit(data, name, shape, config, weights, device, seed)
            about = {
                "user_ids": data.user_ids["seen"],
                "fit_config": config,
                "encoder": {side: asdict(by) if by else None for side, by in data.embedders.items()},
            }
            SavedModel.from_fit(fitted, data.embeddings, **about).save(folder / name)
            if name == "model":
                history = fitted.history
                if isinstance(fitted.population, Gaussian):
                    shared = without_deviations(fitted, fitted.population)
                    SavedModel.from_fit(shared, data.embeddings, **about).save(folder / "k1")
        write_manifest(folder)
    # The training curve: one row per validation, with empty cells where there are no validation pairs.
    rows = [
        {"epoch": int(row["epoch"])}
        | {name: round(row[name], 6) if name in row else "" for name in ("loss", "val_loss", "val_accuracy")}
        for row in history
    ]
    write_csv(paths.plot("training", dataset), rows)


def without_deviations(fitted: Fitted, population: Gaussian) -> Fitted:
    """The shared part of a fit alone: everyone at the mean, and nothing to be learned of anyone."""
    alone = replace(population, covariance=torch.zeros_like(population.covariance))
    return replace(fitted, states=population.mean.expand_as(fitted.states), population=alone)


def control_weights(data: Study) -> dict[str, torch.Tensor]:
    """The weights that the seen users of each control are given; without true groups there is no oracle."""
    weights = {"k1": torch.ones(data.n_users("seen"), 1), "oracle": data.group_weights("seen")}
    return {name: weights[name] for name in paths.CONTROLS if weights[name] is not None}


def _fit(
    data: Study,
    name: str,
    head: HeadConfig,
    config: FitConfig,
    weights: torch.Tensor | None,
    device: str,
    seed: int,
) -> Fitted:
    with tqdm(total=config.epochs * config.restarts, desc=f"train {name}", unit="epoch") as bar:

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
            states=weights,
            device=device,
            seed=seed,
            progress=step,
        )
