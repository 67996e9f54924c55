"""The log of answers: append-only, in SQLite or PostgreSQL; tastes are rebuilt from it.

Each person of each model has a log whose entries are numbered: an answer, or the number of an answer that is
taken back. The number of the last entry is the version of the person's taste. A writer takes the person's row
with the one statement that raises the version, so that two writers follow each other and neither's answer is
lost. Deleting a person deletes the log: nothing is kept.
"""

import base64
import hashlib
import json
import os
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import sqlalchemy as sa
from sqlalchemy.dialects import postgresql, sqlite
from sqlalchemy.exc import DBAPIError, OperationalError, SQLAlchemyError

from pal.errors import PalError
from pal.files import make_folder, write_bytes
from pal.service import RefusedError

MIGRATIONS = Path(__file__).parent / "migrations"
BUSY_SECONDS = 10  # that a writer waits for others in SQLite
METADATA = sa.MetaData()
PEOPLE = sa.Table(
    "people",
    METADATA,
    sa.Column("id", sa.Integer, primary_key=True),
    sa.Column("model", sa.String(200), nullable=False),
    sa.Column("user_id", sa.String(200), nullable=False),
    sa.Column("version", sa.Integer, nullable=False),
    sa.UniqueConstraint("model", "user_id"),
    sqlite_autoincrement=True,  # the number of someone who was deleted is not given again
)
ENTRIES = sa.Table(
    "entries",
    METADATA,
    sa.Column("person", sa.Integer, sa.ForeignKey("people.id", ondelete="CASCADE"), primary_key=True),
    sa.Column("version", sa.Integer, primary_key=True),
    sa.Column("answer", sa.Text),  # JSON of prompt, chosen, rejected, label and whatever else was noted
    sa.Column("takes_back", sa.Integer),
    sa.Column("key", sa.String(200)),
    sa.Column("time", sa.String(40), nullable=False),
    sa.Index("entries_by_key", "person", "key"),
)


@dataclass(frozen=True)
class Entry:
    """An answer that stands: its number, what was answered, and when (ISO 8601, UTC)."""

    version: int
    answer: dict[str, Any]
    time: str


