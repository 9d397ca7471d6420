"""What only the real Envoy can show: nothing is lost while weights change, engines die or files are bad."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import httpx
import pytest

from controlplane.kernel.errors import InvalidInput, Rejected, Unavailable
from rollouts.adapters.backends import address_of, at_address
from rollouts.adapters.routers.envoy import EnvoyRouter
from rollouts.domain.record.readings import ArmReading
from rollouts.ports import Backend, EngineApi, Route
from tests.rollouts.adapters.data_plane import BASELINE, CANDIDATE, ENVOY, EnvoyPlane, Seen, arms, route
from tests.standins.echo import echoing
from tests.standins.running import wait_until

pytestmark = pytest.mark.needs("envoy")


def by_name(backend: Backend) -> Backend:
    """The same address with this machine's name."""
    return at_address(backend.variant, "localhost", address_of(backend)[1])


class Users:
    """Users who ask one after the other until told to stop."""

    def __init__(self, plane: EnvoyPlane, endpoint: str, *, number: int, stream: bool) -> None:
        self.seen: list[Seen] = []
        self.failed: list[str] = []
        self._stop = threading.Event()
        self._threads = [
            threading.Thread(target=self._ask, args=(plane, endpoint, stream)) for _ in range(number)
        ]

    def _ask(self, plane: EnvoyPlane, endpoint: str, stream: bool) -> None:
        with httpx.Client(timeout=60) as client:
            while not self._stop.is_set():
                try:
                    self.seen.append(plane.ask(client, endpoint, stream=stream))
                except httpx.HTTPError as error:
                    self.failed.append(repr(error))

    def __enter__(self) -> Users:
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        for thread in self._threads:
            thread.join()

    def wait_for(self, more: int) -> None:
        target = len(self.seen) + more
        wait_until(f"{more} more requests ended", lambda: len(self.seen) >= target, 60)

    @property
    def bad(self) -> list[object]:
        return [*self.failed, *(s for s in self.seen if s.status != 200 or not s.whole)]


def slow_streams(plane: EnvoyPlane) -> None:
    """Streams of about a second, so that many are in flight at any moment."""
    for engine in plane.engines.values():
        engine.control(tokens=20, token_ms=50)


def kill_while_all_wait(plane: EnvoyPlane, endpoint: str, variant: str, *, number: int) -> None:
    """kill -9 while that many requests wait for the variant's engine, and it has begun to answer none. One that dies
    between an answer's head and its body cuts that answer off, and no proxy can mend that."""
    wait_until("all of them wait", lambda: arms(plane, endpoint)[variant].running == number)
    plane.kill(variant)


def during_a_stream(plane: EnvoyPlane, endpoint: str, change: Callable[[], object]) -> Seen:
    """One stream, with a change made after it began."""
    with Users(plane, endpoint, number=1, stream=True) as users:
        wait_until("it began", lambda: any(a.arrived for a in arms(plane, endpoint).values()))
        change()
    assert not users.failed
    return users.seen[0]


def test_apply__weights_change_under_load__no_request_lost_and_no_stream_cut(
    envoy: EnvoyPlane, endpoint: str
) -> None:
    envoy.router.apply(route(envoy, endpoint, 0), token=1)
    slow_streams(envoy)
    with (
        Users(envoy, endpoint, number=6, stream=True) as streams,
        Users(envoy, endpoint, number=2, stream=False) as others,
    ):
        for share in (500, 2500, 5000, 10_000, 5000, 0):
            envoy.router.apply(route(envoy, endpoint, share), token=1)
            streams.wait_for(6)
    assert streams.bad == []
    assert others.bad == []
    drawn = {s.assigned for s in streams.seen}
    assert drawn == {BASELINE, CANDIDATE}
    assert all(s.assigned == s.answered for s in streams.seen + others.seen)


def test_apply__candidate_taken_away__its_stream_in_flight_ends_whole(
    envoy: EnvoyPlane, endpoint: str
) -> None:
    envoy.router.apply(route(envoy, endpoint, 10_000), token=1)
    slow_streams(envoy)
    alone = Route(endpoint, {BASELINE: 10_000}, (envoy.backend(BASELINE),), BASELINE)
    seen = during_a_stream(envoy, endpoint, lambda: envoy.router.apply(alone, token=1))
    assert (seen.answered, seen.whole) == (CANDIDATE, True)


