"""Where one policy is weaker than another: what it would let through, or find later, than the other.

Every value of a policy has a rule here. A value of which neither direction is clearly the stricter one counts as weaker
whenever it differs, so that a person who is responsible for the endpoint looks at it. "Not weaker" is therefore a
promise; "weaker" asks a person.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from rollouts.domain.gates.fast_kill_rules import FastKill
from rollouts.domain.gates.policy import USUAL_OUTAGE_SHARE, GatePolicy, GateSpec
from rollouts.domain.gates.policy_changes import value_text


@dataclass(frozen=True, slots=True)
class Weakening:
    """One value in which a policy is weaker.

    field           as `policy_changes` names it: `alpha`, `fast_kill.error_share`, `gates.errors.ratio`, or
                    `gates.errors` for a gate that is missing
    before, after   the two values as texts; `after` is empty for a missing gate
    why             what is lost by it
    """

    field: str
    before: str
    after: str
    why: str

    @property
    def sentence(self) -> str:
        """`gates.errors.ratio: 1.25 → 1000, a larger limit lets more worsening through`."""
        values = f"{self.before} → {self.after}, " if self.after else ""
        return f"{self.field}: {values}{self.why}"

    def to_json(self) -> dict[str, str]:
        return {"field": self.field, "before": self.before, "after": self.after, "why": self.why}


Rule = Callable[[Any, Any], bool]


def _larger(old: float, new: float) -> bool:
    return new > old


def _smaller(old: float, new: float) -> bool:
    return new < old


def _differs(old: object, new: object) -> bool:
    return new != old


def _switched_off(old: bool, new: bool) -> bool:
    return old and not new


def _never(old: object, new: object) -> bool:
    return False


def _no_rollback_any_more(old: str, new: str) -> bool:
    return old == "rollback" and new != "rollback"


def _tolerant_now(old: str, new: str) -> bool:
    return old == "strict" and new != "strict"


def _other_outage_rule(old: float | None, new: float | None) -> bool:
    """A policy from before there was this rule may gain the usual one."""
    return new != old and not (old is None and new == USUAL_OUTAGE_SHARE)


# What is lost when the rule says so. A value with no rule here is found by a test.
OF_THE_POLICY: Mapping[str, tuple[Rule, str]] = {
    "alpha": (
        _differs,
        "larger rolls back versions that are no worse more often, smaller finds bad ones later",
    ),
    "beta": (_larger, "a version beyond a limit may pass more often"),
    "restart_every_seconds": (_differs, "late regressions are looked for at other times"),
    "warm_up_requests": (_larger, "more of the first requests are left out of the latency gates"),
    "stale_after_seconds": (_larger, "missing data is noticed later"),
    "baseline_outage_share": (
        _other_outage_rule,
        "another share of failures counts as an outage of the baseline",
    ),
    "on_inconclusive": (_no_rollback_any_more, "undecided gates at the deadline no longer roll back"),
    "on_no_data": (_no_rollback_any_more, "missing data at the deadline no longer rolls back"),
    "on_error": (_no_rollback_any_more, "a broken source at the deadline no longer rolls back"),
    "name": (_never, ""),
    "version": (_never, ""),
}
OF_THE_FAST_KILL: Mapping[str, tuple[Rule, str]] = {
    "enabled": (_switched_off, "nothing rolls back at once"),
    "window_seconds": (_differs, "bursts are looked for over another time"),
    "min_requests": (_larger, "a burst needs more requests to be seen"),
    "error_share": (_larger, "a burst needs more failures to be seen"),
    "baseline_error_share": (_smaller, "fewer failures of the baseline excuse the candidate"),
    "without_baseline": (_switched_off, "without a baseline, errors no longer roll back at once"),
    "crash_restarts": (_larger, "more crashes are allowed"),
    "oom_kills": (_larger, "the engine may run out of memory more often"),
}
OF_A_GATE: Mapping[str, tuple[Rule, str]] = {
    "key": (_never, ""),
    "label": (_never, ""),
    "kind": (_differs, "it measures something else"),
    "signal": (_differs, "it measures something else"),
    "slo_seconds": (_differs, "it counts other requests as slow"),
    "bad_query": (_differs, "it counts other events as bad"),
    "all_query": (_differs, "it counts other events"),
    "query": (_differs, "it reads another number"),
    "direction": (_differs, "the number is held to the other side of the limit"),
    "limit": (_never, ""),  # `_fixed_limit` judges it, by its direction
    "fail_readings": (_larger, "a number beyond the limit rolls back later"),
    "pass_readings": (_smaller, "it may pass on fewer readings"),
    "mode": (_tolerant_now, "a worsening within the limit no longer fails"),
    "weight": (_smaller, "with less of the accepted risk of a wrong rollback it fails later"),
    "ratio": (_larger, "a larger limit lets more worsening through"),
    "delta": (_larger, "a larger limit lets more worsening through"),
    "margin": (_larger, "a larger limit lets more worsening through"),
    "required": (_switched_off, "a promotion no longer needs its pass"),
    "min_exposure": (_smaller, "it may pass on fewer requests"),
}


def weakenings(old: GatePolicy, new: GatePolicy) -> tuple[Weakening, ...]:
    """Every value in which `new` is weaker than `old`, in the order of the policy; empty when in none."""
    found = list(_compared("", OF_THE_POLICY, old, new))
    found += _fast_kill(old.fast_kill, new.fast_kill)
    there = {gate.key: gate for gate in new.gates}
    for gate in old.gates:
        other = there.get(gate.key)
        if other is None:
            what = f"{gate.label}, {gate.limit_text()}"
            found.append(Weakening(f"gates.{gate.key}", what, "", "this gate is missing"))
        else:
            found += _gate(gate, other)
    return tuple(found)


def _fast_kill(old: FastKill, new: FastKill) -> Iterator[Weakening]:
    if not old.enabled:
        return  # whatever it says now, it did nothing before
    if not new.enabled:
        _, why = OF_THE_FAST_KILL["enabled"]
        yield Weakening("fast_kill.enabled", value_text(True), value_text(False), why)
        return
    yield from _compared("fast_kill.", OF_THE_FAST_KILL, old, new)


def _gate(old: GateSpec, new: GateSpec) -> Iterator[Weakening]:
    prefix = f"gates.{old.key}."
    if old.kind != new.kind:
        yield Weakening(f"{prefix}kind", old.kind, new.kind, OF_A_GATE["kind"][1])
    elif old.absolute != new.absolute:
        why = "a limit on the candidate alone and one against the baseline cannot be compared"
        yield Weakening(f"{prefix}ratio", value_text(old.ratio), value_text(new.ratio), why)
    else:
        yield from _compared(prefix, OF_A_GATE, old, new)
        yield from _fixed_limit(prefix, old, new)


def _fixed_limit(prefix: str, old: GateSpec, new: GateSpec) -> Iterator[Weakening]:
    """Which limit is the weaker one depends on its direction, which is compared by itself."""
    if old.limit is None or new.limit is None:
        return
    weaker = _larger if old.direction == "at_most" else _smaller
    if weaker(old.limit, new.limit):
        why = "a limit further out lets more through"
        yield Weakening(f"{prefix}limit", value_text(old.limit), value_text(new.limit), why)


def _compared(
    prefix: str, rules: Mapping[str, tuple[Rule, str]], old: object, new: object
) -> Iterator[Weakening]:
    for name, (is_weaker, why) in rules.items():
        before, after = getattr(old, name), getattr(new, name)
        if before != after and is_weaker(before, after):
            yield Weakening(prefix + name, value_text(before) or "none", value_text(after) or "none", why)
