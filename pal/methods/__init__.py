"""Methods: named combinations of a model, a population and a way of fitting, each with its source.

A method is a `pal.methods.base.Method` in a module of its own, or beside its kin, and one line of `METHODS`,
as in `pal.models.MODELS`.
"""

METHODS = {
    "bt": "pal.methods.mixed_effects:BT",
    "per_user": "pal.methods.mixed_effects:PER_USER",
    "mixed_effects": "pal.methods.mixed_effects:MIXED_EFFECTS",
    "mixed_effects_prompts": "pal.methods.mixed_effects:MIXED_EFFECTS_PROMPTS",
    "pal_paper": "pal.methods.prototypes:PAL_PAPER",
    "pal_authors": "pal.methods.prototypes:PAL_AUTHORS",
    "pal_ours": "pal.methods.prototypes:PAL_OURS",
    "auto": "pal.methods.auto:AUTO",
}
