"""How much each endpoint needs a person, over all of them: a list is sorted before it is cut.

Only the columns that decide it are read, so that every endpoint can be looked at; the rows of a page are read whole
afterwards.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from django.db.models import OuterRef, Subquery

from rollouts.domain.engines import WorkloadPhase
from rollouts.domain.lifecycle.states import ACTIVE, Phase
from rollouts.domain.restored import RestoredState
from rollouts.domain.serving import Serving
from rollouts.models import Endpoint, Rollout
from rollouts.selectors import turn_trouble
from rollouts.ui.parts.odd_rows import or_odd
from rollouts.ui.parts.phases import Pill
from rollouts.ui.parts.stuck import needs_a_person

RECENT = timedelta(hours=24)
# An endpoint of this attention or a smaller number waits for a person.
WAITS = 2
BROKEN_ENGINES = (WorkloadPhase.FAILED.value, WorkloadPhase.UNREADY.value)
# Nothing of such an endpoint is decided; in the other states it is on its way back.
_HELD = (RestoredState.WATCHING, RestoredState.RIVAL, RestoredState.HELD)
_COLUMNS = {
    "id": "pk",
    "name": "name",
    "cluster": "cluster__name",
    "router_problem": "router_problem",
    "outage": "outage",
    "restored_state": "restored_state",
    "desired_shares": "desired_shares",
    "stable": "stable__name",
    "workload": "stable__workload__phase",
    "ready": "stable__workload__ready",
    "desired": "stable__workload__desired",
    "model_gone_at": "model__gone_at",
    "version_gone_at": "stable__version__gone_at",
}


@dataclass(frozen=True, slots=True)
class EndpointStanding:
    """Where one endpoint stands.

    attention   0 needs a person most, 5 least; up to WAITS it waits for one
    needs       how many things of it wait for a person: as many as `needs.needs_of` names
    moves       its newest rollout is under way
    """

    id: int
    name: str
    attention: int
    needs: int
    moves: bool

    @property
    def place(self) -> tuple[int, str]:
        """Where it comes in a list by attention."""
        return self.attention, self.name


def standings(*, now: datetime, unusable: Collection[str] = ()) -> list[EndpointStanding]:
    """Every endpoint, the one that needs a person most first, then by name. One query.

    unusable    names of clusters that cannot be used: nobody watches what is on them
    """
    newest = Rollout.objects.filter(endpoint=OuterRef("pk")).order_by("-id")
    rows = Endpoint.objects.order_by().values_list(
        *_COLUMNS.values(),
        Subquery(newest.values("phase")[:1]),
        Subquery(newest.values("finished_at")[:1]),
        turn_trouble("")["turn_since"],
    )
    names = [*_COLUMNS, "phase", "finished_at", "turn_since"]
    found = [_standing_or_odd(dict(zip(names, row, strict=True)), unusable, now) for row in rows]
    # Sorted here, not by the database: its order of names depends on its collation, and pages go on by these.
    return sorted(found, key=lambda standing: standing.place)


def is_recent_end(finished_at: datetime | None, now: datetime) -> bool:
    """True for what ended within the last day."""
    return finished_at is not None and now - finished_at < RECENT


def health(
    *,
    watched: bool,
    router_problem: str,
    out_of_order: bool,
    workload: str | None,
    ready: int | None,
    desired: int | None,
) -> Pill:
    """How the stable variant is, and whether the router obeys.

    watched     its cluster can be used: what was seen last says nothing of now where it cannot
    workload    the phase of the stable variant; None before it had one
    """
    if not watched:
        return Pill("fail", "Not watched", "unplug")
    if router_problem:
        return Pill("fail", "Router", "unplug")
    if out_of_order:
        return Pill("fail", "Out of order", "circle-x")
    if workload is None or ready is None or desired is None:
        return Pill("mute", "No data", "circle-dashed")
    if workload == WorkloadPhase.STARTING.value:
        return Pill("info", "Starting", "rocket")
    if ready == 0:
        return Pill("fail", "Not ready", "circle-x")
    if ready < desired:
        return Pill("warn", f"{ready} of {desired} ready", "circle-alert")
    return Pill("pass", "Healthy", "circle-check")


def _standing_or_odd(row: Mapping[str, Any], unusable: Collection[str], now: datetime) -> EndpointStanding:
    """One whose stored values are odd needs a person, and stops no other."""
    return or_odd(
        f"endpoint {row['name']}",
        lambda: _standing(row, unusable, now),
        lambda words: EndpointStanding(row["id"], row["name"], attention=0, needs=1, moves=False),
    )


def _standing(row: Mapping[str, Any], unusable: Collection[str], now: datetime) -> EndpointStanding:
    phase = None if row["phase"] is None else Phase(row["phase"])
    restored = RestoredState(row["restored_state"])
    out_of_order = Serving.from_json(row["outage"], variant=row["stable"] or "").lasting is not None
    watched = row["cluster"] not in unusable
    pill = health(
        watched=watched,
        router_problem=row["router_problem"],
        out_of_order=out_of_order,
        workload=row["workload"],
        ready=row["ready"],
        desired=row["desired"],
    )
    returned = phase is Phase.ROLLED_BACK and is_recent_end(row["finished_at"], now)
    broken = not watched or bool(row["router_problem"]) or out_of_order or row["workload"] in BROKEN_ENGINES
    is_gone = row["model_gone_at"] is not None or row["version_gone_at"] is not None
    gone = is_gone and row["stable"] is not None and bool(row["desired_shares"])
    # Of an endpoint whose database is an older copy that alone is told: nothing else of it is sure.
    own = 1 if restored is not RestoredState.NONE else broken + gone
    # Where nobody watches it, that is why.
    stuck = watched and needs_a_person(row["turn_since"], now)
    needs = own + (returned or phase in (Phase.FAILED, Phase.PAUSED)) + stuck
    if stuck or pill.tone == "fail" or broken or phase is Phase.FAILED or restored in _HELD:
        attention = 0
    elif returned:
        attention = 1
    elif needs:
        attention = WAITS
    elif phase in ACTIVE:
        attention = 3
    else:
        attention = 4 if pill.tone != "pass" else 5
    return EndpointStanding(row["id"], row["name"], attention, needs, phase in ACTIVE)
