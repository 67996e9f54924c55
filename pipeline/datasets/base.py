"""What modules of datasets share: sources, counts, the truth, and the keys of each section of params.yaml."""

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import polars as pl
from pydantic import AfterValidator, BeforeValidator, Discriminator, Field, Tag

from pal.config import Config, member_of
from pal.conversations import template_of

if TYPE_CHECKING:  # the datasets' modules name these types by this module's name
    from torch import Tensor

    from pal.comparisons import Comparisons
    from pipeline.study import Study as Study

Count = Annotated[int, Field(ge=0, lt=2**31)]
AtLeastOne = Annotated[int, Field(ge=1, lt=2**31)]
Text = Annotated[str, Field(min_length=1)]
Method = Annotated[Text, BeforeValidator(member_of("pal.methods", "METHODS"))]


def _differ(names: list[str]) -> list[str]:
    if len(set(names)) < len(names):
        raise ValueError(f"must not repeat a name, got {names}")
    return names


def _is_encoder(name: str) -> str:
    """Check a name alone: whether an encoder's files are there is seen by the stage encode."""
    from pal.encoders import check_name

    if name != "none":
        check_name(name)
    return name


Differing = AfterValidator(_differ)  # of the names in a list
EncoderName = Annotated[Text, AfterValidator(_is_encoder)]


@dataclass(frozen=True)
class Remote:
    """Files of a dataset repository on the Hugging Face hub."""

    repo: str
    revision: str  # a commit, a tag or a branch
    files: list[str]  # paths or patterns (`data/*.parquet`); one that ends in / is a folder of tables
    sha256: dict[str, str] = field(default_factory=dict)  # published ones, by names without folders
    prefix: str = ""  # goes before each file's name, where two repositories have files of the same name


@dataclass(frozen=True)
class Source:
    """The files that a dataset's source names now, by the names that messages and manifests use."""

    source: str  # in words, for people: which data these are
    paths: dict[str, Path] = field(default_factory=dict)  # local files; their bytes are copied to the store
    links: dict[str, Path] = field(default_factory=dict)  # too many or too large to copy: read where they lie
    remotes: list[Remote] = field(default_factory=list)
    # Writes the files of a source that the program makes itself into a folder; is also given the others.
    make: Callable[[Path, dict[str, Path]], None] | None = None
    # Looks into the local files before any stage runs, raises `PipelineError` on bad ones, and returns
    # sentences on what people should know of the others.
    check: Callable[[], list[str] | None] | None = None


@dataclass
class Kept:
    """A source's rows that count, and how many of the others were dropped, by reason."""

    rows: pl.DataFrame
    dropped: dict[str, int] = field(default_factory=dict)

    def keep(self, condition: pl.Expr, reason: str) -> None:
        """Leave out the rows where the condition is false or null, and count them under the reason."""
        kept = self.rows.filter(condition)
        self.dropped[reason] = self.dropped.get(reason, 0) + len(self.rows) - len(kept)
        self.rows = kept

    def counts(self) -> dict[str, int]:
        """What was read, kept and dropped, and the reasons."""
        kept, dropped = len(self.rows), sum(self.dropped.values())
        return {"read": kept + dropped, "kept": kept, "dropped": dropped, **self.dropped}


@dataclass(frozen=True)
class Truth:
    """How a dataset's answers were made, where that is known; evaluate computes the Bayes bound from it."""

    # (n, K) margins of comparisons, in favour of the chosen response, at each true group or prototype: above
    # 0 where its users would answer so. Linear in weights, where users have these.
    margins: Callable[["Comparisons"], "Tensor"]
    weights: dict[str, list[float]] | None = None  # by user id; None where each user belongs to one group
    concentration: float = 1.0  # of the symmetric Dirichlet that the weights were drawn from


class Draws(Config):
    """How many pairs of each kind a simulated user has."""

    train_pairs: AtLeastOne  # of a seen user
    adapt_pairs: AtLeastOne  # of an unseen one
    val_pairs: Count
    test_pairs: AtLeastOne

    def splits(self, more_tests: int = 0) -> dict[str, list[str]]:
        """The split of each pair of a seen and of an unseen user."""
        later = ["val"] * self.val_pairs + ["test"] * (self.test_pairs + more_tests)
        return {"seen": ["train"] * self.train_pairs + later, "unseen": ["adapt"] * self.adapt_pairs + later}


class HubFiles(Config):
    """What the source `hub` stands for: a repository on the Hugging Face hub, and its revision."""

    repo: Annotated[str, Field(pattern=r"^[\w.-]+/[\w.-]+$")]
    revision: Annotated[str, Field(pattern=r"^[\w./-]+$")]


class EncoderByModality(Config):
    """An encoder for texts and another for images."""

    text: EncoderName
    image: EncoderName


# The tags say which alternative a value is meant as, so that an error is about that one alone.
Encoder = Annotated[
    Annotated[EncoderName, Tag("name")] | Annotated[EncoderByModality, Tag("map")],
    Discriminator(lambda value: "map" if isinstance(value, dict | EncoderByModality) else "name"),
]


class DatasetParams(Config):
    """A dataset's section of params.yaml; its module narrows `source` and `prepare`, and may add keys."""

    source: Text
    prepare: Config  # with `seen_users` and `adapt_pairs` where parameters say how many there are
    split: Literal["as_prepared"] = "as_prepared"
    encoder: Encoder
    # What is fitted: a name of METHODS in pal/methods, or None for what preset, head and train say.
    method: Method | None = None
    preset: Literal["ours", "paper", "authors"] = "ours"
    # Options of HeadConfig and FitConfig that differ from the preset; `Params.configs` checks them.
    head: dict[str, Any]
    train: dict[str, Any]

    @property
    def template(self) -> str | None:
        """How prompt and response are encoded as one text; None where each is an item of its own."""
        item = getattr(self.prepare, "item", "response")
        return None if item == "response" else template_of(item)

    def encoder_of(self, modality: str) -> str:
        """The name of the encoder that reads such items; none where there is none."""
        return self.encoder if isinstance(self.encoder, str) else getattr(self.encoder, modality, "none")
