"""PAL: reward models that differ from person to person.

    from pal import RewardModel, fit

    model = fit("answers.csv", out="mine").model  # or, later, RewardModel.load("mine")
    ann = model.adapt([("How do I start?", "Just try it.", "Read the manual first.")])
    model.rank("What now?", ["Try more.", "Read on."], user=ann)

Each user has a state, in PAL a convex mix of K prototypes that all users share: an ideal point. A response is
worth how near it lies to that point in a space learned on top of a frozen encoder. `fit` learns all of it
from a log of answers; `adapt` locates a new user from a handful of comparisons with all else
frozen.

Names are loaded on first use (PEP 562), so `import pal` costs milliseconds and imports no torch.
"""

_NAMES = {
    "pal.comparisons": ("Comparisons", "Embeddings", "Questions"),
    "pal.config": ("FitConfig", "HeadConfig", "preset"),
    "pal.errors": ("PalError",),
    "pal.evaluation.accuracy": (
        "Judged", "balanced_accuracy", "calibrate", "confidence_interval", "paired_test", "worst_decile",
    ),
    "pal.evaluation.describe": ("Description", "describe"),
    "pal.fitting.trainer": ("Fitted",),
    "pal.models.base": ("PreferenceModel", "make_model"),
    "pal.models.ideal_point": ("IdealPointModel", "PromptedIdealPointModel"),
    "pal.serving.aggregates": ("Aggregate",),
    "pal.serving.fit_log": ("fit",),
    "pal.serving.inputs": ("InputEncoder", "Preference", "Preferences", "Question"),
    "pal.serving.policy_rewards": ("PolicyReward", "best_of_n"),
    "pal.serving.reward_model": ("Ranked", "RewardModel"),
    "pal.users.points": ("Points", "solve_weights"),
    "pal.users.population": ("Population", "Posterior", "adapt"),
    "pal.users.question_choice": ("RankedQuestion",),
    "pal.users.taste": ("Taste",),
}  # fmt: skip
_HOMES = {name: module for module, names in _NAMES.items() for name in names}

__all__ = list(_HOMES)
__version__ = "0.1.0"


def __getattr__(name: str):
    if name not in _HOMES:
        raise AttributeError(f"module 'pal' has no attribute {name!r}")
    from importlib import import_module

    return getattr(import_module(_HOMES[name]), name)


def __dir__() -> list[str]:
    return sorted([*globals(), *_HOMES])
