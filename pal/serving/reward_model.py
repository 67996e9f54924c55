"""A personal reward model: score, rank, adapt and ask, from texts, pictures or embeddings.

Shapes: n responses scored, comparisons or questions; users to locate; states that rewards are taken for.
"""

import hashlib
import json
from collections.abc import Callable, Collection, Mapping, Sequence
from copy import deepcopy
from dataclasses import dataclass, field, replace
from functools import cached_property, wraps
from pathlib import Path
from typing import Any, NamedTuple, TypeAlias

import torch
from jaxtyping import Float
from torch import Tensor

from pal.comparisons import Comparisons, Embeddings, Questions
from pal.config import FitConfig, HeadConfig
from pal.errors import PalError
from pal.files import expanded
from pal.fitting.attributes import AttributePrior, Attributes
from pal.fitting.trainer import Fitted
from pal.models.base import PreferenceModel
from pal.serving.inputs import (
    InputEncoder,
    Item,
    ItemEmbeddings,
    ItemList,
    Items,
    Place,
    Places,
    Preference,
    Preferences,
    Question,
    as_columns,
    as_list,
    as_row,
    concatenate,
    listed,
)
from pal.serving.saved_model import EFFECTS, check_tensors, model_files, read_model, write_model
from pal.users.population import Population, adapt, fit_population
from pal.users.question_choice import (
    MOST_TOGETHER,
    RankedQuestion,
    answer_probabilities,
    choose_together,
    rank_questions,
)
from pal.users.taste import Taste, sum_evidence, to_units

User: TypeAlias = str | Taste | Tensor | None
Answers: TypeAlias = Preferences | Sequence[Preference | Mapping[str, Any] | Sequence[Any]]

# Texts and pictures are encoded this many at a time, which bounds memory; as many as it allows, since what
# repeats among them is encoded once.
RAW_AT_ONCE = 1 << 15
# Comparisons of embeddings that are read together: so few that they stay in the processor's cache.
EMBEDDINGS_AT_ONCE = 1 << 10
BLOCK = 8192  # embeddings that are scored at a time: some megabytes, which stay in the cache as well


class Ranked(NamedTuple):
    """A response in a ranking: its number as given, itself and its reward."""

    index: int
    response: Any  # a row where embeddings were given
    reward: float  # only differences for one user and one prompt mean anything


def in_float32(method: Callable) -> Callable:
    """A method of a model that computes in float32 whatever the caller's autocast, as a trainer's, says."""

    @wraps(method)
    def run(self: Any, *args: Any, **options: Any) -> Any:
        with torch.autocast(self.head.device.type, enabled=False):
            return method(self, *args, **options)

    return run


