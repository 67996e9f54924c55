"""PAL (Chen et al., 2024): prototypes that all users share, and each user's mix of them."""

from pal.methods.base import Method, from_preset

PAL = "PAL: Pluralistic Alignment (Chen et al., 2024)"

PAL_PAPER = Method(
    "PAL, the text's settings",
    PAL,
    "Where the text is silent its authors' code decides.",
    from_preset("paper"),
    prototypes=True,
)
PAL_AUTHORS = Method(
    "PAL, the authors' code's settings",
    PAL,
    "Fitted by this project's code.",
    from_preset("authors"),
    prototypes=True,
)
PAL_FREE = Method(
    "PAL, free weights",
    PAL,
    "Preset ours with the paper's objective: weights by likelihood alone, which take many answers of each.",
    from_preset("ours", objective="pal"),
    prototypes=True,
)
PAL_OURS = Method(
    "PAL, mixture likelihood",
    PAL,
    "A likelihood over all of a user's answers (latent classes over the simplex) in place of a loss per "
    "comparison, which needs a prior where answers are few.",
    from_preset("ours"),
    prototypes=True,
)