class Answers:
    """The log of answers in a database, by its URL as SQLAlchemy has it, or the path of a SQLite file.

    One that cannot be opened, or is of a newer pal, is a PalError.
    """

    def __init__(self, url: str) -> None:
        if "://" not in url:
            url = f"sqlite:///{url}"
        try:
            self.engine = sa.create_engine(url, pool_pre_ping=True, hide_parameters=True)
            if self.engine.dialect.name == "sqlite":
                sa.event.listen(self.engine, "connect", _set_up_sqlite)
            self._migrate()
            if self.engine.url.database and self.engine.dialect.name == "sqlite":
                sa.event.listen(self.engine, "checkout", _refuse_another_file(self.engine.url.database))
        except (SQLAlchemyError, ImportError) as error:
            shown = url if isinstance(error, sa.exc.ArgumentError) else sa.make_url(url).render_as_string()
            raise PalError(f"{shown} cannot be opened as a database of answers: {_why(error)}") from None
        self._insert = {"sqlite": sqlite, "postgresql": postgresql}[self.engine.dialect.name].insert

    def close(self) -> None:
        """Close the connections."""
        self.engine.dispose()

    @contextmanager
    def _transaction(self) -> Iterator[sa.Connection]:
        """A connection; errors of the database, which may be busy, full or away, are 503 and a sentence."""
        try:
            with self.engine.begin() as connection:
                yield connection
        except SQLAlchemyError as error:
            said = f"the database of answers cannot be used now ({_why(error)}); try again"
            raise RefusedError(503, said) from None

    def add(
        self, model: str, user_id: str, answers: Sequence[dict[str, Any]], key: str | None = None
    ) -> tuple[int, bool]:
        """Append answers, on disk before this returns; the version, and whether the key was there already.

        Each has chosen, rejected and perhaps prompt and label, as JSON. A key makes a retry harmless: what
        was written with it is not written again.
        """
        rows = [{"answer": json.dumps(answer, separators=(",", ":"))} for answer in answers]
        return self._append(model, user_id, rows, key)

    def take_back(self, model: str, user_id: str, version: int) -> int:
        """Append that an answer is taken back; the version after it. 404 where no such answer stands."""
        if version not in [entry.version for entry in self.entries(model, user_id)]:
            raise RefusedError(404, f"answer must be one of {user_id!r} that stands, got {version}")
        return self._append(model, user_id, [{"takes_back": version}], f"take back {version}")[0]

    def delete(self, model: str, user_id: str) -> bool:
        """Delete a person with all answers; whether there was someone."""
        with self._transaction() as connection:  # the database deletes the entries with the person
            return bool(connection.execute(sa.delete(PEOPLE).where(_is(model, user_id))).rowcount)

    def version(self, model: str, user_id: str) -> tuple[int, int] | None:
        """A number that no other person has, and the version; None for someone without a log."""
        with self._transaction() as connection:
            return _version(connection, model, user_id)

    def read(self, model: str, user_id: str) -> tuple[int, int, list[Entry]] | None:
        """Number, version, and the answers that stand at this version, in order."""
        with self._transaction() as connection:
            found = _version(connection, model, user_id)
            if found is None:
                return None
            # Not what another writer appended meanwhile.
            upto = (ENTRIES.c.person == found[0]) & (ENTRIES.c.version <= found[1])
            rows = connection.execute(sa.select(ENTRIES).where(upto).order_by(ENTRIES.c.version)).all()
        gone = {row.takes_back for row in rows} | {row.version for row in rows if row.answer is None}
        standing = [row for row in rows if row.version not in gone]
        return *found, [Entry(row.version, json.loads(row.answer), row.time) for row in standing]

    def entries(self, model: str, user_id: str) -> list[Entry]:
        """The answers of someone that stand, in order."""
        read = self.read(model, user_id)
        return read[2] if read else []

    def people(self, model: str) -> list[str]:
        """Everyone with a log."""
        chosen = sa.select(PEOPLE.c.user_id).where(PEOPLE.c.model == model).order_by(PEOPLE.c.user_id)
        with self._transaction() as connection:
            return list(connection.scalars(chosen))

    def export(self, pictures: Path) -> list[dict[str, Any]]:
        """All answers that stand, of all models, as rows of a log; pictures go into a folder as files."""
        with self._transaction() as connection:
            people = connection.execute(sa.select(PEOPLE.c.model, PEOPLE.c.user_id)).all()
        rows = []
        for model, user_id in people:
            for entry in self.entries(model, user_id):
                items = {
                    name: _to_file(value, pictures) if isinstance(value, dict) else value
                    for name, value in entry.answer.items()
                }
                rows.append({"user_id": user_id, "timestamp": entry.time, **items})
        return rows

    def _append(
        self, model: str, user_id: str, rows: list[dict[str, Any]], key: str | None
    ) -> tuple[int, bool]:
        now = datetime.now(UTC).isoformat(timespec="milliseconds")
        raised = self._insert(PEOPLE).values(model=model, user_id=user_id, version=len(rows))
        raised = raised.on_conflict_do_update(
            index_elements=["model", "user_id"], set_={"version": PEOPLE.c.version + len(rows)}
        ).returning(PEOPLE.c.id, PEOPLE.c.version)
        # The first statement is a write, so that SQLite waits for another writer and does not fail.
        with self._transaction() as connection:
            person, version = connection.execute(raised).one()  # others wait here until this one has ended
            if key is not None:
                mine = (ENTRIES.c.person == person) & (ENTRIES.c.key == key)
                before = connection.scalar(sa.select(sa.func.max(ENTRIES.c.version)).where(mine))
                if before is not None:
                    connection.rollback()
                    return version - len(rows), True
            first = version - len(rows) + 1
            whose = {"person": person, "key": key, "time": now}
            written = [{**whose, "version": first + at, **row} for at, row in enumerate(rows)]
            connection.execute(sa.insert(ENTRIES), written)
        return version, False

    def _migrate(self) -> None:
        """Bring the tables to the version of this pal, by Alembic: people keep answers for years."""
        from alembic.config import Config
        from alembic.runtime.environment import EnvironmentContext
        from alembic.script import ScriptDirectory
        from alembic.util import CommandError

        script = ScriptDirectory(str(MIGRATIONS))

        def steps(revision: Any, _: Any) -> Any:
            return script._upgrade_revs("head", revision)

        for tries in (1, 2):  # another process may create the tables at the same time
            try:
                with (
                    EnvironmentContext(Config(), script, fn=steps) as environment,
                    self.engine.begin() as connection,
                ):
                    environment.configure(connection=connection, target_metadata=METADATA)
                    environment.run_migrations()
                return
            except CommandError:
                shown = self.engine.url.render_as_string()
                raise PalError(f"{shown} must be of this pal or an older one; install a newer pal") from None
            except DBAPIError:
                if tries == 2:
                    raise


def _version(connection: sa.Connection, model: str, user_id: str) -> tuple[int, int] | None:
    row = connection.execute(sa.select(PEOPLE.c.id, PEOPLE.c.version).where(_is(model, user_id))).first()
    return row and tuple(row)


def _is(model: str, user_id: str) -> sa.ColumnElement[bool]:
    return (PEOPLE.c.model == model) & (PEOPLE.c.user_id == user_id)


def _why(error: Exception) -> str:
    return " ".join(str(getattr(error, "orig", None) or error).split())[:160]


def _to_file(item: dict[str, str], folder: Path) -> str:
    """The path of a picture, which is named by its content."""
    data = base64.b64decode(item["image"])
    ends = {b"\xff\xd8": "jpg", b"RI": "webp"}
    path = folder / f"{hashlib.sha256(data).hexdigest()[:32]}.{ends.get(data[:2], 'png')}"
    if not path.exists():
        make_folder(folder)
        write_bytes(path, data)
    return f"{folder.name}/{path.name}"


def _refuse_another_file(path: str) -> Callable[..., None]:
    """A check of a connection: SQLite would write on to a file that was deleted, and lose it all."""
    before = Path(path).stat()

    def check(*_: Any) -> None:
        if not Path(path).exists() or not os.path.samestat(before, Path(path).stat()):
            raise OperationalError("", None, OSError("its file was moved or deleted while it was served"))

    return check


def _set_up_sqlite(connection: Any, _: Any) -> None:
    connection.execute(f"PRAGMA busy_timeout = {1000 * BUSY_SECONDS}")
    connection.execute("PRAGMA journal_mode = WAL")
    connection.execute("PRAGMA synchronous = FULL")  # an answer that was acknowledged is on disk
    connection.execute("PRAGMA foreign_keys = ON")
