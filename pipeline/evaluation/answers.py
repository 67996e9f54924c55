"""Answers: test pairs with everyone's margins on them, computed once, and judged on any choice of them."""

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import torch

from pal.comparisons import Comparisons
from pal.evaluation.accuracy import Judged, balanced_accuracy
from pal.fitting.fit import read_blocks
from pal.serving.saved_model import SavedModel
from pipeline.evaluation import asking
from pipeline.evaluation.baselines import Margins
from pipeline.evaluation.locating import drawn_shots, locate
from pipeline.params import Evaluate
from pipeline.study import Study

if TYPE_CHECKING:
    import polars as pl

    from pipeline.evaluation.bounds import Bound

MAX_ANSWERS = 10

Key = tuple[str, int | None]  # a model's name, and the shots it was given


@dataclass(frozen=True)
class Test:
    """One model judged on one choice of test pairs.

    Args:
        users: seen, unseen, unlocated or all.
        items: known, new, or all.
        shots: Comparisons from which unseen users were located; None where that does not apply.
        model: model, k1, oracle, a baseline's name; bound, who knows how the data were made; or asked, the
            model with as many comparisons as `shots` says, chosen and not drawn.
        judged: Right judgements per user; means over the draws of the shots.
        balanced: Balanced accuracy, where all questions share a few answers.
        test: The named test set; empty where there is one only.
        pairs: all, filtered or untouched.
    """

    users: str
    items: str
    shots: int | None
    model: str
    judged: Judged
    balanced: float | None
    test: str = ""
    pairs: str = "all"


@dataclass(frozen=True)
class Answers:
    """Test pairs of some users, with everyone's margins on them.

    Args:
        users: seen, unseen or unlocated.
        n_users: Users of their half: what the pairs' user numbers count within.
        pairs: The pairs, ties left out, the preferred response the chosen one.
        marks: items, test and filtered of each pair.
        margins: By model and shots, one table per draw.
    """

    users: str
    n_users: int
    pairs: Comparisons
    marks: "pl.DataFrame"
    margins: dict[Key, list[torch.Tensor]]

    def judged(self, key: Key, here: torch.Tensor) -> Judged:
        """Right judgements on some of the pairs, averaged over the draws."""
        user = self.pairs.user[here]
        each = [Judged.of(m[here], user, n_users=self.n_users) for m in self.margins[key]]
        return Judged(sum(j.right for j in each) / len(each), each[0].total)

    def balanced(self, key: Key, here: torch.Tensor) -> float | None:
        """Balanced accuracy where all questions share a few answers, as yes and no."""
        q, question = self.pairs.questions, self.pairs.question[here]
        chosen = torch.where(self.pairs.sign[here] > 0, q.first[question], q.second[question])
        if len(torch.unique(chosen)) > MAX_ANSWERS:
            return None
        each = [balanced_accuracy(m[here], chosen) for m in self.margins[key]]
        return None if each[0] is None else sum(each) / len(each)

    def tests(
        self, here: torch.Tensor, *, items: str = "all", test: str = "", pairs: str = "all"
    ) -> list[Test]:
        """Everyone judged on some of the pairs; nothing where there are none."""
        if not bool(here.any()):
            return []
        return [
            Test(self.users, items, shots, model, judged, balanced, test, pairs)
            for (model, shots), judged, balanced in (
                (key, self.judged(key, here), self.balanced(key, here)) for key in self.margins
            )
        ]

    def inside(self, names: list[str] | None) -> torch.Tensor:
        """Which pairs belong to the named test sets; all of them for None."""
        if names is None:
            return torch.ones(len(self.pairs), dtype=torch.bool)
        return _mask(self.marks["test"].is_in(names).fill_null(value=False))

    def on(self, items: str) -> torch.Tensor:
        """Which pairs are on known or on new items; all of them for all."""
        return self.inside(None) if items == "all" else _mask(self.marks["items"] == items)

    def filtered(self) -> torch.Tensor:
        """Which pairs have a response with a colour filter."""
        return _mask(self.marks["filtered"].is_not_null())


