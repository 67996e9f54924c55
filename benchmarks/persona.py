"""Accuracies on Anthropic's real Persona statements, beside the bound of a learner who knows the personas.

Studies are drawn, split and encoded by the pipeline's stages from params.yaml, with other counts; the head
is model B, latent 16, logistic, preset `ours`. Data and training share their seed; figures are means over
seeds 0, 1, 2.
"""

import tempfile
from pathlib import Path
from statistics import fmean
from typing import Any

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from benchmarks.pickafilter import filters
from benchmarks.studies import (
    SEEDS,
    by_seed,
    changed,
    draw,
    fit_study,
    needed_data,
    score_study,
    staged,
    task_of,
    values,
)  # fmt: skip
from benchmarks.table import Row, Section, mean_row
from pal.comparisons import Comparisons, Questions
from pal.evaluation.accuracy import Judged, confidence_interval, rightness
from pal.evaluation.describe import describe_rewards
from pal.methods.auto import learn_auto
from pal.models.base import margins
from pipeline import study
from pipeline.datasets import drawn_scenes
from pipeline.datasets import persona as statements
from pipeline.datasets.persona import agrees, is_yes
from pipeline.evaluation.bounds import group_margins
from pipeline.evaluation.predictions import locate, locate_by_questions, margins_by
from pipeline.evaluation.scores import find
from pipeline.params import Params
from pipeline.storage.tables import text_id
from pipeline.study import Study, places_in_user

PERSONAS = ["art", "literature", "math", "music", "science", "sports"]
SHOTS = (5, 10, 20)
CANDIDATES, SETS = 16, 50  # of best_of_n
GROUPS = (2, 3, 4, 5, 6)
HALVES = {"seen": "seen, 100 answers", "unseen": "unseen, 20 answers"}
Figures = dict[str, float]

# Studies by name, and the numbers of prototypes to fit to them.
CASES: dict[str, tuple[dict[str, int], tuple[int, ...]]] = {
    "3000 users, 10": ({"groups": 3, "users_per_group": 1000, "train_pairs": 10}, (3, 8)),
    "3000 users, 25": ({"groups": 3, "users_per_group": 1000, "train_pairs": 25}, (3,)),
    "300 users, 100": ({"groups": 3, "unseen_users_per_group": 200, "val_pairs": 5}, (1, 2, 3)),
    "600 users, 100": ({"groups": 6, "val_pairs": 5}, (6,)),
    "3000 users, 5": ({"groups": 3, "users_per_group": 1000, "train_pairs": 5}, (3,)),
}
BASE = "300 users, 100"
COUNTS = {
    "users_per_group": 100, "unseen_users_per_group": 1, "train_pairs": 100, "adapt_pairs": 50,
    "val_pairs": 1, "test_pairs": 20, "new_test_pairs": 20,
}  # fmt: skip


def prepared(seed: int, groups: int, **counts: int) -> Params:
    """The parameters of a study of so many personas, with counts other than COUNTS."""
    source, personas = str(needed_data("persona")), PERSONAS[:groups]
    given = values("persona", seed, source=source, personas=personas, **{**COUNTS, **counts})
    return changed(given, {"evaluate.shots": list(SHOTS), "evaluate.draws": 20})


def encode_once() -> None:
    """Encode every statement, which the processes that follow find in the store."""
    draw("persona", prepared(0, 6, users_per_group=1, train_pairs=20))


def known_answers(data: Study, given: Params) -> Bool[Tensor, "groups items"]:
    """Whether a user of each persona says yes to each item."""
    options, folder = given.persona.prepare, Path(given.persona.source)
    names = [f"interest-in-{name}.jsonl" for name in options.personas]
    every = statements.read_all({name: folder / name for name in names})
    return statements.known_answers(data, every, options)


def accuracy_bound(
    says_yes: Bool[Tensor, "groups items"], data: Study, known: Comparisons, test: Comparisons, n_users: int
) -> float:
    """Accuracy on `test` of a learner who knows the personas, and of a user only the answers in `known`.

    An answer is predicted by the majority of the personas that fit those; a tie counts half.
    """
    fits, would = agrees(data, says_yes, known), agrees(data, says_yes, test)
    margin = group_margins(fits, known.user, would, test.user, n_users)
    return float(rightness(margin).mean())


def persona() -> Section:
    """Accuracies beside the bound, on the same answers and test pairs; about 6 minutes on two quiet cores."""
    encode_once()
    about = {
        "seeds": list(SEEDS),
        "threads": "1 a process, a process a core",
        "test pairs a user": "20 on known and 20 on new statements",
        "validation pairs a user": "5 (300 and 600 users), 1 (3,000 users); they choose the epoch alone",
        "draws of the shots": 20,
    }
    title = "Persona: accuracies on Anthropic's statements (MiniLM, model B, latent 16, preset ours)"
    return Section(title, about, _rows(by_seed(run, CASES)))


