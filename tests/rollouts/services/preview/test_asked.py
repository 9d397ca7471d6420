"""What the dry run asks the cluster and the counters, and what it says when they hang, lie or are away."""

from __future__ import annotations

import threading
from collections.abc import Collection, Iterator, Mapping
from dataclasses import replace
from typing import Any

import pytest

from controlplane.access.actors import HEADGATE, Actor
from controlplane.access.roles import Role
from controlplane.kernel.clock import ManualClock
from controlplane.kernel.errors import HeadgateError, Unavailable
from rollouts import wiring
from rollouts.adapters.clusters.memory import MemoryCluster
from rollouts.domain.bandits import BanditSpec
from rollouts.domain.capacity.findings import CapacityFinding, Room
from rollouts.domain.gates.policy import GateSpec
from rollouts.domain.lifecycle.plan import Plan
from rollouts.domain.record.asked import CounterAnswer
from rollouts.domain.record.readings import (
    ROUTER,
    ArmReading,
    CountedKind,
    EngineReading,
    Failures,
    HistogramReading,
    SignalReading,
    TargetReading,
)
from rollouts.domain.strategies import STRATEGIES
from rollouts.domain.strategies.dry_run import Check
from rollouts.domain.variants import ServingSpec
from rollouts.models import Endpoint, Workload
from rollouts.ports import Backend, CounterQuestion
from rollouts.services.commands.start import start_rollout
from rollouts.services.policies.versions import define_gate_policy
from rollouts.services.preview import asked
from rollouts.services.preview.rollout import preview_rollout
from rollouts.services.world import World, Worlds
from tests import factories
from tests.rollouts.worlds import worlds_of

pytestmark = pytest.mark.django_db

NOW = factories.right_now()
PLANS = {"canary": factories.PLAN, "bandit": Plan("bandit", (), settings=BanditSpec())}
TTFT = {"ttft": HistogramReading((0.5,), (7,), 7)}


class Counted:
    """A source of signals whose reading a test sets."""

    def __init__(self, stable: str) -> None:
        arm = ArmReading(arrived=7, answered=7, latency=TTFT)
        engine = EngineReading(1.0, 0.0, 0.2, 70, endings={"stop": 7}, empty=0)
        self.said: SignalReading | HeadgateError = SignalReading(
            NOW.timestamp() - 2, {ROUTER: TargetReading(1.0, {stable: arm})}, {stable: engine}
        )
        self.asked = 0
        self.counters_asked: list[CounterQuestion] = []

    def read_all(
        self, backends: Mapping[str, Collection[Backend]]
    ) -> Mapping[str, SignalReading | HeadgateError]:
        self.asked += 1
        return dict.fromkeys(backends, self.said)

    def queries(self, endpoint: str, backend: Backend) -> Mapping[CountedKind, str]:
        return {kind: f"{kind.value} of {backend.variant}" for kind in CountedKind}

    def read_counters(
        self, questions: Collection[CounterQuestion]
    ) -> Mapping[CounterQuestion, CounterAnswer]:
        self.counters_asked += list(questions)
        return {one: CounterAnswer(why="it is absent", queries=one.asks.expressions) for one in questions}

    def failures(self) -> Mapping[str, Mapping[str, Failures]]:
        return {}


@pytest.fixture
def endpoint() -> Endpoint:
    made = factories.endpoint(now=NOW)
    factories.minutes_of_traffic(made, minutes=60, now=NOW)
    return made


@pytest.fixture
def cluster(endpoint: Endpoint) -> MemoryCluster:
    made = MemoryCluster(ManualClock(NOW))
    made.allowed["vllm"] = wiring.worlds().of("here").cluster.options("vllm")
    return made


@pytest.fixture
def signals(endpoint: Endpoint) -> Counted:
    assert endpoint.stable is not None
    return Counted(endpoint.stable.name)


@pytest.fixture
def worlds(cluster: MemoryCluster, signals: Counted, endpoint: Endpoint) -> Worlds:
    return worlds_of(changed(cluster=cluster, signals=signals))


