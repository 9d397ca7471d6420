"""The arms of a rollout as rows: what was asked of each, and what was measured over the last minutes."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import timedelta

from controlplane.kernel.words import count_text, number_text, percent_of_bp, percent_or_no_data
from rollouts.domain.gates.latency import timed_against
from rollouts.domain.gates.policy import GatePolicy
from rollouts.domain.record.intervals import Interval
from rollouts.evidence import thin_series
from rollouts.models import Arm, Rollout, Variant, Workload
from rollouts.ui.parts.arm_words import colour_of

RECENT = timedelta(minutes=5)


@dataclass(frozen=True, slots=True)
class ArmRow:
    """One arm as measured over the last minutes."""

    arm: int
    name: str
    variant: str
    version: str
    target: str
    actual: str
    replicas: str
    served: str
    per_second: str
    kv_cache: str
    kv_percent: float | None
    latency: tuple[str, ...]
    errors: str


def arm_number(arm: Arm) -> int:
    """Its colour: 0 the baseline, 1 the candidate, 2 and on further ones of a bandit."""
    return colour_of(arm.name)


def workload_of(variant: Variant | None) -> Workload | None:
    """The variant's workload, None before it was ever asked for."""
    return None if variant is None else getattr(variant, "workload", None)


def recent_intervals(rollout: Rollout) -> list[Interval]:
    """The intervals of the last RECENT minutes in which anything was measured."""
    until = rollout.measured_at or rollout.created_at
    return [Interval.from_json(data) for data in thin_series(rollout.pk, since=until - RECENT)]


def workload_of_arm(rollout: Rollout, arm: Arm) -> Workload | None:
    return workload_of(rollout.baseline if arm.name == "baseline" else rollout.candidate)


def arm_row(arm: Arm, workload: Workload | None, intervals: Sequence[Interval], policy: GatePolicy) -> ArmRow:
    counts = [interval.arms[arm.name] for interval in intervals if arm.name in interval.arms]
    seconds = sum(interval.seconds for interval in intervals if arm.name in interval.arms)
    requests = sum(count.requests for count in counts)
    errors = sum(count.errors for count in counts)
    latency = []
    for gate in policy.gates:
        if gate.kind != "latency_slo":
            continue
        histograms = (count.latency.get(gate.signal or "") for count in counts)
        found = [timed_against(one, gate.slo_seconds or 0.0) for one in histograms if one is not None]
        total = sum(one.trials for one in found if one is not None)
        over = sum(one.over for one in found if one is not None)
        latency.append(percent_or_no_data(over / total if total else None))
    kv_cache = workload.kv_cache_share if workload else None
    return ArmRow(
        arm=arm_number(arm),
        name=arm.name,
        variant=arm.variant.name,
        version=arm.variant.version.label,
        target=percent_of_bp(arm.desired_bp),
        actual=percent_of_bp(arm.observed_bp),
        replicas=f"{workload.ready} / {max(workload.desired, workload.ready)}" if workload else "0 / 0",
        served=f"{arm.requests:,}",
        per_second=number_text(requests / seconds) if seconds else "no data",
        kv_cache=percent_or_no_data(kv_cache),
        kv_percent=None if kv_cache is None else kv_cache * 100,
        latency=tuple(latency),
        errors=percent_or_no_data(errors / requests if requests else None),
    )


def arms_meta(rollout: Rollout, arms: Sequence[Arm], intervals: Sequence[Interval]) -> str:
    failed = sum(arm.failed for arm in arms)
    fallbacks = sum(arm.fallbacks for arm in arms)
    parts = ["last 5 min" if intervals else "nothing measured yet"]
    if rollout.traffic_at is not None:
        parts.append(f"{count_text(failed, 'request')} failed for users")
    if fallbacks:
        parts.append(f"{fallbacks:,} answered by the baseline instead")
    return " · ".join(parts)
