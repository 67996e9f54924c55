import json
import pickle
from dataclasses import replace

import pytest
import safetensors.torch
import torch

from pal.comparisons import Embeddings
from pal.config import FitConfig, HeadConfig
from pal.errors import PalError
from pal.fitting.trainer import Fitted
from pal.models.base import make_model
from pal.serving.reward_model import RewardModel
from pal.serving.saved_model import SUMS, checksums
from pal.users.points import Points

ENCODER = {"prompts": {"name": "hash", "weights_sha256": "00"}, "responses": {"name": "hash", "dim": 4}}
USERS = ["anna", "", "O'Brien \n\0", "日本 🎈", "lone \ud800 surrogate", "a.b/c"]
FILES = ["config.json", "model.safetensors", "users.json"]
WEIGHTS = torch.softmax(torch.randn(6, 3, generator=torch.Generator().manual_seed(0)), 1)


def made(users: list[str] = USERS, weights: torch.Tensor = WEIGHTS, **options) -> RewardModel:
    config = HeadConfig(**{"model": "B", "latent": 4, "hidden": 5} | options)
    torch.manual_seed(0)
    dims = {"prompt_dim": 3, "response_dim": 4}
    fitted = Fitted(make_model(config, **dims), weights, 0.0)
    embeddings = Embeddings(torch.zeros(1, 3), torch.zeros(1, 4))
    return RewardModel.from_fit(fitted, embeddings, user_ids=users, fit_config=FitConfig(), encoder=ENCODER)


@pytest.fixture
def saved(tmp_path):
    made().save(tmp_path / "model")
    return tmp_path / "model"


def rewrite(folder, *, tensors=None, users=None, **config) -> None:
    """Change a saved model and make its checksums agree again."""
    if tensors is not None:
        (folder / "model.safetensors").write_bytes(safetensors.torch.save(tensors))
    if users is not None:
        (folder / "users.json").write_text(json.dumps(users))
    if config:
        about = json.loads((folder / "config.json").read_text()) | config
        (folder / "config.json").write_text(json.dumps(about))
    (folder / SUMS).write_bytes(checksums({name: (folder / name).read_bytes() for name in FILES}))


@pytest.mark.parametrize(
    "options",
    [
        {"K": 3, "learn_scale": True, "normalise": "mixed", "bias": False},
        {"K": 3, "model": "A", "prototypes": "projected", "hidden_layers": 2},
    ],
)
def test_loaded_model_is_the_saved_one(tmp_path, options):
    model = made(**options)
    model.save(tmp_path / "model")
    loaded = RewardModel.load(tmp_path / "model")
    assert list(loaded.user_ids) == USERS
    assert (loaded.config, loaded.fit_config, loaded.encoder) == (model.config, model.fit_config, ENCODER)
    assert loaded.tensors().keys() == model.tensors().keys()
    assert all(torch.equal(tensor, model.tensors()[name]) for name, tensor in loaded.tensors().items())
    prompts, responses = torch.randn(5, 3), torch.randn(5, 4)
    for user in [*USERS, None]:
        scores = model.score(prompts, responses, user=user)
        assert torch.equal(loaded.score(prompts, responses, user=user), scores)


def test_a_save_that_fails_leaves_the_old_model(saved, monkeypatch):
    before = {path.name: path.read_bytes() for path in saved.iterdir()}

    def fail(path, data):
        raise PalError(f"{path} cannot be written (No space left on device)")

    monkeypatch.setattr("pal.serving.saved_model.write_bytes", fail)
    with pytest.raises(PalError, match="cannot be written"):
        made(users=["only"], weights=WEIGHTS[:1]).save(saved)
    assert {path.name: path.read_bytes() for path in saved.iterdir()} == before
    assert [path.name for path in saved.parent.iterdir()] == ["model"]


def test_save_does_not_replace_what_is_no_model(tmp_path):
    (tmp_path / "thesis.tex").write_text("years of work")
    with pytest.raises(PalError, match=r"must hold nothing but a saved model, got 'thesis\.tex' too"):
        made().save(tmp_path)
    with pytest.raises(PalError, match="must be a folder or not there yet, got a file or a link"):
        made().save(tmp_path / "thesis.tex")
    assert (tmp_path / "thesis.tex").read_text() == "years of work"


