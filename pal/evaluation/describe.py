"""Prototypes, directions and tastes in words: the responses they like more than the average person, and why.

A response's contrast is its mean chance of being preferred to the other responses to its prompt, at a state
less at the population's mean. The words that mark liked responses are found by log-odds ratios with an
informative Dirichlet prior (Monroe, Colaresi & Quinn 2008, "Fightin' Words"); the unit is a response that
has the word, not a token.

    from pal import RewardModel, describe

    for each in describe(RewardModel.load("mine/model"), answers, prompts):
        print(each.name, each.title)

Shapes: n responses, each to a prompt, points (states that are described), s numbers of a user's state.
"""

import re
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import takewhile
from typing import Any, NamedTuple

import numpy as np
import polars as pl
import torch
from jaxtyping import Float, Int
from scipy.special import ndtri
from torch import Tensor

from pal.errors import PalError
from pal.models.base import PreferenceModel, PrototypeModel
from pal.users.population import Population

PRIOR_TEXTS = 10.0  # weight of the prior, as so many responses with the words' shares among all
LEAST_TEXTS = 3  # with a word, below which it is not looked at
FEW_ANSWERS = 4  # distinct responses up to which prompts tell more than responses, as yes and no
SURE = 0.95  # of all words, or of all features, at once (Bonferroni)
MOST_DIRECTIONS, LEAST_SHARE = 3, 0.01
OPPONENTS = 32
STRONG = 0.5  # rank correlation of a feature that names what is liked
WORD = re.compile(r"[^\W\d_](?:[\w'\u2019]*[^\W_])?")
FEATURES = {  # what is counted, and how more and less of it are said
    "words": (lambda text: len(text.split()), "longer", "shorter"),
    "line breaks": (lambda text: text.strip().count("\n"), "more lines", "fewer lines"),
    "question marks": (lambda text: text.count("?"), "more questions", "fewer questions"),
    "exclamation marks": (lambda text: text.count("!"), "more exclamation", "less exclamation"),
    "commas": (lambda text: text.count(","), "more commas", "fewer commas"),
    "digits": (lambda text: sum(map(str.isdigit, text)), "more numbers", "fewer numbers"),
    "capitals": (lambda text: sum(map(str.isupper, text)), "more capitals", "fewer capitals"),
}


class Contrast(NamedTuple):
    """A word or a feature that tells liked responses from the others."""

    name: str  # the word, or the feature in words
    strength: float  # of a word the log-odds ratio of a response with it; of a feature the rank correlation
    low: float  # lower end of its interval, corrected for all that were looked at
    high: float


class Liked(NamedTuple):
    """A response as it stands in a description."""

    row: int  # its number among those given
    above: float  # its contrast, in [-1, 1]: how much likelier it is preferred than by the average person


@dataclass(frozen=True)
class Description:
    """What a prototype, one end of a direction, or a person likes beyond the average."""

    name: str  # whose it is
    share: float | None  # of people's weight (prototypes) or differences (directions); None for a person
    likes: list[Liked]  # responses with the highest contrast, the highest first
    dislikes: list[Liked]  # those with the lowest, the lowest first: of a direction its other end
    liked_words: list[Contrast]  # of what is liked, the surest first
    disliked_words: list[Contrast]  # of what is disliked, but for those of what is liked
    features: list[Contrast]  # length, punctuation and the like, the strongest first

    @property
    def title(self) -> str:
        """What is surest, in a few words: strong features, then words; empty where nothing is sure."""
        features = [each.name for each in self.features if each.strength >= STRONG][:2]
        words = [each.name for each in self.liked_words[: 4 - len(features)]]
        return ", ".join([*features, *words] or [each.name for each in self.features[:2]])


def describe(
    model: Any, responses: Any, prompts: Any = None, *, user: Any = None, number: int = 8
) -> list[Description]:
    """Say in words what a model's prototypes or main directions, or one person, like beyond the average.

    Args:
        model: A `RewardModel`.
        responses: Texts, pictures or embeddings; words are told of texts alone.
        prompts: One per response, or one for all; None where the model reads none and all are alternatives.
        user: Whose taste, as `RewardModel.score` takes it; None describes prototypes or directions.
        number: How many responses and words to give at most of either kind.
    """
    responses = list(responses)
    given = [prompts] * len(responses) if prompts is None or isinstance(prompts, str | bytes) else prompts
    name = user if isinstance(user, str) else "person"
    targets = None if user is None else {name: model.state_of(user)}
    keys = [each if each is None or isinstance(each, str | bytes) else repr(each) for each in given]
    numbers = {key: number for number, key in enumerate(dict.fromkeys(keys))}
    group = torch.tensor([numbers[key] for key in keys], dtype=torch.long)
    if not len(group) or int(torch.bincount(group).max()) < 2:
        raise PalError(
            "some prompt must have two responses or more, got one each; rewards only compare these"
        )
    rewards = partial(model.score_states, prompts, responses)
    texts, asked = ([x if isinstance(x, str) else None for x in items] for items in (responses, given))
    people = (model.head, model.population, model.states)
    return describe_rewards(*people, rewards, group, texts, asked, targets=targets, number=number)


