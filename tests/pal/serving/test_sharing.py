"""Models as folders with a card and on a stand-in for the hub, by huggingface_hub's own client."""

import json
import pickle

import huggingface_hub
import pytest
import torch
from huggingface_hub import ModelCard

from pal.errors import PalError
from pal.serving import storage
from pal.serving.card import About
from pal.serving.model import RewardModel
from pal.serving.sharing import without_users

from .hub import COMMIT, serve

FILES = {"model.safetensors", "users.json", "config.json", "README.md"}


@pytest.fixture
def hub(monkeypatch, tmp_path):
    with serve() as hub:
        for module in (huggingface_hub.constants, huggingface_hub.hf_api, huggingface_hub.file_download):
            for name in ("ENDPOINT", "HF_ENDPOINT"):
                if hasattr(module, name):
                    monkeypatch.setattr(module, name, hub.address)
        monkeypatch.setattr(
            huggingface_hub.constants,
            "HUGGINGFACE_CO_URL_TEMPLATE",
            hub.address + "/{repo_id}/resolve/{revision}/{filename}",
        )
        monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", False)
        hub.cache = tmp_path / "cache"
        yield hub


def test_a_folder_with_its_card_is_loaded_and_replaced(worded, tmp_path):
    folder = tmp_path / "model"
    worded.save_pretrained(folder, about=About(title="Answers"))
    assert {path.name for path in folder.iterdir()} == FILES
    assert ModelCard.load(folder / "README.md").data.library_name == "pal"
    for found in (RewardModel.load(folder), RewardModel.from_pretrained(folder)):
        assert found.fingerprint == worded.fingerprint
        assert torch.equal(found.states, worded.states)
    worded.save_pretrained(folder, users=False)
    assert "Answers" not in (folder / "README.md").read_text()
    worded.save(folder)
    assert not (folder / "README.md").exists()


def test_where_something_else_stands_nothing_is_written(worded, tmp_path):
    (tmp_path / "notes.txt").write_text("mine")
    with pytest.raises(PalError, match=r"nothing but a saved model, got 'notes.txt' too"):
        worded.save_pretrained(tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["notes.txt"]


def test_without_its_users_a_model_says_of_new_people_what_it_said(worded, tmp_path):
    worded.save_pretrained(tmp_path / "model", users=False)
    found = RewardModel.load(tmp_path / "model")
    assert "user 3" not in "".join(path.read_text(errors="ignore") for path in (tmp_path / "model").iterdir())
    assert found.user_ids == ["average"]
    comparisons = [("q", "fine", "well")]
    taste = worded.adapt(comparisons)
    assert found.adapt(comparisons) == taste
    torch.testing.assert_close(found.score("q", "a", user=taste), worded.score("q", "a", user=taste))
    for user in (None, "average"):
        torch.testing.assert_close(found.score("q", "a", user=user), worded.score("q", "a"))
    with pytest.raises(PalError, match="got 'user 3'"):
        found.score("q", "a", user="user 3")


def test_there_and_back_over_the_hub(worded, hub):
    address = worded.push_to_hub("ann/answers", about=About(title="Answers"), token="hf_mine", private=True)
    assert address == f"{hub.address}/ann/answers/commit/{COMMIT}"
    assert hub.repos["ann/answers"].keys() == FILES
    assert (hub.private["ann/answers"], hub.tokens) == (True, {"Bearer hf_mine"})
    assert json.loads(hub.repos["ann/answers"]["users.json"]) == ["average"]
    assert b"# Answers" in hub.repos["ann/answers"]["README.md"]
    hub.repos["ann/answers"]["evil.bin"] = b"never asked for"
    found = RewardModel.from_pretrained("ann/answers", cache_dir=hub.cache)
    assert (type(found), found.fingerprint) == (RewardModel, worded.fingerprint)
    torch.testing.assert_close(found.score("q", "a"), worded.score("q", "a"))
    assert not [one for one in hub.asked if "evil" in one]
    again = RewardModel.from_pretrained("ann/answers", cache_dir=hub.cache, local_files_only=True)
    assert again.fingerprint == worded.fingerprint


def test_people_go_along_if_told_so(worded, hub):
    worded.push_to_hub("ann/answers", users=True)
    found = RewardModel.from_pretrained("ann/answers", cache_dir=hub.cache)
    torch.testing.assert_close(found.score("q", "a", user="user 3"), worded.score("q", "a", user="user 3"))


def damaged(files):
    files["model.safetensors"] = files["model.safetensors"][:-1] + b"\x01"


def pickled(files):
    files["model.safetensors"] = pickle.dumps({"weights": [1.0]})


def newer(files):
    files["config.json"] = files["config.json"].replace(b'"version": 1', b'"version": 2')


def foreign(files):
    files["config.json"] = b'{"architectures": ["BertModel"]}'


@pytest.mark.parametrize(
    ("harm", "message"),
    [
        (damaged, "must have the sha256 that config.json gives"),
        (pickled, "a pickle can run code and is never loaded"),
        (newer, "version of at most 1, got 2"),
        (foreign, "must be of the format 'pal-reward-model'"),
        (lambda files: files.pop("users.json"), "users.json cannot be read"),
        (lambda files: files.pop("config.json"), "config.json cannot be read"),
        (lambda files: files.update({"config.json": b"[]"}), "cannot be read"),
        (lambda files: files.update({"config.json": b"[" * 100_000}), "cannot be read"),
        (lambda files: files.update({"config.json": b"\xff"}), "cannot be read"),
    ],
)
def test_what_the_hub_has_is_held_to_its_hashes(worded, hub, harm, message):
    worded.push_to_hub("ann/answers")
    harm(hub.repos["ann/answers"])
    with pytest.raises(PalError, match=message) as caught:
        RewardModel.from_pretrained("ann/answers", cache_dir=hub.cache)
    assert "\n" not in str(caught.value)


def test_a_config_cannot_name_arguments(worded, hub):
    worded.push_to_hub("ann/answers")
    files = hub.repos["ann/answers"]
    changed = json.loads(files["config.json"]) | {"model": 1, "about": 2, "kind": 3, "how": 4}
    changed["sha256"]["config.json"] = storage.seal(changed)
    files["config.json"] = json.dumps(changed).encode()
    found = RewardModel.from_pretrained("ann/answers", cache_dir=hub.cache)
    assert found.fingerprint == worded.fingerprint


@pytest.mark.parametrize("name", ["ann/nothing", "no name at all", "a/b/c"])
def test_what_is_not_there_is_told_in_a_sentence(worded, hub, name):
    with pytest.raises(PalError, match="must be a folder or a PAL model on the hub") as caught:
        RewardModel.from_pretrained(name, cache_dir=hub.cache)
    assert "\n" not in str(caught.value)


def test_a_hub_that_refuses_is_told_in_a_sentence(worded, hub):
    hub.refuses = True
    with pytest.raises(PalError, match=r"ann/answers could not be written on the hub .*token may write"):
        worded.push_to_hub("ann/answers")
    with pytest.raises(PalError, match="must be a folder or a PAL model on the hub"):
        RewardModel.from_pretrained("ann/answers", cache_dir=hub.cache)
    with pytest.raises(PalError, match="could not be written on the hub"):
        worded.push_to_hub("no name at all")


def test_the_mean_of_all_stands_for_all(worded):
    torch.testing.assert_close(without_users(worded).state[0], worded.population.mean)
