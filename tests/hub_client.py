"""A stand-in for the network side of the hub's client; its cache, patterns and checks are the client's own."""

import hashlib
from pathlib import Path
from types import SimpleNamespace

import pytest
from huggingface_hub import HfApi, constants
from huggingface_hub.errors import RepositoryNotFoundError
from huggingface_hub.file_download import repo_folder_name
from huggingface_hub.hf_api import RepoFile

LARGE = 1_000  # bytes from which a file is in Git LFS, and its sha256 is listed


class HubClient:
    """Repositories in memory, and what was downloaded from them.

    Args:
        repos: Commits of each repository: files by their paths.
        downloaded: Paths of files, in the order in which they were asked for.
        error: Raised in place of every answer, where it is set.
        damaged: Changes the bytes on their way.
    """

    def __init__(self) -> None:
        self.repos: dict[str, dict[str, dict[str, bytes]]] = {}
        self.downloaded: list[str] = []
        self.error: Exception | None = None
        self.damaged = lambda data: data

    def commit(self, repo: str, files: dict[str, bytes]) -> str:
        """Make a commit, which is the newest from now on; its hash."""
        commits = self.repos.setdefault(repo, {})
        commit = f"{len(commits) + 1:040x}"
        commits[commit] = files
        return commit

    def repo_info(self, api, repo_id, *, revision=None, **_):
        commit = self._resolve(repo_id, revision)
        files = self.list_repo_tree(api, repo_id, revision=commit)
        siblings = [SimpleNamespace(rfilename=file.path, lfs=file.lfs, size=file.size) for file in files]
        return SimpleNamespace(sha=commit, siblings=siblings)

    def list_repo_tree(self, api, repo_id, *, revision=None, **_):
        files = self.repos[repo_id][self._resolve(repo_id, revision)]
        listed = []
        for path, data in files.items():
            oid = hashlib.sha1(b"blob %d\0" % len(data) + data).hexdigest()
            lfs = {"oid": hashlib.sha256(data).hexdigest(), "size": len(data), "pointerSize": 130}
            lfs = lfs if len(data) >= LARGE else None
            listed.append(RepoFile(path=path, size=len(data), oid=oid, lfs=lfs))
        return listed

    def hf_hub_download(self, repo, *, filename, repo_type, revision, cache_dir, local_dir, **_):
        snapshots = Path(cache_dir) / repo_folder_name(repo_id=repo, repo_type=repo_type) / "snapshots"
        path = (Path(local_dir) if local_dir else snapshots / revision) / filename
        if not path.exists():
            self.downloaded.append(filename)
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(self.damaged(self.repos[repo][revision][filename]))
        return str(path)

    def _resolve(self, repo: str, revision: str | None) -> str:
        if self.error:
            raise self.error
        if repo not in self.repos:
            response = SimpleNamespace(status_code=404, headers={}, request=None)
            raise RepositoryNotFoundError("404", response=response)
        commits = self.repos[repo]
        return revision if revision in commits else list(commits)[-1]


@pytest.fixture
def hub_client(monkeypatch, tmp_path):
    """A client with an empty cache, and no repositories."""
    client = HubClient()
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "hub-cache"))
    for name in ("repo_info", "list_repo_tree"):
        stand_in = getattr(client, name)
        monkeypatch.setattr(HfApi, name, lambda *args, stand_in=stand_in, **how: stand_in(*args, **how))
    monkeypatch.setattr("huggingface_hub._snapshot_download.hf_hub_download", client.hf_hub_download)
    return client
