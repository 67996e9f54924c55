"""params.yaml as checked, frozen values: every key is there, none is unknown, each holds what is allowed.

DVC tracks the values, so the code here does not count towards a stage's fingerprint.
"""

from difflib import get_close_matches
from typing import Annotated, Any, Literal, get_args

from pydantic import Discriminator, Field, Tag, ValidationError, model_validator

from pal.config import Config, FitConfig, HeadConfig, Number, Positive, Share, explain, preset
from pal.errors import PalError
from pipeline import layout
from pipeline.errors import PipelineError, shorten

Dataset = Literal["simulated", "persona", "own"]
DATASETS: tuple[str, ...] = get_args(Dataset)
Device = Literal["auto", "cpu", "cuda"]
Count = Annotated[int, Field(ge=0)]
Some = Annotated[int, Field(ge=1)]
Seed = Annotated[int, Field(ge=0, lt=2**31)]


class Model(Config):
    """What params.yaml says of the model for all datasets."""

    K: Some


class Source(Config):
    """Where each dataset's data come from."""

    simulated: Literal["generated"]
    persona: Annotated[str, Field(min_length=1)]
    own: Annotated[str, Field(min_length=1)] | None


class Hub(Config):
    """What is fetched from the Hugging Face hub."""

    persona_repo: Annotated[str, Field(pattern=r"^[\w.-]+/[\w.-]+$")]
    persona_revision: Annotated[str, Field(pattern=r"^[\w./-]+$")]


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


class PrepareOwn(Config):
    """How one's own comparisons are read."""

    ties: Literal["drop", "keep"]


class Prepare(Config):
    """The stage prepare: a seed, and one section per dataset."""

    seed: Seed
    simulated: PrepareSimulated
    persona: PreparePersona
    own: PrepareOwn


class Recolour(Config):
    """The stage recolour: each dataset's colour filters."""

    simulated: Literal["none"]
    persona: Literal["none"]
    own: Literal["none"]


class SplitShares(Config):
    """Shares by which the stage split draws places."""

    unseen_users: Annotated[Number, Field(gt=0, lt=1)]
    new_prompts: Share
    val: Share
    test: Annotated[Number, Field(gt=0, lt=1)]
    adapt: Annotated[Number, Field(gt=0, lt=1)]
    min_pairs: Annotated[int, Field(ge=2)]

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
    own: Annotated[
        Annotated[Literal["as_prepared"], Tag("word")] | Annotated[SplitShares, Tag("shares")],
        Discriminator(_word_or_shares),
    ]


class Encoder(Config):
    """Each dataset's frozen encoder."""

    simulated: Literal["none"]
    persona: Literal["all-MiniLM-L6-v2", "hashed-words"]
    own: Literal["all-MiniLM-L6-v2", "hashed-words"]


class Encode(Config):
    """The stage encode: how encoders run, and what is stored."""

    weights: Annotated[str, Field(min_length=1)]
    device: Device
    dtype: Literal["float32", "float16"]
    tokens_per_batch: Annotated[int, Field(ge=16)]
    shard_rows: Annotated[int, Field(ge=1)]


class Preset(Config):
    """The starting point of each dataset's options."""

    simulated: Literal["ours", "paper"]
    persona: Literal["ours", "paper"]
    own: Literal["ours", "paper"]


class Choices(Config):
    """A map of options by dataset; null leaves an option to the preset. Checked where they are combined."""

    simulated: dict[str, Any]
    persona: dict[str, Any]
    own: dict[str, Any]


class Train(Choices):
    """The stage train: a seed, a device, and how each dataset's head is fitted."""

    seed: Seed
    device: Device


class Evaluate(Config):
    """The stage evaluate: shots, draws and resamples."""

    seed: Seed
    shots: Annotated[list[Some], Field(min_length=1, max_length=8)]
    headline_shots: Some
    draws: Annotated[int, Field(ge=20)]
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


