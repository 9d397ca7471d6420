"""One cluster as plain values: its engines, what may be set of them, and what the operator added to that."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime

from controlplane.kernel.errors import Unavailable
from controlplane.kernel.words import count_text, duration_of_seconds
from rollouts import selectors
from rollouts.domain.engine_options import Option, OptionKind
from rollouts.domain.trials import KnownBy
from rollouts.services.commands.clusters import ClusterNow, one_cluster
from rollouts.services.commands.serving_specs import engines_of
from rollouts.services.world import Worlds
from rollouts.ui.parts.phases import Pill

KNOWN_BY = {
    KnownBy.DECLARED: Pill("mute", "Declared", "circle-dashed"),
    KnownBy.PROVEN: Pill("pass", "Proven", "circle-check"),
    KnownBy.REFUTED: Pill("fail", "Refuted", "circle-x"),
    KnownBy.MISSING: Pill("mute", "Cannot", "circle-slash"),
}
DEEPEST = 3  # objects within objects that are taken apart


@dataclass(frozen=True, slots=True)
class OptionRow:
    """`parts`: of an object, each by name with what may be written."""

    name: str
    help: str
    wanted: str
    parts: tuple[tuple[str, str], ...]


@dataclass(frozen=True, slots=True)
class OptionTable:
    title: str
    id: str
    rows: tuple[OptionRow, ...]


@dataclass(frozen=True, slots=True)
class EngineCard:
    name: str
    widened: tuple[str, ...]
    tables: tuple[OptionTable, ...]
    passed_on: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class DriftRow:
    endpoint: str
    variant: str
    words: str


@dataclass(frozen=True, slots=True)
class OrphanRow:
    """`age`: since it was made; `unknown`: since when it is marked as unknown. Both as people read them."""

    where: str
    endpoint: str
    age: str
    unknown: str
    waits: str


@dataclass(frozen=True, slots=True)
class ServerRow:
    """`unfit`: why it cannot be adopted; empty: it can. `name`: of the Deployment."""

    where: str
    image: str
    model: str
    by: str
    replicas: str
    age: str
    unfit: str
    name: str


@dataclass(frozen=True, slots=True)
class BelongingsCard:
    """What lies in the cluster that no endpoint uses. `seen`: how long ago that was looked at."""

    seen: str
    orphans: tuple[OrphanRow, ...]
    servers: tuple[ServerRow, ...]


@dataclass(frozen=True, slots=True)
class CapabilityRow:
    """`found`: what a trial found, in numbers, and when; both empty where it was not tried."""

    words: str
    pill: Pill
    found: str
    at: str


@dataclass(frozen=True, slots=True)
class CapabilitiesCard:
    """What the router can do. `tried`: how long ago its gateway was tried last; `problem`: why that came to no end;
    `is_tried`: there is something to try. `gateway`: of which gateway the findings are."""

    rows: tuple[CapabilityRow, ...]
    is_tried: bool
    tried: str
    problem: str
    gateway: str


@dataclass(frozen=True, slots=True)
class ClusterPage:
    """`problem`: why the engines cannot be said now. `settings`: what the cluster is set to, by name.
    `belongings`: None while nobody has looked there. `capabilities`: None while the cluster cannot be used.
    """

    name: str
    kind: str
    settings: tuple[tuple[str, str], ...]
    engines: tuple[EngineCard, ...]
    engine_count: str
    problem: Unavailable | None
    drifts: tuple[DriftRow, ...]
    belongings: BelongingsCard | None
    capabilities: CapabilitiesCard | None


def build(*, name: str, worlds: Worlds, now: datetime) -> ClusterPage:
    """Everything the page shows. Raises NotFound. 2 queries, whatever lies there."""
    problem = None
    cluster = one_cluster(name=name, worlds=worlds)
    try:
        engines = engines_of(cluster=name, worlds=worlds)
    except Unavailable as error:
        engines, problem = (), error
    cards = tuple(
        EngineCard(
            name=one.engine,
            widened=one.widened,
            tables=(
                OptionTable("Arguments", f"arguments-{position}", _rows(one.arguments)),
                OptionTable("Variables", f"variables-{position}", _rows(one.variables)),
            ),
            passed_on=one.passed_on,
        )
        for position, one in enumerate(engines)
    )
    return ClusterPage(
        name,
        cluster.kind,
        _settings(cluster),
        cards,
        count_text(len(cards), "engine"),
        problem,
        tuple(
            DriftRow(row.variant.endpoint.name, row.variant.name, row.drift)
            for row in selectors.drifting(name)
        ),
        _belongings(cluster, now),
        _capabilities(cluster, now),
    )


def _capabilities(cluster: ClusterNow, now: datetime) -> CapabilitiesCard | None:
    if not cluster.capabilities:
        return None
    trials = cluster.trials
    tried_at = None if trials is None else trials.tried_at
    return CapabilitiesCard(
        rows=tuple(
            CapabilityRow(
                words=f"{one.words[:1].upper()}{one.words[1:]}",
                pill=KNOWN_BY[one.known_by],
                found=one.detail,
                at="" if one.at is None else f"{datetime.fromtimestamp(one.at, tz=UTC):%Y-%m-%d %H:%M} UTC",
            )
            for one in cluster.capabilities
        ),
        is_tried=trials is not None,
        tried="" if tried_at is None else duration_of_seconds(max(0.0, now.timestamp() - tried_at)),
        problem="" if trials is None else trials.problem,
        gateway="" if trials is None else trials.gateway,
    )


def _belongings(cluster: ClusterNow, now: datetime) -> BelongingsCard | None:
    found = cluster.belongings
    if found is None:
        return None

    def since(moment: float | None) -> str:
        return "not known" if moment is None else duration_of_seconds(now.timestamp() - moment)

    return BelongingsCard(
        since(found.at),
        tuple(
            OrphanRow(
                one.launch.where,
                one.launch.endpoint or "not known",
                since(one.launch.made_at),
                "a moment" if one.launch.unknown_since is None else since(one.launch.unknown_since),
                one.waits or "It is taken away with the next look.",
            )
            for one in found.orphans
        ),
        tuple(
            ServerRow(
                one.where,
                one.image or "not known",
                one.model or "not named",
                one.by or "not named",
                f"{one.ready} / {max(one.desired, one.ready)}",
                since(one.made_at),
                one.unfit,
                one.where.rpartition(" ")[2],
            )
            for one in found.servers
        ),
    )


def _settings(cluster: ClusterNow) -> tuple[tuple[str, str], ...]:
    said = cluster.configuration if isinstance(cluster.configuration, Mapping) else {}
    rows = [row for name, value in sorted(said.items()) for row in _setting(str(name), value)]
    if cluster.secret:
        rows.append(("secret file", cluster.secret))
    if cluster.endpoint_url is not None:
        rows.append(("address of an endpoint called name", f"{cluster.endpoint_url('name')}/v1"))
    return tuple(rows)


def _setting(name: str, value: object, depth: int = 0) -> Iterator[tuple[str, str]]:
    """A value of the configuration; of an object each of its own, with both names."""
    if isinstance(value, Mapping) and value and depth < DEEPEST:
        for inner, one in sorted(value.items()):
            yield from _setting(f"{name}.{inner}", one, depth + 1)
    elif isinstance(value, list) and not any(isinstance(one, Mapping | list) for one in value):
        yield name, ", ".join(str(one) for one in value)
    else:
        yield name, str(value)


def _rows(options: Sequence[Option]) -> tuple[OptionRow, ...]:
    return tuple(
        OptionRow(
            name=option.name,
            help=option.help,
            wanted="an object of any of these" if option.kind is OptionKind.OBJECT else option.wanted,
            parts=tuple((part.name, f"{part.wanted}. {part.help}") for part in option.fields),
        )
        for option in sorted(options, key=lambda option: option.name)
    )
