"""One endpoint as plain values: what answers now, its history, and the way back."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime

from controlplane.access.models import User
from controlplane.access.roles import Action, refusal
from controlplane.kernel.errors import Unavailable
from controlplane.kernel.words import (
    duration_of_seconds,
    number_text,
    percent_of_bp,
    percent_or_no_data,
    seconds_text,
)
from rollouts import selectors
from rollouts.domain.lifecycle.states import ACTIVE, Phase
from rollouts.domain.record.intervals import BASELINE
from rollouts.models import Arm, Endpoint, Rollout, Variant, Workload
from rollouts.services.commands.clusters import cluster_now
from rollouts.services.world import Worlds
from rollouts.ui.endpoint.outcomes import beside_words, stable_outcomes
from rollouts.ui.events.page import newest_events
from rollouts.ui.overview.page import health_pill, shares_of_endpoint
from rollouts.ui.parts.arm_words import colour_of, versions_text
from rollouts.ui.parts.arms_table import workload_of
from rollouts.ui.parts.drifts import DriftNote, drifts_of
from rollouts.ui.parts.lists import RolloutRow, rollout_row
from rollouts.ui.parts.mlflow_words import MlflowNow, mlflow_now
from rollouts.ui.parts.outages import OutageNote, holding_note, outage_note
from rollouts.ui.parts.outcomes_table import OutcomesTable
from rollouts.ui.parts.page_parts import EventRow
from rollouts.ui.parts.phases import Pill, split_sentence
from rollouts.ui.parts.restored import RestoredNote, restored_note
from rollouts.ui.parts.shortages import ShortageNote, short_of, shortages_of_endpoint
from rollouts.ui.parts.stuck import StuckNote, stuck_note
from rollouts.ui.parts.traffic import Rates, rates_of

HISTORY_SHOWN = 10
EVENTS_SHOWN = 8
NOT_WATCHED = Pill("mute", "Not watched", "circle-dashed")


@dataclass(frozen=True, slots=True)
class VariantRow:
    arm: int
    name: str
    version: str
    role: str
    desired: str
    observed: str
    replicas: str
    kv_cache: str
    health: Pill


@dataclass(frozen=True, slots=True)
class EndpointChart:
    name: str
    title: str
    now: str
    foot: str
    limit: bool


@dataclass(frozen=True, slots=True)
class EndpointPage:
    """`active` is the rollout that is under way or still watched; `start_refused` why none can be started.
    `address` is empty while the endpoint's cluster cannot be used; `cluster_problem` says why."""

    endpoint: Endpoint
    health: Pill
    address: str
    cluster_problem: Unavailable | None
    shares: tuple[tuple[int, int], ...]
    shares_words: str
    read_back: str
    variants: tuple[VariantRow, ...]
    outcomes: OutcomesTable
    beside: str
    uncounted: str
    charts: tuple[EndpointChart, ...]
    history: tuple[RolloutRow, ...]
    history_count: int
    events: tuple[EventRow, ...]
    event_count: int
    stuck: StuckNote | None
    outage: OutageNote | None
    shortages: tuple[ShortageNote, ...]
    drifts: tuple[DriftNote, ...]
    restored: RestoredNote | None
    active: Rollout | None
    active_strong: str
    active_first: str
    may_roll_back: bool
    roll_back_refused: str
    start_refused: str
    leaving: str
    legend: tuple[tuple[int, str], ...]
    policy: tuple[str, ...]
    arguments: tuple[tuple[str, str], ...]
    mlflow: MlflowNow
    now: datetime

    @property
    def mlflow_model(self) -> str:
        return self.endpoint.model.name


