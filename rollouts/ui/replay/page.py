"""A replay as plain values for its page, its card on the rollout page, and the list on a policy's page."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Any

from django.db.models import Case, When

from controlplane.kernel.errors import HeadgateError
from controlplane.kernel.words import duration_of_seconds
from controlplane.web.first_rows import first_and_count
from rollouts import selectors
from rollouts.domain.lifecycle.states import ACTIVE
from rollouts.models import GatePolicyVersion, Rollout
from rollouts.services.evidence.replay import ReplayPart
from rollouts.services.evidence.report import ReplayReport
from rollouts.ui.parts.lists import RolloutRow, rollout_row

PAST_A_PAGE = 20
CHANGES_SHOWN = 40
POLICIES_SHOWN = 100
TONES = {"identical": "pass", "same": "pass", "equal": "warn", "differs": "fail"}
WORDS = {"identical": "Identical", "same": "Same decisions", "equal": "Equal", "differs": "Differs"}


@dataclass(frozen=True, slots=True)
class ReplaySide:
    """What one policy did: in words, `never` where it did not."""

    policy: str
    rollback: str
    rollback_why: str
    passed: str
    decided: str
    decided_why: str

    @property
    def outcome(self) -> str:
        """The short form: the way back, or the pass, whichever there is."""
        if self.rollback != "never":
            return f"back {self.rollback}"
        return "no verdict" if self.passed == "never" else f"passes {self.passed}"


@dataclass(frozen=True, slots=True)
class TimelineRow:
    """A verdict that changed, under one of the two policies."""

    after: str
    label: str
    recorded: str
    replayed: str


@dataclass(frozen=True, slots=True)
class ReplayView:
    """A replay, done, under way, or refused. `policy`: NAME@VERSION, empty for what was recorded."""

    rollout: Rollout
    policy: str
    part: ReplayPart | None = None
    problem: HeadgateError | None = None
    sides: tuple[ReplaySide, ReplaySide] | None = None
    timeline: tuple[TimelineRow, ...] = ()
    more_changes: int = 0
    policies: tuple[str, ...] = ()
    more_policies: int = 0

    @property
    def report(self) -> ReplayReport | None:
        return None if self.part is None else self.part.report

    @property
    def tone(self) -> str:
        if self.problem is not None:
            return "fail"
        if self.report is None:
            return "info"
        return TONES[self.report.outcome] if self.report.kind == "replay" else "info"

    @property
    def words(self) -> str:
        if self.report is None:
            return "Refused" if self.problem is not None else "Replaying"
        return WORDS[self.report.outcome]

    @property
    def first_after(self) -> str:
        """When the first other decision would have come, of another policy."""
        report = self.report
        if report is None or report.kind != "what-if" or report.first is None:
            return ""
        return _when(report.first["moment"])


def view(
    *, rollout: Rollout, policy: str, part: ReplayPart | None = None, problem: HeadgateError | None = None
) -> ReplayView:
    """A replay as its page shows it. To choose from: the versions of the rollout's own policy first, then by name."""
    own = Case(When(name=rollout.gate_policy.name, then=0), default=1)
    offered, in_all = first_and_count(
        GatePolicyVersion.objects.order_by(own, "name", "-version"), limit=POLICIES_SHOWN
    )
    names, more_policies = tuple(str(row) for row in offered), in_all - len(offered)
    report = None if part is None else part.report
    if report is None or report.recorded is None or report.replayed is None:
        return ReplayView(rollout, policy, part, problem, policies=names, more_policies=more_policies)
    rows, more_changes = _timeline(report.recorded["changes"], report.replayed["changes"])
    return ReplayView(
        rollout,
        policy,
        part,
        problem,
        sides=(_side(report.recorded), _side(report.replayed)),
        timeline=rows,
        more_changes=more_changes + report.recorded["left_out"] + report.replayed["left_out"],
        policies=names,
        more_policies=more_policies,
    )


@dataclass(frozen=True, slots=True)
class PastRollouts:
    """Rollouts on which a policy can be tried, newest first. `older` is the number to go on below, None at the end."""

    policy: GatePolicyVersion
    rows: tuple[RolloutRow, ...]
    older: int | None
    now: datetime


def past_rollouts(*, reference: str, before: int | None, now: datetime) -> PastRollouts:
    """Rollouts with a number below `before` that are over and have evidence: 3 queries. Raises InvalidInput for an
    unknown policy."""
    policy = selectors.find_gate_policy(reference, field="policy")
    ended = selectors.rollouts().exclude(phase__in=[phase.value for phase in ACTIVE])
    if before is not None:
        ended = ended.filter(pk__lt=before)
    found = list(ended.filter(next_interval__gt=0)[: PAST_A_PAGE + 1])
    older = found[PAST_A_PAGE - 1].pk if len(found) > PAST_A_PAGE else None
    return PastRollouts(policy, tuple(rollout_row(one, now) for one in found[:PAST_A_PAGE]), older, now)


def _side(course: Mapping[str, Any]) -> ReplaySide:
    back, decided = course["rollback"], course["decided"]
    return ReplaySide(
        policy=course["policy"],
        rollback=_when(back),
        rollback_why=back["sentence"] if back else "",
        passed=_when(course["passed"]),
        decided=_when(decided),
        decided_why=decided["sentence"] if decided else "",
    )


def _when(moment: Mapping[str, Any] | None) -> str:
    if moment is None:
        return "never"
    if moment["after"] < 0:
        return "before traffic"
    return f"after {duration_of_seconds(moment['after'])}"


def _timeline(
    recorded: Sequence[Mapping[str, Any]], replayed: Sequence[Mapping[str, Any]]
) -> tuple[tuple[TimelineRow, ...], int]:
    """Both lists of changes by time; one that both made at once is one row."""
    changes = [(change, 0) for change in recorded] + [(change, 1) for change in replayed]
    changes.sort(key=lambda pair: (pair[0]["after"], pair[0]["gate"], pair[1]))
    rows: list[TimelineRow] = []
    keys: list[tuple[float, str]] = []
    for change, side in changes:
        key = (change["after"], change["gate"])
        if side == 1 and keys and keys[-1] == key:
            last = rows[-1]
            rows[-1] = replace(last, replayed=change["verdict"])
            continue
        verdict = change["verdict"]
        rows.append(
            TimelineRow(
                after=_when(change),
                label=change["label"],
                recorded="" if side else verdict,
                replayed=verdict if side else "",
            )
        )
        keys.append(key)
    return tuple(rows[:CHANGES_SHOWN]), max(len(rows) - CHANGES_SHOWN, 0)
