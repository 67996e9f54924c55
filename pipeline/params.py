"""params.yaml as checked, frozen values: every key is there, none is unknown, each holds what is allowed."""

import re
from difflib import get_close_matches
from typing import Annotated, Any, Literal, get_args

from pydantic import Discriminator, Field, Tag, ValidationError, create_model, model_validator

from pal.config import Config, FitConfig, HeadConfig, explain, preset
from pal.errors import PalError, shorten
from pipeline import PipelineError, paths
from pipeline.datasets import DATASETS
from pipeline.datasets.base import AtLeastOne, Count, DatasetParams, Differing, Method, Text
from pipeline.storage.tables import read_json

Device = Literal["auto", "cpu", "cuda"]
Seed = Annotated[int, Field(ge=0, lt=2**31)]
LIKE = "like"  # a section's key that makes it one of the user's own data sets
NAME = re.compile("[a-z][a-z0-9_]*")
# Names of alternatives that pydantic puts into the place of an error; they are no keys.
TAGS = ("count", "word", "name", "map")


class Model(Config):
    """How many prototypes all models have."""

    # The tags say which alternative a value is meant as, so that an error is about that one alone.
    K: Annotated[
        Annotated[AtLeastOne, Tag("count")] | Annotated[Literal["auto"], Tag("word")],
        Discriminator(lambda value: "word" if value == "auto" else "count"),
    ]
    most_prototypes: AtLeastOne


class Seeded(Config):
    """A stage of which nothing but a seed is the same for all datasets."""

    seed: Seed


class Encode(Config):
    """The stage encode: how encoders run, and what is stored."""

    weights: dict[str, Text]
    device: Device
    precision: Literal["float32", "bfloat16", "float16"]
    engine: Literal["torch", "onnx", "ray"]
    dtype: Literal["float32", "float16"]
    tokens_per_batch: Annotated[int, Field(ge=16)]
    images_per_batch: AtLeastOne
    workers: Count
    shard_rows: AtLeastOne
    on_bad_item: Literal["fail", "skip"]


class Train(Seeded):
    """The stage train: seeds and a device."""

    more_seeds: Annotated[int, Field(ge=0, le=10)]
    device: Device


class Evaluate(Seeded):
    """The stage evaluate: shots, draws and questions."""

    shots: Annotated[list[AtLeastOne], Field(min_length=1, max_length=8)]
    headline_shots: AtLeastOne
    draws: Annotated[int, Field(ge=20)]
    asked: Annotated[int, Field(ge=0, le=50)]
    locate: Literal["posterior", "weights"]

    @model_validator(mode="after")
    def _headline_is_a_shot(self) -> "Evaluate":
        if self.headline_shots not in self.shots:
            raise ValueError(f"headline_shots must be one of shots {self.shots}, got {self.headline_shots}")
        return self


class Compare(Config):
    """The stage compare: the methods, by their names in `pal.methods.METHODS`."""

    methods: Annotated[list[Method], Differing]


class Report(Config):
    """The stage report."""

    items_per_prototype: AtLeastOne
    gallery_pairs: Count


class Params(Config):
    """All of params.yaml; each dataset's section is an attribute by the dataset's name (see `check`)."""

    datasets: Annotated[list[str], Field(min_length=1), Differing]
    model: Model
    prepare: Seeded
    split: Seeded
    encode: Encode
    train: Train
    evaluate: Evaluate
    compare: Compare
    report: Report

    @property
    def names(self) -> list[str]:
        """All datasets that have a section, whether they are run or not."""
        return [name for name in type(self).model_fields if name not in Params.model_fields]

    def __getitem__(self, dataset: str) -> DatasetParams:
        """A dataset's section."""
        return getattr(self, dataset)

    def n_prototypes(self, dataset: str) -> int:
        """The number of prototypes to fit: model.K, or what choose-k settled on where that is auto."""
        if self.model.K != "auto":
            return self.model.K
        return int(read_json(paths.chosen(dataset), f"choose-k@{dataset}")["K"])

    def device(self, stage: str) -> str:
        """Where a stage computes, cpu or cuda: as its parameter says; for auto the GPU where there is one."""
        wanted = getattr(self, stage).device
        if wanted == "cpu":
            return "cpu"  # without torch, which takes seconds to import
        import torch

        found = torch.cuda.is_available()
        if wanted == "cuda" and not found:
            raise PipelineError(f"{stage}.device is cuda, but torch sees no GPU here; set it to auto or cpu")
        return "cuda" if found else "cpu"

    @model_validator(mode="after")
    def _datasets_are_known_and_counts_agree(self) -> "Params":
        for name in self.datasets:
            if name not in self.names:
                raise ValueError(f"datasets must be some of {', '.join(self.names)}, got {name!r}")
        shots, K = max(self.evaluate.shots), 1 if self.model.K == "auto" else self.model.K
        for name in self.names:
            if (pairs := getattr(self[name].prepare, "adapt_pairs", shots)) < shots:
                raise ValueError(
                    f"{name}.prepare.adapt_pairs must be at least {shots}, the largest of evaluate.shots, "
                    f"got {pairs}"
                )
        for name in self.datasets:
            if (users := getattr(self[name].prepare, "seen_users", K)) < K:
                raise ValueError(
                    f"model.K must be at most {users}, the seen users of {name}, got {K}; lower it or raise "
                    f"the users in {name}.prepare"
                )
        return self

    def configs(
        self, dataset: str, K: int | None = None, *, prompts: bool = True
    ) -> tuple[HeadConfig, FitConfig]:
        """The dataset's head and fit options: its preset, with what its section sets otherwise.

        Without `K`, model.K counts, and 1 where that is auto; where head.model is null the model is that for
        data with `prompts`, or without. A PipelineError names an option that is unknown or not allowed.
        """
        section, options = self[dataset], {}
        for key, config in (("head", HeadConfig), ("train", FitConfig)):
            known = [name for name in config.model_fields if name != "K"]
            given = getattr(section, key)
            if unknown := next((name for name in given if name not in known), None):
                raise PipelineError(_unknown(f"{dataset}.{key}.{unknown}", known))
            options[key] = {name: value for name, value in given.items() if value is not None}
        if section.method is not None and any(options.values()):
            key = next(f"{key}.{name}" for key, part in options.items() for name in part)
            raise PipelineError(
                f"{dataset}.{key} is read where {dataset}.method is null, got {section.method!r}; "
                f"set {dataset}.method to null, or leave the option out (in {paths.PARAMS})"
            )
        model = options["head"].pop("model", "B" if prompts else "A")
        K = K or (1 if self.model.K == "auto" else self.model.K)
        try:
            return preset(section.preset, model, head={**options["head"], "K": K}, fit=options["train"])
        except PalError as error:
            key = "head" if str(error).split()[0] in HeadConfig.model_fields else "train"
            raise PipelineError(f"{dataset}.{key}.{error} (in {paths.PARAMS})") from None


