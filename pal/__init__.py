"""PAL: reward models that differ from person to person.

    from pal import RewardModel

    model = RewardModel.load("model")
    ann = model.adapt([("How do I start?", "Just try it.", "Read the manual first.")])
    model.rank("What now?", ["Try more.", "Read on."], user=ann)

Each user has an ideal point, a convex mix of K prototypes that all users share; a response is worth how
near it lies to that point in a space learned on top of a frozen encoder. `fit` learns prototypes and the
weights of the users seen, `adapt` locates a new user from a handful of comparisons with all else frozen.

Names are loaded on first use (PEP 562), so `import pal` costs milliseconds and imports no torch. The two
functions are imported from the modules of their names, `from pal.fit import fit`: as an attribute of the
package, a name can only be one of the two.
"""

_HOMES = {
    "Judged": "pal.accuracy",
    "balanced_accuracy": "pal.accuracy",
    "bootstrap_interval": "pal.accuracy",
    "calibrate": "pal.accuracy",
    "paired_test": "pal.accuracy",
    "worst_decile": "pal.accuracy",
    "Comparisons": "pal.comparisons",
    "Embeddings": "pal.comparisons",
    "Questions": "pal.comparisons",
    "FitConfig": "pal.config",
    "HeadConfig": "pal.config",
    "preset": "pal.config",
    "PalError": "pal.errors",
    "Fitted": "pal.fit",
    "FixedIdealPoints": "pal.heads",
    "PromptedIdealPoints": "pal.heads",
    "make_head": "pal.heads",
    "Prior": "pal.adapt",
    "solve_weights": "pal.simplex",
    "Ranked": "pal.model",
    "RewardModel": "pal.model",
    "Preference": "pal.preferences",
    "Preferences": "pal.preferences",
    "Question": "pal.questions",
    "Reader": "pal.reader",
    "SavedModel": "pal.saved",
    "Taste": "pal.taste",
    "Uncertainty": "pal.taste",
    "Asked": "pal.ask",
    "Aggregate": "pal.aggregates",
    "best_of_each": "pal.training",
    "best_of_n": "pal.training",
    "reward_for": "pal.training",
    "reward_for_all": "pal.training",
    "reward_for_users": "pal.training",
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
