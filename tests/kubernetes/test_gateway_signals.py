"""Signals of the real Envoy behind the real Envoy Gateway, by the real Prometheus: each way in which requests end."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from itertools import count

import httpx
import pytest

from controlplane.kernel.clock import SystemClock
from controlplane.kernel.errors import HeadgateError
from rollouts.adapters.signals.prometheus.server import PrometheusServer
from rollouts.adapters.signals.prometheus.source import PrometheusSignals
from rollouts.adapters.signals.prometheus.templates import ENVOY_GATEWAY
from rollouts.domain.record.readings import ArmReading, SignalReading
from rollouts.ports import Backend
from tests.kubernetes.edge import MODEL, V1, V2, Edge, edge_in, open_metrics
from tests.kubernetes.lab import KubernetesLab
from tests.standins.prometheus import running_prometheus
from tests.standins.running import wait_until

pytestmark = [
    pytest.mark.e2e,
    pytest.mark.whole,
    pytest.mark.needs("root", "namespaces", "envoy", "kubernetes", "prometheus"),
]

WELL = {
    "error_rate": 0, "cut_rate": 0, "refuse_rate": 0, "hang_rate": 0, "latency_ms": 0, "token_ms": 0, "tokens": 0,
}  # fmt: skip
_numbers = count(1)


@dataclass
class Watched:
    """The edge, with a Prometheus that scrapes it."""

    edge: Edge
    signals: PrometheusSignals
    last: object = None  # reading or error

    def endpoint(self, candidate_bp: int = 10_000) -> str:
        """A new endpoint in force, with this share for V2; no other test's counters are in it."""
        name = f"counted{next(_numbers)}"
        self.edge.apply(self.edge.route(name, candidate_bp))
        wait_until("the gateway serves it", lambda: self.edge.answers(name))
        return name

    def send(
        self, endpoint: str, number: int, *, stream: bool = False, leave: float | None = None
    ) -> list[int]:
        """The statuses that users see, 0 where there was none or the answer broke off. `leave`: users do, after so many
        seconds without a word."""

        def one(_: int) -> int:
            body = {"model": MODEL, "messages": [{"role": "user", "content": "hi"}], "stream": stream}
            headers = {"Host": self.edge.place.host(endpoint)}
            timeout = httpx.Timeout(30, read=leave or 30)
            with httpx.Client(trust_env=False, timeout=timeout) as client:
                try:
                    where = f"{self.edge.lab.gateway_url}/v1/chat/completions"
                    return client.post(where, json=body, headers=headers).status_code
                except httpx.TransportError:
                    return 0

        with ThreadPoolExecutor(4) as pool:
            return list(pool.map(one, range(number)))

    def read(self, endpoint: str) -> SignalReading | None:
        backends = [Backend(variant, "service", name=variant) for variant in (V1, V2)]
        try:
            found = self.signals.read_all({endpoint: backends})[endpoint]
        except HeadgateError as error:
            found = error
        self.last = found
        return found if isinstance(found, SignalReading) else None

    def arm_when(
        self, endpoint: str, variant: str, what: str, check: Callable[[ArmReading], object]
    ) -> ArmReading:
        def look() -> ArmReading | None:
            found = self.read(endpoint)
            arm = found.targets["edge-0"].arms.get(variant) if found is not None else None
            return arm if arm is not None and check(arm) else None

        try:
            arm = wait_until(what, look, 30)
        except AssertionError as error:
            raise AssertionError(f"{error}; read last: {self.last}") from None
        assert arm is not None
        return arm


@pytest.fixture(scope="module")
def running(kubernetes_lab: KubernetesLab, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Watched]:
    with edge_in(kubernetes_lab, "gateway-signals") as edge:
        pods = {variant: edge.cluster.pods(variant)[0]["metadata"]["name"] for variant in (V1, V2)}
        jobs: dict[str, dict[str, dict[str, str]]] = {
            "gateways": {open_metrics(kubernetes_lab): {"namespace": "edge", "pod": "edge-0"}},
            "engines": {
                f"{edge.address(variant)}/metrics": {"namespace": "gateway-signals", "pod": pod}
                for variant, pod in pods.items()
            },
            "kubelet": {"/containers": {}},
        }
        with running_prometheus(tmp_path_factory.mktemp("prometheus"), jobs) as (prometheus, exporter):
            exporter.pages["/containers"] = (
                'container_start_time_seconds{container="envoy",namespace="edge",pod="edge-0"} 1000\n'
            )
            signals = PrometheusSignals(
                PrometheusServer(prometheus.url),
                ENVOY_GATEWAY,
                edge.router.counted,
                SystemClock(),
                engine_namespace="gateway-signals",
                stale_seconds=10.0,
                settle_seconds=0.5,
            )
            yield Watched(edge, signals)


