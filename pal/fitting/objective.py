"""Objective: the contract of a loss over batches of the training comparisons, and of the users' states.

An objective owns what it knows of the users (free states, class shares, or nothing), cuts the comparisons
into batches, and turns a batch into a loss.

Shapes used in this module:
    n         comparisons
    q         distinct questions
    users     users
    state     numbers of a user's state
    features  numbers that the model keeps per question
"""

from abc import ABC, abstractmethod
from collections.abc import Iterator
from dataclasses import replace

import torch
from jaxtyping import Float
from torch import Tensor, nn

from pal.comparisons import Comparisons, Embeddings, Questions
from pal.config import FitConfig
from pal.models.base import PreferenceModel


class Objective(nn.Module, ABC):
    """A loss over batches of the training comparisons, and the users' states that go with it.

    A member of `OBJECTIVES` takes `(embeddings, train, config, n_users, model)`.
    """

    def __init__(self, embeddings: Embeddings, train: Comparisons, config: FitConfig) -> None:
        super().__init__()
        self.embeddings, self.train_set, self.config = embeddings, train, config
        self.batch_size = min(config.batch_size or len(train), len(train))

    @property
    def device(self) -> torch.device:
        """Where the comparisons lie."""
        return self.train_set.user.device

    @property
    def n_batches(self) -> int:
        """Batches in an epoch."""
        return -(-len(self.train_set) // self.batch_size)

    def batches(self) -> Iterator[Comparisons]:
        """One epoch: every comparison once, in a new random order.

        With `shuffle='prompts'` the comparisons on one prompt follow each other, prompts and comparisons of a
        prompt both in random order; where a batch ends within a prompt, the next goes on with it.
        """
        order = torch.randperm(len(self.train_set)).to(self.device)
        if self.n_batches == 1:
            yield self.train_set
            return
        if self.config.shuffle == "prompts":
            prompt = self.train_set.questions.prompt + 1  # -1 stands for none
            number = torch.randperm(int(prompt.max()) + 1).to(self.device)  # drawn anew for each prompt
            order = order[torch.argsort(number[prompt][self.train_set.question][order], stable=True)]
        for rows in order.split(self.batch_size):
            yield self.train_set[rows]

    def question_features(self, model: PreferenceModel, questions: Questions) -> Float[Tensor, "q features"]:
        """The model's features of questions, at the precision that the config asks for."""
        half = self.config.precision == "bfloat16" and model.training
        with torch.autocast(self.device.type, torch.bfloat16, enabled=half):
            return model.question_features(self.embeddings, questions)

    @abstractmethod
    def loss(self, model: PreferenceModel, batch: Comparisons, done: float) -> Float[Tensor, ""]:
        """Mean loss of a batch; `done` is the share of the run that is over."""

    @abstractmethod
    def states(self, model: PreferenceModel) -> Float[Tensor, "users state"]:
        """The users' states as they are now."""


def user_balanced(train: Comparisons, n_users: int) -> Comparisons:
    """The same comparisons, weighted so that every user with any counts alike; 1 in the mean.

    Weights that they have keep their shares within a user.
    """
    weight = torch.ones_like(train.sign) if train.weight is None else train.weight
    total = weight.new_zeros(n_users).index_add(0, train.user, weight)
    share = weight / total.index_select(0, train.user)
    return replace(train, weight=share * (len(train) / share.sum()))
