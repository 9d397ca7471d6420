"""Envoy, engines and the process manager answer oddly: every reader gives a right value or one of our errors."""

from __future__ import annotations

import json
import xmlrpc.client
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from controlplane.kernel.clock import ManualClock
from controlplane.kernel.errors import HeadgateError, Unavailable
from rollouts.adapters.backends import at_address
from rollouts.adapters.clusters.engines import EngineTemplate
from rollouts.adapters.clusters.folder import EngineFolder
from rollouts.adapters.clusters.probe import Health, WarmUp, ask_health, ask_in_flight, warm_up
from rollouts.adapters.clusters.supervisord import ProgramInfo, Supervisor
from rollouts.adapters.probers.openai import OpenAIProber
from rollouts.adapters.request_log.envoy import EnvoyRequestLog
from rollouts.adapters.routers.envoy import EnvoyRouter
from rollouts.adapters.routers.envoy_admin import EnvoyAdmin
from rollouts.adapters.signals.envoy_stats import EnvoyStats
from rollouts.adapters.signals.vllm import VllmMetrics
from rollouts.domain.record.readings import EngineReading, SignalReading
from rollouts.ports import Answer, ObservedRoute
from tests.rollouts.adapters.readings import only_target, read_one
from tests.rollouts.memory_world import START
from tests.standins.envoy_admin import COUNTERS, RIGHT, EnvoyStandIn, envoy_standin
from tests.standins.odd import DEEP, LONG_NUMBER, odd_bodies, odd_metrics, odd_values, outcome, written
from tests.standins.unix_server import UnixServer, response, short_folder, unix_server

few = settings(max_examples=50, suppress_health_check=[HealthCheck.function_scoped_fixture])
BACKENDS = (at_address("v1", "127.0.0.1", 1), at_address("v2", "127.0.0.1", 2))


# --- Envoy ------------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def standin() -> Iterator[EnvoyStandIn]:
    with envoy_standin() as found:
        yield found


@pytest.fixture
def envoy(standin: EnvoyStandIn) -> EnvoyStandIn:
    standin.odd.clear()
    standin.raw.clear()
    return standin


def admin(envoy: EnvoyStandIn) -> EnvoyAdmin:
    return EnvoyAdmin(envoy.run_dir / "admin.sock")


def router(envoy: EnvoyStandIn) -> EnvoyRouter:
    return EnvoyRouter(envoy.run_dir, 1, Path("/no/envoy"))


def stats(envoy: EnvoyStandIn) -> EnvoyStats:
    return EnvoyStats(envoy.run_dir, ManualClock(START))


BOTH = frozenset({"v1", "v2"})
READS: dict[str, tuple[str, Callable[[EnvoyStandIn], object]]] = {
    "started_at": ("listeners", lambda envoy: admin(envoy).started_at()),
    "acceptance": ("stats", lambda envoy: admin(envoy).acceptance("cluster_manager.cds")),
    "warming_clusters": ("stats", lambda envoy: admin(envoy).warming_clusters()),
    "healthy_variants": ("clusters", lambda envoy: admin(envoy).healthy_variants("chat")),
    "observe": ("routes", lambda envoy: router(envoy).observe("chat")),
    "all_healthy_variants": ("clusters", lambda envoy: admin(envoy).all_healthy_variants()),
    "observe_all": ("routes", lambda envoy: router(envoy).observe_all()),
}


def test_envoy__right_answers__are_read(envoy: EnvoyStandIn) -> None:
    seen = router(envoy).observe("chat")
    assert seen == ObservedRoute("chat", {"v1": 9000, "v2": 1000}, BOTH, BOTH)
    reading = read_one(stats(envoy), "chat", BACKENDS)
    counted = only_target(reading)
    assert (counted.arms["v1"].answered, counted.arms["v1"].failed, counted.other) == (80, 9, 4)


