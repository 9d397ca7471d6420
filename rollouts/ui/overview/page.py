"""The overview as plain values: what needs a person first, then every endpoint, sorted by attention."""

from __future__ import annotations

import math
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from functools import partial

from django.db.models import Max, Prefetch, prefetch_related_objects

from controlplane.kernel.words import (
    NO_DATA,
    count_text,
    duration_of_seconds,
    latency_text,
    number_text,
    percent_of_bp,
    percent_or_no_data,
)
from controlplane.web.health import Part, reported
from controlplane.web.readers import text, whole_number_or_none
from rollouts import selectors
from rollouts.domain.lifecycle.states import ACTIVE, Phase
from rollouts.domain.record.intervals import BASELINE
from rollouts.models import Arm, Endpoint, Rollout, Variant
from rollouts.services.commands.clusters import unusable_clusters
from rollouts.services.world import Worlds
from rollouts.ui.overview.needs import Attention, is_recent, needs_of
from rollouts.ui.overview.standing import EndpointStanding, health, standings
from rollouts.ui.parts.arm_words import candidate_labels, colours_by_variant, versions_text
from rollouts.ui.parts.arms_table import workload_of
from rollouts.ui.parts.odd_rows import CANNOT_BE_SHOWN, or_odd
from rollouts.ui.parts.phases import Pill, cause_words
from rollouts.ui.parts.traffic import Rates, rates_of, total_per_second
from rollouts.ui.strategies import pill_of

FINISHED_WITHIN = timedelta(hours=24)
FINISHED_SHOWN = 8
ENDPOINTS_A_PAGE = 50
LONGEST_NAME = 40  # characters of an endpoint's name


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
    """Every count is of all, also where a list shows a part.

    needs       those of the installation, and of the endpoints that need a person most; `need_count` is of all of them
    endpoints   one page, sorted by attention; `next_place` is where to go on, None at the end
    finished    the newest; `finished_count` is of all within FINISHED_WITHIN
    """

    needs: tuple[Attention, ...]
    need_count: int
    needs_go_on: EndpointStanding | None
    endpoints: tuple[EndpointRow, ...]
    next_place: EndpointStanding | None
    finished: tuple[FinishedRow, ...]
    finished_count: int
    parts: tuple[Part, ...]
    endpoints_in_all: int
    endpoint_count: str
    active_count: str
    rate: str
    stop_on: bool
    active: int
    now: datetime


def build(*, worlds: Worlds, now: datetime, behind: tuple[int, str] | None = None) -> OverviewPage:
    """Everything the overview shows. The number of queries does not depend on the number of rows.

    behind  the attention and the name of the endpoint that the page of endpoints goes on behind; None: from the first.
            An endpoint whose attention changes while pages are turned may be met twice or not at all
    """
    unusable = unusable_clusters(worlds=worlds)
    every = standings(now=now, unusable=unusable)
    left = every if behind is None else [one for one in every if one.place > behind]
    listed, neediest = left[:ENDPOINTS_A_PAGE], every[:ENDPOINTS_A_PAGE]
    shown = _endpoints({one.id for one in (*listed, *neediest)})
    latest = latest_rollouts(list(shown))
    rates = rates_of([one.id for one in listed], now=now)
    labels = variant_labels(list(shown.values()))
    ended = selectors.rollouts().prefetch_related(None).filter(finished_at__gte=now - FINISHED_WITHIN)
    finished = list(ended.order_by("-finished_at", "-id")[:FINISHED_SHOWN])
    arms = Prefetch("arms", queryset=Arm.objects.select_related("variant__version"))
    prefetch_related_objects([*latest.values(), *finished], arms)
    parts = reported(now=now)
    # One that was deleted between two reads is not there any more.
    rows = [
        or_odd(
            f"endpoint {one.name}",
            partial(
                _endpoint_row,
                shown[one.id],
                latest.get(one.id),
                rates.get(one.id),
                labels,
                unusable,
                now,
            ),
            partial(_odd_endpoint_row, shown[one.id], latest.get(one.id)),
        )
        for one in listed
        if one.id in shown
    ]
    needy = [shown[one.id] for one in neediest if one.needs and one.id in shown]
    needs = needs_of(needy, latest, parts, now, labels=labels, unusable=unusable)
    not_shown = sum(one.needs for one in every[ENDPOINTS_A_PAGE:])
    active = sum(one.moves for one in every)
    return OverviewPage(
        needs=tuple(needs),
        need_count=sum(need.counts for need in needs) + not_shown,
        needs_go_on=neediest[-1] if not_shown else None,
        endpoints=tuple(rows),
        next_place=listed[-1] if len(left) > len(listed) else None,
        finished=tuple(
            or_odd(
                f"rollout #{rollout.pk}",
                partial(_finished_row, rollout, now),
                partial(_odd_finished_row, rollout),
            )
            for rollout in finished
        ),
        finished_count=ended.count(),
        parts=parts,
        endpoints_in_all=len(every),
        endpoint_count=count_text(len(every), "endpoint"),
        active_count=count_text(active, "rollout") + " in progress",
        rate=f"{number_text(total_per_second(now=now))} requests/s",
        stop_on=selectors.global_stop().on,
        active=active,
        now=now,
    )


