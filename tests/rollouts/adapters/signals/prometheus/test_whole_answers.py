"""Who left and who had the whole answer: counters of the real Envoy, configured as Envoy Gateway does it, with and
without the script of deploy/kubernetes/whole-answers.yaml, and the real client of OpenAI."""

from __future__ import annotations

import json
import socket
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import count

import openai
import pytest

from rollouts.adapters.routers.gateway_api.objects import GatewayParent, GatewayPlace, document_of
from rollouts.adapters.signals.exposition import samples
from rollouts.adapters.signals.prometheus.counting import arm_of
from rollouts.adapters.signals.prometheus.templates import ENVOY_GATEWAY
from rollouts.domain.record.readings import ArmReading
from rollouts.ports import Backend, Route
from tests.rollouts.adapters.data_plane import PROMPT
from tests.standins.gateway import RunningGateway, objects, script_of
from tests.standins.running import RunningEngine, free_port, wait_until

pytestmark = pytest.mark.needs("envoy")

PLACE = GatewayPlace("models", (GatewayParent("edge"),), "models.test", "lab")
WELL = {"linger_ms": 0, "latency_ms": 0, "token_ms": 0, "tokens": 0, "cut_rate": 0, "answers": {}}
TIMES = 3
_numbers = count(1)


@dataclass
class Room:
    """A gateway in front of one engine. Each test has an endpoint and a cluster of its own, so that it counts alone."""

    gateway: RunningGateway
    engine: RunningEngine
    scripted: bool
    variant: str = ""

    def serve(self, **behaviour: object) -> None:
        self.engine.control(**{**WELL, **behaviour})
        self.variant = f"v{next(_numbers)}"
        backend = Backend(self.variant, "service", name=self.variant)
        route = Route(self.variant, {self.variant: 10_000}, (backend,), self.variant)
        document = document_of(route, PLACE, token=1, since=0.0)
        self.gateway.serve(document, {self.variant: self.engine.port}, scripted=self.scripted)

    def arm(self) -> ArmReading:
        """Once all of the requests have ended."""

        def look() -> ArmReading | None:
            found = arm_of(samples(self.gateway.counters(self.variant)), ENVOY_GATEWAY)
            return found if found.arrived == TIMES and not found.running else None

        found = wait_until("all are counted", look)
        assert found is not None
        return found

    def ask_as_openai(self) -> list[str]:
        """The answers that OpenAI's client reads; it closes its connection as soon as it read [DONE]."""
        found = []
        for _ in range(TIMES):
            with openai.OpenAI(
                base_url=f"{self.gateway.url}/v1",
                api_key="none",
                default_headers={"Host": PLACE.host(self.variant)},
                max_retries=0,
            ) as client:
                stream = client.chat.completions.create(
                    model="any", messages=[{"role": "user", "content": "hi"}], stream=True
                )
                found.append("".join(piece.choices[0].delta.content or "" for piece in stream))
        return found

    def read_until(self, mark: bytes, *, stream: bool = True) -> list[bytes]:
        """What clients read who close their connection as soon as they read `mark`, or when it is closed."""
        return [self._read_until(mark, stream) for _ in range(TIMES)]

    def _read_until(self, mark: bytes, stream: bool) -> bytes:
        body = json.dumps({"messages": PROMPT, "stream": stream}).encode()
        head = f"POST /v1/chat/completions HTTP/1.1\r\nhost: {PLACE.host(self.variant)}\r\ncontent-length: {len(body)}"
        said = b""
        with socket.create_connection(("127.0.0.1", int(self.gateway.url.rpartition(":")[2]))) as connection:
            connection.settimeout(30)
            connection.sendall(f"{head}\r\ncontent-type: application/json\r\n\r\n".encode() + body)
            while mark not in said:
                came = connection.recv(65_536)
                if not came:
                    break
                said += came
        return said

    def leave_at_once(self) -> None:
        """Users who leave half a second after they asked, without a word of an answer."""
        for _ in range(TIMES):
            with (
                pytest.raises(openai.APITimeoutError),
                openai.OpenAI(
                    base_url=f"{self.gateway.url}/v1",
                    api_key="none",
                    default_headers={"Host": PLACE.host(self.variant)},
                    max_retries=0,
                    timeout=0.5,
                ) as client,
            ):
                client.chat.completions.create(model="any", messages=[{"role": "user", "content": "hi"}])


