"""The outside world as services take it: the ports, bundled by wiring."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass
from pathlib import Path

from controlplane.kernel.clock import Clock
from controlplane.kernel.errors import Unavailable
from registry.ports import ModelStore
from rollouts.ports import Cluster, GatewayTrials, Prober, RequestLog, SignalSource, TrafficRouter

# Ticks come a second apart and read the counters a moment later: an interval that has lasted for so much of its length
# is over, or every second one would end a whole tick late.
WHOLE_ENOUGH = 0.9

Edges = Mapping[str, tuple[float, ...]]


@dataclass(frozen=True, slots=True)
class World:
    """All ports of one cluster, and how the loop uses them.

    name              of the cluster
    edges             its router's histogram edges in seconds, by signal
    endpoint_url      where people reach an endpoint, by its name: what /v1 is put behind
    interval_seconds  the length of one interval of evidence
    feedback_seconds  how long ratings of an answer may come in
    trials            tries its gateway; None where there is nothing to try
    allowed_files     names of files that may be launched although they are not data
    probe_pairs       prompts drawn a call, each asked of both variants within `probe_timeout` seconds
    """

    name: str
    cluster: Cluster
    router: TrafficRouter
    signals: SignalSource
    request_log: RequestLog
    prober: Prober
    store: ModelStore
    models_dir: Path
    clock: Clock
    edges: Edges
    endpoint_url: Callable[[str], str] = str
    interval_seconds: float = 5.0
    feedback_seconds: float = 60.0
    probe_pairs: int = 5
    probe_timeout: float = 20.0
    allowed_files: Collection[str] = ()
    trials: GatewayTrials | None = None


@dataclass(frozen=True, slots=True)
class Worlds:
    """The worlds of all clusters.

    names   of every cluster that the database knows
    build   makes the world of one of them, or finds it made; raises Unavailable when it cannot be made
    clock   the same in every world
    """

    names: tuple[str, ...]
    build: Callable[[str], World]
    clock: Clock

    def of(self, name: str) -> World:
        """The world of this cluster. Raises Unavailable, with the remedy, when there is none."""
        if name not in self.names:
            raise Unavailable(
                f"There is no cluster {name!r}.", fix=f"Use one of: {', '.join(self.names) or 'none yet'}."
            )
        return self.build(name)

    def edges_of(self, name: str) -> Edges | None:
        """The histogram edges of this cluster's router; None, not known, while the cluster cannot be used."""
        try:
            return self.of(name).edges
        except Unavailable:
            return None

    def edges(self) -> Edges | None:
        """The edges that any cluster has, for what is not on a cluster yet; None when no cluster can be used."""
        found: dict[str, set[float]] = {}
        for name in self.names:
            for signal, of_one in (self.edges_of(name) or {}).items():
                found.setdefault(signal, set()).update(of_one)
        return {signal: tuple(sorted(every)) for signal, every in found.items()} or None
