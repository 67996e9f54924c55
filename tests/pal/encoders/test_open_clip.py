"""CLIP and PickScore: the vectors of open_clip and transformers, from local safetensors or openly untrained."""

import dataclasses
import hashlib
import io
import json
import shutil
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest
import torch
from PIL import Image
from safetensors.torch import load_file, save_file

from pal import encoders
from pal.encoders import ImageEncoder, TextEncoder, images, weights
from pal.errors import PalError

from .odd_images import drawn, saved

PHOTOS = Path(__file__).parents[4] / "shared/data/dog_morphs/images.parquet"
UNTRAINED, TINY = "untrained-vit-b-32", "open_clip:hf-hub:someone/tiny"
TEXTS = ["a dog", "", "A photo of two DOGS &amp; a cat!!!", "x " * 200]
CONFIG = {
    "model_cfg": {
        "embed_dim": 12,
        "vision_cfg": {"image_size": 32, "layers": 2, "width": 32, "head_width": 16, "patch_size": 8},
        "text_cfg": {"context_length": 77, "vocab_size": 49408, "width": 32, "heads": 2, "layers": 2},
    },
    "preprocess_cfg": {"mean": [0.5, 0.4, 0.3], "std": [0.2, 0.3, 0.4], "interpolation": "bilinear"},
}
CLIP_H = "0084e75319a50ad85ef45377bad5bc38f2f58824459eb690048d51c9f8863be5"


@pytest.fixture(scope="module")
def untrained():
    return encoders.load(encoders.describe(UNTRAINED))


@pytest.fixture(scope="module")
def reference():
    """ViT-B-32 as open_clip builds it; its random weights of seed 0 are those of ours."""
    import open_clip

    torch.manual_seed(0)
    return open_clip.create_model_and_transforms("ViT-B-32")


@pytest.fixture(scope="module")
def tiny(tmp_path_factory):
    """A folder as the hub has them: a small model's configuration and weights."""
    import open_clip

    folder = tmp_path_factory.mktemp("tiny")
    (folder / "open_clip_config.json").write_text(json.dumps(CONFIG))
    torch.manual_seed(1)
    save_file(open_clip.CLIP(**CONFIG["model_cfg"]).state_dict(), folder / "open_clip_model.safetensors")
    return folder


@pytest.fixture
def copy(tiny, tmp_path):
    return Path(shutil.copytree(tiny, tmp_path / "copy"))


def by_open_clip(reference, jpegs):
    """Its own preprocessing of Pillow's images, its own encoder: normalised, unlike ours."""
    model, _, preprocess = reference
    batch = torch.stack([preprocess(Image.open(io.BytesIO(jpeg))) for jpeg in jpegs])
    with torch.inference_mode():
        return model.eval().encode_image(batch).numpy()


def by_us(encoder, jpegs):
    return encoder.encode_images(torch.stack([encoder.shrink(images.read(jpeg)) for jpeg in jpegs]))


def cosines(x, y):
    return (x * y).sum(1) / np.linalg.norm(x, axis=1) / np.linalg.norm(y, axis=1)


def test_images_have_open_clips_vectors(untrained, reference):
    sizes = [(512, 512), (640, 480), (300, 400), (100, 100)]
    jpegs = [saved(drawn(size, seed), "JPEG", quality=90) for seed, size in enumerate(sizes)]
    if PHOTOS.exists():
        jpegs += pq.read_table(PHOTOS, columns=["jpg"])["jpg"].to_pylist()[:4]
    assert cosines(by_us(untrained, jpegs), by_open_clip(reference, jpegs)).min() >= 0.9999


def test_texts_have_open_clips_vectors(untrained, reference):
    """Though cut behind the longest text of the batch, where open_clip pads to 77."""
    import open_clip

    with torch.inference_mode():
        theirs = reference[0].eval().encode_text(open_clip.get_tokenizer("ViT-B-32")(TEXTS)).numpy()
    assert np.allclose(untrained.encode(TEXTS), theirs, atol=1e-5)
    assert np.allclose(untrained.encode(TEXTS[:2]), theirs[:2], atol=1e-5)
    assert untrained.lengths(["a dog!", "", "!!!", "x " * 200]) == [5, 2, 3, 77]
    assert untrained.lengths([]) == []


def test_a_folders_weights_are_those_that_run(tiny):
    """Vectors are float32 and not of unit length."""
    import open_clip

    described = encoders.describe(TINY, str(tiny))
    whole = (tiny / "open_clip_model.safetensors").read_bytes()
    assert (described.dim, described.weights_sha256) == (12, hashlib.sha256(whole).hexdigest())
    assert "bilinear to 32 px" in described.preprocessing
    encoder = encoders.load(described)
    assert isinstance(encoder, ImageEncoder)
    assert isinstance(encoder, TextEncoder)
    theirs = open_clip.create_model_and_transforms(f"local-dir:{tiny}")
    jpegs = [saved(drawn(), "JPEG"), saved(drawn(seed=1), "JPEG")]
    vectors = by_us(encoder, jpegs)
    assert vectors == pytest.approx(by_open_clip(theirs, jpegs), abs=0.02)
    assert vectors.dtype == np.float32
    assert abs(np.linalg.norm(vectors[0]) - 1) > 0.01


UNSUPPORTED = [
    ({"engine": "onnx"}, "engine must be torch for .*, got 'onnx'; ONNX Runtime runs text"),
    ({"precision": "int8"}, "precision must be one of float32, bfloat16, float16 for .*, got 'int8'"),
    ({"precision": "float16"}, "precision must be float32 or bfloat16 for .* on a CPU, got 'float16'"),
]


