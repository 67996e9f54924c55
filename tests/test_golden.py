"""Golden values: what fits, rewards, commands, encoders and errors were before the code was reshaped.

`python tests/test_golden.py` writes tests/golden/*.json anew from the code as it stands. Numbers may differ by
1e-4 of their size, since CPUs round differently; hashes of fits are printed (`-s`), and with PAL_GOLDEN_EXACT=1
they must be equal, as on the machine that wrote them. Written by hand are inputs.json and, in errors.json, all
but `sentence`, which is only there to be read; a word `a|b` there stands for either.
"""

import hashlib
import io
import json
import os
import re
import shutil
import sys
import tempfile
import traceback
import warnings
from contextlib import chdir
from copy import deepcopy
from functools import cache
from itertools import zip_longest
from pathlib import Path
from unittest.mock import patch

import numpy as np
import pytest
import torch
import yaml
from PIL import Image, ImageDraw
from safetensors.torch import save_file
from typer.testing import CliRunner

# Everything of the project that is reached, in one place: adapt these lines where modules move.
from pal import Comparisons, Embeddings, FitConfig, HeadConfig, RewardModel, encoders, preset
from pal.cli.app import main as pal_main
from pal.encoders.images import read as read_picture
from pal.fitting.trainer import fit
from pipeline.__main__ import main as pipeline_main

compare, model_of = Comparisons.from_pairs, RewardModel.from_fit
HERE = Path(__file__).parent / "golden"
PARAMS = Path(__file__).parents[1] / "params.yaml"
OWN = {"datasets": ["own"], "own.source": "own.csv", "own.encoder": "hashed-words", "own.method": None}
INPUTS = json.loads((HERE / "inputs.json").read_text(encoding="utf-8"))
NUMBER = re.compile(r"[-+]?(?:\d+(?:\.\d+)?e-\d+|\d+\.\d+|\d{6,})")
PRINT = re.compile(r'(?<="model": ")[0-9a-f]{32}|(?<=fingerprint )[0-9a-f]+')


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


def texts_model(folder: Path) -> RewardModel:
    fitted_on_texts().save(folder)
    return RewardModel.load(folder)


@cache
def fitted_on_texts() -> RewardModel:
    """Twelve people who mostly like one of three colours each, fitted on hashed words."""
    colours = ("red", "blue", "green")
    pairs = [(u, n, colours[u % 3], colours[(u + 1 + n % 2) % 3]) for u in range(12) for n in range(10)]
    pairs = [(u, n, b, a) if (7 * u + 3 * n) % 5 < u % 4 else (u, n, a, b) for u, n, a, b in pairs]  # noise
    rows = [(u, n % 4, f"{a} thing {n % 5}", f"{b} thing {n % 5}") for u, n, a, b in pairs]
    prompts = [f"which one of {n}?" for n in range(4)]
    texts = sorted({text for row in rows for text in row[2:]})
    described = encoders.describe("hashed-words")
    encode = encoders.load(described).encode
    embeddings = Embeddings(torch.from_numpy(encode(prompts)), torch.from_numpy(encode(texts)))
    user, prompt, chosen, rejected = (
        torch.tensor([texts.index(x) if isinstance(x, str) else x for x in column])
        for column in zip(*rows, strict=True)
    )
    head, config = preset("ours", "B", head=INPUTS["served"][0], fit=INPUTS["served"][1])
    train = compare(user=user, prompt=prompt, chosen=chosen, rejected=rejected)
    fitted = fit(embeddings, train, n_users=12, head=head, config=config)
    about = {
        "encoder": "hashed-words",
        "weights_sha256": "",
        "files_sha256": described.files_sha256,
        "dim": described.dim,
    }
    return model_of(
        fitted,
        embeddings,
        user_ids=[f"user {number}" for number in range(12)],
        fit_config=config,
        encoder={"prompts": about, "responses": about},
    )


def serving(folder: Path) -> dict:
    """What a loaded model says in Python, of texts and of their embeddings."""
    model, encode = texts_model(folder / "model"), encoders.load(encoders.describe("hashed-words")).encode
    found = {}
    for kind, of in (("texts", list), ("embeddings", lambda texts: torch.from_numpy(encode(texts)))):
        prompts, one = of(["which one of 1?"] * 4), of(["which one of 1?"])[0]
        first = of(["red thing 1", "blue thing 2", "green thing 3", "a dog"])
        second = of(["blue thing 1", "green thing 2", "red thing 3", "a cat"])
        taste = model.adapt([(one, first[0], second[0]), (one, second[2], first[2], 0.8)])
        questions = list(zip(prompts, first, second, strict=True))
        found[kind] = {
            "average": model.score(prompts, first),
            "users": model.score(prompts, first, user=["user 0", "user 1", taste, None]),
            "rank": [(r.index, r.reward) for r in model.rank(one, first, user="user 2")],
            "adapted": taste.state,
            "posterior": taste.posterior.masses,
            "sum": (taste + taste).state,
            "probability": model.probability(prompts, first, second, user=taste),
            "ask": [(a.index, a.bits) for a in model.ask(questions)],
            "ask someone": [(a.index, a.bits) for a in model.ask(questions, taste, n=2)],
            "ask together": [(a.index, a.bits) for a in model.ask(questions, together=True, n=3)],
        }
    return found


