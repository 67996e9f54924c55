"""Hidden states of a tiny causal model with random weights, made on the spot, and what is refused."""

import json
import shutil

import numpy as np
import pytest
import torch

from pal import encoders
from pal.errors import PalError

WIDTH, LAYERS, LIMIT = 16, 3, 8
NAME = "transformers:someone/tiny"
WORDS = ["[UNK]", "[PAD]", *["a", "small", "cat", "sat", "on", "the", "old", "red", "mat", "and", "slept"]]


@pytest.fixture(scope="module")
def causal(tmp_path_factory):
    """A language model of three layers, its tokeniser one of words."""
    from tokenizers import Tokenizer
    from tokenizers.models import WordLevel
    from tokenizers.pre_tokenizers import Whitespace
    from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast
    from transformers.utils import logging

    folder = tmp_path_factory.mktemp("causal") / "tiny"
    words = Tokenizer(WordLevel({word: n for n, word in enumerate(WORDS)}, unk_token="[UNK]"))
    words.pre_tokenizer = Whitespace()
    tokenizer = PreTrainedTokenizerFast(tokenizer_object=words, unk_token="[UNK]", pad_token="[PAD]")
    tokenizer.save_pretrained(folder)
    config = LlamaConfig(
        vocab_size=len(WORDS), hidden_size=WIDTH, intermediate_size=32, num_hidden_layers=LAYERS,
        num_attention_heads=2, num_key_value_heads=2, max_position_embeddings=LIMIT,
    )  # fmt: skip
    logging.disable_progress_bar()
    with torch.random.fork_rng():
        torch.manual_seed(0)
        LlamaForCausalLM(config).save_pretrained(folder)
    return folder


def states(folder, text, layer):
    """A text's hidden states by the library alone."""
    from transformers import AutoModelForCausalLM

    model = AutoModelForCausalLM.from_pretrained(folder).eval()
    token_ids = torch.tensor([[WORDS.index(word) for word in text.split()]])
    with torch.no_grad():
        return model(token_ids, output_hidden_states=True).hidden_states[layer][0].numpy()


@pytest.mark.parametrize(
    ("options", "layer", "pool"),
    [
        ("", LAYERS, lambda states: states[-1]),
        ("+layer=2+pooling=mean", 2, lambda states: states.mean(0)),
        ("+layer=-2+pooling=first", 2, lambda states: states[0]),
        ("+layer=0", 0, lambda states: states[-1]),
    ],
)
def test_vectors_are_the_librarys_states_whatever_else_is_in_the_batch(causal, options, layer, pool):
    described = encoders.describe(NAME + options, str(causal))
    assert described.dim == WIDTH
    assert described.preprocessing.startswith(f"layer {layer} of {LAYERS}, ")
    encoder = encoders.load(described)
    texts = ["the cat", "a small cat sat on the mat", "slept"]
    assert encoder.lengths(texts) == [2, 7, 1]
    expected = np.stack([pool(states(causal, text, layer)) for text in texts])
    np.testing.assert_allclose(encoder.encode(texts), expected, atol=1e-5)


def test_of_a_long_text_the_end_is_kept_and_a_text_without_tokens_has_a_vector(causal):
    encoder = encoders.load(encoders.describe(NAME, str(causal)))
    end = "on the old red mat and slept a"  # of eight tokens, the limit
    long, short = encoder.encode(["cat cat " + end, end])
    np.testing.assert_allclose(long, short, atol=1e-5)
    assert np.isfinite(encoder.encode(["\ufeff"])).all()


def test_a_reward_model_gives_the_states_beneath_its_reward(causal, tmp_path):
    from transformers import LlamaForSequenceClassification

    model = LlamaForSequenceClassification.from_pretrained(causal, num_labels=1)
    shutil.copytree(causal, tmp_path / "model")
    model.save_pretrained(tmp_path / "model")
    vectors = [
        encoders.load(encoders.describe(NAME, str(folder))).encode(["the cat sat"])
        for folder in (causal, tmp_path / "model")
    ]
    np.testing.assert_allclose(*vectors, atol=1e-6)


def test_instruction_and_measures_go_along_and_all_of_it_tells_stored_vectors_apart(causal):
    name = f"{NAME}+instruction=a red +measures"
    described = encoders.describe(name, str(causal))
    assert (described.name, described.dim) == (name, WIDTH + 6)
    vector = encoders.load(described).encode(["cat sat"])[0]
    plain = encoders.load(encoders.describe(NAME, str(causal))).encode(["a red cat sat"])[0]
    np.testing.assert_allclose(vector[:WIDTH], plain, atol=1e-6)


@pytest.mark.parametrize(
    ("options", "given", "said"),
    [
        ("+layer=9", {}, "layer must be from -4 to 3 for transformers:someone/tiny, got '9'"),
        ("+layer=late", {}, "layer must be from -4 to 3 for transformers:someone/tiny, got 'late'"),
        ("+pooling=eos", {}, "pooling one of last, mean, first, got "),
        ("", {"engine": "onnx"}, "encode.engine torch, "),
        ("", {"weights": "package"}, "must have encode.weights hub or a folder"),
    ],
)
def test_what_is_not_run_is_refused(causal, options, given, said):
    with pytest.raises(PalError, match="must") as caught:
        encoders.describe(NAME + options, **{"weights": str(causal), **given})
    assert said in str(caught.value)


def test_code_of_a_folder_and_pickled_weights_are_not_opened(causal, tmp_path):
    foreign = shutil.copytree(causal, tmp_path / "foreign")
    config = json.loads((foreign / "config.json").read_text())
    config |= {"model_type": "theirs", "auto_map": {"AutoModel": "code.Model", "AutoConfig": "code.Config"}}
    (foreign / "config.json").write_text(json.dumps(config))
    (foreign / "code.py").write_text("raise SystemExit('their code ran')")
    described = encoders.describe(NAME, str(foreign))
    with pytest.raises(PalError, match="could not be loaded"):
        encoders.load(described)
    pickled = shutil.copytree(causal, tmp_path / "pickled")
    (pickled / "model.safetensors").rename(pickled / "pytorch_model.bin")
    with pytest.raises(PalError, match=r"must lead to a folder with model\.safetensors"):
        encoders.describe(NAME, str(pickled))
