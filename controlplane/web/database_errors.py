"""What an error of the database means to whoever called: one mapping for the pages and for the REST API.

the disk is full, the database only reads    Unavailable, with what to do; reads go on
locked, too slow, no connection              Unavailable: nothing was changed, the same call may work in a moment
it is there already, what it needs is gone   Conflict: somebody else wrote meanwhile
it cannot hold a value                       Unreadable
anything else                                None: a fault of ours, such as a row without a value that it must have
"""

from __future__ import annotations

import shutil
import sqlite3
from pathlib import Path

from django.db import DatabaseError, InterfaceError, OperationalError, connection

from controlplane.kernel.errors import Conflict, HeadgateError, Unavailable, Unreadable

RETRY_AFTER_SECONDS = 5
# PostgreSQL's own codes (its manual, appendix A); a class has two characters.
DISK_FULL, READ_ONLY = "53100", "25006"
BUSY = frozenset(
    {"40001", "40P01", "55P03", "57014"}
)  # serialization, deadlock, lock timeout, statement timeout
BUSY_SQLITE = frozenset({sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED})
# Rules between rows, which two who write at the same moment can break: unique, foreign key, exclusion.
CLASHES = frozenset({"23505", "23503", "23P01"})
CLASHES_SQLITE = frozenset(
    {
        sqlite3.SQLITE_CONSTRAINT_UNIQUE,
        sqlite3.SQLITE_CONSTRAINT_PRIMARYKEY,
        sqlite3.SQLITE_CONSTRAINT_FOREIGNKEY,
    }
)
# A text too long, a number or a time too large, a character that it has none for.
UNHELD = frozenset({"22001", "22003", "22008", "22021", "22P05"})


def error_of(error: BaseException | None, *, tell_path: bool) -> HeadgateError | None:
    """The error of our tree that says what `error` means, None when it is no error of the database that we know.

    tell_path   whether the caller may learn where the database lies on this machine
    """
    if not isinstance(error, DatabaseError | InterfaceError):
        return None
    cause = error.__cause__
    state = str(getattr(cause, "sqlstate", None) or "")
    full_code = getattr(cause, "sqlite_errorcode", None) or 0
    code = full_code & 0xFF  # the lower byte is the kind, the upper ones the special case of it
    if state == DISK_FULL or code == sqlite3.SQLITE_FULL:
        return Unavailable(
            f"The disk of the database is full. {_free(tell_path)}".strip(),
            fix="An administrator frees some space there. Nothing was changed; reading goes on.",
            code="database-full",
        )
    if state == READ_ONLY or code == sqlite3.SQLITE_READONLY:
        return Unavailable(
            f"The database only reads at the moment. {_place(tell_path)}".strip(),
            fix="An administrator makes it writable. Nothing was changed; reading goes on.",
            code="database-read-only",
        )
    if state in BUSY or code in BUSY_SQLITE:
        return Unavailable(
            "The database is busy with another change.",
            fix="Nothing was changed. Try again in a few seconds.",
            code="database-busy",
        )
    if state in CLASHES or full_code in CLASHES_SQLITE:
        return Conflict(
            "Somebody else changed the same thing at this moment.",
            fix="Look at its state now and decide again.",
            code="conflicting-write",
        )
    if state in UNHELD or code == sqlite3.SQLITE_TOOBIG:
        return Unreadable(
            "The database cannot hold one of the values that were sent.",
            fix="Send shorter texts and smaller numbers.",
            code="value-too-large",
        )
    if isinstance(error, OperationalError | InterfaceError):
        return Unavailable(
            f"The database did not answer. {_place(tell_path) if code else ''}".strip(),
            fix="Nothing was changed. Try again in a few seconds.",
            code="database-unavailable",
        )
    return None


def database_file() -> Path | None:
    """The file of the database on this machine; None for a server, whose disk cannot be seen from here."""
    name = connection.settings_dict["NAME"]
    path = Path(str(name))
    return path if connection.vendor == "sqlite" and path.is_absolute() else None


def _place(tell_path: bool) -> str:
    path = database_file()
    return f"It is {path}." if tell_path and path is not None else ""


def _free(tell_path: bool) -> str:
    path = database_file()
    if not tell_path or path is None:
        return ""
    try:
        usage = shutil.disk_usage(path.parent)
    except OSError:
        return f"It is {path}."
    return f"{usage.free / 1e6:,.1f} MB of {usage.total / 1e9:,.1f} GB are free at {path}."
