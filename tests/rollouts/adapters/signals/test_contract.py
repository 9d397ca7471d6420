"""What every SignalSource promises, on the one in memory and on the real Envoy with stand-in engines."""

from __future__ import annotations

import pytest

from controlplane.kernel.errors import Unavailable
from rollouts.domain.record.readings import (
    ROUTER,
    ArmReading,
    CountedKind,
    Failures,
    HistogramReading,
    SignalReading,
    TargetReading,
)
from tests.rollouts.adapters.data_plane import BASELINE, CANDIDATE, Plane, arms, route
from tests.rollouts.adapters.readings import only_target, read_one
from tests.standins.running import wait_until


def read(plane: Plane, endpoint: str) -> SignalReading:
    return read_one(plane.signals, endpoint, [plane.backend(BASELINE), plane.backend(CANDIDATE)])


def target(plane: Plane, endpoint: str) -> TargetReading:
    return only_target(read(plane, endpoint))


def arm_when(plane: Plane, endpoint: str, variant: str, *, ended: int, aborted: int = 0) -> ArmReading:
    """The arm once that many requests have ended (the router counts a moment after the client knows)."""

    def counted() -> ArmReading | None:
        arm = arms(plane, endpoint)[variant]
        return arm if (arm.ended, arm.aborted) == (ended, aborted) else None

    found = wait_until(f"{ended} ended and {aborted} aborted requests of {variant}", counted)
    assert found is not None
    return found


def classes(arm: ArmReading) -> dict[str, int]:
    """How the arm's requests ended, without the classes that nobody is in."""
    found = {
        "answered": arm.answered,
        "failed": arm.failed,
        "fallback": arm.fallbacks,
        "running": arm.running,
    }
    return {name: n for name, n in {**found, **arm.refused, **arm.abandoned}.items() if n}


def classes_when(plane: Plane, endpoint: str, variant: str, *, ended: int) -> dict[str, int]:
    """The classes once so many requests of the arm have ended, by whatever."""

    def counted() -> ArmReading | None:
        arm = arms(plane, endpoint)[variant]
        return arm if arm.ended + arm.aborted == ended else None

    arm = wait_until(f"{ended} requests of {variant} have ended", counted)
    assert arm is not None
    return classes(arm)


def times_when(plane: Plane, endpoint: str, variant: str, **totals: int) -> ArmReading:
    """The arm once its histograms hold so many: ttft, duration, left_ttft, left_duration. The router adds them up once
    a second."""

    def of(arm: ArmReading) -> dict[str, int]:
        found = {name: histogram.total for name, histogram in arm.latency.items()}
        found |= {f"left_{name}": histogram.total for name, histogram in arm.left.items()}
        return {name: total for name, total in found.items() if total}

    def measured() -> ArmReading | None:
        arm = arms(plane, endpoint)[variant]
        return arm if of(arm) == totals else None

    arm = wait_until(f"{totals} of {variant} are measured", measured)
    assert arm is not None
    return arm


def below(histogram: HistogramReading, edge: float) -> int:
    return dict(zip(histogram.edges, histogram.at_or_below, strict=True))[edge]


def assert_none_of_them_measured(plane: Plane, endpoint: str, variant: str) -> None:
    """No latency of what was sent so far: when one good request is in the histograms, it is alone there."""
    plane.change(variant)
    assert plane.send(endpoint, 1)[0].answered == variant

    def totals() -> set[int]:
        return {h.total for h in arms(plane, endpoint)[variant].latency.values()} - {0}

    wait_until("the good request is measured", totals)
    assert totals() == {1}


def test_failures__are_those_of_all_arms_of_an_endpoint(plane: Plane, endpoint: str) -> None:
    plane.router.apply(route(plane, endpoint, 10_000), token=1)
    plane.send(endpoint, 5)
    arm_when(plane, endpoint, CANDIDATE, ended=5)
    assert plane.signals.failures()[endpoint] == {ROUTER: Failures(ended=5, failed=0)}
    plane.kill(CANDIDATE)
    plane.send(endpoint, 3)
    arm_when(plane, endpoint, CANDIDATE, ended=8)
    assert plane.signals.failures()[endpoint] == {ROUTER: Failures(ended=8, failed=3)}


def test_failures__router_down__is_unavailable(plane: Plane, endpoint: str) -> None:
    plane.stop_router()
    try:
        with pytest.raises(Unavailable):
            plane.signals.failures()
        with pytest.raises(Unavailable):
            plane.router.observe_all()
    finally:
        plane.start_router()


