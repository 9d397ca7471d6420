"""What every RequestLog promises, in memory and over Envoy's access log."""

from __future__ import annotations

from tests.rollouts.adapters.data_plane import BASELINE, CANDIDATE, Plane, Seen, route
from tests.standins.running import wait_until


def logged(plane: Plane, seen: Seen) -> bool:
    return seen.request_id in plane.request_log.find([seen.request_id])


def test_find__answered_requests__say_who_was_drawn_and_who_answered(plane: Plane, endpoint: str) -> None:
    plane.router.apply(route(plane, endpoint, 5000), token=1)
    seen = plane.send(endpoint, 20)
    ids = [s.request_id for s in seen]
    wait_until("they are logged", lambda: len(plane.request_log.find(ids)) == 20)
    found = plane.request_log.find(ids)
    for s in seen:
        entry = found[s.request_id]
        assert (entry.endpoint, entry.assigned, entry.answered) == (endpoint, s.assigned, s.answered)
        assert (entry.status, entry.request_id) == (200, s.request_id)


def test_find__answered_by_the_fallback__names_both(plane: Plane, endpoint: str) -> None:
    plane.router.apply(route(plane, endpoint, 10_000), token=1)
    plane.kill(CANDIDATE)
    (seen,) = plane.send(endpoint, 1)
    wait_until("it is logged", lambda: logged(plane, seen))
    entry = plane.request_log.find([seen.request_id])[seen.request_id]
    assert (entry.assigned, entry.answered) == (CANDIDATE, BASELINE)


def test_find__forced_request__was_assigned_to_nobody(plane: Plane, endpoint: str) -> None:
    plane.router.apply(route(plane, endpoint, 0), token=1)
    (seen,) = plane.send(endpoint, 1, forced=CANDIDATE)
    wait_until("it is logged", lambda: logged(plane, seen))
    entry = plane.request_log.find([seen.request_id])[seen.request_id]
    assert (entry.assigned, entry.answered) == ("", CANDIDATE)


def test_find__nobody_answered_or_unknown__is_left_out(plane: Plane, endpoint: str) -> None:
    plane.router.apply(route(plane, endpoint, 0), token=1)
    (good,) = plane.send(endpoint, 1)
    plane.kill(BASELINE)
    (bad,) = plane.send(endpoint, 1)
    plane.reset()
    (later,) = plane.send(endpoint, 1)
    wait_until("both good ones are logged", lambda: logged(plane, good) and logged(plane, later))
    assert set(plane.request_log.find([good.request_id, bad.request_id, "unknown"])) == {good.request_id}


def test_find__refused_by_the_engine__is_logged_with_its_status(plane: Plane, endpoint: str) -> None:
    plane.router.apply(route(plane, endpoint, 0), token=1)
    plane.change(BASELINE, refused=422)
    (seen,) = plane.send(endpoint, 1)
    wait_until("it is logged", lambda: logged(plane, seen))
    assert plane.request_log.find([seen.request_id])[seen.request_id].status == 422
