"""Golden values: what small fits and encoders' vectors were before the code was reshaped.

`python tests/test_golden.py` writes tests/golden/*.json anew from the code as it stands, from inputs.json, which
is written by hand. Numbers may differ by 1e-4 of their size, since CPUs round differently, and rewards of fits
by a hundredth: Adam steps by its rate also where a gradient is nothing but rounding, and so moves weights that no
comparison depends on. Hashes of fits are printed (`-s`), and with PAL_GOLDEN_EXACT=1 they must be equal, as on
the machine that wrote them.
"""

import hashlib
import io
import json
import os
import re
import tempfile
from itertools import zip_longest
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image, ImageDraw
from safetensors.torch import save_file

from pal import Comparisons, Embeddings, FitConfig, HeadConfig, RewardModel, encoders
from pal.encoders.images import read as read_picture
from pal.fitting.trainer import fit

compare, model_of = Comparisons.from_pairs, RewardModel.from_fit
HERE = Path(__file__).parent / "golden"
INPUTS = json.loads((HERE / "inputs.json").read_text(encoding="utf-8"))
NUMBER = re.compile(r"[-+]?(?:\d+(?:\.\d+)?e-\d+|\d+\.\d+|\d{6,})")


def fits(_: Path) -> dict:
    """Losses, scores and weights of four small fits, and a hash over the bytes of every tensor."""
    with torch.random.fork_rng():
        torch.manual_seed(0)
        prompts, responses = torch.randn(20, 6), torch.randn(30, 6)
        prompt, first, other = torch.randint(20, (300,)), torch.randint(30, (300,)), torch.randint(29, (300,))
    user, second = torch.arange(300) % 24, (first + 1 + other) % 30
    along = (prompts[prompt] * (responses[first] - responses[second])).sum(1)
    likes = (along > 0) == (user % 2 == 0)
    label = torch.where(torch.arange(300) % 7 == 0, 0.8, 1.0)
    columns = {
        "user": user,
        "prompt": prompt,
        "chosen": torch.where(likes, first, second),
        "rejected": torch.where(likes, second, first),
        "label": label,
    }
    train, val = (
        compare(**{name: x[part] for name, x in columns.items()}) for part in (slice(240), slice(240, None))
    )
    embeddings, found = Embeddings(prompts, responses), {}
    for name, (head, how) in INPUTS["fits"].items():
        losses, config = [], FitConfig.from_options(epochs=6, **how)
        fitted = fit(
            embeddings,
            train,
            n_users=24,
            head=HeadConfig.from_options(latent=4, hidden=8, **head),
            config=config,
            val=val,
            seed=5,
            progress=lambda _, loss, into=losses: into.append(loss),
        )
        tensors = [*fitted.head.state_dict().values(), fitted.states]
        # In the order of the hashes themselves, so that names and shapes may change.
        hashes = sorted(
            hashlib.sha256(tensor.contiguous().numpy().tobytes()).hexdigest() for tensor in tensors
        )
        ids = [f"user {number}" for number in range(24)]
        model = model_of(fitted, embeddings, user_ids=ids, fit_config=config, encoder={})
        found[name] = {
            "sha256": hashlib.sha256("".join(hashes).encode()).hexdigest(),
            "losses": losses,
            "history": fitted.history,
            "train_loss": fitted.train_loss,
            "weights": fitted.states[:3],
            "prior": model.population.mean,
            "scores": model.score(prompts[:5], responses[:5], user="user 3"),
        }
    return found