def test_queries__every_kind_that_a_gate_reads__has_one(plane: Plane, endpoint: str) -> None:
    plane.router.apply(route(plane, endpoint, 500), token=1)
    found = plane.signals.queries(endpoint, plane.backend(BASELINE))
    assert set(found) == set(CountedKind)
    assert all(found.values())


def test_read__no_requests_yet__every_backend_has_counted_zero(plane: Plane, endpoint: str) -> None:
    plane.router.apply(route(plane, endpoint, 500), token=1)
    found = arms(plane, endpoint)
    assert set(found) == {BASELINE, CANDIDATE}
    assert [(a.ended, a.errors, a.fallbacks, a.aborted, a.arrived) for a in found.values()] == [(0,) * 5] * 2


def test_read__requests__are_counted_by_the_arm_that_was_drawn(plane: Plane, endpoint: str) -> None:
    plane.router.apply(route(plane, endpoint, 5000), token=1)
    seen = plane.send(endpoint, 40)
    for variant in (BASELINE, CANDIDATE):
        drawn = sum(s.assigned == variant for s in seen)
        arm = arm_when(plane, endpoint, variant, ended=drawn)
        assert (arm.errors, arm.fallbacks, arm.arrived, arm.statuses) == (0, 0, drawn, {"2xx": drawn})


def test_read__dead_candidate__its_fallbacks_are_its_errors(plane: Plane, endpoint: str) -> None:
    plane.router.apply(route(plane, endpoint, 10_000), token=1)
    plane.kill(CANDIDATE)
    plane.send(endpoint, 10)
    arm = arm_when(plane, endpoint, CANDIDATE, ended=10)
    assert (arm.errors, arm.fallbacks, arm.statuses) == (10, 10, {"2xx": 10})
    assert arm_when(plane, endpoint, BASELINE, ended=0).errors == 0


def test_read__nobody_can_answer__the_drawn_arm_is_blamed(plane: Plane, endpoint: str) -> None:
    plane.router.apply(route(plane, endpoint, 10_000), token=1)
    plane.kill(CANDIDATE)
    plane.kill(BASELINE)
    plane.send(endpoint, 3)
    arm = arm_when(plane, endpoint, CANDIDATE, ended=3)
    assert (arm.errors, arm.fallbacks, arm.arrived, arm.statuses) == (3, 0, 3, {"5xx": 3})


def test_read__server_errors__are_errors(plane: Plane, endpoint: str) -> None:
    plane.router.apply(route(plane, endpoint, 10_000), token=1)
    plane.change(CANDIDATE, errors=1.0)
    assert {s.status for s in plane.send(endpoint, 5)} == {500}
    arm = arm_when(plane, endpoint, CANDIDATE, ended=5)
    assert (arm.errors, arm.fallbacks, arm.statuses) == (5, 0, {"5xx": 5})
    assert_none_of_them_measured(plane, endpoint, CANDIDATE)


def test_read__streams_that_break_with_status_200__are_errors(plane: Plane, endpoint: str) -> None:
    plane.router.apply(route(plane, endpoint, 10_000), token=1)
    plane.change(CANDIDATE, broken=1.0)
    seen = plane.send(endpoint, 5, stream=True)
    assert {(s.status, s.whole) for s in seen} == {(200, False)}
    arm = arm_when(plane, endpoint, CANDIDATE, ended=5)
    assert (arm.errors, arm.statuses) == (5, {"2xx": 5})
    assert_none_of_them_measured(plane, endpoint, CANDIDATE)


def test_read__client_aborts__are_no_errors_but_did_arrive(plane: Plane, endpoint: str) -> None:
    plane.router.apply(route(plane, endpoint, 0), token=1)
    plane.abort(endpoint, 3)
    arm = arm_when(plane, endpoint, BASELINE, ended=0, aborted=3)
    assert (arm.errors, arm.arrived) == (0, 3)


@pytest.mark.parametrize(("status", "kind"), [(400, "request"), (422, "request"), (429, "rate")])
def test_read__refused_by_the_engine__is_no_error_and_not_timed(
    plane: Plane, endpoint: str, status: int, kind: str
) -> None:
    plane.router.apply(route(plane, endpoint, 10_000), token=1)
    plane.change(CANDIDATE, refused=status)
    assert {s.status for s in plane.send(endpoint, 3)} == {status}
    arm = arm_when(plane, endpoint, CANDIDATE, ended=3)
    assert (arm.errors, arm.statuses, classes(arm)) == (0, {"4xx": 3}, {kind: 3})
    assert_none_of_them_measured(plane, endpoint, CANDIDATE)