@pytest.fixture(scope="module")
def engine() -> Iterator[RunningEngine]:
    engine = RunningEngine("engine")
    try:
        engine.start()
        yield engine
    finally:
        engine.kill()


@pytest.fixture(scope="module")
def gateway() -> Iterator[RunningGateway]:
    both = objects(ROUTES="models", TOKEN="none")
    gateway = RunningGateway(free_port(), free_port(), both, script=script_of())
    try:
        gateway.start()
        yield gateway
    finally:
        gateway.close()


@pytest.fixture
def plain(gateway: RunningGateway, engine: RunningEngine) -> Room:
    """Without the script."""
    return Room(gateway, engine, scripted=False)


@pytest.fixture
def held(gateway: RunningGateway, engine: RunningEngine) -> Room:
    """With the script."""
    return Room(gateway, engine, scripted=True)


def outcome(arm: ArmReading) -> tuple[int, int, int, int]:
    """(answered, failed, left, not held)"""
    return arm.answered, arm.failed, arm.aborted, arm.unheld


def test_openai_client__end_comes_later_and_nothing_holds_it__looks_like_leaving_and_is_told_so(
    plain: Room,
) -> None:
    plain.serve(linger_ms=1_500)  # long, so that a slow machine does not come late
    assert len(set(plain.ask_as_openai())) == 1
    assert outcome(plain.arm()) == (0, 0, TIMES, TIMES)


def test_client__reads_to_the_end_and_nothing_holds_it__is_an_answer_that_was_not_held(plain: Room) -> None:
    plain.serve(linger_ms=20)
    plain.read_until(b"\r\n0\r\n\r\n")
    assert outcome(plain.arm()) == (TIMES, 0, 0, TIMES)


@pytest.mark.parametrize("linger_ms", [0, 2, 100])
def test_openai_client__done_is_held__is_answered(held: Room, linger_ms: int) -> None:
    held.serve(linger_ms=linger_ms, answers={"*": "all of it"})
    assert held.ask_as_openai() == ["all of it"] * TIMES
    assert outcome(held.arm()) == (TIMES, 0, 0, 0)


@pytest.mark.parametrize("linger_ms", [0, 20])
def test_stream__done_is_held__comes_whole_and_once(held: Room, linger_ms: int) -> None:
    held.serve(linger_ms=linger_ms)
    for said in held.read_until(b"\r\n0\r\n\r\n"):
        body = said.partition(b"\r\n\r\n")[2]
        pieces = b"".join(body.split(b"\r\n")[1::2])
        assert pieces.endswith(b"}\n\ndata: [DONE]\n\n")
        assert pieces.count(b"[DONE]") == 1


def test_answer__speaks_of_done__is_passed_on_as_it_comes(held: Room) -> None:
    held.serve(answers={"*": "data: [DONE] and more"}, token_ms=1_000)
    held.read_until(b"[DONE]")
    assert outcome(held.arm()) == (0, 0, TIMES, 0)


def test_client__leaves_midway__is_counted_as_leaving(held: Room) -> None:
    held.serve(answers={"*": "one two three"}, token_ms=1_000)
    held.read_until(b"one")
    assert outcome(held.arm()) == (0, 0, TIMES, 0)


def test_client__leaves_before_the_first_token__is_counted_as_leaving(held: Room) -> None:
    held.serve(latency_ms=2_000)
    held.read_until(b"\r\n\r\n")  # vLLM sends the headers before it
    assert outcome(held.arm()) == (0, 0, TIMES, 0)


def test_client__leaves_before_the_headers__is_counted_as_leaving(held: Room) -> None:
    held.serve(latency_ms=3_000)
    held.leave_at_once()
    assert outcome(held.arm()) == (0, 0, TIMES, 0)


def test_answer__in_one_piece__is_passed_on_and_counted(held: Room) -> None:
    held.serve(answers={"*": "all of it"})
    for said in held.read_until(b'"usage"', stream=False):
        assert b"all of it" in said
    assert outcome(held.arm()) == (TIMES, 0, 0, 0)


def test_stream__breaks__failed_and_nobody_left(held: Room) -> None:
    held.serve(cut_rate=1, tokens=5)
    assert all(b"[DONE]" not in said for said in held.read_until(b"[DONE]"))
    assert outcome(held.arm()) == (0, TIMES, 0, 0)