def changed(**ports: Any) -> World:
    return replace(wiring.worlds().of("here"), **ports)


def look(endpoint: Endpoint, worlds: Worlds, strategy: str = "canary", **options: Any) -> list[Check]:
    others = (3,) if strategy == "bandit" else ()
    preview = preview_rollout(
        endpoint=endpoint, version_number=2, other_versions=others, plan=PLANS[strategy], worlds=worlds, now=NOW,
        **options,
    )  # fmt: skip
    assert preview.can_start
    return list(preview.checks)


def coded(checks: list[Check], *codes: str) -> list[Check]:
    return [check for check in checks if check.code in codes]


# --- room -------------------------------------------------------------------------------------------------------------


def test_plans__every_strategy__is_tried_here() -> None:
    assert set(PLANS) == set(STRATEGIES)


@pytest.mark.parametrize("strategy", PLANS)
def test_capacity__every_strategy__asks_once_for_all_that_would_be_launched(
    endpoint: Endpoint, worlds: Worlds, cluster: MemoryCluster, strategy: str
) -> None:
    look(endpoint, worlds, strategy, serving=ServingSpec(arguments={"max-model-len": 128}))
    (planned,) = cluster.asked_about
    assert [spec.variant.rsplit("-", 1)[0] for spec in planned.specs] == (
        ["triage-v2"] if strategy == "canary" else ["triage-v2", "triage-v3"]
    )
    assert planned.specs[0].arguments == {"max-model-len": 128}
    assert planned.baseline == endpoint.stable.name  # type: ignore[union-attr]
    assert planned.ending == ()


@pytest.mark.parametrize(
    ("room", "state", "code"),
    [
        (Room.ENOUGH, "ok", ""),
        (Room.TIGHT, "warning", "tight-room"),
        (Room.SHORT, "warning", "little-room"),
        (Room.UNKNOWN, "warning", "room-unknown"),
    ],
)
def test_capacity__finding__is_a_check_that_never_refuses(
    endpoint: Endpoint, worlds: Worlds, cluster: MemoryCluster, room: Room, state: str, code: str
) -> None:
    cluster.says = (CapacityFinding(room, "So it is", "with figures", "do that"),)
    assert Check(state, "So it is", "with figures", "do that", code=code) in look(endpoint, worlds)


def test_capacity__variant_that_is_warm_since_the_last_promotion__ends_with_the_start(
    endpoint: Endpoint, worlds: Worlds, cluster: MemoryCluster
) -> None:
    endpoint.previous = factories.variant(endpoint, 3, now=NOW)
    look(endpoint, worlds)
    assert cluster.asked_about[0].ending == (endpoint.previous.name,)


def test_capacity__variant_of_before_that_takes_part__does_not_end(
    endpoint: Endpoint, worlds: Worlds, cluster: MemoryCluster
) -> None:
    endpoint.previous = factories.variant(endpoint, 3, now=NOW)
    look(endpoint, worlds, "bandit", serving=endpoint.previous.spec)
    (planned,) = cluster.asked_about
    assert [spec.variant.rsplit("-", 1)[0] for spec in planned.specs] == ["triage-v2"]
    assert planned.ending == ()


def test_capacity__candidate_that_runs_already__needs_no_room(
    endpoint: Endpoint, worlds: Worlds, cluster: MemoryCluster
) -> None:
    look(endpoint, worlds, serving=factories.variant(endpoint, 2, now=NOW).spec)
    assert cluster.asked_about == []


def test_capacity__spec_that_the_cluster_refuses__is_not_asked_about(
    endpoint: Endpoint, worlds: Worlds, cluster: MemoryCluster
) -> None:
    preview = preview_rollout(
        endpoint=endpoint, version_number=2, plan=factories.PLAN, worlds=worlds, now=NOW,
        serving=ServingSpec(arguments={"scheduler-cls": "x"}),
    )  # fmt: skip
    assert not preview.can_start
    assert cluster.asked_about == []