@pytest.mark.parametrize("read", READS)
@few
@given(data=st.data())
def test_envoy__odd_answer__a_value_or_our_error(envoy: EnvoyStandIn, read: str, data: st.DataObject) -> None:
    name, call = READS[read]
    envoy.odd = {name: data.draw(odd_bodies(json.loads(envoy.right(name))))}
    outcome(lambda: call(envoy))


@few
@given(data=st.data())
def test_envoy__odd_counters__a_reading_or_unavailable(envoy: EnvoyStandIn, data: st.DataObject) -> None:
    envoy.odd = {"counters": data.draw(odd_metrics(COUNTERS.replace("{endpoint}", "chat")))}
    found = outcome(lambda: read_one(stats(envoy), "chat", BACKENDS))
    assert isinstance(found, SignalReading | Unavailable)
    assert isinstance(outcome(lambda: stats(envoy).failures()), dict | Unavailable)
    if isinstance(found, SignalReading):
        for arm in only_target(found).arms.values():
            assert min(arm.arrived, arm.answered, arm.failed, arm.running) >= 0


@pytest.mark.parametrize("value", ["NaN", "-1", "0.5", "+Inf", "1e30"])
def test_envoy__counter_that_is_no_count__unknown_and_never_less_than_was_counted(
    envoy: EnvoyStandIn, value: str
) -> None:
    envoy.odd = {"counters": envoy.right("counters").replace(b" 9\n", f" {value}\n".encode())}
    with pytest.raises(Unavailable, match="envoy_llm_requests is "):
        read_one(stats(envoy), "chat", BACKENDS)


def test_envoy__label_with_a_line_separator__is_one_line(envoy: EnvoyStandIn) -> None:
    more = 'envoy_llm_requests{cluster="x\u2028envoy_llm_arrived{cluster=\\"assigned/chat/v1\\"} 7000",code="200"} 1\n'
    envoy.odd = {"counters": envoy.right("counters") + more.encode()}
    assert only_target(read_one(stats(envoy), "chat", BACKENDS)).arms["v1"].arrived == 90


@pytest.mark.parametrize("name", sorted(RIGHT))
@pytest.mark.parametrize(
    "raw",
    [
        response(b"a\x00b\xff" * 100, status="500 No"),
        response(b"", status="302 Found", headers="Location: http://elsewhere/\r\n"),
        b"HTTP/1.1 200 OK\r\nContent-Length: 900\r\n\r\n{}",
        b"no http",
    ],
)
def test_envoy__no_answer_of_that_kind__unavailable(envoy: EnvoyStandIn, name: str, raw: bytes) -> None:
    envoy.raw = {name: raw}
    read = {
        **dict(READS.values()),
        "counters": lambda envoy: read_one(stats(envoy), "chat"),
    }
    assert isinstance(outcome(lambda: read[name](envoy)), Unavailable)


def test_observe__another_endpoints_route_is_odd__this_one_is_read(envoy: EnvoyStandIn) -> None:
    table = json.loads(envoy.right("routes"))
    odd: Any = {"name": "draw", "route": {"weighted_clusters": {"clusters": [{"name": 7, "weight": "much"}]}}}
    table["configs"][0]["route_config"]["virtual_hosts"][0]["routes"].insert(0, odd)
    clusters = json.loads(envoy.right("clusters"))
    clusters["cluster_statuses"].insert(0, {"name": "answer/draw/v9", "host_statuses": None})
    envoy.odd = {"routes": written(table), "clusters": written(clusters)}
    seen = router(envoy).observe("chat")
    assert seen is not None
    assert (dict(seen.shares), seen.healthy) == ({"v1": 9000, "v2": 1000}, frozenset({"v1", "v2"}))
    assert router(envoy).observe_all() == {"chat": seen}


# --- the access log ---------------------------------------------------------------------------------------------------

ENTRY = {
    "at": "1795252000.125",
    "id": "request-b",
    "cluster": "assigned/chat/v2",
    "variant": "v1",
    "status": 200,
    "route": "chat",
    "details": "via_upstream",
}


