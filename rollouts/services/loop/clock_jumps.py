"""After a jump of the clock: the times that an endpoint's rollout counts from are moved with it.

A step is held, a deadline runs and a watch lasts for time that really passed. Their beginnings are kept as the clock
showed them, so a jump would add to all of them what never passed, or take away what did: an hour forward would end
them at once, an hour back would hold them for that hour. The loop therefore settles every jump before it decides.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Collection
from datetime import UTC, datetime, timedelta
from typing import Any

from django.db import transaction
from django.db.models import F

from controlplane.kernel.errors import StaleWriter
from controlplane.kernel.words import duration_of_seconds
from controlplane.timekeeping.jumps import SLACK, Look, jumps_after, moved, way
from controlplane.timekeeping.models import ClockJump
from controlplane.web.live import publish
from rollouts.models import Endpoint, Feedback, FeedbackState, Rollout, Workload
from rollouts.selectors import ACTIVE_PHASES, GOES_ON
from rollouts.services.loop.leases import Lease, hold, hold_together
from rollouts.services.writing import tell

log = logging.getLogger(__name__)

ROLLOUT_TIMES = ("phase_since", "step_since", "measured_at", "unread_at")
RATINGS_MOVED = timedelta(hours=1)  # far longer than ratings are waited for
ROWS_AT_ONCE = 500  # in one statement
Move = Callable[[datetime], datetime]


def settle_together(*, leases: Collection[Lease], look: Look) -> frozenset[Lease]:
    """Moves the times of endpoints by all jumps that they were not moved by yet; returns the leases that were lost.

    Only the holder of a lease does it, before it reads what it decides on. One query where nothing is to be done; where
    an endpoint is looked at for the first time, its times are later than every jump, and it costs none of its own.
    """
    by_endpoint = {lease.endpoint_id: lease for lease in leases}
    unsettled = Endpoint.objects.filter(pk__in=by_endpoint).exclude(
        jumps_settled=look.jumps, jumps_settled__isnull=False
    )
    settled = dict(unsettled.values_list("pk", "jumps_settled"))
    lost: set[Lease] = set()
    new = [by_endpoint[number] for number, last in settled.items() if last is None]
    if new:
        with transaction.atomic():
            held = hold_together(new, now=look.at)
            numbers = [lease.endpoint_id for lease in held]
            Endpoint.objects.filter(pk__in=numbers).update(jumps_settled=look.jumps)
        lost |= set(new) - set(held)
    for number, last in settled.items():
        if last is not None:
            try:
                _settle(by_endpoint[number], last, look)
            except StaleWriter:
                lost.add(by_endpoint[number])
    return frozenset(lost)


def _settle(lease: Lease, last: int, look: Look) -> None:
    """`last`: the last jump that the endpoint was moved by. Raises StaleWriter when the lease was lost; then nothing is
    moved."""
    jumps = jumps_after(last)
    with transaction.atomic():
        hold(lease, now=look.at)
        Endpoint.objects.filter(pk=lease.endpoint_id).update(jumps_settled=look.jumps)
        if not jumps:
            return
        endpoint = Endpoint.objects.get(pk=lease.endpoint_id)
        move_times(endpoint, lambda moment: moved(moment, jumps, now=look.at))
        for jump in jumps:
            _move_ratings(endpoint, jump)
        _tell(endpoint, jumps, look.at)


def move_times(endpoint: Endpoint, move: Move) -> None:
    """Moves all that the endpoint's rollout, its launches, its route, its counters and its outage count from. Runs
    inside a transaction."""
    for rollout in Rollout.objects.select_for_update(no_key=True).filter(GOES_ON, endpoint=endpoint):
        times = {name: getattr(rollout, name) for name in ROLLOUT_TIMES}
        changed = {name: move(moment) for name, moment in times.items() if moment is not None}
        if rollout.watch_until is not None:
            # An end lies in the future: what tells before from after the jump is its beginning.
            lasts = timedelta(seconds=rollout.parsed_plan.watch_seconds)
            changed["watch_until"] = move(rollout.watch_until - lasts) + lasts
        Rollout.objects.filter(pk=rollout.pk).update(**changed)
    for workload in Workload.objects.filter(variant__endpoint=endpoint, files_at__isnull=False):
        assert workload.files_at is not None
        Workload.objects.filter(pk=workload.pk).update(files_at=move(workload.files_at))
    fields: dict[str, Any] = {}
    if endpoint.accepted_at is not None:
        fields["accepted_at"] = move(endpoint.accepted_at)
    if endpoint.last_reading:
        fields["last_reading"] = {
            **endpoint.last_reading,
            "at": _moved_seconds(float(endpoint.last_reading["at"]), move),
        }
    outage = endpoint.outage.get("outage")
    if outage:
        since = _moved_seconds(float(outage["since"]), move)
        fields["outage"] = {**endpoint.outage, "outage": {**outage, "since": since}}
    if fields:
        Endpoint.objects.filter(pk=endpoint.pk).update(**fields)
    waiting = list(Feedback.objects.filter(endpoint=endpoint, state=FeedbackState.PENDING))
    for rating in waiting:
        rating.received_at = move(rating.received_at)
        rating.not_before = rating.not_before and move(rating.not_before)
    Feedback.objects.bulk_update(waiting, ["received_at", "not_before"], batch_size=ROWS_AT_ONCE)


def _moved_seconds(moment: float, move: Move) -> float:
    return move(datetime.fromtimestamp(moment, tz=UTC)).timestamp()


def _move_ratings(endpoint: Endpoint, jump: ClockJump) -> None:
    """Ratings are booked by when the answer was. Those of the last hour before the jump are moved with their intervals
    (`measure`), so that after a jump back, when the clock shows the same hour again, none counts twice."""
    last = jump.at - timedelta(seconds=jump.seconds) + SLACK  # as the clock showed it before
    first = min(jump.before, jump.at) - RATINGS_MOVED
    rows = Feedback.objects.filter(endpoint=endpoint, answered_at__gt=first, answered_at__lte=last)
    rows.update(answered_at=F("answered_at") + timedelta(seconds=jump.seconds))


def _tell(endpoint: Endpoint, jumps: tuple[ClockJump, ...], now: datetime) -> None:
    rollout = Rollout.objects.filter(endpoint=endpoint, phase__in=ACTIVE_PHASES).first()
    for jump in jumps:
        tell(
            endpoint=endpoint,
            rollout=rollout,
            kind="clock-jumped",
            title=f"The clock jumped {way(jump.seconds)} by {duration_of_seconds(abs(jump.seconds))}",
            detail="Steps, deadlines and the watch go on with the time that really passed.",
            now=now,
        )
    log.warning("endpoint.clock_settled endpoint=%s jumps=%s", endpoint.name, len(jumps))
    publish(f"endpoint:{endpoint.pk}", "overview", now=now)
