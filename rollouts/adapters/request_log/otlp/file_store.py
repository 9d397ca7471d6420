"""Answered requests in files of this machine, for an installation without Redis.

A SQLite file a cluster, apart from Headgate's own database: what users ask never waits for the loop's writes, nor the
loop for theirs. All processes of this machine read it; those of another one do not.
"""

from __future__ import annotations

import json
import os
import sqlite3
import weakref
from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import closing, contextmanager, suppress
from pathlib import Path
from threading import Lock

from controlplane.kernel.clock import Clock
from controlplane.kernel.errors import Unavailable
from controlplane.sealing.senders import checked_cluster
from rollouts.adapters.request_log.otlp.records import Answered
from rollouts.adapters.request_log.otlp.stores import (
    KEPT_SECONDS,
    MOST_KEPT,
    SILENT_AFTER,
    in_parts,
    unpacked,
)

BUSY_SECONDS = 2.0
SCHEMA = """
create table answered (
    place integer primary key autoincrement, id text not null unique, kept_at real not null, content text not null);
create index answered_kept_at on answered (kept_at);
"""
KEEP = "insert or replace into answered (id, kept_at, content) values (?, ?, ?)"
FIND = "select id, content from answered where id in (select value from json_each(?)) and kept_at > ?"
FORGET = "delete from answered where kept_at <= ? or place <= (select max(place) from answered) - ?"


class FileAnswers:
    """An AnswerStore in a folder, which is made closed to others when something is kept.

    A clock that jumps forward by a quarter of an hour makes it forget what it has.
    """

    def __init__(self, folder: Path, clock: Clock, *, most: int = MOST_KEPT) -> None:
        self._folder = folder
        self._clock = clock
        self._most = most
        self._lock = Lock()
        self._writers: dict[Path, sqlite3.Connection] = {}
        weakref.finalize(self, _close_all, self._writers)

    def close(self) -> None:
        """Closes the files that were written; the next call opens them again. Done by itself at the end, too."""
        with self._lock:
            _close_all(self._writers)

    def keep(self, cluster: str, answers: Sequence[Answered]) -> None:
        """See AnswerStore. One transaction, in which what is too old is deleted, too."""
        if not answers:
            return
        now = self._clock.now().timestamp()
        path = self._path(cluster)
        with self._lock, self._told(path):
            database = self._writers.get(path)
            if database is None:
                database = self._writers[path] = self._writer(path)
            try:
                with database:
                    database.executemany(KEEP, [(one.request_id, now, one.packed()) for one in answers])
                    database.execute(FORGET, (now - KEPT_SECONDS, self._most))
            except sqlite3.Error:
                _close_all(
                    self._writers
                )  # what is wrong with the file may be mended by another one of its name
                raise

    def find(self, cluster: str, request_ids: Collection[str]) -> Mapping[str, Answered]:
        """See AnswerStore."""
        path = self._path(cluster)
        if not path.exists():
            return {}
        since = self._clock.now().timestamp() - KEPT_SECONDS
        with (
            self._told(path),
            closing(
                sqlite3.connect(f"{path.absolute().as_uri()}?mode=ro", uri=True, timeout=BUSY_SECONDS)
            ) as database,
        ):
            return unpacked(
                row
                for part in in_parts(request_ids)
                for row in database.execute(FIND, (json.dumps(part), since)).fetchall()
            )

    def beat(self) -> None:
        try:
            self._folder.mkdir(parents=True, exist_ok=True, mode=0o700)
            part = self._alive.with_suffix(".part")
            part.write_text(str(self._clock.now().timestamp()))
            part.replace(self._alive)
        except OSError as error:
            raise _unavailable(self._alive, error) from error

    def is_fed(self) -> bool:
        try:
            at = float(self._alive.read_text())
        except FileNotFoundError:
            return False
        except (OSError, ValueError) as error:
            raise _unavailable(self._alive, error) from error
        return abs(self._clock.now().timestamp() - at) <= SILENT_AFTER

    @property
    def _alive(self) -> Path:
        return self._folder / "receiver"

    def _path(self, cluster: str) -> Path:
        return self._folder / f"{checked_cluster(cluster)}.sqlite3"

    @contextmanager
    def _told(self, path: Path) -> Iterator[None]:
        """Raises Unavailable for whatever is wrong with the file."""
        try:
            yield
        except (sqlite3.Error, OSError) as error:
            raise _unavailable(path, error) from error

    def _writer(self, path: Path) -> sqlite3.Connection:
        """A connection that stays: each end of the last one would write the whole file to the disk and wait for it,
        which was seen to take seconds on a busy one."""
        if not path.exists():
            self._make(path)
        where = f"{path.absolute().as_uri()}?mode=rw"
        database = sqlite3.connect(where, uri=True, timeout=BUSY_SECONDS, check_same_thread=False)
        # A crash of the machine may cost the last seconds; no more is promised.
        database.execute("pragma synchronous=normal")
        return database

    def _make(self, path: Path) -> None:
        """An empty database, which gets its name once its table is there. Whoever was quicker keeps the name."""
        self._folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        part = path.with_suffix(f".{os.getpid()}.part")
        part.unlink(missing_ok=True)
        part.touch(mode=0o600)
        try:
            with closing(sqlite3.connect(part)) as database:
                database.executescript(f"pragma journal_mode=wal; {SCHEMA}")
            with suppress(FileExistsError):
                os.link(part, path)
        finally:
            part.unlink()


def _close_all(writers: dict[Path, sqlite3.Connection]) -> None:
    while writers:
        _, database = writers.popitem()
        database.close()


def _unavailable(path: Path, error: Exception) -> Unavailable:
    return Unavailable(
        f"The file of answered requests {path} cannot be used: {error}.",
        fix="See whether its disk has room, and whose it is.",
    )
