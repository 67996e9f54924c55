"""Options of a model and of its fit, each with its default and range; presets of them.

Where the two PAL texts and the authors' released code differ or are silent, the choice is an option here.
This module imports no torch, so that a pipeline can check its parameters in a moment.
"""

from collections.abc import Callable, Collection, Mapping
from importlib import import_module
from typing import Annotated, Any, Literal, TypeVar

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, ValidationError, model_validator
from pydantic_core import PydanticKnownError

from pal.errors import PalError, shorten


def _number(value: Any) -> Any:
    """Read 5e-3 as a number: YAML 1.1 makes it a string where YAML 1.2 does not."""
    try:
        return float(value) if isinstance(value, str) else value
    except ValueError:
        return value


def member_of(package: str, registry: str) -> Callable[[Any], Any]:
    """A check that a name is in a registry, which is imported when it is needed, as it stands above us."""

    def check(name: Any) -> Any:
        known = getattr(import_module(package), registry)
        if not isinstance(name, str) or name not in known:
            raise PydanticKnownError("literal_error", {"expected": ", ".join(map(repr, known))})
        return name

    return check


def registered(registry: Mapping[str, Any], name: str) -> Any:
    """The class that a registry holds under a name, as itself or as `module:class`."""
    if name not in registry:
        raise PalError(f"name must be one of {', '.join(registry)}, got {name!r}")
    member = registry[name]
    if not isinstance(member, str):
        return member
    module, _, attribute = member.partition(":")
    return getattr(import_module(module), attribute)


Number = Annotated[float, BeforeValidator(_number), Field(allow_inf_nan=False)]
Positive = Annotated[Number, Field(gt=0)]
Share = Annotated[Number, Field(ge=0, lt=1)]
Some = TypeVar("Some", bound="Config")  # not typing.Self, which the shape checks in tests cannot read


