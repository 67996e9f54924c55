import subprocess
import sys

import pytest
import yaml

from pal.config import FitConfig, HeadConfig, preset
from pal.errors import PalError

MIXTURE = {"objective": "mixture"}


@pytest.mark.parametrize(
    ("kind", "options", "message"),
    [
        (HeadConfig, {"k": 3}, "^k is not a known option, got 3; see the names in HeadConfig$"),
        (HeadConfig, {"K": 0}, "^K must be at least 1, got 0$"),
        (HeadConfig, {"K": True}, "^K must be a whole number, got True$"),
        (HeadConfig, {"model": "C"}, "^model must be one of 'A', 'B'.*, got 'C'$"),
        (HeadConfig, {"bias": 1}, "^bias must be true or false, got 1$"),
        (HeadConfig, {"dropout": 1.0}, "^dropout must be below 1, got 1.0$"),
        (HeadConfig, {"scale": 0}, "^scale must be above 0, got 0$"),
        (FitConfig, {"learning_rate": "fast"}, "^learning_rate must be a number, got 'fast'$"),
        (FitConfig, {"learning_rate": float("inf")}, "^learning_rate must be a finite number, got inf$"),
        (FitConfig, {"anneal": 1.5}, "^anneal must be at most 1, got 1.5$"),
        (FitConfig, MIXTURE | {"bound_loss": 1}, "^bound_loss must be 0 with objective 'mixture', got 1$"),
        (FitConfig, MIXTURE | {"loss": "hinge"}, "^loss must be 'logistic' with objective 'mixture', got 'hinge'$"),
    ],
)  # fmt: skip
def test_config_names_the_option_that_is_wrong(kind, options, message):
    with pytest.raises(PalError, match=message):
        kind.from_options(**options)


def test_config_reads_numbers_that_yaml_makes_text():
    """YAML 1.1 reads 5e-3, without a point, as text."""
    text = yaml.safe_load("learning_rate: 5e-3")
    assert text == {"learning_rate": "5e-3"}
    assert FitConfig.from_options(**text).learning_rate == 0.005


def test_paper_preset_is_what_the_text_says():
    head, fit = preset("paper", "B")
    assert (fit.optimiser, fit.learning_rate, fit.weight_decay, fit.epochs) == ("adam", 1e-4, 1e-2, 10)
    assert (head.dropout, head.activation, head.skip, fit.loss) == (0.5, "relu", True, "logistic")


def test_authors_preset_is_what_their_code_does():
    """Facts and decisions 1.2: mlp2 is three linear layers as wide as their output; AdamW on 16,384 rows."""
    for model in ("A", "B"):
        head, fit = preset("authors", model)
        assert (head.hidden_layers, head.hidden, head.dropout, head.dropout_first) == (2, 0, 0.5, True)
        assert (fit.optimiser, fit.batch_size, fit.best_by) == ("adamw", 16_384, "loss")
        assert (fit.bound_loss, fit.bound, fit.weights_start) == (1.0, 4.0, "random")
    assert (fit.loss, fit.scale_learning_rate, head.normalise) == ("logistic", 0.1, "mixed")
    head, fit = preset("authors", "A")
    assert (fit.loss, head.distance, head.prototypes) == ("hinge", "l2", "input")


def test_package_and_config_import_no_torch():
    code = "import sys, pal, pal.config; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_package_gives_each_name_from_its_module():
    import pal

    for name in pal.__all__:
        assert getattr(pal, name).__name__ == name
        assert name in dir(pal)
    with pytest.raises(AttributeError, match="'pal' has no attribute 'nothing'"):
        pal.nothing  # noqa: B018
