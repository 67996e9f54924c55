"""The hub's files in the store: the bytes of one commit, or one sentence, whatever the hub does."""

import errno
import os
import shutil
import subprocess
import sys
from contextlib import closing
from pathlib import Path
from random import Random
from socket import socket
from types import SimpleNamespace

import pytest

from faults import hub as campaign
from pal import calls
from pal.fetching import Patience
from pipeline import paths
from pipeline.datasets import drawn_scenes
from pipeline.datasets.base import Remote
from pipeline.errors import PipelineError
from pipeline.stages import hub as access
from pipeline.storage import raw
from tests.hub_server import as_endpoint, cut_at, first, instead, serve, status

ROOT = Path(__file__).parents[3]
BIG = bytes(range(256)) * 100  # 25,600 bytes, in Git LFS


@pytest.fixture
def hub():
    with serve() as hub, as_endpoint(hub.address):
        hub.repo("org/name").commit({"data/big.bin": BIG, "small.txt": b"small"})
        yield hub


@pytest.fixture
def heard():
    """What is said, and for how long is waited, while nothing really waits."""
    heard = SimpleNamespace(lines=[], waits=[])
    heard.patience = Patience(timeout=2.0, sleep=heard.waits.append, say=heard.lines.append)
    return heard


def remote(*files, **how):
    return Remote("org/name", "main", list(files) or ["data/big.bin"], **how)


def fetch(heard, *files, **how):
    return access.from_hub(remote(*files, **how), "persona", heard.patience)[1]


def fails(heard, *files, **how):
    with pytest.raises(PipelineError) as caught:
        fetch(heard, *files, **how)
    assert "\n" not in str(caught.value)
    return str(caught.value)


def test_every_case_of_the_campaign_ends_as_promised():
    (tally,) = campaign.run(sizes=(1_000,), kills=0, timeout=0.2)
    assert tally.failures == []
    assert tally.cases >= 40


def test_a_killed_download_is_gone_on_with():
    (_, kills) = campaign.run(sizes=(), kills=1, killed_size=100_000)
    assert (kills.cases, kills.failures) == (1, [])


def test_a_broken_run_resumes_in_the_next_where_it_stopped(project, hub, heard):
    hub.fault = lambda handler, asked: (
        asked.what == "file"
        and (status(404)(handler, asked) if asked.number else cut_at(10_000)(handler, asked))
    )
    fails(heard)
    hub.forget()
    (file,) = fetch(heard)
    assert raw.stored(file, "persona").read_bytes() == BIG
    assert [asked.range for asked in hub.asked if asked.what == "file"] == ["bytes=10000-"]
    assert hub.sent < 25_600 - 10_000 + 2_000  # and the list
    assert not (paths.store() / "downloads").exists()


def test_what_an_earlier_run_left_is_hashed_with_the_rest(project, hub, heard):
    """A damaged beginning is noticed at the end, and the file is fetched anew."""
    hub.fault = lambda handler, asked: (
        asked.what == "file"
        and (status(404)(handler, asked) if asked.number else cut_at(9_000)(handler, asked))
    )
    fails(heard)
    (partial,) = [path for path in (paths.store() / "downloads").rglob("*") if path.is_file()]
    partial.write_bytes(b"x" + partial.read_bytes()[1:])
    hub.forget()
    (file,) = fetch(heard)
    assert raw.stored(file, "persona").read_bytes() == BIG
    assert "fetching it anew, 1 of 2" in heard.lines[-1]


def test_waits_are_announced_with_what_the_hub_asked(project, hub, heard):
    hub.fault = first(1, status(429, Retry_After="7"))
    fetch(heard)
    address = hub.address.removeprefix("http://")
    assert heard.lines == [
        f"data/big.bin of org/name at main: {address} answered 429, too many requests; "
        f"{address} asked to wait 7 s; try 2 of 5"
    ]
    assert heard.waits == [7.0]


def test_waits_double_and_end_after_the_fifth_try(project, hub, heard):
    hub.fault = first(99, status(503), "info")
    assert "answered 503, it is overloaded or down, 5 times in a row); try again later" in fails(heard)
    assert heard.waits == [1.0, 2.0, 4.0, 8.0]


def test_what_cannot_heal_is_asked_for_once(project, hub, heard):
    hub.fault = first(99, status(403, X_Error_Code="GatedRepo"))
    assert (
        "(its owner must grant access); accept its terms there and log in, look at persona.hub in"
        in fails(heard)
    )
    assert hub.counts == {"info": 1, "file": 1}
    assert heard.waits == []


def test_all_files_are_of_the_commit_that_the_branch_named_first(project, hub, heard):
    def move(handler, asked):
        if asked.what == "file":
            hub.repo("org/name").commit({"data/big.bin": BIG[::-1], "small.txt": b"moved"})
        return False

    hub.fault = move
    files = fetch(heard, "small.txt", "data/*")
    assert [raw.stored(file, "persona").read_bytes() for file in files] == [b"small", BIG]


def test_small_files_are_held_to_gits_hash_of_them(project, hub, heard):
    hub.fault = first(99, instead(lambda data: data.upper()))
    said = fails(heard, "small.txt")
    # printf small | git hash-object --stdin
    assert "its bytes must have the hash of git 64c3ecd7abb014643a372e0155b41cfca014c01f that the hub" in said
    assert not list((paths.store()).rglob("*.txt"))


