"""A PostgreSQL of one's own: Debian's binaries on a free port of 127.0.0.1, with data that go with it."""

import os
import shutil
import socket
import subprocess
import tempfile
from importlib.util import find_spec
from pathlib import Path

ABSENT = "no PostgreSQL on this machine; install Debian's package postgresql, and pal's extra dev"


def find_binaries() -> Path | None:
    """The folder of initdb and pg_ctl; None where PostgreSQL or its driver is not installed."""
    on_path = shutil.which("initdb")
    known = [Path(on_path)] if on_path else sorted(Path("/usr/lib/postgresql").glob("*/bin/initdb"))
    return known[-1].parent if known and find_spec("psycopg") else None


def free_port() -> int:
    """A port of this computer that nobody listens on."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return free.getsockname()[1]


class Postgres:
    """A server that runs from `with` to its end, and can be stopped and started meanwhile.

    What it wrote outlives its own crash, and not the computer's: it does not wait for the disk.

    Raises:
        RuntimeError: If PostgreSQL is not installed, or a step of it fails, with what it said.
    """

    def __enter__(self) -> "Postgres":
        binaries = find_binaries()
        if binaries is None:
            raise RuntimeError(ABSENT)
        self._binaries, self._folder = binaries, Path(tempfile.mkdtemp(prefix="pal-postgres-"))
        self._user = "postgres" if os.getuid() == 0 else None  # it refuses to run as root; Debian has a user
        if self._user:
            shutil.chown(self._folder, self._user)
        self._port = free_port()
        self._run("initdb", "--auth=trust", "--username=pal", "--encoding=UTF8", "--no-sync")
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        if (self._folder / "data" / "postmaster.pid").exists():
            self.stop()
        shutil.rmtree(self._folder)

    def url(self, database: str = "postgres") -> str:
        """SQLAlchemy's address of a database, which is created where it is not there."""
        import psycopg

        address = f"pal@127.0.0.1:{self._port}"
        with psycopg.connect(f"postgresql://{address}/postgres", autocommit=True) as connection:
            known = "SELECT FROM pg_database WHERE datname = %s"
            if not connection.execute(known, [database]).fetchone():
                connection.execute(f'CREATE DATABASE "{database}"')  # type: ignore[arg-type]
        return f"postgresql+psycopg://{address}/{database}"

    def start(self) -> None:
        """Start it, and wait until it answers."""
        settings = ("listen_addresses=127.0.0.1", "unix_socket_directories=", "fsync=off")
        options = " ".join([f"-p {self._port}", *(f"-c {setting}" for setting in settings)])
        self._run("pg_ctl", "start", "--wait", "--options", options)

    def stop(self) -> None:
        """Stop it as a crash would: it ends at once, and recovers when it is started again."""
        self._run("pg_ctl", "stop", "--wait", "--mode", "immediate")

    def _run(self, program: str, *arguments: str) -> None:
        command = [str(self._binaries / program), "--pgdata", str(self._folder / "data"), *arguments]
        with (self._folder / "log").open("w+") as log:  # a file: the server that pg_ctl starts keeps it open
            env = {"PATH": os.environ["PATH"], "LC_ALL": "C"}
            streams = {"stdin": subprocess.DEVNULL, "stdout": log, "stderr": log}
            code = subprocess.call(command, cwd="/", env=env, user=self._user, **streams)
            if code:
                log.seek(0)
                raise RuntimeError(f"{program} failed: {log.read()}")
