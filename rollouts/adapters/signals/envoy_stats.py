"""Counters of the assigned arms, out of Envoy's statistics.

Envoy counts each request twice: `llm.arrived` when it arrives and `llm.requests` when it ended, both under
the cluster that the route chose (see routers/envoy_config). So `arrived` is a measurement of its own, not
a sum, and a request that no backend could take is in both. Histograms are merged once a second: they may
be one second behind the counters.
"""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Collection
from dataclasses import dataclass, field, replace
from pathlib import Path

from controlplane.kernel.clock import Clock
from controlplane.kernel.errors import Unavailable
from rollouts.adapters.routers.envoy_admin import EnvoyAdmin
from rollouts.adapters.routers.envoy_config import Paths
from rollouts.adapters.routers.envoy_routes import ASSIGNED, split_cluster_name
from rollouts.adapters.signals.exposition import Sample, samples
from rollouts.ports import ArmReading, Backend, HistogramReading, SignalReading

MICROSECONDS = 1_000_000
# Envoy's short response flags (its reference, "access log usage"). The client left, or was cut off:
ABORT_FLAGS = frozenset({"DC", "DR"})
# The router or the engine failed, whatever the status says (a stream that broke has status 200):
FAILURE_FLAGS = frozenset({
    "UH", "UF", "UO", "UC", "UR", "URX", "UT", "LH", "LR", "SI", "DT", "UPE", "UMSDR", "NC", "OM", "NFCF",
    "DO", "DF",
})  # fmt: skip


@dataclass(slots=True)
class _Tally:
    """One arm, while its samples are added up."""

    arrived: int = 0
    answered: int = 0
    refused: dict[str, int] = field(default_factory=lambda: defaultdict(int))
    failed: int = 0
    fallbacks: int = 0
    abandoned: dict[str, int] = field(default_factory=lambda: defaultdict(int))
    statuses: dict[str, int] = field(default_factory=lambda: defaultdict(int))
    buckets: dict[str, dict[float, int]] = field(default_factory=lambda: defaultdict(dict))
    totals: dict[str, int] = field(default_factory=dict)

    def add_ended(self, sample: Sample, variant: str) -> None:
        """Books requests that ended alike. An error outranks an abort: clients hang up on a broken stream."""
        number = int(sample.value)
        code = int(sample.labels.get("code") or 0)
        flags = set(sample.labels.get("flags", "").split(","))
        broken = code >= 500 or bool(sample.labels.get("stream_error")) or bool(flags & FAILURE_FLAGS)
        if not broken and (flags & ABORT_FLAGS or code in (0, 499)):
            self.abandoned["before"] += number
            return
        self.statuses[f"{code // 100}xx"] += number
        answered = sample.labels.get("variant", "")
        if broken:
            self.failed += number
        elif answered not in ("", variant):
            self.fallbacks += number
        elif code >= 300:
            self.refused["gateway" if not answered else "rate" if code == 429 else "request"] += number
        else:
            self.answered += number

    def reading(self) -> ArmReading:
        latency = {}
        for signal, buckets in sorted(self.buckets.items()):
            edges = tuple(sorted(buckets))
            counts = tuple(buckets[edge] for edge in edges)
            latency[signal] = HistogramReading(edges, counts, self.totals.get(signal, 0))
        found = ArmReading(
            arrived=self.arrived,
            answered=self.answered,
            refused=dict(sorted(self.refused.items())),
            failed=self.failed,
            fallbacks=self.fallbacks,
            abandoned=dict(sorted(self.abandoned.items())),
            statuses=dict(sorted(self.statuses.items())),
            latency=latency,
        )
        # the counters are read one after the other: a request may end in between
        return replace(found, arrived=max(found.arrived, found.arrived - found.running))


def arms_of(endpoint: str, text: str) -> dict[str, ArmReading]:
    """The arms of one endpoint in Envoy's Prometheus output, by variant; forced requests are in none."""
    tallies: dict[str, _Tally] = defaultdict(_Tally)
    for sample in samples(text):
        kind, of_endpoint, variant = split_cluster_name(sample.labels.get("cluster", ""))
        if kind != ASSIGNED or of_endpoint != endpoint:
            continue
        tally = tallies[variant]
        name = sample.name.removeprefix("envoy_llm_")
        if name == "arrived":
            tally.arrived += int(sample.value)
        elif name == "requests":
            tally.add_ended(sample, variant)
        elif sample.labels.get("variant") == variant and not sample.labels.get("stream_error"):
            # what another arm answered, and what broke, says nothing of this one's speed
            signal, _, part = name.rpartition("_")
            if part == "bucket" and sample.labels["le"] != "+Inf":
                tally.buckets[signal][float(sample.labels["le"]) / MICROSECONDS] = int(sample.value)
            elif part == "count":
                tally.totals[signal] = int(sample.value)
    return {variant: tally.reading() for variant, tally in tallies.items()}


class EnvoyStats:
    """A SignalSource of the router's counters alone (see `combined` for the engines' too).

    Every variant of `backends` has a reading: where Envoy has no counter yet, it has counted zero requests.
    Variants that had requests earlier are in it too.
    """

    def __init__(self, run_dir: Path, clock: Clock) -> None:
        self._admin = EnvoyAdmin(Paths(run_dir).admin)
        self._clock = clock

    def read(self, endpoint: str, backends: Collection[Backend]) -> SignalReading:
        started_at = self._admin.started_at()
        at = self._clock.now().timestamp()
        wanted = rf"^llm\..*{ASSIGNED}/{re.escape(endpoint)}/"
        text = self._admin.text("/stats", filter=wanted, format="prometheus")
        if self._admin.started_at() != started_at:
            raise Unavailable("Envoy restarted while its counters were read.", fix="Read them again.")
        nothing = {backend.variant: _Tally().reading() for backend in backends}
        return SignalReading(at=at, router_started_at=started_at, arms=nothing | arms_of(endpoint, text))
