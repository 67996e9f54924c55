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

PAPER = Path(__file__).with_name("paper.yaml")
SCALES = ("laptop", "paper")
# Axes that need data of their own, and those that need a fit of their own; along the others one fit is read.
DRAWN = ("groups", "train_pairs", "dim", "setting", "beta", "protocol")
FITTED = ("K", "latent")
Axis = Literal["groups", "train_pairs", "dim", "setting", "beta", "protocol", "K", "latent", "shots", "what"]
Value = int | float | str
Preset = Annotated[str, Field(pattern=r"^(paper|authors|ours)(-[a-z0-9]+)?$")]
Needs = Literal["nothing", "persona", "pickapic_v1", "pickapic_v2", "pickapic_v1_and_v2", "summarize"]
Place = dict[str, Value]  # K: "groups" stands for K = K*


class Options(Config):
    """What to compute, in so far as a scale may replace it."""

    prepare: dict[str, Any] = Field({})  # knobs of `prepare`; `users_per_group` serves the simulation too
    fit: dict[str, dict[str, Any]] = Field({})  # options of the fit other than the preset's, by preset
    grid: dict[Axis, Annotated[list[Value], Field(min_length=1)]] = Field({})  # every combination is a cell
    # By preset, the values of some axes at which it is run; `groups` as a value of K stands for K*.
    only: dict[Preset, dict[Axis, list[Value]]] = Field({})
    # By preset, with how many training answers of each user it is fitted at most: what a run that stops
    # within its first epoch sees, which `max_steps` cannot say, as it counts whole epochs.
    answers: dict[Preset, AtLeastOne] = Field({})
    presets: list[Preset] = Field([])
    seeds: list[Seed] = Field([])


class Run(Options):
    """What to compute.

    A preset with a name after a dash, as paper-full, is a variant with options of its own in `fit`: it stands
    beside the others, without a verdict. Of parameters the head's are counted, of counts the data's rows.
    """

    kind: Literal["accuracy", "parameters", "counts"] = "accuracy"
    dataset: Text
    needs: Needs = "nothing"  # real data; nothing where they are simulated
    encoder: Text | dict[str, Text] = "none"  # none where items are vectors
    model: Literal["A", "B"] = "A"
    presets: Annotated[list[Preset], Field(min_length=1)] = Field(["paper", "ours"])  # each is a series
    head: dict[str, Any] = Field({})  # options other than the preset's
    seeds: Annotated[list[Seed], Field(min_length=1)] = Field([0, 1, 2, 3, 4])  # of data and of training
    read: Annotated[list[Text], Field(min_length=1)] = Field(["seen"])  # see `experiments.measure.READERS`
    shots: list[AtLeastOne] = Field([])  # comparisons from which unseen users are located
    tested_on: Text | None = None  # a dataset whose test pairs are judged: of other people, so that K is 1
    bound: bool = False  # whether to find, too, how good anyone could be who knows how the data were made
    scales: dict[Literal["laptop", "paper"], Options] = Field({})  # seeds and presets are replaced as a whole

    @model_validator(mode="after")
    def _others_need_no_weights(self) -> "Run":
        if self.tested_on and self.grid.get("K") != [1]:
            raise ValueError(
                f"grid.K must be [1] with tested_on, whose people are others, got {self.grid.get('K')}"
            )
        return self

    def at(self, scale: str) -> "Run":
        """The same with a scale's replacements put in."""
        change = self.scales.get(scale, Options())  # type: ignore[call-overload]
        keyed = ("prepare", "grid", "only", "answers")
        update: dict[str, Any] = {key: {**getattr(self, key), **getattr(change, key)} for key in keyed}
        update |= {key: getattr(change, key) or getattr(self, key) for key in ("presets", "seeds")}
        names = {*self.fit, *change.fit}
        update["fit"] = {name: {**self.fit.get(name, {}), **change.fit.get(name, {})} for name in names}
        return self.model_copy(update=update | {"scales": {}})


class Published(Config):
    """A number of the text."""

    at: Place = Field({})  # the cells of ours that it is held against
    value: Number | None  # null where the text has a picture alone
    spread: Number | None = None  # what stands behind its ±
    place: Text  # where it stands
    tolerance: Annotated[Number, Field(ge=0)] = 0.0  # how far ours may lie from it beside our interval
    whose: Literal["ours", "others"] = "ours"  # others: a system's that is not repeated here
    why: Text | None = None  # it is not repeated

    @model_validator(mode="after")
    def _others_have_a_reason(self) -> "Published":
        if (self.whose == "others") != (self.why is not None):
            raise ValueError(f"why must be given for others' numbers, and for them alone, at {self.place!r}")
        return self


class Claim(Config):
    """A claim in words, made checkable on accuracies in per cent.

    difference: `more` less `less` is above `least` (paired). reaches: `at` is at least `least`. below: it is
    less. range: over the axis `over` accuracies differ by at most `most`. rises: from the least to the
    largest value of `over` accuracy rises by more than `least`. gap: that rise is larger at `more` than at
    `less` by more than `least`. Each is looked at in every cell of the other axes, and holds where our whole
    interval says so, by the least effect.
    """

    says: Text
    place: Text  # where it stands
    check: Literal["difference", "reaches", "below", "range", "rises", "gap"]
    more: Place = Field({})  # the cells of the larger accuracy
    less: Place = Field({})
    at: Place = Field({})
    over: Axis | None = None
    least: Number = 0.0  # percentage points; of reaches, per cent
    most: Number = 0.0
    value: Number | None = None  # the difference that the text gives, if any, which ours is held against
    tolerance: Number = 0.0  # how far ours may lie from it beside our interval

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
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise PipelineError(f"{path.name} is not valid YAML: {' '.join(str(error).split())}") from None
    try:
        return Declared.model_validate(values)
    except ValidationError as error:
        raise PipelineError(f"{explain(error)} (in {path.name})") from None
