"""The overview as plain values: what needs a person first, then every endpoint, sorted by attention."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

from django.db.models import Max, Prefetch, prefetch_related_objects

from controlplane.web.health import Part, reported
from controlplane.web.words import (
    count_text,
    duration_text,
    number_text,
    percent_text,
    seconds_text,
    share_text,
)
from rollouts import selectors
from rollouts.domain.intervals import BASELINE
from rollouts.domain.states import ACTIVE, Phase
from rollouts.models import Arm, Endpoint, Rollout, Variant
from rollouts.ui.arms_table import workload_of
from rollouts.ui.bandit_words import arm_labels, colours_by_variant, is_bandit, versions_text
from rollouts.ui.needs import Need, is_recent, needs_of
from rollouts.ui.phases import Pill, cause_words, pill_of
from rollouts.ui.traffic import Rates, rates_of

FINISHED_WITHIN = timedelta(hours=24)
FINISHED_SHOWN = 8
ENDPOINTS_SHOWN = 100


@dataclass(frozen=True, slots=True)
class EndpointRow:
    name: str
    place: str
    shares: tuple[tuple[int, int], ...]
    shares_words: str
    health: Pill
    per_second: str
    p95: str
    trend: tuple[float | None, ...]
    errors: str
    rollout_pill: Pill
    rollout_id: int | None
    rollout_hint: str
    attention: int


@dataclass(frozen=True, slots=True)
class FinishedRow:
    pill: Pill
    rollout: Rollout
    title: str
    detail: str
    at: datetime

    @property
    def css(self) -> str:
        return f"ico-s {self.pill.tone}"


@dataclass(frozen=True, slots=True)
class OverviewPage:
    needs: tuple[Need, ...]
    endpoints: tuple[EndpointRow, ...]
    finished: tuple[FinishedRow, ...]
    parts: tuple[Part, ...]
    endpoint_count: str
    active_count: str
    rate: str
    stop_on: bool
    active: int
    now: datetime


def build(*, now: datetime) -> OverviewPage:
    """Everything the overview shows. The number of queries does not depend on the number of rows."""
    # The prefetched rollouts and variants are for the API; here one query each says more.
    endpoints = list(selectors.endpoints().prefetch_related(None)[:ENDPOINTS_SHOWN])
    latest = latest_rollouts([endpoint.pk for endpoint in endpoints])
    rates = rates_of([endpoint.pk for endpoint in endpoints], now=now)
    labels = variant_labels(endpoints)
    stop_on = selectors.global_stop().on
    finished = list(
        selectors.rollouts()
        .prefetch_related(None)
        .filter(finished_at__gte=now - FINISHED_WITHIN)
        .order_by("-finished_at")[:FINISHED_SHOWN]
    )
    arms = Prefetch("arms", queryset=Arm.objects.select_related("variant__version"))
    prefetch_related_objects([*latest.values(), *finished], arms)
    parts = reported(now=now)
    rows = [
        _endpoint_row(endpoint, latest.get(endpoint.pk), rates.get(endpoint.pk), labels, now)
        for endpoint in endpoints
    ]
    active = sum(Phase(rollout.phase) in ACTIVE for rollout in latest.values())
    total = sum(found.per_second or 0.0 for found in rates.values())
    return OverviewPage(
        needs=tuple(needs_of(endpoints, latest, parts, now, labels=labels)),
        endpoints=tuple(sorted(rows, key=lambda row: (row.attention, row.name))),
        finished=tuple(_finished_row(rollout, now) for rollout in finished),
        parts=parts,
        endpoint_count=count_text(len(endpoints), "endpoint"),
        active_count=count_text(active, "rollout") + " in progress",
        rate=f"{number_text(total)} requests/s",
        stop_on=stop_on,
        active=active,
        now=now,
    )


def latest_rollouts(endpoints: Sequence[int]) -> Mapping[int, Rollout]:
    """The newest rollout of each endpoint that has one. One query."""
    newest = (
        Rollout.objects.filter(endpoint__in=endpoints)
        .order_by()
        .values("endpoint")
        .annotate(id=Max("id"))
        .values("id")
    )
    found = Rollout.objects.filter(pk__in=newest).select_related(
        "baseline__version", "candidate__version", "gate_policy", "endpoint"
    )
    return {rollout.endpoint_id: rollout for rollout in found}


def variant_labels(endpoints: Sequence[Endpoint]) -> Mapping[str, str]:
    """`v14` by variant name, for every variant that has or should have traffic. One query."""
    names = {name for endpoint in endpoints for name in (*endpoint.observed_shares, *endpoint.desired_shares)}
    names |= {endpoint.previous.name for endpoint in endpoints if endpoint.previous is not None}
    found = Variant.objects.filter(name__in=names).values_list("name", "version__number")
    return {name: f"v{number}" for name, number in found}


def shares_of_endpoint(
    endpoint: Endpoint, labels: Mapping[str, str], rollout: Rollout | None = None
) -> tuple[tuple[tuple[int, int], ...], str]:
    """((basis points, arm number), ...) and the same in words; as observed, as desired before it was.

    While its `rollout` (the newest, with its arms) is active, each variant has the colour that it has there.
    """
    active = rollout is not None and Phase(rollout.phase) in ACTIVE
    colours = colours_by_variant(rollout) if rollout is not None and active else {}
    shares: Mapping[str, int] = endpoint.observed_shares or endpoint.desired_shares
    stable = endpoint.stable.name if endpoint.stable else ""
    ordered = sorted(shares.items(), key=lambda item: (item[0] != stable, item[0]))
    arms, words, number = [], [], 1
    for name, basis_points in ordered:
        if basis_points <= 0:
            continue
        arm = colours.get(name, 0 if name == stable else number)
        number += name != stable
        arms.append((basis_points, arm))
        words.append(f"{labels.get(name, name)} {share_text(round(basis_points, -1))}")
    return tuple(arms), " · ".join(words) or "no traffic is routed"


def health_pill(endpoint: Endpoint) -> Pill:
    """How the stable variant is, and whether the router obeys."""
    if endpoint.router_problem:
        return Pill("fail", "Router", "unplug")
    if endpoint.serving.lasting is not None:
        return Pill("fail", "Out of order", "circle-x")
    workload = workload_of(endpoint.stable)
    if workload is None:
        return Pill("mute", "No data", "circle-dashed")
    if workload.phase == "starting":
        return Pill("info", "Starting", "rocket")
    if workload.ready == 0:
        return Pill("fail", "Not ready", "circle-x")
    if workload.ready < workload.desired:
        return Pill("warn", f"{workload.ready} of {workload.desired} ready", "circle-alert")
    return Pill("pass", "Healthy", "circle-check")


def p95_words(seconds: float | None) -> str:
    """`402 ms`; above the last edge of the histogram only that much is known."""
    if seconds is not None and math.isinf(seconds):
        return "off the scale"
    return seconds_text(seconds)


def _endpoint_row(
    endpoint: Endpoint, rollout: Rollout | None, rates: Rates | None, labels: Mapping[str, str], now: datetime
) -> EndpointRow:
    arms, words = shares_of_endpoint(endpoint, labels, rollout)
    health = health_pill(endpoint)
    known = rates or Rates()
    pill, hint = rollout_state(rollout, now)
    return EndpointRow(
        name=endpoint.name,
        place=f"{endpoint.environment} · {endpoint.cluster.name}",
        shares=arms,
        shares_words=words,
        health=health,
        per_second=number_text(known.per_second),
        p95=p95_words(known.p95_seconds),
        trend=known.trend,
        errors=percent_text(known.errors),
        rollout_pill=pill,
        rollout_id=rollout.pk if rollout else None,
        rollout_hint=hint,
        attention=_attention(rollout, health, now),
    )


def rollout_state(rollout: Rollout | None, now: datetime) -> tuple[Pill, str]:
    """The pill of an endpoint's newest rollout and a hint; old ones count as none."""
    if rollout is None:
        return Pill("mute", "No rollout", "circle-dashed"), ""
    pill = pill_of(rollout, rollout.parsed_plan, now.timestamp())
    if Phase(rollout.phase) in ACTIVE or rollout.watching or is_recent(rollout, now):
        return pill, cause_words(rollout) if rollout.cause else versions_text(rollout)
    ago = duration_text((now - (rollout.finished_at or rollout.created_at)).total_seconds())
    return Pill("mute", "No rollout", "circle-dashed"), f"last {ago} ago"


