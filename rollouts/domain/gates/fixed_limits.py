"""A number against a fixed limit: what such a gate (`metric_limit`) holds, and how its limit reads.

It compares what one expression says of the candidate with a number that a person chose. It is no test of chance: it
has no weight, spends nothing of alpha, and whoever chooses a limit that healthy versions pass now and then gets
rollbacks for it. So it stands outside every promise of the policy, and each verdict of it says so.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, Literal, get_args

from controlplane.kernel.errors import InvalidInput
from rollouts.domain.gates import checks
from rollouts.domain.gates.expressions import check_expression
from rollouts.domain.record.numbers import LARGEST_NUMBER

if TYPE_CHECKING:  # gates import this module themselves
    from rollouts.domain.gates.policy import GateSpec

Direction = Literal["at_most", "at_least"]
OF_A_FIXED_LIMIT = ("query", "limit", "direction", "fail_readings", "pass_readings")
# What a person need not write: at an interval of 5 s half a minute beyond the limit, and a minute within it.
USUAL: Mapping[str, Any] = {"weight": 0.0, "fail_readings": 6, "pass_readings": 12}
MOST_READINGS = 100_000
# Fields of a test of chance, which say nothing here, with the value that says nothing.
NEUTRAL: Mapping[str, Any] = {
    "ratio": 1.0,
    "delta": 0.0,
    "margin": None,
    "min_exposure": 30,
    "mode": "tolerant",
}
NO_TEST = "A fixed limit, no test of chance."
BEYOND: Mapping[Direction, str] = {"at_most": "above", "at_least": "below"}


def check_fixed_limit(gate: GateSpec) -> None:
    """Whether a gate of this kind is whole. Raises InvalidInput naming the field."""
    if gate.query is None:
        raise InvalidInput(
            "query is missing: PromQL of one number of the arm.",
            field="query",
            fix='Such as max(DCGM_FI_DEV_GPU_TEMP{namespace="{{namespace}}",pod=~"{{pods}}"}).',
        )
    check_expression(gate.query, field="query")
    if gate.limit is None:
        raise InvalidInput("limit is missing: the number that is compared with.", field="limit")
    checks.between(gate.limit, -LARGEST_NUMBER, LARGEST_NUMBER, field="limit")
    checks.one_of(gate.direction, get_args(Direction), field="direction")
    for name, what in (
        ("fail_readings", "readings beyond the limit, in a row, that roll back"),
        ("pass_readings", "readings within it, in a row, that pass"),
    ):
        if getattr(gate, name) is None:
            raise InvalidInput(f"{name} is missing: {what}.", field=name)
        number = checks.count(getattr(gate, name), field=name)
        if not 1 <= number <= MOST_READINGS:
            raise InvalidInput(f"{name} is {number:,}; it must be from 1 to {MOST_READINGS:,}.", field=name)
        object.__setattr__(gate, name, number)  # 6 and 6.0 must not make two digests of one policy
    if gate.weight != 0:
        raise InvalidInput(
            f"weight is {gate.weight:g}: a fixed limit is no test of chance and has no part of alpha.",
            field="weight",
            fix="Leave it out.",
        )
    for name, neutral in NEUTRAL.items():
        if getattr(gate, name) != neutral:
            raise InvalidInput(
                f"{name} has no meaning in a metric_limit gate.", field=name, fix="Leave it out."
            )


def is_beyond(gate: GateSpec, value: float) -> bool:
    """Whether a number is on the wrong side. The limit itself is within."""
    limit = gate.limit or 0.0
    return value > limit if gate.direction == "at_most" else value < limit


def number_text(value: float) -> str:
    """A number of unknown unit as people read it: `90.2`, `12,500`, `0.00042`."""
    if value and not 1e-4 <= abs(value) < 1e15:
        return f"{value:.4g}"
    digits = 0 if abs(value) >= 1_000 else 3
    text = f"{value:,.{digits}f}" if abs(value) >= 1 or not value else f"{value:.4g}"
    return text.rstrip("0").rstrip(".") if "." in text else text


def limit_words(gate: GateSpec) -> str:
    """`at most 85`."""
    return f"{'at most' if gate.direction == 'at_most' else 'at least'} {number_text(gate.limit or 0.0)}"


def beyond_words(gate: GateSpec) -> str:
    """`above 85`."""
    return f"{BEYOND[gate.direction or 'at_most']} {number_text(gate.limit or 0.0)}"


def describe_fixed_limit(gate: GateSpec) -> str:
    """What the gate does, in sentences for people."""
    need = f"Its PASS is {'' if gate.required else 'not '}needed for promotion."
    return (
        f"{gate.label}: the candidate's number, as its query says it, {limit_words(gate)}. FAIL after "
        f"{_readings(gate.fail_readings)} in a row {beyond_words(gate)}; PASS after {_readings(gate.pass_readings)} in "
        f"a row within the limit. {NO_TEST} Its rollbacks come on top of the policy's false alarms. {need}"
    )


def _readings(number: int | None) -> str:
    return "1 reading" if number == 1 else f"{number or 0:,} readings"
