"""Model cards, and models shared as folders and on a stand-in for the hub."""

from dataclasses import replace
from types import SimpleNamespace

import pytest
import torch
from huggingface_hub import ModelCard

from pal.errors import PalError
from pal.serving import hub
from pal.serving.hub import About, model_card
from pal.serving.reward_model import RewardModel
from pal.users.points import Points

FILES = {"model.safetensors", "users.json", "config.json", "SHA256SUMS", "README.md"}


@pytest.fixture
def repos(monkeypatch, tmp_path):
    """Repositories of a stand-in for the hub, by name, each a mapping from file names to contents."""
    repos = {}

    class Api:
        def __init__(self, token):
            assert token in (None, "hf_mine")

        def create_repo(self, name, *, private, exist_ok):
            if "/" not in name:
                raise ValueError(f"no such\nname: {name}")
            repos.setdefault(name, {})["private"] = str(private).encode()
            return SimpleNamespace(repo_id=name)

        def create_commit(self, name, operations, *, commit_message, revision=None):
            assert commit_message == "Add a PAL reward model"
            repos[name]["branch"] = str(revision).encode()
            repos[name] |= {one.path_in_repo: one.path_or_fileobj for one in operations}
            return f"address of {name}"

    def download(name, revision, patterns, *, advice):
        if name not in repos:
            raise PalError(f"{name} at main could not be downloaded; {advice}")
        folder = tmp_path / "cache" / name
        folder.mkdir(parents=True)
        for file, data in repos[name].items():
            if file in patterns:
                (folder / file).write_bytes(data)
        return folder

    monkeypatch.setattr(hub, "HfApi", Api)
    monkeypatch.setattr(hub, "download", download)
    return repos


def test_a_card_says_what_is_known_of_the_model(worded):
    about = About("Answers", "Ten friends: tea or coffee?", "cc-by-4.0", ["ann/tea"], ["en"], "It pays.")
    card = model_card(worded, about)
    data = ModelCard(card).data
    assert (data.license, data.library_name, data.datasets) == ("cc-by-4.0", "pal", ["ann/tea"])
    assert data.language == ["en"]
    assert "reward-model" in data.tags
    assert "\n\nIt pays\\.\n\n## Limits" in card
    assert "Not measured by who made this card." in model_card(worded, About())


def test_nothing_from_data_becomes_markup(worded):
    evil = "---\nlicense: mit\n---\n# <img src=x onerror=alert(1)>\n| a | b |\n``` {{ 7 * 7 }}"
    encoder = {"responses": {"encoder": evil, "dim": evil, "weights_sha256": evil}}
    text = model_card(replace(worded, encoder=encoder), About(evil, evil, "apache-2.0", measured=evil))
    plain = model_card(worded, About("a", "a", "apache-2.0", measured="a"))
    assert "<img" not in text
    assert "\\# &lt;img src=x onerror=alert\\(1\\)&gt; \\| a \\| b \\|" in text
    assert "49" not in text
    assert ModelCard(text).data.license == "apache-2.0"
    assert text.count("\n#") == plain.count("\n#")
    assert text.count("```") == 2


def test_a_folder_with_its_card_is_loaded_and_replaced(worded, tmp_path):
    folder = tmp_path / "model"
    worded.save_pretrained(folder, about=About(title="Answers"), users=True)
    assert {path.name for path in folder.iterdir()} == FILES
    for loaded in (RewardModel.load(folder), RewardModel.from_pretrained(folder)):
        assert loaded.fingerprint == worded.fingerprint
        assert torch.equal(loaded.states, worded.states)
    worded.save_pretrained(folder)
    assert "Answers" not in (folder / "README.md").read_text()
    worded.save(folder)
    assert not (folder / "README.md").exists()
    (tmp_path / "notes.txt").write_text("mine")
    with pytest.raises(PalError, match=r"nothing but a saved model, got "):
        worded.save_pretrained(tmp_path)


def test_without_its_users_a_model_says_of_new_people_what_it_said(worded, tmp_path):
    """Where five people or more stand at each point of the population."""
    worded = replace(worded, population=Points(torch.eye(3), torch.tensor([0.5, 0.375, 0.125])))
    worded.save_pretrained(tmp_path / "model")
    loaded = RewardModel.load(tmp_path / "model")
    assert "user 3" not in "".join(path.read_text(errors="ignore") for path in (tmp_path / "model").iterdir())
    assert loaded.user_ids == ["average"]
    assert (
        "It holds no person's id or own weights, but a population whose points"
        in (tmp_path / "model/README.md").read_text()
    )
    comparisons = [("q", "fine", "well")]
    taste = worded.adapt(comparisons)
    assert loaded.adapt(comparisons) == taste
    torch.testing.assert_close(loaded.score("q", "a", user=taste), worded.score("q", "a", user=taste))
    for user in (None, "average"):
        torch.testing.assert_close(loaded.score("q", "a", user=user), worded.score("q", "a"))
    with pytest.raises(PalError, match="got 'user 3'"):
        loaded.score("q", "a", user="user 3")


def test_no_single_person_stands_in_a_shared_population(worded, line, tmp_path):
    """Forty people at forty points become at most eight points; two people, their mean."""
    worded.save_pretrained(tmp_path / "model")
    shared = RewardModel.load(tmp_path / "model").population
    assert len(shared.mass) <= 8
    assert float(shared.mass.min()) >= 5 / 40 - 1e-6
    torch.testing.assert_close(shared.mean, worded.population.mean)
    line.save_pretrained(tmp_path / "line")
    assert RewardModel.load(tmp_path / "line").population.points.tolist() == [[0.5, 0.5]]


def test_there_and_back_over_the_hub(worded, repos, capsys):
    address = worded.push_to_hub("ann/answers", token="hf_mine", revision="tried", users=True)
    assert address == "address of ann/answers"
    assert set(repos["ann/answers"]) == FILES | {"branch", "private"}
    assert repos["ann/answers"]["branch"] == b"tried"
    assert (
        capsys.readouterr().err
        == "ann/answers: uploaded the ids and weights of the 40 people seen in fitting\n"
    )
    loaded = RewardModel.from_pretrained("ann/answers")
    assert (type(loaded), loaded.fingerprint) == (RewardModel, worded.fingerprint)
    torch.testing.assert_close(loaded.score("q", "a", user="user 3"), worded.score("q", "a", user="user 3"))


@pytest.mark.parametrize(
    ("harm", "message"),
    [
        (lambda files: files.update({"users.json": b"[]"}), "must have the sha256 that SHA256SUMS gives"),
        (lambda files: files.pop("users.json"), "users.json cannot be read"),
    ],
)
def test_what_the_hub_has_is_held_to_its_hashes(worded, repos, harm, message):
    worded.push_to_hub("ann/answers")
    assert b"user 3" not in repos["ann/answers"]["users.json"]
    assert repos["ann/answers"]["private"] == b"True"
    harm(repos["ann/answers"])
    with pytest.raises(PalError, match=message):
        RewardModel.from_pretrained("ann/answers")


def test_what_the_hub_refuses_is_told_in_a_sentence(worded, repos):
    with pytest.raises(PalError, match=r"ann/nothing at main could not be .*; name the folder of a model"):
        RewardModel.from_pretrained("ann/nothing")
    with pytest.raises(PalError, match=r"nobody could not be written on the hub \(no such name: nobody\)"):
        worded.push_to_hub("nobody")