@pytest.fixture
def watched(running: Watched) -> Watched:
    for variant in (V1, V2):
        running.edge.change(variant, **WELL)
    return running


def classes(arm: ArmReading) -> dict[str, int]:
    """All that is not 0."""
    found = {
        "answered": arm.answered,
        "failed": arm.failed,
        "running": arm.running,
        **arm.refused,
        **arm.abandoned,
    }
    return {name: number for name, number in found.items() if number}


def test_read__answers__are_counted_and_timed_by_the_arm_that_was_drawn(watched: Watched) -> None:
    endpoint = watched.endpoint(5_000)
    watched.edge.change(V2, latency_ms=300)
    assert watched.send(endpoint, 40) == [200] * 40

    def all_ended() -> bool:
        found = watched.read(endpoint)
        arms = found.targets["edge-0"].arms if found is not None else {}
        return [sum(arm.ended for arm in arms.values()), len(arms)] == [40, 2]

    wait_until("all are counted", all_ended)
    for variant in (V1, V2):
        arm = watched.arm_when(endpoint, variant, "it is counted", lambda arm: arm.running == 0)
        assert set(classes(arm)) == {"answered"}
    slow = watched.arm_when(endpoint, V2, "it is timed", lambda arm: "duration" in arm.latency).latency[
        "duration"
    ]
    below = dict(zip(slow.edges, slow.at_or_below, strict=True))
    assert (below[0.25], below[2.5]) == (0, slow.total)


def test_read__forced_requests_and_model_lists__are_in_no_arm(watched: Watched) -> None:
    endpoint = watched.endpoint(5_000)
    host = watched.edge.place.host(endpoint)
    for _ in range(5):
        assert watched.edge.user.infer(host, V2) == V2
        watched.edge.user.ask(host, "")
    (status,) = watched.send(endpoint, 1)
    assert status == 200

    def counted() -> int:
        found = watched.read(endpoint)
        return sum(arm.arrived for arm in found.targets["edge-0"].arms.values()) if found else 0

    assert wait_until("it is counted", counted) == 1


@pytest.mark.parametrize(
    ("behaviour", "stream", "seen", "ended"),
    [
        ({"error_rate": 1}, False, 500, "failed"),
        ({"refuse_rate": 1, "refuse_status": 400}, False, 400, "request"),
        ({"refuse_rate": 1, "refuse_status": 429}, False, 429, "rate"),
        ({"cut_rate": 1, "tokens": 5}, True, 0, "failed"),
    ],
    ids=["error", "refused", "full", "broken stream"],
)
def test_read__ending__is_in_its_class(
    watched: Watched, behaviour: dict[str, float], stream: bool, seen: int, ended: str
) -> None:
    endpoint = watched.endpoint()
    watched.edge.change(V2, **behaviour)
    assert watched.send(endpoint, 3, stream=stream) == [seen] * 3
    arm = watched.arm_when(endpoint, V2, "all are counted", lambda arm: arm.arrived - arm.running == 3)
    assert classes(arm) == {ended: 3}


@pytest.mark.parametrize("stream", [False, True], ids=["before the headers", "midway"])
def test_read__client_leaves__is_abandoned_and_no_error(watched: Watched, stream: bool) -> None:
    endpoint = watched.endpoint()
    watched.edge.change(V2, **({"tokens": 5, "token_ms": 20_000} if stream else {"hang_rate": 1}))
    assert watched.send(endpoint, 3, stream=stream, leave=1.0) == [0] * 3
    arm = watched.arm_when(endpoint, V2, "all are counted", lambda arm: arm.arrived - arm.running == 3)
    assert classes(arm) == {"midway": 3}


def test_read__requests_that_hang__run(watched: Watched) -> None:
    endpoint = watched.endpoint()
    watched.edge.change(V2, hang_rate=1)
    with ThreadPoolExecutor(1) as pool:
        sent = pool.submit(watched.send, endpoint, 2, leave=8.0)
        arm = watched.arm_when(endpoint, V2, "they are counted", lambda arm: arm.arrived == 2)
        assert classes(arm) == {"running": 2}
        sent.result()


def test_read__engines__are_read_by_pod(watched: Watched) -> None:
    endpoint = watched.endpoint()

    def read() -> SignalReading | None:
        found = watched.read(endpoint)
        return found if found is not None and set(found.engines) == {V1, V2} else None

    before = wait_until("engines are read", read)
    watched.send(endpoint, 3)

    def later() -> bool:
        found = read()
        assert before is not None
        return found is not None and (
            found.engines[V2].endings["stop"] - before.engines[V2].endings.get("stop", 0) == 3
        )

    wait_until("its answers are counted", later)
