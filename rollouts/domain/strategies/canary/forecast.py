"""The dry run of a canary: its steps in time, and whether they can decide its gates."""

from __future__ import annotations

from controlplane.kernel.words import cases_of, duration_of_seconds, percent_of_bp
from rollouts.domain.gates.latency import step_directions
from rollouts.domain.gates.policy import GatePolicy
from rollouts.domain.lifecycle.plan import FULL_SHARE_BP, Plan
from rollouts.domain.strategies.dry_run import (
    ASSUMED_RATE,
    LAUNCH_GUESS_SECONDS,
    Check,
    Forecast,
    Planned,
    StepForecast,
    direction_words,
    forecast_gates,
)

PASS_SHARE_BP = 2_500


def forecast(planned: Planned) -> Forecast:
    """See the protocol."""
    plan, policy = planned.plan, planned.policy
    per_second = planned.traffic.per_second or ASSUMED_RATE
    steps = _steps(planned, per_second)
    return Forecast(
        seconds=steps[-1].ends_after,
        end="when the last step ends",
        promise=f"A version that is no worse is rolled back by mistake in at most {cases_of(policy.alpha)} rollouts, "
        "however long it runs.",
        gates=forecast_gates(
            planned,
            policy,
            steps=[(step.share_bp, step.lasts(per_second)) for step in plan.steps],
            requests_per_second=per_second,
        ),
        checks=(
            _check_latency_steps(policy, steps),
            _check_pass_share(policy, plan),
            *_check_deadline(plan, steps[-1].ends_after),
        ),
        steps=steps,
    )


def _steps(planned: Planned, per_second: float) -> tuple[StepForecast, ...]:
    base = planned.baseline_replicas
    at = LAUNCH_GUESS_SECONDS
    rows = []
    for step in planned.plan.steps:
        words = direction_words(step_directions(step.share_bp, float(planned.replicas), float(base)))
        load = (step.share_bp / planned.replicas) / ((FULL_SHARE_BP - step.share_bp) / base)
        rows.append(StepForecast(step.share_bp, at, at + step.lasts(per_second), load, words))
        at += step.lasts(per_second)
    return tuple(rows)


def _check_latency_steps(policy: GatePolicy, steps: tuple[StepForecast, ...]) -> Check:
    gates = [gate for gate in policy.gates if gate.kind == "latency_slo" and gate.required]
    deciding = [
        percent_of_bp(step.share_bp)
        for step in steps
        if "pass" in step.latency and step.share_bp >= PASS_SHARE_BP
    ]
    if gates and not deciding:
        return Check(
            "refused",
            f"No step can decide {gates[0].label}",
            "A candidate replica never carries as much load as a baseline one, so a pass would prove nothing.",
            "Add a step of 50%, or give the candidate fewer replicas.",
            field="plan.steps",
            code="latency-undecidable",
        )
    return Check(
        "ok",
        "Every latency gate can be decided",
        f"by {', '.join(deciding)}" if deciding else "none required",
    )


def _check_pass_share(policy: GatePolicy, plan: Plan) -> Check:
    needed = any(gate.required and gate.kind != "paired" for gate in policy.gates)
    if needed and not any(step.share_bp >= PASS_SHARE_BP for step in plan.steps):
        return Check(
            "refused",
            "No step has 25% or more",
            "A pass counts only from steps with a share of at least 25%.",
            "Add a step of 25% or more.",
            field="plan.steps",
            code="share-too-small",
        )
    return Check(
        "ok",
        "Steps are large enough for a pass",
        f"{percent_of_bp(plan.steps[-1].share_bp)} at the last step",
    )


def _check_deadline(plan: Plan, seconds: float) -> list[Check]:
    """A warning where the steps, with the requests that they ask for, take longer than the rollout may."""
    if seconds <= plan.deadline_seconds:
        return []
    return [
        Check(
            "warning",
            f"The steps take {duration_of_seconds(seconds)}, the deadline comes after "
            f"{duration_of_seconds(plan.deadline_seconds)}",
            "With this traffic the rollout pauses undecided before its last step ends.",
            "Ask for fewer requests or less time in the steps, or for a later deadline.",
            field="plan.deadline_seconds",
            code="deadline-too-early",
        )
    ]
