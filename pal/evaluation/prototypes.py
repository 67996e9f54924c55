"""Analyses of prototypes: agreement between fits, dead prototypes, users outside the hull, one state for
all, test of plurality.

Prototypes come in any order, so those of two fits are matched first (Hungarian method). Two fits of data
without groups also agree on what everybody likes; so only what tells prototypes apart is compared: their
margins on common questions, less the mean over prototypes.

Shapes: q questions, n comparisons, users, K prototypes, s numbers of a state.
"""

from math import log
from typing import NamedTuple

import numpy as np
import torch
from jaxtyping import Bool, Float, Int
from scipy.cluster.hierarchy import fcluster, linkage
from scipy.optimize import linear_sum_assignment
from scipy.sparse import csr_matrix
from torch import Tensor

from pal.comparisons import Comparisons, Embeddings
from pal.errors import PalError
from pal.models.base import PreferenceModel, expected_loss, feature_blocks, logistic
from pal.users.points import Points, solve_weights

LIKELIER = 20.0  # how many times likelier answers must be outside than anywhere between the prototypes
WIDER = 2.0  # how far outside to look: the simplex of the prototypes, so many times as wide
SHUFFLES = 999
MAX_COMPARISONS, MAX_USERS = 20_000, 1000  # judged; of more, users are left out at random
ASKED_ALIKE = 0.05  # share of the variance of questions that may be between users who are asked alike
LEAST_STRATUM = 4  # users of a stratum, on average
MAX_PLACES = 32  # of users, that are tried as the state of all
CARES = tuple(2.0**n for n in range(-6, 7))  # inverse temperatures, alike likely


class Matched(NamedTuple):
    """Prototypes of one fit and their partners in another."""

    partner: Int[Tensor, " K"]  # the other fit's prototype that each is matched with
    agreement: Float[Tensor, " K"]  # cosine, over questions, of what sets either apart from its fit's mean


def match_prototypes(
    margins: Float[Tensor, "q K"],
    other_margins: Float[Tensor, "q K"],
    shares: Float[Tensor, " K"],
    other_shares: Float[Tensor, " K"],
) -> Matched:
    """Match two fits' prototypes so that they agree most in total (Hungarian method).

    Margins are those of the same questions at each prototype. Its share of the users' weight weighs it in the
    mean, so that an unused prototype moves no other.
    """

    def differences(margins: Float[Tensor, "q K"], shares: Float[Tensor, " K"]) -> Float[Tensor, "q K"]:
        apart = (margins - (margins @ shares)[:, None]).double()
        return apart / apart.norm(dim=0, keepdim=True).clamp_min(1e-12)

    cosines = (differences(margins, shares).T @ differences(other_margins, other_shares)).clamp(-1, 1)
    _, columns = linear_sum_assignment(cosines.numpy(force=True), maximize=True)
    partner = torch.from_numpy(columns).to(cosines.device)
    return Matched(partner, cosines.gather(1, partner[:, None])[:, 0])


def dead_prototypes(weights: Float[Tensor, "users K"]) -> Bool[Tensor, " K"]:
    """Which prototypes are unused: no user's largest weight, or less than 1 / (10 K) of all weight."""
    K = weights.shape[1]
    nobodys_largest = torch.bincount(weights.argmax(1), minlength=K) == 0
    return nobodys_largest | (weights.mean(0) < 1 / (10 * K))


def outside_hull(
    margins: Float[Tensor, "n K"], user: Int[Tensor, " n"], *, n_users: int
) -> Bool[Tensor, " users"]:
    """Likelihood ratio of users outside the convex hull of the prototypes: whom no mix describes.

    A user is outside whose answers have a greatest likelihood in a simplex around the same centre, twice as
    wide, that is 20 times that between the prototypes; one without comparisons is not. Margins are each
    comparison's in favour of the chosen response at each prototype, and must be linear in the weights.
    """
    if margins.shape[1] == 1 or not len(margins):
        return torch.zeros(n_users, dtype=torch.bool)

    def max_log_likelihood(margins: Float[Tensor, "n K"]) -> Float[Tensor, " users"]:
        weights, _ = solve_weights(margins, user, n_users=n_users)
        each = torch.nn.functional.logsigmoid((margins * weights[user]).sum(1).double())
        return each.new_zeros(n_users).index_add(0, user, each)

    # A point of the wider simplex is c + WIDER (u - c), with u in the simplex and c its centre.
    wide = WIDER * margins + (1 - WIDER) * margins.mean(1, keepdim=True)
    return max_log_likelihood(wide) - max_log_likelihood(margins) > log(LIKELIER)


