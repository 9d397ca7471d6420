"""Time as a value that is passed in, so that a rollout can be replayed and a test need not wait.

A clock on the wall may jump; the seconds of the machine's monotonic clock do not. `Clock.reading` gives both together,
and `seconds_between` says how much time really passed.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from functools import cache
from pathlib import Path
from typing import Any, Protocol, Self
from uuid import uuid4

# How long a message to a worker is good for. The sender writes down when that ends by its clock and the receiver
# compares by its own: anything short would be over on arrival where their clocks differ, or when one jumps. What is
# still done after an hour costs nothing: every task looks at the database first.
MESSAGE_SECONDS = 3900.0
BOOT_ID = Path("/proc/sys/kernel/random/boot_id")
LONGEST_READ = 1.0  # seconds; in a longer one nobody knows which moment was read


@dataclass(frozen=True, slots=True)
class ClockReading:
    """One look at a clock.

    at        what it shows: aware, UTC
    steady    seconds of the machine's monotonic clock at the same moment; they only mean something as a difference
    machine   which monotonic clock that is: two readings with the same name may be compared
    """

    at: datetime
    steady: float
    machine: str

    def to_json(self) -> dict[str, Any]:
        return {"at": self.at.timestamp(), "steady": self.steady, "machine": self.machine}

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> Self:
        at = datetime.fromtimestamp(float(data["at"]), tz=UTC)
        return cls(at, float(data["steady"]), str(data["machine"]))


class Clock(Protocol):
    """Tells the time. Always aware, always UTC."""

    def now(self) -> datetime: ...

    def reading(self) -> ClockReading: ...


def seconds_between(earlier: ClockReading, later: ClockReading) -> float:
    """The seconds that passed: measured where both are of one machine, else as far as the clocks on the wall tell.

    Never negative.
    """
    if earlier.machine == later.machine:
        return max(0.0, later.steady - earlier.steady)
    return max(0.0, (later.at - earlier.at).total_seconds())


@cache
def this_machine() -> str:
    """The name of the monotonic clock that `time.monotonic` reads: it begins anew with every start of the machine."""
    try:
        return BOOT_ID.read_text().strip()
    except OSError:
        return f"process-{uuid4().hex}"  # nobody else can be compared with


def read_beside(ask: Callable[[], datetime]) -> ClockReading:
    """What a clock shows, with this machine's monotonic clock at that moment; asked again when that took long."""
    for _ in range(3):
        before = time.monotonic()
        at = ask()
        after = time.monotonic()
        if after - before <= LONGEST_READ:
            break
    return ClockReading(at, (before + after) / 2, this_machine())


class SystemClock:
    """The clock on the wall."""

    def now(self) -> datetime:
        return datetime.now(UTC)

    def reading(self) -> ClockReading:
        return read_beside(self.now)


class ManualClock:
    """A clock that stands still until told otherwise. `jump` moves what it shows; no time passes by that."""

    def __init__(self, start: datetime, *, machine: str = "manual") -> None:
        if start.tzinfo is None:
            raise ValueError("start must be aware")
        self._now = start.astimezone(UTC)
        self._steady = 0.0
        self._machine = machine

    def now(self) -> datetime:
        return self._now

    def reading(self) -> ClockReading:
        return ClockReading(self._now, self._steady, self._machine)

    def advance(self, seconds: float) -> datetime:
        """Moves on by `seconds` (>= 0) and returns the new time."""
        if seconds < 0:
            raise ValueError("time does not run backwards")
        self._now += timedelta(seconds=seconds)
        self._steady += seconds
        return self._now

    def jump(self, seconds: float) -> datetime:
        """Shows another time from now on, later or earlier (< 0), and returns it."""
        self._now += timedelta(seconds=seconds)
        return self._now
