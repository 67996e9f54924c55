"""Chosen questions against drawn ones: Anthropic's Persona statements, six personas, K = 6.

New users of the six personas answer questions one after another. Drawn: at random from their adapt pairs, as
`evaluate` does. Chosen: each next one is that whose answer is expected to tell most, of the user's own adapt
pairs, or of every statement that training knows, which the user answers as the persona would. The model, the
test pairs and the users are the same in all three. About 4 minutes on two quiet cores.

The files are looked for in PAL_PERSONA, else in ../shared/data/persona; without them everything is skipped.
"""

from statistics import fmean

import torch
from jaxtyping import Float
from torch import Tensor

from benchmarks.persona import Case, known_answers, prepared
from benchmarks.studies import SEEDS, draw, in_parallel, real_persona
from benchmarks.table import Row, Section, show
from pal.comparisons import Questions
from pal.evaluation.accuracy import Judged, bootstrap_interval
from pal.fitting.fit import fit
from pal.serving.saved_model import SavedModel
from pal.users.ask import chances
from pal.users.interviews import interview
from pipeline.evaluation import asking
from pipeline.evaluation.answers import margins_by
from pipeline.evaluation.locating import locate
from pipeline.params import Params
from pipeline.storage.tables import text_id
from pipeline.study import Study

CASE = Case(6, 100, 100, (6,), unseen_users_per_group=100, val_pairs=5)
MOST = 10
USERS_AT_ONCE = 32


def measure() -> Section:
    """All figures, or none where the files are not there."""
    title = "Which question next: Persona, six personas, K = 6 (MiniLM, model B, latent 16, preset ours)"
    if real_persona() is None:
        missing = "not found; set PAL_PERSONA to the folder of interest-in-*.jsonl"
        return Section(title, {"real Persona set": missing}, [])
    draw("persona", prepared(Case(6, 1, 20, ()), 0))  # encodes every statement once
    found = in_parallel(run, [(seed,) for seed in SEEDS])
    about = {"seeds": list(SEEDS), "users": "600 seen, 100 answers each; 600 unseen, 20 test pairs each"}
    return Section(title, about, _rows(found))


def run(seed: int) -> dict[str, tuple[float, float, float]]:
    """Accuracy on unseen users with its interval, by way and number of questions, for one seed."""
    given = prepared(CASE, seed)
    data = draw("persona", given)
    model = _fitted(data, given)
    tables = {f"drawn {n}": weights for n, weights in locate(data, model, given.evaluate).items()}
    tables |= {f"own {n}": [weights] for n, weights in asking.located(data, model, MOST).items()}
    any_known = from_any(data, model, known_answers(data, given))
    tables |= {f"any {n}": [weights] for n, weights in enumerate(any_known, 1)}
    test = data.select("unseen", "test", "known")
    every = iter(margins_by(model, [w for draws in tables.values() for w in draws], data, test))
    found = {}
    for name, draws in tables.items():
        each = [Judged.of(next(every), test.user, n_users=data.n_users("unseen")) for _ in draws]
        judged = Judged(sum(j.right for j in each) / len(each), each[0].total)
        found[name] = (100 * judged.micro, *(100 * end for end in bootstrap_interval(judged)))
    return found


def _fitted(data: Study, given: Params) -> SavedModel:
    given = given.model_copy(update={"model": given.model.model_copy(update={"K": 6})})
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
    return SavedModel.from_fit(fitted, data.embeddings, user_ids=ids, fit_config=config, encoder={})


def from_any(data: Study, model: SavedModel, says_yes: Tensor) -> list[Float[Tensor, "users K"]]:
    """Unseen users' weights after 1 to 10 questions chosen from all statements that training knows."""
    train = data.select("seen", "train")
    prompt = torch.unique(train.questions.prompt[train.question])
    yes, no = (torch.full_like(prompt, data.response_ids.index(text_id(word))) for word in ("Yes", "No"))
    with torch.inference_mode():
        points = model.prior.points
        chance = chances(model.head, points, data.embeddings, Questions(prompt, yes, no)).float()
    logs = torch.stack([(1 - chance).clamp_min(1e-12).log(), chance.clamp_min(1e-12).log()])
    names = sorted(set(data.groups["unseen"]))
    group = torch.tensor([names.index(name) for name in data.groups["unseen"]])
    answer = says_yes[:, prompt].long()
    likelihood = []
    for users in group.split(USERS_AT_ONCE):
        said = logs[answer[users], torch.arange(len(prompt))]
        shared = chance.expand(len(users), -1, -1)
        allowed = torch.ones(len(users), len(prompt), dtype=torch.bool)
        likelihood.append(interview(shared, said, allowed, model.prior.mass, MOST).likelihood)
    return [model.prior.weights(total) for total in torch.cat(likelihood, 1)]


def _rows(found: list[dict[str, tuple[float, float, float]]]) -> list[Row]:
    def row(what: str, key: str, least: float | None = None) -> Row:
        each = [figures[key][0] for figures in found]
        ends = ", ".join(f"{figures[key][1]:.2f} to {figures[key][2]:.2f}" for figures in found)
        return Row(what, fmean(each), at_least=least, each=each, note=f"95 % intervals over users: {ends}")

    twenty = fmean(figures["drawn 20"][0] for figures in found)
    rows = [row(f"accuracy after {n} drawn", f"drawn {n}") for n in (0, 5, 10, 20)]
    for way, words in (("own", "of the user's own 50"), ("any", "of every known statement")):
        rows += [
            row(f"accuracy after {n} chosen {words}", f"{way} {n}", twenty if n == 6 else None)
            for n in (1, 2, 3, 4, 5, 6, 8, 10)
        ]
    return rows


if __name__ == "__main__":
    show(measure())