def build(*, name: str, user: User, worlds: Worlds, now: datetime) -> EndpointPage:
    """Everything the page shows. Raises NotFound. The number of queries does not depend on the history."""
    endpoint = selectors.find_endpoint_with_ratings(name, now=now)
    cluster = cluster_now(endpoint.cluster, worlds=worlds)
    of_it = selectors.rollouts().filter(endpoint=endpoint)
    rollouts = list(of_it[:HISTORY_SHOWN])
    current = rollouts[0] if rollouts else None
    active = current if current and (Phase(current.phase) in ACTIVE or current.watching) else None
    variants = list(
        selectors.variants_of(endpoint).filter(
            name__in={*endpoint.observed_shares, *endpoint.desired_shares, *_names(endpoint, active)}
        )
    )
    labels = {variant.name: variant.version.label for variant in variants}
    arms, words = shares_of_endpoint(endpoint, labels, current)
    rates = rates_of([endpoint.pk], now=now).get(endpoint.pk, Rates())
    strong, first = split_sentence(active.reason) if active else ("", "")
    if active is not None and holding_note(active, now) is not None:
        first = ""  # the banner of the outage says the rest
    under_way = active is not None and Phase(active.phase) in ACTIVE
    events = newest_events(selectors.history(endpoint=endpoint), shown=EVENTS_SHOWN)
    start_refused = refusal(user.role, Action.START_ROLLOUT)
    if under_way and active is not None:
        start_refused = f"#{active.pk} is active, and an endpoint has one rollout at a time"
    if cluster.problem is not None:
        start_refused = "the cluster cannot be used: see above"
    if endpoint.restored_state:
        start_refused = "the database is an older copy: see above"
    return EndpointPage(
        endpoint=endpoint,
        health=health_pill(endpoint, watched=cluster.problem is None),
        address="" if cluster.endpoint_url is None else f"{cluster.endpoint_url(endpoint.name)}/v1",
        cluster_problem=cluster.problem,
        shares=arms,
        shares_words=words,
        read_back=_read_back(endpoint, now),
        variants=tuple(
            sorted(
                (_variant_row(v, endpoint, active, watched=cluster.problem is None) for v in variants),
                key=lambda row: row.arm,
            )
        ),
        outcomes=stable_outcomes(endpoint, now),
        beside=beside_words(endpoint, now),
        uncounted=endpoint.uncounted_ratings.sentence,
        charts=_charts(endpoint, rates),
        history=tuple(rollout_row(rollout, now) for rollout in rollouts),
        history_count=of_it.count(),
        events=events.rows,
        event_count=events.in_all,
        stuck=stuck_note(endpoint, now) if cluster.problem is None else None,
        outage=outage_note(endpoint, now, labels=labels),
        shortages=shortages_of_endpoint(endpoint, variants) if cluster.problem is None else (),
        drifts=drifts_of(variants) if cluster.problem is None else (),
        restored=restored_note(endpoint, user.role),
        active=active,
        active_strong=strong,
        active_first=first,
        may_roll_back=active is not None
        and Phase(active.phase) in (Phase.PROGRESSING, Phase.PAUSED, Phase.PROMOTING, Phase.SUCCEEDED),
        roll_back_refused=refusal(user.role, Action.CONTROL_ROLLOUT),
        start_refused=start_refused,
        leaving=_leaving(active) if active else "",
        legend=_legend(active if under_way else None),
        policy=endpoint.gate_policy.policy.describe(),
        arguments=_arguments(endpoint),
        mlflow=mlflow_now(endpoint, endpoint, now),
        now=now,
    )


def candidates_of(endpoint: Endpoint) -> list[Arm]:
    """The arms that are drawn apart: the candidates of the active rollout. One query."""
    racing = Arm.objects.filter(
        rollout__endpoint=endpoint, rollout__phase__in=[phase.value for phase in ACTIVE]
    )
    return list(racing.exclude(name=BASELINE).select_related("variant__version"))


def _names(endpoint: Endpoint, active: Rollout | None) -> set[str]:
    names = {one.name for one in (endpoint.stable, endpoint.previous) if one is not None}
    if active is not None:
        names |= {arm.variant.name for arm in active.arms.all()}
    return names


def _leaving(rollout: Rollout) -> str:
    """Whose traffic a rollback takes: `v2`, or `v2, v3`."""
    return versions_text(rollout).partition(" → ")[2]


def _legend(rollout: Rollout | None) -> tuple[tuple[int, str], ...]:
    """(colour, name) of what the charts draw apart."""
    candidates = [] if rollout is None else [arm for arm in rollout.arms.all() if arm.name != BASELINE]
    several = len(candidates) > 1
    names = [arm.variant.version.label if several else "candidate" for arm in candidates]
    return (
        (0, "stable"),
        *((colour_of(arm.name), name) for arm, name in zip(candidates, names, strict=True)),
    )