def test_save_refuses_an_encoder_that_is_not_json(tmp_path):
    model = replace(made(), encoder={"dim": float("nan")})
    with pytest.raises(PalError, match="encoder must be JSON"):
        model.save(tmp_path / "model")
    assert not (tmp_path / "model").exists()


@pytest.mark.parametrize("name", [*FILES, SUMS])
def test_a_missing_or_damaged_file_is_named(saved, name):
    data = (saved / name).read_bytes()
    flipped = bytearray(data)
    flipped[len(data) // 2] ^= 1
    for content in (bytes(flipped), data[:5], b""):
        (saved / name).write_bytes(content)
        with pytest.raises(PalError, match=r"must|cannot be read") as caught:
            RewardModel.load(saved)
        assert "\n" not in str(caught.value)
        assert name in str(caught.value) or name == SUMS
    (saved / name).unlink()
    with pytest.raises(PalError, match=rf"{name} cannot be read \(No such file or directory\)"):
        RewardModel.load(saved)


class Trap:
    """Unpickling this fails the test."""

    def __reduce__(self):
        return pytest.fail, ("a pickle was loaded",)


@pytest.mark.parametrize("archive", [True, False])
def test_load_never_opens_a_pickle(saved, archive):
    path = saved / "model.safetensors"
    if archive:
        torch.save({"weights": WEIGHTS, "trap": Trap()}, path)
    else:
        path.write_bytes(pickle.dumps(Trap()))
    rewrite(saved)
    with pytest.raises(PalError, match="must be safetensors, got something else"):
        RewardModel.load(saved)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"format": "other"}, "must be of the format 'pal-reward-model', got another"),
        ({"version": 1}, "must have the version 2, got 1; fit the model again with this pal"),
        ({"prompt_dim": "3"}, "prompt_dim must be of type int, got '3'"),
        ({"response_dim": 0}, "response_dim at least 1"),
        ({"head": {"K": 0}}, "K must be at least 1, got 0"),
        ({"fit": {"speed": 1}}, "speed is not a known option"),
        ({"head": {"K": 3, "latent": 5}}, r"head.f.first.bias must have the shape \(21,\), got \(5,\)"),
        ({"head": {"model": "A", "K": 3}}, "tensors must be those of the head's options"),
    ],
)
def test_load_refuses_a_config_that_does_not_fit(saved, change, message):
    rewrite(saved, **change)
    with pytest.raises(PalError, match=message):
        RewardModel.load(saved)


@pytest.mark.parametrize(
    ("name", "tensor", "message"),
    [
        ("states", WEIGHTS * 1.01, "states must be shares that sum to 1"),
        ("states", WEIGHTS * float("nan"), "states must be finite, got NaN or infinity"),
        ("states", WEIGHTS[:, :2], r"states must be 3 numbers for each state, got the shape \(6, 2\)"),
        ("states", WEIGHTS.double(), "states must be float32, got torch.float64"),
        (
            "population.mass",
            torch.full((6,), 0.5),
            "population.mass must be shares of the points that sum to",
        ),
        ("head.extra", torch.ones(1), r"got \['head.extra'\] too many, \[\] missing"),
        ("states", None, r"got \[\] too many, \['states'\] missing"),
    ],
)
def test_load_refuses_tensors_that_do_not_fit(saved, name, tensor, message):
    tensors = {**made().tensors(), name: tensor}
    rewrite(saved, tensors={key: value.contiguous() for key, value in tensors.items() if value is not None})
    with pytest.raises(PalError, match=message):
        RewardModel.load(saved)


def test_a_fingerprint_is_that_of_what_shapes_rewards(saved):
    """Head, options, prior and loss; not the users, of whom one may be taken out."""
    model = made()
    assert RewardModel.load(saved).fingerprint == model.fingerprint
    assert len(model.fingerprint) == 32
    parted = RewardModel(
        model.head, USERS[:5], WEIGHTS[:5], model.population, FitConfig(epochs=3), {}, model.prompt_dim, 4
    )
    assert parted.fingerprint == model.fingerprint
    prior = Points(model.population.points.flip(0), model.population.mass)
    for change in ({"fit_config": FitConfig(loss="hinge")}, {"population": prior}):
        assert replace(model, **change).fingerprint != model.fingerprint
    assert made(K=3, scale=11.0).fingerprint != model.fingerprint