@few
@given(
    st.one_of(odd_values(ENTRY).map(written), odd_bodies(ENTRY).map(lambda body: body.replace(b"\n", b" ")))
)
def test_request_log__one_odd_line__the_others_are_found(
    tmp_path_factory: pytest.TempPathFactory, line: bytes
) -> None:
    folder = tmp_path_factory.mktemp("log")
    lines = [written({**ENTRY, "id": "request-a"}), line, written({**ENTRY, "id": "request-c"})]
    (folder / "access.jsonl").write_bytes(b"\n".join(lines) + b"\n")
    log = EnvoyRequestLog(folder)
    found = outcome(lambda: log.find(["request-a", "request-b", "request-c"]))
    log.close()
    assert not isinstance(found, HeadgateError)
    assert {"request-a", "request-c"} <= set(found)


def test_request_log__line_without_end__is_not_kept_in_memory(tmp_path: Path) -> None:
    path = tmp_path / "access.jsonl"
    path.write_bytes(b'{"id": "' + b"x" * (8 << 20))
    log = EnvoyRequestLog(tmp_path)
    assert log.find([]) == {}
    assert len(log._rest) < 2 << 20
    with path.open("ab") as stream:
        stream.write(b"\n" + written({**ENTRY, "id": "request-a"}) + b"\n")
    assert set(log.find(["request-a"])) == {"request-a"}
    log.close()


# --- engines ----------------------------------------------------------------------------------------------------------

VLLM = """# TYPE vllm:num_requests_running gauge
vllm:num_requests_running{engine="0"} 2.0
vllm:num_requests_waiting{engine="0"} 1.0
vllm:kv_cache_usage_perc{engine="0"} 0.25
vllm:generation_tokens_total{engine="0"} 1200
vllm:request_success_total{engine="0",finished_reason="stop"} 7.0
vllm:request_success_total{engine="0",finished_reason="length"} 2.0
vllm:request_generation_tokens_bucket{engine="0",le="1.0"} 3.0
process_start_time_seconds 1795252000.5
"""
TEMPLATE = EngineTemplate("vllm", ())


def http(body: bytes, *, status: int = 200, headers: dict[str, str] | None = None) -> httpx.Client:
    return httpx.Client(transport=transport(body, status=status, headers=headers))


def transport(
    body: bytes, *, status: int = 200, headers: dict[str, str] | None = None
) -> httpx.MockTransport:
    """Every engine on port 2 answers so, all others as they should."""

    def handler(request: httpx.Request) -> httpx.Response:
        if request.url.port == 2 or request.url.port is None:
            return httpx.Response(status, content=iter([body]), headers=headers)
        return httpx.Response(200, content=VLLM.encode())

    return httpx.MockTransport(handler)


@few
@given(st.one_of(odd_metrics(VLLM), odd_bodies({"a": 1})))
def test_vllm_metrics__one_odd_engine__a_reading_or_words_and_the_other_is_read(body: bytes) -> None:
    engines, broken = VllmMetrics(transport=transport(body)).read(BACKENDS)
    outcome(lambda: (engines, broken))
    assert engines["v1"].running == 2.0
    assert ("v2" in engines) != ("v2" in broken)
    if "v2" in engines:
        reading = engines["v2"]
        assert isinstance(reading, EngineReading)
        assert min(reading.running, reading.waiting, reading.kv_cache_share, reading.generated_tokens) >= 0


@few
@given(st.one_of(odd_metrics(VLLM), odd_bodies({"a": 1})))
@example(b"vllm:num_requests_running NaN")
@example(b"vllm:num_requests_running +Inf")
@example(b"vllm:num_requests_running many")
def test_in_flight__odd_metrics__a_number_or_unknown(body: bytes) -> None:
    inside = ask_in_flight(http(body), TEMPLATE, 2)
    assert inside is None or inside >= 0


