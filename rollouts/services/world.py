"""The outside world as services take it: the ports, bundled by wiring."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from pathlib import Path

from controlplane.kernel.clock import Clock
from registry.ports import ModelStore
from rollouts.ports import Cluster, Prober, RequestLog, SignalSource, TrafficRouter

# Ticks come a second apart and read the counters a moment later: an interval that has lasted for so much of its length
# is over, or every second one would end a whole tick late.
WHOLE_ENOUGH = 0.9


@dataclass(frozen=True, slots=True)
class World:
    """All ports, and how the loop uses them.

    clusters          by name
    edges             the router's histogram edges in seconds, by signal
    interval_seconds  the length of one interval of evidence
    feedback_seconds  how long ratings of an answer may come in
    allowed_files     names of files that may be launched although they are not data
    probe_pairs       prompts drawn a call, each asked of both variants within `probe_timeout` seconds
    """

    clusters: Mapping[str, Cluster]
    router: TrafficRouter
    signals: SignalSource
    request_log: RequestLog
    prober: Prober
    store: ModelStore
    models_dir: Path
    clock: Clock
    edges: Mapping[str, tuple[float, ...]]
    interval_seconds: float = 5.0
    feedback_seconds: float = 60.0
    probe_pairs: int = 5
    probe_timeout: float = 20.0
    allowed_files: Collection[str] = ()
