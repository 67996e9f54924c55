"""paper.yaml as checked values: one entry per figure panel and table of the two PAL texts.

`run` says what to compute, `paper` what the text claims; only the first makes an entry run again.
"""

from pathlib import Path
from typing import Annotated, Any, Literal

import yaml
from pydantic import Field, ValidationError, model_validator

from pal.config import Config, Number, explain
from pipeline import PipelineError
from pipeline.datasets.base import AtLeastOne, Text
from pipeline.params import Seed

ROOT = Path(__file__).parents[1]
PAPER = Path(__file__).with_name("paper.yaml")
SCALES = ("laptop", "paper")
# Axes that need data of their own, and those that need a fit of their own; along the others one fit is read.
DRAWN = ("groups", "train_pairs", "dim", "setting", "beta", "protocol")
FITTED = ("K", "latent")
Axis = Literal["groups", "train_pairs", "dim", "setting", "beta", "protocol", "K", "latent", "shots", "what"]
Value = int | float | str
Preset = Annotated[str, Field(pattern=r"^(paper|authors|ours)(-[a-z0-9]+)?$")]
Kind = Literal["accuracy", "parameters", "counts"]
Needs = Literal["nothing", "persona", "pickapic_v1", "pickapic_v2", "pickapic_v1_and_v2", "summarize"]
Place = dict[str, Value]  # K: "groups" stands for K = K*


class Run(Config):
    """What to compute.

    Args:
        kind: accuracy: draw, fit and judge. parameters: count the head's. counts: count the data's rows.
        dataset: The pipeline's dataset.
        needs: Which real data; nothing where they are simulated.
        encoder: The frozen encoder; none where items are vectors.
        model: A or B.
        presets: Presets of hyper-parameters to run, each a series. A name after a dash makes a variant with
            options of its own in `fit`, as paper-full: it stands beside, without a verdict.
        head: Options of the head other than the preset's.
        fit: Options of the fit other than the preset's, by preset.
        prepare: Knobs of the dataset's `prepare`; `users_per_group` serves the simulation too.
        grid: Values by axis; every combination is one cell.
        only: By preset, the values of some axes at which it is run; `groups` as a value of K stands for K*.
        answers: By preset, with how many training answers of each user it is fitted at most: what a run that
            stops within its first epoch sees, which `max_steps` cannot say, as it counts whole epochs.
        seeds: Each draws data and starts anew.
        read: What of each fit is kept: see `experiments.measure.READERS`.
        shots: Comparisons from which unseen users are located; at most eight numbers.
        tested_on: Another dataset, whose test pairs are judged, not its own; its people are others: K is 1.
        bound: Whether to find, too, how good anyone could be who knows how the data were made.
        scales: By scale, what replaces options above: `prepare`, `fit`, `grid`, `only` and `answers` key by
            key, `presets` and `seeds` whole.
    """

    kind: Kind = "accuracy"
    dataset: Text
    needs: Needs = "nothing"
    encoder: Text | dict[str, Text] = "none"
    model: Literal["A", "B"] = "A"
    presets: Annotated[list[Preset], Field(min_length=1)] = Field(["paper", "ours"])
    head: dict[str, Any] = Field({})
    fit: dict[str, dict[str, Any]] = Field({})
    prepare: dict[str, Any] = Field({})
    grid: dict[Axis, Annotated[list[Value], Field(min_length=1)]] = Field({})
    only: dict[Preset, dict[Axis, list[Value]]] = Field({})
    answers: dict[Preset, AtLeastOne] = Field({})
    seeds: Annotated[list[Seed], Field(min_length=1)] = Field([0, 1, 2, 3, 4])
    read: Annotated[list[Text], Field(min_length=1)] = Field(["seen"])
    shots: list[AtLeastOne] = Field([])
    tested_on: Text | None = None
    bound: bool = False
    scales: dict[Literal["laptop", "paper"], "Scale"] = Field({})

    @model_validator(mode="after")
    def _others_need_no_weights(self) -> "Run":
        if self.tested_on and self.grid.get("K") != [1]:
            raise ValueError(
                f"grid.K must be [1] with tested_on, whose people are others, got {self.grid.get('K')}"
            )
        return self

    def at(self, scale: str) -> "Run":
        """The same with a scale's replacements put in."""
        change = self.scales.get(scale)  # type: ignore[call-overload]
        if change is None:
            return self.model_copy(update={"scales": {}})
        keyed = ("prepare", "grid", "only", "answers")
        update: dict[str, Any] = {key: {**getattr(self, key), **getattr(change, key)} for key in keyed}
        update |= {key: getattr(change, key) or getattr(self, key) for key in ("presets", "seeds")}
        names = {*self.fit, *change.fit}
        update["fit"] = {name: {**self.fit.get(name, {}), **change.fit.get(name, {})} for name in names}
        return self.model_copy(update=update | {"scales": {}})