def test_read__a_template_that_knows_no_system_messages__refuses_only_those(
    plane: Plane, endpoint: str
) -> None:
    plane.router.apply(route(plane, endpoint, 10_000), token=1)
    plane.change(CANDIDATE, refuses_system=True)
    plane.send(endpoint, 3, system=True)
    plane.send(endpoint, 2)
    assert classes_when(plane, endpoint, CANDIDATE, ended=5) == {"answered": 2, "request": 3}


def test_read__dead_candidate_and_a_fallback_that_refuses__is_a_fallback(plane: Plane, endpoint: str) -> None:
    plane.router.apply(route(plane, endpoint, 10_000), token=1)
    plane.kill(CANDIDATE)
    plane.change(BASELINE, refused=400)
    plane.send(endpoint, 3)
    assert classes_when(plane, endpoint, CANDIDATE, ended=3) == {"fallback": 3}


def test_read__dead_candidate_and_a_client_that_leaves__is_a_fallback(plane: Plane, endpoint: str) -> None:
    plane.router.apply(route(plane, endpoint, 10_000), token=1)
    plane.kill(CANDIDATE)
    plane.send(endpoint, 1)  # the router knows now that it is dead
    plane.change(BASELINE, hangs=True)
    plane.leave(endpoint, 3, after=0.4)
    assert classes_when(plane, endpoint, CANDIDATE, ended=4) == {"fallback": 4}
    assert arms(plane, endpoint)[CANDIDATE].aborted == 0


def test_read__left_before_the_first_token__tells_how_long_they_had_waited(
    plane: Plane, endpoint: str
) -> None:
    plane.router.apply(route(plane, endpoint, 10_000), token=1)
    plane.change(CANDIDATE, hangs=True)
    plane.leave(endpoint, 2, after=0.3)
    plane.leave(endpoint, 1, after=0.8)
    assert classes_when(plane, endpoint, CANDIDATE, ended=3) == {"before": 3}
    arm = times_when(plane, endpoint, CANDIDATE, left_ttft=3, left_duration=3)
    for signal, early, late in (("ttft", 0.5, 2.5), ("duration", 0.5, 2.0)):
        assert (below(arm.left[signal], 0.2), below(arm.left[signal], early), below(arm.left[signal], late)) == (
            0, 2, 3,
        )  # fmt: skip
        assert arm.latency[signal].edges == arm.left[signal].edges
        assert arm.latency[signal].total == 0


def test_read__left_midway__their_first_token_was_measured(plane: Plane, endpoint: str) -> None:
    plane.router.apply(route(plane, endpoint, 10_000), token=1)
    plane.change(CANDIDATE, seconds=0.2, rest=20)
    plane.leave(endpoint, 3, after=0.8)
    assert classes_when(plane, endpoint, CANDIDATE, ended=3) == {"midway": 3}
    arm = times_when(plane, endpoint, CANDIDATE, ttft=3, left_duration=3)
    assert (below(arm.latency["ttft"], 0.1), below(arm.latency["ttft"], 0.75)) == (0, 3)
    assert (below(arm.left["duration"], 0.5), below(arm.left["duration"], 2.0)) == (0, 3)


def test_read__broken_stream_whose_client_leaves__is_an_error(plane: Plane, endpoint: str) -> None:
    plane.router.apply(route(plane, endpoint, 10_000), token=1)
    plane.change(CANDIDATE, broken=1.0)
    plane.leave(endpoint, 3, after=0.5)
    assert classes_when(plane, endpoint, CANDIDATE, ended=3) == {"failed": 3}


def test_read__every_way_to_end__adds_up_to_the_arrivals(plane: Plane, endpoint: str) -> None:
    plane.router.apply(route(plane, endpoint, 10_000), token=1)
    plane.send(endpoint, 2)
    plane.change(CANDIDATE, refused=400)
    plane.send(endpoint, 3)
    plane.change(CANDIDATE, refused=429)
    plane.send(endpoint, 1)
    plane.change(CANDIDATE, errors=1.0)
    plane.send(endpoint, 2)
    plane.change(CANDIDATE, seconds=0.01, rest=20)
    plane.leave(endpoint, 2, after=0.4)
    plane.change(CANDIDATE, hangs=True)
    plane.leave(endpoint, 1, after=0.4)
    with plane.wait(endpoint, 4):
        ended = {"answered": 2, "request": 3, "rate": 1, "failed": 2, "midway": 2, "before": 1}

        def all_arrived() -> bool:
            return classes(arms(plane, endpoint)[CANDIDATE]) == {**ended, "running": 4}

        wait_until("all are counted", all_arrived)
        assert arms(plane, endpoint)[CANDIDATE].arrived == sum(ended.values()) + 4