class Config(BaseModel):
    """A frozen set of options; an unknown name or a wrong value is an error that names it."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True, protected_namespaces=())

    @classmethod
    def from_options(cls: type[Some], /, **options: Any) -> Some:
        """Make a config from options; a PalError names the first that is unknown or not allowed."""
        try:
            return cls(**options)
        except ValidationError as error:
            raise PalError(explain(error)) from None


class HeadConfig(Config):
    """Options of a reward model: the head on top of a frozen encoder."""

    # A: fixed ideal points. B: ideal points that are functions of the prompt. point: an ideal point of each
    # person's own. linear: one linear reward, and each person's deviation from it. routed: linear rewards
    # whose weights depend on the prompt too. general: one preference for all, cycles allowed.
    model: Annotated[str, BeforeValidator(member_of("pal.models", "MODELS"))] = "B"
    K: int = Field(3, ge=1)  # prototypes shared by all users; 1 gives everyone the same reward
    latent: int = Field(16, ge=1)  # width of the preference space
    # Model A: f reads the response alone, or prompt and response side by side. linear: the response alone, or
    # also the products of the leading directions of prompt and response.
    inputs: Literal["response", "prompt_and_response", "products"] = "response"
    known_items: int = Field(0, ge=0)  # linear: items with an effect of their own; the fit sets it
    # linear: of these, how many of the most compared are each a direction along which people differ; the fit
    # adds factors of people's likings for all of them.
    item_directions: int = Field(0, ge=0)
    normalise_inputs: bool = False  # bring what f and g_k read to unit length first
    hidden_layers: int = Field(1, ge=0)  # of f and of each g_k; 0 is one matrix
    hidden: int = Field(16, ge=0)  # width of the hidden layers; 0 takes that of the latent space
    activation: Literal["relu", "gelu"] = "relu"  # non-linearity of the hidden layers
    bias: bool = True  # whether the layers have biases
    skip: bool = True  # whether a skip passes the hidden layers: the identity where widths agree, else linear
    dropout: Share = 0.0  # share of hidden units dropped in training
    dropout_first: bool = False  # before the activation, as in the authors' code, in place of after it
    distance: Literal["squared", "l2"] = "squared"  # model A: squared Euclidean distance, or its root
    # Model A: prototypes are mixed in the preference space (latent: a = Pw), before f (input: a = f(Pw)), or
    # after f (projected: a = f(P)w).
    prototypes: Literal["latent", "input", "projected"] = "latent"
    # Model B: cosine of response and ideal point, or their inner product.
    similarity: Literal["cosine", "inner"] = "cosine"
    # Model B, cosine: bring the mixed ideal point to unit length, or each prototype before mixing, which
    # keeps the reward linear in the weights.
    normalise: Literal["mixed", "each"] = "each"
    scale: Positive = 10.0  # model B, cosine: what the cosine is multiplied by, at first
    learn_scale: bool = False  # whether that scale is learned (kept at most 100)


class FitConfig(Config):
    """How a model is fitted to the comparisons of the seen users."""

    # pal: the paper's loss per comparison, free simplex weights per user. mixture: each user a latent class
    # over points of the simplex, whose posterior gives the weights. marginal: people's deviations normal,
    # their covariance by EM (model linear).
    objective: Annotated[str, BeforeValidator(member_of("pal.fitting", "OBJECTIVES"))] = "pal"
    # Where users' states are expected, which locates new users: points (at most 128 of the seen users'
    # states), or gaussian (normal, for models that are linear in the state).
    population: Annotated[str, BeforeValidator(member_of("pal.users", "POPULATIONS"))] = "points"
    # mixture: users stand at points of the finest regular grid of the simplex with at most so many; 0: at the
    # prototypes alone, one prototype per user, which identifies K.
    grid_points: int = Field(40, ge=0)
    loss: Literal["logistic", "hinge", "smooth_hinge"] = "logistic"  # of a margin; mixture: logistic
    # What counts alike in the loss: every comparison, or every user, whose comparisons share a weight of one.
    weighting: Literal["comparisons", "users"] = "comparisons"
    # Factor of the authors' bound loss, the sum over a batch of how far ideal points lie outside a ball; 0
    # leaves it out.
    bound_loss: Annotated[Number, Field(ge=0)] = 0.0
    bound: Positive = 4.0  # radius of that ball
    optimiser: Literal["adamw", "adam"] = "adamw"  # decay decoupled, or as L2 (adam), as in the paper
    learning_rate: Positive = 5e-3  # of f, g_k and the scale
    weight_decay: Annotated[Number, Field(ge=0)] = 1e-2  # of f and g_k
    weights_learning_rate: Positive = 0.3  # of the users' weights and of model A's prototypes
    scale_learning_rate: Annotated[Number, Field(ge=0)] = 0.0  # of model B's scale; 0 takes that of f and g_k
    # pal: where the users' weights start: an even mix of the prototypes, or the softmax of standard normal
    # numbers, as in the authors' code.
    weights_start: Literal["even", "random"] = "even"
    schedule: Literal["one_cycle", "constant"] = "one_cycle"  # learning rates over the run
    epochs: int = Field(10, ge=1)  # passes over the comparisons
    # Steps of the optimiser at which to stop: fewer epochs then, in whole ones and at least one, with about
    # as many validations; 0: no bound.
    max_steps: int = Field(0, ge=0)
    # Comparisons a step (mixture: whole users with about as many); 0 takes all.
    batch_size: int = Field(1024, ge=0)
    # Order within an epoch: comparisons at random, or prompts at random, each with its comparisons together,
    # so that a batch meets fewer items and costs less; mixture: users at random.
    shuffle: Literal["comparisons", "prompts"] = "comparisons"
    # Of f and g_k in training; bfloat16 pays for wide layers where the chip multiplies it. Losses, optimiser,
    # validation and scores stay float32.
    precision: Literal["float32", "bfloat16"] = "float32"
    # mixture: share of the run over which the inverse temperature rises to 1.
    anneal: Annotated[Number, Field(ge=0, le=1)] = 0.4
    # mixture: how it rises: by the same amount each step, or by the same factor, which suits users with
    # hundreds of answers, whose classes form too early under the linear schedule.
    annealing_schedule: Literal["linear", "geometric"] = "linear"
    start_answers: Positive = 2.0  # mixture: of a user's answers, how many count at the start; later all do
    validate_every: int = Field(1, ge=1)  # epochs between validations
    best_by: Literal["accuracy", "loss"] = "accuracy"  # what the best validated epoch is chosen by
    patience: int = Field(0, ge=0)  # validations without a better one before stopping early; 0: never
    restarts: int = Field(1, ge=1)  # fits from different starts; the one of lowest training loss is kept

    @model_validator(mode="after")
    def _needs_a_likelihood(self) -> "FitConfig":
        if self.objective == "mixture" and self.loss != "logistic":
            raise ValueError(f"loss must be 'logistic' with objective 'mixture', got {self.loss!r}")
        if self.objective == "mixture" and self.bound_loss:
            raise ValueError(f"bound_loss must be 0 with objective 'mixture', got {self.bound_loss:g}")
        return self

    def inverse_temperature(self, start: float, done: float) -> float:
        """The inverse temperature of `mixture` after this share of the run: from `start` up to 1."""
        if done >= self.anneal:
            return 1.0
        share = done / self.anneal
        return start ** (1 - share) if self.annealing_schedule == "geometric" else start + (1 - start) * share


def explain(error: ValidationError, tags: Collection[str] = ()) -> str:
    """A validation error's first complaint as a sentence: which option, what is allowed, what came.

    `tags` are names of alternatives that pydantic puts into the place of an error; they are no options.
    """
    first = error.errors(include_url=False)[0]
    name = ".".join(str(key) for key in first["loc"] if key not in tags) or error.title
    kind, context, got = first["type"], first.get("ctx", {}), first["input"]
    if kind == "extra_forbidden":
        return f"{name} is not a known option, got {got!r}; see the names in {error.title}"
    if kind == "missing":
        return f"{name} is missing; every option must be set"
    if kind == "value_error":
        return str(context["error"])
    if kind in _ALLOWED:
        allowed = _ALLOWED[kind].format_map(context)
    else:
        allowed = first["msg"].removeprefix("Input should be ")
    if kind == "literal_error":
        allowed = allowed.replace(" or ", ", ")
    return f"{name} must be {allowed}, got {shorten(got)}"


_ALLOWED = {  # by kind of pydantic's error
    "literal_error": "one of {expected}",
    "greater_than_equal": "at least {ge:g}", "greater_than": "above {gt:g}",
    "less_than_equal": "at most {le:g}", "less_than": "below {lt:g}",
    "int_type": "a whole number", "float_type": "a number", "bool_type": "true or false",
    "string_type": "text", "string_too_short": "text, not empty",
    "string_pattern_mismatch": "text of the form {pattern}",
    "list_type": "a list", "too_short": "a list of at least {min_length}",
    "too_long": "a list of at most {max_length}",
    "dict_type": "a map of options", "model_type": "a map of options",
}  # fmt: skip


# Options of head and fit that differ from the defaults above, by preset and model. `paper` is what the text
# states (D4, D6, D8, D13, D14); where it is silent (batch size, the toy's loss) the authors' code decides.
# `authors` is that code: three linear layers (D9), AdamW on batches of 16,384 with the bound loss (D13, D14),
# plain distances (D4), the least validation loss kept. `ours` was found on validation comparisons of the
# simulation and of Persona alone.
_PAPER = {"optimiser": "adam", "weights_learning_rate": 5e-3, "schedule": "constant"}
_PAPER_B = {"normalise": "mixed", "scale": 1 / 0.07, "learn_scale": True}
_AUTHORS_HEAD = {"hidden_layers": 2, "hidden": 0, "dropout": 0.5, "dropout_first": True}
_AUTHORS_FIT = {
    "learning_rate": 1e-4, "weight_decay": 1e-2, "weights_learning_rate": 5e-3, "weights_start": "random",
    "bound_loss": 1.0, "bound": 4.0, "schedule": "constant", "epochs": 50, "batch_size": 16_384,
    "best_by": "loss",
}  # fmt: skip
_PRESETS: dict[tuple[str, str], tuple[dict[str, Any], dict[str, Any]]] = {
    ("ours", "A"): (
        {"hidden_layers": 0, "bias": False},
        {"learning_rate": 0.02, "weights_learning_rate": 0.1, "weight_decay": 0.0, "epochs": 100,
         "batch_size": 1000, "validate_every": 10},
    ),
    ("ours", "B"): (
        {"similarity": "inner", "dropout": 0.3},
        {"objective": "mixture", "weight_decay": 0.3, "epochs": 300, "batch_size": 200_000,
         "validate_every": 25, "restarts": 2},
    ),
    ("ours", "linear"): ({"K": 1, "latent": 64}, {"objective": "marginal", "population": "gaussian"}),
    ("paper", "A"): (
        {"hidden_layers": 0, "bias": False, "distance": "l2", "prototypes": "input"},
        {**_PAPER, "loss": "hinge", "learning_rate": 5e-4, "weight_decay": 1e-3, "epochs": 1000,
         "validate_every": 10},
    ),
    ("paper", "B"): (
        {**_PAPER_B, "dropout": 0.5, "dropout_first": True},
        {**_PAPER, "learning_rate": 1e-4, "weight_decay": 1e-2, "epochs": 10, "batch_size": 256},
    ),
    ("authors", "A"): (
        {**_AUTHORS_HEAD, "distance": "l2", "prototypes": "input"}, {**_AUTHORS_FIT, "loss": "hinge"},
    ),
    ("authors", "B"): ({**_AUTHORS_HEAD, **_PAPER_B}, {**_AUTHORS_FIT, "scale_learning_rate": 0.1}),
}  # fmt: skip
PRESETS = tuple(dict.fromkeys(name for name, _ in _PRESETS))


def preset(
    name: str, model: Any, *, head: dict[str, Any] | None = None, fit: dict[str, Any] | None = None
) -> tuple[HeadConfig, FitConfig]:
    """The options of a preset for one of `pal.models.MODELS`, but for those of head and fit that are given.

    Presets are `paper`, the text's hyper-parameters; `authors`, their released code's; and `ours`.
    """
    HeadConfig.from_options(model=model)
    if name not in PRESETS:
        raise PalError(f"preset must be one of {', '.join(PRESETS)}, got {name!r}")
    head_options, fit_options = _PRESETS.get((name, model), ({}, {}))  # the defaults, for further models
    chosen = HeadConfig.from_options(**{"model": model, **head_options, **(head or {})})
    return chosen, FitConfig.from_options(**{**fit_options, **(fit or {})})
