"""Plans as they are sent and as they are stored. Which strategies there are, and what is theirs, the table says."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from controlplane.kernel.errors import InvalidInput
from controlplane.kernel.stored import as_stored
from rollouts.domain.gates import checks
from rollouts.domain.lifecycle.plan import (
    TIMES,
    Plan,
    Settings,
    Step,
    check_steps,
    read_steps,
    read_times,
    refuse_unknown,
)
from rollouts.domain.strategies import STRATEGIES

USUAL = "canary"  # what is meant when nobody says which


def read_plan(data: Mapping[str, Any]) -> Plan:
    """Reads a plan that a client sent. Raises InvalidInput naming the field, such as `plan.steps[1].share_bp` or
    `plan.bandit.beta`."""
    name = str(data.get("strategy", USUAL))
    if name not in STRATEGIES:
        raise InvalidInput(
            f"The strategy {name!r} is not known.",
            field="plan.strategy",
            fix=f"Use {' or '.join(STRATEGIES)}.",
        )
    kind = STRATEGIES[name].SETTINGS
    refuse_unknown(data, {"strategy", "steps" if kind is None else name, *TIMES}, "plan")
    steps = read_steps(data.get("steps")) if kind is None else ()
    settings = None if kind is None else _settings(kind, data.get(name, {}))
    plan = Plan(name, steps, settings=settings, **read_times(data))
    if kind is None:
        check_steps(steps)
    return plan


def stored_plan(data: Mapping[str, Any]) -> Plan:
    """A plan as `to_json` gave it, whatever a new one may hold today. Of a strategy that is not known only what all
    plans have, because nobody here knows the form of the rest: a list shows such a rollout all the same."""
    known = STRATEGIES.get(data["strategy"])
    if known is None:
        return as_stored(Plan, {name: data[name] for name in ("strategy", *TIMES) if name in data})
    steps = tuple(as_stored(Step, step) for step in data.get("steps", ()))
    kind = known.SETTINGS
    settings = None if kind is None else as_stored(kind, data.get(data["strategy"], {}))
    return as_stored(Plan, {**data, "steps": steps, "settings": settings})


def _settings(kind: type[Settings], data: Any) -> Settings:
    try:
        return kind.from_json(data)
    except InvalidInput as error:
        raise checks.at("plan", error) from error
