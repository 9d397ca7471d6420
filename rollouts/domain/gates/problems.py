"""Everything that is wrong with a policy as it was written, not only the first thing."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from controlplane.kernel.errors import InvalidInput
from rollouts.domain.gates import checks
from rollouts.domain.gates.fast_kill_rules import FastKill
from rollouts.domain.gates.policy import GatePolicy, GateSpec, equal_weight

MOST = 12  # of one part; further mistakes are found after these were corrected
# What stands in for a refused value while the rest is read: without a limit the rest would be refused for that.
OF_EVERY_GATE: Mapping[str, Any] = {"key": "sound", "label": "Sound", "weight": 0.5}
OF_A_SHARE: Mapping[str, Any] = {**OF_EVERY_GATE, "ratio": 1.25, "delta": 0.01}
SOUND: Mapping[object, Mapping[str, Any]] = {
    **dict.fromkeys(("error_rate", "refused", "abandoned", "feedback", "empty", "truncated"), OF_A_SHARE),
    "latency_slo": {**OF_A_SHARE, "slo_seconds": 0.5, "signal": "ttft"},
    "counter_ratio": {**OF_A_SHARE, "bad_query": "bad{v='{{variant}}'}", "all_query": "all{v='{{variant}}'}"},
    "metric_limit": {
        **OF_EVERY_GATE,
        "weight": 0.0,
        "query": "number{v='{{variant}}'}",
        "limit": 1.0,
        "direction": "at_most",
    },
    "paired": {**OF_EVERY_GATE, "margin": 0.05},
}
A_GATE = {"key": "sound", "kind": "error_rate", "delta": 0.01}


def policy_problems(data: object) -> tuple[InvalidInput, ...]:
    """What `GatePolicy.from_json(data)` would refuse, part by part; empty exactly when it would not.

    `field` names the value as the policy writes it (`gates[1].slo_seconds`). Each gate, the fast kill and the
    values of the policy itself are read for themselves, so that a mistake in one hides none in another.
    """
    try:
        GatePolicy.from_json(data)
    except InvalidInput as error:
        first = error
    else:
        return ()
    if not isinstance(data, Mapping):
        return (first,)
    found: list[InvalidInput] = []
    gates = data.get("gates")
    rest: dict[str, Any] = {name: value for name, value in data.items() if name != "fast_kill"}
    if isinstance(gates, list | tuple) and gates:
        equal = None if equal_weight(gates) is None else 1.0
        for position, gate in enumerate(gates):
            mistakes = _mistakes(lambda gate: GateSpec.from_json(gate, equal_weight=equal), gate)
            found += [checks.at(f"gates[{position}]", one) for one in mistakes]
        if found:
            rest["gates"] = [A_GATE]  # sums and doubles of gates that cannot be read mean nothing yet
    if "fast_kill" in data:
        found += [checks.at("fast_kill", one) for one in _mistakes(FastKill.from_json, data["fast_kill"])]
    found += _mistakes(GatePolicy.from_json, rest)
    return tuple(found) or (first,)


def _mistakes(read: Callable[[Any], object], data: object) -> list[InvalidInput]:
    """Reads again without the value that was refused, for as long as that uncovers another mistake."""
    found: list[InvalidInput] = []
    kept = data
    for _ in range(MOST):
        try:
            read(kept)
            break
        except InvalidInput as error:
            if any(one.field == error.field for one in found):
                break
            found.append(error)
            if not isinstance(kept, Mapping) or error.field in ("", "gates", "kind"):
                break
            sound = SOUND.get(kept["kind"], {}) if isinstance(kept.get("kind"), str) else {}
            if error.field not in kept and error.field not in sound:
                break
            stand_in = {error.field: sound[error.field]} if error.field in sound else {}
            kept = {name: value for name, value in kept.items() if name != error.field} | stand_in
    return found
