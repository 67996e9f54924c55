"""VPL: a network infers everyone's state from their answers, trained together with the reward."""

import torch
from jaxtyping import Float
from torch import Tensor, nn

from pal.config import FitConfig
from pal.fitting.trainer import Fitted
from pal.methods.base import Learned, Method, Task
from pal.methods.basis import RATE, Answers, as_linear, descend, read_wide
from pal.models.base import expected_loss, logistic, weighted_mean
from pal.users.amortised import Amortised

STATE, HIDDEN = 8, 32
KEPT = 0.5  # share of answers that the network reads in a step, so that it learns to do with few


class _Vpl(nn.Module):
    """The reward's directions, and the network."""

    def __init__(self, wide: int, generator: torch.Generator) -> None:
        super().__init__()

        def small(*shape: int) -> nn.Parameter:
            return nn.Parameter(torch.randn(*shape, generator=generator) / shape[-1] ** 0.5)

        self.rewards, self.shared = small(STATE, wide), nn.Parameter(torch.zeros(wide))
        self.reads, self.says = small(HIDDEN, STATE + 2), small(2 * STATE, HIDDEN + 1)

    def population(self) -> Amortised:
        return Amortised(self.reads, self.says)

    def turned(self, answers: Answers) -> Float[Tensor, "n state"]:
        """Features of each comparison, as the linear model will give them, turned to the chosen response."""
        features = answers.features @ torch.cat([self.rewards, self.shared[None]]).T
        return features[answers.row] * answers.of.sign[:, None]

    def belief(
        self, answers: Answers, turned: Float[Tensor, "n state"], n_users: int, kept: Float[Tensor, " n"]
    ) -> tuple[Float[Tensor, "users free"], Float[Tensor, "users free"]]:
        """Means and log variances of users, of whose answers those are read that `kept` weighs."""
        population, of = self.population(), answers.of
        read = population.read(turned, of.label, kept * answers.weight)
        return population.belief(read.new_zeros(n_users, HIDDEN + 1).index_add(0, of.user, read))


def learn_vpl(task: Task) -> Learned:
    """Descend on the evidence lower bound; the step that predicts the validation answers best is kept."""
    wide, answers, held = read_wide(task)
    generator = torch.Generator().manual_seed(task.seed)
    net, total = _Vpl(answers.features.shape[1], generator), float(answers.weight.sum())
    everything = torch.ones_like(answers.of.sign)

    def loss(of: Answers, turned: Tensor, states: Tensor) -> Tensor:
        margin = (turned[:, :-1] * states[of.of.user]).sum(1) + turned[:, -1]
        return weighted_mean(expected_loss(logistic, margin, of.of.label), of.weight)

    def bound(done: float) -> Tensor:
        turned = net.turned(answers)
        kept = (torch.rand(len(everything), generator=generator) < KEPT).float()
        mean, log_variance = net.belief(answers, turned, task.n_users, kept)
        noise = torch.randn(mean.shape, generator=generator)
        divergence = 0.5 * (mean.square() + log_variance.exp() - 1 - log_variance).sum() / total
        return loss(answers, turned, mean + noise * (log_variance / 2).exp()) + divergence

    def held_out_loss() -> float:
        states = net.belief(answers, net.turned(answers), task.n_users, everything)[0]
        return loss(held, net.turned(held), states).item()

    history = descend(net, bound, held and held_out_loss, task, rate=RATE / 5, weight_decay=1e-4)
    with torch.no_grad():
        model = as_linear(wide, net.rewards.T, net.shared, task.embeddings)
        mean, _ = net.belief(answers, net.turned(answers), task.n_users, everything)
        states = torch.cat([mean, torch.ones(task.n_users, 1)], 1)
        population = Amortised(net.reads.detach().clone(), net.says.detach().clone())
    fitted = Fitted(model, states, history[-1]["loss"], history, population)
    return Learned(fitted, FitConfig(objective="marginal", population="amortised"))


VPL = Method(
    "a network infers the state from the answers",
    "Variational preference learning (Poddar et al., 2024)",
    "Rewards are linear in a state of 8 numbers, on the leading directions of frozen embeddings, in place of "
    "a fine-tuned decoder; the network reads those 8 numbers of each pair. The prior is not learned.",
    learn_vpl,
)
