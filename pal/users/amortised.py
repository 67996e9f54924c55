"""An amortised population: a small network reads someone's answers and says where their state lies.

The prior is a standard normal. Each answer is read alone, what was read is added up, and the sum gives mean
and spread of a normal belief (VPL: Poddar et al., 2024; sums over a set: Zaheer et al., 2017). In place of
working out a posterior the network predicts it, as well as it was trained to.

Shapes: n comparisons, users, hidden width of the network, s numbers of a state (the last is 1 for everyone),
e numbers of evidence (hidden, and how many answers there were), free (all of a state but the last).
"""

from dataclasses import dataclass
from typing import ClassVar

import torch
from jaxtyping import Float
from torch import Tensor
from typing_extensions import override

from pal.comparisons import Comparisons, Embeddings
from pal.errors import PalError
from pal.models.base import PreferenceModel, feature_blocks
from pal.users.gaussian import GaussianPosterior, NormalPopulation


@dataclass(frozen=True)
class Amortised(NormalPopulation):
    """The network's two layers; the second gives a mean and a log variance for each number but the last."""

    name = "amortised"
    evidence_name = "what_was_read"
    residual: ClassVar[float] = 0.0

    reads: Tensor  # (hidden, state + 1), on a question's features, turned to the chosen response, and 1
    says: Tensor  # (2 * (state - 1), hidden + 1), on the mean of what was read, and 1

    @override
    @classmethod
    def from_states(cls, states: Float[Tensor, "users s"]) -> "Amortised":
        raise PalError("population must be points or gaussian, got amortised; the method vpl fits that one")

    @override
    def check(self, model: PreferenceModel) -> None:
        D, hidden = model.state_dim, len(self.reads)
        shapes = {"reads": (hidden, D + 1), "says": (2 * (D - 1), hidden + 1)}
        for name, tensor in self.tensors().items():
            if tuple(tensor.shape) != shapes[name]:
                raise PalError(
                    f"population.{name} must be a matrix of {shapes[name]}, got another; fit again"
                )
        super().check(model)

    @override
    @property
    def mean(self) -> Float[Tensor, " s"]:
        return torch.cat([torch.zeros(len(self.says) // 2), torch.ones(1)])  # the network says -0 at times

    @override
    @property
    def prior(self) -> GaussianPosterior:
        return self.posterior(torch.zeros(self.evidence_size))

    @override
    @property
    def evidence_size(self) -> int:
        return len(self.reads) + 1

    def read(
        self, turned: Float[Tensor, "n s"], label: Float[Tensor, " n"] | None, weight: Float[Tensor, " n"]
    ) -> Float[Tensor, "n e"]:
        """What the network reads of answers, whose features are turned to the chosen response."""

        def layer(x: Float[Tensor, "n s"]) -> Float[Tensor, "n hidden"]:
            return torch.relu(x @ self.reads[:, :-1].T + self.reads[:, -1])

        read = layer(turned)
        if label is not None:
            read = label[:, None] * read + (1 - label[:, None]) * layer(-turned)
        return torch.cat([read, torch.ones_like(read[:, :1])], 1) * weight[:, None]

    @override
    def evidence(
        self, model: PreferenceModel, embeddings: Embeddings, comparisons: Comparisons, loss: str = "logistic"
    ) -> Float[Tensor, "n e"]:
        blocks = [torch.zeros(0, self.evidence_size)]
        for block, features, row in feature_blocks(model, embeddings, comparisons):
            turned = features.index_select(0, row) * block.sign[:, None]
            blocks.append(self.read(turned, block.label, block.weights))
        return torch.cat(blocks)

    def belief(
        self, evidence: Float[Tensor, "*users e"]
    ) -> tuple[Float[Tensor, "*users free"], Float[Tensor, "*users free"]]:
        """Means and log variances of all numbers of the state but the last; of no answers, 0 and 0."""
        says, count = self.says.to(evidence), evidence[..., -1:]
        mean_read = evidence[..., :-1] / count.clamp_min(1)
        told = (mean_read @ says[:, :-1].T + says[:, -1]) * count / (count + 1)
        mean, log_variance = told.chunk(2, -1)
        return mean, log_variance.clamp(-10, 3)

    @override
    def posterior(self, evidence: Float[Tensor, "*users e"]) -> GaussianPosterior:
        mean, log_variance = self.belief(evidence.double())
        one = torch.ones_like(mean[..., :1])
        root = torch.cat([torch.ones(len(self.says) // 2), torch.zeros(1)]).diag().to(mean)
        chol = torch.cat([(-log_variance / 2).exp(), one], -1).diag_embed()
        return GaussianPosterior(torch.cat([mean, one], -1), root, chol)