def load() -> Params:
    """Read and check params.yaml; see `check`."""
    import yaml  # of transformers and others
    from ruamel.yaml import YAML, YAMLError  # which DVC reads the file with: both understand the same
    from ruamel.yaml.constructor import ConstructorError, SafeConstructor

    if not hasattr(yaml, "YAMLError"):
        raise PipelineError(
            f"the module yaml must be PyYAML, got {yaml.__file__}; rename it, or take it off PYTHONPATH"
        )

    class Constructor(SafeConstructor):
        """Refuses 010, which some readers of YAML take for eight, and what 64 bits cannot hold."""

        def construct_yaml_int(self, node: Any) -> int:
            if re.match("[-+]?(0[0-9]|[0-9]{20})", node.value):
                rule = "a whole number must have no leading zero, and at most 19 digits"
                problem = f"{rule}, got {shorten(node.value)}"
                raise ConstructorError(problem=problem, problem_mark=node.start_mark)
            return super().construct_yaml_int(node)

    Constructor.add_constructor("tag:yaml.org,2002:int", Constructor.construct_yaml_int)
    reader = YAML(typ="safe")
    reader.Constructor = Constructor
    try:
        values = reader.load(paths.PARAMS.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise PipelineError(f"{paths.PARAMS} is missing; run this in the repository's root") from None
    except (YAMLError, ValueError, RecursionError) as error:
        mark = getattr(error, "problem_mark", None)
        said = f"{error.problem} in line {mark.line + 1}" if mark else " ".join(str(error).split())
        raise PipelineError(f"{paths.PARAMS} is not valid YAML: {said}") from None
    return check(values)


def check(values: Any) -> Params:
    """Hold params.yaml's values to what is allowed; a PipelineError names the first key that is not."""
    if not isinstance(values, dict):
        raise PipelineError(f"{paths.PARAMS} must hold a map of options, got {shorten(values)}")
    # Data sets of the user's own beside `own`: sections that say `like: own`.
    others = [name for name, section in values.items() if isinstance(section, dict) and LIKE in section]
    for name in others:
        if name in DATASETS or not NAME.fullmatch(str(name)) or hasattr(Params, name):
            raise PipelineError(
                f"a section with {LIKE} in {paths.PARAMS} must have a name of small letters, digits and _ "
                f"that is not taken, got {name!r}; choose another"
            )
        if values[name][LIKE] != "own":
            raise PipelineError(f"{name}.{LIKE} in {paths.PARAMS} must be own, got {values[name][LIKE]!r}")
        values = {**values, name: {key: value for key, value in values[name].items() if key != LIKE}}
    sections: dict[str, Any] = {name: (DATASETS[name].Params, ...) for name in (*DATASETS, *others)}
    schema = create_model("Params", __base__=Params, **sections)
    try:
        params = schema.model_validate(values)
    except ValidationError as error:
        raise PipelineError(_explain(error, schema)) from None
    for dataset in params.names:
        params.configs(dataset)
    return params


def _explain(error: ValidationError, section: Any) -> str:
    """The first of pydantic's errors as a sentence that names the key, what is allowed and what it got."""
    first = error.errors(include_url=False)[0]
    where = [str(key) for key in first["loc"] if key not in TAGS]
    said = explain(error, TAGS)
    if first["type"] in ("extra_forbidden", "invalid_key"):
        for key in where[:-1]:  # to the section whose keys are known beside the unknown one
            field = getattr(section, "model_fields", {}).get(key)
            section = field.annotation if field else None
            section = next((a for a in get_args(section) if hasattr(a, "model_fields")), section)
        return _unknown(".".join(where), list(getattr(section, "model_fields", {})))
    if first["type"] == "value_error" and where:
        said = said.removeprefix(f"{where[-1]} ").removeprefix("encoder ")
        said = f"{'.'.join(where)}{'' if said.startswith('must') else ':'} {said}"
    return f"{said} (in {paths.PARAMS})"


def _unknown(name: str, known: list[str]) -> str:
    close = get_close_matches(name.rsplit(".", 1)[-1], known, 1)
    hint = f"did you mean {close[0]!r}?" if close else f"known are {', '.join(known)}"
    return f"{name} in {paths.PARAMS} is not a known key; {hint}"