def place_in(query: Mapping[str, str]) -> tuple[int, str] | None:
    """The `behind` of `build` that a link names: `?attention=2&after=triage`. None when none is named. Raises
    InvalidInput."""
    attention = whole_number_or_none(query, "attention")
    return None if attention is None else (attention, text(query, "after", longest=LONGEST_NAME))


def _endpoints(ids: Collection[int]) -> Mapping[int, Endpoint]:
    # The prefetched rollouts and variants are for the API; here one query each says more.
    return selectors.endpoints().prefetch_related(None).in_bulk(ids)


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
    splits = [shares for one in endpoints for shares in (one.observed_shares, one.desired_shares)]
    # What is no split is told where its endpoint is shown.
    names = {name for shares in splits if isinstance(shares, Mapping) for name in shares}
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
        words.append(f"{labels.get(name, name)} {percent_of_bp(round(basis_points, -1))}")
    return tuple(arms), " · ".join(words) or "no traffic is routed"


def health_pill(endpoint: Endpoint, *, watched: bool) -> Pill:
    """How the stable variant is, and whether the router obeys. `watched`: its cluster can be used."""
    workload = workload_of(endpoint.stable)
    return health(
        watched=watched,
        router_problem=endpoint.router_problem,
        out_of_order=endpoint.serving.lasting is not None,
        workload=None if workload is None else workload.phase,
        ready=None if workload is None else workload.ready,
        desired=None if workload is None else workload.desired,
    )


def p95_words(seconds: float | None) -> str:
    """`402 ms`; above the last edge of the histogram only that much is known."""
    if seconds is not None and math.isinf(seconds):
        return "off the scale"
    return latency_text(seconds)


def _endpoint_row(
    endpoint: Endpoint,
    rollout: Rollout | None,
    rates: Rates | None,
    labels: Mapping[str, str],
    unusable: Collection[str],
    now: datetime,
) -> EndpointRow:
    arms, words = shares_of_endpoint(endpoint, labels, rollout)
    known = rates or Rates()
    pill, hint = rollout_state(rollout, now)
    return EndpointRow(
        name=endpoint.name,
        place=f"{endpoint.environment} · {endpoint.cluster.name}",
        shares=arms,
        shares_words=words,
        health=health_pill(endpoint, watched=endpoint.cluster.name not in unusable),
        per_second=number_text(known.per_second),
        p95=p95_words(known.p95_seconds),
        trend=known.trend,
        errors=percent_or_no_data(known.errors),
        rollout_pill=pill,
        rollout_id=rollout.pk if rollout else None,
        rollout_hint=hint,
    )


def _odd_endpoint_row(endpoint: Endpoint, rollout: Rollout | None, words: str) -> EndpointRow:
    """One whose stored values, or those of its newest rollout, are odd: by its name, with what is wrong."""
    return EndpointRow(
        name=endpoint.name,
        place=f"{endpoint.environment} · {endpoint.cluster.name}",
        shares=(),
        shares_words=words,
        health=CANNOT_BE_SHOWN,
        per_second=NO_DATA,
        p95=NO_DATA,
        trend=(),
        errors=NO_DATA,
        rollout_pill=CANNOT_BE_SHOWN,
        rollout_id=None if rollout is None else rollout.pk,
        rollout_hint="",
    )


def rollout_state(rollout: Rollout | None, now: datetime) -> tuple[Pill, str]:
    """The pill of an endpoint's newest rollout and a hint; old ones count as none."""
    if rollout is None:
        return Pill("mute", "No rollout", "circle-dashed"), ""
    pill = pill_of(rollout, now)
    if Phase(rollout.phase) in ACTIVE or rollout.watching or is_recent(rollout, now):
        return pill, cause_words(rollout) if rollout.cause else versions_text(rollout)
    ago = duration_of_seconds((now - (rollout.finished_at or rollout.created_at)).total_seconds())
    return Pill("mute", "No rollout", "circle-dashed"), f"last {ago} ago"


def _odd_finished_row(rollout: Rollout, words: str) -> FinishedRow:
    at = rollout.finished_at or rollout.phase_since
    return FinishedRow(CANNOT_BE_SHOWN, rollout, f"#{rollout.pk} cannot be shown", words, at)


def _finished_row(rollout: Rollout, now: datetime) -> FinishedRow:
    pill = pill_of(rollout, now)
    new, old = rollout.candidate.version.label, rollout.baseline.version.label
    at = rollout.finished_at or rollout.phase_since
    took = duration_of_seconds((at - rollout.created_at).total_seconds())
    phase = Phase(rollout.phase)
    if phase is Phase.SUCCEEDED:
        return FinishedRow(pill, rollout, f"promoted {new}", f"in {took}", at)
    new = ", ".join(candidate_labels(rollout))
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