def test_vllm_metrics__gauge_a_rounding_below_0__is_0() -> None:
    body = VLLM.replace('usage_perc{engine="0"} 0.25', 'usage_perc{engine="0"} -3.4e-18').encode()
    engines, _ = VllmMetrics(transport=transport(body)).read(BACKENDS)
    assert engines["v2"].kv_cache_share == 0.0


@pytest.mark.parametrize(("status", "health"), [(200, Health.GOOD), (302, Health.BAD), (500, Health.BAD)])
def test_health__any_body__the_status_says_it(status: int, health: Health) -> None:
    for body in (b"", b"\xff" * 100_000):
        assert (
            ask_health(http(body, status=status, headers={"Location": "/elsewhere"}), TEMPLATE, 2) is health
        )


@pytest.mark.parametrize("ask", [ask_health, ask_in_flight, lambda client, template, port: warm(client).ok])
def test_engine__packed_though_nobody_asked__is_no_answer(ask: Callable[..., object]) -> None:
    client = http(b"\x1f\x8b broken", headers={"Content-Encoding": "gzip"})
    assert ask(client, TEMPLATE, 2) in (Health.SILENT, None, False)


COMPLETION = {
    "model": "chat",
    "system_fingerprint": "chat-v2-bbbb",
    "choices": [{"message": {"role": "assistant", "content": "Hi"}}],
}


def warm(client: httpx.Client) -> WarmUp:
    return warm_up(client, "chat-v2-bbbb", "chat", 2, is_ours=lambda: None)


@few
@given(odd_bodies(COMPLETION), st.sampled_from([200, 200, 200, 302, 400, 500]))
def test_warm_up__odd_answer__a_result_with_storable_words(body: bytes, status: int) -> None:
    assert isinstance(outcome(lambda: warm(http(body, status=status))), WarmUp)


# --- probes -----------------------------------------------------------------------------------------------------------

EVENT = {"choices": [{"delta": {"content": "hi"}}], "usage": {"completion_tokens": 2}}


def streamed(*events: bytes) -> bytes:
    return (
        b"".join(b"data: " + event.replace(b"\n", b" ") + b"\n\n" for event in events) + b"data: [DONE]\n\n"
    )


def ask(body: bytes, *, status: int = 200) -> Answer | HeadgateError:
    said = transport(body, status=status, headers={"x-headgate-variant": "v2"})
    prober = OpenAIProber.by_path("http://gateway/", transport=said)
    return outcome(lambda: prober.ask(endpoint="chat", variant="v2", messages=(), max_tokens=9, timeout=5))


@few
@given(st.one_of(odd_bodies(EVENT).map(lambda body: streamed(written(EVENT), body)), odd_bodies(EVENT)))
def test_prober__odd_stream__an_answer_or_our_error(body: bytes) -> None:
    found = ask(body)
    if isinstance(found, Answer):
        assert 0 <= found.tokens < 2**31


@few
@given(odd_bodies({"error": {"message": "no"}}), st.sampled_from([204, 301, 400, 404, 429, 500, 503]))
def test_prober__odd_refusal__our_error_with_storable_words(body: bytes, status: int) -> None:
    assert isinstance(ask(body, status=status), HeadgateError)


def test_prober__stream_of_comments_without_end__unavailable_in_time() -> None:
    def comments() -> Iterator[bytes]:
        while True:
            yield b": still here\n"

    prober = OpenAIProber.by_path(
        "http://gateway/",
        transport=httpx.MockTransport(
            lambda request: httpx.Response(200, content=comments(), headers={"x-headgate-variant": "v2"})
        ),
    )
    with pytest.raises(Unavailable, match=r"within 0\.2 s"):
        prober.ask(endpoint="chat", variant="v2", messages=(), max_tokens=9, timeout=0.2)


