"""CLIP by open_clip: the vectors that open_clip makes, from local safetensors or openly untrained."""

import dataclasses
import hashlib
import io
import json
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest
import torch
from PIL import Image
from safetensors.torch import save_file

from pal import encoders
from pal.encoders import ImageEncoder, TextEncoder, clip_configs, pictures, weights
from pal.errors import PalError

from .odd_pictures import drawn, saved

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
    """Its own preprocessing of Pillow's pictures, its own encoder: normalised, unlike ours."""
    model, _, preprocess = reference
    batch = torch.stack([preprocess(Image.open(io.BytesIO(jpeg))) for jpeg in jpegs])
    with torch.inference_mode():
        return model.eval().encode_image(batch).numpy()


def by_us(encoder, jpegs):
    return encoder.encode_images(torch.stack([encoder.shrink(pictures.read(jpeg)) for jpeg in jpegs]))


def cosines(x, y):
    return (x * y).sum(1) / np.linalg.norm(x, axis=1) / np.linalg.norm(y, axis=1)


@pytest.fixture(scope="module")
def reference():
    """ViT-B-32 as open_clip builds it; its random weights of seed 0 are those of ours."""
    import open_clip

    torch.manual_seed(0)
    return open_clip.create_model_and_transforms("ViT-B-32")


def test_drawn_pictures_have_open_clips_vectors(untrained, reference):
    sizes = [(512, 512), (640, 480), (300, 400), (100, 100)]
    jpegs = [saved(drawn(size, seed), "JPEG", quality=90) for seed, size in enumerate(sizes)]
    assert cosines(by_us(untrained, jpegs), by_open_clip(reference, jpegs)).min() >= 0.9999


@pytest.mark.skipif(not PHOTOS.exists(), reason="no photographs: ../shared/data/dog_morphs is not there")
def test_photographs_have_open_clips_vectors(untrained, reference):
    jpegs = pq.read_table(PHOTOS, columns=["jpg"])["jpg"].to_pylist()[:4]
    ours, theirs = by_us(untrained, jpegs), by_open_clip(reference, jpegs)
    assert cosines(ours, theirs).min() >= 0.9999
    assert np.abs(ours - theirs).max() <= 0.02 * np.abs(theirs).max()


def test_texts_have_open_clips_vectors(untrained, reference):
    """Though cut behind the longest text of the batch, where open_clip pads to 77."""
    import open_clip

    with torch.inference_mode():
        theirs = reference[0].eval().encode_text(open_clip.get_tokenizer("ViT-B-32")(TEXTS)).numpy()
    assert np.allclose(untrained.encode(TEXTS), theirs, atol=1e-5)
    assert np.allclose(untrained.encode(TEXTS[:2]), theirs[:2], atol=1e-5)


def test_lengths_count_start_and_end_and_stop_at_77(untrained):
    assert untrained.lengths(["a dog!", "", "!!!", "x " * 200]) == [5, 2, 3, 77]
    assert untrained.lengths([]) == []


def test_a_lone_surrogate_is_read_as_a_question_mark(untrained):
    assert np.array_equal(untrained.encode(["a \ud800"]), untrained.encode(["a ?"]))


def test_it_reads_both_and_says_that_it_knows_nothing():
    found = encoders.describe(UNTRAINED, "hub")
    assert (found.dim, found.modalities, found.weights_sha256, found.folder) == (
        512,
        ("text", "image"),
        "",
        None,
    )
    assert found.preprocessing.startswith("UNTRAINED weights of seed 0")


@pytest.mark.parametrize(("name", "dim"), [("vit-h-14", 1024), ("vit-l-14", 768), ("ViT-B-16", 512)])
def test_an_architectures_width_is_that_of_its_configuration(name, dim):
    assert encoders.describe(f"untrained-{name}").dim == dim


def test_describing_imports_neither_torch_nor_open_clip():
    code = f"from pal import encoders; encoders.describe('{UNTRAINED}'); import sys; print(*sys.modules)"
    modules = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True
    ).stdout.split()
    assert not {"torch", "open_clip", "numpy"} & set(modules)


def test_a_folders_weights_are_those_that_run(tiny):
    import open_clip

    found = encoders.describe(TINY, str(tiny))
    weights = (tiny / "open_clip_model.safetensors").read_bytes()
    assert (found.dim, found.weights_sha256) == (12, hashlib.sha256(weights).hexdigest())
    assert "bilinear to 32 px" in found.preprocessing
    encoder = encoders.load(found)
    assert isinstance(encoder, ImageEncoder)
    assert isinstance(encoder, TextEncoder)
    theirs = open_clip.create_model_and_transforms(f"local-dir:{tiny}")
    jpegs = [saved(drawn(), "JPEG"), saved(drawn(seed=1), "JPEG")]
    assert by_us(encoder, jpegs) == pytest.approx(by_open_clip(theirs, jpegs), abs=0.02)