def one_state_for_all(
    head: PreferenceModel, states: Float[Tensor, "users s"], embeddings: Embeddings, train: Comparisons
) -> Float[Tensor, "1 s"] | None:
    """The state, of those where users are, that fits all training answers best each with their own care.

    What a model gains over itself with this state is due to users' tastes, not to its width, nor to a place
    where careless users are set aside: a user's likelihood is the mean over inverse temperatures, CARES.
    Without these, a fifth of users who answer at random draw the state to where nobody is. It is None where
    all users have one state anyway, or there are no answers.
    """
    if not len(train) or bool((states == states[:1]).all()):
        return None
    with torch.inference_mode():
        places = torch.cat([Points.from_states(states, max_points=MAX_PLACES).points, states.mean(0)[None]])
        likelihood = torch.zeros(len(CARES), len(states), len(places), device=states.device)
        for block, features, row in feature_blocks(head, embeddings, train):
            margin = head.margins_at(features, places).index_select(0, row) * block.sign[:, None]
            label = None if block.label is None else block.label[:, None]
            for care, table in zip(CARES, likelihood, strict=True):
                loss = expected_loss(logistic, care * margin, label)
                table.index_add_(0, block.user, -loss * block.weights[:, None])
        best = likelihood.logsumexp(0).double().sum(0).argmax()
        return places[best][None]


def plurality_test(
    head: PreferenceModel,
    states: Float[Tensor, "users s"],
    embeddings: Embeddings,
    held_out: Comparisons,
    *,
    shuffles: int = SHUFFLES,
    seed: int = 0,
) -> float | None:
    """Permutation test of whether users prefer differently: shuffle states, and compare held-out predictions.

    The p-value is the share of shuffles that predict at least as well as the own states, these counted too.
    It is None where it cannot be told, as users are asked of different things.

    Where everyone prefers alike, a state fitted to one user's answers says nothing about that user's other
    answers, and it makes no difference whose state judges them; the test is exact then. How carefully one
    answers is no preference, nor is what one is asked:

    - Who answers at random has another state, and is predicted worse by every state. `shuffle_test` therefore
      leaves out what a care of each user and a quality of each state explain.
    - A state fitted to one topic predicts that topic. Where users' questions differ by more than chance,
      states are shuffled among users with like questions alone (`alike_questions`).

    The head must be in evaluation mode, the states fitted to other comparisons than `held_out`: on their own
    they win in any case. `benchmarks plurality` measures the level.
    """
    if not len(held_out):
        raise PalError("held_out must hold at least one comparison, got none")
    rng = np.random.default_rng(seed)
    # Of many comparisons those of random users are enough, and of one user the first.
    order = torch.from_numpy(rng.permutation(len(states))).to(held_out.user.device)
    counts = torch.bincount(held_out.user, minlength=len(states))[order]
    few = (counts.cumsum(0) <= MAX_COMPARISONS) & ((counts > 0).cumsum(0) <= MAX_USERS)
    taken = torch.isin(held_out.user, order[few] if bool(counts[few].any()) else order[counts > 0][:1])
    held_out = held_out[taken.nonzero().squeeze(1)[:MAX_COMPARISONS]]
    users, row = torch.unique(held_out.user, return_inverse=True)
    q, asked = held_out.questions, held_out.question
    with torch.inference_mode():
        own = states.index_select(0, users)
        blocks = [
            head.margins_at(features, own).index_select(0, place) * block.sign[:, None]
            for block, features, place in feature_blocks(head, embeddings, held_out)
        ]
        margins = torch.cat(blocks) * (2 * held_out.labels[:, None] - 1)  # a tie speaks for neither response
        if bool((q.prompt[asked] < 0).any()):
            topic = (embeddings.responses[q.first[asked]] + embeddings.responses[q.second[asked]]).float() / 2
        else:
            topic = embeddings.prompts[q.prompt[asked]].float()
    user = row.numpy(force=True)
    strata = alike_questions(topic.numpy(force=True), user)
    if strata is None:
        return None
    return shuffle_test(margins.numpy(force=True), user, strata, shuffles=shuffles, rng=rng)


