"""The engines' own gauges, from vLLM's /metrics (names as in vLLM 0.32). For people, never for gates."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from concurrent.futures import ThreadPoolExecutor

import httpx

from controlplane.outbound.clients import local_client
from rollouts.adapters.signals.exposition import samples
from rollouts.ports import Backend, EngineReading

RUNNING = "vllm:num_requests_running"
WAITING = "vllm:num_requests_waiting"
CACHE = "vllm:kv_cache_usage_perc"
TOKENS = "vllm:generation_tokens_total"
STARTED = "process_start_time_seconds"
AT_ONCE = 8


class VllmMetrics:
    """Reads engines side by side, so that one that hangs delays nobody for longer than `timeout` seconds."""

    def __init__(self, *, timeout: float = 2.0, transport: httpx.BaseTransport | None = None) -> None:
        # no kept connections: engines come and go, and a worker forks
        limits = httpx.Limits(max_keepalive_connections=0)
        self._client = local_client(timeout=timeout, transport=transport, limits=limits)

    def read(self, backends: Collection[Backend]) -> tuple[Mapping[str, EngineReading], Mapping[str, str]]:
        """(what each variant's engine says, why another's could not be read), both by variant."""
        engines: dict[str, EngineReading] = {}
        broken: dict[str, str] = {}
        if not backends:
            return engines, broken
        with ThreadPoolExecutor(max_workers=min(AT_ONCE, len(backends))) as pool:
            for backend, found in zip(backends, pool.map(self._read_one, backends), strict=True):
                if isinstance(found, EngineReading):
                    engines[backend.variant] = found
                else:
                    broken[backend.variant] = found
        return engines, broken

    def _read_one(self, backend: Backend) -> EngineReading | str:
        address = f"http://{backend.host}:{backend.port}/metrics"
        try:
            response = self._client.get(address)
            response.raise_for_status()
        except httpx.HTTPError as error:
            return f"{address} cannot be read: {error or type(error).__name__}"
        return engine_reading(response.text, address)


def engine_reading(text: str, address: str = "/metrics") -> EngineReading | str:
    """The reading, or why there is none. The ranks of a data-parallel engine are added up; of the cache the
    fullest counts."""
    found: dict[str, list[float]] = {}
    for sample in samples(text):
        found.setdefault(sample.name, []).append(sample.value)
    for name in (RUNNING, WAITING, CACHE, TOKENS):
        if name not in found:
            return f"{address} answers, but has no {name}: no vLLM, or one that names it differently"
    return EngineReading(
        running=sum(found[RUNNING]),
        waiting=sum(found[WAITING]),
        kv_cache_share=max(found[CACHE]),
        generated_tokens=int(sum(found[TOKENS])),
        started_at=min(found[STARTED]) if STARTED in found else None,
    )