def test_capacity__cluster_does_not_answer__is_said_and_is_no_pass(
    endpoint: Endpoint, worlds: Worlds, cluster: MemoryCluster
) -> None:
    cluster.outage = "the cable is cut"
    (check,) = coded(look(endpoint, worlds), "room-unknown")
    assert (check.state, check.title) == ("warning", "Whether the cluster has room cannot be asked now")


def test_capacity__config_of_a_candidate__is_read_when_the_cluster_wants_it_and_refused_with_a_reason(
    endpoint: Endpoint, worlds: Worlds, cluster: MemoryCluster
) -> None:
    look(endpoint, worlds)
    (planned,) = cluster.asked_about
    with pytest.raises(HeadgateError) as caught:
        planned.config(planned.specs[0].variant)
    assert str(caught.value)
    with pytest.raises(HeadgateError, match="none of the variants"):
        planned.config("triage-v9-aaaa")


# --- signals ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("strategy", PLANS)
def test_signals__all_that_gates_read_is_counted__says_how_much_in_one_reading(
    endpoint: Endpoint, worlds: Worlds, signals: Counted, strategy: str
) -> None:
    (check,) = [one for one in look(endpoint, worlds, strategy) if "is counted" in one.title]
    assert check.state == "ok"
    assert "requests a minute" in check.title
    assert check.detail.startswith("counters 2 s old; read by ")
    assert signals.asked == 1


def test_signals__no_series_of_the_baseline__warns_with_the_query(
    endpoint: Endpoint, worlds: Worlds, signals: Counted
) -> None:
    signals.said = SignalReading(NOW.timestamp(), {ROUTER: TargetReading(1.0, {})})
    found = coded(look(endpoint, worlds), "signals-missing")
    assert found[0].state == "warning"
    assert found[0].title.endswith(f"no fresh series of {endpoint.stable}")
    assert f"Query: requests of {endpoint.stable}" in found[0].detail


@pytest.mark.parametrize(
    "error", [Unavailable("It is away.", fix="Start it."), Unavailable("It lies.", fix="Start it.")]
)
def test_signals__cannot_be_read__warns_with_the_words_of_the_source(
    endpoint: Endpoint, worlds: Worlds, signals: Counted, error: HeadgateError
) -> None:
    signals.said = error
    (check,) = coded(look(endpoint, worlds), "signals-unreadable")
    assert (check.state, check.fix) == ("warning", "Start it.")
    assert check.detail.startswith(error.message)


def test_signals__endpoint_without_any_traffic__says_so_plainly_and_no_error(
    endpoint: Endpoint, cluster: MemoryCluster
) -> None:
    fresh = factories.endpoint("quiet", of=endpoint.model, now=NOW)
    assert fresh.stable is not None
    signals = Counted(fresh.stable.name)
    signals.said = SignalReading(
        NOW.timestamp(),
        {ROUTER: TargetReading(1.0, {fresh.stable.name: ArmReading()})},
        {fresh.stable.name: EngineReading(0.0, 0.0, 0.0, 0, empty=0)},
    )
    checks = look(fresh, worlds_of(changed(cluster=cluster, signals=signals)))
    assert [one.state for one in checks if "no request in the last hour" in one.title] == ["ok"]


def test_signals__baseline_that_is_not_reached_yet__asks_nothing(
    endpoint: Endpoint, worlds: Worlds, signals: Counted
) -> None:
    Workload.objects.update(backend={})
    look(endpoint, worlds)
    assert signals.asked == 0


class Hanging(Counted):
    """Answers once it is let go."""

    def __init__(self, stable: str) -> None:
        super().__init__(stable)
        self.go = threading.Event()

    def read_all(
        self, backends: Mapping[str, Collection[Backend]]
    ) -> Mapping[str, SignalReading | HeadgateError]:
        assert self.go.wait(60)
        return super().read_all(backends)


