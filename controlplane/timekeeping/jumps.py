"""Jumps of the clock: noticed by comparing it with the machines' monotonic clocks, kept, and shown.

Times in rows are what the clock showed. After a jump they say nothing about how much time passed since, so whoever
decides by them looks at the clock with `look_at_clock` first, and moves the times that still count by what it jumped
(`moved`). One ledger for all processes: a jump is noted once, whoever sees it first.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

from django.db import transaction
from django.db.models import Q

from controlplane.kernel.clock import Clock, ClockReading
from controlplane.timekeeping.models import ClockJump, ClockWatch

log = logging.getLogger(__name__)

SMALLEST_JUMP = 5.0  # seconds; what is corrected by less runs on
KEEP_EVERY = 5.0  # seconds between two writes while the clock runs as it should
ORIGIN_KEPT = 3600.0  # seconds; clocks that are set gently part by up to 2 s an hour
SLACK = timedelta(seconds=SMALLEST_JUMP)
SHOWN_FOR = timedelta(hours=24)
TRANSLATED = timedelta(hours=24)


@dataclass(frozen=True, slots=True)
class Look:
    """The clock as it was looked at, and how many jumps were noted until then."""

    reading: ClockReading
    jumps: int

    @property
    def at(self) -> datetime:
        return self.reading.at


def look_at_clock(clock: Clock) -> Look:
    """Looks at the clock and notes a jump since the last look of anybody. One query; a second one every few seconds.

    A machine that looks for the first time since its start has no monotonic clock to compare with: there, only a clock
    that shows an earlier time than before is known to have jumped.
    """
    while True:
        row = ClockWatch.objects.filter(pk=1).first() or ClockWatch.objects.get_or_create(pk=1)[0]
        reading = clock.reading()
        jump = _jump_since(row, reading)
        if jump == 0.0 and not _is_to_be_kept(row, reading):
            return Look(reading, row.jumps)
        if _keep(row, reading, jump):
            return Look(reading, row.jumps + (jump != 0.0))


def _jump_since(row: ClockWatch, reading: ClockReading) -> float:
    """By how much the clock jumped since the row was written, seconds; 0 when it runs as it should."""
    if row.at is None:
        return 0.0
    known = row.origins.get(reading.machine)
    shows = reading.at.timestamp()
    if known is not None:
        jump = _origin(reading, row.total) - known["origin"]
    else:
        jump = min(0.0, shows - row.at.timestamp())
    return round(float(jump), 3) if abs(jump) >= SMALLEST_JUMP else 0.0


def _origin(reading: ClockReading, total: float) -> float:
    return reading.at.timestamp() - reading.steady - total


def _is_to_be_kept(row: ClockWatch, reading: ClockReading) -> bool:
    known = row.origins.get(reading.machine)
    return known is None or row.at is None or abs((reading.at - row.at).total_seconds()) >= KEEP_EVERY


def _keep(row: ClockWatch, reading: ClockReading, jump: float) -> bool:
    """Writes the look down, with the jump; False when another look came first."""
    total, jumps, shows = row.total + jump, row.jumps + (jump != 0.0), reading.at.timestamp()
    origins = {
        machine: {**known, "seen": known["seen"] + jump}
        for machine, known in row.origins.items()
        if shows - (known["seen"] + jump) <= ORIGIN_KEPT
    }
    origins[reading.machine] = {"origin": _origin(reading, total), "seen": shows}
    with transaction.atomic():
        kept = ClockWatch.objects.filter(pk=1, version=row.version).update(
            at=reading.at, jumps=jumps, total=total, origins=origins, version=row.version + 1
        )
        if kept and jump and row.at is not None:
            ClockJump.objects.create(number=jumps, before=row.at, at=reading.at, seconds=jump)
    if kept and jump:
        log.warning("clock.jumped seconds=%+.1f before=%s at=%s", jump, row.at, reading.at)
    return bool(kept)


def jumps_after(number: int) -> tuple[ClockJump, ...]:
    """The jumps after the one of this number (0: all), oldest first. One query."""
    return tuple(ClockJump.objects.filter(number__gt=number).order_by("number"))


def recent_jumps(look: Look) -> tuple[ClockJump, ...]:
    """The jumps of the last day, oldest first, to translate times that stay as they were written. No query while there
    was never one."""
    if look.jumps == 0:
        return ()
    since = look.at - TRANSLATED
    return tuple(ClockJump.objects.filter(Q(at__gt=since) | Q(before__gt=since)).order_by("number"))


def was_before(moment: datetime, jump: ClockJump, *, now: datetime) -> bool:
    """Whether a time was written down before the clock jumped.

    After a jump back an hour comes twice, so a time of the first seconds after the jump may be a whole jump old: it
    then counts as new, which makes something wait, and never happen too early.
    """
    if jump.seconds > 0:
        return moment <= jump.at - timedelta(seconds=jump.seconds) + SLACK
    return not jump.before + timedelta(seconds=jump.seconds) - SLACK <= moment <= now + SLACK


def moved(moment: datetime, jumps: Sequence[ClockJump], *, now: datetime) -> datetime:
    """A time as the clock would show it after the jumps, so that `now` minus it is the time that passed."""
    for jump in jumps:
        if was_before(moment, jump, now=now):
            moment += timedelta(seconds=jump.seconds)
    return moment


def now_for_retention(now: datetime, *, longest: timedelta) -> datetime:
    """A time to reckon ages with before something is deleted: no jump forward makes anything older. One query."""
    recent = ClockJump.objects.filter(at__gt=now - longest, seconds__gt=0).values_list("seconds", flat=True)
    return now - timedelta(seconds=sum(recent))


def way(seconds: float) -> str:
    """Which way a jump by so many seconds went: `forward` or `back`."""
    return "forward" if seconds > 0 else "back"