def vectors(folder: Path) -> dict:
    """Of each encoder's vectors: the first four values, the length, and a sum with weights over all values."""
    import open_clip

    (folder / "open_clip_config.json").write_text(json.dumps(INPUTS["clip"]))
    with torch.random.fork_rng():
        torch.manual_seed(1)
        state = open_clip.CLIP(**INPUTS["clip"]["model_cfg"]).state_dict()
    save_file(state, folder / "open_clip_model.safetensors")
    tiny = encoders.load(encoders.describe("open_clip:hf-hub:someone/tiny", str(folder)))
    found = {
        f"{name} texts": encoders.load(encoders.describe(name)).encode(INPUTS["texts"])
        for name in ("all-MiniLM-L6-v2", "hashed-words")
    } | {"tiny CLIP texts": tiny.encode(INPUTS["texts"])}
    for name, encoder in (("classical", encoders.load(encoders.describe("classical"))), ("tiny CLIP", tiny)):
        shrunk = [encoder.shrink(read_picture(picture(number))) for number in range(10)]
        found[f"{name} pictures"] = encoder.encode_images(torch.stack(shrunk))
    return {
        name: [[*row[:4], np.linalg.norm(row), row @ np.cos(np.arange(len(row)))] for row in rows]
        for name, rows in found.items()
    }


def picture(number: int) -> bytes:
    """A PNG (the last: a JPEG) of stripes and a disc, each of another size."""
    size, colour = (40 + 13 * number, 90 - 5 * number), (20 * number, 120, 255 - 25 * number)
    image, out = Image.new("RGB", size, colour), io.BytesIO()
    draw = ImageDraw.Draw(image)
    for at in range(0, image.width, 4 + number):
        draw.line([(at, 0), (image.width - at, image.height)], fill=(at % 256, 30 * number % 256, 90))
    draw.ellipse([5, 5, 30, 25], fill=(250, 240 - 20 * number, 10))
    image.save(out, "JPEG" if number == 9 else "PNG")
    return out.getvalue()


def plain(value):
    """As JSON has it, to eight digits."""
    if isinstance(value, dict):
        return {name: plain(each) for name, each in value.items()}
    if isinstance(value, torch.Tensor | np.ndarray):
        return plain(value.tolist())
    if isinstance(value, list | tuple):
        return [plain(each) for each in value]
    return float(f"{value:.8g}") if isinstance(value, float | np.floating) else value


def differences(found, golden) -> list[str]:
    """Lines of JSON that differ by more than rounding; numbers within texts are numbers too."""
    rows = [json.dumps(value, indent=0, ensure_ascii=False).splitlines() for value in (found, golden)]
    return [f"{new} was {old}" for new, old in zip_longest(*rows, fillvalue="") if not alike(new, old)]


def alike(new: str, old: str) -> bool:
    numbers = [[float(number) for number in NUMBER.findall(text)] for text in (new, old)]
    if '"sha256"' in old or new == old:
        return True
    return NUMBER.sub("#", new) == NUMBER.sub("#", old) and np.allclose(*numbers, rtol=1e-4, atol=1e-5)


def golden(name: str):
    return json.loads((HERE / f"{name}.json").read_text(encoding="utf-8"))


MEASURES = {"fits": fits, "vectors": vectors}


@pytest.fixture
def one_thread():
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.mark.usefixtures("one_thread")
@pytest.mark.parametrize("name", MEASURES)
def test_values_are_what_they_were(name, tmp_path):
    found, before = plain(MEASURES[name](tmp_path)), golden(name)
    fitted_names = INPUTS["fits"] if name == "fits" else ()
    for fitted in fitted_names:
        rewards = (values[fitted].pop("scores") for values in (found, before))
        np.testing.assert_allclose(*rewards, rtol=1e-2, err_msg=fitted)
    assert differences(found, before) == []
    for fitted in fitted_names:
        same = found[fitted]["sha256"] == before[fitted]["sha256"]
        print(f"{fitted}: the hash of all weights is {'equal' if same else 'ANOTHER'}")
        assert same or not os.environ.get("PAL_GOLDEN_EXACT"), fitted


def write() -> None:
    """Write all golden values anew."""
    torch.set_num_threads(1)
    for name, measure in MEASURES.items():
        with tempfile.TemporaryDirectory() as folder:
            # One line for a list of numbers.
            text = json.dumps(plain(measure(Path(folder))), indent=1, ensure_ascii=False)
        text = re.sub(r"\[[^][{}\"]*\]", lambda match: " ".join(match[0].split()), text)
        (HERE / f"{name}.json").write_text(text + "\n", encoding="utf-8")


if __name__ == "__main__":
    write()
