"""A Prometheus that is slow, lies, or is none."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any

import httpx
import pytest
from hypothesis import given
from hypothesis import strategies as st

from controlplane.kernel.clock import ManualClock
from controlplane.kernel.errors import Rejected, Unavailable
from rollouts.adapters.signals.prometheus.server import PrometheusServer
from rollouts.adapters.signals.prometheus.source import PrometheusSignals
from rollouts.adapters.signals.prometheus.templates import ENVOY_GATEWAY
from rollouts.domain.record.readings import SignalReading
from rollouts.ports import Backend
from tests.rollouts.adapters.signals.prometheus.pods import ROUTES, V1
from tests.standins.odd import odd_bodies, outcome
from tests.standins.running import free_port

NOW = 1_800_000_000.0
CLUSTER = {"envoy_cluster_name": "httproute/team-a/chat/rule/0/backend/0"}
GATEWAY = {"job": "gw", "instance": "a:1", "namespace": "edge", "pod": "gw-a"}


def server(answer: Callable[[str], Any], **more: Any) -> PrometheusServer:
    """One whose answer to a query is what the function gives: JSON, or a whole response."""

    def respond(request: httpx.Request) -> httpx.Response:
        given = answer(dict(httpx.QueryParams(request.content.decode()))["query"])
        return given if isinstance(given, httpx.Response) else httpx.Response(200, json=given)

    return PrometheusServer("http://prometheus", transport=httpx.MockTransport(respond), **more)


def vector(*series: tuple[dict[str, str], Any]) -> dict[str, Any]:
    found = [{"metric": labels, "value": [NOW, value]} for labels, value in series]
    return {"status": "success", "data": {"resultType": "vector", "result": found}}


def scalar(value: Any) -> dict[str, Any]:
    return {"status": "success", "data": {"resultType": "scalar", "result": [NOW, value]}}


def one_gateway(query: str) -> Any:
    """What a Prometheus with one process of Envoy Gateway says; engines are not scraped."""
    if query == "time()":
        return scalar(str(NOW))
    if query.startswith("timestamp(envoy"):
        return vector((GATEWAY, str(NOW - 3)))
    if query.startswith("container_start"):
        return vector(({"namespace": "edge", "pod": "gw-a"}, "1000.5"))
    if "envoy_cluster" in query:
        labels = {**GATEWAY, **CLUSTER}
        answers = {"__name__": "envoy_cluster_upstream_rq", "envoy_response_code": "200"}
        return vector(
            ({**labels, "__name__": "envoy_cluster_upstream_rq_total"}, "12"), ({**labels, **answers}, "12")
        )
    return vector()


def signals(answer: Callable[[str], Any], *, now: float = NOW) -> PrometheusSignals:
    clock = ManualClock(datetime.fromtimestamp(now, UTC))
    return PrometheusSignals(server(answer), ENVOY_GATEWAY, lambda: ROUTES, clock, engine_namespace="team-a")


def read(found: PrometheusSignals) -> object:
    return found.read_all({"chat": [Backend(V1, "service", name=V1)]})["chat"]


def test_signals__right_answers__are_a_reading_of_the_scrapes_time() -> None:
    found = read(signals(one_gateway))
    assert isinstance(found, SignalReading)
    assert found.at == NOW - 3
    assert (found.targets["gw-a"].started_at, found.targets["gw-a"].arms[V1].arrived) == (1000.5, 12)


def test_signals__old_scrape__is_of_a_process_that_is_gone() -> None:
    def old(query: str) -> Any:
        return vector((GATEWAY, str(NOW - 46))) if query.startswith("timestamp(envoy") else one_gateway(query)

    with pytest.raises(Unavailable, match="no fresh series of Envoy Gateway"):
        read(signals(old))


def test_signals__clocks_apart__says_so() -> None:
    with pytest.raises(Unavailable, match="60 s apart"):
        read(signals(one_gateway, now=NOW + 60))


@pytest.mark.parametrize("value", ["NaN", "+Inf", "-1", "1.5", "1e30"])
def test_signals__no_count__is_an_error_of_the_endpoint(value: str) -> None:
    def lying(query: str) -> Any:
        answer = one_gateway(query)
        if "envoy_cluster" in query:
            answer["data"]["result"][0]["value"][1] = value
        return answer

    assert "cannot be understood" in str(read(signals(lying)))


def test_signals__series_of_another_process__are_not_counted() -> None:
    def lying(query: str) -> Any:
        answer = one_gateway(query)
        if "envoy_cluster" in query:
            for series in answer["data"]["result"]:
                series["metric"]["instance"] = "b:2"
        return answer

    found = read(signals(lying))
    assert isinstance(found, SignalReading)
    assert found.targets["gw-a"].arms == {}


@given(st.data())
def test_signals__any_odd_answer__is_an_error_of_ours_or_a_reading(data: st.DataObject) -> None:
    names = ("time()", "timestamp(envoy", "container_start", "envoy_cluster", "vllm")
    spoilt = data.draw(st.sampled_from(names))

    def odd(query: str) -> Any:
        answer = one_gateway(query)
        if spoilt not in query:
            return answer
        return httpx.Response(200, content=data.draw(odd_bodies(answer)))

    outcome(lambda: read(signals(odd)))


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"[]",
        b"null",
        b"<html>",
        b'{"status":"success"}',
        b'{"status":"success","data":{"resultType":"matrix","result":[]}}',
    ],
)
def test_vector__no_vector__is_unavailable(body: bytes) -> None:
    with pytest.raises(Unavailable, match="What Prometheus says cannot be understood"):
        server(lambda _: httpx.Response(200, content=body)).vector("up", at=NOW)


def test_vector__no_number__is_kept_for_whoever_reads_the_series() -> None:
    (sample,) = server(lambda _: vector(({"__name__": "a"}, "NaN"))).vector("a", at=NOW)
    assert sample.name == "a"
    assert math.isnan(sample.value)


def test_vector__refused_query__is_rejected_with_its_words() -> None:
    said = {"status": "error", "errorType": "bad_data", "error": "parse error: unexpected end of input"}
    with pytest.raises(Rejected, match="parse error: unexpected end of input"):
        server(lambda _: httpx.Response(400, json=said)).vector("rate(", at=NOW)


@pytest.mark.parametrize("status", [302, 429, 500, 503])
def test_vector__server_in_trouble__is_unavailable(status: int) -> None:
    with pytest.raises(Unavailable, match=f"HTTP {status}") as refusal:
        server(lambda _: httpx.Response(status, text="busy")).vector("up", at=NOW)
    assert not isinstance(refusal.value, Rejected)


def test_vector__says_error_with_status_200__is_unavailable() -> None:
    with pytest.raises(Unavailable, match="query timed out"):
        server(lambda _: {"status": "error", "error": "query timed out"}).vector("up", at=NOW)


def test_vector__huge_answer__is_cut_off_and_unavailable() -> None:
    many = vector(*(({"x": str(index)}, "1") for index in range(50_000)))
    with pytest.raises(Unavailable, match="more than 1 MB"):
        server(lambda _: many, most_bytes=1 << 20).vector("up", at=NOW)


def test_now__slow__is_unavailable() -> None:
    def slow(_: str) -> Any:
        raise httpx.ReadTimeout("too slow")

    with pytest.raises(Unavailable, match="did not answer within 4 s"):
        server(slow).now()


def test_now__nobody_listens__is_unavailable() -> None:
    with pytest.raises(Unavailable, match="cannot be asked"):
        PrometheusServer(f"http://127.0.0.1:{free_port()}").now()


@pytest.mark.parametrize("value", ["NaN", "-1", "soon", None, [1]])
def test_now__no_time__is_unavailable(value: Any) -> None:
    with pytest.raises(Unavailable, match="cannot be understood"):
        server(lambda _: scalar(value)).now()


def test_vector__a_part_of_the_answer_alone__is_unavailable() -> None:
    """What stands before several Prometheus answers without those that it does not reach, and warns."""
    part = {**vector(({"__name__": "a"}, "1")), "warnings": ["store 10.0.0.7 did not answer"]}
    with pytest.raises(Unavailable, match=r"a part of what there is.*store 10\.0\.0\.7 did not answer"):
        server(lambda _: part).vector("a", at=NOW)


@pytest.mark.parametrize("none", [None, []])
def test_vector__no_warnings__is_whole(none: object) -> None:
    assert server(lambda _: {**vector(({"__name__": "a"}, "1")), "warnings": none}).vector("a", at=NOW)


def test_signals__scrape_before_the_places_by_a_clock_that_is_late__is_not_read() -> None:
    """By the server's clock the backends stand so since NOW - 1, and the scrape is of NOW - 3."""
    routes = {"chat": replace(ROUTES["chat"], since=NOW - 10)}
    clock = ManualClock(datetime.fromtimestamp(NOW - 9, UTC))
    late = PrometheusSignals(
        server(one_gateway), ENVOY_GATEWAY, lambda: routes, clock, engine_namespace="team-a"
    )
    assert "not scraped since the backends" in str(read(late))


def test_signals__pod_of_a_stranger_that_plays_a_gateway__is_not_counted() -> None:
    """Whoever may run a pod that is scraped could else say how many requests a candidate failed."""

    def two(query: str) -> Any:
        answer = one_gateway(query)
        for series in list(answer["data"]["result"]) if query != "time()" else ():
            metric = {**series["metric"], "namespace": "team-x", "pod": "envoy", "instance": "x:1"}
            answer["data"]["result"].append({**series, "metric": metric})
        return answer

    clock = ManualClock(datetime.fromtimestamp(NOW, UTC))
    made = PrometheusSignals(
        server(two), ENVOY_GATEWAY, lambda: ROUTES, clock,
        engine_namespace="team-a", gateway_namespaces=("edge",),
    )  # fmt: skip
    found = read(made)
    assert isinstance(found, SignalReading)
    assert set(found.targets) == {"gw-a"}
    assert {endpoint: set(by) for endpoint, by in made.failures().items()} == {"chat": {"gw-a"}}
