"""One look at cluster, router and counters for a whole batch: what cannot be read is unknown and hides nothing."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from controlplane.kernel.clock import SystemClock
from controlplane.kernel.errors import HeadgateError, Unavailable, Unreadable
from registry.adapters.model_stores.memory import MemoryModelStore
from rollouts.domain.engines import WorkloadPhase
from rollouts.domain.record.readings import SignalReading
from rollouts.models import Endpoint, Variant, Workload
from rollouts.ports import Backend, ObservedRoute, WorkloadStatus
from rollouts.services.loop.backends import backends_of
from rollouts.services.loop.observe import Observation, observe_endpoints
from rollouts.services.loop.rows import Rows
from rollouts.services.world import World

AWAY = Unavailable("It does not answer.")
READING = SignalReading(at=100.0, targets={})


@dataclass
class Plane:
    """A cluster, its router and its counters; `fails` says which calls raise. `asked` are the calls."""

    engines: dict[str, WorkloadStatus] = field(default_factory=dict)
    routes: dict[str, ObservedRoute | HeadgateError] = field(default_factory=dict)
    readings: dict[str, SignalReading | HeadgateError] = field(default_factory=dict)
    fails: Collection[str] = ()
    asked: list[str] = field(default_factory=list)

    def _call(self, name: str) -> None:
        self.asked.append(name)
        if name.split(" ")[0] in self.fails:
            raise AWAY

    def statuses(self) -> Mapping[str, WorkloadStatus]:
        self._call("statuses")
        return self.engines

    def log_tail(self, variant: str, lines: int = 50) -> tuple[str, ...]:
        self._call(f"log_tail {variant}")
        return (f"the last words of {variant}",)

    def observe(self, endpoint: str) -> ObservedRoute | None:
        self._call(f"observe {endpoint}")
        found = self.routes.get(endpoint)
        if isinstance(found, HeadgateError):
            raise found
        return found

    def observe_all(self) -> Mapping[str, ObservedRoute]:
        self._call("observe_all")
        return {name: route for name, route in self.routes.items() if isinstance(route, ObservedRoute)}

    def read_all(self, backends: Mapping[str, Collection[Backend]]) -> Mapping[str, Any]:
        self._call(f"read_all {sorted(backends)}")
        return {name: self.readings.get(name, READING) for name in backends}


def world_of(plane: Plane) -> World:
    part: Any = plane
    return World(
        name="here", cluster=part, router=part, signals=part, request_log=part, prober=part,
        store=MemoryModelStore(), models_dir=Path("/nonexistent"), clock=SystemClock(), edges={},
    )  # fmt: skip


def rows_of(name: str, number: int, *workloads: Workload) -> Rows:
    return Rows(Endpoint(pk=number, name=name), None, (), None, workloads, (), rated=False)


def workload(name: str, phase: str = "ready", **changes: Any) -> Workload:
    backend = {"kind": "address", "name": "", "address": f"10.0.0.1/{name}"}
    return Workload(
        **{"variant": Variant(name=name), "phase": phase, "wanted": True, "backend": backend, **changes}
    )


def route(name: str) -> ObservedRoute:
    return ObservedRoute(name, {f"{name}-v1": 10_000}, frozenset())


def look(plane: Plane, *rows: Rows, measured: Collection[int] = ()) -> dict[int, Observation]:
    return observe_endpoints(rows=rows, world=world_of(plane), measured=measured)


def test_observe__many_endpoints__asks_each_part_once() -> None:
    plane = Plane(routes={"a": route("a"), "b": route("b")})
    seen = look(plane, rows_of("a", 1), rows_of("b", 2), measured=[1, 2])
    assert plane.asked == ["statuses", "observe_all", "read_all ['a', 'b']"]
    assert (seen[1].route, seen[2].route) == (route("a"), route("b"))
    assert seen[1].reading is READING


def test_observe__one_endpoint__asks_the_router_for_its_route_only() -> None:
    plane = Plane(routes={"a": route("a")})
    assert look(plane, rows_of("a", 1))[1].route == route("a")
    assert plane.asked == ["statuses", "observe a"]


def test_observe__interval_is_not_over__its_counters_are_not_read() -> None:
    plane = Plane()
    seen = look(plane, rows_of("a", 1), rows_of("b", 2), measured=[2])
    assert "read_all ['b']" in plane.asked
    assert (seen[1].reading, seen[1].difference, seen[2].reading) == (None, None, READING)


@pytest.mark.parametrize(
    ("fails", "part"), [("statuses", "cluster"), ("observe", "router"), ("read_all", "signals")]
)
def test_observe__one_part_is_away__is_unknown_with_its_words_and_the_others_are_seen(
    fails: str, part: str
) -> None:
    plane = Plane({"a-v1": WorkloadStatus("a-v1", WorkloadPhase.READY)}, {"a": route("a")}, fails=[fails])
    seen = look(plane, rows_of("a", 1), measured=[1])[1]
    assert dict(seen.problems) == {part: str(AWAY)}
    assert (seen.statuses is None) is (part == "cluster")
    assert (seen.route is None, seen.route_known) == (part == "router", part != "router")
    assert (seen.reading is None) is (part == "signals")


def test_observe__router_is_away_for_many__is_asked_once_and_none_is_known() -> None:
    plane = Plane(fails=["observe_all"])
    seen = look(plane, rows_of("a", 1), rows_of("b", 2))
    assert [one.route_known for one in seen.values()] == [False, False]
    assert plane.asked == ["statuses", "observe_all"]


def test_observe__route_of_one_is_odd__the_others_are_known_and_one_it_never_had_is_told_apart() -> None:
    plane = Plane(routes={"a": route("a"), "odd": Unreadable("weights: no numbers.", field="weights")})
    seen = look(plane, rows_of("a", 1), rows_of("odd", 2), rows_of("new", 3))
    assert seen[1].route == route("a")
    assert (seen[2].route, seen[2].route_known) == (None, False)
    assert "no numbers" in seen[2].problems["router"]
    assert (seen[3].route, seen[3].route_known, dict(seen[3].problems)) == (None, True, {})


def test_observe__counters_of_one_are_odd__the_others_are_read() -> None:
    plane = Plane(readings={"a": Unreadable("No number.", field="x")})
    seen = look(plane, rows_of("a", 1), rows_of("b", 2), measured=[1, 2])
    assert ("signals" in seen[1].problems, seen[1].reading) == (True, None)
    assert (dict(seen[2].problems), seen[2].reading) == ({}, READING)


@pytest.mark.parametrize(
    ("kept", "now", "measured", "read"),
    [
        ("starting", WorkloadPhase.STARTING, True, True),
        ("starting", WorkloadPhase.STARTING, False, False),
        ("starting", WorkloadPhase.FAILED, False, True),
        ("failed", WorkloadPhase.FAILED, True, False),
        ("ready", WorkloadPhase.READY, True, False),
    ],
)
def test_log__is_read_while_an_engine_loads_and_once_when_it_failed(
    kept: str, now: WorkloadPhase, measured: bool, read: bool
) -> None:
    plane = Plane({"a-v1": WorkloadStatus("a-v1", now)})
    seen = look(plane, rows_of("a", 1, workload("a-v1", kept)), measured=[1] if measured else [])
    assert dict(seen[1].log_tails) == ({"a-v1": ("the last words of a-v1",)} if read else {})


def test_log__cannot_be_read__says_so_in_its_place() -> None:
    plane = Plane({"a-v1": WorkloadStatus("a-v1", WorkloadPhase.FAILED)}, fails=["log_tail"])
    seen = look(plane, rows_of("a", 1, workload("a-v1", "starting")))[1]
    assert seen.log_tails["a-v1"] == (f"The log could not be read: {AWAY}",)
    assert dict(seen.problems) == {}


def test_status__cluster_answers_and_does_not_know_it__is_absent_and_else_unknown() -> None:
    answers = Observation({}, None, route_known=True).status("a-v1")
    assert answers == WorkloadStatus("a-v1", WorkloadPhase.ABSENT)
    assert Observation(None, None, route_known=True).status("a-v1") is None


def test_backends__of_what_is_to_run_and_has_an_address__by_name() -> None:
    found = backends_of(
        [workload("b"), workload("a"), workload("no-address", backend={}), workload("drained", wanted=False)]
    )
    assert [backend.variant for backend in found] == ["a", "b"]
    assert found[0].address == "10.0.0.1/a"
