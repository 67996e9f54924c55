"""Fitting: objectives, and the trainer that descends on them.

An objective is a subclass of `pal.fitting.objective.Objective` in a module of its own and one line of
`OBJECTIVES`, as in `pal.models.MODELS`.
"""

OBJECTIVES = {
    "pal": "pal.fitting.per_comparison:PerComparison",
    "mixture": "pal.fitting.mixture:Mixture",
}
