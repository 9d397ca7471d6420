"""The page of a bandit as plain values: who leads, where the traffic went, and when it stops.

`build` costs the same number of queries whatever the number of arms, intervals and events.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime

from controlplane.access.models import User
from controlplane.kernel.words import (
    cases_of,
    count_text,
    duration_of_seconds,
    number_text,
    percent_of_bp,
    percent_of_share,
)
from controlplane.web.ridges import Ridge
from rollouts import selectors
from rollouts.domain.bandits.spec import BanditSpec
from rollouts.domain.bandits.state import BanditState
from rollouts.domain.bandits.verdict import BanditVerdict
from rollouts.domain.gates.policy import GatePolicy
from rollouts.domain.lifecycle.plan import Plan
from rollouts.domain.lifecycle.states import ACTIVE, FINAL, Phase
from rollouts.domain.record.intervals import BASELINE
from rollouts.domain.strategies.bandit.settings import spec_of
from rollouts.evidence import times_of
from rollouts.models import Rollout
from rollouts.ui.bandit.actions import Launches, actions_of, launches_of
from rollouts.ui.bandit.arms import ArmLine, arm_line, rewards_label, ridge_of
from rollouts.ui.bandit.pill import pill
from rollouts.ui.bandit.stop import StopLine, stop_lines
from rollouts.ui.events.page import newest_events
from rollouts.ui.parts.arm_words import arm_labels
from rollouts.ui.parts.drifts import DriftNote, drifts_of_rollout
from rollouts.ui.parts.findings import calm_words, findings
from rollouts.ui.parts.gates_table import GatesTable, family_table
from rollouts.ui.parts.mlflow_words import MlflowNow, mlflow_now
from rollouts.ui.parts.outages import OutageNote, outage_of_rollout
from rollouts.ui.parts.outcomes_table import OutcomesTable, arms_outcomes, columns_of_arms
from rollouts.ui.parts.page_parts import (
    ActionButton,
    EventRow,
    Why,
    action_note,
    stale_since,
    why_of,
)
from rollouts.ui.parts.phases import Pill
from rollouts.ui.parts.shortages import ShortageNote, shortages_of_rollout
from rollouts.ui.parts.stuck import StuckNote, stuck_note


@dataclass(frozen=True, slots=True)
class ArmGates:
    """The gates of one candidate, and whether they are open at first sight."""

    line: ArmLine
    table: GatesTable
    shown: bool


@dataclass(frozen=True, slots=True)
class BanditPage:
    rollout: Rollout
    pill: Pill
    why: Why
    stuck: StuckNote | None
    outage: OutageNote | None
    shortages: tuple[ShortageNote, ...]
    drifts: tuple[DriftNote, ...]
    arms: tuple[ArmLine, ...]
    ridges: tuple[Ridge, ...]
    rewards_label: str
    rewards_note: str
    threshold: float
    stop: tuple[StopLine, ...]
    promises: tuple[tuple[str, str], ...]
    gates: tuple[ArmGates, ...]
    setup: tuple[tuple[str, str], ...]
    reweight: str
    scored: bool
    floor: str
    baseline_floor: str
    outcomes: OutcomesTable
    launches: Launches
    events: tuple[EventRow, ...]
    event_count: int
    actions: tuple[ActionButton, ...]
    action_note: str
    stale_from: datetime | None
    stale_for: str
    mlflow: MlflowNow
    now: datetime

    @property
    def mlflow_model(self) -> str:
        return self.rollout.endpoint.model.name

    @property
    def shows_evidence(self) -> bool:
        """False for a rollout that ended before anything could be measured."""
        return self.rollout.traffic_at is not None or Phase(self.rollout.phase) not in FINAL

    @property
    def arm_count(self) -> str:
        return count_text(len(self.arms), "arm")

    @property
    def legend(self) -> tuple[tuple[int, str], ...]:
        """(colour, label) of the candidates, then the baseline: as the chart stacks them from below."""
        ordered = [*self.arms[1:], self.arms[0]]
        return tuple((line.arm, line.version) for line in ordered)


def build(*, rollout: Rollout, user: User, now: datetime, stop_on: bool) -> BanditPage:
    """Everything the page shows at `now` for `user`. `rollout` is one of `selectors.find_rollout`."""
    plan, policy = rollout.parsed_plan, rollout.policy
    spec = spec_of(plan)
    arms = list(rollout.arms.all())
    verdict = verdict_of(rollout)
    left = _moments(rollout, verdict)
    promoted = rollout.candidate_id if Phase(rollout.phase) is Phase.SUCCEEDED else None
    lines = [arm_line(arm, verdict, left.get(arm.name), promoted=arm.variant_id == promoted) for arm in arms]
    rows = [(line, verdict.arm(line.name)) for line in lines]
    events = newest_events(selectors.history(rollout=rollout))
    looked = stale_since(rollout, now)
    columns = columns_of_arms(arms)
    found = findings(columns, verdict.gates)
    return BanditPage(
        rollout=rollout,
        pill=pill(rollout, now),
        why=why_of(rollout, plan, now),
        stuck=stuck_note(rollout, now),
        outage=outage_of_rollout(rollout, now),
        shortages=shortages_of_rollout(rollout),
        drifts=drifts_of_rollout(rollout),
        arms=tuple(lines),
        ridges=tuple(ridge_of(line, found) for line, found in rows),
        rewards_label=rewards_label(rows),
        rewards_note=_rewards_note(spec, verdict),
        threshold=verdict.threshold,
        stop=stop_lines(rollout, verdict, lines, now),
        promises=(
            ("Best arm dropped by mistake", f"in at most {cases_of(spec.alpha)}"),
            ("One of equal arms named the winner", f"in at most {cases_of(spec.tie_alpha)}"),
            ("On stop", f"promote, watch {duration_of_seconds(plan.watch_seconds)}"),
        ),
        gates=_gates(policy, verdict, lines),
        setup=_setup(spec, plan, policy),
        reweight=verdict.reweight.sentence if Phase(rollout.phase) in ACTIVE else "",
        scored=any(found.scored for _, found in rows),
        floor=percent_of_bp(spec.floor_bp),
        baseline_floor=percent_of_bp(spec.baseline_bp),
        outcomes=arms_outcomes(rollout, arms, found, calm_words(columns, found)),
        launches=launches_of(rollout, arms),
        events=events.rows,
        event_count=events.in_all,
        actions=actions_of(rollout, lines, user, stop_on=stop_on),
        action_note=action_note(rollout, stop_on=stop_on),
        stale_from=looked,
        stale_for="" if looked is None else duration_of_seconds((now - looked).total_seconds()),
        mlflow=mlflow_now(rollout.endpoint, rollout, now),
        now=now,
    )


def verdict_of(rollout: Rollout) -> BanditVerdict:
    """The stored verdict; before the first interval that of a bandit without any evidence. The same goes for an arm
    that never launched: the analysis does not know it."""
    found = BanditVerdict.from_json(rollout.verdicts) if rollout.verdicts else None
    labels = arm_labels(rollout)
    unknown = set(labels) - {arm.name for arm in found.arms} if found is not None else set()
    if found is not None and not unknown:
        return found
    spec = spec_of(rollout.parsed_plan)
    blank = BanditState.initial(spec, rollout.policy, list(labels)).assess(labels=labels)
    if found is None:
        return blank
    arms = (*found.arms, *(arm for arm in blank.arms if arm.name in unknown))
    return replace(found, arms=arms, gates={**blank.gates, **found.gates})


def _moments(rollout: Rollout, verdict: BanditVerdict) -> Mapping[str, datetime]:
    """When each arm left the race, from the interval that it left in. Two queries at most."""
    indexes = {arm.name: arm.at_index for arm in verdict.arms if arm.at_index is not None}
    found = times_of(rollout.pk, set(indexes.values()))
    return {name: found[index] for name, index in indexes.items() if index in found}


def _rewards_note(spec: BanditSpec, verdict: BanditVerdict) -> str:
    if verdict.burn_in:
        return f"equal shares until every arm has {spec.burn_in:,} scored answers"
    return "without ups and downs that all arms share"


def _gates(policy: GatePolicy, verdict: BanditVerdict, lines: Sequence[ArmLine]) -> tuple[ArmGates, ...]:
    """One table a candidate. Open at first: the likeliest winner of those in the race."""
    candidates = [line for line in lines if line.name != BASELINE]
    stricter = replace(policy, alpha=policy.alpha / len(candidates))
    racing = [line.name for line in candidates if not line.out]
    ordered = racing or [line.name for line in candidates]
    first = max(ordered, key=lambda name: verdict.arm(name).p_best)
    return tuple(
        ArmGates(line, family_table(stricter, verdict.gates[line.name]), line.name == first)
        for line in candidates
    )


def _setup(spec: BanditSpec, plan: Plan, policy: GatePolicy) -> tuple[tuple[str, str], ...]:
    required = [gate.label.lower() for gate in policy.gates if gate.required]
    return (
        ("Reward", "1 − share rated down"),
        ("Feedback", "verified only, 1 a request"),
        ("Burn-in", f"{spec.burn_in:,} scored answers an arm"),
        ("Reweights", f"every {duration_of_seconds(spec.reweight_seconds)}"),
        ("Least change", f"{percent_of_bp(spec.min_change_bp)} of the traffic"),
        ("β, regret against speed", number_text(spec.beta)),
        ("α", number_text(spec.alpha)),
        (
            "Forgets",
            "nothing" if spec.discount >= 1 else f"{percent_of_share(1 - spec.discount)} an interval",
        ),
        ("Gates", ", ".join(required)),
        ("At most", duration_of_seconds(plan.deadline_seconds)),
    )