def test_apply__another_fallback__a_stream_in_flight_ends_whole(envoy: EnvoyPlane, endpoint: str) -> None:
    envoy.router.apply(route(envoy, endpoint, 10_000), token=1)
    slow_streams(envoy)
    promoted = route(envoy, endpoint, 10_000, fallback=CANDIDATE)
    seen = during_a_stream(envoy, endpoint, lambda: envoy.router.apply(promoted, token=1))
    assert (seen.answered, seen.whole) == (CANDIDATE, True)


def test_apply__another_fallback_under_load__no_request_lost(envoy: EnvoyPlane, endpoint: str) -> None:
    """A promotion: the candidate's cluster has a new member then, which must be there before it is named."""
    envoy.router.apply(route(envoy, endpoint, 10_000), token=1)
    with Users(envoy, endpoint, number=8, stream=False) as users:
        for fallback in (CANDIDATE, BASELINE) * 10:
            envoy.router.apply(route(envoy, endpoint, 10_000, fallback=fallback), token=1)
            users.wait_for(8)
    assert users.bad == []


def test_apply__backend_has_another_address_under_load__no_request_lost(
    envoy: EnvoyPlane, endpoint: str
) -> None:
    """As when an engine is launched anew elsewhere; a name has to be resolved first."""
    here = route(envoy, endpoint, 5000)
    named = replace(here, backends=tuple(by_name(backend) for backend in here.backends))
    envoy.router.apply(here, token=1)
    with Users(envoy, endpoint, number=8, stream=False) as users:
        for moved in (named, here) * 8:
            envoy.router.apply(moved, token=1)
            users.wait_for(8)
    assert users.bad == []


def test_traffic__engine_killed_under_load__no_whole_request_fails(envoy: EnvoyPlane, endpoint: str) -> None:
    envoy.router.apply(route(envoy, endpoint, 5000), token=1)
    envoy.change(BASELINE, seconds=0.1)
    envoy.change(CANDIDATE, seconds=60)
    with Users(envoy, endpoint, number=12, stream=False) as users:
        kill_while_all_wait(envoy, endpoint, CANDIDATE, number=12)
        users.wait_for(60)
    assert users.bad == []
    assert any(s.assigned != s.answered for s in users.seen)


@pytest.mark.parametrize("number", [1, 12])
def test_traffic__baseline_killed_under_load__no_whole_request_fails(
    envoy: EnvoyPlane, endpoint: str, number: int
) -> None:
    envoy.router.apply(route(envoy, endpoint, 5000, rescuers=(CANDIDATE,)), token=1)
    envoy.change(BASELINE, seconds=60)
    envoy.change(CANDIDATE, seconds=0.1)
    with Users(envoy, endpoint, number=number, stream=False) as users:
        kill_while_all_wait(envoy, endpoint, BASELINE, number=number)
        users.wait_for(60)
    assert users.bad == []
    assert any((s.assigned, s.answered) == (BASELINE, CANDIDATE) for s in users.seen)


def test_apply__rescuers_change_under_load__no_request_lost_and_no_stream_cut(
    envoy: EnvoyPlane, endpoint: str
) -> None:
    envoy.router.apply(route(envoy, endpoint, 5000), token=1)
    slow_streams(envoy)
    with (
        Users(envoy, endpoint, number=6, stream=True) as streams,
        Users(envoy, endpoint, number=2, stream=False) as others,
    ):
        for rescuers in ((CANDIDATE,), (), (CANDIDATE,), ()):
            envoy.router.apply(route(envoy, endpoint, 5000, rescuers=rescuers), token=1)
            streams.wait_for(6)
    assert streams.bad == []
    assert others.bad == []
    assert all(s.assigned == s.answered for s in streams.seen + others.seen)


def test_traffic__baseline_answers_503_because_it_is_full__is_not_taken_for_dead(
    envoy: EnvoyPlane, endpoint: str
) -> None:
    with echoing(BASELINE) as full, echoing(CANDIDATE) as small:
        full.status = 503
        backends = (
            at_address(BASELINE, "127.0.0.1", full.port),
            at_address(CANDIDATE, "127.0.0.1", small.port),
        )
        shares = {BASELINE: 10_000, CANDIDATE: 0}
        envoy.router.apply(Route(endpoint, shares, backends, BASELINE, (CANDIDATE,)), token=1)
        url = f"{envoy.url}/{endpoint}/v1/chat/completions"
        seen = [httpx.post(url, json={}) for _ in range(20)]
        assert {(r.status_code, r.headers["x-headgate-variant"]) for r in seen} == {(503, BASELINE)}
        assert small.seen == []