@dataclass(frozen=True, repr=False, eq=False)
class RewardModel:
    """Rewards that differ from user to user: a fitted head with its users and their population.

    Items may be texts, pictures (bytes, a `Path`, a PIL image) or embeddings (n, dim), one or many; encoders
    are found from the model's own config. A user is the id of someone seen in fitting; a `Taste` that
    `adapt` gave; a state, or one row per response; None for the average user; or a list of these (but
    tensors of one state alone), one per response.

    A PalError, here and in every method, says where an item cannot be read, a user is unknown, ids repeat,
    shapes disagree, or a number is not finite or not allowed.
    """

    head: PreferenceModel  # the shared part
    user_ids: Sequence[str]  # of the seen users, any text, no two alike
    states: Tensor  # one per seen user, in the order of `user_ids`
    population: Population  # where new users' states are expected
    fit_config: FitConfig  # how the head was fitted
    # What the embeddings came from, for `prompts` and `responses`: names, hashes of the encoders' weights,
    # widths and so on. Kept and handed back as it is; must be JSON.
    encoder: Mapping[str, Any]
    prompt_dim: int  # width of the prompts' embeddings; 0 where there are no prompts
    response_dim: int
    attributes: AttributePrior | None = None  # what people's attributes say of their states
    # The model's encoders; by default as `encoder` says, weights where they are by default.
    input_encoder: InputEncoder = field(default=None)  # type: ignore[assignment]

    def __post_init__(self) -> None:
        check_tensors(self.head, self.population, self.attributes, self.tensors())
        self.head.check_states(self.states, "states")
        if len(self.user_ids) != len(self.states) or not len(self.states):
            counts = f"{len(self.user_ids)}, {len(self.states)}"
            raise PalError(f"user_ids must be as many as states, at least 1, got {counts}")
        if len(self.rows) < len(self.user_ids):
            twice = next(user for row, user in enumerate(self.user_ids) if self.rows[user] != row)
            raise PalError(f"user_ids must not repeat, got {twice!r} twice")
        self.population.check(self.head)
        if self.attributes is not None:
            self.attributes.check(self.population.evidence_size)
        self.head.eval()
        if self.input_encoder is None:
            object.__setattr__(self, "input_encoder", InputEncoder(self.encoder))

    @classmethod
    def fit(cls, source: Any, **options: Any) -> "RewardModel":
        """Fit a log of answers: the model of `pal.fit`, which says what else it finds and may be given."""
        from pal.serving.fit_log import fit

        return fit(source, **options).model

    @classmethod
    def from_fit(
        cls,
        fitted: Fitted,
        embeddings: Embeddings,
        *,
        user_ids: Sequence[str],
        fit_config: FitConfig,
        encoder: Mapping[str, Any],
        attributes: AttributePrior | None = None,
    ) -> "RewardModel":
        """The model that a fit leaves behind, on the CPU, with a population fitted to its users' states.

        Of the embeddings that were fitted on only the widths are read; for the rest see the class.
        """
        states = fitted.states.cpu()
        population = fitted.population or fit_population(fit_config.population, states)
        options = {**embeddings.dims, "attributes": attributes}
        return cls(deepcopy(fitted.head).cpu(), user_ids, states, population, fit_config, encoder, **options)

    @classmethod
    def load(
        cls, folder: Path | str, *, weights: Mapping[str, str | Path] | None = None, device: str = "cpu"
    ) -> "RewardModel":
        """Read what `save` wrote, with every number checked; encoders are looked for when they are needed.

        `weights` say where an encoder's weights come from, by its name: `package`, `hub` or a folder;
        `device` where encoders compute. A PalError says where a model is damaged, or from another version.
        """
        fields = read_model(expanded(folder))
        return cls(**fields, input_encoder=InputEncoder(fields["encoder"], weights or {}, device))

    def save(self, folder: Path | str) -> None:
        """Write the model to a folder, as a whole, in place of a model there; anything else is refused."""
        write_model(expanded(folder), self.files())

    def __repr__(self) -> str:
        about = f"model {self.config.model}, K={self.config.K}, {len(self.user_ids):,} users"
        return f"{type(self).__name__}({about}, fingerprint {self.fingerprint[:8]})"

    @property
    def config(self) -> HeadConfig:
        """The head's options."""
        return self.head.config

    @cached_property
    def fingerprint(self) -> str:
        """32 hex digits of a hash over all that shapes rewards and posteriors; a taste belongs to one.

        That is the head, its options, the population and the loss. It is not the seen users: one of them may
        be removed, and everybody's tastes still hold.
        """
        # Without defaults: an option that a newer version adds changes no fingerprint.
        shaping = {"head": self.config.model_dump(exclude_defaults=True), "loss": self.fit_config.loss}
        if self.attributes is not None:
            shaping["attributes"] = self.attributes.columns
        digest = hashlib.sha256(json.dumps(shaping, sort_keys=True).encode())
        for name, tensor in sorted(self.tensors().items()):
            if name != "states":
                digest.update(f"\n{name} {tuple(tensor.shape)}\n".encode())
                digest.update(tensor.detach().cpu().contiguous().numpy().astype("<f4").tobytes())
        return digest.hexdigest()[:32]

    @cached_property
    def rows(self) -> dict[str, int]:
        """Each seen user's row of the states."""
        return {user_id: row for row, user_id in enumerate(self.user_ids)}

    @in_float32
    def score(
        self, prompts: Items | None, responses: Items, *, user: User | Collection[User] = None
    ) -> Float[Tensor, " n"]:
        """Reward each response; only differences for one user and one prompt mean anything.

        Args:
            prompts: One per response, or one for all; not read where the reward does not depend on it.
            responses: What to score, (n, response_dim) as embeddings.
            user: Whose reward; None is the average user.
        """
        items, head = self.input_encoder.joined(prompts, as_list(responses)), self.head
        n, device = len(items), head.device
        embedded_prompts, states = self.encode_prompts(prompts, n), self.states_of(user, n).to(device)
        rewards = torch.empty(n, device=device, dtype=torch.float32)
        step = BLOCK if isinstance(items, Tensor) else RAW_AT_ONCE
        for first in range(0, n, step):
            rows = slice(first, first + step)
            embedded = self.input_encoder.encode(items[rows], "responses", self.response_dim, start=first)
            distinct, row = embedded_prompts.distinct(rows)
            with torch.no_grad():  # not inference_mode: its tensors can never be used in a fit
                rewards[rows] = head.reward_embedded(
                    head.embed_prompts(distinct.to(device, torch.float32)),
                    row.to(device),
                    embedded.tensor().to(device, torch.float32),
                    states if states.dim() == 1 else states[rows],
                )
        for row in (~torch.isfinite(rewards)).nonzero()[:1, 0].tolist():
            raise Place(f"responses[{row}]", "responses", row).error(
                f"must have a finite reward, got {float(rewards[row])}; its embedding, the prompt's or the "
                "model's numbers are too large, so look at these"
            )
        return rewards

    def rank(self, prompt: Item | None, responses: Items, *, user: User = None) -> list[Ranked]:
        """Responses to one prompt, best first, equal ones as they came; see `score`."""
        items = as_list(responses)
        reward = self.score(prompt, items, user=user)
        order = reward.argsort(descending=True, stable=True).tolist()
        return [Ranked(index, items[index], float(reward[index])) for index in order]

    def score_states(
        self, prompts: Items | None, responses: Items, states: Float[Tensor, "states state"]
    ) -> Float[Tensor, "n states"]:
        """Reward each response for several users' states, with every item encoded once."""
        items = self.input_encoder.joined(prompts, as_list(responses))
        table = self.input_encoder.encode(items, "responses", self.response_dim).tensor()
        embedded_prompts = self.encode_prompts(prompts, len(items)).tensor()
        return torch.stack([self.score(embedded_prompts, table, user=state) for state in states], 1).cpu()

    @in_float32
    def probability(
        self, prompts: Items | None, first: Items, second: Items, *, user: User | Collection[User] = None
    ) -> Float[Tensor, " n"]:
        """P(first is preferred to second), in (0, 1), averaged over what is not known of the user.

        That is the belief about someone whose taste is given, the whole population for the average user, and
        of a Gaussian population the liking for single items that no state tells. There are as many `second`
        as `first`, one per question; for prompts, users and errors see `score`.
        """
        sides = [as_list(first), as_list(second)]
        n = len(sides[0])
        if len(sides[1]) != n:
            raise PalError(f"second must be as many as first, got {len(sides[1])} and {n}")
        embeddings, questions = self.encode_questions(prompts, concatenate(sides))
        self.states_of(user, n)  # refuses what is no user, or not as many
        given = listed(user)
        several = isinstance(given, list | tuple) or (isinstance(given, Tensor) and given.dim() > 1)
        each = list(given) if several else [given] * n
        rows: dict[int, list[int]] = {}
        for row, one in enumerate(each):
            rows.setdefault(id(one), []).append(row)
        chance, loss, population = torch.empty(n), self.fit_config.loss, self.population
        with torch.no_grad():
            for its in rows.values():
                one = Taste.empty(self) if each[its[0]] is None else each[its[0]]
                if isinstance(one, Taste):
                    belief = population.posterior(torch.tensor([one.evidence], dtype=torch.float64))
                else:
                    belief = population.at(self.state_of(one))
                for some in torch.tensor(its).split(self.head.block_size):
                    features = self.head.question_features(embeddings, questions[some])
                    alone = torch.zeros_like(some)
                    first = population.probability(self.head, features, alone, belief, loss)
                    chance[some] = first.float().cpu()
        return chance

    def adapt(self, comparisons: Answers, *, attributes: Attributes | None = None) -> Taste:
        """Locate someone by their comparisons; the model stays as it is.

        One comparison more later is `taste + model.adapt([it])`; to forget it, `taste - model.adapt([it])`.

        Args:
            comparisons: A list of `Preference`, of mappings with prompt, chosen, rejected and perhaps label,
                or of tuples of these; or `Preferences`, columns. May be empty.
            attributes: What else is known of the person, such as `{"country": "DE"}`, where the model was
                fitted with attributes. It is part of the taste from then on: give it once.
        """
        taste = self.adapt_many({"": comparisons})[""]
        return taste if attributes is None else taste + self.taste_of(attributes)

    def taste_of(self, attributes: Attributes) -> Taste:
        """What attributes alone say of someone: a taste of no comparisons."""
        if self.attributes is None:
            why = "whose prior does not depend on any; leave them out"
            raise PalError(f"attributes are of no use to this model, {why}")
        if unknown := [name for name in attributes if name not in self.attributes.columns]:
            raise PalError(
                f"attributes must be among {', '.join(self.attributes.columns)}, which the model knows, got "
                f"{unknown[0]!r}; leave it out"
            )
        (evidence,) = to_units(self.attributes.evidence([attributes])).tolist()
        return replace(Taste.empty(self), evidence=tuple(evidence))

    @in_float32
    def adapt_many(self, comparisons: Mapping[str, Answers]) -> dict[str, Taste]:
        """Locate many people at once, in bounded memory, each by any id, which errors name; see `adapt`."""
        tastes: dict[str, Taste] = {}
        group: dict[str, Preferences] = {}
        count = 0
        name_users = len(comparisons) > 1
        for user, given in comparisons.items():
            try:
                columns = as_columns(given, needs_prompts=self.reads_prompts)
            except PalError as error:
                if not name_users:
                    raise
                at = {"row": error.row, "column": error.column, "user": user}
                raise PalError(f"{error} (user {user!r})", **at) from None
            group[user] = columns
            count += len(columns.chosen)
            if count >= (EMBEDDINGS_AT_ONCE if isinstance(columns.chosen, Tensor) else RAW_AT_ONCE):
                tastes |= self._adapt_group(group, name_users=name_users)
                group, count = {}, 0
        return tastes | self._adapt_group(group, name_users=name_users)

    @in_float32
    def ask(
        self,
        questions: Sequence[Any],
        taste: Taste | None = None,
        *,
        n: int | None = None,
        together: bool = False,
    ) -> list[RankedQuestion]:
        """Choose questions by expected information gain (BALD): those whose answers tell most come first.

        Args:
            questions: Candidates, each a `Question`, a mapping of its names, or a tuple in their order.
            taste: What is known of the person; None for someone new.
            n: How many are wanted; all where not given (together: 10).
            together: Whether they will be asked together, so that none repeats what another tells; otherwise
                each is weighed alone.
        """
        rows = [as_row(Question, given, f"question {row}") for row, given in enumerate(questions)]
        no_prompts = any(row.prompt is None for row in rows)
        embeddings, candidates = self.encode_questions(
            None if no_prompts else [row.prompt for row in rows],
            as_list([row.first for row in rows] + [row.second for row in rows]),
        )
        belief = (Taste.empty(self) if taste is None else taste.with_model(self)).posterior
        probability = answer_probabilities(
            self.head, belief.states.float(), embeddings, candidates, self.fit_config.loss
        )
        if together:
            return choose_together(probability, belief.masses, MOST_TOGETHER if n is None else n)
        return rank_questions(probability, belief.masses)[:n]

    @in_float32
    def state_of(self, user: User) -> Float[Tensor, " state"]:
        """The state of one user: of someone seen in fitting by id, of a taste, as given, or the average."""
        if isinstance(user, Taste):
            return user.with_model(self).state
        if user is None:
            return self.population.mean
        if isinstance(user, str):
            if user not in self.rows:
                raise PalError(
                    f"user must be one of the {len(self.rows)} seen in fitting, got {user!r}; adapt to the "
                    "user's comparisons first, model.adapt(comparisons), and pass the taste that this gives, "
                    "or pass None for the average user",
                    user=user,
                )
            return self.states[self.rows[user]]
        if not isinstance(user, Tensor):
            raise PalError(f"a user must be an id, a Taste, a state or None, got {type(user).__name__}")
        self.head.check_states(torch.atleast_2d(user), "the user's state")
        return user.float()

    def states_of(self, user: User | Collection[User], n: int) -> Float[Tensor, "*n state"]:
        """The state of one user, (state,), or one row per response for a list of users or n states."""
        if isinstance(user, Tensor) and user.dim() > 1:
            self.head.check_states(user, "users' states")
            if len(user) != n:
                raise PalError(f"users' states must be {n}, one per response, got {len(user)}")
            return user.float()
        user = listed(user)
        if not isinstance(user, list | tuple):
            return self.state_of(user)
        if len(user) != n:
            raise PalError(f"user must be one, or a list of {n}, one per response, got {len(user)}")
        if not user:
            return torch.zeros(0, self.head.state_dim)
        # A taste's state is computed once, however many rows it has.
        states = {key: self.state_of(each) for key, each in {id(each): each for each in user}.items()}
        return torch.stack([states[id(each)] for each in user])

    def locate(
        self,
        embeddings: Embeddings,
        comparisons: Comparisons,
        *,
        n_users: int,
        attributes: Sequence[Attributes] | None = None,
    ) -> Float[Tensor, "users state"]:
        """Locate new users by their answers to questions on these embeddings; the model stays as it is.

        `attributes` are what else is known of each, where the model's prior reads it; see `pal.adapt`.
        """
        config, population = self.fit_config, self.population
        if attributes is None or self.attributes is None:
            return adapt(self.head, population, embeddings, comparisons, n_users=n_users, config=config)
        with torch.no_grad():
            read = population.evidence(self.head, embeddings, comparisons, config.loss)
            evidence = population.total(read, comparisons.user, n_users)
            known = evidence + self.attributes.evidence(attributes).to(evidence)
            return population.posterior(known).mean.float()

    @property
    def reads_prompts(self) -> bool:
        """Whether rewards depend on prompts: by the head, or as both are encoded as one text."""
        return self.head.needs_prompts or self.input_encoder.template is not None

    def encode_prompts(self, prompts: Items | None, n: int, places: Places | None = None) -> ItemEmbeddings:
        """Embeddings of prompts, one for all responses or one for each; of width 0 where none are read."""
        one_for_all = torch.zeros(n, dtype=torch.long)
        if not self.head.needs_prompts:
            return ItemEmbeddings(torch.zeros(1, 0), one_for_all)
        if prompts is None:
            raise PalError("prompts must be given, got None; this model's reward depends on the prompt")
        items = as_list(prompts)
        if len(items) not in (n, 1):
            wanted = f"one for all responses, or one for each of the {n}"
            raise PalError(f"prompts must be {wanted}, got {len(items)}")
        embedded = self.input_encoder.encode(items, "prompts", self.prompt_dim, places)
        return ItemEmbeddings(embedded.table, one_for_all) if len(items) == 1 else embedded

    def tensors(self) -> dict[str, Tensor]:
        """Every tensor of the model, by the name it has on disk."""
        shared = {f"head.{name}": tensor for name, tensor in self.head.state_dict().items()}
        population = {f"population.{name}": tensor for name, tensor in self.population.tensors().items()}
        effects = {} if self.attributes is None else {EFFECTS: self.attributes.effects}
        return shared | {"states": self.states} | population | effects

    def files(self) -> dict[str, bytes]:
        """The files that `save` writes, by name."""
        config = {"population": self.population.name, "head": self.config.model_dump()}
        config |= {"fit": self.fit_config.model_dump(), "prompt_dim": self.prompt_dim}
        config |= {"response_dim": self.response_dim, "encoder": dict(self.encoder)}
        if self.attributes is not None:
            config["attributes"] = dict(self.attributes.columns)
        return model_files(config, self.tensors(), self.user_ids)

    def save_pretrained(self, folder: Path | str, **options: Any) -> None:
        """Write the model and its card to a folder; see `pal.serving.hub.save_pretrained`."""
        from pal.serving import hub

        hub.save_pretrained(self, folder, **options)

    @classmethod
    def from_pretrained(cls, name: Path | str, **options: Any) -> "RewardModel":
        """Read a model from a folder or from the Hugging Face hub; see `pal.serving.hub.from_pretrained`."""
        from pal.serving import hub

        return hub.from_pretrained(cls, name, **options)

    def push_to_hub(self, repo: str, **options: Any) -> str:
        """Upload the model and its card to the Hugging Face hub; see `pal.serving.hub.push_to_hub`."""
        from pal.serving import hub

        return hub.push_to_hub(self, repo, **options)

    def _adapt_group(self, group: Mapping[str, Preferences], *, name_users: bool) -> dict[str, Taste]:
        """Tastes of some people: everything is encoded together, then summed user by user."""
        columns = list(group.values())
        counts = [len(each.chosen) for each in columns]
        user = torch.repeat_interleave(torch.arange(len(counts)), torch.tensor(counts, dtype=torch.long))

        def place(side: str, row: int) -> Place:
            number = int(user[row])
            user_id = list(group)[number] if name_users else None
            of_user = "" if user_id is None else f" of user {user_id!r}"
            row -= sum(counts[:number])
            return Place(f"{side} of comparison {row}{of_user}", side, row, user_id)

        prompts = [each.prompts for each in columns if len(each.chosen)]
        embeddings, questions = self.encode_questions(
            None if any(of_user is None for of_user in prompts) else concatenate(prompts),
            concatenate([*(each.chosen for each in columns), *(each.rejected for each in columns)]),
            place,
            ("chosen", "rejected"),
        )
        labels = [torch.ones(len(each.chosen)) if each.label is None else each.label for each in columns]
        comparisons = Comparisons.from_pairs(
            user=user, prompt=questions.prompt, chosen=questions.first, rejected=questions.second,
            label=torch.cat(labels) if labels else None,
        )  # fmt: skip
        with torch.no_grad():
            evidence = self.population.evidence(self.head, embeddings, comparisons, self.fit_config.loss)
        return dict(zip(group, sum_evidence(self, evidence, counts), strict=True))

    def encode_questions(
        self,
        prompts: Items | None,
        responses: ItemList,
        place: Callable[[str, int], Place] = lambda side, row: Place(f"{side} of question {row}", side, row),
        sides: tuple[str, str] = ("first", "second"),
        *,
        may_be_same: bool = False,
    ) -> tuple[Embeddings, Questions]:
        """Questions as rows of embeddings, in the order given.

        Prompts are one per question, or one for all; responses the first one of every question, then the
        second of every one. `place` names an item in messages by its side, one of `sides` or `prompt`, and
        its question's number.
        """
        n = len(responses) // 2
        both = prompts if prompts is None or isinstance(prompts, Tensor) else as_list(prompts)
        if isinstance(both, list) and len(both) > 1:
            both = both * 2  # a prompt for each response
        responses = self.input_encoder.joined(both, responses)
        embedded = self.input_encoder.encode(
            responses, "responses", self.response_dim, lambda row: place(sides[row >= n], row % max(n, 1))
        )
        embedded_prompts = self.encode_prompts(prompts, n, lambda row: place("prompt", row))
        first, second = embedded.rows[:n], embedded.rows[n:]
        # The same item, or the same embedding.
        same = (embedded.table[:n] == embedded.table[n:]).all(1) if embedded.row is None else first == second
        for row in [] if may_be_same else same.nonzero()[:1, 0].tolist():
            problem = f"must differ from the {sides[0]} response, got the same; leave it out"
            raise place(sides[1], row).error(problem)
        tables = Embeddings(embedded_prompts.table, embedded.table).to("cpu")
        return tables, Questions(embedded_prompts.rows, first, second)
