"""One gate policy: its versions, the chosen one explained, what changed, where it is used."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime

from django.db.models import Count

from controlplane.access.models import User
from controlplane.access.roles import Action, refusal
from controlplane.kernel.errors import NotFound
from controlplane.kernel.words import (
    duration_of_minutes,
    odds,
    percent_of_share,
    rough,
    seconds_text,
)
from rollouts import selectors
from rollouts.domain.gates.outlook import EXPOSURES, GateOutlook, PolicyOutlook
from rollouts.domain.gates.plan_forecast import worsening_text
from rollouts.domain.gates.policy import GatePolicy, GateSpec
from rollouts.domain.gates.policy_changes import PolicyChange, policy_changes
from rollouts.models import Endpoint, GatePolicyVersion, Rollout
from rollouts.services.policies.numbers import with_traffic
from rollouts.services.policies.text import policy_text
from rollouts.services.policies.versions import explain
from rollouts.ui.parts.gate_words import MEASURES, unit_of
from rollouts.ui.parts.lists import RolloutRow, rollout_row

A_PAGE = 20
ROLLOUTS_SHOWN = 8
COMPARABLE_SHOWN = 100
FIELDS_SHOWN = 3


@dataclass(frozen=True, slots=True)
class PolicyVersionRow:
    """`changed` says what differs from the version before; empty for the first."""

    version: GatePolicyVersion
    changed: str
    rollouts: int
    endpoints: tuple[str, ...]
    chosen: bool


@dataclass(frozen=True, slots=True)
class GateLine:
    """A gate with its forecast. `by_exposure`: (requests of the candidate, the smallest worsening found)."""

    gate: GateSpec
    measures: str
    objective: str
    weight: str
    smallest: str
    passes: str
    to_pass: str
    passes_from: str
    does: str
    alone: str
    base: str
    by_exposure: tuple[tuple[str, str], ...]


@dataclass(frozen=True, slots=True)
class PolicyRule:
    """A setting of the whole policy in words."""

    name: str
    value: str


@dataclass(frozen=True, slots=True)
class UseRow:
    """An endpoint that uses the policy. `refused`: why it cannot be moved to the shown version."""

    endpoint: str
    reference: str
    is_shown: bool
    refused: str


@dataclass(frozen=True, slots=True)
class PolicyPage:
    """`shown` is the chosen version, `against` the one it is compared with (None: it is the first)."""

    name: str
    shown: GatePolicyVersion
    newest: GatePolicyVersion
    policy: GatePolicy
    versions: tuple[PolicyVersionRow, ...]
    older: int | None
    against: GatePolicyVersion | None
    comparable: tuple[int, ...]
    more_comparable: int
    changes: tuple[PolicyChange, ...]
    gates: tuple[GateLine, ...]
    rules: tuple[PolicyRule, ...]
    outlook: PolicyOutlook
    exposures: tuple[str, ...]
    together: str
    numbers_of: str
    used: tuple[UseRow, ...]
    others: tuple[tuple[str, str], ...]
    endpoints: tuple[str, ...]
    rollouts: tuple[RolloutRow, ...]
    rollout_count: int
    edit_refused: str
    use_refused: str
    text: str
    now: datetime

    @property
    def is_newest(self) -> bool:
        return self.shown.version == self.newest.version


def build(
    *,
    name: str,
    user: User,
    now: datetime,
    version: int | None = None,
    against: int | None = None,
    before: int | None = None,
    numbers_of: str = "",
) -> PolicyPage:
    """The whole page; the number of queries depends on neither versions, endpoints nor rollouts.

    version, against    which version to show, and with which to compare; None: the newest, and the one before
    before              versions below this number in the list
    numbers_of          an endpoint whose traffic the numbers are from; empty: the first that uses the policy,
                        `-` for assumed numbers
    Raises NotFound.
    """
    stored = GatePolicyVersion.objects.filter(name=name).order_by("-version")
    listed = list((stored.filter(version__lt=before) if before is not None else stored)[: A_PAGE + 1])
    newest = listed[0] if listed and before is None else stored.first()
    if newest is None:
        raise NotFound(f"There is no gate policy {name!r}.", code="gate-policy-not-found")
    shown = newest if version is None else _version(listed, name, version)
    compared = _compared(listed, shown, against)
    endpoints = list(with_traffic(now).select_related("gate_policy", "stable"))
    using = [endpoint for endpoint in endpoints if endpoint.gate_policy.name == name]
    source = _source(endpoints, using, numbers_of)
    endpoints.sort(key=lambda endpoint: endpoint.name)
    using.sort(key=lambda endpoint: endpoint.name)
    comparable = _comparable(newest.version, shown.version, compared)
    policy = shown.policy
    outlook = explain(policy, endpoint=source, now=now)
    counts = dict(
        Rollout.objects.filter(gate_policy__name=name, own_policy__isnull=True)
        .order_by()
        .values_list("gate_policy__version")
        .annotate(Count("pk"))
    )
    return PolicyPage(
        name=name,
        shown=shown,
        newest=newest,
        policy=policy,
        versions=_version_rows(listed, counts, using, shown),
        older=listed[A_PAGE - 1].version if len(listed) > A_PAGE else None,
        against=compared,
        comparable=comparable,
        more_comparable=newest.version - 1 - len(comparable),
        changes=policy_changes(compared.policy, policy) if compared else (),
        gates=tuple(gate_line(gate, told) for gate, told in zip(policy.gates, outlook.gates, strict=True)),
        rules=rules_of(policy),
        outlook=outlook,
        exposures=tuple(f"{number:,}" for number in EXPOSURES),
        together=f"{odds(1 / policy.alpha)} to 1",
        numbers_of=source.name if source else "",
        used=tuple(_use_row(endpoint, shown) for endpoint in using),
        others=tuple((one.name, str(one.gate_policy)) for one in endpoints if one.gate_policy.name != name),
        endpoints=tuple(endpoint.name for endpoint in endpoints),
        rollouts=tuple(
            rollout_row(rollout, now)
            for rollout in selectors.rollouts().filter(gate_policy__name=name, own_policy__isnull=True)[
                :ROLLOUTS_SHOWN
            ]
        ),
        rollout_count=sum(counts.values()),
        edit_refused=refusal(user.role, Action.EDIT_GATE_POLICY),
        use_refused=refusal(user.role, Action.EDIT_ENDPOINT),
        text=policy_text(policy),
        now=now,
    )


def gate_line(gate: GateSpec, told: GateOutlook) -> GateLine:
    """A gate and what it will find, in words."""
    objective = ""
    if gate.slo_seconds is not None:
        what = "first token" if gate.signal == "ttft" else "whole answer"
        objective = f"{what} within {seconds_text(gate.slo_seconds)}"
    forecast = told.forecast
    return GateLine(
        gate=gate,
        measures=MEASURES[gate.kind],
        objective=objective,
        weight="none" if gate.fixed else percent_of_share(gate.weight),
        smallest=worsening_text(gate, forecast.detectable, told.base_rate),
        passes=passes_text(told),
        to_pass=""
        if forecast.requests_to_pass is None
        else f"{rough(forecast.requests_to_pass)} {unit_of(gate)}",
        passes_from=forecast.since,
        does=told.does,
        alone="a fixed limit" if told.odds_alone is None else f"{odds(told.odds_alone)} to 1",
        base=""
        if told.base_rate is None
        else percent_of_share(told.base_rate) + ("" if told.measured else ", assumed"),
        by_exposure=tuple(
            (f"{requests:,}", worsening_text(gate, found, told.base_rate))
            for requests, found in told.by_exposure
        ),
    )


def passes_text(told: GateOutlook) -> str:
    """How long an unchanged candidate needs: `9 min`, `2.5 h, after the plan`, `not in sight`."""
    forecast = told.forecast
    if forecast.minutes_to_pass is None:
        return "not in sight"
    words = duration_of_minutes(forecast.minutes_to_pass)
    return words if forecast.passes_in_plan else f"{words}, after the plan"


def rules_of(policy: GatePolicy) -> tuple[PolicyRule, ...]:
    """The settings beside the gates."""
    does = {"hold": "hold", "rollback": "roll back"}
    return (
        PolicyRule("False alarms, alpha", f"{percent_of_share(policy.alpha)} a rollout"),
        PolicyRule("False passes, beta", f"{percent_of_share(policy.beta)} a gate"),
        PolicyRule("No decision in time", does[policy.on_inconclusive]),
        PolicyRule("No data in time", does[policy.on_no_data]),
        PolicyRule("Broken source", does[policy.on_error]),
        PolicyRule("No data after", seconds_text(policy.stale_after_seconds)),
        PolicyRule("Late search every", seconds_text(policy.restart_every_seconds)),
        PolicyRule("Warm-up, latency only", f"{policy.warm_up_requests:,} requests"),
        PolicyRule(
            "Baseline out of order",
            "no rule"
            if policy.baseline_outage_share is None
            else f"{percent_of_share(policy.baseline_outage_share)} of its requests fail",
        ),
        PolicyRule("Fast kill", "on" if policy.fast_kill.enabled else "off"),
    )


def changed_text(changes: tuple[PolicyChange, ...]) -> str:
    """The fields that changed, the first few by name."""
    names = [change.field.removeprefix("gates.") for change in changes]
    more = len(names) - FIELDS_SHOWN
    return ", ".join(names[:FIELDS_SHOWN]) + (f" and {more} more" if more > 0 else "")


def _version(listed: list[GatePolicyVersion], name: str, version: int) -> GatePolicyVersion:
    found = next((row for row in listed if row.version == version), None)
    found = found or GatePolicyVersion.objects.filter(name=name, version=version).first()
    if found is None:
        raise NotFound(f"There is no gate policy {name}@{version}.", code="gate-policy-not-found")
    return found


def _compared(
    listed: list[GatePolicyVersion], shown: GatePolicyVersion, against: int | None
) -> GatePolicyVersion | None:
    number = shown.version - 1 if against is None else against
    if number < 1 or number == shown.version:
        return None
    return _version(listed, shown.name, number)


def _comparable(newest: int, shown: int, compared: GatePolicyVersion | None) -> tuple[int, ...]:
    """The versions to compare with, newest first: those that are the nearest to the shown one, and the compared one."""
    others = sorted(set(range(1, newest + 1)) - {shown}, key=lambda number: abs(number - shown))
    kept = {*others[:COMPARABLE_SHOWN], *([compared.version] if compared else [])}
    return tuple(sorted(kept, reverse=True))


def _source(endpoints: list[Endpoint], using: list[Endpoint], asked: str) -> Endpoint | None:
    if asked == "-":
        return None
    if not asked:
        return using[0] if using else None
    found = next((endpoint for endpoint in endpoints if endpoint.name == asked), None)
    if found is None:
        raise NotFound(f"There is no endpoint {asked!r}.", code="endpoint-not-found")
    return found


def _version_rows(
    listed: list[GatePolicyVersion], counts: dict[int, int], using: list[Endpoint], shown: GatePolicyVersion
) -> tuple[PolicyVersionRow, ...]:
    rows = []
    for position, row in enumerate(listed[:A_PAGE]):
        older = listed[position + 1] if position + 1 < len(listed) else None
        rows.append(
            PolicyVersionRow(
                version=row,
                changed=changed_text(policy_changes(older.policy, row.policy)) if older else "",
                rollouts=counts.get(row.version, 0),
                endpoints=tuple(one.name for one in using if one.gate_policy_id == row.pk),
                chosen=row.pk == shown.pk,
            )
        )
    return tuple(rows)


def _use_row(endpoint: Endpoint, shown: GatePolicyVersion) -> UseRow:
    lacks = endpoint.golden_set_id is None and any(gate.kind == "paired" for gate in shown.policy.gates)
    return UseRow(
        endpoint=endpoint.name,
        reference=str(endpoint.gate_policy),
        is_shown=endpoint.gate_policy_id == shown.pk,
        refused="It has no golden set." if lacks else "",
    )