def _variant_row(
    variant: Variant, endpoint: Endpoint, active: Rollout | None, *, watched: bool
) -> VariantRow:
    under_way = active is not None and Phase(active.phase) in ACTIVE
    arms = {arm.variant_id: arm for arm in active.arms.all()} if active is not None and under_way else {}
    arm = arms.get(variant.pk)
    is_candidate = arm is not None and arm.name != BASELINE
    stable = variant.pk == endpoint.stable_id
    workload = workload_of(variant)
    role = "stable" if stable else "kept warm"
    if arm is not None and is_candidate:
        role = "left the race" if arm.dropped_cause else arm.name
    observed: Mapping[str, int] = endpoint.observed_shares
    kv_cache = workload.kv_cache_share if workload else None
    return VariantRow(
        arm=colour_of(arm.name) if arm is not None and is_candidate else 0 if stable else 2,
        name=variant.name,
        version=variant.version.label,
        role=role,
        desired=percent_of_bp(endpoint.desired_shares.get(variant.name, 0)),
        observed=percent_of_bp(observed.get(variant.name, 0)) if observed else "no data",
        replicas=f"{workload.ready} / {max(workload.desired, workload.ready)}" if workload else "0 / 0",
        kv_cache=percent_or_no_data(kv_cache),
        health=_workload_pill(workload) if watched else NOT_WATCHED,
    )


def _workload_pill(workload: Workload | None) -> Pill:
    if workload is not None and short_of(workload):
        return Pill("warn", f"{workload.ready} of {workload.desired} ready", "circle-alert")
    return {
        "ready": Pill("pass", "Ready", "circle-check"),
        "starting": Pill("info", "Starting", "rocket"),
        "unready": Pill("fail", "Not ready", "circle-x"),
        "draining": Pill("mute", "Draining", "hourglass"),
        "failed": Pill("fail", "Failed", "circle-x"),
    }.get(workload.phase if workload else "absent", Pill("mute", "Stopped", "circle-slash"))


def _read_back(endpoint: Endpoint, now: datetime) -> str:
    if endpoint.observed_at is None:
        return "not read back yet"
    seconds = (now - endpoint.observed_at).total_seconds()
    # Under half a minute all is well, and a page at rest should read the same every time.
    return "read back from the router" if seconds < 30 else f"read back {duration_of_seconds(seconds)} ago"


def _charts(endpoint: Endpoint, rates: Rates) -> tuple[EndpointChart, ...]:
    gates = endpoint.gate_policy.policy.gates
    latency = next((gate for gate in gates if gate.kind == "latency_slo" and gate.signal == "ttft"), None)
    cards = [EndpointChart("requests", "Requests/s", number_text(rates.per_second), "all variants", False)]
    if latency is not None:
        slo = seconds_text(latency.slo_seconds or 0)
        cards.append(EndpointChart("ttft", f"TTFT over {slo}", "", "share of requests", False))
    cards += [
        EndpointChart("errors", "Errors", percent_or_no_data(rates.errors), "share of requests", False),
        EndpointChart("ready", "Ready replicas", "", "at the end of each minute", False),
        EndpointChart("kv-cache", "KV cache", "", "share in use", False),
        EndpointChart(
            "tokens", "Output tokens/s", number_text(rates.tokens_per_second), "all variants", False
        ),
    ]
    return tuple(cards)


def _arguments(endpoint: Endpoint) -> tuple[tuple[str, str], ...]:
    if endpoint.stable is None:
        return ()
    spec = endpoint.stable.spec
    shown = endpoint.stable.public_serving["arguments"]
    arguments = ((name, _value(value)) for name, value in shown.items())
    parts = (("Image", spec.image), ("Accelerators", spec.accelerators))
    asked = tuple((name, str(part)) for name, part in parts if part is not None)
    if spec.adopts:
        words = f"{spec.adopts}, as its owner started it; its files were not compared with the version"
        return (("Adopted server", words),)
    return (("Engine", spec.engine), ("Replicas", str(spec.replicas)), *asked, *arguments)


def _value(value: object) -> str:
    if isinstance(value, Mapping):
        return ", ".join(f"{name} {_value(part)}" for name, part in value.items())
    return {True: "on", False: "off"}[value] if isinstance(value, bool) else str(value)
