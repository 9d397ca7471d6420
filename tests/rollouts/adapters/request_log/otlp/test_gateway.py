"""What the real Envoy sends of each kind of request, configured as Envoy Gateway does it."""

from __future__ import annotations

import time

import httpx
import pytest

from controlplane.kernel.errors import Unavailable
from rollouts.adapters.request_log.otlp.redis_store import PREFIX
from rollouts.adapters.routers.gateway_api.objects import GatewayParent, GatewayPlace
from rollouts.ports import LoggedRequest
from tests.fixtures.redis_server import RunningRedis
from tests.rollouts.adapters.data_plane import BASELINE, CANDIDATE, PROMPT, Seen, route
from tests.rollouts.adapters.request_log.gateway_plane import PLACE, GatewayPlane
from tests.standins.running import wait_until

pytestmark = pytest.mark.needs("envoy", "redis")


def found(plane: GatewayPlane, seen: Seen) -> LoggedRequest:
    def entry() -> LoggedRequest | None:
        return plane.request_log.find([seen.request_id]).get(seen.request_id)

    return wait_until("it is logged", lambda: entry())  # type: ignore[return-value]


def is_never_logged(plane: GatewayPlane, endpoint: str, *ids: str) -> bool:
    """What came before a request that is logged, over the same connection, would be there by now."""
    found(plane, plane.ask(endpoint))
    return plane.request_log.find(ids) == {}


def test_request__with_an_id_of_the_users_own__gets_another_one(gateway: GatewayPlane, endpoint: str) -> None:
    gateway.router.apply(route(gateway, endpoint, 0), token=1)
    seen = gateway.ask(endpoint, headers={"x-request-id": "the-id-of-somebody-else"})
    assert seen.request_id != "the-id-of-somebody-else"
    assert found(gateway, seen).answered == BASELINE
    assert gateway.request_log.find(["the-id-of-somebody-else"]) == {}


def test_request__that_names_an_unknown_variant__is_drawn(gateway: GatewayPlane, endpoint: str) -> None:
    gateway.router.apply(route(gateway, endpoint, 0), token=1)
    seen = gateway.ask(endpoint, headers={"x-headgate-variant": "chat-v9-none"})
    assert (found(gateway, seen).assigned, found(gateway, seen).answered) == (BASELINE, BASELINE)


@pytest.mark.parametrize("value", [b"\xff\xfe", b"x" + "\u00e9".encode() * 400, b"a" * 20_000])
def test_request__with_a_header_that_is_no_text__costs_nobody_their_entry(
    gateway: GatewayPlane, endpoint: str, value: bytes
) -> None:
    """Envoy logs what came. It is cut after 300 bytes, which may be in the middle of a letter."""
    gateway.router.apply(route(gateway, endpoint, 0), token=1)
    before, odd, after = (
        gateway.ask(endpoint, headers={"x-headgate-variant": one}) for one in ("", value, "")
    )
    assert odd.status == 200
    for seen in (before, odd, after):
        assert found(gateway, seen).assigned == BASELINE


def test_request__when_it_arrived__is_by_the_gateways_clock(gateway: GatewayPlane, endpoint: str) -> None:
    gateway.router.apply(route(gateway, endpoint, 0), token=1)
    before = time.time()
    gateway.change(BASELINE, seconds=0.5)
    seen = gateway.ask(endpoint)
    assert before - 0.01 <= found(gateway, seen).at < time.time() - 0.4


def test_request__engine_fails__is_logged_with_its_status(gateway: GatewayPlane, endpoint: str) -> None:
    gateway.router.apply(route(gateway, endpoint, 0), token=1)
    gateway.change(BASELINE, errors=1)
    assert found(gateway, gateway.ask(endpoint)).status == 500


def test_request__nobody_behind_the_variant__is_not_logged(gateway: GatewayPlane, endpoint: str) -> None:
    """The gateway answers 503 itself, with the header that names the variant."""
    gateway.router.apply(route(gateway, endpoint, 0), token=1)
    gateway.kill(CANDIDATE)
    seen = gateway.ask(endpoint, forced=CANDIDATE)
    assert (seen.status, seen.answered) == (503, CANDIDATE)
    assert is_never_logged(gateway, endpoint, seen.request_id)


