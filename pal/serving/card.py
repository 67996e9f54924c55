"""A model card: what a reward model was fitted on, how well it serves whom, and what it is not.

Everything that comes from data or a caller is escaped, so that a name cannot become a heading or a script.
"""

import csv
import html
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from pal.errors import PalError
from pal.serving.saved import SavedModel

LIBRARY = "pal"
TAGS = ("pal", "reward-model", "pluralistic-alignment", "personalization", "preference")
NEEDED = ("users", "items", "pairs", "shots", "model", "accuracy", "low", "high", "worst_decile", "n_users")
MODELS = {
    "model": "this model",
    "k1": "one reward for everyone",
    "majority": "the majority's answer",
    "oracle": "told the true groups",
}
REPO = re.compile(r"[\w-][\w.-]*(/[\w-][\w.-]*)?", re.ASCII)
LICENCE = re.compile(r"[a-z0-9][a-z0-9.-]*")
SPECIAL = re.compile(r"([\\`*_{}\[\]()#+\-.!|~$@:])")


@dataclass(frozen=True)
class About:
    """What a card tells beside what the model itself knows.

    Args:
        title: The model's name.
        data: What it was fitted on, in words: where from, how many people, under which licence.
        licence: The model's, as the hub spells it: `apache-2.0`, `cc-by-4.0`.
        datasets: The data sets' names on the hub.
        language: Codes such as `en`.
        results: Rows of the pipeline's metrics/details/NAME.csv, as `read_results` gives them.
    """

    title: str = "A personal reward model"
    data: str = ""
    licence: str | None = None
    datasets: Sequence[str] = ()
    language: Sequence[str] = ()
    results: Sequence[Mapping[str, Any]] = field(default=())

    def __post_init__(self) -> None:
        for name in self.datasets:
            if not REPO.fullmatch(name):
                raise PalError(f"datasets must be names on the hub such as ORG/NAME, got {name!r}")
        if self.licence is not None and not LICENCE.fullmatch(self.licence):
            raise PalError(f"licence must be one of the hub's, such as apache-2.0, got {self.licence!r}")
        for number, row in enumerate(self.results):
            missing = [name for name in NEEDED if name not in row]
            if missing:
                raise PalError(
                    f"results must have the columns of metrics/details/NAME.csv, got row {number} without "
                    f"{missing[0]!r}"
                )


def read_results(path: Path | str) -> list[dict[str, str]]:
    """Rows of the pipeline's metrics/details/NAME.csv.

    Raises:
        PalError: If it cannot be read.
    """
    try:
        with Path(path).open(encoding="utf-8", newline="") as file:
            rows = list(csv.DictReader(file))
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise PalError(f"{path} cannot be read ({error}); run the pipeline's stage evaluate") from None
    About(results=rows)
    return rows


def model_card(model: SavedModel, about: About) -> str:
    """The card as Markdown, with the hub's YAML in front."""
    from huggingface_hub import ModelCardData

    front = ModelCardData(
        language=list(about.language) or None,
        license=about.licence,
        library_name=LIBRARY,
        tags=list(TAGS),
        datasets=list(about.datasets) or None,
        metrics=["accuracy"] if about.results else None,
    )
    parts = [f"---\n{front.to_yaml()}\n---", f"# {escaped(about.title)}", _what(model), _use()]
    parts += [_data(about), _encoders(model), _results(about.results), _limits(model, about)]
    return "\n\n".join(filter(None, parts)) + "\n"


def escaped(text: Any) -> str:
    """A text on one line that Markdown and HTML show as it is."""
    line = " ".join("".join(c if c.isprintable() else " " for c in str(text)).split())
    return SPECIAL.sub(r"\\\1", html.escape(line, quote=False))


def _what(model: SavedModel) -> str:
    config = model.config
    kind = {
        "A": "each person has one ideal point, whatever the prompt",
        "B": "each person's ideal point depends on the prompt",
    }[config.model]
    mix = f"a mix of {config.K} prototypes that all share" if config.K > 1 else "the same for all (K = 1)"
    people = "no person's own weights" if list(model.user_ids) == ["average"] else (
        f"the ids and weights of the {len(model.user_ids):,} people seen in fitting"
    )  # fmt: skip
    return (
        f"A reward model that differs from person to person (PAL, [arXiv:2406.08469]"
        f"(https://arxiv.org/abs/2406.08469)), model {config.model}: {kind}, {mix}, in a space of "
        f"{config.latent} dimensions on top of frozen encoders. The nearer a response, the better. It holds "
        f"{people}.\n\n"
        "**What K means.** K is the number of prototypes, not the number of groups among people: as long as "
        "weights are free, three prototypes can serve six groups. A prototype is a corner of the space "
        "where people may stand, and nobody need stand at it."
    )