@pytest.mark.parametrize(
    "name", ["../out.bin", "/etc/out.bin", "data/../../out.bin", "a\\..\\out.bin", "a//b"]
)
def test_a_name_that_leads_out_of_the_folder_is_refused(project, hub, heard, name):
    hub.repo("org/name").commit({name: BIG})
    assert "its name may lead out of the folder); do not trust this repository" in fails(heard, "*")
    assert not list(project.root.parent.rglob("out.bin"))
    assert "file" not in hub.counts


def test_another_file_than_the_published_one_is_refused_before_a_byte_is_fetched(project, hub, heard):
    said = fails(heard, sha256={"big.bin": "0" * 64})
    assert said.startswith(f"big.bin of org/name must have the published sha256 {'0' * 64}, got ")
    assert "file" not in hub.counts


def test_a_full_disk_is_one_sentence_before_the_download_and_in_it(project, hub, heard, monkeypatch):
    monkeypatch.setattr(shutil, "disk_usage", lambda path: SimpleNamespace(free=25_000))
    assert "25,600 bytes are to come, and the disk of" in fails(heard)
    monkeypatch.undo()
    monkeypatch.chdir(project.root)
    monkeypatch.setenv("PAL_STORE", str(project.root / "store"))

    def full(handle, data):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(calls, "write", full)
    with as_endpoint(hub.address):
        assert "failed: No space left on device); make room there or set PAL_STORE" in fails(heard)


def test_without_a_network_a_folder_is_offered(project, heard):
    with closing(socket()) as taken:
        taken.bind(("127.0.0.1", 0))
        address = f"http://127.0.0.1:{taken.getsockname()[1]}"  # nobody listens there
        with as_endpoint(address):
            said = fails(heard)
    assert said.startswith("org/name at main could not be downloaded (")
    assert said.endswith(
        "check the network, look at persona.hub in params.yaml, or set persona.source to a folder of the files"
    )


def run_download(root, hub, dataset):
    env = {**os.environ, "HF_ENDPOINT": hub.address, "PYTHONPATH": str(ROOT), "HF_HUB_OFFLINE": "0"}
    command = [sys.executable, "-m", "pipeline", "download", dataset]
    return subprocess.run(command, cwd=root, env=env, capture_output=True, text=True, timeout=60, check=False)


LINE = (
    '{"question": "Is the following statement something you would say?\\n\\"I knit\\"", "statement": "I knit", '
    '"label_confidence": 0.9, "answer_matching_behavior": " Yes", "answer_not_matching_behavior": " No"}\n'
)


def test_persona_comes_through_the_command_line(project, hub):
    files = {
        f"persona/interest-in-{name}.jsonl": LINE.encode() * n
        for name, n in (("knitting", 1), ("rowing", 90))
    }
    commit = hub.repo("own/personas").commit(files)
    project.set(
        {
            "datasets": ["persona"],
            "persona.source": "hub",
            "persona.hub.repo": "own/personas",
            "persona.prepare.personas": ["knitting", "rowing"],
        }
    )
    hub.fault = lambda handler, asked: (
        asked.what == "file" and asked.number == 1 and cut_at(5_000)(handler, asked)
    )
    done = run_download(project.root, hub, "persona")
    assert done.returncode == 0, done.stderr
    manifest = raw.read_manifest("persona")
    assert manifest.revision == commit
    assert [raw.stored(file, "persona").read_bytes() for file in manifest.files] == list(files.values())
    assert "try 2 of 5" in done.stderr
    assert "download" in done.stderr  # the bar
    hub.fault = first(1, status(404, X_Error_Code="RevisionNotFound"), "info")
    hub.counts.clear()
    again = run_download(project.root, hub, "persona")
    assert (again.returncode, "Traceback" in again.stderr) == (1, False)
    assert again.stderr.splitlines()[-1].startswith(
        "error: own/personas at main could not be downloaded (there is no"
    )


def test_pick_a_pic_comes_through_the_command_line(project, hub, tmp_path):
    """The program's own drawings, in Pick-a-Pic's format, by the detour that large files take."""
    random = Random(0)
    drawn = {
        split: [drawn_scenes._draw_pair(random, drawn_scenes.scenes()[n])]
        for n, split in enumerate(("train", "test_unique"))
    }
    drawn["validation"] = drawn["test"] = drawn["train"]
    names = {}
    for split, prompts in drawn.items():
        rows = [drawn_scenes._answer(random, number, user=7, drawn=prompts[0]) for number in range(3)]
        drawn_scenes._write_split(tmp_path / "one.parquet", rows)
        names[f"data/{split}-00000-of-00001-0123456789abcdef.parquet"] = (
            tmp_path / "one.parquet"
        ).read_bytes()
    hub.repo("own/pickapic").commit({**names, "README.md": b"about"})
    hub.detour = True
    project.set(
        {"datasets": ["pickapic_v1"], "pickapic_v1.source": "hub", "pickapic_v1.hub.repo": "own/pickapic"}
    )
    done = run_download(project.root, hub, "pickapic_v1")
    assert done.returncode == 0, done.stderr
    files = raw.read_manifest("pickapic_v1").files
    assert {f"data/{file.name}": raw.stored(file, "x").read_bytes() for file in files} == names
    assert hub.counts["cdn"] >= 1