class Params(Config):
    """All of params.yaml."""

    datasets: Annotated[list[Dataset], Field(min_length=1)]
    model: Model
    source: Source
    hub: Hub
    prepare: Prepare
    recolour: Recolour
    split: Split
    encoder: Encoder
    encode: Encode
    preset: Preset
    head: Choices
    train: Train
    evaluate: Evaluate
    report: Report

    @model_validator(mode="after")
    def _datasets_differ(self) -> "Params":
        if len(set(self.datasets)) < len(self.datasets):
            raise ValueError(f"datasets must not repeat a dataset, got {self.datasets}")
        return self

    @model_validator(mode="after")
    def _enough_to_adapt_from(self) -> "Params":
        for name in ("simulated", "persona"):
            pairs = getattr(self.prepare, name).adapt_pairs
            if pairs < max(self.evaluate.shots):
                raise ValueError(
                    f"prepare.{name}.adapt_pairs must be at least {max(self.evaluate.shots)}, the largest of "
                    f"evaluate.shots, got {pairs}"
                )
        return self

    @model_validator(mode="after")
    def _fewer_prototypes_than_users(self) -> "Params":
        persona = self.prepare.persona
        seen = {
            "simulated": self.prepare.simulated.seen_users,
            "persona": len(persona.personas) * persona.users_per_group,
        }
        for name in self.datasets:
            if seen.get(name, self.model.K) < self.model.K:
                raise ValueError(
                    f"model.K must be at most {seen[name]}, the seen users of {name}, got {self.model.K}; "
                    "lower it or raise the users in prepare"
                )
        return self

    def configs(self, dataset: str) -> tuple[HeadConfig, FitConfig]:
        """The dataset's head and fit options: its preset, with what params.yaml sets otherwise.

        Raises:
            PipelineError: If an option is unknown or its value not allowed.
        """
        head = _options("head", dataset, getattr(self.head, dataset), HeadConfig)
        fit = _options("train", dataset, getattr(self.train, dataset), FitConfig)
        model = head.pop("model", None)
        if model not in ("A", "B"):
            raise PipelineError(
                f"head.{dataset}.model in {layout.PARAMS} must be one of 'A', 'B', got {model!r}"
            )
        try:
            return preset(getattr(self.preset, dataset), model, head={**head, "K": self.model.K}, fit=fit)
        except PalError as error:
            section = "head" if str(error).split()[0] in HeadConfig.model_fields else "train"
            raise PipelineError(f"{section}.{dataset}.{error} (in {layout.PARAMS})") from None


def _options(section: str, dataset: str, options: dict[str, Any], config: type[Config]) -> dict[str, Any]:
    known = [name for name in config.model_fields if name != "K"]
    for name in options:
        if name not in known:
            raise PipelineError(_unknown(f"{section}.{dataset}.{name}", known))
    for name in known:
        if name not in options:
            raise PipelineError(
                f"{section}.{dataset}.{name} is missing in {layout.PARAMS}; set it, if only to null"
            )
    return {name: value for name, value in options.items() if value is not None}


def load() -> Params:
    """Read and check params.yaml.

    Raises:
        PipelineError: Naming the first key that is unknown, missing or not allowed.
    """
    import yaml

    try:
        loader = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
        text = layout.PARAMS.read_text(encoding="utf-8")
        values = yaml.load(text, Loader=loader)  # noqa: S506 - a safe loader, the C one where there is one
    except FileNotFoundError:
        raise PipelineError(f"{layout.PARAMS} is missing; run this in the repository's root") from None
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise PipelineError(f"{layout.PARAMS} is not valid YAML: {' '.join(str(error).split())}") from None
    if not isinstance(values, dict):
        raise PipelineError(f"{layout.PARAMS} must hold a map of options, got {shorten(values)}")
    try:
        params = Params.model_validate(values)
    except ValidationError as error:
        raise PipelineError(_explain(error)) from None
    for dataset in DATASETS:
        params.configs(dataset)
    return params


def _explain(error: ValidationError) -> str:
    first = error.errors(include_url=False)[0]
    # The tags of the two kinds of split.own are no keys.
    where = [str(part) for part in first["loc"] if part not in ("word", "shares")]
    name, kind = ".".join(where), first["type"]
    if kind == "extra_forbidden":
        return _unknown(name, _keys_beside(where))
    if kind == "invalid_key":
        return f"{name} in {layout.PARAMS} is not a known key; keys are text"
    if where == ["datasets"] and kind == "too_short":
        return (
            f"datasets in {layout.PARAMS} must name at least one of {', '.join(DATASETS)}, got an empty list"
        )
    if kind in _ALLOWED:
        allowed = _ALLOWED[kind].format(**first.get("ctx", {}))
        return f"{name} must be {allowed}, got {shorten(first['input'])} (in {layout.PARAMS})"
    details: Any = {key: first[key] for key in ("type", "input", "ctx") if key in first}
    again = ValidationError.from_exception_data(error.title, [{**details, "loc": tuple(where)}])
    return f"{explain(again)} (in {layout.PARAMS})"


_ALLOWED = {
    "too_short": "a list of at least {min_length}",
    "too_long": "a list of at most {max_length}",
    "list_type": "a list",
    "dict_type": "a map of options",
    "model_type": "a map of options",
    "string_type": "text",
    "string_too_short": "text, not empty",
    "string_pattern_mismatch": "text of the form {pattern}",
}


def _unknown(name: str, known: list[str]) -> str:
    close = get_close_matches(name.rsplit(".", 1)[-1], known, 1)
    hint = f"did you mean {close[0]!r}?" if close else f"known are {', '.join(known)}"
    return f"{name} in {layout.PARAMS} is not a known key; {hint}"


def _keys_beside(where: list[str]) -> list[str]:
    """The keys that the section of an unknown key does know."""
    section: Any = Params
    for part in where[:-1]:
        field = section.model_fields.get(part) if hasattr(section, "model_fields") else None
        section = field.annotation if field else None
        section = next((a for a in get_args(section) if hasattr(a, "model_fields")), section)
    return list(getattr(section, "model_fields", {}))
