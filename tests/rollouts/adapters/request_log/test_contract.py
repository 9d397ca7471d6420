"""What every RequestLog promises: in memory, over Envoy's access log, and over what a gateway sends."""

from __future__ import annotations

from tests.rollouts.adapters.data_plane import BASELINE, CANDIDATE, Plane, Seen, route
from tests.rollouts.adapters.request_log.conftest import Logged
from tests.standins.running import wait_until


def is_logged(plane: Logged, seen: Seen) -> bool:
    return seen.request_id in plane.request_log.find([seen.request_id])


def test_find__answered_requests__say_who_was_drawn_and_who_answered(logged: Logged, endpoint: str) -> None:
    logged.router.apply(route(logged, endpoint, 5000), token=1)
    seen = logged.send(endpoint, 20)
    ids = [s.request_id for s in seen]
    wait_until("they are logged", lambda: len(logged.request_log.find(ids)) == 20)
    found = logged.request_log.find(ids)
    for s in seen:
        entry = found[s.request_id]
        assert (entry.endpoint, entry.assigned, entry.answered) == (endpoint, s.assigned, s.answered)
        assert (entry.status, entry.request_id) == (200, s.request_id)


def test_find__answered_by_the_fallback__names_both(plane: Plane, endpoint: str) -> None:
    """Where a router has one; a gateway has none."""
    plane.router.apply(route(plane, endpoint, 10_000), token=1)
    plane.kill(CANDIDATE)
    (seen,) = plane.send(endpoint, 1)
    wait_until("it is logged", lambda: is_logged(plane, seen))
    entry = plane.request_log.find([seen.request_id])[seen.request_id]
    assert (entry.assigned, entry.answered) == (CANDIDATE, BASELINE)


def test_find__forced_request__was_assigned_to_nobody(logged: Logged, endpoint: str) -> None:
    logged.router.apply(route(logged, endpoint, 0), token=1)
    (seen,) = logged.send(endpoint, 1, forced=CANDIDATE)
    wait_until("it is logged", lambda: is_logged(logged, seen))
    entry = logged.request_log.find([seen.request_id])[seen.request_id]
    assert (entry.assigned, entry.answered) == ("", CANDIDATE)


def test_find__nobody_answered_or_unknown__is_left_out(logged: Logged, endpoint: str) -> None:
    logged.router.apply(route(logged, endpoint, 0), token=1)
    (good,) = logged.send(endpoint, 1)
    logged.kill(BASELINE)
    (bad,) = logged.send(endpoint, 1)
    logged.reset()
    (later,) = logged.send(endpoint, 1)
    wait_until("both good ones are logged", lambda: is_logged(logged, good) and is_logged(logged, later))
    assert set(logged.request_log.find([good.request_id, bad.request_id, "unknown"])) == {good.request_id}


def test_find__refused_by_the_engine__is_logged_with_its_status(logged: Logged, endpoint: str) -> None:
    logged.router.apply(route(logged, endpoint, 0), token=1)
    logged.change(BASELINE, refused=422)
    (seen,) = logged.send(endpoint, 1)
    wait_until("it is logged", lambda: is_logged(logged, seen))
    assert logged.request_log.find([seen.request_id])[seen.request_id].status == 422


def test_find__streamed_answer__is_logged_like_any_other(logged: Logged, endpoint: str) -> None:
    logged.router.apply(route(logged, endpoint, 10_000), token=1)
    (seen,) = logged.send(endpoint, 1, stream=True)
    wait_until("it is logged", lambda: is_logged(logged, seen))
    entry = logged.request_log.find([seen.request_id])[seen.request_id]
    assert (entry.assigned, entry.answered, entry.status) == (CANDIDATE, CANDIDATE, 200)
