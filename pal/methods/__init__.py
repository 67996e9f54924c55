"""Methods: named combinations of a model, a population and a way of fitting, each with its source.

A method is a `pal.methods.base.Method` in a module of its own, or beside its kin, and one line of `METHODS`,
as in `pal.models.MODELS`.
"""

METHODS = {
    "popularity": "pal.methods.popularity:POPULARITY",
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
    "ideal_point": "pal.methods.ideal_point:IDEAL_POINT",
    "lore": "pal.methods.bases:LORE",
    "rfm": "pal.methods.bases:RFM",
    "mrm": "pal.methods.bases:MRM",
    "drm": "pal.methods.bases:DRM",
    "micro": "pal.methods.mixtures:MICRO",
    "vpl": "pal.methods.vpl:VPL",
    "gpm": "pal.methods.mixtures:GPM",
    "maxmin": "pal.methods.bases:MAXMIN",
    "p_rlhf_individual": "pal.methods.bases:P_RLHF_INDIVIDUAL",
    "p_rlhf_cluster": "pal.methods.bases:P_RLHF_CLUSTER",
    "auto": "pal.methods.auto:AUTO",
}
