"""Users: where their states lie (a population), and what answers say about one of them (a taste).

A population is a subclass of `pal.users.population.Population` in a module of its own and one line of
`POPULATIONS`, as in `pal.models.MODELS`.
"""

POPULATIONS = {
    "points": "pal.users.points:Points",
    "gaussian": "pal.users.gaussian:Gaussian",
    "amortised": "pal.users.amortised:Amortised",
}