@pytest.mark.parametrize(("options", "words"), UNSUPPORTED)
def test_engines_and_precisions_that_it_does_not_run_are_one_sentence(options, words):
    with pytest.raises(PalError, match=words):
        encoders.load(encoders.describe(UNTRAINED, **options))


def test_a_trained_name_never_runs_without_weights_nor_an_untrained_one_with(tiny):
    trained, untrained = encoders.describe(TINY, str(tiny)), encoders.describe(UNTRAINED)
    for wrong in (dataclasses.replace(trained, folder=None), dataclasses.replace(untrained, folder=tiny)):
        with pytest.raises(PalError, match="weights exactly where its name does not say untrained, got"):
            encoders.load(wrong)


@pytest.mark.parametrize("name", [TINY, "pickscore"])
def test_a_pickle_is_never_opened_and_no_package_carries_one(copy, name):
    (copy / "open_clip_model.safetensors").rename(copy / "open_clip_pytorch_model.bin")
    (copy / "config.json").write_text('{"projection_dim": 12, "vision_config": {}}')
    with pytest.raises(PalError, match=r"folder with .*model\.safetensors.* a pickle is not opened"):
        encoders.describe(name, str(copy))
    with pytest.raises(PalError, match=r"must be hub or a folder for .*, got 'package': none carries it"):
        encoders.describe(name)


def test_other_weights_for_clip_h_name_both_hashes(copy):
    got = hashlib.sha256((copy / "open_clip_model.safetensors").read_bytes()).hexdigest()
    with pytest.raises(PalError, match=f"must have the published sha256 {CLIP_H}, got {got}; get them again"):
        encoders.describe("clip-vit-h-14", str(copy))


def test_weights_that_do_not_fit_or_are_damaged_are_one_sentence(copy):
    path = copy / "open_clip_model.safetensors"
    tensors = load_file(path)
    tensors["ln_final.bias"].fill_(float("nan"))
    save_file(tensors, path)
    with pytest.raises(PalError, match="must be finite, got NaN or infinity"):
        encoders.load(encoders.describe(TINY, str(copy)))
    del tensors["ln_final.weight"]
    save_file(tensors, path)
    with pytest.raises(PalError, match=r"must hold the weights of .*ln_final\.weight"):
        encoders.load(encoders.describe(TINY, str(copy)))
    path.write_bytes(b"\xff" * 100)
    with pytest.raises(PalError, match="must hold the weights of"):
        encoders.load(encoders.describe(TINY, str(copy)))


ON_THE_HUB = [
    ("clip-vit-h-14", "laion/CLIP-ViT-H-14-laion2B-s32B-b79K", "1c2b8495b28150b8a4922ee1c8edee224c284c0c"),
    ("pickscore", "yuvalkirstain/PickScore_v1", "a4e4367c6dfa7288a00c550414478f865b875800"),
    ("open_clip:ViT-B-32/laion2b_s34b_b79k", "laion/CLIP-ViT-B-32-laion2B-s34B-b79K", None),
    (TINY, "someone/tiny", None),
]


@pytest.mark.parametrize(("name", "repo", "revision"), ON_THE_HUB)
def test_the_hub_is_asked_for_safetensors_alone(monkeypatch, name, repo, revision):
    def download(asked_repo, asked_revision, wanted, *, advice):
        assert (asked_repo, asked_revision) == (repo, revision)
        assert all(pattern.endswith((".json", ".safetensors")) for pattern in wanted)
        raise PalError("asked")

    monkeypatch.setattr(weights.files, "download", download)
    with pytest.raises(PalError, match="asked"):
        encoders.describe(name, "hub")


@pytest.fixture(scope="module")
def pickscore(tmp_path_factory):
    from transformers import CLIPConfig, CLIPModel

    # The published configuration names 2 as the end of a text, from before transformers looked at it.
    shape = {"hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 2, "num_attention_heads": 2}
    text = {"vocab_size": 49408, "projection_dim": 12, "eos_token_id": 2}
    vision = {"image_size": 32, "patch_size": 8, "projection_dim": 12}
    config = CLIPConfig(text_config=shape | text, vision_config=shape | vision, projection_dim=12)
    torch.manual_seed(0)
    folder = tmp_path_factory.mktemp("pickscore")
    CLIPModel(config).eval().save_pretrained(folder)
    return folder


@pytest.fixture(scope="module")
def clip_model(pickscore):
    from transformers import CLIPModel

    return CLIPModel.from_pretrained(pickscore).eval()


def features(output):
    """Transformers 5 wraps what transformers 4 returns."""
    return getattr(output, "pooler_output", output).numpy()


def test_images_have_transformers_own_vectors(pickscore, clip_model):
    described = encoders.describe("pickscore", str(pickscore))
    whole = (pickscore / "model.safetensors").read_bytes()
    assert (described.dim, described.weights_sha256) == (12, hashlib.sha256(whole).hexdigest())
    assert described.modalities == ("text", "image")
    assert "bicubic to 32 px" in described.preprocessing
    batch = torch.randint(0, 256, (3, 3, 32, 32), generator=torch.Generator().manual_seed(0)).byte()
    mean = torch.tensor((0.48145466, 0.4578275, 0.40821073)).view(3, 1, 1)
    std = torch.tensor((0.26862954, 0.26130258, 0.27577711)).view(3, 1, 1)
    with torch.inference_mode():
        theirs = features(clip_model.get_image_features(pixel_values=(batch / 255 - mean) / std))
    assert encoders.load(described).encode_images(batch) == pytest.approx(theirs, abs=1e-5)
