"""One reward as a model of plain `transformers`, on a small BERT made here."""

import json
from dataclasses import replace

import pytest
import torch

from pal import encoders
from pal.config import FitConfig, HeadConfig
from pal.errors import PalError
from pal.models.base import make_model
from pal.serving.export import ScalarReward, export_scalar
from pal.serving.inputs import InputEncoder
from pal.serving.reward_model import RewardModel
from pal.users.points import Points
from tests.pal.encoders.conftest import WIDTH, make

NAME = "sentence-transformers:somebody/tiny"
TEXTS = ["a cat", "a dog barks at the moon", "so long a text that it does not fit " * 9, "no"]
HEADS = {
    "A": {"model": "A", "hidden_layers": 0, "bias": False},
    "A joint": {"model": "A", "inputs": "prompt_and_response"},
    "B": {"similarity": "inner"},
    "B cosine": {"normalise": "mixed", "learn_scale": True},
}


@pytest.fixture(scope="module")
def tiny(tmp_path_factory):
    return make(tmp_path_factory.mktemp("tiny") / "model")


def personal(folder, head="B", *, dtype="float32", name=NAME, width=WIDTH) -> RewardModel:
    config = HeadConfig(K=3, latent=4, hidden=5, **HEADS[head])
    reads_prompts = config.model == "B" or config.inputs != "response"
    with torch.random.fork_rng():
        torch.manual_seed(3)
        built = make_model(config, prompt_dim=width * reads_prompts, response_dim=width)
        weights = torch.softmax(2 * torch.randn(9, 3), 1)
    found = encoders.describe(NAME, str(folder))
    about = {"encoder": name, "dim": width, "weights_sha256": found.weights_sha256, "dtype": dtype}
    encoder = {"prompts": about, "responses": about}
    ids = [f"user {number}" for number in range(9)]
    input_encoder = InputEncoder(encoder, {name: str(folder)})
    dims, prior = (width * reads_prompts, width), Points.from_states(weights)
    return RewardModel(built, ids, weights, prior, FitConfig(), encoder, *dims, input_encoder=input_encoder)


def logits(folder, texts=TEXTS, prompts=None):
    """What plain transformers code gets."""
    from transformers import AutoModelForSequenceClassification, AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(folder)
    model = AutoModelForSequenceClassification.from_pretrained(folder)
    how = {"padding": True, "truncation": True, "return_tensors": "pt"}
    given = dict(tokenizer(texts, **how))
    if prompts is not None:
        given |= {f"prompt_{key}": value for key, value in tokenizer(prompts, **how).items()}
    assert model.config.num_labels == 1
    with torch.no_grad():
        return model(**given).logits


def same(found, expected):
    assert found.shape == (len(expected), 1)
    torch.testing.assert_close(found[:, 0], expected, atol=1e-5, rtol=0)


@pytest.mark.parametrize("head", HEADS)
def test_exported_rewards_are_those_of_the_model(tiny, tmp_path, head):
    model = personal(tiny, head)
    prompts = ["who is it", "what is that", "how so", "why"] if model.head.needs_prompts else None
    export_scalar(model, tmp_path / "scalar", "user 4")
    same(logits(tmp_path / "scalar", prompts=prompts), model.score(prompts, TEXTS, user="user 4"))


def test_a_prompt_may_be_fixed(tiny, tmp_path):
    model = personal(tiny)
    export_scalar(model, tmp_path / "scalar", "user 4", prompt="who is it")
    same(logits(tmp_path / "scalar"), model.score("who is it", TEXTS, user="user 4"))
    with pytest.raises(PalError, match="fixed when this was exported"):
        logits(tmp_path / "scalar", prompts=["who is it"])


def test_tastes_are_exported_too(tmp_path):
    """Of an encoder that takes the first token, and rounds to float16."""
    model = personal(make(tmp_path / "tiny", pooling="cls", unit=False), dtype="float16")
    taste = model.adapt([("q", "a cat", "a dog")])
    export_scalar(model, tmp_path / "taste", taste, prompt="q")
    same(logits(tmp_path / "taste"), model.score("q", TEXTS, user=taste))


def test_a_folder_holds_no_code_and_code_that_its_config_names_is_not_run(tiny, tmp_path):
    model = personal(tiny, "A")
    export_scalar(model, tmp_path / "scalar")
    suffixes = {path.suffix for path in (tmp_path / "scalar").iterdir()}
    assert suffixes <= {".safetensors", ".json", ".txt", ".md"}
    for path in (tmp_path / "scalar").glob("*.json"):
        text = path.read_text()
        assert "auto_map" not in text
        assert str(tiny) not in text, f"a path of this machine in {path.name}"
    assert [path.name for path in tmp_path.iterdir()] == ["scalar"]
    path = tmp_path / "scalar/config.json"
    config = json.loads(path.read_text())
    config["encoder_config"] |= {
        "auto_map": {"AutoModel": "somebody/evil--code.Evil"},
        "attn_implementation": "somebody/evil",
    }
    path.write_text(json.dumps(config))
    same(logits(tmp_path / "scalar"), model.score(None, TEXTS))


def test_inputs_that_would_score_another_text_are_refused(tiny, tmp_path):
    export_scalar(personal(tiny), tmp_path / "scalar")
    model = ScalarReward.from_pretrained(tmp_path / "scalar")
    for given, message in (
        ({"input_ids": torch.ones(1, 25, dtype=torch.long)}, "at most 24 tokens, got 25; pass truncation"),
        ({"token_type_ids": torch.tensor([[0, 1]])}, "one response, got a pair of texts"),
        ({}, "prompt_input_ids must be given, got none"),
        ({"prompt_input_ids": torch.ones(3, 2, dtype=torch.long)}, "one for each of 1, got 3"),
    ):
        with pytest.raises(PalError, match=message):
            model(**({"input_ids": torch.ones(1, 2, dtype=torch.long)} | given))


def test_what_cannot_be_exported_is_refused_and_nothing_is_left(tiny, tmp_path, worded, line):
    dense = personal(make(tmp_path / "dense", dense=WIDTH))
    model = personal(tiny)
    two = {**model.encoder, "prompts": {"encoder": "hashed-words", "dim": WIDTH}}
    half = {"prompts": None, "responses": {**model.encoder["responses"], "precision": "bfloat16"}}
    place = tmp_path / "scalar"
    two, half = (
        replace(model, input_encoder=InputEncoder(encoder, model.input_encoder.weights))
        for encoder in (two, half)
    )
    for given, message in [
        ((worded, place), "must be of sentence-transformers to be exported, got hashed-words"),
        ((line, place), "names no encoder"),
        ((dense, place), "Pooling and Normalize to be exported, got Transformer, Pooling, Dense"),
        ((model, place, "bob"), "got 'bob'"),
        ((two, place), "one encoder to be exported"),
        ((half, place), "must compute in float32"),
        ((model, tmp_path), "must not be there yet, or be an empty folder"),
    ]:
        with pytest.raises(PalError, match=message):
            export_scalar(*given)
    with pytest.raises(PalError, match="prompt must be left out"):
        export_scalar(personal(tiny, "A"), place, prompt="q")
    assert [path.name for path in tmp_path.iterdir()] == ["dense"]


def test_an_export_that_is_not_the_model_s_reward_is_not_kept(tiny, tmp_path, monkeypatch):
    monkeypatch.setattr(RewardModel, "score", lambda *_, **__: torch.zeros(3))
    with pytest.raises(PalError, match=r"must be those of the model to 1e-05, got .* apart"):
        export_scalar(personal(tiny, "A"), tmp_path / "scalar")
    assert not list(tmp_path.iterdir())
