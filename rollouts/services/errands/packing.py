"""Keeps recorded evidence bounded: old rows are packed, and a finished rollout's are deleted after a retention."""

from __future__ import annotations

import zlib
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta

from django.db import transaction
from django.db.models import Count, Q

from controlplane.kernel.clock import ManualClock
from controlplane.kernel.digests import canonical_json
from controlplane.passes.services import Pauses, run_each
from rollouts.domain.gates.policy import GatePolicy
from rollouts.domain.lifecycle.states import Phase
from rollouts.domain.record.recorded import PACK_LEVEL, RecordedRow, pack_rows, thin_rows
from rollouts.evidence import evidence_rows
from rollouts.models import Evidence, EvidencePack, LoopDecision, ProbeResult, Rollout
from rollouts.selectors import GOES_ON

PACK_AFTER = timedelta(hours=1)  # of a row's end, and of the end of the rollout
MOST_ROWS = 720  # in a pack: an hour of intervals of 5 s
FEWEST_ROWS = 360  # of a rollout that goes on: no pack for a few rows at every sweep
PACKS_A_SWEEP = 50
PACKING, RETENTION = "packing of evidence", "retention of evidence"  # the passes, as people read them
PAUSES = Pauses(first=60, longest=3600)


def pack_evidence(*, now: datetime, most: int = PACKS_A_SWEEP) -> int:
    """Packs rows older than an hour, and all of those of a rollout that ended an hour ago. Returns how many packs it
    made, at most `most`: the next sweep goes on. Nothing that is read changes.

    A rollout whose rows cannot be packed keeps its error, and its rows; the others are packed.
    """
    made = 0

    def pack(due: tuple[int, bool]) -> None:
        nonlocal made
        rollout_id, goes_on = due
        while made < most and _pack_once(rollout_id, goes_on=goes_on, now=now):
            made += 1

    run_each(
        name=PACKING,
        items=_with_old_rows(now),
        key=lambda due: due[0],
        label=lambda due: f"rollout #{due[0]}",
        work=pack,
        clock=ManualClock(now),
        pauses=PAUSES,
    )
    return made


def _with_old_rows(now: datetime) -> list[tuple[int, bool]]:
    """(rollout, whether it goes on) with enough old rows for a pack."""
    old = Evidence.objects.filter(ended_at__lt=now - PACK_AFTER).order_by()
    counts = dict(old.values_list("rollout").annotate(rows=Count("id")))
    active = set(Rollout.objects.filter(GOES_ON, pk__in=counts).values_list("pk", flat=True))
    return [
        (pk, pk in active) for pk, rows in sorted(counts.items()) if pk not in active or rows >= FEWEST_ROWS
    ]


def _pack_once(rollout_id: int, *, goes_on: bool, now: datetime) -> bool:
    with transaction.atomic():
        # One packer at a time, and none while the loop writes a row.
        rollout = (
            Rollout.objects.select_for_update(of=("self",), no_key=True)
            .select_related("gate_policy")
            .get(pk=rollout_id)
        )
        old = Evidence.objects.filter(rollout=rollout_id, ended_at__lt=now - PACK_AFTER)
        indexes = list(old.order_by("index").values_list("index", flat=True)[:MOST_ROWS])
        if not indexes or (goes_on and len(indexes) < FEWEST_ROWS):
            return False
        rows = _neighbours(list(evidence_rows(rollout_id, first=indexes[0], stop=indexes[-1] + 1)))
        first, last = rows[0], rows[-1]
        EvidencePack.objects.create(
            rollout_id=rollout_id,
            first=first.index,
            last=last.index,
            began_at=datetime.fromtimestamp(float(first.interval["started_at"]), tz=UTC),
            ended_at=datetime.fromtimestamp(last.ended_at, tz=UTC),
            rows=pack_rows(rows),
            series=_series(rows, rollout.policy),
            digest=last.digest,
        )
        old.filter(index__gte=first.index, index__lte=last.index).delete()
    return True


def _neighbours(rows: Sequence[RecordedRow]) -> Sequence[RecordedRow]:
    """The rows up to the first hole: where one was removed, the pack ends, so that a replay can name it."""
    for position, row in enumerate(rows):
        if row.index != rows[0].index + position:
            return rows[:position]
    return rows


def _series(rows: Sequence[RecordedRow], policy: GatePolicy) -> bytes:
    edges: dict[str, set[float]] = {}
    for gate in policy.gates:
        if gate.signal is not None and gate.slo_seconds is not None:
            edges.setdefault(gate.signal, set()).add(gate.slo_seconds)
    intervals = [
        {**row.interval, "burn_in": row.verdicts["burn_in"]} if "burn_in" in row.verdicts else row.interval
        for row in rows
    ]
    return zlib.compress(canonical_json(thin_rows(intervals, edges=edges)), PACK_LEVEL)


def forget_evidence(*, now: datetime, days: int) -> int:
    """Deletes what rollouts were decided on, `days` after they ended: rows, decisions between them, probe answers.

    Verdicts, history, audit and the thin series of the charts stay. Never of a rollout that goes on, or that waits for
    a person: its way back is measured again. A rollout is marked when this was done, because one that ended before its
    first interval leaves nothing else that a replay could tell it by. Returns how many rollouts it was; one that cannot
    be done keeps its error.
    """
    limit = now - timedelta(days=days)
    ended = Rollout.objects.exclude(GOES_ON | Q(phase=Phase.FAILED.value)).filter(finished_at__lt=limit)
    # One that was done before is done again when something came later: rows that had waited for their pack.
    packed = EvidencePack.objects.exclude(rows=b"").order_by().values("rollout")
    decided = LoopDecision.objects.order_by().values("rollout")
    kept = Q(evidence_forgotten_at=None) | Q(pk__in=packed) | Q(pk__in=decided)
    report = run_each(
        name=RETENTION,
        items=ended.filter(kept).order_by("pk").values_list("pk", flat=True),
        key=lambda rollout_id: rollout_id,
        label=lambda rollout_id: f"rollout #{rollout_id}",
        work=lambda rollout_id: _forget(rollout_id, now),
        clock=ManualClock(now),
        pauses=PAUSES,
    )
    return report.done


@transaction.atomic
def _forget(rollout_id: int, now: datetime) -> None:
    EvidencePack.objects.filter(rollout=rollout_id).update(rows=b"")
    LoopDecision.objects.filter(rollout=rollout_id).delete()
    ProbeResult.objects.filter(rollout=rollout_id).delete()
    Rollout.objects.filter(pk=rollout_id).update(evidence_forgotten_at=now)
