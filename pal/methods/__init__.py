"""Methods: named combinations of a model, a population and a way of fitting, each with its source.

A method is a `pal.methods.base.Method` in a module of its own, or beside its kin, and one line of `METHODS`,
as in `pal.models.MODELS`.
"""

METHODS = {
    "popularity": "pal.methods.mixed_effects:POPULARITY",
    "bt": "pal.methods.mixed_effects:BT",
    "bt_prompts": "pal.methods.mixed_effects:BT_PROMPTS",
    "per_user": "pal.methods.mixed_effects:PER_USER",
    "mixed_effects": "pal.methods.mixed_effects:MIXED_EFFECTS",
    "mixed_effects_items": "pal.methods.mixed_effects:MIXED_EFFECTS_ITEMS",
    "mixed_effects_prompts": "pal.methods.mixed_effects:MIXED_EFFECTS_PROMPTS",
    "pal_paper": "pal.methods.prototypes:PAL_PAPER",
    "pal_authors": "pal.methods.prototypes:PAL_AUTHORS",
    "pal_ours": "pal.methods.prototypes:PAL_OURS",
    "pal_free": "pal.methods.prototypes:PAL_FREE",
    "ideal_point": "pal.methods.prototypes:IDEAL_POINT",
    "lore": "pal.methods.prototypes:LORE",
    "rfm": "pal.methods.prototypes:RFM",
    "mrm": "pal.methods.prototypes:MRM",
    "drm": "pal.methods.prototypes:DRM",
    "micro": "pal.methods.prototypes:MICRO",
    "vpl": "pal.methods.prototypes:VPL",
    "gpm": "pal.methods.prototypes:GPM",
    "maxmin": "pal.methods.prototypes:MAXMIN",
    "p_rlhf_individual": "pal.methods.prototypes:P_RLHF_INDIVIDUAL",
    "p_rlhf_cluster": "pal.methods.prototypes:P_RLHF_CLUSTER",
    "auto": "pal.methods.auto:AUTO",
}