def run(name: str, seed: int) -> Figures:
    """Draw a case's study and fit what is to be fitted, for one seed; figures in per cent."""
    counts, prototypes = CASES[name]
    given = prepared(seed, **counts)
    data = draw("persona", given)
    says_yes = known_answers(data, given)
    train, test = data.select("seen", "train"), data.select("seen", "test", "known")
    figures = {
        "floor": 1 - float(is_yes(data, test).float().mean()),
        "bound": accuracy_bound(says_yes, data, train, test, data.n_users("seen")),
    }
    for K in prototypes:
        unseen = name == BASE and counts["groups"] == K
        model = fit_study(data, given, K)
        scores = score_study(data, model, given, ("seen", "unseen") if unseen else ("seen",))
        figures[f"K={K}"] = find(scores, "seen", "model").judged.micro
        figures[f"K={K} new"] = find(scores, "seen", "model", new=True).judged.micro
        for n in SHOTS if unseen else ():
            figures[f"{n} shots"] = find(scores, "unseen", "model", shots=n).judged.micro
    if name == BASE:
        model = fit_study(data, changed(given, {"persona.preset": "paper"}), 3)
        figures["paper"] = find(score_study(data, model, given), "seen", "model").judged.micro
        # The bound for unseen users, from the same draws of the same shots as evaluate takes.
        pairs, test = data.select("unseen", "adapt"), data.select("unseen", "test", "known")
        n_users, generator = data.n_users("unseen"), torch.Generator().manual_seed(given.evaluate.seed)
        places = [places_in_user(pairs.user, n_users, generator) for _ in range(20)]
        for n in SHOTS:
            rows = [(place < n).nonzero().squeeze(1) for place in places]
            each = (accuracy_bound(says_yes, data, pairs[some], test, n_users) for some in rows)
            figures[f"bound {n} shots"] = fmean(each)
    return {name: 100 * value for name, value in figures.items()}


def _rows(results: dict[str, list[Figures]]) -> list[Row]:
    def mean(case: str, figure: str) -> float:
        return fmean(figures[figure] for figures in results[case])

    def row(what: str, case: str, figure: str, least: float | None, **more: Any) -> Row:
        return mean_row(what, [figures[figure] for figures in results[case]], at_least=least, **more)

    def beside(what: str, case: str, figure: str, bound: str, slack: float) -> Row:
        top = mean(case, bound)
        return row(what, case, figure, top - slack, note=f"bound {top:.2f}, less {slack}")

    few = "3000 users, 10"
    floor, three = mean(BASE, "floor"), mean(few, "K=3")
    first = "K*=3, 300 users, 100 queries: K=1"
    return [
        row(first, BASE, "K=1", floor - 0.5, at_most=floor + 0.5, note=f"floor {floor:.2f}"),
        row("  K=2", BASE, "K=2", 92.0, at_most=95.0, note="geometric limit 94.4"),
        row("  K=3", BASE, "K=3", 99.7),
        row("  K=3, new statements", BASE, "K=3 new", 99.0),
        row("  K=3, preset paper", BASE, "paper", None, note="10 epochs of the paper's settings"),
        *(
            beside(f"K*=K=3, 3,000 users, {n} queries", f"3000 users, {n}", "K=3", "bound", slack)
            for n, slack in ((25, 0.5), (10, 1.0), (5, 1.5))
        ),
        row("K*=K=6, 600 users, 100 queries", "600 users, 100", "K=6", 99.7),
        row("K*=3, K=8, 3,000 users, 10 queries", few, "K=8", three - 0.3, note=f"K=3: {three:.2f}"),
        *(
            beside(f"unseen users, K*=K=3, {n} shots", BASE, f"{n} shots", f"bound {n} shots", slack)
            for n, slack in zip(SHOTS, (0.7, 0.3, 0.3), strict=True)
        ),
    ]


# Data sets by their row's name, and the persona's queries or the beta of the filters.
CORNERS = {
    **{f"persona, queries {queries}": ("persona", queries) for queries in (25, 10, 5)},
    "simulated": ("simulated", None),
    **{f"pickafilter, beta {beta}": ("pickafilter", beta) for beta in (1.0, 0.5)},
}


def corners() -> Section:
    """The method auto beside preset ours where people stand at corners; most of an hour of two cores."""
    encode_once()
    rows = []
    for what, found in zip(CORNERS, by_seed(beside_ours, CORNERS.values()).values(), strict=True):
        each = [one["auto"] - one["ours"] for one in found]
        ours, taken = fmean(one["ours"] for one in found), ", ".join(one["taken"] for one in found)
        note = f"ours {ours:.2f} %; taken: {taken}"
        rows.append(mean_row(f"{what}: auto less preset ours", each, "points", at_least=-0.3, note=note))
    return Section("auto where people stand at corners", {"seeds": list(SEEDS)}, rows)


