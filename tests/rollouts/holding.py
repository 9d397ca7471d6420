"""A further strategy, for tests: what somebody would write who adds one, and nothing else of the product is touched.

`holding` gives the candidate one share, holds it for a while, and promotes it when every required gate passed, else
returns. It stands in one domain object, one object of its pages, and its templates.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import asdict, dataclass
from datetime import datetime
from pathlib import Path
from types import SimpleNamespace
from typing import Any, Self

from django.utils.safestring import SafeString

from controlplane.kernel.errors import InvalidInput, NotFound
from controlplane.kernel.words import duration_of_seconds, percent_of_bp
from rollouts.domain.capabilities import Capability
from rollouts.domain.gates import checks
from rollouts.domain.gates.family import GatesState
from rollouts.domain.gates.policy import GatePolicy
from rollouts.domain.lifecycle.danger import (
    danger,
    held_without_evidence,
    no_data,
    not_in_force,
    not_routable,
    ready_but_held,
    stopped,
)
from rollouts.domain.lifecycle.decision import Decision, GatesView, RolloutView, Seen
from rollouts.domain.lifecycle.effects import SetTraffic
from rollouts.domain.lifecycle.moves import candidate_share, promotion, roll_back, stay
from rollouts.domain.lifecycle.plan import FULL_SHARE_BP, Plan, Settings
from rollouts.domain.lifecycle.states import Event, Phase, transition
from rollouts.domain.record.analysis import Analysis, GatesAnalysis
from rollouts.domain.strategies.dry_run import ASSUMED_RATE, Check, Forecast, Planned, forecast_gates
from rollouts.domain.strategies.strategy import CommandWords
from rollouts.models import Rollout
from rollouts.services.commands.start import Preview
from rollouts.ui.actions.confirm_parts import Confirmation
from rollouts.ui.new.numbers import need_number
from rollouts.ui.new.part import PlanWords
from rollouts.ui.parts.page_parts import ActionButton
from rollouts.ui.parts.phases import Pill, pill_of_phase
from rollouts.ui.strategies import Presentation

NAME = "holding"


@dataclass(frozen=True, slots=True)
class HoldingSettings:
    """The candidate's share in basis points, and for how many seconds it holds."""

    share_bp: int = 2_000
    seconds: int = 10

    def to_json(self) -> dict[str, Any]:
        return asdict(self)

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> Self:
        known = checks.mapping(data, field=NAME, allowed=["share_bp", "seconds"])
        share = known.get("share_bp", 2_000)
        if not isinstance(share, int) or not 0 < share < FULL_SHARE_BP:
            raise InvalidInput(f"{share!r} is no share.", field=f"{NAME}.share_bp", fix="Use 1 to 9,999.")
        return cls(**known)


def settings_of(plan: Plan) -> HoldingSettings:
    assert isinstance(plan.settings, HoldingSettings)
    return plan.settings


