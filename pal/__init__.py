"""PAL: reward models that differ from person to person.

    from pal import RewardModel

    model = RewardModel.load("model")
    ann = model.adapt([("How do I start?", "Just try it.", "Read the manual first.")])
    model.rank("What now?", ["Try more.", "Read on."], user=ann)

Each user has an ideal point, a convex mix of K prototypes that all users share; a response is worth how
near it lies to that point in a space learned on top of a frozen encoder. `fit` learns prototypes and the
weights of the users seen, `adapt` locates a new user from a handful of comparisons with all else frozen.

Names are loaded on first use (PEP 562), so `import pal` costs milliseconds and imports no torch. The two
functions are imported from their modules, `from pal.fitting.fit import fit`: as an attribute of the
package, a name can only be one of the two.
"""

_HOMES = {
    "Judged": "pal.evaluation.accuracy",
    "balanced_accuracy": "pal.evaluation.accuracy",
    "bootstrap_interval": "pal.evaluation.accuracy",
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
    "Fitted": "pal.fitting.fit",
    "FixedIdealPoints": "pal.models.heads",
    "PromptedIdealPoints": "pal.models.heads",
    "make_head": "pal.models.heads",
    "Prior": "pal.users.adapt",
    "solve_weights": "pal.users.simplex",
    "Ranked": "pal.serving.reward_model",
    "RewardModel": "pal.serving.reward_model",
    "Preference": "pal.serving.inputs",
    "Preferences": "pal.serving.inputs",
    "Question": "pal.serving.inputs",
    "InputEncoder": "pal.serving.read_inputs",
    "SavedModel": "pal.serving.saved_model",
    "Taste": "pal.users.taste",
    "Uncertainty": "pal.users.taste",
    "Asked": "pal.users.ask",
    "Aggregate": "pal.serving.aggregates",
    "best_of_each": "pal.serving.trl_rewards",
    "best_of_n": "pal.serving.trl_rewards",
    "reward_for": "pal.serving.trl_rewards",
    "reward_for_all": "pal.serving.trl_rewards",
    "reward_for_users": "pal.serving.trl_rewards",
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