def test_another_configuration_is_another_encoder(tiny, copy):
    config = {**CONFIG, "preprocess_cfg": {}}
    (copy / "open_clip_config.json").write_text(json.dumps(config))
    before, after = (encoders.describe(TINY, str(folder)) for folder in (tiny, copy))
    assert before.weights_sha256 == after.weights_sha256
    assert before.files_sha256 != after.files_sha256


def test_vectors_are_not_normalised_and_come_as_float32(tiny):
    encoder = encoders.load(encoders.describe(TINY, str(tiny)))
    found = encoder.encode_images(torch.zeros(2, 3, 32, 32, dtype=torch.uint8))
    assert (found.shape, found.dtype) == ((2, 12), np.float32)
    assert abs(np.linalg.norm(found[0]) - 1) > 0.01


def test_bfloat16_is_near(tiny):
    half = encoders.load(encoders.describe(TINY, str(tiny), precision="bfloat16"))
    full = encoders.load(encoders.describe(TINY, str(tiny)))
    batch = torch.randint(0, 256, (4, 3, 32, 32), generator=torch.Generator().manual_seed(0)).byte()
    assert cosines(half.encode_images(batch), full.encode_images(batch)).min() >= 0.999
    assert cosines(half.encode(TEXTS), full.encode(TEXTS)).min() >= 0.999
    assert half.encode_images(batch).dtype == np.float32


def test_compile_compiles_both_towers(tiny, monkeypatch):
    compiled = []
    monkeypatch.setattr(torch, "compile", lambda part, **options: compiled.append(part) or part)
    encoder = encoders.load(encoders.describe(TINY, str(tiny), engine="compile"))
    assert len(compiled) == 2
    assert encoder.encode(["a"]).shape == (1, 12)


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (
            {"engine": "onnx"},
            "engine must be one of torch, compile for .*, got 'onnx'; ONNX Runtime runs text",
        ),
        ({"precision": "int8"}, "precision must be one of float32, bfloat16, float16 for .*, got 'int8'"),
    ],
)
def test_what_it_does_not_run_is_one_sentence(options, words):
    with pytest.raises(PalError, match=words):
        encoders.describe(UNTRAINED, **options)


def test_float16_is_refused_on_a_cpu():
    with pytest.raises(
        PalError, match=r"precision must be float32 or bfloat16 for .* on a CPU, got 'float16'"
    ):
        encoders.load(encoders.describe(UNTRAINED, precision="float16"))


def test_a_trained_name_never_runs_without_weights_nor_an_untrained_one_with(tiny):
    trained, openly = encoders.describe(TINY, str(tiny)), encoders.describe(UNTRAINED)
    for wrong in (dataclasses.replace(trained, folder=None), dataclasses.replace(openly, folder=tiny)):
        with pytest.raises(
            PalError, match="must have weights exactly where its name does not say untrained, got"
        ):
            encoders.load(wrong)


@pytest.mark.parametrize("name", [TINY, "open_clip:ViT-B-32/openai", "clip-vit-h-14", "pickscore"])
def test_a_pickle_is_never_opened(copy, name):
    (copy / "open_clip_model.safetensors").rename(copy / "open_clip_pytorch_model.bin")
    (copy / "config.json").write_text('{"projection_dim": 12, "vision_config": {}}')
    with pytest.raises(PalError, match=r"folder with .*model\.safetensors.* a pickle is not opened"):
        encoders.describe(name, str(copy))


@pytest.mark.parametrize("name", [TINY, "open_clip:ViT-B-32/openai", "clip-vit-h-14", "pickscore"])
def test_no_package_carries_one(name):
    with pytest.raises(
        PalError, match=r"weights must be hub or a folder for .*, got 'package': none carries it"
    ):
        encoders.describe(name)


def test_other_weights_for_clip_h_name_both_hashes(copy):
    got = hashlib.sha256((copy / "open_clip_model.safetensors").read_bytes()).hexdigest()
    with pytest.raises(PalError, match=f"must have the published sha256 {CLIP_H}, got {got}; get them again"):
        encoders.describe("clip-vit-h-14", str(copy))


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda w: w.pop("ln_final.weight"), "must hold the weights of .*ln_final.weight"),
        (
            lambda w: w.update({"text_projection": torch.zeros(3, 3)}),
            "must hold the weights of .*size mismatch",
        ),
        (
            lambda w: w["ln_final.bias"].fill_(float("nan")),
            "the weights of .* must be finite, got NaN or infinity",
        ),
    ],
)
def test_weights_that_do_not_fit_are_one_sentence(copy, change, words):
    from safetensors.torch import load_file

    path = copy / "open_clip_model.safetensors"
    weights = load_file(path)
    change(weights)
    save_file(weights, path)
    with pytest.raises(PalError, match=words):
        encoders.load(encoders.describe(TINY, str(copy)))


