"""What the database broke off because two waited for each other is done again, once.

PostgreSQL ends one of two transactions that wait for each other's rows, or that saw what the other changed. Nothing of
it was written then, so the same call may be made again; a second failure is told (503, `web/database_errors.py`).
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import TypeVar

from django.db import OperationalError, connection

log = logging.getLogger(__name__)

T = TypeVar("T")

# PostgreSQL's own codes (its manual, appendix A): a serialization failure, and a deadlock.
BROKEN_OFF = frozenset({"40001", "40P01"})


def once_more(call: Callable[[], T]) -> T:
    """`call()`; once more where the database broke it off. Inside a transaction of the caller's it is only called: what
    else belongs to that transaction is lost with it."""
    try:
        return call()
    except OperationalError as error:
        if connection.in_atomic_block or getattr(error.__cause__, "sqlstate", None) not in BROKEN_OFF:
            raise
        log.warning("database.broken_off %s: done again", error)
    return call()