def test_traffic__baseline_slow_to_answer_its_health_check__is_not_taken_for_dead(
    envoy: EnvoyPlane, endpoint: str
) -> None:
    with echoing(BASELINE) as busy, echoing(CANDIDATE) as small:
        backends = (
            at_address(BASELINE, "127.0.0.1", busy.port),
            at_address(CANDIDATE, "127.0.0.1", small.port),
        )
        shares = {BASELINE: 10_000, CANDIDATE: 0}
        envoy.router.apply(Route(endpoint, shares, backends, BASELINE, (CANDIDATE,)), token=1)
        busy.health_seconds = 4.0
        end = time.monotonic() + 10
        url = f"{envoy.url}/{endpoint}/v1/chat/completions"
        while time.monotonic() < end:
            assert httpx.post(url, json={}).headers["x-headgate-variant"] == BASELINE
            time.sleep(0.2)


def test_state__of_an_earlier_version__still_loads(envoy: EnvoyPlane, endpoint: str) -> None:
    """An updated worker reads what the one before it wrote."""
    envoy.router.apply(route(envoy, endpoint, 500, rescuers=(CANDIDATE,)), token=1)
    path = envoy.router.paths.state
    state = json.loads(path.read_text())
    for known in state["routes"].values():
        del known["rescuers"], known["api"]
    path.write_text(json.dumps(state))
    envoy.router.apply(route(envoy, endpoint, 600), token=1)
    seen = envoy.router.observe(endpoint)
    assert seen is not None
    assert seen.shares[CANDIDATE] == 600
    assert {s.status for s in envoy.send(endpoint, 3)} == {200}


def test_state__route_with_rescuers_and_calls__is_read_as_it_was_written(
    envoy: EnvoyPlane, endpoint: str
) -> None:
    own = EngineApi(("/generate",), ("/tokenize",))
    envoy.router.apply(replace(route(envoy, endpoint, 500, rescuers=(CANDIDATE,)), api=own), token=1)
    before = envoy.file_versions()
    envoy.stop_router()
    envoy.router.paths.routes.unlink()
    envoy.router.paths.clusters.unlink()
    envoy.router.write_bootstrap()
    assert envoy.file_versions() == before
    envoy.start_router()


def test_traffic__stream_cut_by_a_killed_engine__is_an_error_of_its_arm(
    envoy: EnvoyPlane, endpoint: str
) -> None:
    envoy.router.apply(route(envoy, endpoint, 10_000), token=1)
    envoy.engines[CANDIDATE].control(die_mid_stream=True)
    (seen,) = envoy.send(endpoint, 1, stream=True)
    assert (seen.status, seen.whole) == (200, False)
    wait_until("it is counted", lambda: arms(envoy, endpoint)[CANDIDATE].ended == 1)
    arm = arms(envoy, endpoint)[CANDIDATE]
    assert (arm.errors, arm.fallbacks, arm.aborted) == (1, 0, 0)


def test_traffic__still_running__has_arrived_and_not_ended(envoy: EnvoyPlane, endpoint: str) -> None:
    envoy.router.apply(route(envoy, endpoint, 0), token=1)
    slow_streams(envoy)
    with Users(envoy, endpoint, number=1, stream=True):
        # On a busy machine the first one may have ended by the time that somebody looks: then it is the next one.
        wait_until("one has arrived and not ended", lambda: one_runs(arms(envoy, endpoint)[BASELINE]))


def one_runs(arm: ArmReading) -> bool:
    return arm.arrived == arm.ended + 1


def test_traffic__clients_own_headers__choose_neither_id_nor_arm_nor_timeout(
    envoy: EnvoyPlane, endpoint: str
) -> None:
    envoy.router.apply(route(envoy, endpoint, 0), token=1)
    envoy.change(BASELINE, seconds=0.2)
    headers = {
        "x-request-id": "mine",
        "x-headgate-assigned": CANDIDATE,
        "x-envoy-upstream-rq-timeout-ms": "1",
    }
    body = {"messages": [{"role": "user", "content": "hello"}]}
    response = httpx.post(f"{envoy.url}/{endpoint}/v1/chat/completions", json=body, headers=headers)
    assert response.status_code == 200
    assert response.headers["x-request-id"] != "mine"
    assert response.headers["x-headgate-assigned"] == BASELINE