def describe_rewards(
    head: PreferenceModel,
    population: Population,
    people: Float[Tensor, "users s"],
    rewards: Any,
    group: Int[Tensor, " n"],
    texts: Sequence[str | None],
    prompts: Sequence[str | None],
    *,
    targets: Mapping[str, Float[Tensor, " s"]] | None = None,
    number: int = 8,
) -> list[Description]:
    """Describe states by the rewards of responses; see `describe`.

    The population's mean is the average person; `people` are seen users' states, which give prototypes their
    shares. `rewards` gives those of all responses at the rows of a table of states, `group` numbers each
    response's prompt; texts and prompts are None where they are no text. `targets` are states to describe, by
    name; None for prototypes or main directions.
    """
    mean = population.mean.float()
    if targets is not None:
        names, states, shares = list(targets), torch.stack([*targets.values()]).float(), [None] * len(targets)
    elif isinstance(head, PrototypeModel):
        states, shares = torch.eye(head.config.K), people.mean(0).tolist()
        names = [f"prototype {k + 1}" for k in range(len(states))]
    else:
        along, part = main_directions(population, rewards, group)
        kept = (part[:MOST_DIRECTIONS] > LEAST_SHARE).nonzero()[:, 0]
        states, shares = mean + along[kept], part[kept].tolist()
        names = [f"direction {k + 1}" for k in kept.tolist()]
    chance = chances(rewards(torch.cat([states, mean[None]])), group)
    above = chance[:, :-1] - chance[:, -1:]
    # Prompts with one response say nothing; of a few answers, as yes and no, prompts are what is liked.
    compared = torch.bincount(group)[group] > 1
    distinct = Counter(text for text in texts if text is not None)
    if 0 < len(distinct) <= FEW_ANSWERS < len(set(group.tolist())) and None not in prompts:
        # The affirmative one, else the first: what someone says yes to tells most.
        shown = next((text for text in distinct if text.strip().casefold() in ("yes", "true")), texts[0])
        compared &= torch.tensor([text == shown for text in texts])
        texts = without_opening([str(prompt) for prompt in prompts])
    rows = compared.nonzero()[:, 0].tolist()
    shown = [texts[row] for row in rows]
    described = []
    for name, share, column in zip(names, shares, above.T, strict=True):
        values = column[rows].double().numpy()
        order = np.argsort(-values, kind="stable")
        likes, dislikes = (
            [Liked(rows[i], round(float(values[i]), 4)) for i in ends[:number] if sign * values[i] > 0]
            for sign, ends in ((1, order), (-1, order[::-1]))
        )
        liked, disliked, features = _in_words(shown, values, group[rows].numpy())
        also = {each.name for each in liked}
        words = liked[:number], [each for each in disliked if each.name not in also][:number]
        share = None if share is None else round(float(share), 4)
        described.append(Description(name, share, likes, dislikes, *words, features))
    return described


def chances(rewards: Float[Tensor, "n points"], group: Int[Tensor, " n"]) -> Float[Tensor, "n points"]:
    """Each response's mean chance of being preferred to others of its group; to at most 32, evenly chosen."""
    order = torch.argsort(group, stable=True)
    size = torch.bincount(group)
    start = (size.cumsum(0) - size)[group[order]]
    place, size = torch.arange(len(group)) - start, size[group[order]]
    most = (size - 1).clamp_max(OPPONENTS)
    total = torch.zeros_like(rewards)
    for k in range(1, int(most.max()) + 1):
        some = (most >= k).nonzero()[:, 0]
        step = k * (size[some] - 1) // most[some]
        other = order[start[some] + (place[some] + step) % size[some]]
        row = order[some]
        total[row] += torch.sigmoid(rewards[row] - rewards[other])
    return total / torch.empty_like(most).index_put_((order,), most).clamp_min(1)[:, None]


def main_directions(
    population: Population, rewards: Any, group: Int[Tensor, " n"]
) -> tuple[Float[Tensor, "directions s"], Float[Tensor, " directions"]]:
    """Directions of the state along which people's rewards differ most, for models linear in the state.

    Each is one standard deviation of the people along it, and has its share of the variance of rewards; the
    first has the largest.
    """
    mean, prior = population.mean.float(), population.prior
    covariance = getattr(prior, "covariance", None)
    if covariance is None:
        apart = (prior.states - prior.mean).double()
        covariance = apart.T @ (apart * prior.masses.double()[:, None])
    values, vectors = torch.linalg.eigh(covariance.double())
    root = (vectors * values.clamp_min(0).sqrt()).float()
    all_rewards = rewards(torch.cat([mean + root.T, mean[None]]))
    apart = all_rewards[:, :-1] - all_rewards[:, -1:]
    total = apart.new_zeros(int(group.max()) + 1, apart.shape[1]).index_add_(0, group, apart)
    apart = (apart - (total / torch.bincount(group).clamp_min(1)[:, None])[group]).double()
    power, turn = torch.linalg.eigh(apart.T @ apart)
    power, turn = power.flip(0).clamp_min(0), turn.flip(1)
    turn = turn * torch.where((apart @ turn).pow(3).sum(0) < 0, -1.0, 1.0)  # a sign for either end
    return (root.double() @ turn).T.float(), (power / power.sum().clamp_min(1e-12)).float()


