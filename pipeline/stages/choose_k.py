"""choose-k: how many prototypes the seen users' training pairs ask for, by cross-validation.

Two curves answer two questions. With one prototype per user the smallest sufficient K is the number of
groups; with the dataset's own way of fitting, whose users may stand between prototypes, it is the K that
suffices, which may be smaller. Where model.K is auto, train takes the latter. Test pairs have no part in it.
"""

from dataclasses import asdict

from tqdm import tqdm

from pal.config import HeadConfig
from pal.files import write_json
from pipeline import PipelineError, params, paths


def main(dataset: str, *, always: bool = False) -> None:
    """Choose for one dataset where model.K is auto, or `always`, and print the curves; else note model.K."""
    values = params.load()
    noted = values.model.K
    # Methods are chosen by `auto` of pal.methods, not by their number of prototypes.
    if noted == "auto" and values[dataset].method is not None:
        noted = HeadConfig().K
    if noted != "auto" and not always:
        write_json(paths.chosen(dataset), {"K": noted, "curves": {}})
        return
    # torch is needed from here on alone: a number is noted without loading it.
    from pal.methods.choose_k import USER_FOLDS, choose_k, one_prototype_per_user
    from pipeline import study

    data = study.load(dataset)
    head, config = values.configs(dataset, prompts=bool(data.prompt_ids))
    n_users = data.n_users("seen")
    most = min(values.model.most_prototypes, n_users - -(-n_users // USER_FOLDS))
    if most < 1:
        needs = f"choose-k needs at least {USER_FOLDS} seen users of {dataset}"
        raise PipelineError(f"{needs}, got {n_users}; set model.K to a number")
    alone = one_prototype_per_user(config)
    ways = ({} if alone == config else {paths.AS_FITTED: config}) | {paths.ONE_PER_USER: alone}
    curves = {}
    for name, way in tqdm(ways.items(), desc=f"choose-k@{dataset}", unit="curve"):
        choice = choose_k(
            data.embeddings, data.select("seen", "train"), n_users=n_users, head=head, config=way,
            candidates=range(1, most + 1), seed=values.train.seed, device=values.device("train"),
        )  # fmt: skip
        curves[name] = asdict(choice)
    write_json(paths.chosen(dataset), {"K": curves[next(iter(ways))]["K"], "curves": curves})
    for name, curve in curves.items():
        print(f"\n{dataset}, {name}: K = {curve['K']} ({curve['n_users']:,} users)")
        for row in curve["candidates"]:
            mark = " <" if row["K"] == curve["K"] else ""
            accuracy, error = 100 * row["accuracy"], 100 * row["standard_error"]
            print(f"  K = {row['K']:<2} {accuracy:6.2f} % +- {error:.2f}{mark}")
