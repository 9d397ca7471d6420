"""Engines whose pods come, go, and are not scraped for a while, by what a Prometheus says of them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import httpx

from rollouts.adapters.signals.exposition import samples
from rollouts.adapters.signals.prometheus.engines import PrometheusEngines
from rollouts.adapters.signals.prometheus.server import PrometheusServer
from rollouts.domain.record.counters import completions_between
from rollouts.domain.record.readings import EngineReading
from rollouts.ports import Backend
from tests.rollouts.adapters.signals.prometheus.pods import V1, vllm

NOW = 1_800_000_000.0
OLDER = {"v1-0": vllm(V1, tokens=1_000_000, stops=5_000, started=NOW - 9_000)}
NEWER = {"v1-1": vllm(V1, tokens=2_000, stops=10, started=NOW - 1_000)}
LATER = {"v1-1": vllm(V1, tokens=2_400, stops=12, started=NOW - 1_000)}


def read(pods: Mapping[str, str]) -> EngineReading:
    """The reading of the variant with these pods, of which each says this."""

    def respond(request: httpx.Request) -> httpx.Response:
        query = dict(httpx.QueryParams(request.content.decode()))["query"]
        found: list[dict[str, Any]] = []
        for pod, text in pods.items():
            of = {"namespace": "team-a", "pod": pod, "job": "engines", "instance": pod}
            for sample in samples(text):
                labels = {**sample.labels, **of}
                if query.startswith("timestamp("):
                    if sample.name == "vllm:num_requests_running":
                        found.append({"metric": labels, "value": [NOW, str(NOW - 1)]})
                elif query.startswith("process_start"):
                    if sample.name == "process_start_time_seconds":
                        found.append({"metric": labels, "value": [NOW, str(sample.value)]})
                elif sample.name in query or (query.startswith("{") and sample.name.startswith("vllm:")):
                    named = {**labels, "__name__": sample.name}
                    found.append({"metric": named, "value": [NOW, str(sample.value)]})
        data = {"resultType": "vector", "result": found}
        return httpx.Response(200, json={"status": "success", "data": data})

    server = PrometheusServer("http://prometheus", transport=httpx.MockTransport(respond))
    engines, broken = PrometheusEngines(server, "team-a", stale_seconds=45).read(
        [Backend(V1, "service", name=V1)], NOW
    )
    assert broken == {}
    return engines[V1]


def test_pods__the_same_ones__have_finished_what_was_counted_between() -> None:
    found = completions_between(read({**OLDER, **NEWER}), read({**OLDER, **LATER}))
    assert found is not None
    assert (found.total, found.tokens) == (2, 400)


def test_pods__one_is_scraped_again_after_a_gap__is_no_progress() -> None:
    """All that it ever counted would be taken for what was finished since the last look."""
    assert completions_between(read(NEWER), read({**OLDER, **LATER})) is None
    assert completions_between(read({**OLDER, **NEWER}), read(LATER)) is None


def test_pods__one_is_replaced_by_another_of_the_same_age__is_no_progress() -> None:
    other = {"v1-2": OLDER["v1-0"]}
    assert completions_between(read({**OLDER, **NEWER}), read({**other, **LATER})) is None


def test_pods__start_of_one_is_not_known__is_no_progress() -> None:
    def silent(pods: Mapping[str, str]) -> dict[str, str]:
        return {pod: text.partition("process_start_time_seconds")[0] for pod, text in pods.items()}

    assert completions_between(read(silent(NEWER)), read(silent(LATER))) is None


def test_started__is_the_newest_pods_start_to_the_second() -> None:
    started = read({**OLDER, **NEWER}).started_at
    assert started is not None
    assert int(started) == NOW - 1_000