@pytest.fixture
def hanging(
    endpoint: Endpoint, cluster: MemoryCluster, monkeypatch: pytest.MonkeyPatch
) -> Iterator[tuple[Worlds, Hanging]]:
    """A source that hangs; within the test one that hangs is given up soon, and two of them are waited for at most."""
    assert endpoint.stable is not None
    source = Hanging(endpoint.stable.name)
    monkeypatch.setattr(asked, "SIGNALS_SECONDS", 0.05)
    monkeypatch.setattr(asked, "_open", [])
    monkeypatch.setattr(asked, "MOST_OPEN", 2)
    yield worlds_of(changed(cluster=cluster, signals=source)), source
    source.go.set()


def test_signals__source_that_hangs__does_not_hold_the_page(
    endpoint: Endpoint, hanging: tuple[Worlds, Hanging]
) -> None:
    (check,) = coded(look(endpoint, hanging[0]), "signals-unreadable")
    assert check.detail.startswith("The counters were not read within 0.05 s.")


def test_signals__source_that_goes_on_hanging__is_not_asked_more_and_more(
    endpoint: Endpoint, hanging: tuple[Worlds, Hanging]
) -> None:
    for _ in range(2):
        look(endpoint, hanging[0])
    (check,) = coded(look(endpoint, hanging[0]), "signals-unreadable")
    assert check.detail.startswith("The counters are asked already")


def test_signals__bug_of_a_source__is_not_hidden(
    endpoint: Endpoint, worlds: Worlds, signals: Counted, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(backends: object) -> None:
        raise ZeroDivisionError

    monkeypatch.setattr(signals, "read_all", broken)
    with pytest.raises(ZeroDivisionError):
        look(endpoint, worlds)


@pytest.fixture
def tools(endpoint: Endpoint) -> GateSpec:
    """The endpoint's policy has one more gate, on two counters of a team's own."""
    gate = {
        "key": "tools", "label": "Tool calls", "kind": "counter_ratio", "delta": 0.02,
        "bad_query": 'bad{pod=~"{{pods}}"}', "all_query": 'all{pod=~"{{pods}}"}',
    }  # fmt: skip
    body = {"gates": [{"key": "errors", "kind": "error_rate", "delta": 0.01}, gate]}
    endpoint.gate_policy = define_gate_policy(actor=HEADGATE, name="own", body=body, now=NOW)
    endpoint.save()
    return endpoint.gate_policy.policy.gate("tools")


def test_counters__of_a_team__are_asked_of_what_serves_and_cannot_judge_names_both_queries(
    endpoint: Endpoint, worlds: Worlds, signals: Counted, tools: GateSpec
) -> None:
    checks = look(endpoint, worlds)
    (check,) = [one for one in checks if "judge Tool calls" in one.title]
    assert check.title == "Cannot judge Tool calls: it is absent"
    assert check.detail == f"bad_query: {tools.bad_query}; all_query: {tools.all_query}"
    assert [(one.endpoint, one.backend.variant) for one in signals.counters_asked] == [
        (endpoint.name, str(endpoint.stable))
    ]


def test_counters__source_that_cannot_be_read__is_not_asked_a_second_time(
    endpoint: Endpoint, worlds: Worlds, signals: Counted, tools: GateSpec
) -> None:
    signals.said = Unavailable("It is away.")
    checks = look(endpoint, worlds)
    assert [one.title for one in checks if "judge Tool calls" in one.title] == [
        f"Cannot judge {tools.label}: It is away"
    ]
    assert signals.counters_asked == []


def test_counters__policy_without_such_a_gate__asks_nothing(
    endpoint: Endpoint, worlds: Worlds, signals: Counted
) -> None:
    look(endpoint, worlds)
    assert signals.counters_asked == []


# --- the start itself -------------------------------------------------------------------------------------------------


def test_start__what_only_people_read__is_not_asked(
    endpoint: Endpoint, worlds: Worlds, cluster: MemoryCluster, signals: Counted
) -> None:
    start_rollout(
        endpoint=endpoint, version_number=2, plan=factories.PLAN, worlds=worlds, now=NOW,
        actor=Actor.person(factories.person(Role.RELEASE_MANAGER)),
    )  # fmt: skip
    assert (cluster.asked_about, signals.asked) == ([], 0)
