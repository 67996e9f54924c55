"""Best of 16 for the right user, against the pick for the average user, on Anthropic's Persona statements.

A response to a Persona statement is yes or no, so what there is to pick is a statement: of 16 that training
never saw, drawn at random from those of all personas, the one that the user would most probably say yes to,
by the margin of yes over no, which is a difference of rewards for one user and one prompt. The rival picks
with the zero-shot mean's weights from the same 16. The user's true persona judges: it says yes to statements
that agree with it, and no to all others. A win is a pick with yes where the rival's has no; where both have
the same answer it is a tie and counts half. 50 sets of 16 per user, each user's own.

K* personas, K = K* prototypes, 100 people a persona who answered 100 statements each (seen), and 100 a
persona who were never trained on, located from 20 answers. Model B, latent 16, preset `ours`. Interval:
people are drawn anew, those of the three seeds together; the pool of new statements and the fits stay.
`possible` is whether any of the 16 has the user's yes, a bound on every picker; `random` picks blindly.

The files are looked for in PAL_PERSONA, else in ../shared/data/persona; without them everything is skipped.
"""

from dataclasses import dataclass
from statistics import fmean

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from benchmarks.persona import Case, known_answers, prepared
from benchmarks.studies import SEEDS, draw, in_parallel, real_persona
from benchmarks.table import Row, Section, show
from pal.comparisons import Questions
from pal.evaluation.accuracy import Judged, bootstrap_interval
from pal.fitting.fit import fit
from pal.serving.reward_model import RewardModel
from pipeline.evaluation.locating import places_in_user
from pipeline.params import Params
from pipeline.storage.tables import text_id
from pipeline.study import Study

CANDIDATES, SETS, SHOTS, USERS = 16, 50, 20, 100
GROUPS = (2, 3, 4, 5, 6)
HALVES = {"seen": "seen, 100 answers", "unseen": f"unseen, {SHOTS} answers"}


@dataclass(frozen=True)
class Picked:
    """How one half of the users fared: one entry per user where not said otherwise.

    Args:
        score: Wins and half the ties, of `SETS`.
        own: Share of sets in which the personal pick has the user's yes.
        mean: The same of the zero-shot mean's pick.
        random: The same of a blind pick.
        possible: Share of sets that hold a yes at all.
    """

    score: Float[Tensor, " users"]
    own: float
    mean: float
    random: float
    possible: float


def measure() -> Section:
    """All figures, or none where the files are not there."""
    title = f"Best of {CANDIDATES} on Persona: the right user's pick against the zero-shot mean's"
    if real_persona() is None:
        missing = f"not found; {2 * len(GROUPS)} figures skipped: set PAL_PERSONA to the folder"
        return Section(title, {"real Persona set": missing}, [])
    draw("persona", prepared(Case(6, 1, 20, ()), 0))  # encodes every statement once, for all that follows
    jobs = [(groups, seed, USERS) for groups in GROUPS for seed in SEEDS]
    found = dict(zip(jobs, in_parallel(run, jobs), strict=True))
    about = {
        "real Persona set": "found",
        "seeds": list(SEEDS),
        "sets a user": SETS,
        "threads": "1 a process, a process a core",
    }
    rows = [_row(n, half, [found[n, seed, USERS][half] for seed in SEEDS]) for n in GROUPS for half in HALVES]
    return Section(title, about, rows)


def run(groups: int, seed: int, users: int) -> dict[str, Picked]:
    """Draw a study of `users` people a persona, fit it, and let both pick, for one seed."""
    given = prepared(Case(groups, users, 100, (groups,), unseen_users_per_group=users, val_pairs=5), seed)
    data = draw("persona", given)
    model = _fitted(data, given, groups)
    pool = data.select("seen", "test", "new").questions.prompt.unique()
    yes = known_answers(data, given)[:, pool]
    personas = given.persona.prepare.personas
    generator = torch.Generator().manual_seed(seed)
    found = {}
    for half, weights in (("seen", model.weights), ("unseen", _located(data, model, generator))):
        group = torch.tensor([personas.index(name) for name in data.groups[half]])
        own = _margins(data, model, pool, weights)
        mean = _margins(data, model, pool, model.state_of(None)[None]).expand_as(own)
        found[half] = _pick(own, mean, yes[group], generator)
    return found


def _fitted(data: Study, given: Params, K: int) -> RewardModel:
    given = given.model_copy(update={"model": given.model.model_copy(update={"K": K})})
    head, config = given.configs("persona")
    fitted = fit(
        data.embeddings,
        data.select("seen", "train"),
        n_users=data.n_users("seen"),
        head=head,
        config=config,
        val=data.select("seen", "val"),
        seed=given.train.seed,
    )
    ids = data.user_ids["seen"]
    return RewardModel.from_fit(fitted, data.embeddings, user_ids=ids, fit_config=config, encoder={})


def _located(data: Study, model: RewardModel, generator: torch.Generator) -> Float[Tensor, "users K"]:
    """Weights of the unseen users, each from some answers drawn at random."""
    pairs, n_users = data.select("unseen", "adapt"), data.n_users("unseen")
    some = (places_in_user(pairs.user, n_users, generator) < SHOTS).nonzero().squeeze(1)
    return model.locate(data.embeddings, pairs[some], n_users=n_users)


def _margins(
    data: Study, model: RewardModel, pool: Int[Tensor, " pool"], weights: Float[Tensor, "users K"]
) -> Float[Tensor, "users pool"]:
    """Reward of yes less that of no to each statement, for each user."""
    yes, no = (torch.full_like(pool, data.response_ids.index(text_id(word))) for word in ("Yes", "No"))
    with torch.no_grad():
        read = model.head.read(data.embeddings, Questions(prompt=pool, first=yes, second=no))
        return model.head.margins_at(read, weights).T


def _pick(
    own: Float[Tensor, "users pool"],
    mean: Float[Tensor, "users pool"],
    yes: Bool[Tensor, "users pool"],
    generator: torch.Generator,
) -> Picked:
    """Both pick from the same sets of candidates; the true answers judge."""
    users, pool = own.shape
    sets = torch.rand(users, SETS, pool, generator=generator).topk(CANDIDATES, -1).indices

    def of(table: Tensor) -> Tensor:  # (users, SETS, CANDIDATES)
        return table[:, None].expand(-1, SETS, -1).gather(2, sets)

    answers = of(yes).float()
    ours, theirs = (answers.gather(2, of(x).argmax(2, keepdim=True))[..., 0] for x in (own, mean))
    return Picked(
        score=(0.5 + (ours - theirs) / 2).sum(1),
        own=float(ours.mean()),
        mean=float(theirs.mean()),
        random=float(answers.mean()),
        possible=float(answers.amax(2).mean()),
    )


def _row(groups: int, half: str, found: list[Picked]) -> Row:
    each = [100 * float(one.score.mean()) / SETS for one in found]
    score = torch.cat([one.score for one in found]).double()
    judged = Judged(score.numpy(), torch.full_like(score, SETS).long().numpy())
    low, high = (100 * bound for bound in bootstrap_interval(judged))
    shares = {
        name: 100 * fmean(getattr(one, name) for one in found)
        for name in ("own", "mean", "random", "possible")
    }
    told = ", ".join(f"{name} {share:.1f}" for name, share in shares.items())
    return Row(
        f"K*=K={groups}, users {HALVES[half]}: wins",
        fmean(each),
        each=each,
        note=f"95 % interval {low:.1f} to {high:.1f}; picks with the user's yes: {told} %",
    )


if __name__ == "__main__":
    show(measure())
