"""Signals out of a real Prometheus that scrapes what plays a gateway's and an engine's pods."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from itertools import pairwise

import pytest

from controlplane.kernel.clock import SystemClock
from controlplane.kernel.errors import HeadgateError, Unavailable
from rollouts.adapters.routers.gateway_api.counted import CountedRoute
from rollouts.adapters.signals.prometheus.server import PrometheusServer
from rollouts.adapters.signals.prometheus.source import PrometheusSignals
from rollouts.adapters.signals.prometheus.templates import ENVOY_GATEWAY, ISTIO, GatewayTemplate
from rollouts.domain.gates.policy import GatePolicy, GateSpec
from rollouts.domain.readiness import CountedVariant, kinds_missing, readiness_checks
from rollouts.domain.record.counters import counts_between
from rollouts.domain.record.readings import CountedKind, Failures, SignalReading
from rollouts.ports import Backend
from tests.rollouts.adapters.readings import read_one
from tests.rollouts.adapters.signals.prometheus.pods import (
    ROUTE,
    ROUTES,
    SECOND,
    V1,
    V2,
    Counted,
    containers,
    envoy_gateway,
    istio,
    split,
    vllm,
)
from tests.standins.prometheus import SCRAPE_SECONDS, Exporter, RunningPrometheus, running_prometheus
from tests.standins.running import wait_until

pytestmark = pytest.mark.needs("prometheus")

ERRORS = GateSpec(key="errors", label="Error rate", kind="error_rate", mode="strict", weight=1.0, delta=0.01)
POLICY = GatePolicy(name="p", version=1, gates=(ERRORS,))
BACKENDS = [Backend(variant, "service", name=variant) for variant in (V1, V2)]
STALE_SECONDS = 4.0
JOBS: Mapping[str, Mapping[str, Mapping[str, str]]] = {
    "gateways": {
        "/gw-a": {"namespace": "edge", "pod": "gw-a"},
        "/gw-b": {"namespace": "edge", "pod": "gw-b"},
    },
    "gateways-again": {"/gw-a-twice": {"namespace": "edge", "pod": "gw-a"}},
    "kubelet": {"/containers": {}},
    "engines": {
        "/v1-0": {"namespace": "team-a", "pod": "v1-0"},
        "/v1-1": {"namespace": "team-a", "pod": "v1-1"},
        "/v2-0": {"namespace": "team-a", "pod": "v2-0"},
        "/stranger": {"namespace": "team-x", "pod": "stranger"},
    },
}


@dataclass
class Room:
    """A Prometheus with what it scrapes."""

    prometheus: RunningPrometheus
    exporter: Exporter

    def signals(
        self,
        template: GatewayTemplate = ENVOY_GATEWAY,
        routes: dict[str, CountedRoute] = ROUTES,
    ) -> PrometheusSignals:
        return PrometheusSignals(
            PrometheusServer(self.prometheus.url),
            template,
            lambda: routes,
            SystemClock(),
            engine_namespace="team-a",
            stale_seconds=STALE_SECONDS,
            settle_seconds=0.0,
        )

    def say(self, **pages: str | None) -> None:
        """What pods say from now on; None: the pod is gone."""
        for name, text in pages.items():
            path = "/" + name.replace("_", "-")
            if text is None:
                self.exporter.pages.pop(path, None)
            else:
                self.exporter.pages[path] = text


@pytest.fixture(scope="module")
def running(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Room]:
    with running_prometheus(tmp_path_factory.mktemp("prometheus"), JOBS) as (prometheus, exporter):
        yield Room(prometheus, exporter)


@pytest.fixture
def room(running: Room) -> Room:
    """Two processes of the gateway started long ago; nothing else is left of an earlier test."""
    running.exporter.pages.clear()
    time.sleep(2 * SCRAPE_SECONDS)  # what was there is stale now
    running.say(containers=containers("envoy", {"gw-a": 1000.0, "gw-b": 2000.0}))
    return running


def read(room: Room, template: GatewayTemplate = ENVOY_GATEWAY) -> SignalReading:
    return read_one(room.signals(template), "chat", BACKENDS)


def read_when(
    room: Room, what: str, check: Callable[[SignalReading], object], template: GatewayTemplate = ENVOY_GATEWAY
) -> SignalReading:
    """The first reading that passes the check."""

    def look() -> SignalReading | None:
        try:
            found = read(room, template)
        except HeadgateError:
            return None
        return found if check(found) else None

    found = wait_until(what, look)
    assert found is not None
    return found


def refusal(room: Room) -> str:
    """Why nothing can be read; "" when it can."""
    try:
        read(room)
    except Unavailable as error:
        return str(error)
    return ""


def answered(reading: SignalReading, variant: str) -> int:
    return sum(target.arms[variant].answered for target in reading.targets.values() if variant in target.arms)


def test_read__each_way_to_end__is_counted_in_its_class_and_they_add_up(room: Room) -> None:
    one = Counted(answered=90, failed=3, broken=0, refused=4, rate=2, left=5, running=6, slow=10)
    room.say(gw_a=envoy_gateway(split(one, Counted(answered=10, broken=2))))
    found = read_when(room, "it is scraped", lambda reading: answered(reading, V1))
    target = found.targets["gw-a"]
    arm = target.arms[V1]
    assert (arm.answered, arm.failed, arm.refused, arm.abandoned) == (
        90, 3, {"request": 4, "rate": 2, "gateway": 0}, {"before": 0, "midway": 5},
    )  # fmt: skip
    assert (arm.arrived, arm.running) == (110, 6)
    assert (target.arms[V2].answered, target.arms[V2].failed) == (10, 2)
    assert target.started_at == 1000.0


def test_read__durations__are_in_seconds(room: Room) -> None:
    room.say(gw_a=envoy_gateway(split(Counted(answered=9, slow=2), Counted())))
    arm = read_when(room, "it is scraped", lambda r: answered(r, V1)).targets["gw-a"].arms[V1]
    assert arm.latency["duration"].edges == (0.001, 0.025, 2.5)
    assert (arm.latency["duration"].at_or_below, arm.latency["duration"].total) == ((0, 7, 9), 9)


def test_read__forced_requests_and_other_routes__are_in_no_arm(room: Room) -> None:
    others = {
        "httproute/team-a/chat/rule/2/backend/0": Counted(answered=500),
        "httproute/team-a/chat/rule/3/backend/0": Counted(answered=500),
        "httproute/team-b/chat/rule/0/backend/0": Counted(answered=500),
        "httproute/team-a/chat-x/rule/0/backend/0": Counted(answered=500),
        "httproute/team-a/chat/rule/0/backend/00000": Counted(answered=500),
        "somebody else's": Counted(answered=500),
    }
    room.say(gw_a=envoy_gateway({**others, **split(Counted(answered=7), Counted(answered=3))}))
    arms = read_when(room, "it is scraped", lambda r: r.targets).targets["gw-a"].arms
    assert {name: arm.arrived for name, arm in arms.items()} == {V1: 7, V2: 3}


def test_read__arm_without_series__is_not_there_and_never_zero(room: Room) -> None:
    room.say(gw_a=envoy_gateway({"httproute/team-a/chat/rule/0/backend/0": Counted(answered=7)}))
    found = read_when(room, "it is scraped", lambda r: answered(r, V1))
    assert set(found.targets["gw-a"].arms) == {V1}


def test_read__two_processes__are_targets_of_their_own(room: Room) -> None:
    room.say(gw_a=envoy_gateway(split(Counted(answered=7), Counted(answered=3))))
    room.say(gw_b=envoy_gateway(split(Counted(answered=1), Counted(answered=2))))
    found = read_when(room, "both are scraped", lambda r: len(r.targets) == 2)
    assert {name: target.started_at for name, target in found.targets.items()} == {
        "gw-a": 1000.0,
        "gw-b": 2000.0,
    }
    assert answered(found, V1) == 8


def test_read__process_that_two_jobs_scrape__is_counted_once(room: Room) -> None:
    text = envoy_gateway(split(Counted(answered=7), Counted(answered=3)))
    room.say(gw_a=text, gw_a_twice=text)
    time.sleep(3 * SCRAPE_SECONDS)
    found = read(room)
    assert set(found.targets) == {"gw-a"}
    assert answered(found, V1) == 7


def test_read__process_restarted__voids_its_part_and_no_more(room: Room) -> None:
    room.say(gw_a=envoy_gateway(split(Counted(answered=70), Counted(answered=30))))
    room.say(gw_b=envoy_gateway(split(Counted(answered=100), Counted(answered=50))))
    before = read_when(room, "both are scraped", lambda r: len(r.targets) == 2)
    room.say(
        gw_a=envoy_gateway(split(Counted(answered=1), Counted(answered=1)), uptime=1),
        gw_b=envoy_gateway(split(Counted(answered=110), Counted(answered=55))),
        containers=containers("envoy", {"gw-a": 5000.0, "gw-b": 2000.0}),
    )
    after = read_when(
        room,
        "the restart is seen",
        lambda r: r.targets["gw-a"].started_at == 5000.0 and answered(r, V1) == 111,
    )
    found = counts_between(before, after, {})
    assert found.unseen == {"gw-a": "restarted: its counters began again"}
    assert found.arms[V1].requests == 10


def test_read__process_gone__is_left_out_and_told_as_unseen(room: Room) -> None:
    room.say(gw_a=envoy_gateway(split(Counted(answered=70), Counted(answered=30))))
    room.say(gw_b=envoy_gateway(split(Counted(answered=100), Counted(answered=50))))
    before = read_when(room, "both are scraped", lambda r: len(r.targets) == 2)
    room.say(gw_b=None)
    after = read_when(room, "one is gone", lambda r: set(r.targets) == {"gw-a"} and r.at > before.at)
    assert counts_between(before, after, {}).unseen == {
        "gw-b": "was not read: it does not answer, or has gone"
    }


def test_read__start_unknown__is_left_out(room: Room) -> None:
    text = envoy_gateway(split(Counted(answered=70), Counted(answered=30)))
    room.say(gw_a=text, gw_b=text, containers=containers("envoy", {"gw-b": 2000.0}))
    assert set(read_when(room, "it is scraped", lambda r: r.targets).targets) == {"gw-b"}


def test_read__no_start_known__says_what_to_scrape(room: Room) -> None:
    room.say(gw_a=envoy_gateway(split(Counted(answered=70), Counted())), containers="")
    wait_until(
        "it is scraped",
        lambda: "does not say when the processes of Envoy Gateway started" in refusal(room),
    )


def test_read__between_two_scrapes__no_time_passes(room: Room) -> None:
    room.say(gw_a=envoy_gateway(split(Counted(answered=7), Counted())))
    read_when(room, "it is scraped", lambda r: answered(r, V1))
    # On a machine that is busy, reading may take as long as the time between two scrapes.
    pairs = pairwise(read(room) for _ in range(200))
    earlier, later = next((one, next_one) for one, next_one in pairs if one.at == next_one.at)
    assert counts_between(earlier, later, {}).seconds == 0


def test_read__after_the_next_scrape__the_time_between_the_scrapes_has_passed(room: Room) -> None:
    room.say(gw_a=envoy_gateway(split(Counted(answered=7), Counted())))
    earlier = read_when(room, "it is scraped", lambda r: answered(r, V1))
    later = read_when(room, "it is scraped again", lambda r: r.at > earlier.at)
    scrapes = (later.at - earlier.at) / SCRAPE_SECONDS
    assert scrapes == pytest.approx(max(1, round(scrapes)), abs=0.5)
    assert counts_between(earlier, later, {}).seconds == pytest.approx(later.at - earlier.at)


def test_read__gateway_not_scraped_any_more__is_an_outage_of_the_source(room: Room) -> None:
    room.say(gw_a=envoy_gateway(split(Counted(answered=7), Counted())))
    read_when(room, "it is scraped", lambda r: answered(r, V1))
    room.say(gw_a=None)
    time.sleep(2 * SCRAPE_SECONDS)
    with pytest.raises(Unavailable, match="no fresh series of Envoy Gateway"):
        read(room)


def test_read__prometheus_killed_and_started__is_unavailable_and_goes_on(room: Room) -> None:
    room.say(gw_a=envoy_gateway(split(Counted(answered=7), Counted())))
    before = read_when(room, "it is scraped", lambda r: answered(r, V1))
    room.prometheus.kill()
    try:
        with pytest.raises(Unavailable, match="Prometheus cannot be asked"):
            read(room)
    finally:
        room.prometheus.start()
    room.say(gw_a=envoy_gateway(split(Counted(answered=27), Counted())))
    after = read_when(room, "it scrapes again", lambda r: answered(r, V1) == 27)
    assert counts_between(before, after, {}).arms[V1].requests == 20


def test_read__backends_stand_elsewhere__counters_from_before_are_not_read(room: Room) -> None:
    room.say(gw_a=envoy_gateway(split(Counted(answered=70), Counted(answered=30))))
    before = read_when(room, "it is scraped", lambda r: answered(r, V1) == 70)
    turned = replace(ROUTE, places={(0, 0): V2, (0, 1): V1}, since=time.time())
    # An hour ahead, so that no scrape comes between on a slow machine.
    not_scraped_since = replace(turned, since=time.time() + 3_600)
    with pytest.raises(Unavailable, match="not scraped since the backends of chat stand as they do"):
        read_one(room.signals(routes={"chat": not_scraped_since}), "chat", BACKENDS)
    signals = room.signals(routes={"chat": turned})
    room.say(gw_a=envoy_gateway(split(Counted(answered=75), Counted(answered=90))))

    def anew() -> SignalReading | None:
        found = signals.read_all({"chat": BACKENDS})["chat"]
        return found if isinstance(found, SignalReading) and answered(found, V1) == 90 else None

    after = wait_until("it is scraped anew", anew)
    assert after is not None
    assert counts_between(before, after, {}).unseen == {"gw-a": "restarted: its counters began again"}


def test_read__endpoint_without_a_route__is_an_error_of_it_alone(room: Room) -> None:
    room.say(gw_a=envoy_gateway(split(Counted(answered=7), Counted())))
    read_when(room, "it is scraped", lambda r: answered(r, V1))
    found = room.signals().read_all({"chat": BACKENDS, "new": []})
    assert isinstance(found["chat"], SignalReading)
    assert "it has no route of ours in force" in str(found["new"])


def test_read__counter_that_is_no_count__spoils_its_endpoint_alone(room: Room) -> None:
    odd = "httproute/team-a/mail/rule/0/backend/0"
    text = envoy_gateway(split(Counted(answered=7), Counted()))
    room.say(gw_a=text + f'envoy_cluster_upstream_rq_total{{envoy_cluster_name="{odd}"}} NaN\n')
    mail = CountedRoute("mail", "team-a", {(0, 0): "mail-v1"}, {"mail-v1": "mail-v1"})
    signals = room.signals(routes={**ROUTES, "mail": mail})

    def both() -> dict[str, SignalReading | HeadgateError] | None:
        try:
            found = dict(signals.read_all({"chat": BACKENDS, "mail": []}))
        except Unavailable:
            return None
        return found if isinstance(found["mail"], HeadgateError) else None

    found = wait_until("it is scraped", both)
    assert found is not None
    assert isinstance(found["chat"], SignalReading)
    assert "cannot be understood" in str(found["mail"])


def test_failures__are_those_of_all_arms_by_process(room: Room) -> None:
    room.say(gw_a=envoy_gateway(split(Counted(answered=7, failed=2), Counted(answered=3, left=1))))
    read_when(room, "it is scraped", lambda r: answered(r, V1))
    assert room.signals().failures() == {"chat": {"gw-a": Failures(ended=13, failed=2)}}


def test_queries__by_hand__give_the_series_that_a_reading_is_made_of(room: Room) -> None:
    one = Counted(answered=90, failed=3, slow=10)
    mail = {"httproute/team-a/mail/rule/2/backend/0": one}
    room.say(
        gw_a=envoy_gateway({**split(one, Counted(answered=10)), **mail}),
        v1_0=vllm(V1, tokens=100, stops=10),
    )
    read_when(room, "it is scraped", lambda r: answered(r, V1) and V1 in r.engines)
    queries = room.signals().queries("chat", BACKENDS[0])
    server = PrometheusServer(room.prometheus.url)
    series = {kind: server.vector(query, at=server.now()) for kind, query in queries.items()}
    names = {kind: {one.name for one in found} for kind, found in series.items()}
    times = "envoy_cluster_upstream_rq_time"
    assert "envoy_cluster_upstream_rq_total" in names[CountedKind.REQUESTS]
    assert names[CountedKind.DURATION] == {f"{times}_bucket", f"{times}_count"}
    assert names[CountedKind.COMPLETIONS] == {
        "vllm:request_success_total",
        "vllm:request_generation_tokens_bucket",
    }
    assert CountedKind.TTFT not in queries  # the gateway does not count it
    assert {one.labels["envoy_cluster_name"].split("/")[2] for one in series[CountedKind.REQUESTS]} == {
        "chat"
    }


def test_queries__endpoint_without_a_route__is_unavailable(room: Room) -> None:
    with pytest.raises(Unavailable, match="it has no route of ours in force"):
        room.signals().queries("new", BACKENDS[0])


def test_readiness__baseline_whose_series_are_not_scraped__cannot_be_judged_and_names_the_query(
    room: Room,
) -> None:
    room.say(gw_a=envoy_gateway({SECOND: Counted(answered=7)}))
    found = read_when(room, "it is scraped", lambda r: answered(r, V2))
    seen = CountedVariant(V1, found, time.time(), 25.0)
    missing = kinds_missing(POLICY, seen)
    (check,) = readiness_checks(POLICY, seen, missing, room.signals().queries("chat", BACKENDS[0]))
    assert check.title == f"Cannot judge Error rate: no fresh series of {V1}"
    assert 'Query: {__name__=~"envoy_cluster_' in check.detail


def test_istio__the_same_endings__are_counted_by_service(room: Room) -> None:
    room.say(containers=containers("istio-proxy", {"gw-a": 1000.0}))
    one = Counted(answered=90, failed=3, broken=7, refused=4, rate=2, left=5, slow=10)
    room.say(gw_a=istio({V1: one, V2: Counted(answered=10), f"{V1}-forced": Counted(answered=500)}))
    found = read_when(room, "it is scraped", lambda reading: answered(reading, V1), ISTIO)
    arm = found.targets["gw-a"].arms[V1]
    assert (arm.answered, arm.failed, arm.refused, arm.abandoned, arm.arrived) == (
        90, 10, {"request": 4, "rate": 2, "gateway": 0}, {"before": 0, "midway": 5}, 111,
    )  # fmt: skip
    assert (arm.latency["duration"].at_or_below, arm.latency["duration"].total) == ((80, 90), 90)
    assert set(found.targets["gw-a"].arms) == {V1, V2}


def test_engines__pods_of_a_variant__are_added_up(room: Room) -> None:
    room.say(
        gw_a=envoy_gateway(split(Counted(answered=7), Counted())),
        v1_0=vllm(V1, tokens=100, stops=10, empty=1, started=50.0),
        v1_1=vllm(V1, tokens=200, stops=20, empty=2, started=60.0),
        stranger=vllm(V1, tokens=9_000, stops=900),
    )
    found = read_when(room, "both are scraped", lambda r: V1 in r.engines and r.engines[V1].running == 2)
    engine = found.engines[V1]
    assert (engine.generated_tokens, engine.endings, engine.empty) == (300, {"stop": 30}, 3)
    assert int(engine.started_at or 0) == 60
    assert (engine.waiting, engine.kv_cache_share) == (4, 0.25)
    assert set(found.broken) == {V2}
    assert "Prometheus has no fresh series of vllm:num_requests_running" in found.broken[V2]


def test_engines__odd_numbers__are_named_as_broken_and_the_router_is_read(room: Room) -> None:
    text = vllm(V2, tokens=100, stops=10).replace("} 100", "} NaN")
    room.say(gw_a=envoy_gateway(split(Counted(answered=7), Counted())), v2_0=text)
    found = read_when(room, "it is scraped", lambda r: "cannot be understood" in r.broken.get(V2, ""))
    assert answered(found, V1) == 7