def test_a_damaged_weights_file_is_one_sentence(copy):
    (copy / "open_clip_model.safetensors").write_bytes(b"\xff" * 100)
    with pytest.raises(PalError, match="must hold the weights of"):
        encoders.load(encoders.describe(TINY, str(copy)))


@pytest.mark.parametrize(
    ("name", "asked"),
    [
        (
            "clip-vit-h-14",
            ("laion/CLIP-ViT-H-14-laion2B-s32B-b79K", "1c2b8495b28150b8a4922ee1c8edee224c284c0c"),
        ),
        ("pickscore", ("yuvalkirstain/PickScore_v1", "a4e4367c6dfa7288a00c550414478f865b875800")),
        ("open_clip:ViT-B-32/laion2b_s34b_b79k", ("laion/CLIP-ViT-B-32-laion2B-s34B-b79K", None)),
        (TINY, ("someone/tiny", None)),
    ],
)
def test_the_hub_is_asked_for_safetensors_alone(monkeypatch, name, asked):
    def download(repo, revision, wanted, *, advice):
        assert (repo, revision) == asked
        assert all(pattern.endswith((".json", ".safetensors")) for pattern in wanted)
        raise PalError("asked")

    monkeypatch.setattr(weights.hub_files, "download", download)
    with pytest.raises(PalError, match="asked"):
        encoders.describe(name, "hub")


@pytest.mark.parametrize(
    ("name", "words"),
    [
        (
            "untrained-vit-b-33",
            r"must be open_clip:ARCHITECTURE/TAG, .* \(ARCHITECTURE as in .*ViT-B-32.*\), got",
        ),
        ("untrained-vit-b-32/openai", "must be open_clip:ARCHITECTURE/TAG"),
        ("open_clip:ViT-B-32", "must be open_clip:ARCHITECTURE/TAG"),
        ("open_clip:ViT-B-32/mine", r"the weights of ViT-B-32 must be one of openai, .*, got 'mine'"),
        ("untrained-roberta-vit-b-32", "must have a text tower of open_clip's own, got 'roberta-base'"),
    ],
)
def test_a_name_that_open_clip_does_not_have_is_one_sentence(name, words):
    with pytest.raises(PalError, match=words):
        encoders.describe(name, "hub")


def test_a_model_with_another_tokeniser_reads_pictures_alone():
    found = encoders.describe("untrained-vit-b-16-siglip")
    assert found.modalities == ("image",)


def test_a_tags_own_preprocessing_and_activation_are_taken(tmp_path):
    """OpenAI's weights ask for QuickGELU; SigLIP's for squashed pictures, mean and std 0.5."""
    assert clip_configs.config_of("open_clip:ViT-B-32/openai", tmp_path).model["quick_gelu"] is True
    assert "quick_gelu" not in clip_configs.config_of("open_clip:ViT-B-32/laion2b_s34b_b79k", tmp_path).model
    siglip = clip_configs.config_of("open_clip:ViT-B-16-SigLIP/webli", tmp_path).preprocess
    assert (siglip["mean"], siglip["resize_mode"]) == ((0.5, 0.5, 0.5), "squash")


@pytest.mark.parametrize(
    ("config", "words"),
    [
        ({"model_cfg": {"embed_dim": 4}}, "must hold embed_dim, vision_cfg and text_cfg"),
        ({"model_cfg": None}, "must hold embed_dim"),
        ([], "must be a JSON object, got list"),
        (
            {**CONFIG, "preprocess_cfg": {"resize_mode": "longest"}},
            r"cropped \(shortest\) or squashed, got .*'longest'",
        ),
    ],
)
def test_a_wrong_configuration_is_one_sentence(copy, config, words):
    (copy / "open_clip_config.json").write_text(json.dumps(config))
    with pytest.raises(PalError, match=words):
        encoders.describe(TINY, str(copy))


def test_a_folder_without_the_configuration_it_needs_is_one_sentence(copy):
    (copy / "open_clip_config.json").unlink()
    with pytest.raises(PalError, match=r"must lead to a folder with open_clip_config\.json of .*, got"):
        encoders.describe(TINY, str(copy))
