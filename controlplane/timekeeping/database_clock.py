"""The time of the installation: the database's, because all machines that work on it ask the same one.

Two workers on machines whose clocks differ would otherwise take leases from each other. On SQLite there is one
machine, and its clock is the database's.
"""

from __future__ import annotations

import time
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

from django.db import DatabaseError, InterfaceError, connection

from controlplane.kernel.clock import ClockReading, read_beside

ASKED_EVERY = (
    5.0  # seconds of this machine's monotonic clock, which parts from the database's by less than 0.01 s
)


@dataclass(frozen=True, slots=True)
class _Known:
    at: datetime
    steady: float


class DatabaseClock:
    """The clock of the database. `reading` asks it; `now` goes on from the last answer for some seconds.

    Safe to use from several threads. `now` never fails: while the database does not answer it goes on from its last
    answer, or from this machine's clock before the first. `reading` raises what the database raises.
    """

    def __init__(self) -> None:
        self._known: _Known | None = None
        self._ask_again = 0.0  # when, by this machine's monotonic clock

    def now(self) -> datetime:
        if connection.vendor != "postgresql":
            return datetime.now(UTC)
        if time.monotonic() >= self._ask_again:
            # A database that does not answer is not asked by every request.
            self._ask_again = time.monotonic() + ASKED_EVERY
            with suppress(DatabaseError, InterfaceError):
                return self.reading().at
        if self._known is None:
            return datetime.now(UTC)
        return self._known.at + timedelta(seconds=time.monotonic() - self._known.steady)

    def reading(self) -> ClockReading:
        found = read_beside(_asked)
        self._known = _Known(found.at, found.steady)
        self._ask_again = time.monotonic() + ASKED_EVERY
        return found


def _asked() -> datetime:
    if connection.vendor != "postgresql":
        return datetime.now(UTC)
    with connection.cursor() as cursor:
        cursor.execute("SELECT clock_timestamp()")
        at: datetime = cursor.fetchone()[0]
    return at.astimezone(UTC)


CLOCK = DatabaseClock()
