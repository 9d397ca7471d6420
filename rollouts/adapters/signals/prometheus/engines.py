"""What engines say of themselves, as Prometheus scraped it from each pod.

vLLM labels its metrics with the first name that it serves, which is the variant's (`model_name`). The pods of a variant
are added up like the ranks of one engine.
"""

from __future__ import annotations

import logging
import math
import zlib
from collections import defaultdict
from collections.abc import Collection, Mapping, Sequence
from dataclasses import replace

from controlplane.kernel.digests import canonical_json
from controlplane.kernel.errors import InvalidInput
from rollouts.adapters.signals.exposition import Sample
from rollouts.adapters.signals.prometheus.server import PrometheusServer
from rollouts.adapters.signals.vllm import (
    CACHE,
    FINISHED,
    LENGTHS,
    RUNNING,
    STARTED,
    TOKENS,
    WAITING,
    reading_of,
)
from rollouts.domain.record.readings import EngineReading
from rollouts.ports import Backend

log = logging.getLogger(__name__)

VARIANT = "model_name"
POD = ("namespace", "pod")
SCRAPE = ("job", "instance")
NAMED_AT_MOST = 200  # variants in one query; of more, those of the whole namespace are asked for
_METRICS = "|".join((RUNNING, WAITING, CACHE, TOKENS, FINISHED))

FRACTIONS = 1 << 20  # of a second: as fine as a number of seconds since the epoch is kept

Pod = tuple[str, ...]


class PrometheusEngines:
    """Reads engines out of a Prometheus. Raises what the server does: then it is the source that cannot be read.

    namespace  of the pods; others may say of themselves what they like
    """

    def __init__(self, server: PrometheusServer, namespace: str, *, stale_seconds: float) -> None:
        self._server = server
        self._namespace = namespace
        self._stale_seconds = stale_seconds

    def read(
        self, backends: Collection[Backend], now: float
    ) -> tuple[Mapping[str, EngineReading], Mapping[str, str]]:
        """(what each variant's engine says, why another's could not be read), both by variant; `now` by the server's
        clock."""
        variants = sorted({backend.variant for backend in backends})
        if not variants:
            return {}, {}
        selector = self._selector(variants)
        scrapes = self._scrapes(f"timestamp({RUNNING}{{{selector}}})", now)
        series: dict[str, list[Sample]] = defaultdict(list)
        shortest = " or ".join(f'{LENGTHS}_bucket{{le="{le}",{selector}}}' for le in ("1.0", "1"))
        for query in (f'{{__name__=~"{_METRICS}",{selector}}}', shortest):
            for sample in self._server.vector(query, at=now):
                if scrapes.get(_values(sample, POD)) == _values(sample, SCRAPE):
                    series[sample.labels.get(VARIANT, "")].append(sample)
        same_pods = f"and on({','.join(POD)}) {RUNNING}{{{selector}}}"
        started = {
            _values(sample, POD): sample
            for sample in self._server.vector(f"{STARTED} {same_pods}", at=now)
            if scrapes.get(_values(sample, POD)) == _values(sample, SCRAPE)
        }
        engines: dict[str, EngineReading] = {}
        broken: dict[str, str] = {}
        for variant in variants:
            found = _engine(variant, series.get(variant, []), started)
            if isinstance(found, EngineReading):
                engines[variant] = found
            else:
                broken[variant] = found
        return engines, broken

    def query(self, backend: Backend) -> str:
        """For the engines' own counts of their answers."""
        return f'{{__name__=~"{FINISHED}|{LENGTHS}_bucket",{self._selector([backend.variant])}}}'

    def _selector(self, variants: Sequence[str]) -> str:
        names = "|".join(name.replace(".", "[.]") for name in variants)
        of = f'{VARIANT}=~"{names}"' if len(variants) <= NAMED_AT_MOST else f'{VARIANT}!=""'
        return f'namespace="{self._namespace}",{of}'

    def _scrapes(self, query: str, now: float) -> Mapping[Pod, tuple[str, ...]]:
        """By which scrape each pod is read: the newest, so that one that two jobs scrape is counted once. A pod whose
        newest is too old is left out."""
        newest: dict[Pod, tuple[float, tuple[str, ...]]] = {}
        for sample in self._server.vector(query, at=now):
            if now - sample.value <= self._stale_seconds:
                pod, scrape = _values(sample, POD), (sample.value, _values(sample, SCRAPE))
                newest[pod] = max(scrape, newest.get(pod, scrape))
        return {pod: scrape for pod, (_, scrape) in newest.items()}


def _engine(variant: str, series: Collection[Sample], started: Mapping[Pod, Sample]) -> EngineReading | str:
    """The reading, or why there is none."""
    if not series:
        return f"Prometheus has no fresh series of {RUNNING} for {variant}: its pods are gone, or are not scraped"
    pods = {_values(sample, POD) for sample in series}
    try:
        found = reading_of(series, f"Prometheus, asked for {variant},")
        starts = {pod: started[pod].amount for pod in sorted(pods) if pod in started}
    except InvalidInput as error:
        log.warning("engine.metrics_odd variant=%s %s", variant, error.message)
        return f"Prometheus says of {variant} what cannot be understood: {error.message}"
    if isinstance(found, str):
        return found
    if len(starts) < len(pods):
        return replace(found, started_at=None, endings={})  # whether one began again is not known
    return replace(found, started_at=_since(starts))


def _since(starts: Mapping[Pod, float]) -> float:
    """The newest pod's start, to the second; the fraction tells which pods these are. So it changes also when one of
    them is not scraped for a while and comes back with all that it ever counted: nothing is then taken for progress."""
    pods = canonical_json([[*pod, start] for pod, start in sorted(starts.items())])
    return math.floor(max(starts.values())) + zlib.crc32(pods) % FRACTIONS / FRACTIONS


def _values(sample: Sample, names: Sequence[str]) -> tuple[str, ...]:
    return tuple(sample.labels.get(name, "") for name in names)
