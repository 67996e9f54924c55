"""An entry's studies: drawn, split and encoded by the pipeline's own stages from an entry's knobs.

What an entry does not name is as shipped in params.yaml. Of training answers as many are drawn as the
grid asks for at most, and fewer are the first ones of each user: a sweep draws once, its cells are nested.
"""

import os
from contextlib import chdir, redirect_stderr
from dataclasses import dataclass, replace
from io import StringIO
from itertools import product
from pathlib import Path
from typing import Any

import polars as pl
import torch

from benchmarks.persona import PERSONAS
from benchmarks.studies import ROOT, real_data, staged
from experiments.entries import DRAWN, FITTED, Needs, Place, Run
from pal.config import FitConfig, HeadConfig, preset
from pal.errors import PalError
from pipeline import PipelineError, params, paths, study
from pipeline.evaluation.bounds import Bound, bayes_bound
from pipeline.stages.evaluate import read_notes, split_table
from pipeline.storage.tables import read_json
from pipeline.study import Study

NAMES = {  # of real data
    "persona": "Anthropic's Persona files",
    "pickapic_v1": "Pick-a-Pic v1",
    "pickapic_v2": "Pick-a-Pic v2",
    "pickapic_v1_and_v2": "Pick-a-Pic v1 and v2",
    "summarize": "OpenAI's TL;DR comparisons",
}


@dataclass(frozen=True)
class Drawn:
    """A study and what is known of how it came about."""

    data: Study
    texts: dict[str, str]  # by item id
    truth: dict[str, Any] | None  # the simulation's
    bound: Bound | None  # who knows how the data were made, where the entry asks and anybody can
    tables: dict[str, Any]  # split sizes, as the paper's Table 3, and notes, as whether these are its data


def source_of(needs: Needs) -> str | None:
    """The source of the real data as params.yaml would name it; None where they are not here.

    Looked for in the variable PAL_PERSONA, PAL_PICKAPIC_V1 and so on, and in what params.yaml names where
    that is a folder. Nothing is ever fetched: `hub` in params.yaml is the shipped value, and 200 GB.
    """
    if needs == "nothing":
        return "generated"
    if needs == "pickapic_v1_and_v2":
        second = source_of("pickapic_v2")
        return second if second and first_version(second) else None
    if needs == "persona" and (beside := real_data("persona")):
        return str(beside)
    with chdir(ROOT):
        named = os.environ.get(f"PAL_{needs.upper()}") or params.load()[needs].source
    folder = (ROOT / Path(named).expanduser()).resolve()
    return str(folder) if named not in ("hub", "sample") and folder.is_dir() else None


def first_version(second: str) -> str | None:
    """Version 1 of Pick-a-Pic: beside version 2, or wherever else it is found; None where it is not here."""
    beside = Path(second).parent / "pickapic_v1"
    return str(beside) if beside.is_dir() else source_of("pickapic_v1")


def cells(run: Run, axes: tuple[str, ...]) -> list[Place]:
    """Every combination of the grid's values on some axes."""
    grid = {axis: values for axis, values in run.grid.items() if axis in axes}
    return [dict(zip(grid, values, strict=True)) for values in product(*grid.values())]


def draws(run: Run) -> list[Place]:
    """What must be drawn: the combinations on the axes of data, but for the number of training answers."""
    every = cells(run, tuple(axis for axis in DRAWN if axis != "train_pairs"))
    return [cell for cell in every if any(fits(run, preset, cell) for preset in run.presets)]


def fits(run: Run, preset: str, cell: Place) -> list[Place]:
    """What of a preset must be fitted to each study of one cell."""

    def is_run(at: Place) -> bool:
        groups, only = {"groups": at.get("groups")}, run.only.get(preset, {})  # as a value, groups is K*
        return all(at.get(axis) in [groups.get(value, value) for value in only[axis]] for axis in only)

    return [place for place in cells(run, ("train_pairs", *FITTED)) if is_run({**cell, **place})]


