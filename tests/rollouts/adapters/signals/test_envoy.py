"""Ways to end that only the real Envoy knows: HTTP/2, uploads, time-outs, what clients do to a connection."""

from __future__ import annotations

import socket
import struct
import time
from collections.abc import Iterator
from dataclasses import replace
from itertools import pairwise
from threading import Thread

import pytest

from tests.rollouts.adapters.data_plane import BASELINE, CANDIDATE, EnvoyPlane, arms, route
from tests.rollouts.adapters.signals.test_contract import classes, classes_when, times_when
from tests.standins.http2 import Http2Request

pytestmark = pytest.mark.needs("envoy")


@pytest.fixture
def served(envoy: EnvoyPlane, endpoint: str) -> Iterator[str]:
    """An endpoint whose baseline has all traffic; a silence of a second ends a request."""
    envoy.router.settings = replace(envoy.router.settings, idle_timeout_seconds=1.0)
    envoy.router.apply(route(envoy, endpoint, 0), token=1)
    yield endpoint
    envoy.accept()


def http2(envoy: EnvoyPlane, endpoint: str, *, stream: bool = True, forced: str = "") -> Http2Request:
    headers = {"x-headgate-variant": forced} if forced else {}
    return Http2Request(envoy.port, envoy.path(endpoint), envoy.body(stream=stream), headers)


@pytest.mark.parametrize("stream", [True, False])
def test_read__http2__answered(envoy: EnvoyPlane, served: str, stream: bool) -> None:
    with http2(envoy, served, stream=stream) as request:
        request.wait()
        assert request.ended == "whole"
    assert classes_when(envoy, served, BASELINE, ended=1) == {"answered": 1}
    times_when(envoy, served, BASELINE, ttft=1, duration=1)


@pytest.mark.parametrize("stream", [True, False])
@pytest.mark.parametrize("how", ["stream reset", "connection closed"])
def test_read__http2_client_leaves_before_the_first_token__before(
    envoy: EnvoyPlane, served: str, stream: bool, how: str
) -> None:
    envoy.change(BASELINE, hangs=True)
    with http2(envoy, served, stream=stream) as request:
        request.wait(seconds=0.3)
        if how == "stream reset":
            request.cancel()
            classes_when(envoy, served, BASELINE, ended=1)
    assert classes_when(envoy, served, BASELINE, ended=1) == {"before": 1}
    times_when(envoy, served, BASELINE, left_ttft=1, left_duration=1)


@pytest.mark.parametrize("how", ["stream reset", "connection closed"])
def test_read__http2_client_leaves_in_the_middle__midway(envoy: EnvoyPlane, served: str, how: str) -> None:
    envoy.change(BASELINE, rest=20)
    with http2(envoy, served) as request:
        request.wait(body=1)
        assert request.body
        if how == "stream reset":
            request.cancel()
            classes_when(envoy, served, BASELINE, ended=1)
    assert classes_when(envoy, served, BASELINE, ended=1) == {"midway": 1}
    times_when(envoy, served, BASELINE, ttft=1, left_duration=1)


def test_read__client_closes_at_done__answered_and_timed(envoy: EnvoyPlane, served: str) -> None:
    """OpenAI's synchronous client does, and on a busy machine the end of the body comes later."""
    envoy.engines[BASELINE].control(linger_ms=400)
    with envoy.begin(served) as connection:
        read_until(connection, b"ONE]")  # the stand-in says [DONE] in two pieces
    assert classes_when(envoy, served, BASELINE, ended=1) == {"answered": 1}
    times_when(envoy, served, BASELINE, ttft=1, duration=1)


def test_read__client_closes_at_an_answer_that_speaks_of_done__midway(envoy: EnvoyPlane, served: str) -> None:
    envoy.engines[BASELINE].control(answers={"*": "data:[DONE] data:[DONE]"}, token_ms=400)
    with envoy.begin(served) as connection:
        read_until(connection, b"[DONE]")
    assert classes_when(envoy, served, BASELINE, ended=1) == {"midway": 1}
    times_when(envoy, served, BASELINE, ttft=1, left_duration=1)


def read_until(connection: socket.socket, text: bytes) -> None:
    """Raises AssertionError when the other side closes before it said so."""
    said = b""
    while text not in said:
        came = connection.recv(65_536)
        assert came, said
        said += came


def test_read__http2_forced__is_in_no_arm(envoy: EnvoyPlane, served: str) -> None:
    with http2(envoy, served, forced=CANDIDATE) as request:
        request.wait()
        assert request.ended == "whole"
    envoy.send(served, 1)
    assert classes_when(envoy, served, BASELINE, ended=1) == {"answered": 1}
    assert arms(envoy, served)[CANDIDATE].arrived == 0


def test_read__whole_answer_expected_and_client_leaves__before(envoy: EnvoyPlane, served: str) -> None:
    envoy.change(BASELINE, seconds=0.8)
    with envoy.begin(served, stream=False):
        time.sleep(0.2)
    assert classes_when(envoy, served, BASELINE, ended=1) == {"before": 1}