def commands(folder: Path) -> dict:
    """What five command lines print and write; a model's fingerprint is left out, as its format may change."""
    texts_model(folder / "model")
    for name, rows in INPUTS["tables"].items():
        (folder / name).write_text("\n".join(rows))
    found = {}
    with chdir(folder):
        for line, written in INPUTS["commands"].items():
            code, out, err = run("pal", *line.split())
            assert code == 0, err
            out += Path(written).read_text() if written else ""
            found[line] = PRINT.sub("FINGERPRINT", out).splitlines()
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


def run(program: str, *words: str) -> tuple[int, str, str]:
    """A command in this process: its exit code, standard output and standard error."""
    main = {"pal": pal_main, "pipeline": pipeline_main}[program]
    with CliRunner().isolation() as (out, err, *_), patch.object(sys, "argv", [program, *words]):
        code = 0
        with warnings.catch_warnings():
            try:
                main()
            except SystemExit as ended:
                code = ended.code or 0
            except Exception:
                traceback.print_exc()
                code = 1
        sys.stdout.flush(), sys.stderr.flush()
        return code, out.getvalue().decode(), err.getvalue().decode()


@cache
def shipped() -> dict:
    return yaml.safe_load(PARAMS.read_text(encoding="utf-8"))


def told(case: dict, folder: Path, model: Path) -> tuple[int, str]:
    """Run an errors.json case in an empty folder; its exit code and what it says on standard error."""
    program, *words = case["command"].split()
    values = deepcopy(shipped())
    for key, value in {**OWN, **case.get("params", {})}.items():
        *path, last = key.split(".")
        section = values
        for part in path:
            section = section[part]
        section[last] = value
    shutil.copytree(model, folder / "model")
    (folder / "params.yaml").write_text(case.get("yaml") or json.dumps(values))  # JSON is YAML
    for name, text in case.get("files", {}).items():
        (folder / name).write_bytes(text.encode(case.get("encoding", "utf-8")))
    with chdir(folder), patch.dict(os.environ, {"PAL_STORE": str(folder / "store"), "NO_COLOR": "1"}):
        code, out, err = run(program, *words)
    assert out == "", out
    return code, err.replace(str(folder), ".")


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


MEASURES = {measure.__name__: measure for measure in (fits, serving, commands, vectors)}


@pytest.fixture
def one_thread():
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.mark.usefixtures("one_thread")
@pytest.mark.parametrize("name", MEASURES)
def test_values_are_what_they_were(name, tmp_path):
    found = plain(MEASURES[name](tmp_path))
    assert differences(found, golden(name)) == []
    for fitted in INPUTS["fits"] if name == "fits" else ():
        same = found[fitted]["sha256"] == golden(name)[fitted]["sha256"]
        print(f"{fitted}: the hash of all weights is {'equal' if same else 'ANOTHER'}")
        assert same or not os.environ.get("PAL_GOLDEN_EXACT"), fitted


@pytest.fixture(scope="module")
def saved(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("saved") / "model"
    texts_model(folder)
    return folder


def check(case: dict, code: int, said: str) -> None:
    assert code == case["code"], said
    assert "Traceback" not in said
    if code == 1:
        assert re.fullmatch(r"error: [^\n]+\n", said)
    missing = [word for word in case["words"] if not any(each in said for each in word.split("|"))]
    assert not missing, said


@pytest.mark.parametrize("name", golden("errors"))
def test_an_error_is_one_sentence_that_names_what_is_wrong(name, saved, tmp_path):
    case = golden("errors")[name]
    check(case, *told(case, tmp_path, saved))


def write() -> None:
    """Write all golden values anew; what is written by hand in errors.json stays."""
    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory() as home:
        found = {}
        for name, measure in MEASURES.items():
            (Path(home) / name).mkdir()
            found[name] = plain(measure(Path(home) / name))
        found["errors"] = golden("errors")
        for number, case in enumerate(found["errors"].values()):
            (Path(home) / str(number)).mkdir()
            code, said = told(case, Path(home) / str(number), Path(home) / "serving/model")
            case["sentence"] = said.strip().splitlines()[-1]
            try:
                check(case, code, said)
            except AssertionError as error:
                print(f"errors.json: {case['command']}: code {code}, {error}", file=sys.stderr)
    for name, values in found.items():
        # One line for a list of numbers.
        text = json.dumps(values, indent=1, ensure_ascii=False)
        text = re.sub(r"\[[^][{}\"]*\]", lambda match: " ".join(match[0].split()), text)
        (HERE / f"{name}.json").write_text(text + "\n", encoding="utf-8")


if __name__ == "__main__":
    write()
