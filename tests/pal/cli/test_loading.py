"""What cells are: paths of pictures, texts and vectors."""

import json
from pathlib import Path

import pytest
import torch
from PIL import Image

from pal.config import FitConfig, HeadConfig
from pal.encoders.model_free import CLASSICAL_DIM as DIM
from pal.models.base import make_model
from pal.serving.reward_model import RewardModel
from pal.users.points import Points


@pytest.fixture
def pictures(tmp_path) -> tuple[RewardModel, Path]:
    """Model A on pictures, of random numbers."""
    with torch.random.fork_rng():
        torch.manual_seed(1)
        head = make_model(HeadConfig(model="A", K=2, latent=3), prompt_dim=0, response_dim=DIM)
    about = {"encoder": "classical", "weights_sha256": "", "files_sha256": "", "dim": DIM}
    weights = torch.tensor([[0.7, 0.3], [0.2, 0.8]])
    encoder = {"prompts": None, "responses": about}
    model = RewardModel(head, ["a", "b"], weights, Points.from_states(weights), FitConfig(), encoder, 0, DIM)
    model.save(tmp_path / "pictures")
    return model, tmp_path / "pictures"


def test_paths_of_images_are_relative_to_the_table(pal, pictures, rows):
    model, folder = pictures
    Path("there").mkdir()
    for colour in ("red", "teal"):
        Image.new("RGB", (8, 8), colour).save(f"there/{colour}.png")
    Path("there/rows.csv").write_text("response\nred.png\nteal.png\n")
    rewards = [row["reward"] for row in rows(pal("score", folder, "there/rows.csv", "--user", "a"))]
    expected = model.score(None, [Path("there/red.png"), Path("there/teal.png")], user="a")
    assert rewards == pytest.approx(expected.tolist(), abs=1e-5)


def test_a_picture_that_cannot_be_read_is_named_by_its_row(pal, pictures):
    _, folder = pictures
    Image.new("RGB", (8, 8), "red").save("red.png")
    Path("cut.png").write_bytes(Path("red.png").read_bytes()[:40])
    for name, why in (("cut.png", "cannot be read as a picture"), ("no.png", "No such file")):
        Path("rows.csv").write_text(f"response\nred.png\n{name}\n")
        said = pal("score", folder, "rows.csv", code=1)
        assert "response in row 2 (line 3) of rows.csv cannot be read as a picture" in said
        assert why in said
        given = json.dumps({"user_id": "x", "chosen": "red.png", "rejected": name}) + "\n"
        said = pal("adapt", folder, "-", stdin=given, code=1)
        assert "rejected in row 1 of standard input cannot be read as a picture" in said
