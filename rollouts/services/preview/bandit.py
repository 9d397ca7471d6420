"""The dry run of a bandit: who gets what at first, what its ratings can decide in which time, what each gate finds."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

from registry.models import Version
from rollouts.domain.bandits import BanditSpec, BanditState
from rollouts.domain.bandits.outlook import BanditOutlook, bandit_outlook
from rollouts.domain.gates.forecast import PlanForecast, plan_forecast
from rollouts.domain.gates.latency import Directions, load_directions
from rollouts.domain.gates.policy import GatePolicy
from rollouts.domain.lifecycle.arms import arm_names
from rollouts.domain.lifecycle.plan import FULL_SHARE_BP, Plan
from rollouts.domain.variants import ServingSpec
from rollouts.models import Endpoint
from rollouts.services.preview.checks import ASSUMED_RATE, Check
from rollouts.services.preview.traffic import MeasuredTraffic

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


def preview_bandit(
    *,
    endpoint: Endpoint,
    versions: Sequence[Version],
    variants: Sequence[str],
    plan: Plan,
    spec: ServingSpec,
    policy: GatePolicy,
    traffic: MeasuredTraffic,
    running: frozenset[str],
) -> BanditPreview:
    """The forecast for these candidates. `running`: variants whose engines run already.

    Raises InvalidInput (`plan.bandit.*`) when the floors leave no room for so many arms.
    """
    bandit = plan.bandit
    assert bandit is not None
    names = arm_names(len(versions))
    state = BanditState.initial(bandit, policy, names)
    stable = endpoint.stable
    base_replicas = max(1, stable.spec.replicas if stable else 1)
    first_bp = dict(zip(names, state.wanted, strict=True))
    arms = [
        ArmForecast(
            names[0],
            stable.name if stable else "",
            stable.version.number if stable else 0,
            first_bp[names[0]],
            bandit.baseline_bp,
            1.0,
            1.0,
            "",
            "",
        )
    ]
    leading_bp = FULL_SHARE_BP - bandit.baseline_bp
    for name, version, variant in zip(names[1:], versions, variants, strict=True):
        base_first, base_last = first_bp[names[0]] / base_replicas, bandit.baseline_bp / base_replicas
        own_first, own_last = first_bp[name] / spec.replicas, leading_bp / spec.replicas
        arms.append(
            ArmForecast(
                name,
                variant,
                version.number,
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
        engines=base_replicas + len(versions) * spec.replicas,
        new_engines=sum(spec.replicas for variant in variants if variant not in running),
        gate_alpha=state.policy.alpha,
        answers_per_second=traffic.answers_per_second,
        ratings=ratings.received,
        ratings_per_hour=ratings.per_hour,
        rated_down=ratings.rated_down,
        outlook=_outlook(bandit, len(names), plan, traffic),
    )


def direction_words(directions: Directions) -> str:
    """What a latency gate may say under these loads."""
    return {
        (True, True): "fail and pass",
        (True, False): "fail only",
        (False, True): "pass only",
        (False, False): "nothing",
    }[(directions.may_fail, directions.may_pass)]


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


def guardrail_forecasts(
    policy: GatePolicy, plan: Plan, traffic: MeasuredTraffic, *, candidates: int, pairs_per_minute: float
) -> tuple[PlanForecast, ...]:
    """What each gate finds of one candidate by the deadline, at equal shares and its part of alpha."""
    arms = candidates + 1
    stricter = replace(policy, alpha=policy.alpha / candidates)
    both = (traffic.per_second or ASSUMED_RATE) * 2 / arms  # requests of this candidate and the baseline
    return tuple(
        plan_forecast(
            policy=stricter,
            gate=gate,
            requests_per_second=both,
            base_rate=traffic.base_rate(gate),
            steps=[(EVEN, float(max(plan.deadline_seconds, 1)))],
            pairs_per_minute=pairs_per_minute / candidates,
        )
        for gate in policy.gates
    )


def bandit_checks(preview: BanditPreview, policy: GatePolicy, versions: Sequence[Version]) -> list[Check]:
    """What only a bandit needs: ratings, different candidates, latency that can be judged."""
    return [
        *_check_twins(versions),
        _check_ratings(preview),
        _check_latency(preview, policy),
        _check_guardrails(preview, policy),
    ]


def _check_twins(versions: Sequence[Version]) -> list[Check]:
    """Candidates with the same files can only tie."""
    first: dict[str, Version] = {}
    found = []
    for position, version in enumerate(versions):
        if not version.manifest_digest:
            continue
        twin = first.setdefault(version.manifest_digest, version)
        if twin is not version:
            found.append(
                Check(
                    "warning",
                    f"{version.label} has the same files as {twin.label}",
                    "They can only end as a tie.",
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
    words = "none of them down yet" if down is None else f"{down:.2%} of all answers rated down"
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
        "failed while shares are equal, passed then or by the arm that leads",
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
        f"the winner must pass {', '.join(required)}; a harmless arm is dropped by them with probability at most "
        f"{preview.gate_alpha:.3g}",
    )