def _in_words(
    texts: Sequence[str | None], above: Float[np.ndarray, " n"], group: Int[np.ndarray, " n"]
) -> tuple[list[Contrast], list[Contrast], list[Contrast]]:
    """Words of liked and of disliked responses, and features; liked is one standard deviation above."""
    if None in texts or len(texts) < 2 * LEAST_TEXTS or not above.std():
        return [], [], []
    from sklearn.feature_extraction.text import ENGLISH_STOP_WORDS  # a second to import

    words = [set(map(str.casefold, WORD.findall(str(text)))) for text in texts]
    # Function words say little of what is liked; they are told where nothing else can be.
    content = [
        {w for w in each if w not in ENGLISH_STOP_WORDS and not {"'", "\u2019"} & {*w}} for each in words
    ]
    liked, disliked = above >= above.mean() + above.std(), above <= above.mean() - above.std()
    return (
        *(word_contrasts(content, each) or word_contrasts(words, each) for each in (liked, disliked)),
        feature_contrasts(texts, above, group),
    )


def word_contrasts(words: Sequence[set[str]], liked: np.ndarray) -> list[Contrast]:
    """Words that marked responses have more often than the others, the surest first."""
    inside, outside = (Counter(w for i in np.flatnonzero(rows) for w in words[i]) for rows in (liked, ~liked))
    known = [word for word in inside if inside[word] + outside[word] >= LEAST_TEXTS]
    counts = np.array([[inside[word], outside[word]] for word in known], float).reshape(-1, 2)
    sizes = np.array([liked.sum(), (~liked).sum()], float)
    if not known or not sizes.all():
        return []
    share = (counts.sum(1, keepdims=True) + 0.5) / (sizes.sum() + 1)
    have, lack = counts + PRIOR_TEXTS * share, sizes - counts + PRIOR_TEXTS * (1 - share)
    log_odds = np.log(have / lack)
    strength, error = log_odds[:, 0] - log_odds[:, 1], np.sqrt((1 / have + 1 / lack).sum(1))
    reach = float(ndtri(1 - (1 - SURE) / 2 / len(known))) * error
    order = sorted(range(len(known)), key=lambda i: (-strength[i] / error[i], known[i]))
    numbers = strength, strength - reach, strength + reach
    return [
        Contrast(known[i], *(round(float(each[i]), 4) for each in numbers))
        for i in order
        if strength[i] > reach[i]
    ]


def feature_contrasts(
    texts: Sequence[str | None], above: Float[np.ndarray, " n"], group: Int[np.ndarray, " n"]
) -> list[Contrast]:
    """Simple features that go with being liked: rank correlations within prompts whose interval leaves 0."""
    found = []
    z = float(ndtri(1 - (1 - SURE) / 2 / len(FEATURES)))
    sizes = np.bincount(group)
    for count, more, less in FEATURES.values():
        values = np.array([count(text) for text in texts], float)
        if sizes[group].max() > 1:  # not so where prompts themselves are what is liked
            values = values - (np.bincount(group, values) / np.maximum(sizes, 1))[group]
        if not values.std():
            continue
        ranks = (pl.Series(each).rank().to_numpy() for each in (values, above))
        r = float(np.corrcoef(*ranks)[0, 1])
        reach, name = z / np.sqrt(max(len(texts) - 3, 1)), more if r > 0 else less
        ends = np.tanh(np.arctanh(min(abs(r), 0.9999)) + np.array([-reach, reach]))
        if ends[0] > 0:
            found.append(Contrast(name, round(abs(r), 4), *(round(float(end), 4) for end in ends)))
    return sorted(found, key=lambda each: -each.strength)


def without_opening(prompts: Sequence[str]) -> list[str]:
    """Prompts without the lines with which all of them begin, where there are several and each goes on."""
    distinct = set(prompts)
    lines = [prompt.splitlines(keepends=True)[:-1] for prompt in distinct] if len(distinct) > 1 else []
    alike = takewhile(lambda row: len(set(row)) == 1, zip(*lines, strict=False))
    opening = sum(len(row[0]) for row in alike)
    return [prompt[opening:] for prompt in prompts]
