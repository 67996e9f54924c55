"""PickScore, by a small CLIPModel of transformers with random weights, saved as the hub has it."""

import hashlib

import numpy as np
import pytest
import torch

from pal import encoders
from pal.errors import PalError

TEXTS = ["a dog", "", "Two  DOGS &amp; a caf\u0065\u0301!!!\n", "x " * 200]
MEAN, STD = (0.48145466, 0.4578275, 0.40821073), (0.26862954, 0.26130258, 0.27577711)


def saved(folder, **text):
    from transformers import CLIPConfig, CLIPModel

    shape = {"hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 2, "num_attention_heads": 2}
    config = CLIPConfig(
        text_config={**shape, "vocab_size": 49408, "projection_dim": 12, **text},
        vision_config={**shape, "image_size": 32, "patch_size": 8, "projection_dim": 12},
        projection_dim=12,
    )
    torch.manual_seed(0)
    CLIPModel(config).eval().save_pretrained(folder)
    return folder


# The published configuration names 2 as the end of a text, from before transformers looked at it.
@pytest.fixture(scope="module", params=[2, 49407])
def folder(request, tmp_path_factory):
    return saved(tmp_path_factory.mktemp("pickscore"), eos_token_id=request.param)


@pytest.fixture(scope="module")
def reference(folder):
    from transformers import CLIPModel

    return CLIPModel.from_pretrained(folder).eval()


def features(found):
    """Transformers 5 wraps what transformers 4 returns."""
    return getattr(found, "pooler_output", found).numpy()


def test_the_weights_found_are_recorded(folder):
    found = encoders.describe("pickscore", str(folder))
    weights = (folder / "model.safetensors").read_bytes()
    assert (found.dim, found.weights_sha256) == (12, hashlib.sha256(weights).hexdigest())
    assert (found.modalities, found.module) == (("text", "image"), "pickscore")
    assert "bicubic to 32 px" in found.preprocessing


def test_pictures_have_transformers_own_vectors(folder, reference):
    encoder = encoders.load(encoders.describe("pickscore", str(folder)))
    batch = torch.randint(0, 256, (3, 3, 32, 32), generator=torch.Generator().manual_seed(0)).byte()
    mean, std = (torch.tensor(of).view(3, 1, 1) for of in (MEAN, STD))
    with torch.inference_mode():
        theirs = features(reference.get_image_features(pixel_values=(batch / 255 - mean) / std))
    assert encoder.encode_images(batch) == pytest.approx(theirs, abs=1e-5)


def their_tokens(texts):
    """The fast CLIP tokeniser of transformers over the vocabulary that open_clip carries."""
    from open_clip import SimpleTokenizer
    from transformers import CLIPTokenizerFast

    ours = SimpleTokenizer()
    names = {"<start_of_text>": "<|startoftext|>", "<end_of_text>": "<|endoftext|>"}
    vocabulary = {names.get(token, token): at for token, at in ours.encoder.items()}
    merges = [tuple(merge) for merge in ours.bpe_ranks]
    tokeniser = CLIPTokenizerFast(vocab=vocabulary, merges=merges)
    return tokeniser(texts, truncation=True, max_length=77, padding=True, return_tensors="pt")


def test_texts_have_transformers_own_tokens_and_vectors(folder, reference):
    encoder = encoders.load(encoders.describe("pickscore", str(folder)))
    tokens = their_tokens(TEXTS)
    assert encoder.lengths(TEXTS) == tokens["attention_mask"].sum(1).tolist()
    with torch.inference_mode():
        theirs = features(reference.get_text_features(**tokens))
    assert encoder.encode(TEXTS) == pytest.approx(theirs, abs=1e-5)
    assert encoder.encode(TEXTS[:1]) == pytest.approx(theirs[:1], abs=1e-5)


def test_bfloat16_is_near(folder):
    half, full = (
        encoders.load(encoders.describe("pickscore", str(folder), precision=precision)).encode(TEXTS)
        for precision in ("bfloat16", "float32")
    )
    cosine = (half * full).sum(1) / np.linalg.norm(half, axis=1) / np.linalg.norm(full, axis=1)
    assert cosine.min() >= 0.999


def test_missing_weights_are_one_sentence(folder, tmp_path):
    from safetensors.torch import load_file, save_file

    (tmp_path / "config.json").write_bytes((folder / "config.json").read_bytes())
    weights = load_file(folder / "model.safetensors")
    del weights["visual_projection.weight"]
    save_file(weights, tmp_path / "model.safetensors", {"format": "pt"})
    with pytest.raises(
        PalError, match=r"must hold all weights of pickscore, got no visual_projection\.weight"
    ):
        encoders.load(encoders.describe("pickscore", str(tmp_path)))


def test_a_damaged_weights_file_is_one_sentence(folder, tmp_path):
    (tmp_path / "config.json").write_bytes((folder / "config.json").read_bytes())
    (tmp_path / "model.safetensors").write_bytes(b"\xff" * 100)
    with pytest.raises(PalError, match="must hold a CLIPModel of transformers"):
        encoders.load(encoders.describe("pickscore", str(tmp_path)))


@pytest.mark.parametrize("config", ["{}", '{"projection_dim": 12}'])
def test_a_configuration_of_something_else_is_one_sentence(tmp_path, config):
    (tmp_path / "config.json").write_text(config)
    with pytest.raises(
        PalError, match="configuration of pickscore must hold projection_dim and vision_config"
    ):
        encoders.describe("pickscore", str(tmp_path))


def test_a_folder_without_a_configuration_is_one_sentence(tmp_path):
    with pytest.raises(PalError, match=r"must lead to a folder with config\.json of pickscore, got"):
        encoders.describe("pickscore", str(tmp_path))
