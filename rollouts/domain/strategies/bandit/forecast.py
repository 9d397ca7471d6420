"""The dry run of a bandit: who gets what at first, what its ratings can decide in which time, what each gate finds."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

from controlplane.kernel.words import cases_of, percent_of_share
from rollouts.domain.bandits import BanditSpec, BanditState
from rollouts.domain.bandits.outlook import BanditOutlook, bandit_outlook
from rollouts.domain.gates.latency import load_directions
from rollouts.domain.gates.plan_forecast import PlanForecast
from rollouts.domain.gates.policy import GatePolicy
from rollouts.domain.lifecycle.arms import arm_names
from rollouts.domain.lifecycle.plan import FULL_SHARE_BP, Plan
from rollouts.domain.strategies.bandit.settings import spec_of
from rollouts.domain.strategies.dry_run import (
    ASSUMED_PAIRS_PER_MINUTE,
    ASSUMED_RATE,
    LAUNCH_GUESS_SECONDS,
    Check,
    Contender,
    Forecast,
    Planned,
    direction_words,
    forecast_gates,
)
from rollouts.domain.traffic import MeasuredTraffic

MOMENTS = (600.0, 3_600.0, 6 * 3_600.0, 24 * 3_600.0)
EVEN = 5_000  # of two arms with equal shares, each has half
FEW_RATINGS_AN_HOUR = 10


@dataclass(frozen=True, slots=True)
class ArmForecast:
    """One arm at the start. Shares in basis points.

    share_bp, floor_bp  what it gets first, and the least it keeps while it is in the race (the baseline: always)
    load, load_leading  of one of its replicas against one of the baseline: at these shares, and once the arm is the
                        only candidate left and the baseline has its floor
    latency_first, latency_leading      what a latency gate may say of it then; empty for the baseline
    """

    name: str
    variant: str
    version: int
    share_bp: int
    floor_bp: int
    load: float
    load_leading: float
    latency_first: str
    latency_leading: str


@dataclass(frozen=True, slots=True)
class BanditPreview:
    """What only a bandit has. `outlook` is None while nobody rates answers or nobody asks.

    engines     replicas of all arms together; `new_engines` those that do not run yet
    gate_alpha  each candidate is dropped by its guardrails with probability at most this if it changes nothing
    """

    spec: BanditSpec
    arms: tuple[ArmForecast, ...]
    engines: int
    new_engines: int
    gate_alpha: float
    answers_per_second: float
    ratings: int
    ratings_per_hour: float
    rated_down: float | None
    outlook: BanditOutlook | None


def forecast(planned: Planned) -> Forecast:
    """See the protocol. Raises InvalidInput (`bandit.*`) when the floors leave no room for so many arms."""
    spec, policy, plan = spec_of(planned.plan), planned.policy, planned.plan
    own = _preview(planned, spec)
    alpha = policy.alpha / len(planned.contenders)
    return Forecast(
        seconds=LAUNCH_GUESS_SECONDS + plan.deadline_seconds,
        end="at the deadline",
        promise=f"The best arm is dropped by mistake in at most {cases_of(spec.alpha)} rollouts, and a candidate that "
        f"is no worse than the baseline by its guardrails in at most {cases_of(alpha)}, however long it runs.",
        gates=_guardrails(planned),
        checks=(
            *_check_twins(planned.contenders),
            _check_ratings(own),
            _check_latency(own, policy),
            _check_guardrails(own, policy),
        ),
        own=own,
    )


def _preview(planned: Planned, bandit: BanditSpec) -> BanditPreview:
    contenders, traffic = planned.contenders, planned.traffic
    names = arm_names(len(contenders))
    state = BanditState.initial(bandit, planned.policy, names)
    base_replicas = planned.baseline_replicas
    first_bp = dict(zip(names, state.wanted, strict=True))
    arms = [
        ArmForecast(
            names[0],
            planned.baseline,
            planned.baseline_version,
            first_bp[names[0]],
            bandit.baseline_bp,
            1.0,
            1.0,
            "",
            "",
        )
    ]
    leading_bp = FULL_SHARE_BP - bandit.baseline_bp
    for name, contender in zip(names[1:], contenders, strict=True):
        base_first, base_last = first_bp[names[0]] / base_replicas, bandit.baseline_bp / base_replicas
        own_first, own_last = first_bp[name] / planned.replicas, leading_bp / planned.replicas
        arms.append(
            ArmForecast(
                name,
                contender.variant,
                contender.version,
                first_bp[name],
                bandit.floor_bp,
                own_first / base_first,
                own_last / base_last,
                direction_words(load_directions(own_first, base_first)),
                direction_words(load_directions(own_last, base_last)),
            )
        )
    ratings = traffic.ratings
    return BanditPreview(
        spec=bandit,
        arms=tuple(arms),
        engines=base_replicas + len(contenders) * planned.replicas,
        new_engines=sum(planned.replicas for contender in contenders if not contender.runs),
        gate_alpha=state.policy.alpha,
        answers_per_second=traffic.answers_per_second,
        ratings=ratings.received,
        ratings_per_hour=ratings.per_hour,
        rated_down=ratings.rated_down,
        outlook=_outlook(bandit, len(names), planned.plan, traffic),
    )


def _outlook(bandit: BanditSpec, arms: int, plan: Plan, traffic: MeasuredTraffic) -> BanditOutlook | None:
    rated_down, speed = traffic.ratings.rated_down, traffic.answers_per_second
    if rated_down is None or speed <= 0:
        return None
    deadline = float(plan.deadline_seconds)
    moments = [moment for moment in MOMENTS if moment < deadline]
    return bandit_outlook(
        bandit,
        arms=arms,
        answers_per_second=speed,
        base_rate=rated_down,
        moments=[*moments, deadline] if deadline <= MOMENTS[-1] else moments,
    )


def _guardrails(planned: Planned) -> tuple[PlanForecast, ...]:
    """What each gate finds of one candidate by the deadline, at equal shares and its part of alpha."""
    candidates = len(planned.contenders)
    return forecast_gates(
        planned,
        replace(planned.policy, alpha=planned.policy.alpha / candidates),
        steps=[(EVEN, float(max(planned.plan.deadline_seconds, 1)))],
        # Of this candidate and the baseline, of all arms that there are.
        requests_per_second=(planned.traffic.per_second or ASSUMED_RATE) * 2 / (candidates + 1),
        pairs_per_minute=ASSUMED_PAIRS_PER_MINUTE / candidates,
    )


def _check_twins(contenders: Sequence[Contender]) -> list[Check]:
    """Of candidates with the same files none is better."""
    first: dict[str, Contender] = {}
    found = []
    for position, contender in enumerate(contenders):
        if not contender.files:
            continue
        twin = first.setdefault(contender.files, contender)
        if twin is not contender:
            found.append(
                Check(
                    "warning",
                    f"{contender.label} has the same files as {twin.label}",
                    "Neither is better than the other, so both are usually left at the deadline.",
                    "Leave one of them out.",
                    field=f"versions[{position}]",
                    code="same-files",
                )
            )
    return found


def _check_ratings(preview: BanditPreview) -> Check:
    if preview.ratings == 0:
        return Check(
            "warning",
            "No rating in the last 24 h",
            "Without ratings a bandit learns nothing: shares stay equal until the deadline.",
            "Post users' thumbs to the feedback address, or start a canary.",
            code="no-ratings",
        )
    down = preview.rated_down
    words = "none of them down yet" if down is None else f"{percent_of_share(down)} of all answers rated down"
    if preview.ratings_per_hour < FEW_RATINGS_AN_HOUR:
        return Check(
            "warning",
            f"Only {preview.ratings_per_hour:.1f} ratings an hour",
            f"{words}. A bandit needs many ratings to decide anything.",
            "Ask users for ratings more often, or start a canary.",
            code="few-ratings",
        )
    return Check("ok", f"{preview.ratings_per_hour:,.0f} ratings an hour", words)


def _check_latency(preview: BanditPreview, policy: GatePolicy) -> Check:
    """The load rule: an arm under more load than the baseline may pass but not fail, one under less only fail."""
    required = [gate for gate in policy.gates if gate.kind == "latency_slo" and gate.required]
    if not required:
        return Check("ok", "Every latency gate can be decided", "none required")
    said = [f"{arm.latency_first} {arm.latency_leading}" for arm in preview.arms[1:]]
    if not all("pass" in words for words in said):
        return Check(
            "refused",
            f"No candidate can pass {required[0].label}",
            "A candidate replica never carries as much load as a baseline one, so a pass would prove nothing.",
            "Lower the baseline's share, or give the candidates fewer replicas.",
            field="plan.bandit.baseline_bp",
            code="latency-undecidable",
        )
    if not all("fail" in words for words in said):
        return Check(
            "warning",
            f"{required[0].label} can pass but never fail",
            "A candidate replica always carries more load than a baseline one: slowness may be the load's.",
            "Give the candidates as many replicas as the stable variant has.",
            code="latency-one-sided",
        )
    return Check(
        "ok",
        "Every latency gate can be decided",
        "a candidate can fail it while the shares are equal, and pass it then or once it leads",
    )


def _check_guardrails(preview: BanditPreview, policy: GatePolicy) -> Check:
    required = [gate.label.lower() for gate in policy.gates if gate.required]
    if not required:
        return Check(
            "warning",
            "No gate is required",
            "The best rated arm wins, however slow or faulty it is.",
            "Require a gate.",
            code="no-guardrail",
        )
    return Check(
        "ok",
        f"{len(policy.gates)} guardrails of each candidate",
        f"the winner must pass {', '.join(required)}; a candidate that is no worse than the baseline is dropped by "
        f"them in at most {cases_of(preview.gate_alpha)} rollouts",
    )
