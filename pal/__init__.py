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

_HOMES = {
    "Judged": "pal.evaluation.accuracy",
    "balanced_accuracy": "pal.evaluation.accuracy",
    "Description": "pal.evaluation.describe",
    "describe": "pal.evaluation.describe",
    "confidence_interval": "pal.evaluation.accuracy",
    "calibrate": "pal.evaluation.accuracy",
    "paired_test": "pal.evaluation.accuracy",
    "worst_decile": "pal.evaluation.accuracy",
    "Comparisons": "pal.comparisons",
    "Embeddings": "pal.comparisons",
    "Questions": "pal.comparisons",
    "FitConfig": "pal.config",
    "HeadConfig": "pal.config",
    "preset": "pal.config",
    "PalError": "pal.errors",
    "Fitted": "pal.fitting.trainer",
    "fit": "pal.serving.fit_log",
    "IdealPointModel": "pal.models.ideal_point",
    "PreferenceModel": "pal.models.base",
    "PromptedIdealPointModel": "pal.models.ideal_point",
    "make_model": "pal.models.base",
    "Points": "pal.users.points",
    "Population": "pal.users.population",
    "Posterior": "pal.users.population",
    "adapt": "pal.users.population",
    "solve_weights": "pal.users.points",
    "Ranked": "pal.serving.reward_model",
    "RewardModel": "pal.serving.reward_model",
    "Preference": "pal.serving.inputs",
    "Preferences": "pal.serving.inputs",
    "Question": "pal.serving.inputs",
    "InputEncoder": "pal.serving.inputs",
    "RankedQuestion": "pal.users.question_choice",
    "Taste": "pal.users.taste",
    "Aggregate": "pal.serving.aggregates",
    "best_of_n": "pal.serving.policy_rewards",
    "PolicyReward": "pal.serving.policy_rewards",
}

__all__ = list(_HOMES)
__version__ = "0.1.0"


def __getattr__(name: str):
    if name not in _HOMES:
        raise AttributeError(f"module 'pal' has no attribute {name!r}")
    from importlib import import_module

    return getattr(import_module(_HOMES[name]), name)


def __dir__() -> list[str]:
    return sorted([*globals(), *_HOMES])