def test_request__user_leaves_before_any_answer__is_not_logged(
    gateway: GatewayPlane, endpoint: str, redis: RunningRedis
) -> None:
    gateway.router.apply(route(gateway, endpoint, 0), token=1)
    gateway.change(CANDIDATE, seconds=5)
    with pytest.raises(httpx.ReadTimeout):
        httpx.post(
            f"{gateway.gateway.url}/v1/chat/completions",
            json={"messages": PROMPT},
            headers={"host": PLACE.host(endpoint), "x-headgate-variant": CANDIDATE},
            timeout=httpx.Timeout(10, read=0.3),
        )
    found(gateway, gateway.ask(endpoint))
    kept = [name for key in redis.client.keys(f"{PREFIX}:paris:*") for name in redis.client.hkeys(key)]
    assert len(kept) == 1


def test_request__user_leaves_in_the_middle__is_logged(gateway: GatewayPlane, endpoint: str) -> None:
    gateway.router.apply(route(gateway, endpoint, 0), token=1)
    gateway.engines[BASELINE].control(token_ms=300, tokens=50)
    body = {"messages": PROMPT, "stream": True}
    where = f"{gateway.gateway.url}/v1/chat/completions"
    try:
        with httpx.stream(
            "POST", where, json=body, headers={"host": PLACE.host(endpoint)}, timeout=20
        ) as answer:
            next(answer.iter_raw())
            request_id = answer.headers["x-request-id"]
    finally:
        gateway.engines[BASELINE].control(token_ms=0, tokens=0)
    assert found(gateway, Seen(200, BASELINE, BASELINE, request_id, False)).answered == BASELINE


@pytest.mark.parametrize(
    ("method", "path"), [("GET", "/v1/models"), ("POST", "/tokenize"), ("GET", "/nowhere")]
)
def test_call__that_is_no_inference__is_not_logged(
    gateway: GatewayPlane, endpoint: str, method: str, path: str
) -> None:
    gateway.router.apply(route(gateway, endpoint, 0), token=1)
    headers = {"host": PLACE.host(endpoint), "x-headgate-variant": CANDIDATE}
    answer = httpx.request(method, f"{gateway.gateway.url}{path}", headers=headers)
    assert is_never_logged(gateway, endpoint, answer.headers["x-request-id"])


def test_route__of_another_namespace_on_the_same_gateway__is_not_even_sent(
    gateway: GatewayPlane, endpoint: str
) -> None:
    gateway.router.apply(route(gateway, endpoint, 0), token=1)
    others = GatewayPlace("others", (GatewayParent("edge"),), "others.test", "theirs")
    gateway.router.apply(route(gateway, f"{endpoint}x", 0), token=1, place=others)
    theirs = httpx.post(
        f"{gateway.gateway.url}/v1/chat/completions",
        json={"messages": PROMPT},
        headers={"host": others.host(f"{endpoint}x")},
    )
    assert theirs.headers["x-headgate-variant"] == BASELINE
    request_id = theirs.headers["x-request-id"]
    assert is_never_logged(gateway, endpoint, request_id)
    assert gateway.store.find("paris", [request_id]) == {}


def test_receiver__restarted__what_is_answered_afterwards_is_found(
    gateway: GatewayPlane, endpoint: str
) -> None:
    gateway.router.apply(route(gateway, endpoint, 0), token=1)
    first = gateway.ask(endpoint)
    found(gateway, first)
    assert gateway.stop_receiver() == 0
    assert gateway.ask(endpoint).status == 200  # users do not notice; what is said of it is lost
    gateway.start_receiver()
    wait_until(
        "the gateway has found it again",
        lambda: found_soon(gateway, gateway.ask(endpoint)),
    )
    assert gateway.request_log.find([first.request_id])


def found_soon(plane: GatewayPlane, seen: Seen) -> bool:
    end = time.monotonic() + 3
    while time.monotonic() < end:
        if seen.request_id in plane.request_log.find([seen.request_id]):
            return True
        time.sleep(0.05)
    return False


def test_redis__killed_for_a_while__what_was_answered_meanwhile_is_found_once_it_is_back(
    gateway: GatewayPlane, endpoint: str, redis_server: RunningRedis
) -> None:
    gateway.router.apply(route(gateway, endpoint, 0), token=1)
    redis_server.kill()
    seen = gateway.ask(endpoint)
    try:
        with pytest.raises(Unavailable):
            gateway.request_log.find([seen.request_id])
        time.sleep(1.5)  # the gateway's buffer goes out once a second
    finally:
        redis_server.start()
    wait_until("it is logged", lambda: is_there(gateway, seen), 40)


def is_there(plane: GatewayPlane, seen: Seen) -> bool:
    try:
        return seen.request_id in plane.request_log.find([seen.request_id])
    except Unavailable:
        return False
