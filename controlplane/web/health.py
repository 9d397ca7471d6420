"""Signs of life. Parts report with `beat`; the probes read what they reported, so that a probe never waits
for one.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime

from django.db import DatabaseError, connection
from django.db.migrations.executor import MigrationExecutor
from django.db.models import Count, Max, Value

from controlplane.kernel.credentials import hide
from controlplane.passes.models import ItemTrouble
from controlplane.passes.selectors import troubles_by_pass
from controlplane.sealing.known import known
from controlplane.web.models import Heartbeat
from controlplane.web.words import duration_text

FRESH_SECONDS: Mapping[str, float] = {"worker": 15.0, "errands": 30.0, "mlflow": 60.0, "router": 30.0}
"""How old the last word of a part may be. These are always reported, also when they never spoke."""

DEFAULT_FRESH_SECONDS = 60.0
MESSAGE_LENGTH = 300


@dataclass(frozen=True, slots=True)
class Part:
    """One line of the readiness report. `age_seconds` is None when the part never reported.

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
        return "under 5 s" if self.age_seconds < 5 else duration_text(self.age_seconds)


def beat(*, name: str, now: datetime, ok: bool = True, message: str = "") -> None:
    """Notes that a part is alive (`ok`) or answers badly (`message` says how). Cheap; call it as often as
    you like.
    """
    Heartbeat.objects.update_or_create(
        name=name, defaults={"at": now, "ok": ok, "message": hide(message, known())[:MESSAGE_LENGTH]}
    )


def report(*, now: datetime) -> tuple[Part, ...]:
    """All parts. `needed` marks those without which this process is useless: its database, in the right
    shape.

    A silent worker or MLflow, and things that a pass cannot do, are reported and do not make this process unready:
    pages and roll backs still work.
    """
    database = _database(now)
    if not database.is_ok:
        return (database,)
    return (database, _migrations(), *reported(now=now))


def _database(now: datetime) -> Part:
    try:
        beat(name="web", now=now)
    except DatabaseError as error:
        return Part(
            "database",
            "failing",
            needed=True,
            message=hide(f"cannot be written: {error}", known())[:MESSAGE_LENGTH],
        )
    return Part("database", "ok", needed=True)


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
    beats = Heartbeat.objects.order_by().exclude(name="web").annotate(failing=Value(0))
    passes = (
        ItemTrouble.objects.order_by()
        .values("pass_name")
        .annotate(tried_at=Max("last_attempt_at"), ok=Value(False), words=Value(""), failing=Count("id"))
    )
    rows = list(
        beats.values_list("name", "at", "ok", "message", "failing").union(
            passes.values_list("pass_name", "tried_at", "ok", "words", "failing"), all=True
        )
    )
    said = {name: (at, ok, message) for name, at, ok, message, failing in rows if not failing}
    parts = []
    for name in [*FRESH_SECONDS, *sorted(set(said) - set(FRESH_SECONDS))]:
        if name not in said:
            parts.append(Part(name, "unknown", needed=False, message="has not reported yet"))
            continue
        at, ok, message = said[name]
        age = max(0.0, (now - at).total_seconds())
        fresh = age <= FRESH_SECONDS.get(name, DEFAULT_FRESH_SECONDS)
        state = "stale" if not fresh else "ok" if ok else "failing"
        parts.append(Part(name, state, needed=False, message=message, age_seconds=round(age, 1)))
    if len(said) == len(rows):
        return tuple(parts)
    return (*parts, *_troubles(now))


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
