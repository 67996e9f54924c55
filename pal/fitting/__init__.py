"""Fitting: objectives, and the trainer that descends on them.

An objective is a subclass of `pal.fitting.objectives.Objective` in a module of its own and one line of
`OBJECTIVES`, as in `pal.models.MODELS`. What is fitted in another way than by descent stands there as a
function that takes what `pal.fitting.trainer.fit` takes.
"""

OBJECTIVES = {
    "pal": "pal.fitting.objectives:PerComparison",
    "mixture": "pal.fitting.objectives:Mixture",
    "marginal": "pal.fitting.mixed_effects:fit_mixed_effects",
}