def draw(run: Run, cell: Place, source: str, seed: int) -> Drawn:
    """Draw one study.

    Raises:
        PipelineError: If a knob is unknown or not allowed, or the data cannot be had.
    """
    with redirect_stderr(StringIO()), staged(run.dataset, params.check(knobs(run, cell, source, seed))):
        truth = paths.prepared(run.dataset) / "truth.json"
        data = study.load(run.dataset)
        return Drawn(
            data,
            study.texts(study.items(run.dataset)),
            read_json(truth, "prepare") if truth.exists() else None,
            bayes_bound(data, params.load()) if run.bound else None,
            {"splits": split_table(run.dataset), "notes": read_notes(run.dataset)},
        )


def knobs(run: Run, cell: Place, source: str, seed: int) -> dict[str, Any]:
    """All parameters of one study, as params.yaml would hold them; the stages check them."""
    with chdir(ROOT):
        values = params.load().model_dump(mode="json")
    name, shots = run.dataset, run.shots or [1]
    values["datasets"] = [name]
    values["model"]["K"] = 1
    values[name]["source"] = source
    # Pick-a-Pic v1 is there too where another dataset is made or told apart with it.
    if name == "pickafilter":
        values[name]["source"], values["pickapic_v1"]["source"] = "pickapic_v1", source
    elif name == "pickapic_v2" and (first := first_version(source)):
        values["pickapic_v1"]["source"] = first
    elif name == "pickapic_v1" and run.needs == "pickapic_v1_and_v2":
        values[name]["source"] = first_version(source) or source
    values[name]["encoder"] = run.encoder
    values["evaluate"] |= {"shots": shots, "headline_shots": max(shots)}
    for other in ("simulated", "persona"):  # which must have as many answers as shots, run or not
        values[other]["prepare"]["adapt_pairs"] = max(shots)
    for stage in ("prepare", "split"):
        values[stage]["seed"] = seed
    chosen = dict(run.prepare)
    if "train_pairs" in run.grid:
        chosen["train_pairs"] = max(run.grid["train_pairs"])
    chosen |= {axis: cell[axis] for axis in ("dim", "setting", "protocol") if axis in cell}
    groups = cell.get("groups", chosen.pop("groups", None))
    if name == "persona" and groups is not None:
        chosen["personas"] = PERSONAS[: int(groups)]
    if name == "simulated":
        chosen["groups"] = groups
        for half in ("seen", "unseen"):
            if (each := chosen.pop(f"{half}_users_per_group", None)) is not None:
                chosen[f"{half}_users"] = each * int(groups or 1)
    values[name]["prepare"] |= chosen
    if "beta" in cell:
        values[name]["prepare"]["recolour"]["beta"] = float(cell["beta"])
    return values


def first_answers(data: Study, run: Run, preset: str, cell: Place) -> Study:
    """The study with as many training answers of each user, the first that were drawn, as a cell has."""
    bounds = [most for most in (cell.get("train_pairs"), run.answers.get(preset)) if most is not None]
    if not bounds:
        return data
    places = data.places.with_row_index("row").with_columns(user=pl.Series(data.comparisons.user.numpy()))
    train = (pl.col("users") == "seen") & (pl.col("split") == "train")
    rank = pl.int_range(pl.len()).over("users", "split", "user")
    rows = places.filter(~train | (rank < min(bounds)))["row"].to_numpy().astype("int64")
    return replace(data, comparisons=data.comparisons[torch.from_numpy(rows)], places=data.places[rows])


def configs(run: Run, name: str, cell: Place) -> tuple[HeadConfig, FitConfig]:
    """Options of head and fit in one cell: a preset, with what the entry sets otherwise.

    Raises:
        PipelineError: If an option is unknown or not allowed.
    """
    head = {**run.head, **{axis: int(cell[axis]) for axis in FITTED if axis in cell}}
    try:
        return preset(name.split("-")[0], run.model, head=head, fit=run.fit.get(name, {}))
    except PalError as error:
        raise PipelineError(f"{error} (in paper.yaml, preset {name})") from None
