"""Signs of life. Parts report with `beat`; the probes read what they reported, so that a probe never waits
for one. A probe writes nothing.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime

from django.db import DatabaseError, InterfaceError, connection
from django.db.migrations.executor import MigrationExecutor
from django.db.models import CharField, Count, F, Max, Value
from django.db.models.functions import Cast

from controlplane.kernel.credentials import hide
from controlplane.kernel.words import duration_of_seconds
from controlplane.passes.models import ItemTrouble
from controlplane.passes.selectors import troubles_by_pass
from controlplane.sealing.known import known
from controlplane.timekeeping.claims import TOLERANCE
from controlplane.timekeeping.jumps import SHOWN_FOR, way
from controlplane.timekeeping.models import ClockJump
from controlplane.web.database_errors import database_file
from controlplane.web.models import Heartbeat

FRESH_SECONDS: Mapping[str, float] = {
    "worker": 15.0, "probes": 30.0, "files": 30.0, "errands": 30.0, "mlflow": 60.0, "router": 30.0,
}  # fmt: skip
"""How old the last word of a part may be. These are always reported, also when they never spoke."""

CLOCK = "clock"
RESTORED = "restored copy"
KNOWN_PARTS = ("database", "database writes", "migrations", *FRESH_SECONDS, CLOCK, RESTORED)
"""Parts whose names say nothing about this installation."""

DEFAULT_FRESH_SECONDS = 60.0
LEAST_FREE_BYTES = 50_000_000  # below it SQLite's journal may not grow any more
MESSAGE_LENGTH = 300


@dataclass(frozen=True, slots=True)
class Part:
    """One line of the readiness report. `age_seconds` is None when the part never reported, and below 0 when its last
    word lies in the future: a clock jumped.

    A pass that cannot do all of its items is a part too while it cannot: `fails_since` is set then.
    """

    name: str
    state: str  # "ok", "failing" (it said so), "stale" (silent for too long) or "unknown" (never heard of)
    needed: bool
    message: str = ""
    age_seconds: float | None = None
    fails_since: datetime | None = None

    @property
    def is_ok(self) -> bool:
        return self.state == "ok"

    @property
    def age_words(self) -> str:
        """`4 s`; ages below five seconds are all `under 5 s`, so that a page at rest reads the same."""
        if self.age_seconds is None:
            return "never"
        if self.age_seconds < 0:
            return "in the future"
        return "under 5 s" if self.age_seconds < 5 else duration_of_seconds(self.age_seconds)


def beat(*, name: str, now: datetime, ok: bool = True, message: str = "") -> None:
    """Notes that a part is alive (`ok`) or answers badly (`message` says how). Cheap; call it as often as
    you like.
    """
    Heartbeat.objects.update_or_create(
        name=name, defaults={"at": now, "ok": ok, "message": hide(message, known())[:MESSAGE_LENGTH]}
    )


def forget(*, name: str) -> None:
    """A part that has nothing to say is none."""
    Heartbeat.objects.filter(name=name).delete()


def report(*, now: datetime) -> tuple[Part, ...]:
    """All parts. `needed` marks those without which this process is useless: its database, in the right
    shape.

    A silent worker or MLflow, a database that takes no writes, and things that a pass cannot do, are reported and do
    not make this process unready: pages can still be read.
    """
    try:
        return (Part("database", "ok", needed=True), _writes(), _migrations(), *reported(now=now))
    except (DatabaseError, InterfaceError) as error:
        message = hide(f"cannot be read: {error}", known())[:MESSAGE_LENGTH]
        return (Part("database", "failing", needed=True, message=message),)


def _writes() -> Part:
    """Whether the database can be written, as far as that shows without writing: its mode, and on this machine its file
    and the disk. The full disk of a database server does not show here, but in the silence of the worker.
    """
    if connection.vendor == "postgresql":
        with connection.cursor() as cursor:
            cursor.execute("SHOW transaction_read_only")
            (only_reads,) = cursor.fetchone()
        message = "the server only reads" if only_reads == "on" else ""
    else:
        message = _trouble_of_file()
    state = "failing" if message else "ok"
    return Part("database writes", state, needed=False, message=message[:MESSAGE_LENGTH])


def _trouble_of_file() -> str:
    path = database_file()
    if path is None:  # in memory
        return ""
    if not os.access(path, os.W_OK) or not os.access(path.parent, os.W_OK):
        return f"this process may not write {path}"
    free = shutil.disk_usage(path.parent).free
    return "" if free >= LEAST_FREE_BYTES else f"{free / 1e6:,.1f} MB are free at {path}"


def _migrations() -> Part:
    executor = MigrationExecutor(connection)
    plan = executor.migration_plan(executor.loader.graph.leaf_nodes())
    if plan:
        first = plan[0][0]
        message = f"{len(plan)} not applied, first {first.app_label}.{first.name}: run manage.py migrate"
        return Part("migrations", "failing", needed=True, message=message)
    return Part("migrations", "ok", needed=True)


def reported(*, now: datetime) -> tuple[Part, ...]:
    """What the other parts last said, and a part for each pass that cannot do all of its items: one query while all
    of them can, else three. Nothing is written."""
    beats = Heartbeat.objects.order_by().annotate(failing=Value(0))
    passes = (
        ItemTrouble.objects.order_by()
        .values("pass_name")
        .annotate(tried_at=Max("last_attempt_at"), ok=Value(False), words=Value(""), failing=Count("id"))
    )
    jumped = ClockJump.objects.order_by().filter(at__gt=now - SHOWN_FOR)
    jumps = jumped.annotate(
        part=Value(CLOCK), ok=Value(False), words=Cast("seconds", CharField()), below=-F("number")
    )
    rows = list(
        beats.values_list("name", "at", "ok", "message", "failing").union(
            passes.values_list("pass_name", "tried_at", "ok", "words", "failing"),
            jumps.values_list("part", "at", "ok", "words", "below"),
            all=True,
        )
    )
    said = {name: (at, ok, message) for name, at, ok, message, failing in rows if not failing}
    parts_failing = any(failing > 0 for *_, failing in rows)
    parts = []
    for name in [*FRESH_SECONDS, *sorted(set(said) - set(FRESH_SECONDS))]:
        if name not in said:
            parts.append(Part(name, "unknown", needed=False, message="has not reported yet"))
            continue
        at, ok, message = said[name]
        parts.append(_heard(name, (now - at).total_seconds(), ok, message))
    parts += _clock({-below: (at, words) for _, at, _, words, below in rows if below < 0}, now)
    if not parts_failing:
        return tuple(parts)
    return (*parts, *_troubles(now))


def _heard(name: str, age: float, ok: bool, message: str) -> Part:
    if age < -TOLERANCE.total_seconds():
        ahead = (
            f"its last word is {duration_of_seconds(-age)} in the future: a clock jumped. {message}".strip()
        )
        return Part(name, "stale", needed=False, message=ahead[:MESSAGE_LENGTH], age_seconds=round(age, 1))
    fresh = age <= FRESH_SECONDS.get(name, DEFAULT_FRESH_SECONDS)
    state = "stale" if not fresh else "ok" if ok else "failing"
    return Part(name, state, needed=False, message=message, age_seconds=round(max(0.0, age), 1))


def _clock(jumps: Mapping[int, tuple[datetime, str]], now: datetime) -> Iterator[Part]:
    """The last jump of the clock, for a day: what people read of that time may be off by it."""
    if jumps:
        at, seconds = jumps[max(jumps)]
        length = float(seconds)
        message = (
            f"it jumped {way(length)} by {duration_of_seconds(abs(length))} at {at:%Y-%m-%d %H:%M:%S} UTC; rollouts go "
            "on with the time that really passed"
        )
        age = round(max(0.0, (now - at).total_seconds()), 1)
        yield Part(CLOCK, "failing", needed=False, message=message, age_seconds=age)


def _troubles(now: datetime) -> Iterator[Part]:
    for trouble in troubles_by_pass():
        message = f"since {trouble.since:%Y-%m-%d %H:%M} UTC: {trouble.sentence}"
        yield Part(
            trouble.pass_name,
            "failing",
            needed=False,
            message=message[:MESSAGE_LENGTH],
            age_seconds=round(max(0.0, (now - trouble.tried_at).total_seconds()), 1),
            fails_since=trouble.since,
        )
