"""What the module of a dataset offers, and the keys that every dataset's section of params.yaml has."""

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal, Protocol

from pydantic import AfterValidator, BeforeValidator, Discriminator, Field, Tag

from pal.config import Config, member_of

if TYPE_CHECKING:
    from polars import DataFrame, Expr
    from torch import Tensor

    from pal.comparisons import Comparisons
    from pipeline.params import Params

NOTES = "notes.json"  # beside the pairs, where prepare has sentences that must stand by every number
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
    """Files of a dataset repository on the Hugging Face hub.

    Args:
        repo: Its name.
        revision: A commit, a tag or a branch.
        files: Paths or patterns (`data/*.parquet`) of the files to fetch; one that ends in / is a folder,
            whose tables are fetched.
        sha256: Published hashes that files are held to, by their names without folders.
        prefix: Goes before each file's name, where two repositories have files of the same name.
    """

    repo: str
    revision: str
    files: list[str]
    sha256: dict[str, str] = field(default_factory=dict)
    prefix: str = ""


@dataclass(frozen=True)
class Source:
    """The files that a dataset's source names at this moment.

    Args:
        source: In words, for people: which data these are.
        paths: Local files, by the names that messages and manifests use; their bytes are copied to the store.
        links: The same for files too many or too large to copy: they are read where they lie.
        remotes: What to fetch, where the source is not local.
        make: Writes the files of a source that the program makes itself into a folder; is also given the
            files that were taken or fetched, by their names.
        check: Looks into the local files before any stage runs, raises `PipelineError` on bad ones, and
            returns sentences on what people should know of the others.
    """

    source: str
    paths: dict[str, Path] = field(default_factory=dict)
    links: dict[str, Path] = field(default_factory=dict)
    remotes: list[Remote] = field(default_factory=list)
    make: Callable[[Path, dict[str, Path]], None] | None = None
    check: Callable[[], list[str] | None] | None = None


@dataclass
class Kept:
    """A source's rows that count, and how many of the others were dropped, by reason."""

    rows: "DataFrame"
    dropped: dict[str, int] = field(default_factory=dict)

    def keep(self, condition: "Expr", reason: str) -> None:
        """Leave out the rows where the condition is false or null, and count them under the reason."""
        kept = self.rows.filter(condition)
        self.dropped[reason] = self.dropped.get(reason, 0) + len(self.rows) - len(kept)
        self.rows = kept

    def counts(self) -> dict[str, int]:
        """What was read, kept and dropped, and the reasons."""
        dropped = sum(self.dropped.values())
        kept = len(self.rows)
        return {"read": kept + dropped, "kept": kept, "dropped": dropped, **self.dropped}


@dataclass(frozen=True)
class Truth:
    """How a dataset's answers were made, where that is known; evaluate computes the Bayes bound from it.

    Args:
        margins: (n, K) margins of comparisons, in favour of the chosen response, at each true group or
            prototype: above 0 where its users would answer so. Linear in weights, where users have these.
        weights: By user id, the true weights over prototypes; None where each user belongs to one group.
        concentration: Of the symmetric Dirichlet that the weights were drawn from.
    """

    margins: Callable[["Comparisons"], "Tensor"]
    weights: dict[str, list[float]] | None = None
    concentration: float = 1.0


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
    """A dataset's section of params.yaml; its module narrows `source` and `prepare`, and may add keys.

    Where parameters say how many users are seen, and from how many comparisons of an unseen one shots are
    drawn, `prepare` has `seen_users` and `adapt_pairs`.
    """

    source: Text
    prepare: Config
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
        return None


class Dataset(Protocol):
    """What a dataset's module offers.

    Where it is known how answers were made, the module also has `bound(data, params)`, which takes the study
    and all parameters, and returns a `Truth`, or None where that is not stored.

    Args:
        Params: Its section of params.yaml.
        TITLE: What the report calls it.
        ABOUT: What it is, in a sentence of the report.
        ITEMS_APART: Whether pairs on items that training knows and pairs on new ones are never added up.
    """

    Params: type[DatasetParams]
    TITLE: str
    ABOUT: str
    ITEMS_APART: bool

    def find(self, params: "Params") -> Source:
        """Say which files the source names now, for check's fingerprint and for download."""

    def prepare(self, params: "Params", files: dict[str, Path], out: Path) -> dict[str, int]:
        """Write items and pairs (and the truth, where it is known) into the folder `out`.

        Args:
            params: All parameters.
            files: Raw files by name, with their paths in the store; the last part of such a path is the
                file's sha256, by which items refer to it.
            out: An empty folder.

        Returns:
            How many rows were read, kept and dropped.
        """
