"""Sharing a model with its card: as a folder, or on the Hugging Face hub.

A model holds people: the ids of all who were seen in fitting, each with their state. They are left out unless
asked for, and of the population points of fewer than five people are merged with their neighbours. New people
are located by it all the same; where points were merged, tastes of the model do not fit the shared one.

In a card everything that comes from data or a caller is escaped.
"""

import html
import re
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from huggingface_hub import CommitOperationAdd, HfApi, ModelCard, ModelCardData

from pal.errors import PalError, reason
from pal.files import client_errors, download, expanded
from pal.serving.reward_model import RewardModel
from pal.serving.saved_model import CARD, CONFIG, SUMS, TENSORS, USERS, write_model

FEWEST = 5  # people at a point of a population that is shared without its users
AVERAGE = "average"  # the id that stands for all in a model without its users
TEMPLATE = Path(__file__).with_name("model_card.md.j2")
TAGS = ["pal", "reward-model", "pluralistic-alignment", "personalization", "preference"]
SPECIAL = re.compile(r"([\\`*_{}\[\]()#+\-.!|~$@:])")


@dataclass(frozen=True)
class About:
    """What a card says beside what the model itself knows."""

    title: str = "A personal reward model"  # the model's name
    data: str = ""  # what it was fitted on, in words: where from, how many people, under which licence
    licence: str | None = None  # the model's, as the hub spells it: `apache-2.0`, `cc-by-4.0`
    datasets: Sequence[str] = ()  # their names on the hub
    language: Sequence[str] = ()  # codes such as `en`
    measured: str = ""  # how well it serves whom, in words: of `pal fit` the verdict


def model_card(model: RewardModel, about: About) -> str:
    """The card as Markdown, with the hub's YAML in front; see `model_card.md.j2` for its words."""
    encoders = []  # cells of the table: side, name, width, sha256 of the weights
    for side, of_side in (model.encoder or {"all": None}).items():
        name = of_side.get("encoder") if isinstance(of_side, Mapping) else None
        if not name or name == "none":
            encoders.append([side, "none: embeddings are given", "", ""])
        else:
            cells = (name, of_side.get("dim", ""), of_side.get("weights_sha256") or "none")
            encoders.append([side, *map(escaped, cells)])
    data = ModelCardData(
        language=list(about.language) or None, license=about.licence, library_name="pal", tags=TAGS,
        datasets=list(about.datasets) or None,
    )  # fmt: skip
    words = {"title": about.title, "about_data": about.data, "licence": about.licence or "",
             "measured": about.measured}  # fmt: skip
    return ModelCard.from_template(
        data, template_path=str(TEMPLATE), config=model.config, people=_people_in(model), encoders=encoders,
        **{name: escaped(text) for name, text in words.items()},
    ).content  # fmt: skip


def escaped(text: Any) -> str:
    """A text on one line that Markdown and HTML show as it is."""
    line = " ".join("".join(c if c.isprintable() else " " for c in str(text)).split())
    return SPECIAL.sub(r"\\\1", html.escape(line, quote=False))


def save_pretrained(
    model: RewardModel, folder: Path | str, *, about: About | None = None, users: bool = False
) -> None:
    """Write a model and its card to a folder, as a whole; a model that is there already is replaced.

    The people seen in fitting, ids and states, stay in it where `users` says so. `RewardModel.save` keeps
    them, and writes no card.
    """
    _, files = _shared(model, about, users=users)
    write_model(expanded(folder), files)


def from_pretrained(
    kind: type[RewardModel], name: Path | str, *, revision: str | None = None, **options: Any
) -> RewardModel:
    """Read a model from a folder or from the hub, with every number and every file's hash checked.

    The name is a folder, or a repository of the hub, `ORG/NAME`; the hub's token is that of `hf auth login`,
    its revision a commit, which cannot change, a branch or a tag. Further options are those of `load`.
    """
    folder = expanded(name)
    if not folder.is_dir():
        advice = "name the folder of a model"
        folder = download(str(name), revision, [TENSORS, USERS, CONFIG, SUMS], advice=advice)
    return kind.load(folder, **options)


def push_to_hub(
    model: RewardModel,
    repo: str,
    *,
    about: About | None = None,
    users: bool = False,
    private: bool | None = True,
    token: str | None = None,
    **commit: Any,
) -> str:
    """Upload a model and its card to the hub, and say on standard error what of people goes along.

    The people seen in fitting, ids and states, go with it where `users` says so: think before. A repository,
    `ORG/NAME`, that is missing is made; None for `private` is as the organisation has it. The token is by
    default the one that `hf auth login` kept. Further options are those of `HfApi.create_commit`: revision,
    commit_message, create_pr. Returns the commit's address.
    """
    shared, files = _shared(model, about, users=users)
    api = HfApi(token=token)
    try:
        name = api.create_repo(repo, private=private, exist_ok=True).repo_id
        operations = [CommitOperationAdd(path, data) for path, data in files.items()]
        done = api.create_commit(name, operations, **{"commit_message": "Add a PAL reward model", **commit})
    except client_errors() as error:
        advice = "check the name, the network and that the token may write"
        raise PalError(f"{repo} could not be written on the hub ({reason(error)}); {advice}") from None
    print(f"{name}: uploaded {_people_in(shared)}", file=sys.stderr)
    return str(done)


def _shared(model: RewardModel, about: About | None, *, users: bool) -> tuple[RewardModel, dict[str, bytes]]:
    """The model to share, without its users one who stands for all at the average state; and its files."""
    if not users and list(model.user_ids) != [AVERAGE]:
        population = model.population.coarsened(len(model.user_ids), FEWEST)
        one = {"user_ids": [AVERAGE], "states": population.mean[None]}
        # What attributes say could be of few people, and is in evidence of the population as it was.
        model = replace(model, **one, population=population, attributes=None)
    return model, model.files() | {CARD: model_card(model, about or About()).encode("utf-8")}


def _people_in(model: RewardModel) -> str:
    """What of the people seen in fitting a model holds."""
    if list(model.user_ids) != [AVERAGE]:
        return f"the ids and weights of the {len(model.user_ids):,} people seen in fitting"
    least = f"at least {FEWEST} people each (all, where fewer were seen)"
    return f"no person's id or own weights, but a population whose points are the means of {least}"
