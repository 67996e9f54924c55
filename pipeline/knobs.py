"""The sections of params.yaml: which keys each has, and what each key may hold.

DVC tracks the values, so the code here does not count towards a stage's fingerprint.
"""

from typing import Annotated, Any, Literal, get_args

from pydantic import Discriminator, Field, Tag, model_validator

from pal.config import Config, Number, Positive, Share

Dataset = Literal["simulated", "persona", "pickafilter", "pickapic_v1", "pickapic_v2", "summarize", "own"]
DATASETS: tuple[str, ...] = get_args(Dataset)
Device = Literal["auto", "cpu", "cuda"]
Count = Annotated[int, Field(ge=0)]
Some = Annotated[int, Field(ge=1)]
Text = Annotated[str, Field(min_length=1)]
Repo = Annotated[str, Field(pattern=r"^[\w.-]+/[\w.-]+$")]
Revision = Annotated[str, Field(pattern=r"^[\w./-]+$")]
Colour = Annotated[str, Field(pattern=r"^#[0-9a-fA-F]{6}$")]
Seed = Annotated[int, Field(ge=0, lt=2**31)]


def _count_or_auto(value: Any) -> str:
    """Which of the two a number of prototypes is meant as, so that complaints are about that one."""
    return "word" if value == "auto" else "count"


class Model(Config):
    """What params.yaml says of the model for all datasets."""

    K: Annotated[
        Annotated[Some, Tag("count")] | Annotated[Literal["auto"], Tag("word")], Discriminator(_count_or_auto)
    ]
    most_prototypes: Some


class Source(Config):
    """Where each dataset's data come from."""

    simulated: Literal["generated"]
    persona: Text
    pickafilter: Text
    pickapic_v1: Text
    pickapic_v2: Text
    summarize: Text
    own: Text | None
    own_vectors: Text | None


class Hub(Config):
    """What is fetched from the Hugging Face hub."""

    persona_repo: Repo
    persona_revision: Revision
    pickapic_v1_repo: Repo
    pickapic_v1_revision: Revision
    pickapic_v1_tables_repo: Repo
    pickapic_v1_tables_revision: Revision
    pickapic_v2_repo: Repo
    pickapic_v2_revision: Revision
    summarize_repo: Repo
    summarize_revision: Revision


class PrepareSimulated(Config):
    """How the simulation is drawn."""

    setting: Literal["mixture", "partition"]
    groups: Some
    dim: Some
    seen_users: Some
    unseen_users: Some
    train_pairs: Some
    adapt_pairs: Some
    val_pairs: Count
    test_pairs: Some
    min_distance: Annotated[Number, Field(ge=0)]
    concentration: Positive


class PreparePersona(Config):
    """Which personas there are, and who is asked how much."""

    personas: Annotated[list[Annotated[str, Field(pattern=r"^[\w-]+$")]], Field(min_length=1)]
    prompt: Literal["question", "statement"]
    users_per_group: Some
    unseen_users_per_group: Some
    train_pairs: Some
    adapt_pairs: Some
    val_pairs: Count
    test_pairs: Some
    new_test_pairs: Some
    new_statements: Annotated[Number, Field(gt=0, lt=1)]

    @model_validator(mode="after")
    def _personas_differ(self) -> "PreparePersona":
        if len(set(self.personas)) < len(self.personas):
            raise ValueError(f"prepare.persona.personas must not repeat a persona, got {self.personas}")
        return self


class PreparePickafilter(Config):
    """Who takes part in Pick-a-Filter, and who of them is seen (PAL, appendix D)."""

    min_labels: Count
    seen_users_per_group: Some


class PreparePickapic(Config):
    """How Pick-a-Pic is read."""

    ties: Literal["drop", "keep"]
    weighting: Literal["none", "per_prompt"]
    unseen_users: Share


class PreparePickapicV2(PreparePickapic):
    """Version 2 contains test comparisons that version 1 trained on."""

    leakage: Literal["derive", "skip"]


class PrepareSummarize(Config):
    """Which of the published protocols on TL;DR, and what is encoded as a response (D10, D11)."""

    protocol: Literal["stiennon", "li2024", "iclr_simulated", "lore"]
    item: Literal["response", "joint"]


class PrepareOwn(Config):
    """How one's own comparisons are read."""

    ties: Literal["drop", "keep"]
    prompts: Literal["text", "image", "vector"]
    responses: Literal["text", "image", "vector"]


class Prepare(Config):
    """The stage prepare: a seed, and one section per dataset."""

    seed: Seed
    simulated: PrepareSimulated
    persona: PreparePersona
    pickafilter: PreparePickafilter
    pickapic_v1: PreparePickapic
    pickapic_v2: PreparePickapicV2
    summarize: PrepareSummarize
    own: PrepareOwn