def _attention(rollout: Rollout | None, health: Pill, now: datetime) -> int:
    """0 needs somebody most."""
    if health.tone == "fail" or (rollout is not None and rollout.phase == Phase.FAILED.value):
        return 0
    if rollout is not None:
        if rollout.phase == Phase.ROLLED_BACK.value and is_recent(rollout, now):
            return 1
        if rollout.phase == Phase.PAUSED.value:
            return 2
        if Phase(rollout.phase) in ACTIVE:
            return 3
    return 4 if health.tone != "pass" else 5


def _finished_row(rollout: Rollout, now: datetime) -> FinishedRow:
    pill = pill_of(rollout, rollout.parsed_plan, now.timestamp())
    new, old = rollout.candidate.version.label, rollout.baseline.version.label
    at = rollout.finished_at or rollout.phase_since
    took = duration_text((at - rollout.created_at).total_seconds())
    phase = Phase(rollout.phase)
    if phase is Phase.SUCCEEDED:
        return FinishedRow(pill, rollout, f"promoted {new}", f"in {took}", at)
    if is_bandit(rollout):
        new = ", ".join(label for name, label in arm_labels(rollout).items() if name != BASELINE)
    if phase is Phase.ROLLED_BACK and rollout.cause.startswith("launch:"):
        return FinishedRow(pill, rollout, f"{new} did not launch", cause_words(rollout), at)
    if phase is Phase.ROLLED_BACK:
        served = sum(arm.requests for arm in rollout.arms.all() if arm.name != BASELINE)
        return FinishedRow(
            pill,
            rollout,
            f"{new} rolled back to {old}",
            f"{cause_words(rollout)} · {count_text(served, 'request')} saw {new}",
            at,
        )
    return FinishedRow(pill, rollout, f"#{rollout.pk} {pill.words.lower()}", rollout.reason, at)