class Scale(Config):
    """What a scale replaces."""

    prepare: dict[str, Any] = Field({})
    grid: dict[Axis, list[Value]] = Field({})
    only: dict[Preset, dict[Axis, list[Value]]] = Field({})
    answers: dict[Preset, AtLeastOne] = Field({})
    presets: list[Preset] = Field([])
    fit: dict[str, dict[str, Any]] = Field({})
    seeds: list[Seed] = Field([])


class Published(Config):
    """A number of the text.

    Args:
        at: Which cells of ours it is to be held against.
        value: The number; null where the text has a picture alone.
        spread: What stands behind its ±; null where nothing does.
        place: Where it stands.
        tolerance: How far ours may lie from it beside our interval, in the number's unit.
        whose: ours: held against our cells. others: a system's that is not repeated here.
        why: Why it is not repeated; others' alone have it.
    """

    at: Place = Field({})
    value: Number | None
    spread: Number | None = None
    place: Text
    tolerance: Annotated[Number, Field(ge=0)] = 0.0
    whose: Literal["ours", "others"] = "ours"
    why: Text | None = None

    @model_validator(mode="after")
    def _others_have_a_reason(self) -> "Published":
        if (self.whose == "others") != (self.why is not None):
            raise ValueError(f"why must be given for others' numbers, and for them alone, at {self.place!r}")
        return self


class Claim(Config):
    """A claim in words, made checkable on accuracies in per cent.

    Args:
        says: The claim.
        place: Where it stands.
        check: difference: `more` less `less` is above `least` (paired). reaches: `at` is at least `least`.
            below: it is less. range: over the axis `over` accuracies differ by at most `most`. rises: from
            the least to the largest value of `over` accuracy rises by more than `least`. gap: that rise is
            larger at `more` than at `less` by more than `least`. Each is looked at in every cell of the other
            axes, and holds where our whole interval says so, by the least effect.
        more: The cells of the larger accuracy.
        less: Those of the smaller.
        at: Cells to look at.
        over: An axis.
        least: In percentage points (reaches: per cent).
        most: In percentage points.
        value: The difference that the text gives, if any; ours is then held against it.
        tolerance: How far ours may lie from it beside our interval.
    """

    says: Text
    place: Text
    check: Literal["difference", "reaches", "below", "range", "rises", "gap"]
    more: Place = Field({})
    less: Place = Field({})
    at: Place = Field({})
    over: Axis | None = None
    least: Number = 0.0
    most: Number = 0.0
    value: Number | None = None
    tolerance: Number = 0.0

    @property
    def effect(self) -> float:
        """Least effect: by how many points more than `least`, where that is 0: next to nothing is no rise."""
        return 1.0 if self.check in ("difference", "rises", "gap") and self.least == 0 else 0.0


class Paper(Config):
    """What the text says, where (`place`), and how our protocol differs from its own, a sentence each."""

    place: Text
    published: list[Published] = Field([])
    claims: list[Claim] = Field([])
    differences: list[Text] = Field([])


class Figure(Config):
    """How the entry is drawn: along x, an axis that tells lines apart, one for panels, and which cells."""

    x: Axis
    line: Axis | None = None
    panel: Axis | None = None
    log: bool = False
    only: Place = Field({})


class Entry(Config):
    """One figure panel or table."""

    title: Text
    run: Run
    paper: Paper
    figure: Figure | None = None

    @model_validator(mode="after")
    def _places_are_on_axes(self) -> "Entry":
        known = {*self.run.grid, "what", "shots", "preset"}
        places = [p.at for p in self.paper.published]
        places += [place for c in self.paper.claims for place in (c.more, c.less, c.at)]
        for place in places:
            if unknown := next((axis for axis in place if axis not in known), None):
                raise ValueError(
                    f"paper names the axis {unknown}, which run.grid lacks; it has {sorted(known)}"
                )
        return self


class Declared(Config):
    """All of paper.yaml."""

    scale: Literal["laptop", "paper"]
    entries: dict[Annotated[str, Field(pattern=r"^[a-z0-9]+(-[a-z0-9]+)*$")], Entry]


def load(path: Path = PAPER) -> Declared:
    """Read and check paper.yaml.

    Raises:
        PipelineError: Naming the first key that is unknown, missing or not allowed.
    """
    try:
        values = yaml.safe_load(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise PipelineError(f"{path} is missing; it declares the paper's experiments") from None
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise PipelineError(f"{path.name} is not valid YAML: {' '.join(str(error).split())}") from None
    try:
        return Declared.model_validate(values)
    except ValidationError as error:
        raise PipelineError(f"{explain(error)} (in {path.name})") from None
