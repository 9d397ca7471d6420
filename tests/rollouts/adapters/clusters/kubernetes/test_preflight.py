"""What a cluster says of the room for variants, and how often and how long it is asked."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from typing import Any, cast

import pytest
from hypothesis import given

from controlplane.kernel.clock import ManualClock
from controlplane.kernel.errors import NotFound
from registry.domain.manifest import Manifest, ManifestEntry
from rollouts.adapters.clusters.kubernetes.client import KubernetesClient
from rollouts.adapters.clusters.kubernetes.container import CONTAINER_ENGINES
from rollouts.adapters.clusters.kubernetes.errors import namespace_fix
from rollouts.adapters.clusters.kubernetes.preflight import Preflight
from rollouts.domain.accelerators import Accelerators
from rollouts.domain.capacity.engine_memory import GIB
from rollouts.domain.capacity.findings import CapacityFinding, Room
from rollouts.ports import PlannedLaunches, WorkloadSpec
from tests.rollouts.adapters.clusters.kubernetes.api_server import (
    NO_NAMESPACE,
    ScriptedServer,
    scripted_server,
    status,
)
from tests.rollouts.adapters.clusters.kubernetes.cluster_objects import (
    GPU,
    listed,
    raw_node,
    raw_pod,
    raw_quota,
    raw_range,
)
from tests.rollouts.adapters.clusters.kubernetes.profiles import profile_of
from tests.rollouts.adapters.clusters.kubernetes.specs import spec_of
from tests.rollouts.domain.capacity.public_models import LLAMA_8B, LLAMA_8B_BYTES, manifest_of, written
from tests.standins.odd import odd_values
from tests.standins.running import wait_until

TRIED = (
    201,
    {"kind": "ConfigMap", "metadata": {"name": "headgate-x7k2p"}},
)  # what was to be made by a dry run
H100 = {f"{GPU}.memory": "81559"}


@pytest.fixture
def server() -> Iterator[ScriptedServer]:
    with scripted_server() as script:
        yield script


@pytest.fixture
def clock() -> ManualClock:
    return ManualClock(datetime(2026, 1, 1, tzinfo=UTC))


Make = Callable[..., Preflight]


@pytest.fixture
def make(server: ScriptedServer, clock: ManualClock) -> Make:
    def made(client: Any = None, *, wait_seconds: float = 30.0, **profile: Any) -> Preflight:
        return Preflight(
            cast(KubernetesClient, client or KubernetesClient(server.api_client, "team-a")),
            profile_of(headroom_percent=0, **profile),
            "8d1f2c",
            CONTAINER_ENGINES,
            clock,
            wait_seconds=wait_seconds,
        )

    return made


def on_gpus(**changes: Any) -> WorkloadSpec:
    given = {"accelerators": Accelerators(1, GPU), "manifest": manifest_of(LLAMA_8B_BYTES), **changes}
    return spec_of(**{"arguments": {"max-model-len": 8192}, **given})


def no_config(variant: str) -> bytes:
    raise NotFound(f"nobody has the config.json of {variant}.")


def config_of_llama(variant: str) -> bytes:
    return written(LLAMA_8B)


def planned(*specs: WorkloadSpec, config: Callable[[str], bytes] = config_of_llama) -> PlannedLaunches:
    return PlannedLaunches(specs or (on_gpus(),), config)


def answers(nodes: Any, pods: Any = ()) -> list[tuple[int, Any]]:
    return [TRIED, listed(*nodes), listed(*pods), listed(), listed()]


def rooms(found: tuple[CapacityFinding, ...]) -> list[Room]:
    return [one.room for one in found]


# --- what is said -----------------------------------------------------------------------------------------------------


def test_findings__room_and_memory__are_said_with_their_figures(make: Make, server: ScriptedServer) -> None:
    server.answers = answers([raw_node("a", labels=H100)], [raw_pod("other", "a", gpus=5)])
    room, memory = make().findings(planned())
    assert (room.room, room.title) == (Room.ENOUGH, "1 replica fits beside what runs")
    assert "1 x nvidia.com/gpu are needed, 3 x nvidia.com/gpu are free on nodes" in room.detail
    assert (memory.room, memory.title) == (Room.ENOUGH, "chat-v7-3f9a1c fits on its accelerators")
    assert "15 GiB for weights" in memory.detail
    assert "of 79.6 GiB" in memory.detail


def test_findings__several_variants__are_placed_together_and_fit_each_by_itself(
    make: Make, server: ScriptedServer
) -> None:
    server.answers = answers([raw_node("a", gpus=1, labels=H100)])
    small, large = on_gpus(), on_gpus(variant="chat-v8-aaaa", manifest=manifest_of(90 * GIB))
    found = make().findings(planned(small, large))
    assert rooms(found) == [Room.SHORT, Room.ENOUGH, Room.SHORT]
    assert found[0].title == "2 replicas do not fit; 1 would now"
    assert found[2].title == "chat-v8-aaaa does not fit on its accelerators"


def test_findings__no_accelerators__says_nothing_of_their_memory(make: Make, server: ScriptedServer) -> None:
    server.answers = answers([raw_node("a")])
    assert rooms(make().findings(planned(spec_of(), config=no_config))) == [Room.ENOUGH]


def test_findings__config_that_cannot_be_had__is_not_known_with_the_reason(
    make: Make, server: ScriptedServer
) -> None:
    server.answers = answers([raw_node("a", labels=H100)])
    room, memory = make().findings(planned(config=no_config))
    assert (room.room, memory.room) == (Room.ENOUGH, Room.UNKNOWN)
    assert memory.detail == "nobody has the config.json of chat-v7-3f9a1c."


@pytest.mark.parametrize("config", [b"", b"{}", b"[" * 9_000, b'{"model_type": "strange"}', b"\xff"])
def test_findings__config_that_lies__is_not_known(make: Make, server: ScriptedServer, config: bytes) -> None:
    server.answers = answers([raw_node("a", labels=H100)])
    assert rooms(make().findings(planned(config=lambda variant: config))) == [Room.ENOUGH, Room.UNKNOWN]


def test_findings__accelerators_whose_memory_nobody_says__are_not_known_and_no_config_is_read(
    make: Make, server: ScriptedServer
) -> None:
    server.answers = answers([raw_node("a")])
    _, memory = make().findings(planned(config=no_config))
    assert memory.room is Room.UNKNOWN
    assert "the label nvidia.com/gpu.memory" in memory.detail


def test_findings__nothing_to_launch__asks_nobody(make: Make, server: ScriptedServer) -> None:
    assert make().findings(PlannedLaunches((), no_config)) == ()
    assert server.asked == []


def test_findings__what_is_not_judged__is_not_known_and_nobody_is_asked(
    make: Make, server: ScriptedServer
) -> None:
    strict = [{"label": one, "strict": True} for one in ("zone", "rack")]
    (found,) = make(spread=strict).findings(planned())
    assert (found.room, found.title) == (Room.UNKNOWN, "Whether the cluster has room is not known")
    assert server.asked == []


def test_findings__what_a_launch_would_refuse__is_said_of_its_variant_and_nobody_is_asked(
    make: Make, server: ScriptedServer
) -> None:
    entries = [ManifestEntry(f"checkpoints/{number}.bin", 1, "aa" * 32) for number in range(12_000)]
    many = on_gpus(variant="chat-v9-3f9a1c", manifest=Manifest.of(entries))
    (found,) = make().findings(planned(on_gpus(), many))
    assert (found.room, found.title) == (Room.SHORT, "chat-v9-3f9a1c cannot be started there")
    assert "12,000 files" in found.detail
    assert found.fix
    assert server.asked == []


def test_findings__namespace_that_is_not_there__is_to_be_created(make: Make, server: ScriptedServer) -> None:
    server.answers = [NO_NAMESPACE]
    (found,) = make().findings(planned())
    assert (found.room, found.title) == (Room.SHORT, "Nothing can be started there")
    assert found.fix == namespace_fix("team-a")


# --- a server that refuses, lies or hangs -----------------------------------------------------------------------------


def test_findings__role_lacks_a_verb__is_not_known_and_names_it(make: Make, server: ScriptedServer) -> None:
    words = 'nodes is forbidden: User "h" cannot list resource "nodes" in API group "" at the cluster scope'
    server.answers = [TRIED, status(403, words)]
    (found,) = make().findings(planned())
    assert (found.room, found.title) == (Room.UNKNOWN, "Whether the cluster has room cannot be asked now")
    assert "lacks the verb list of nodes" in found.detail


@pytest.mark.parametrize("body", ["", "null", "<html>", '{"metadata": {"resourceVersion": "7"}, "items": 7}'])
def test_findings__answer_that_is_no_list__is_not_known(
    make: Make, server: ScriptedServer, body: str
) -> None:
    server.answers = [TRIED, (200, body)]
    assert rooms(make().findings(planned())) == [Room.UNKNOWN]


class Reached:
    """A client whose namespace is there."""

    namespace = "team-a"

    def try_to_create(self, body: Any) -> None:
        pass


class Lying(Reached):
    """A client whose lists hold what a test drew, by kind."""

    def __init__(self, **lists: Any) -> None:
        self.lists = lists

    def pages(self, kind: Any, *, fields: str = "") -> Iterator[tuple[list[dict[str, Any]], str]]:
        yield [one for one in self.lists.get(kind.name, []) if isinstance(one, dict)], "7"


@given(
    odd_values(raw_node("b", labels=H100)),
    odd_values(raw_pod("other", "a", gpus=1)),
    odd_values(raw_quota(hard={f"requests.{GPU}": "8"}, used={f"requests.{GPU}": "6"})),
    odd_values(raw_range({"type": "Container", "max": {"memory": "400Gi"}})),
)
def test_findings__lists_with_something_odd__are_findings_that_a_page_can_show(
    node: Any, pod: Any, quota: Any, bound: Any
) -> None:
    client = Lying(
        Node=[raw_node("a", labels=H100), node], Pod=[pod], ResourceQuota=[quota], LimitRange=[bound]
    )
    preflight = Preflight(
        cast(KubernetesClient, client),
        profile_of(headroom_percent=0),
        "8d1f2c",
        CONTAINER_ENGINES,
        ManualClock(datetime(2026, 1, 1, tzinfo=UTC)),
        wait_seconds=30.0,
    )
    found = preflight.findings(planned())
    assert found
    assert "could not be read" not in found[0].detail  # our own error would be a bug
    assert all((one.title + one.detail + one.fix).encode() for one in found)


@pytest.mark.parametrize("name", ["\ud800", "a\x00b", "<b>x</b>", "x" * 300, ""])
def test_findings__node_with_an_odd_name__is_left_out_in_words_that_a_page_can_show(name: str) -> None:
    odd = raw_node("b", allocatable={"cpu": "lots"})
    odd["metadata"]["name"] = name
    client = Lying(Node=[raw_node("a", labels=H100), odd])
    preflight = Preflight(
        cast(KubernetesClient, client), profile_of(), "8d1f2c", CONTAINER_ENGINES,
        ManualClock(datetime(2026, 1, 1, tzinfo=UTC)), wait_seconds=30.0,
    )  # fmt: skip
    room = preflight.findings(planned())[0]
    assert "cannot be understood" in room.detail
    assert room.detail.encode()
    assert len(room.detail) < 1_000


@pytest.mark.parametrize("name", ["\ud800", "a\x00b", "x" * 100_000])
def test_findings__quota_of_something_with_an_odd_name__is_told_in_words_that_a_page_can_show(
    name: str,
) -> None:
    quota = raw_quota(hard={f"limits.{name}": "8"})
    client = Lying(Node=[raw_node("a", labels=H100)], ResourceQuota=[quota])
    preflight = Preflight(
        cast(KubernetesClient, client), profile_of(), "8d1f2c", CONTAINER_ENGINES,
        ManualClock(datetime(2026, 1, 1, tzinfo=UTC)), wait_seconds=30.0,
    )  # fmt: skip
    room = preflight.findings(planned())[0]
    assert "takes no pod that does not say its limits." in room.detail
    assert room.detail.encode()
    assert len(room.detail) < 2_000


class Hanging(Reached):
    """A client whose lists come once they are let go."""

    def __init__(self) -> None:
        self.go = threading.Event()
        self.asked = 0

    def pages(self, kind: Any, *, fields: str = "") -> Iterator[tuple[list[dict[str, Any]], str]]:
        self.asked += 1
        assert self.go.wait(60)
        yield ([raw_node("a", labels=H100)] if kind.name == "Node" else []), "7"


def test_findings__server_that_hangs__is_told_within_the_time_and_known_for_who_asks_next(
    make: Make, clock: ManualClock
) -> None:
    client = Hanging()
    preflight = make(client, wait_seconds=0.05)
    (found,) = preflight.findings(planned())
    assert (found.room, found.title) == (Room.UNKNOWN, "Whether the cluster has room cannot be asked now")
    assert found.detail == "The cluster did not say within 0.05 s what it has."
    clock.advance(60)  # whoever asks later asks no second time, and does not wait
    assert rooms(preflight.findings(planned())) == [Room.UNKNOWN]
    assert client.asked == 1
    client.go.set()
    wait_until("the answer is there", lambda: rooms(preflight.findings(planned()))[0] is Room.ENOUGH)
    assert client.asked == 4


def test_findings__asked_again_at_once__are_of_the_same_reading(
    make: Make, server: ScriptedServer, clock: ManualClock
) -> None:
    server.answers = answers([raw_node("a", labels=H100)])
    preflight = make()
    first = preflight.findings(planned())
    clock.advance(9)
    assert preflight.findings(planned()) == first
    assert len(server.asked) == 5


def test_findings__asked_after_a_while__are_read_anew(
    make: Make, server: ScriptedServer, clock: ManualClock
) -> None:
    server.answers = answers([raw_node("a", labels=H100)]) + answers([raw_node("a", gpus=0)])
    preflight = make()
    assert rooms(preflight.findings(planned()))[0] is Room.ENOUGH
    clock.advance(11)
    assert rooms(preflight.findings(planned()))[0] is Room.SHORT


def test_findings__error__is_kept_as_long_and_no_longer(
    make: Make, server: ScriptedServer, clock: ManualClock
) -> None:
    server.answers = [status(503, "busy"), *answers([raw_node("a", labels=H100)])]
    preflight = make()
    assert rooms(preflight.findings(planned())) == [Room.UNKNOWN]
    assert rooms(preflight.findings(planned())) == [Room.UNKNOWN]
    clock.advance(11)
    assert rooms(preflight.findings(planned()))[0] is Room.ENOUGH


def test_findings__bug_while_it_is_read__is_told_and_nobody_waits_for_it(make: Make) -> None:
    class Broken(Reached):
        def pages(self, kind: Any, *, fields: str = "") -> Iterator[Any]:
            raise RuntimeError("a bug")

    (found,) = make(Broken()).findings(planned())
    assert (found.room, found.detail) == (Room.UNKNOWN, "What the cluster has could not be read.")


def test_findings__many_at_once__ask_once(make: Make) -> None:
    client = Hanging()
    preflight = make(client)
    found: list[tuple[CapacityFinding, ...]] = []
    threads = [threading.Thread(target=lambda: found.append(preflight.findings(planned()))) for _ in range(5)]
    for thread in threads:
        thread.start()
    client.go.set()
    for thread in threads:
        thread.join(60)
    assert (len(found), client.asked) == (5, 4)