@pytest.mark.parametrize("path", ["/metrics", "/v1x", ""])
def test_traffic__paths_outside_the_api__are_not_served(envoy: EnvoyPlane, endpoint: str, path: str) -> None:
    envoy.router.apply(route(envoy, endpoint, 0), token=1)
    response = httpx.get(f"{envoy.url}/{endpoint}{path}")
    assert response.status_code == 404
    assert response.json()["error"]["code"] == "not_found"


def test_apply__running_envoy_refuses_what_validation_let_through__restores_the_files(
    envoy: EnvoyPlane, endpoint: str
) -> None:
    envoy.router.apply(route(envoy, endpoint, 500), token=1)
    before = envoy.file_versions()
    # a validator that lets everything through, so that the running Envoy meets the bad configuration
    careless = EnvoyRouter(envoy.run_dir, envoy.port, Path("/bin/true"), idle_timeout_seconds=1e12)
    with pytest.raises(Rejected, match=r"(?i)duration"):
        careless.apply(route(envoy, endpoint, 600), token=1)
    seen = envoy.router.observe(endpoint)
    assert seen is not None
    assert seen.shares[CANDIDATE] == 500
    assert "duration" in seen.rejected.lower()
    assert envoy.file_versions() == before
    envoy.stop_router()
    envoy.start_router()
    assert {s.status for s in envoy.send(endpoint, 3)} == {200}


def test_apply__two_publishers_at_once__both_routes_are_in_force(envoy: EnvoyPlane, endpoint: str) -> None:
    errors: list[Exception] = []

    def publish(name: str) -> None:
        router = EnvoyRouter(envoy.run_dir, envoy.port, ENVOY)
        try:
            for share in (100, 200, 300):
                router.apply(route(envoy, name, share), token=1)
        except Exception as error:
            errors.append(error)

    names = [endpoint + "a", endpoint + "b"]
    threads = [threading.Thread(target=publish, args=(name,)) for name in names]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert errors == []
    for name in names:
        seen = envoy.router.observe(name)
        assert seen is not None
        assert seen.shares[CANDIDATE] == 300


def test_apply__same_route_again__touches_no_file(envoy: EnvoyPlane, endpoint: str) -> None:
    envoy.router.apply(route(envoy, endpoint, 500), token=1)
    paths = (envoy.router.paths.routes, envoy.router.paths.clusters, envoy.router.paths.state)
    before = [path.stat().st_ino for path in paths]
    envoy.router.apply(route(envoy, endpoint, 500), token=1)
    assert [path.stat().st_ino for path in paths] == before


def test_apply__file_damaged_by_another_hand__is_mended_by_the_same_route(
    envoy: EnvoyPlane, endpoint: str
) -> None:
    envoy.router.apply(route(envoy, endpoint, 500), token=1)
    good = envoy.router.paths.routes.read_bytes()
    envoy.router.paths.routes.write_bytes(b"{}")
    envoy.router.apply(route(envoy, endpoint, 500), token=1)
    assert envoy.router.paths.routes.read_bytes() == good


def test_write_bootstrap__damaged_files__are_written_anew_from_the_known_routes(
    envoy: EnvoyPlane, endpoint: str
) -> None:
    envoy.router.apply(route(envoy, endpoint, 500), token=1)
    before = envoy.file_versions()
    envoy.stop_router()
    envoy.router.paths.routes.unlink()
    envoy.router.paths.clusters.write_bytes(b"nonsense")
    envoy.router.write_bootstrap()
    assert envoy.file_versions() == before
    envoy.start_router()
    assert {s.status for s in envoy.send(endpoint, 3)} == {200}


def test_apply__host_that_is_a_name__is_resolved(envoy: EnvoyPlane, endpoint: str) -> None:
    named = route(envoy, endpoint, 0)
    named = replace(named, backends=tuple(by_name(backend) for backend in named.backends))
    envoy.router.apply(named, token=1)
    assert {(s.status, s.answered) for s in envoy.send(endpoint, 3)} == {(200, BASELINE)}


def test_router__folder_that_does_not_exist__is_unavailable(envoy: EnvoyPlane) -> None:
    router = EnvoyRouter(envoy.run_dir / "nowhere", 1, ENVOY)
    with pytest.raises(Unavailable, match="Start the router"):
        router.apply(route(envoy, "chat", 0), token=1)


def test_router__path_too_long_for_a_socket__is_refused(tmp_path: Path) -> None:
    with pytest.raises(InvalidInput) as refused:
        EnvoyRouter(tmp_path / ("x" * 110), 1, ENVOY)
    assert refused.value.field == "run_dir"