def test_read__calls_that_are_no_inference__are_in_no_arm(plane: Plane, endpoint: str) -> None:
    plane.router.apply(route(plane, endpoint, 5000), token=1)
    assert {plane.call(endpoint, "GET", "/v1/models") for _ in range(5)} == {200}
    assert plane.call(endpoint, "GET", "/no/such/path") == 404
    (seen,) = plane.send(endpoint, 1)
    arm_when(plane, endpoint, seen.assigned, ended=1)
    found = wait_until(
        "they are counted", lambda: target(plane, endpoint) if target(plane, endpoint).other else None
    )
    assert found is not None
    assert (found.other, found.turned_away) == (5, 1)
    assert sum(arm.arrived for arm in found.arms.values()) == 1


def test_read__forced_requests__are_in_no_arm(plane: Plane, endpoint: str) -> None:
    plane.router.apply(route(plane, endpoint, 0), token=1)
    plane.send(endpoint, 5, forced=CANDIDATE)
    plane.send(endpoint, 1)
    arm_when(plane, endpoint, BASELINE, ended=1)
    assert arms(plane, endpoint)[CANDIDATE].arrived == 0


def test_read__latency__counts_whole_answers_of_the_drawn_arm(plane: Plane, endpoint: str) -> None:
    plane.router.apply(route(plane, endpoint, 10_000), token=1)
    plane.change(CANDIDATE, seconds=0.3)
    plane.send(endpoint, 4)
    plane.kill(CANDIDATE)
    plane.send(endpoint, 4)  # answered by the baseline: says nothing of the candidate's speed

    def measured() -> bool:
        return {h.total for h in arms(plane, endpoint)[CANDIDATE].latency.values()} == {4}

    wait_until("four answers are in the histograms", measured)
    latency = arms(plane, endpoint)[CANDIDATE].latency
    assert set(latency) == {"ttft", "duration"}
    for histogram in latency.values():
        assert list(histogram.edges) == sorted(histogram.edges)
        assert list(histogram.at_or_below) == sorted(histogram.at_or_below)
        below = dict(zip(histogram.edges, histogram.at_or_below, strict=True))
        assert below[0.1] == 0
        assert below[10.0] == 4


def test_read__same_router__has_the_same_start_every_time(plane: Plane, endpoint: str) -> None:
    plane.router.apply(route(plane, endpoint, 0), token=1)
    assert len({target(plane, endpoint).started_at for _ in range(5)}) == 1


def test_read__router_restarted__has_another_start_and_counts_anew(plane: Plane, endpoint: str) -> None:
    plane.router.apply(route(plane, endpoint, 0), token=1)
    plane.send(endpoint, 5)
    before = target(plane, endpoint)
    plane.stop_router()
    with pytest.raises(Unavailable):
        read(plane, endpoint)
    plane.start_router()
    after = target(plane, endpoint)
    assert after.started_at > before.started_at
    assert after.arms[BASELINE].ended == 0


def test_read__engines__are_read_and_a_dead_one_is_named_as_broken(plane: Plane, endpoint: str) -> None:
    plane.router.apply(route(plane, endpoint, 0), token=1)
    tokens = read(plane, endpoint).engines[BASELINE].generated_tokens
    plane.send(endpoint, 1)
    plane.kill(CANDIDATE)
    seen = read(plane, endpoint)
    assert set(seen.engines) == {BASELINE}
    assert seen.engines[BASELINE].generated_tokens == tokens + 4  # "answered by NAME", and the end
    assert seen.engines[BASELINE].started_at is not None
    assert "/metrics cannot be read" in seen.broken[CANDIDATE]


def test_read__engines__say_how_their_answers_ended(plane: Plane, endpoint: str) -> None:
    plane.router.apply(route(plane, endpoint, 0), token=1)
    before = read(plane, endpoint).engines[BASELINE]
    plane.send(endpoint, 2)
    plane.change(BASELINE, empty=True)
    plane.send(endpoint, 3)
    plane.change(BASELINE, cut_short=True)
    plane.send(endpoint, 4, stream=True)
    after = read(plane, endpoint).engines[BASELINE]
    ended = {reason: count - before.endings.get(reason, 0) for reason, count in after.endings.items()}
    assert {reason: count for reason, count in ended.items() if count} == {"stop": 5, "length": 4}
    assert before.empty is not None
    assert after.empty == before.empty + 3
