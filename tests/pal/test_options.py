"""Every option of a head and of a fit does something: a value other than the default gives another result."""

import pytest
import torch

from pal.comparisons import Comparisons, Embeddings
from pal.config import FitConfig, HeadConfig
from pal.fitting.trainer import fit
from pal.models.base import margins

HEAD = {"K": 2, "latent": 4, "hidden": 3}
FIT = {"epochs": 4, "batch_size": 16}
MIXTURE = {"objective": "mixture"}
COSINE = {"similarity": "cosine", "normalise": "mixed"}
A, AB = {"model": "A"}, {"model": "A", "inputs": "prompt_and_response"}
# The option's other value, and what else must be set for it to matter: of the head, of the fit.
HEAD_OPTIONS = [
    ({"K": 3}, {}),
    ({"latent": 5}, {}),
    ({"inputs": "prompt_and_response"}, A),
    ({"normalise_inputs": True}, AB),
    ({"hidden_layers": 2}, {}),
    ({"hidden": 0}, {}),
    ({"activation": "gelu"}, {}),
    ({"bias": False}, {}),
    ({"skip": False}, {}),
    ({"dropout": 0.5}, {}),
    ({"dropout_first": True}, {"dropout": 0.5, "activation": "gelu"}),
    ({"distance": "l2"}, A),
    ({"prototypes": "projected"}, A),
    ({"similarity": "inner"}, {}),
    ({"normalise": "mixed"}, {}),
    ({"scale": 3.0}, {}),
    ({"learn_scale": True}, {}),
]
FIT_OPTIONS = [
    ({"objective": "mixture"}, {}, {}),
    ({"grid_points": 0}, {}, MIXTURE),
    ({"loss": "smooth_hinge"}, {}, {}),
    ({"weighting": "users"}, {}, MIXTURE),
    ({"bound_loss": 1.0}, A, {"bound": 0.01}),
    ({"bound": 0.2}, COSINE, {"bound_loss": 1.0}),
    ({"optimiser": "adam"}, {}, {"weight_decay": 1.0}),
    ({"learning_rate": 0.1}, {}, {}),
    ({"weight_decay": 1.0}, {}, {}),
    ({"weights_learning_rate": 0.01}, {}, {}),
    ({"scale_learning_rate": 0.5}, {"learn_scale": True}, {}),
    ({"weights_start": "random"}, {}, {}),
    ({"schedule": "constant"}, {}, {}),
    ({"epochs": 5}, {}, {}),
    ({"max_steps": 1}, {}, {"epochs": 3}),
    ({"batch_size": 0}, {}, {}),
    ({"shuffle": "prompts"}, {}, {}),
    ({"precision": "bfloat16"}, {}, {}),
    ({"anneal": 0.9}, {}, MIXTURE),
    ({"start_answers": 0.5}, {}, MIXTURE),
    ({"annealing_schedule": "geometric"}, {}, MIXTURE),
]


def fitted(head: dict, config: dict) -> torch.Tensor:
    """Margins of the training comparisons after a short fit, from one seed."""
    draw = torch.Generator().manual_seed(0)
    embeddings = Embeddings(torch.randn(6, 4, generator=draw), 2 * torch.randn(5, 4, generator=draw))
    user = torch.tensor([0] * 30 + [1] * 6 + [2] * 12)
    chosen = torch.randint(5, (48,), generator=draw)
    train = Comparisons.from_pairs(
        user=user,
        prompt=torch.randint(6, (48,), generator=draw),
        chosen=chosen,
        rejected=(chosen + 1 + torch.randint(4, (48,), generator=draw)) % 5,
    )
    head_config, config = HeadConfig.from_options(**HEAD | head), FitConfig.from_options(**FIT | config)
    done = fit(embeddings, train, n_users=3, head=head_config, config=config)
    with torch.no_grad():
        return margins(done.head, done.states, embeddings, train)


@pytest.mark.parametrize(("option", "others"), HEAD_OPTIONS, ids=str)
def test_every_option_of_a_head_changes_it(option, others):
    assert not torch.allclose(fitted({**others, **option}, {}), fitted(others, {}), atol=1e-4)


@pytest.mark.parametrize(("option", "head", "others"), FIT_OPTIONS, ids=str)
def test_every_option_of_a_fit_changes_it(option, head, others):
    assert not torch.allclose(fitted(head, {**others, **option}), fitted(head, others), atol=1e-4)


def test_no_option_is_left_out():
    """Those of validation, restarts and locating, which this data has not, are tested in test_trainer.py."""
    tried = {name for option, _ in HEAD_OPTIONS for name in option}
    of_linear = {"known_items", "item_directions"}  # the fit sets them; see test_mixed_effects.py
    assert tried == set(HeadConfig.model_fields) - {"model"} - of_linear
    tried = {name for option, _, _ in FIT_OPTIONS for name in option}
    elsewhere = {"population", "validate_every", "best_by", "patience", "restarts"}
    assert set(FitConfig.model_fields) - tried == elsewhere