def test_prober__line_without_end__unavailable_and_not_kept_in_memory() -> None:
    def flood() -> Iterator[bytes]:
        while True:
            yield b"x" * (1 << 20)

    prober = OpenAIProber.by_path(
        "http://gateway/",
        transport=httpx.MockTransport(
            lambda request: httpx.Response(200, content=flood(), headers={"x-headgate-variant": "v2"})
        ),
    )
    with pytest.raises(Unavailable, match="1 MB in one line"):
        prober.ask(endpoint="chat", variant="v2", messages=(), max_tokens=9, timeout=60)


# --- the process manager ----------------------------------------------------------------------------------------------

PROGRAM = {
    "name": "engine-chat-v1",
    "statename": "RUNNING",
    "pid": 77,
    "exitstatus": 0,
    "start": 1_795_252_000,
    "spawnerr": "",
    "description": "pid 77, uptime 0:01:00",
}
CALLS: dict[str, tuple[Any, Callable[[Supervisor], object]]] = {
    "programs": ([{**PROGRAM, "name": "loop"}, PROGRAM], lambda supervisor: supervisor.programs()),
    "pid": ([4711], lambda supervisor: supervisor.pid()),
    "reload": ([["a"], ["b"], ["c"]], lambda supervisor: supervisor.reload()),
    "log_end": (["exited: engine-chat-v1"], lambda supervisor: supervisor.log_end()),
    "start": ([True], lambda supervisor: supervisor.start("engine-chat-v1")),
}


@pytest.fixture(scope="module")
def manager() -> Iterator[tuple[UnixServer, Supervisor]]:
    with short_folder() as folder, unix_server(folder / "supervisor.sock") as server:
        yield server, Supervisor(folder / "supervisor.sock")


def xml(value: Any) -> bytes:
    text = xmlrpc.client.dumps((_small(value),), methodresponse=True, allow_none=True)
    text = text.replace(f"<string>{LONG_NUMBER}</string>", f"<int>{'1' * 5000}</int>")
    text = text.replace(
        f"<string>{DEEP}</string>", "<array><data><value>" * 3000 + "</value></data></array>" * 3000
    )
    return text.encode(errors="surrogatepass")


def _small(value: Any) -> Any:
    """What XML-RPC can write: numbers of 32 bits, keys of text."""
    if isinstance(value, dict):
        return {str(key): _small(item) for key, item in value.items()}
    if isinstance(value, list):
        return [_small(item) for item in value]
    if isinstance(value, int) and not isinstance(value, bool) and abs(value) >= 2**31:
        return LONG_NUMBER
    return value


def test_supervisor__right_answer__is_read(manager: tuple[UnixServer, Supervisor]) -> None:
    server, supervisor = manager
    server.says(xml([PROGRAM]))
    assert supervisor.programs()["engine-chat-v1"] == ProgramInfo(
        "engine-chat-v1", "RUNNING", 77, 0, 1_795_252_000.0, "", "pid 77, uptime 0:01:00"
    )


@pytest.mark.parametrize("call", CALLS)
@few
@given(data=st.data())
def test_supervisor__odd_answer__a_value_or_our_error(
    manager: tuple[UnixServer, Supervisor], call: str, data: st.DataObject
) -> None:
    server, supervisor = manager
    right, read = CALLS[call]
    whole = odd_values([right]).map(lambda values: xml(values[0] if values else None))
    bodies = st.one_of(odd_values(right).map(xml), odd_bodies({"a": 1}), whole)
    server.says(data.draw(bodies))
    outcome(lambda: read(supervisor))


def test_engine_log__with_what_no_database_takes__is_storable(tmp_path: Path) -> None:
    folder = EngineFolder(tmp_path)
    folder.prepare()
    folder.file("chat-v1", "log").write_bytes(b"loading\x00\n\xff\xfe ready\n")
    assert folder.log_lines("chat-v1", 5) == ("loading\ufffd", "\ufffd\ufffd ready")