class Filters(Config):
    """Which pairs get colour filters, and what a filter does to a picture (D20, D22)."""

    beta: Annotated[Number, Field(ge=0, le=1)]
    cool: Colour
    warm: Colour
    strength: Annotated[Number, Field(gt=0, le=1)]
    blend: Literal["mix", "multiply"]


class Recolour(Config):
    """The stage recolour: a seed, and each dataset's colour filters."""

    seed: Seed
    simulated: Literal["none"]
    persona: Literal["none"]
    pickafilter: Filters
    pickapic_v1: Literal["none"]
    pickapic_v2: Literal["none"]
    summarize: Literal["none"]
    own: Literal["none"]


class SplitShares(Config):
    """Shares by which the stage split draws places."""

    unseen_users: Annotated[Number, Field(gt=0, lt=1)]
    new_prompts: Share
    val: Share
    test: Annotated[Number, Field(gt=0, lt=1)]
    adapt: Annotated[Number, Field(gt=0, lt=1)]
    min_pairs: Annotated[int, Field(ge=2)]
    by: Literal["random", "time"]

    @model_validator(mode="after")
    def _leaves_some_to_train_on(self) -> "SplitShares":
        if self.val + self.test >= 1:
            raise ValueError(
                f"split.own.val + split.own.test must be below 1, got {self.val} + {self.test}; "
                "the rest is trained on"
            )
        return self


def _word_or_shares(value: Any) -> str:
    """Which of the two a value of split.own is meant as, so that complaints are about that one."""
    return "word" if isinstance(value, str) else "shares"


class Split(Config):
    """The stage split: a seed, and how each dataset's places come about."""

    seed: Seed
    simulated: Literal["as_prepared"]
    persona: Literal["as_prepared"]
    pickafilter: Literal["as_prepared"]
    pickapic_v1: Literal["as_prepared"]
    pickapic_v2: Literal["as_prepared"]
    summarize: Literal["as_prepared"]
    own: Annotated[
        Annotated[Literal["as_prepared"], Tag("word")] | Annotated[SplitShares, Tag("shares")],
        Discriminator(_word_or_shares),
    ]


class ByModality(Config):
    """An encoder for texts and another for images."""

    text: Text
    image: Text


def _name_or_map(value: Any) -> str:
    """Which of the two an encoder's value is meant as, so that complaints are about that one."""
    return "map" if isinstance(value, dict | ByModality) else "name"


Encoders = Annotated[
    Annotated[Text, Tag("name")] | Annotated[ByModality, Tag("map")], Discriminator(_name_or_map)
]


class Encoder(Config):
    """Each dataset's frozen encoder, or encoders: one per modality."""

    simulated: Literal["none"]
    persona: Encoders
    pickafilter: Encoders
    pickapic_v1: Encoders
    pickapic_v2: Encoders
    summarize: Encoders
    own: Encoders


class Encode(Config):
    """The stage encode: how encoders run, and what is stored."""

    weights: dict[str, Text]
    device: Device
    precision: Literal["float32", "bfloat16", "float16"]
    engine: Literal["torch", "compile", "onnx", "ray"]
    dtype: Literal["float32", "float16"]
    tokens_per_batch: Annotated[int, Field(ge=16)]
    images_per_batch: Some
    workers: Count
    shard_rows: Some
    on_bad_item: Literal["fail", "skip"]


PresetName = Literal["ours", "paper", "authors"]


class Preset(Config):
    """The starting point of each dataset's options."""

    simulated: PresetName
    persona: PresetName
    pickafilter: PresetName
    pickapic_v1: PresetName
    pickapic_v2: PresetName
    summarize: PresetName
    own: PresetName


class Choices(Config):
    """A map of options by dataset; null leaves an option to the preset. Checked where they are combined."""

    simulated: dict[str, Any]
    persona: dict[str, Any]
    pickafilter: dict[str, Any]
    pickapic_v1: dict[str, Any]
    pickapic_v2: dict[str, Any]
    summarize: dict[str, Any]
    own: dict[str, Any]


class Train(Choices):
    """The stage train: seeds, a device, and how each dataset's head is fitted."""

    seed: Seed
    more_seeds: Annotated[int, Field(ge=0, le=10)]
    device: Device


class Evaluate(Config):
    """The stage evaluate: shots, draws and resamples."""

    seed: Seed
    shots: Annotated[list[Some], Field(min_length=1, max_length=8)]
    headline_shots: Some
    draws: Annotated[int, Field(ge=20)]
    asked: Annotated[int, Field(ge=0, le=50)]
    resamples: Annotated[int, Field(ge=100)]

    @model_validator(mode="after")
    def _headline_is_a_shot(self) -> "Evaluate":
        if self.headline_shots not in self.shots:
            raise ValueError(
                f"evaluate.headline_shots must be one of evaluate.shots {self.shots}, "
                f"got {self.headline_shots}"
            )
        return self


class Report(Config):
    """The stage report."""

    items_per_prototype: Some
    gallery_pairs: Count
