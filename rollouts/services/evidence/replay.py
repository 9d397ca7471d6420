"""Replay of a recorded rollout: checks that the evidence is whole and as it was written, then does it all again.

Either at once (`replay_whole`, for the command on the server) or in parts of bounded length (`replay_part`, for
requests: whoever asks on with the key does the next part). A result is only ever given for evidence that was checked
to its end.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any
from uuid import UUID

from controlplane.access.actors import Actor
from controlplane.access.roles import Action
from controlplane.access.rules import requires
from controlplane.kernel.digests import digest_of
from controlplane.kernel.errors import NotFound, Refused
from rollouts.domain.record.comparing import LOG_E_TOLERANCE
from rollouts.domain.record.recorded import RecordedDecision, RecordedRow, TamperedEvidence
from rollouts.domain.record.replay import Case, Replay
from rollouts.domain.record.whatif import WhatIf, require_recorded
from rollouts.domain.strategies import strategy_of
from rollouts.evidence import decisions_between, evidence_rows, require_kept
from rollouts.models import GatePolicyVersion, ReplayRun, Rollout
from rollouts.services.evidence.report import ReplayReport, replay_report, what_if_report
from rollouts.services.software import software

PART_SECONDS = 2.0
KEPT = timedelta(hours=1)  # a replay that nobody asked on for is forgotten
STEPS_A_LOOK = 20  # at the clock

ReplayProgress = Callable[[int, int], None]
Played = Replay | WhatIf


@dataclass(frozen=True, slots=True)
class ReplayPart:
    """How far a replay came: `report` once it is done, else `key` to ask on with. `done` of `total` rows."""

    done: int
    total: int
    key: UUID | None = None
    report: ReplayReport | None = None


@dataclass(frozen=True, slots=True)
class _Task:
    """What is to be replayed: fixed when it began, whatever the loop adds meanwhile."""

    rollout: Rollout
    policy: GatePolicyVersion | None
    intervals: int
    decisions: int
    ends: dict[str, Any]

    @property
    def case(self) -> Case:
        policy = self.rollout.policy if self.policy is None else self.policy.policy
        return Case(self.rollout.pk, self.rollout.parsed_plan, policy)

    @property
    def total(self) -> int:
        return self.intervals + self.decisions


def replay_whole(
    *, rollout: Rollout, policy: GatePolicyVersion | None = None, progress: ReplayProgress | None = None
) -> ReplayReport:
    """The whole replay now; `progress(done, total)` is told now and then.

    policy      None: what was recorded must come out again; else what this policy would have done
    Raises TamperedEvidence naming the row, EvidenceExpired, InvalidInput for a policy on what was not recorded, and
    Refused: evidence-not-replayable for evidence of a version that did not keep what it was decided on,
    evidence-too-new (UnknownFormat) for that of a newer version.
    """
    task = _task(rollout, policy)
    began = time.monotonic()
    played = _begin(task)
    for number, step in enumerate(_play(task, played)):
        played = step
        if progress is not None and number % 100 == 0:
            progress(_done(played), task.total)
    if progress is not None:
        progress(task.total, task.total)
    return _report(task, played, seconds=time.monotonic() - began)


@requires(Action.VIEW)
def replay_part(
    *,
    rollout: Rollout,
    actor: Actor,
    now: datetime,
    policy: GatePolicyVersion | None = None,
    key: UUID | None = None,
) -> ReplayPart:
    """The next PART_SECONDS of a replay: of the one with `key`, or of a new one. Raises what `replay_whole` raises, and
    NotFound for a key that is over."""
    run = _run(rollout, key) if key is not None else None
    task = _task(rollout, policy) if run is None else _task_of(run, rollout)
    began = time.monotonic()
    played = _begin(task) if run is None else _from_json(task, run.state)
    for number, step in enumerate(_play(task, played)):
        played = step
        late = number % STEPS_A_LOOK == STEPS_A_LOOK - 1 and time.monotonic() - began > PART_SECONDS
        if late and _done(played) < task.total:
            return _kept(task, run, played, now)
    seconds = time.monotonic() - began
    if run is not None:
        seconds += max((now - run.began_at).total_seconds(), 0.0)  # the parts before this one
        run.delete()
    return ReplayPart(task.total, task.total, report=_report(task, played, seconds=seconds))


def forget_replays(*, now: datetime) -> None:
    """Deletes replays that nobody asked on for."""
    ReplayRun.objects.filter(changed_at__lt=now - KEPT).delete()


# --- within -----------------------------------------------------------------------------------------------------------


def _task(rollout: Rollout, policy: GatePolicyVersion | None) -> _Task:
    if policy is not None and policy.pk == rollout.gate_policy_id and rollout.own_policy is None:
        policy = None
    require_kept(rollout.pk)
    strategy_of(rollout.parsed_plan)  # before a plan that nobody here can read is called changed
    if rollout.parsed_plan.digest != rollout.plan_digest:
        raise TamperedEvidence("the plan", "does not have the digest that it was started with")
    for stored in (rollout.gate_policy, policy):
        if stored is not None and digest_of(stored.body) != stored.digest:
            raise TamperedEvidence(
                f"the gate policy {stored}", "does not have the digest that it was stored with"
            )
    if rollout.own_policy is not None and digest_of(rollout.own_policy) != rollout.own_policy_digest:
        raise TamperedEvidence(
            "the policy of this rollout", "does not have the digest that it was started with"
        )
    ends = {"gates_state": rollout.gates_state, "verdicts": rollout.verdicts}
    return _Task(rollout, policy, rollout.next_interval, rollout.next_decision, ends)


def _task_of(run: ReplayRun, rollout: Rollout) -> _Task:
    return _Task(rollout, run.policy, run.intervals, run.decisions, run.ends)


def _run(rollout: Rollout, key: UUID) -> ReplayRun:
    run = ReplayRun.objects.select_related("policy").filter(key=key, rollout=rollout).first()
    if run is None:
        raise NotFound("There is no such replay under way.", fix="Begin a new one.", code="replay-not-found")
    return run


def _kept(task: _Task, run: ReplayRun | None, played: Played, now: datetime) -> ReplayPart:
    done = _done(played)
    if run is None:
        run = ReplayRun.objects.create(
            rollout=task.rollout,
            policy=task.policy,
            intervals=task.intervals,
            decisions=task.decisions,
            ends=task.ends,
            state=played.to_json(),
            done=done,
            began_at=now,
            changed_at=now,
        )
    else:
        # Somebody else may have gone on with the same key: then theirs counts, and this part is done again.
        same = ReplayRun.objects.filter(pk=run.pk, done=run.done)
        same.update(state=played.to_json(), done=done, changed_at=now)
    return ReplayPart(done, task.total, key=run.key)


def _begin(task: _Task) -> Played:
    if task.policy is None:
        return Replay()
    rollout = task.rollout
    first = next(evidence_rows(rollout.pk, stop=1), None)
    if first is not None:
        _check_replayable(first)
        first.check(index=0, before=None)
        require_recorded(task.policy.policy, first)
    began = rollout.traffic_at or rollout.created_at
    return WhatIf.begin(recorded=rollout.policy_words, other=str(task.policy), began=began.timestamp())


def _from_json(task: _Task, state: dict[str, Any]) -> Played:
    played = Replay if task.policy is None else WhatIf
    return played.from_json(state, task.rollout.parsed_plan)


def _done(played: Played) -> int:
    return played.rows + played.decisions


def _play(task: _Task, played: Played) -> Iterator[Played]:
    """As far as it came after each row and each decision, in the order they were made."""
    case = task.case
    between = decisions_between(task.rollout.pk)
    _check_counts(task, between)
    waiting = between[played.decisions : task.decisions]
    rows = evidence_rows(task.rollout.pk, first=played.rows, stop=task.intervals)
    for row in rows:
        _check_replayable(row)
        while waiting and waiting[0].after <= row.index:
            played = played.after_decision(case, waiting.pop(0))
            yield played
        played = played.after(case, row)
        yield played
    if played.rows < task.intervals:
        raise TamperedEvidence(f"interval {played.rows}", "is missing")
    for made in waiting:
        played = played.after_decision(case, made)
        yield played


def _check_counts(task: _Task, between: list[RecordedDecision]) -> None:
    if len(between) >= task.decisions:
        return
    numbers = [made.number for made in between]
    missing = next(number for number in range(task.decisions) if number not in numbers)
    raise TamperedEvidence(f"decision {missing}", "is missing")


def _check_replayable(row: RecordedRow) -> None:
    if not row.situation:
        raise Refused(
            f"Interval {row.index} was recorded by a version of Headgate that did not keep what it decided on.",
            fix="Rollouts that were started after the update can be replayed.",
            code="evidence-not-replayable",
            extra={"row": f"interval {row.index}"},
        )


def _report(task: _Task, played: Played, *, seconds: float) -> ReplayReport:
    if isinstance(played, WhatIf):
        return what_if_report(rollout=task.rollout, played=played)
    last = task.rollout.measured_at or task.rollout.created_at
    ended = played.ended(
        gates_state=task.ends["gates_state"], verdicts=task.ends["verdicts"], at=last.timestamp()
    )
    return replay_report(
        rollout=task.rollout, played=ended, now_with=software(), seconds=seconds, tolerance=LOG_E_TOLERANCE
    )
