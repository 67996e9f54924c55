"""params.yaml as checked, frozen values: every key is there, none is unknown, each holds what is allowed.

DVC tracks the values, so the code here does not count towards a stage's fingerprint.
"""

from difflib import get_close_matches
from typing import Annotated, Any, get_args

from pydantic import Field, ValidationError, model_validator

from pal.config import Config, FitConfig, HeadConfig, explain, preset
from pal.errors import PalError, shorten
from pipeline import paths, plain_yaml
from pipeline.errors import PipelineError
from pipeline.knobs import (
    DATASETS,
    ByModality,
    Choices,
    Dataset,
    Encode,
    Encoder,
    Evaluate,
    Hub,
    Model,
    Prepare,
    Preset,
    Recolour,
    Report,
    Source,
    Split,
    Train,
)

TAGS = ("count", "word", "shares", "name", "map")


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
        if self.model.K == "auto":
            return self
        for name in self.datasets:
            if seen.get(name, self.model.K) < self.model.K:
                raise ValueError(
                    f"model.K must be at most {seen[name]}, the seen users of {name}, got {self.model.K}; "
                    "lower it or raise the users in prepare"
                )
        return self

    def configs(self, dataset: str, K: int | None = None) -> tuple[HeadConfig, FitConfig]:
        """The dataset's head and fit options: its preset, with what params.yaml sets otherwise.

        Args:
            dataset: Its name.
            K: Prototypes; None takes model.K, and 1 where that is auto.

        Raises:
            PipelineError: If an option is unknown or its value not allowed.
        """
        head = _options("head", dataset, getattr(self.head, dataset), HeadConfig)
        fit = _options("train", dataset, getattr(self.train, dataset), FitConfig)
        model = head.pop("model", None)
        K = K or (1 if self.model.K == "auto" else self.model.K)
        if model not in ("A", "B"):
            raise PipelineError(
                f"head.{dataset}.model in {paths.PARAMS} must be one of 'A', 'B', got {model!r}"
            )
        try:
            return preset(getattr(self.preset, dataset), model, head={**head, "K": K}, fit=fit)
        except PalError as error:
            section = "head" if str(error).split()[0] in HeadConfig.model_fields else "train"
            raise PipelineError(f"{section}.{dataset}.{error} (in {paths.PARAMS})") from None


def _options(section: str, dataset: str, options: dict[str, Any], config: type[Config]) -> dict[str, Any]:
    known = [name for name in config.model_fields if name != "K"]
    for name in options:
        if name not in known:
            raise PipelineError(_unknown(f"{section}.{dataset}.{name}", known))
    for name in known:
        if name not in options:
            raise PipelineError(
                f"{section}.{dataset}.{name} is missing in {paths.PARAMS}; set it, if only to null"
            )
    return {name: value for name, value in options.items() if value is not None}


def load() -> Params:
    """Read and check params.yaml.

    Raises:
        PipelineError: Naming the first key that is unknown, missing or not allowed.
    """
    try:
        values = plain_yaml.load(paths.PARAMS.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise PipelineError(f"{paths.PARAMS} is missing; run this in the repository's root") from None
    except ValueError as error:
        raise PipelineError(f"{paths.PARAMS} is not valid YAML: {' '.join(str(error).split())}") from None
    if not isinstance(values, dict):
        raise PipelineError(f"{paths.PARAMS} must hold a map of options, got {shorten(values)}")
    try:
        params = Params.model_validate(values)
    except ValidationError as error:
        raise PipelineError(_explain(error)) from None
    for dataset in DATASETS:
        params.configs(dataset)
        _check_encoders(dataset, getattr(params.encoder, dataset))
    return params


def _check_encoders(dataset: str, named: str | ByModality) -> None:
    """Hold encoders' names to those that there are; whether their files are there is seen by encode."""
    from pal.encoders import check_name

    if isinstance(named, ByModality):
        names = {f"{dataset}.{modality}": name for modality, name in named}
    else:
        names = {dataset: named}
    for key, name in names.items():
        try:
            if name != "none":
                check_name(name)
        except PalError as error:
            raise PipelineError(
                f"encoder.{key} {str(error).removeprefix('encoder ')} (in {paths.PARAMS})"
            ) from None


def _explain(error: ValidationError) -> str:
    first = error.errors(include_url=False)[0]
    # The tags of the kinds that a value may be of are no keys.
    where = [str(part) for part in first["loc"] if part not in TAGS]
    name, kind = ".".join(where), first["type"]
    if kind == "extra_forbidden":
        return _unknown(name, _keys_beside(where))
    if kind == "invalid_key":
        return f"{name} in {paths.PARAMS} is not a known key; keys are text"
    if where == ["datasets"] and kind == "too_short":
        return (
            f"datasets in {paths.PARAMS} must name at least one of {', '.join(DATASETS)}, got an empty list"
        )
    if kind in _ALLOWED:
        allowed = _ALLOWED[kind].format(**first.get("ctx", {}))
        return f"{name} must be {allowed}, got {shorten(first['input'])} (in {paths.PARAMS})"
    details: Any = {key: first[key] for key in ("type", "input", "ctx") if key in first}
    again = ValidationError.from_exception_data(error.title, [{**details, "loc": tuple(where)}])
    return f"{explain(again)} (in {paths.PARAMS})"


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
    return f"{name} in {paths.PARAMS} is not a known key; {hint}"


def _keys_beside(where: list[str]) -> list[str]:
    """The keys that the section of an unknown key does know."""
    section: Any = Params
    for part in where[:-1]:
        field = section.model_fields.get(part) if hasattr(section, "model_fields") else None
        section = field.annotation if field else None
        section = next((a for a in get_args(section) if hasattr(a, "model_fields")), section)
    return list(getattr(section, "model_fields", {}))
