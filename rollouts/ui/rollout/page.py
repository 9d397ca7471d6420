"""The rollout page as plain values: the template only lays them out. `build` costs the same at any length."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime

from controlplane.access.models import User
from controlplane.kernel.words import duration_of_seconds, percent_of_bp, seconds_text
from rollouts import selectors
from rollouts.domain.gates.policy import GatePolicy
from rollouts.domain.gates.verdict import FamilyVerdict
from rollouts.domain.lifecycle.states import FINAL, Phase
from rollouts.models import Rollout
from rollouts.ui.events.page import newest_events
from rollouts.ui.parts.arms_table import (
    ArmRow,
    arm_number,
    arm_row,
    arms_meta,
    recent_intervals,
    workload_of_arm,
)
from rollouts.ui.parts.drifts import DriftNote, drifts_of_rollout
from rollouts.ui.parts.findings import calm_words, findings
from rollouts.ui.parts.gates_table import GatesTable, gates_table
from rollouts.ui.parts.mlflow_words import MlflowNow, mlflow_now
from rollouts.ui.parts.outages import OutageNote, outage_of_rollout
from rollouts.ui.parts.outcomes_table import OutcomesTable, arms_outcomes, columns_of_arms
from rollouts.ui.parts.page_parts import (
    ActionButton,
    EventRow,
    LaunchNote,
    Why,
    action_note,
    actions_of,
    launch_of,
    stale_since,
    why_of,
)
from rollouts.ui.parts.phases import Pill
from rollouts.ui.parts.shortages import ShortageNote, shortages_of_rollout
from rollouts.ui.parts.stuck import StuckNote, stuck_note
from rollouts.ui.rollout.pill import pill, step_share
from rollouts.ui.rollout.steps_strip import StepCell, step_cells, step_events
from rollouts.ui.rollout.what_changes import VariantChange, what_changes


@dataclass(frozen=True, slots=True)
class ChartCard:
    """A chart over time: `name` is in its address, `now` are the last values by arm."""

    name: str
    title: str
    foot: str
    limit: bool


@dataclass(frozen=True, slots=True)
class RolloutPage:
    rollout: Rollout
    pill: Pill
    why: Why
    stuck: StuckNote | None
    outage: OutageNote | None
    shortages: tuple[ShortageNote, ...]
    drifts: tuple[DriftNote, ...]
    steps: tuple[StepCell, ...]
    gates: GatesTable
    gates_heading: str
    arms: tuple[ArmRow, ...]
    arms_meta: str
    outcomes: OutcomesTable
    latency_titles: tuple[str, ...]
    events: tuple[EventRow, ...]
    event_count: int
    changes: tuple[VariantChange, ...]
    launch: LaunchNote | None
    actions: tuple[ActionButton, ...]
    action_note: str
    charts: tuple[ChartCard, ...]
    legend: tuple[tuple[int, str, str], ...]
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


def build(*, rollout: Rollout, user: User, now: datetime, stop_on: bool) -> RolloutPage:
    """Everything the page shows at `now` for `user`. `rollout` is one of `selectors.find_rollout`."""
    plan = rollout.parsed_plan
    policy = rollout.policy
    events = newest_events(selectors.history(rollout=rollout))
    arms = list(rollout.arms.all())
    intervals = recent_intervals(rollout)
    gates = gates_table(policy, rollout.verdicts)
    columns = columns_of_arms(arms)
    families = {"candidate": FamilyVerdict.from_json(rollout.verdicts)} if rollout.verdicts else {}
    found = findings(columns, families)
    latency = [gate for gate in policy.gates if gate.kind == "latency_slo"]
    stale_from = stale_since(rollout, now)
    share = percent_of_bp(step_share(plan, rollout.step_index))
    return RolloutPage(
        rollout=rollout,
        pill=pill(rollout, now),
        why=why_of(rollout, plan, now),
        stuck=stuck_note(rollout, now),
        outage=outage_of_rollout(rollout, now),
        shortages=shortages_of_rollout(rollout),
        drifts=drifts_of_rollout(rollout),
        steps=step_cells(rollout, plan, step_events(rollout, plan), gates, now),
        gates=gates,
        gates_heading="Gates" if rollout.step_index < 0 else f"Gates at {share}",
        arms=tuple(arm_row(arm, workload_of_arm(rollout, arm), intervals, policy) for arm in arms),
        arms_meta=arms_meta(rollout, arms, intervals),
        outcomes=arms_outcomes(rollout, arms, found, calm_words(columns, found)),
        latency_titles=tuple(
            f"{_signal_words(gate.signal)} > {seconds_text(gate.slo_seconds or 0)}" for gate in latency
        ),
        events=events.rows,
        event_count=events.in_all,
        changes=what_changes(rollout.baseline, rollout.candidate),
        launch=launch_of(rollout),
        actions=actions_of(rollout, user, stop_on=stop_on),
        action_note=action_note(rollout, stop_on=stop_on),
        charts=chart_cards(policy),
        legend=tuple(
            (arm_number(arm), arm.variant.version.label, percent_of_bp(arm.observed_bp)) for arm in arms
        ),
        stale_from=stale_from,
        stale_for="" if stale_from is None else duration_of_seconds((now - stale_from).total_seconds()),
        mlflow=mlflow_now(rollout.endpoint, rollout, now),
        now=now,
    )


def chart_cards(policy: GatePolicy) -> tuple[ChartCard, ...]:
    """Traffic, the first latency gate, and quality (or errors where no golden set is asked)."""
    cards = [ChartCard("traffic", "Traffic", "Solid: measured. Dashed: plan.", False)]
    for gate in policy.gates:
        if gate.kind == "latency_slo":
            title = f"Over {seconds_text(gate.slo_seconds or 0)} to {_signal_words(gate.signal).lower()}"
            cards.append(ChartCard(gate.key, title, "share of requests", True))
            break
    paired = next((gate for gate in policy.gates if gate.kind == "paired"), None)
    errors = next((gate for gate in policy.gates if gate.kind == "error_rate"), None)
    third = paired or errors
    if third is not None:
        foot = "mean score so far, same prompts to both" if third is paired else "share of requests"
        cards.append(ChartCard(third.key, third.label, foot, True))
    return tuple(cards)


def _signal_words(signal: str | None) -> str:
    return {"ttft": "First token", "duration": "Full answer"}.get(signal or "", signal or "")