def test_read__client_leaves_during_its_upload__before(envoy: EnvoyPlane, served: str) -> None:
    with envoy.begin(served, upload=10):
        time.sleep(0.2)
    assert classes_when(envoy, served, BASELINE, ended=1) == {"before": 1}


def test_read__client_resets_the_connection_in_the_middle__midway(envoy: EnvoyPlane, served: str) -> None:
    envoy.change(BASELINE, rest=20)
    with envoy.begin(served) as connection:
        connection.recv(1)
        time.sleep(0.3)
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    assert classes_when(envoy, served, BASELINE, ended=1) == {"midway": 1}


def test_read__client_stalls_in_its_upload__is_no_fault_of_the_arm(envoy: EnvoyPlane, served: str) -> None:
    with envoy.begin(served, upload=10) as connection:
        assert b" 408 " in connection.recv(4096)
    assert classes_when(envoy, served, BASELINE, ended=1) == {"gateway": 1}
    assert arms(envoy, served)[BASELINE].errors == 0


def test_read__client_sends_what_is_no_http__is_no_fault_of_the_arm(envoy: EnvoyPlane, served: str) -> None:
    head = f"POST {envoy.path(served)} HTTP/1.1\r\nhost: headgate\r\ntransfer-encoding: chunked\r\n\r\n"
    with socket.create_connection(("127.0.0.1", envoy.port)) as connection:
        connection.sendall(head.encode() + b"no length\r\n")
        assert b" 400 " in connection.recv(4096)
    assert classes_when(envoy, served, BASELINE, ended=1) == {"gateway": 1}


@pytest.mark.parametrize("stream", [True, False])
def test_read__no_first_token_within_the_idle_timeout__failed(
    envoy: EnvoyPlane, served: str, stream: bool
) -> None:
    envoy.change(BASELINE, hangs=True)
    with envoy.begin(served, stream=stream) as connection:
        while connection.recv(4096):
            if not stream:
                break
    assert classes_when(envoy, served, BASELINE, ended=1) == {"failed": 1}


def test_read__stream_that_falls_silent__failed(envoy: EnvoyPlane, served: str) -> None:
    envoy.change(BASELINE, rest=40)
    with envoy.begin(served) as connection:
        while connection.recv(4096):
            pass
    assert classes_when(envoy, served, BASELINE, ended=1) == {"failed": 1}


def test_read__connection_to_the_engine_cut_in_the_middle__failed(envoy: EnvoyPlane, served: str) -> None:
    envoy.engines[BASELINE].control(cut_rate=1.0)
    envoy.send(served, 2, stream=True)
    assert classes_when(envoy, served, BASELINE, ended=2) == {"failed": 2}
    assert arms(envoy, served)[BASELINE].statuses == {"2xx": 2}


def test_read__during_traffic__always_adds_up(envoy: EnvoyPlane, served: str) -> None:
    """Whatever is in flight while the counters are read: no class goes down, and nobody runs who has not arrived."""
    envoy.engines[BASELINE].control(refuse_rate=0.3, error_rate=0.2)
    sent = Thread(target=envoy.send, args=(served, 400))
    sent.start()
    seen = [arms(envoy, served)[BASELINE]]
    while sent.is_alive():
        seen.append(arms(envoy, served)[BASELINE])
    sent.join()
    assert sum(classes_when(envoy, served, BASELINE, ended=400).values()) == 400
    for before, after in pairwise(seen):
        assert after.running >= 0
        assert after.arrived == after.ended + after.aborted + after.running >= before.arrived
        assert all(
            classes(after).get(name, 0) >= n for name, n in classes(before).items() if name != "running"
        )


def test_read__many_ways_to_end__never_make_a_counter_of_what_clients_or_engines_say(
    envoy: EnvoyPlane, served: str
) -> None:
    """The number of Envoy's statistics does not grow with requests: memory and the loop's time depend on it."""

    def names() -> set[str]:
        text = envoy.stats._admin.text("/stats", filter=rf"^llm\..*{served}/", format="prometheus")
        return {line.split("} ")[0] for line in text.splitlines() if not line.startswith("#")}

    def round_of_everything() -> None:
        envoy.change(BASELINE)
        envoy.send(served, 2, stream=True)
        envoy.change(BASELINE, refused=422)
        envoy.send(served, 2)
        envoy.change(BASELINE, broken=1.0)
        envoy.send(served, 2, stream=True)
        envoy.change(BASELINE, rest=20)
        envoy.leave(served, 2, after=0.2)

    round_of_everything()
    classes_when(envoy, served, BASELINE, ended=8)
    times_when(envoy, served, BASELINE, ttft=4, duration=2, left_duration=2)
    known = names()
    round_of_everything()
    classes_when(envoy, served, BASELINE, ended=16)
    times_when(envoy, served, BASELINE, ttft=8, duration=4, left_duration=4)
    assert names() == known