def beside_ours(name: str, option: Any, seed: int) -> dict[str, Any]:
    """Accuracies of preset ours and of auto on seen people's test pairs, in per cent, and what auto took."""
    K = 2 if name == "pickafilter" else 3
    with tempfile.TemporaryDirectory() as pictures:
        if name == "persona":
            given = prepared(seed, **CASES[f"3000 users, {option}"][0])
        elif name == "simulated":
            given = values(name, seed, dim=16)
        else:
            drawn_scenes.write(Path(pictures), seed)
            given = filters(pictures, seed, option)
        data = draw(name, given)
    test = data.select("seen", "test", "known" if name == "persona" else None)
    learned = learn_auto(task_of(data, seed, K))
    fits = {"ours": fit_study(data, given, K), "auto": learned.fitted}
    found: dict[str, Any] = {"taken": learned.method}
    with torch.no_grad():
        for key, fitted in fits.items():
            margin = margins(fitted.head, fitted.states, data.embeddings, test)
            found[key] = 100 * float(rightness(margin).mean())
    return found


def asking() -> Section:
    """Chosen questions against drawn ones: six personas, K = 6; about 4 minutes on two quiet cores.

    New users answer one question after another of their adapt pairs: as drawn, or always that whose answer is
    expected to tell most.
    """
    encode_once()
    results = by_seed(ask)[()]
    about = {"seeds": list(SEEDS), "users": "600 seen, 100 answers each; 600 unseen, 20 test pairs each"}

    def row(what: str, key: str, least: float | None = None) -> Row:
        each = [figures[key][0] for figures in results]
        ends = ", ".join(f"{figures[key][1]:.2f} to {figures[key][2]:.2f}" for figures in results)
        return mean_row(what, each, at_least=least, note=f"95 % intervals over users: {ends}")

    limits = {6: fmean(figures["drawn 20"][0] for figures in results)}
    rows = [row(f"accuracy after {n} drawn", f"drawn {n}") for n in (0, 5, 10, 20)]
    what = "chosen of the user's own 50"
    asked = (1, 2, 3, 4, 5, 6, 8, 10)
    rows += [row(f"accuracy after {n} {what}", f"own {n}", limits.get(n)) for n in asked]
    title = "Which question next: Persona, six personas, K = 6 (MiniLM, model B, latent 16, preset ours)"
    return Section(title, about, rows)


def ask(seed: int) -> dict[str, tuple[float, float, float]]:
    """Accuracy on unseen users with its interval, by way and number of questions, for one seed."""
    given = prepared(seed, 6, unseen_users_per_group=100, val_pairs=5)
    data = draw("persona", given)
    model = fit_study(data, given, 6)
    tables = {f"drawn {n}": weights for n, weights in locate(data, model, given.evaluate).items()}
    tables |= {f"own {n}": [weights] for n, weights in locate_by_questions(data, model, 10).items()}
    test = data.select("unseen", "test", "known")
    margins = iter(margins_by(model, [w for draws in tables.values() for w in draws], data, test))
    results = {}
    for name, draws in tables.items():
        each = [Judged.from_margins(next(margins), test.user, n_users=data.n_users("unseen")) for _ in draws]
        judged = Judged(sum(j.right for j in each) / len(each), each[0].total)
        results[name] = (100 * judged.micro, *(100 * end for end in confidence_interval(judged)))
    return results


STEMS = {  # with which a word of an interest begins, where it is not the interest's own name
    "literature": ("literatur", "novel", "book", "read", "writ", "author", "poe"),
    "math": ("math", "equation", "algebra", "theorem", "number", "geometr", "calcul"),
    "science": ("scien", "physic", "research", "experiment"),
    "sports": ("sport", "athlet", "team", "game", "match"),
    "art": ("art", "paint", "museum", "galler"),
}


def words() -> Section:
    """Whether `pal.describe` names six interests by what prototypes like; two minutes on two quiet cores.

    A prototype names the first interest that its four surest words are of; statements are all that is told.
    """
    encode_once()
    results = by_seed(name_prototypes)[()]
    said = ", ".join(words[0] if words else "nothing" for words in results[0])
    named = [{next(filter(None, map(interest_of, words)), None) for words in each} for each in results]
    counts = [float(len(names - {None})) for names in named]
    note = f"surest words, first seed: {said}"
    title = "In words: Persona, six personas, K = 6 (MiniLM, model B, latent 16, preset ours)"
    row = mean_row("interests named by the prototypes' words, of six", counts, "", at_least=6, note=note)
    return Section(title, {"seeds": list(SEEDS), "users": "600, 100 answers each"}, [row])


