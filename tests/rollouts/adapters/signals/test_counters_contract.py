"""What every SignalSource promises of the counters that gates ask for: on the one in memory and on a real Prometheus
with stand-in pods. What knows no PromQL says so of every question."""

from __future__ import annotations

import random
import time
from collections.abc import Callable, Iterator, Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Protocol

import pytest

from controlplane.kernel.clock import ManualClock, SystemClock
from rollouts.adapters.routers.memory import MemoryRouter
from rollouts.adapters.signals.combined import CombinedSignals
from rollouts.adapters.signals.envoy_stats import EnvoyStats
from rollouts.adapters.signals.memory import MemorySignals
from rollouts.adapters.signals.prometheus.server import PrometheusServer
from rollouts.adapters.signals.prometheus.source import PrometheusSignals
from rollouts.adapters.signals.prometheus.templates import ENVOY_GATEWAY
from rollouts.adapters.signals.vllm import VllmMetrics
from rollouts.domain.record.asked import AskedCounts, CounterAnswer, CounterPair, asked_between
from rollouts.ports import Backend, CounterQuestion, SignalSource
from tests.standins.prometheus import SCRAPE_SECONDS, RunningPrometheus, running_prometheus
from tests.standins.running import wait_until

V1, V2 = "chat-v1-aaaa", "chat-v2-bbbb"
PAIR = CounterPair('failures_total{pod=~"{{pods}}"}', 'calls_total{pod=~"{{pods}}"}')
QUESTIONS = [CounterQuestion("chat", Backend(name, "service", name=name), PAIR) for name in (V1, V2)]


class Plane(Protocol):
    """Engines that count. `say` sets what one has counted since it started; None: there is no such series. `away`: the
    source cannot be asked any more."""

    signals: SignalSource

    def say(self, variant: str, bad: int | None, every: int | None, *, life: int = 1) -> None: ...
    def away(self) -> None: ...


class MemoryPlane:
    def __init__(self) -> None:
        self.router = MemoryRouter(ManualClock(datetime(2026, 1, 1, tzinfo=UTC)), random.Random(7))
        self.memory = MemorySignals(self.router)
        self.signals: SignalSource = self.memory

    def say(self, variant: str, bad: int | None, every: int | None, *, life: int = 1) -> None:
        engine = self.router.engine(variant)
        engine.started_at = float(life)
        told = {PAIR.bad: bad, PAIR.all: every}
        engine.counted = {name: number for name, number in told.items() if number is not None}

    def away(self) -> None:
        self.memory.outage = "it is away"


class PrometheusPlane:
    def __init__(self, prometheus: RunningPrometheus, pages: dict[str, str]) -> None:
        self.prometheus, self.pages = prometheus, pages
        self.signals: SignalSource = PrometheusSignals(
            PrometheusServer(prometheus.url), ENVOY_GATEWAY, dict, SystemClock(), engine_namespace="team-a"
        )

    def say(self, variant: str, bad: int | None, every: int | None, *, life: int = 1) -> None:
        told = {"failures_total": bad, "calls_total": every, "process_start_time_seconds": 1_000 + life}
        lines = [f"{name} {number}\n" for name, number in told.items() if number is not None]
        self.pages[f"/{variant}"] = "".join(lines)

    def away(self) -> None:
        self.prometheus.kill()


@pytest.fixture(params=["memory", pytest.param("prometheus", marks=pytest.mark.needs("prometheus"))])
def plane(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Plane]:
    if request.param == "memory":
        yield MemoryPlane()
        return
    jobs: Mapping[str, Mapping[str, Mapping[str, str]]] = {
        "engines": {
            f"/{variant}": {"namespace": "team-a", "pod": f"{variant}-7d9f8c-aaaaa", "instance": variant}
            for variant in (V1, V2)
        }
    }
    with running_prometheus(tmp_path, jobs) as (prometheus, exporter):
        yield PrometheusPlane(prometheus, exporter.pages)


def ask(plane: Plane) -> tuple[CounterAnswer, CounterAnswer]:
    found = plane.signals.read_counters(QUESTIONS)
    assert set(found) == set(QUESTIONS)
    return found[QUESTIONS[0]], found[QUESTIONS[1]]


def ask_when(
    plane: Plane, what: str, check: Callable[[CounterAnswer, CounterAnswer], bool]
) -> tuple[CounterAnswer, CounterAnswer]:
    def look() -> tuple[CounterAnswer, CounterAnswer] | None:
        found = ask(plane)
        return found if check(*found) else None

    answers = wait_until(what, look)
    assert answers is not None
    return answers


def is_counted(answer: CounterAnswer, bad: int, every: int) -> bool:
    return answer.reading is not None and (answer.reading.bad, answer.reading.all) == (bad, every)


def test_read_counters__two_arms__each_has_its_own_counts(plane: Plane) -> None:
    plane.say(V1, 3, 100)
    plane.say(V2, 0, 7)
    ask_when(plane, "both are counted", lambda v1, v2: is_counted(v1, 3, 100) and is_counted(v2, 0, 7))


def test_read_counters__arm_without_a_series__says_which_and_the_other_is_counted(plane: Plane) -> None:
    plane.say(V1, 3, 100)
    plane.say(V2, None, 7)
    _, v2 = ask_when(plane, "the first is counted", lambda v1, v2: is_counted(v1, 3, 100))
    assert v2.reading is None
    assert v2.why == f"its bad_query has no fresh series of {V2}"
    assert len(v2.queries) == 2


def test_read_counters__process_that_began_again__is_another_one(plane: Plane) -> None:
    plane.say(V1, 3, 100)
    then, _ = ask_when(plane, "it is counted", lambda v1, v2: is_counted(v1, 3, 100))
    plane.say(V1, 8, 150)
    now, _ = ask_when(plane, "it counts on", lambda v1, v2: is_counted(v1, 8, 150))
    plane.say(V1, 50, 900, life=2)
    later, _ = ask_when(plane, "it began again", lambda v1, v2: is_counted(v1, 50, 900))
    assert then.reading
    assert now.reading
    assert later.reading
    assert asked_between({"d": then.reading}, {"d": now.reading})["d"] == AskedCounts(5, 50)
    assert asked_between({"d": now.reading}, {"d": later.reading})["d"].total == 0


def test_read_counters__source_away__says_so_of_every_question_and_raises_nothing(plane: Plane) -> None:
    plane.say(V1, 3, 100)
    plane.away()
    time.sleep(SCRAPE_SECONDS)
    assert all(one.reading is None and "cannot be" in one.why for one in ask(plane))


def test_read_counters__no_question__no_answer(plane: Plane) -> None:
    assert plane.signals.read_counters([]) == {}


def test_read_counters__what_knows_no_promql__says_so_of_every_question(tmp_path: Path) -> None:
    signals = CombinedSignals(EnvoyStats(tmp_path, SystemClock()), VllmMetrics())
    found = signals.read_counters(QUESTIONS)
    assert set(found) == set(QUESTIONS)
    assert {one.why.partition(";")[0] for one in found.values()} == {
        "this cluster has no Prometheus that could be asked"
    }
    assert not any(one.queries for one in found.values())