def answers(
    data: Study,
    half: str,
    models: dict[str, SavedModel],
    baselines: dict[str, Margins],
    knobs: Evaluate,
    bound: "Bound | None" = None,
) -> list[Answers]:
    """One half's test pairs with all margins; unseen users who cannot be located, where others can, apart."""
    here = (data.places["users"] == half) & (data.places["split"] == "test")
    chosen, rows = decided(data.select(half, "test"))
    if not len(rows):
        return []
    marks = data.places.filter(here)[rows.numpy()].select("items", "test", "filtered")
    n_users = data.n_users(half)
    margins: dict[Key, list[torch.Tensor]] = {(n, None): [margin(chosen)] for n, margin in baselines.items()}
    if half == "seen":
        margins |= {(n, None): margins_by(m, [m.weights], data, chosen) for n, m in models.items()}
        if bound is not None:
            margins["bound", None] = bound.margins(half, [data.select(half, "train")], chosen)
        return [Answers(half, n_users, chosen, marks, margins)]
    given = {"k1": torch.ones(n_users, 1), "oracle": data.group_weights(half)}
    for name, weights in given.items():
        if name in models and weights is not None:
            margins[name, None] = margins_by(models[name], [weights], data, chosen)
    located = locate(data, models["model"], knobs)
    every = margins_by(models["model"], [w for draws in located.values() for w in draws], data, chosen)
    each = iter(every)
    margins |= {("model", shots): [next(each) for _ in draws] for shots, draws in located.items()}
    if bound is not None:
        margins |= _bounded(bound, data, chosen, knobs)
    chosen_by = asking.located(data, models["model"], knobs.asked)
    each = iter(margins_by(models["model"], list(chosen_by.values()), data, chosen))
    margins |= {("asked", n): [next(each)] for n in chosen_by}
    known = torch.zeros(n_users, dtype=torch.bool)
    known[data.select(half, "adapt").user] = True
    can = known[chosen.user]
    if bool(can.all()) or not bool(can.any()):
        return [Answers(half, n_users, chosen, marks, margins)]
    zero = {key: draws for key, draws in margins.items() if not key[1]}
    return [
        Answers(users, n_users, chosen[which], marks.filter(mask.numpy()), _of_rows(these, which))
        for users, mask, these in (("unseen", can, margins), ("unlocated", ~can, zero))
        for which in [mask.nonzero().squeeze(1)]
    ]


def _bounded(
    bound: "Bound", data: Study, test: Comparisons, knobs: Evaluate
) -> dict[Key, list[torch.Tensor]]:
    """The bound on unseen users, from none and from the very shots that the model gets."""
    pairs = data.select("unseen", "adapt")
    drawn = list(drawn_shots(pairs.user, data.n_users("unseen"), knobs))
    known = [pairs.slice(0, 0), *(pairs[rows] for _, rows in drawn)]
    found: dict[Key, list[torch.Tensor]] = {}
    for shots, margin in zip((0, *(n for n, _ in drawn)), bound.margins("unseen", known, test), strict=True):
        found.setdefault(("bound", shots), []).append(margin)
    return found


def _of_rows(margins: dict[Key, list[torch.Tensor]], rows: torch.Tensor) -> dict[Key, list[torch.Tensor]]:
    return {key: [m[rows] for m in draws] for key, draws in margins.items()}


def decided(comparisons: Comparisons) -> tuple[Comparisons, torch.Tensor]:
    """Comparisons of which one response is preferred, as the chosen one, and which these were.

    A tie is neither right nor wrong, so accuracy leaves it out.
    """
    if comparisons.label is None:
        return comparisons, torch.arange(len(comparisons))
    rows = (comparisons.label != 0.5).nonzero().squeeze(1)
    kept = comparisons[rows]
    turn = torch.where(comparisons.label[rows] > 0.5, 1.0, -1.0)
    return replace(kept, sign=kept.sign * turn, label=None), rows


def margins_by(
    model: SavedModel, tables: list[torch.Tensor], data: Study, pairs: Comparisons
) -> list[torch.Tensor]:
    """Margins under several tables of weights; what does not depend on the user is computed once."""
    parts: list[list[torch.Tensor]] = [[pairs.sign[:0]] for _ in tables]
    with torch.inference_mode():
        for block, read, place in read_blocks(model.head, data.embeddings, pairs):
            rows = read.index_select(0, place)
            for part, weights in zip(parts, tables, strict=True):
                part.append(model.head.margin(rows, weights.index_select(0, block.user)) * block.sign)
    return [torch.cat(part) for part in parts]


def _mask(column: "pl.Series") -> torch.Tensor:
    return torch.from_numpy(column.to_numpy().copy())