def interest_of(word: str) -> str | None:
    """The interest that a word is of."""
    return next((name for name in PERSONAS if word.startswith(STEMS.get(name, (name,)))), None)


def name_prototypes(seed: int) -> list[list[str]]:
    """The four surest words of each prototype."""
    given = prepared(seed, **CASES["600 users, 100"][0])
    with staged("persona", given):
        data, text = study.load("persona"), study.texts(study.items("persona"))
    model = fit_study(data, given, 6)
    asked = data.comparisons.questions
    rows = torch.cartesian_prod(asked.prompt.unique(), torch.cat([asked.first, asked.second]).unique())
    embedded = data.embeddings.prompts[rows[:, 0]], data.embeddings.responses[rows[:, 1]]
    described = describe_rewards(
        model.head, model.population, model.states, lambda states: model.score_states(*embedded, states),
        rows[:, 0].unique(return_inverse=True)[1],
        [text[data.response_ids[row]] for row in rows[:, 1].tolist()],
        [text[data.prompt_ids[row]] for row in rows[:, 0].tolist()],
    )  # fmt: skip
    return [[word.name for word in each.liked_words[:4]] for each in described]


def best_of_n() -> Section:
    """Best of 16 for the right user, against the pick for the average user; K = K*.

    Of 16 statements that training never saw the one is picked that the user would most probably say yes to;
    the rival picks with the zero-shot mean's weights. The user's true persona judges: a win is a pick with
    yes where the rival's has no, and the same answer counts half. `possible` is whether any of the 16 has the
    user's yes, a bound on every picker.
    """
    encode_once()
    rows = []
    for groups, found in by_seed(pick, GROUPS).items():
        for half, words in HALVES.items():
            picks = [by_half[half] for by_half in found]
            score = torch.cat([scores for scores, _ in picks]).double()
            judged = Judged(score.numpy(), torch.full_like(score, SETS).long().numpy())
            low, high = (100 * bound for bound in confidence_interval(judged))
            means = {name: 100 * fmean(shares[name] for _, shares in picks) for name in picks[0][1]}
            words_of = ", ".join(f"{name} {share:.1f}" for name, share in means.items())
            note = f"95 % interval over users {low:.1f} to {high:.1f}; yes among the picks: {words_of}"
            each = [100 * float(scores.mean()) / SETS for scores, _ in picks]
            rows.append(mean_row(f"K*=K={groups}, users {words}: wins", each, note=note))
    about = {"seeds": list(SEEDS), "sets a user": SETS}
    title = f"Best of {CANDIDATES} on Persona: the right user's pick against the zero-shot mean's"
    return Section(title, about, rows)


def pick(groups: int, seed: int) -> dict[str, tuple[Float[Tensor, " users"], Figures]]:
    """By half, each user's wins with half of the ties, and the shares of sets in which picks have a yes."""
    given = prepared(seed, groups, unseen_users_per_group=100, val_pairs=5)
    data = draw("persona", given)
    model = fit_study(data, given, groups)
    pool = data.select("seen", "test", "new").questions.prompt.unique()
    says_yes, personas = known_answers(data, given)[:, pool], given.persona.prepare.personas
    yes, no = (torch.full_like(pool, data.response_ids.index(text_id(word))) for word in ("Yes", "No"))
    with torch.no_grad():
        features = model.head.question_features(data.embeddings, Questions(pool, yes, no))
    generator = torch.Generator().manual_seed(seed)
    pairs, n_users = data.select("unseen", "adapt"), data.n_users("unseen")
    some = (places_in_user(pairs.user, n_users, generator) < 20).nonzero().squeeze(1)
    located = model.locate(data.embeddings, pairs[some], n_users=n_users)
    results = {}
    for half, states in (("seen", model.states), ("unseen", located)):
        group = torch.tensor([personas.index(name) for name in data.groups[half]])
        size = (len(group), SETS, len(pool))
        sets = torch.rand(size, generator=generator).topk(CANDIDATES, -1).indices
        answers = says_yes[group][:, None].expand(size).gather(2, sets).float()
        picks = []
        for picker in (states, model.state_of(None)[None]):  # margins of yes over no, for each user
            with torch.no_grad():
                margins = model.head.margins_at(features, picker).T[:, None].expand(size).gather(2, sets)
            picks.append(answers.gather(2, margins.argmax(2, keepdim=True))[..., 0])
        own, mean = picks
        shares = {"own": own, "mean": mean, "random": answers, "possible": answers.amax(2)}
        score = (0.5 + (own - mean) / 2).sum(1)
        results[half] = score, {name: float(share.mean()) for name, share in shares.items()}
    return results
