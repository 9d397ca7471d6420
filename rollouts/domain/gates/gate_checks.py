"""What a gate may hold, by its kind. Each check raises InvalidInput naming the field."""

from __future__ import annotations

from typing import TYPE_CHECKING, get_args

from controlplane.kernel.errors import InvalidInput
from rollouts.domain.gates import checks
from rollouts.domain.gates.expressions import check_expression
from rollouts.domain.gates.fixed_limits import OF_A_FIXED_LIMIT, check_fixed_limit
from rollouts.domain.record.intervals import LatencySignal

if TYPE_CHECKING:  # gates import this module themselves
    from rollouts.domain.gates.policy import GateSpec


def check_by_kind(gate: GateSpec) -> None:
    """Whether the fields fit the kind, whose name and numbers were read already."""
    _check_latency(gate)
    _check_counters(gate)
    if gate.kind == "metric_limit":
        check_fixed_limit(gate)
        return
    for name in OF_A_FIXED_LIMIT:
        if getattr(gate, name) is not None:
            raise InvalidInput(f"{name} belongs to a metric_limit gate only.", field=name, fix="Remove it.")
    checks.between(gate.weight, 0, 1, field="weight", low_open=True)
    if gate.kind == "paired":
        _check_paired(gate)
    else:
        _check_proportion(gate)


def _check_latency(gate: GateSpec) -> None:
    if gate.kind == "latency_slo":
        if gate.slo_seconds is None:
            raise InvalidInput("slo_seconds is missing: a latency gate needs its SLO.", field="slo_seconds")
        checks.between(gate.slo_seconds, 0, 86_400, field="slo_seconds", low_open=True)
        checks.one_of(gate.signal, get_args(LatencySignal), field="signal")
        return
    for name in ("slo_seconds", "signal"):
        if getattr(gate, name) is not None:
            raise InvalidInput(f"{name} belongs to a latency_slo gate only.", field=name, fix="Remove it.")


def _check_counters(gate: GateSpec) -> None:
    for name, what in (("bad_query", "bad events"), ("all_query", "all events")):
        value = getattr(gate, name)
        if gate.kind == "counter_ratio":
            if value is None:
                raise InvalidInput(
                    f"{name} is missing: PromQL of the counter of {what}.",
                    field=name,
                    fix='Such as name_total{namespace="{{namespace}}",pod=~"{{pods}}"}.',
                )
            check_expression(value, field=name)
        elif value is not None:
            raise InvalidInput(f"{name} belongs to a counter_ratio gate only.", field=name, fix="Remove it.")
    if gate.kind == "counter_ratio" and gate.bad_query == gate.all_query:
        raise InvalidInput(
            "bad_query is the same as all_query: then every event is bad, in both arms.", field="bad_query"
        )


def _check_paired(gate: GateSpec) -> None:
    if gate.margin is None:
        raise InvalidInput("margin is missing: how far may the mean score drop?", field="margin")
    checks.between(gate.margin, 0, 1, field="margin", low_open=True, high_open=True)
    for name, neutral in (("ratio", 1.0), ("delta", 0.0)):
        if getattr(gate, name) != neutral:
            raise InvalidInput(f"{name} has no meaning in a paired gate.", field=name, fix="Use margin.")


def _check_proportion(gate: GateSpec) -> None:
    if gate.margin is not None:
        raise InvalidInput("margin belongs to a paired gate.", field="margin", fix="Use ratio or delta.")
    ratio = checks.between(gate.ratio, 0, 1000, field="ratio")
    delta = checks.between(gate.delta, 0, 1, field="delta", high_open=True)
    if ratio == 0:
        if delta == 0:
            raise InvalidInput(
                "delta is 0: an absolute limit (ratio 0) needs the highest share, for example 0.01.",
                field="delta",
            )
    elif ratio < 1:
        raise InvalidInput(
            f"ratio is {ratio:g}; it must be 0 (an absolute limit) or at least 1.", field="ratio"
        )
    elif ratio == 1 and delta == 0:
        raise InvalidInput(
            "ratio is 1 and delta 0: that leaves no room, so an unchanged version could never pass.",
            field="ratio",
            fix="Allow some, such as ratio 1.25 or delta 0.01; mode strict still fails on any worsening.",
        )
