"""Reward models: what a reward reads of prompt and response, combined with the state of a user.

A model is a subclass of `pal.models.base.PreferenceModel` in a module of its own and one line of `MODELS`.
The line names its class as `module:class`, so that options can be checked without importing torch; the class
itself may stand there as well.
"""

MODELS = {
    "A": "pal.models.ideal_point:IdealPointModel",
    "B": "pal.models.ideal_point:PromptedIdealPointModel",
    "point": "pal.models.ideal_point:FreePointModel",
    "linear": "pal.models.linear:LinearModel",
    "routed": "pal.models.peers:RoutedModel",
    "general": "pal.models.peers:GeneralPreferenceModel",
}
