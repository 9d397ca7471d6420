"""The engines' own metrics, from vLLM's /metrics (names as in vLLM 0.32).

How completions ended is there, by the engine's own reasons: stop, length, abort, error, repetition. What is not there:
- Content filters and refusals: vLLM has none, so no reason tells them; a model that declines in words ends with "stop".
- Completions that users left: vLLM counts them in no reason (abort stays 0) and in no length; their tokens are counted.
- Who asked: probes and forced requests are in it. So it is for people by default, beside the router's own counters.
- Whether a short answer was meant: one token at most is called empty, and so is a one-word answer that was asked for
  with max_tokens=1. The tokens of one answer are only in the answer, of a stream only with include_usage.
- Embeddings and scores: such an engine generates nothing, so it says nothing of completions.
"""

from __future__ import annotations

import logging
from collections import defaultdict
from collections.abc import Collection, Iterable, Mapping
from concurrent.futures import ThreadPoolExecutor, wait

import httpx

from controlplane.kernel.errors import InvalidInput
from controlplane.kernel.foreign import words_of
from controlplane.outbound.asking import ask
from controlplane.outbound.clients import local_client
from rollouts.adapters.backends import address_of
from rollouts.adapters.signals.exposition import Sample, odd_metric, samples
from rollouts.domain.record.readings import EngineReading
from rollouts.ports import Backend

log = logging.getLogger(__name__)

RUNNING = "vllm:num_requests_running"
WAITING = "vllm:num_requests_waiting"
CACHE = "vllm:kv_cache_usage_perc"
TOKENS = "vllm:generation_tokens_total"
STARTED = "process_start_time_seconds"
FINISHED = "vllm:request_success_total"
LENGTHS = "vllm:request_generation_tokens"  # a histogram
EMPTY_AT_MOST = 1.0  # tokens: the end is one
EMPTY = f"{LENGTHS}_bucket of {EMPTY_AT_MOST:g}"
READ = frozenset({RUNNING, WAITING, CACHE, TOKENS, STARTED, EMPTY})
AT_ONCE = 16
MOST_BYTES = 8 << 20
MOST_REASONS, LONGEST_REASON = 50, 40  # vLLM knows five


class VllmMetrics:
    """Reads engines side by side. However many hang, all of them together delay nobody for longer than `timeout`
    seconds; those that hung last time are asked last."""

    def __init__(self, *, timeout: float = 2.0, transport: httpx.BaseTransport | None = None) -> None:
        # no kept connections: engines come and go, and a worker forks
        limits = httpx.Limits(max_keepalive_connections=0)
        self._seconds = timeout
        self._client = local_client(transport=transport, limits=limits)
        self._late: frozenset[Backend] = frozenset()

    def read(self, backends: Collection[Backend]) -> tuple[Mapping[str, EngineReading], Mapping[str, str]]:
        """(what each variant's engine says, why another's could not be read), both by variant."""
        engines: dict[str, EngineReading] = {}
        broken: dict[str, str] = {}
        if not backends:
            return engines, broken
        pool = ThreadPoolExecutor(max_workers=min(AT_ONCE, len(backends)))
        order = sorted(backends, key=lambda backend: backend in self._late)
        asked = {backend: pool.submit(self._read_one, backend) for backend in order}
        wait(asked.values(), timeout=self._seconds)
        pool.shutdown(wait=False, cancel_futures=True)  # what still hangs ends by its own time-out
        late = set(self._late)
        for backend, future in asked.items():
            answered = future.done() and not future.cancelled()
            found = (
                future.result()
                if answered
                else f"http://{backend.address}/metrics was not read in {self._seconds:g} s"
            )
            if isinstance(found, EngineReading):
                engines[backend.variant] = found
            else:
                broken[backend.variant] = found
            if answered:
                late.discard(backend)
            elif not future.cancelled():  # one that had no turn is not known to hang
                late.add(backend)
        self._late = frozenset(late)
        return engines, broken

    def query(self, backend: Backend) -> str:
        """See `combined.EngineMetrics`."""
        return f"GET http://{backend.address or backend.name}/metrics: {FINISHED}, {LENGTHS}_bucket"

    def _read_one(self, backend: Backend) -> EngineReading | str:
        try:
            address = _address(backend)
        except InvalidInput as error:
            return f"its metrics cannot be read: {error.message}"
        try:
            answer = ask(self._client, "GET", address, most_bytes=MOST_BYTES, seconds=self._seconds)
        except httpx.HTTPError as error:
            return f"{address} cannot be read: {words_of(str(error)) or type(error).__name__}"
        if not answer.ok:
            return f"{address} cannot be read: HTTP {answer.status}"
        if not answer.whole:
            return f"{address} cannot be read: it is longer than {MOST_BYTES >> 20} MB"
        try:
            return engine_reading(answer.text, address)
        except InvalidInput as error:
            log.warning("engine.metrics_odd address=%s %s", address, error.message)
            return f"{address} cannot be read: {error.message}"


def _address(backend: Backend) -> str:
    """Raises InvalidInput for a backend of another kind."""
    address_of(backend)
    return f"http://{backend.address}/metrics"


def engine_reading(text: str, address: str = "/metrics") -> EngineReading | str:
    """The reading, or why there is none. The ranks of a data-parallel engine are added up; of the cache the
    fullest counts. Metrics of completions that are missing are not said, never zero. Raises InvalidInput for a metric
    that is no amount (NaN, endless, below 0)."""
    return reading_of(samples(text), address)


def reading_of(said: Iterable[Sample], address: str) -> EngineReading | str:
    """The same of samples, whoever read them; those of several replicas are added up like ranks."""
    found: dict[str, list[float]] = {}
    endings: dict[str, int] = defaultdict(int)
    for sample in said:
        name = sample.name
        if name == FINISHED:
            endings[words_of(sample.labels.get("finished_reason", ""), LONGEST_REASON)] += sample.count
        elif name == f"{LENGTHS}_bucket" and _edge(sample.labels.get("le", "")) == EMPTY_AT_MOST:
            name = EMPTY
        if name in READ:
            found.setdefault(name, []).append(sample.amount)
    if len(endings) > MOST_REASONS:
        raise odd_metric(f"{FINISHED} names {len(endings)} reasons")
    for name in (RUNNING, WAITING, CACHE, TOKENS):
        if name not in found:
            return f"{address} answers, but has no {name}: no vLLM, or one that names it differently"
    # Every completion has a token at least: an engine that finished some without any does something else.
    completes = sum(found[TOKENS]) > 0 or not sum(endings.values())
    return EngineReading(
        running=sum(found[RUNNING]),
        waiting=sum(found[WAITING]),
        kv_cache_share=max(found[CACHE]),
        generated_tokens=_count(TOKENS, sum(found[TOKENS])),
        started_at=min(found[STARTED]) if STARTED in found else None,
        endings=dict(sorted(endings.items())) if completes else {},
        empty=_count(EMPTY, sum(found[EMPTY])) if completes and EMPTY in found else None,
    )


def _count(name: str, amount: float) -> int:
    return Sample(name, {}, amount).count


def _edge(text: str) -> float | None:
    try:
        return float(text)
    except ValueError:
        return None