def _use() -> str:
    return (
        "```python\n"
        "from pal import RewardModel\n\n"
        'model = RewardModel.from_pretrained("ORG/NAME")\n'
        "someone = model.adapt([(prompt, chosen, rejected), ...])\n"
        "model.rank(prompt, responses, user=someone)\n"
        "```"
    )


def _data(about: About) -> str:
    told = escaped(about.data) if about.data else "Not told by who made this card."
    licence = f"\n\nLicence of the model: {escaped(about.licence)}." if about.licence else ""
    return f"## Data\n\n{told}{licence}"


def _encoders(model: SavedModel) -> str:
    both = set(model.encoder) <= {"prompts", "responses"}
    sides = dict(model.encoder) if both else {"prompts and responses": model.encoder}
    lines = []
    for side, about in sides.items():
        name = about.get("encoder") if isinstance(about, Mapping) else None
        if not isinstance(about, Mapping) or not name or name == "none":
            lines.append(f"| {side} | none: embeddings are given | | |")
            continue
        weights = about.get("weights_sha256") or "none"
        lines.append(f"| {side} | {escaped(name)} | {escaped(about.get('dim', ''))} | {escaped(weights)} |")
    table = "\n".join(lines) or "| all | none: embeddings are given | | |"
    return (
        "## Encoders\n\nFrozen, not part of the model, and held to these hashes when it reads texts or "
        f"pictures.\n\n| of | encoder | width | sha256 of its weights |\n|---|---|---|---|\n{table}"
    )


def _results(results: Sequence[Mapping[str, Any]]) -> str:
    rows = [row for row in results if row["pairs"] == "all" and row["model"] in MODELS]
    if not rows:
        return "## How well it serves whom\n\nNot measured by who made this card."
    lines = []
    for row in rows:
        new = {"new": ", items never seen", "known": ", known items"}.get(str(row["items"]), "")
        test = f", {escaped(row['test'])}" if row.get("test") else ""
        shots = (
            f", located from {escaped(row['shots'])} comparisons" if row["shots"] not in ("", None) else ""
        )
        lines.append(
            f"| {escaped(row['users'])} people{new}{test}{shots} | {MODELS[row['model']]} | "
            f"{_percent(row['accuracy'])} | {_percent(row['low'])} to {_percent(row['high'])} | "
            f"{_percent(row['worst_decile'])} | {escaped(row['n_users'])} |"
        )
    return (
        "## How well it serves whom\n\nAccuracy on pairs held out, with its 95 % interval, which resamples "
        "people and not comparisons. **Worst tenth** is the mean accuracy of the tenth of people who are "
        "served worst: read it before the mean.\n\n"
        "| whose pairs | predicted by | accuracy, % | 95 % interval | worst tenth, % | people |\n"
        "|---|---|---|---|---|---|\n" + "\n".join(lines)
    )


def _percent(value: Any) -> str:
    try:
        return f"{100 * float(value):.1f}"
    except (TypeError, ValueError):
        return escaped(value) if value else "none"


def _limits(model: SavedModel, about: About) -> str:
    lines = [
        "Accuracy on pairs is not the quality of a policy trained on these rewards; they correlate weakly.",
        "Rewards compare responses to one prompt for one person; their size means nothing across people.",
        "People unlike all who were seen in fitting are located among those who were, and may fit none.",
        "A taste tells what someone likes; treat it as personal data, and these weights too. The prior's "
        "points are places where people of the data stand, without their names.",
    ]
    if not about.results:
        lines.insert(0, "No accuracy was given with this card; measure it on your own people first.")
    if model.config.K == 1:
        lines.insert(0, "With K = 1 everybody gets the same reward.")
    return "## Limits\n\n" + "\n".join(f"- {line}" for line in lines)