class Holding:
    """The domain file. See `rollouts.domain.strategies.strategy.Strategy`."""

    NEEDS = frozenset({Capability.FORCED_VARIANT})
    SETTINGS: type[Settings] | None = HoldingSettings
    MOST_CANDIDATES = 1
    ANALYSIS: type[Analysis] = GatesAnalysis
    WORDS = CommandWords("stopped the watch", "The share stays as it is.", "started the watch again")

    def forecast(self, planned: Planned) -> Forecast:
        own = settings_of(planned.plan)
        traffic = planned.traffic.per_second or ASSUMED_RATE
        steps = [(own.share_bp, float(own.seconds))]
        return Forecast(
            seconds=60.0 + own.seconds,
            end="when it was held",
            promise="It is held once.",
            gates=forecast_gates(planned, planned.policy, steps=steps, requests_per_second=traffic),
            checks=(Check("ok", "It holds one share", percent_of_bp(own.share_bp)),),
            own=own,
        )

    def started_words(self, baseline: str, candidates: str) -> str:
        return f"held {candidates} beside {baseline}"

    def launching_words(self, rollout: RolloutView) -> tuple[str, str]:
        return f"Launching {rollout.candidate}.", f"Then {self.share_words(rollout)}."

    def launch(self, rollout: RolloutView, seen: Seen, gates: GatesView, now: float) -> Decision:
        if not (seen.is_ready(rollout.candidate) and seen.is_ready(rollout.baseline)):
            if now - rollout.phase_since > rollout.plan.launch_seconds:
                return roll_back(rollout, cause="launch:timeout", sentence="It was not ready in time.")
            return stay(rollout, "Waiting for the engines.")
        wanted = candidate_share(rollout, 0)
        unroutable = not_routable(rollout, seen)
        if unroutable is not None:
            return unroutable
        if rollout.candidate not in (seen.routed or ()) or not seen.in_force:
            new = dict(seen.desired_shares) != dict(wanted.shares)
            made = stay(rollout, "It gets a route first.")
            return _with(made, wanted) if new else made
        if rollout.candidate not in seen.answered:
            return stay(rollout, "Waiting for its first answer.")
        if seen.hold is not None:
            return ready_but_held(rollout, seen.hold)
        return Decision(
            phase=transition(rollout.phase, Event.START),
            event=Event.START,
            step_index=0,
            reason=f"Holding {self.share_words(rollout)}.",
            effects=(candidate_share(rollout, settings_of(rollout.plan).share_bp),),
            title="The hold begins",
        )

    def advance(self, rollout: RolloutView, seen: Seen, gates: GatesView, now: float) -> Decision:
        back = self.keep_safe(rollout, seen, gates, now)
        if back is not None:
            return back
        where = self.share_words(rollout)
        stop = stopped(rollout, seen, where)
        if stop is not None:
            return stop
        if rollout.step_since is None or not seen.in_force:
            return stay(rollout, not_in_force(seen, where))
        waiting = held_without_evidence(rollout, gates, where)
        if waiting is not None:
            return waiting
        lasts = settings_of(rollout.plan).seconds
        if now - rollout.step_since < lasts:
            return stay(rollout, f"Holding {where} for {duration_of_seconds(lasts)}.", gates.waiting)
        if gates.all_required_pass:
            return self.promote(rollout, sentence=gates.passed_sentence, arm="")
        return roll_back(
            rollout, cause="inconclusive", sentence=f"It was held and not proven. {gates.waiting}"
        )

    def keep_safe(self, rollout: RolloutView, seen: Seen, gates: GatesView, now: float) -> Decision | None:
        return danger(rollout, seen, gates) or no_data(rollout, gates, now, who="nothing is held")

    def gates_of_promoted(self, rollout: RolloutView, gates: GatesView) -> GatesView:
        return gates

    def is_answered(self, rollout: RolloutView, seen: Seen) -> bool:
        return seen.answers(rollout.candidate)

    def promote(self, rollout: RolloutView, *, sentence: str, arm: str) -> Decision:
        split = candidate_share(rollout, FULL_SHARE_BP)
        return promotion(rollout, stage=1, sentence=sentence, label=rollout.candidate_label, split=split)

    def stages(self, plan: Plan) -> int:
        return 1

    def moments(self, rollout: RolloutView) -> Sequence[float]:
        return () if rollout.step_since is None else (rollout.step_since + settings_of(rollout.plan).seconds,)

    def is_exposed(self, plan: Plan, *, stage: int, seconds: float, requests: int) -> bool:
        return seconds >= settings_of(plan).seconds

    def expected_steps(self, plan: Plan, requests_per_second: float) -> Sequence[tuple[int, float]]:
        own = settings_of(plan)
        return ((own.share_bp, float(own.seconds)),)

    def planned_split(self, rollout: RolloutView) -> SetTraffic:
        return candidate_share(rollout, settings_of(rollout.plan).share_bp)

    def share_words(self, rollout: RolloutView) -> str:
        return percent_of_bp(settings_of(rollout.plan).share_bp)

    def initial_analysis(self, plan: Plan, policy: GatePolicy, arms: Sequence[str]) -> Analysis:
        return GatesAnalysis(GatesState.initial(policy))

    def opening_gates(self, rollout: RolloutView, policy: GatePolicy) -> GatesView:
        return GatesView()


def _with(made: Decision, split: SetTraffic) -> Decision:
    return Decision(made.phase, made.step_index, made.reason, made.next_step, effects=(split,))