def shuffle_test(
    margins: Float[np.ndarray, "n users"],
    user: Int[np.ndarray, " n"],
    strata: Int[np.ndarray, " users"],
    *,
    shuffles: int,
    rng: np.random.Generator,
) -> float:
    """p-value of users' own states against states shuffled within strata, where care may differ.

    A table holds for each user the margins of the chosen responses under each user's state, their sum over
    the root of their number. Where all share one reward, it is a product of how carefully a user answers and
    how well a state knows the reward, exactly so where margins are Gaussian (Stein's lemma). That product is
    fitted by least squares and taken away; what is left is shuffled. Margins are divided by their root mean
    square under the state, so that its confidence counts for nothing, then by that of the user's questions,
    so that users weigh alike; and they are cut at 2, so that no single one decides.
    """
    n_users = margins.shape[1]
    scaled = margins / np.sqrt(np.square(margins.astype(float)).mean(0)).clip(1e-12)
    count = np.bincount(user, minlength=n_users)[:, None]
    total = csr_matrix((np.ones(len(user)), (user, np.arange(len(user)))))
    of_user = np.sqrt(total @ np.square(scaled).mean(1)[:, None] / count).clip(1e-12)
    table = total @ (scaled / of_user[user]).clip(-2, 2) / np.sqrt(count)
    own, size, shuffled = 0.0, 0.0, np.zeros(shuffles)
    for stratum in np.unique(strata):
        rows = np.flatnonzero(strata == stratum)
        part = table[np.ix_(rows, rows)]
        quality = part.mean(0)
        # No less than -1: where two groups want opposites, these are no care and its opposite.
        care = np.maximum(part @ quality / max(float(quality @ quality), 1e-12), -1)
        left = part - np.outer(care, quality)
        own, size = own + float(np.trace(left)), size + float(np.abs(left).sum())
        orders = rng.permuted(np.tile(np.arange(len(rows)), (shuffles, 1)), axis=1)
        shuffled += left[np.arange(len(rows)), orders].sum(1)
    # Shuffles that change nothing but the last digits are as good.
    return (1 + int((shuffled >= own - 1e-6 * max(1.0, size / n_users)).sum())) / (1 + shuffles)


def alike_questions(
    asked: Float[np.ndarray, "n dim"], user: Int[np.ndarray, " n"]
) -> Int[np.ndarray, " users"] | None:
    """Strata of users who are asked alike (Ward's clusters of their mean questions); all one where all are.

    Users are asked alike where less than a twentieth of the variance of questions is between users, by the
    analysis of variance (intraclass correlation). A question is the embedding of its prompt, or the mean of
    its responses'; users are numbered without gaps. The strata are None where no clusters of at least four
    users on average are alike within.
    """
    count = np.bincount(user)
    n_users = len(count)
    mean = np.stack([np.bincount(user, column) for column in asked.T.astype(float)], 1) / count[:, None]
    within = float(np.square(asked - mean[user]).sum()) / max(1, len(user) - n_users)

    def between(strata: Int[np.ndarray, " users"]) -> float:
        """Share of the variance of questions that is between users of a stratum."""
        weight = np.bincount(strata, count)
        centre = np.stack([np.bincount(strata, column) for column in (mean * count[:, None]).T], 1)
        apart = count @ np.square(mean - (centre / weight[:, None])[strata]).sum(1)
        answers = len(user) - float((np.bincount(strata, count**2) / weight).sum())
        variance = max(0.0, apart - (n_users - len(weight)) * within) / max(answers, 1e-12)
        return variance / max(variance + within, 1e-12)

    strata = np.zeros(n_users, dtype=np.int64)
    if between(strata) < ASKED_ALIKE or n_users < 2:
        return strata
    tree = linkage(mean, "ward")
    for clusters in range(2, n_users // LEAST_STRATUM + 1):
        strata = fcluster(tree, clusters, "maxclust") - 1
        if between(strata) < ASKED_ALIKE:
            return strata
    return None