class HoldingForm:
    """Its part of the form of a new rollout. See `rollouts.ui.new.part.FormPart`."""

    LABEL = "Holding"
    HINT = "One share, for a while"
    TEMPLATE = "rollouts/new/_holding.html"
    PLAN_TEMPLATE = "rollouts/new/_plan_holding.html"
    WORDS = PlanWords(gates="What must hold", by="end of the hold", latency="Latency", when="Share")

    def blank(self, like: Plan | None) -> str:
        return "20"

    def read(self, sent: Mapping[str, str]) -> str:
        return sent.get("held", "20")

    def changed(self, fields: str, change: str) -> str:
        return fields

    def kept(self, fields: str) -> Sequence[tuple[str, str]]:
        return [("held", fields)]

    def plan(self, fields: str, *, watch_seconds: int, keep: Callable[..., Any]) -> Plan | None:
        share = keep(need_number, fields, "held", "share")
        if share is None:
            return None
        return Plan(NAME, settings=HoldingSettings(round(share * 100)), watch_seconds=watch_seconds)

    def field_of(self, name: str) -> str:
        return "held" if name == f"plan.{NAME}.share_bp" else ""

    def rows(self, fields: str, *, watch: str, problems: Callable[..., tuple[str, ...]]) -> object:
        return {"share": fields, "problem": " ".join(problems("held"))}

    def start_words(self, plan: Plan | None, *, candidates: int) -> str:
        return "Start to hold"

    def panel(self, preview: Preview | None, *, now: datetime) -> object | None:
        return None if preview is None else preview.own

    def latency(self, preview: Preview) -> Sequence[tuple[str, float, str]]:
        return ()


@dataclass(frozen=True, slots=True)
class HoldingPage:
    """Its page: the rollout, where it stands, and the one thing that may be done."""

    rollout: Rollout
    pill: Pill
    actions: tuple[ActionButton, ...]


def pill(rollout: Rollout, now: datetime) -> Pill:
    share = percent_of_bp(settings_of(rollout.parsed_plan).share_bp)
    return pill_of_phase(
        rollout, moving=Pill("info", f"Holding {share}", "activity"), place=f"holding {share}"
    )


def _build(*, rollout: Rollout, user: object, now: datetime, stop_on: bool) -> HoldingPage:
    moving = Phase(rollout.phase) is Phase.PROGRESSING
    buttons = (ActionButton("pause", "Stop the watch", "pause", "", "", False),) if moving else ()
    return HoldingPage(rollout, pill(rollout, now), buttons)


def _chart(*, rollout: Rollout, name: str, since: float | None, now: datetime) -> dict[str, Any]:
    raise NotFound(f"There is no chart {name!r}.")


def _confirmation(rollout: Rollout, action: str, *, now: datetime, arm: str) -> Confirmation:
    return Confirmation(action, f"To {action}", (SafeString("One share is held"),), "Do it", "primary")


def _again(
    rollout: Rollout, action: str, *, offered: Collection[str], now: datetime, arm: str
) -> Confirmation | None:
    return _confirmation(rollout, action, now=now, arm=arm) if action in offered else None


FORM = HoldingForm()
PRESENTATION = Presentation(
    form=FORM,
    pill=pill,
    template=NAME,
    build=_build,
    chart=_chart,
    confirmation=_confirmation,
    again=_again,
    share_now=lambda rollout: percent_of_bp(settings_of(rollout.parsed_plan).share_bp),
)
TEMPLATES = {
    "rollouts/holding.html": (
        '{% extends "base.html" %}{% block main %}<p>Rollout #{{ page.rollout.pk }} of {{ page.rollout.strategy }}: '
        "{{ page.pill.words }}. {{ page.rollout.reason }}</p>{% endblock %}"
    ),
    "rollouts/holding/_fresh.html": "<hx-partial>{{ page.pill.words }}</hx-partial>",
    "rollouts/new/_holding.html": '<input name="held" value="{{ part.share }}"><i>{{ part.problem }}</i>',
    "rollouts/new/_plan_holding.html": "<b>holds {{ own.share_bp }} basis points</b>",
}


def write_templates(folder: Path) -> None:
    """Its templates, as they would lie in `templates/`."""
    for name, text in TEMPLATES.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)


STRATEGY = Holding()
USUAL = SimpleNamespace(no_data_seconds=30, launch_seconds=20, watch_seconds=10)
PLAN = Plan(NAME, settings=HoldingSettings(share_bp=4_000, seconds=6), **vars(USUAL))
