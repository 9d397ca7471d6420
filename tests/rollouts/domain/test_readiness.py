"""What a dry run says of the counters that a policy's gates read."""

from __future__ import annotations

from dataclasses import replace

import pytest

from controlplane.kernel.errors import Unavailable
from rollouts.domain.gates.policy import GatePolicy, GateSpec
from rollouts.domain.readiness import (
    CountedVariant,
    counter_checks,
    counters_unreadable,
    kinds_missing,
    kinds_read,
    readiness_checks,
    unreadable,
)
from rollouts.domain.record.asked import AskedReading, CounterAnswer, ProcessCounters
from rollouts.domain.record.numbers import NumberReading
from rollouts.domain.record.readings import (
    ArmReading,
    CountedKind,
    EngineReading,
    HistogramReading,
    SignalReading,
    TargetReading,
)
from rollouts.domain.strategies.dry_run import Check

V1 = "chat-v1-aaaa"
ERRORS = GateSpec(key="errors", label="Error rate", kind="error_rate", mode="strict", weight=0.5, delta=0.01)
TTFT = GateSpec(
    key="ttft", label="First token", kind="latency_slo", mode="tolerant", weight=0.3, signal="ttft",
    slo_seconds=0.5, ratio=1.25,
)  # fmt: skip
EMPTY = GateSpec(key="empty", label="Empty", kind="empty", mode="tolerant", weight=0.2, delta=0.02)
GOLDEN = GateSpec(key="golden", label="Golden", kind="paired", mode="tolerant", weight=0.5, margin=0.05)
THUMBS = GateSpec(key="thumbs", label="Thumbs", kind="feedback", mode="tolerant", weight=0.5, delta=0.03)
POLICY = GatePolicy(name="p", version=1, gates=(ERRORS, TTFT, EMPTY))
QUERIES = {kind: f"ask for {kind.value}" for kind in CountedKind}

TIMED = ArmReading(arrived=9, answered=9, latency={"ttft": HistogramReading((0.5,), (9,), 9)})
ENGINE = EngineReading(1.0, 0.0, 0.2, 100, endings={"stop": 9}, empty=0)
NOW = 1_000.0


def seen(
    arm: ArmReading | None = TIMED,
    engine: EngineReading | None = ENGINE,
    *,
    per_minute: float = 25.0,
    broken: str = "",
) -> CountedVariant:
    reading = SignalReading(
        at=NOW - 3,
        targets={
            "gw-a": TargetReading(1.0, {} if arm is None else {V1: arm}),
            "gw-b": TargetReading(1.0, {}),
        },
        engines={} if engine is None else {V1: engine},
        broken={V1: broken} if broken else {},
    )
    return CountedVariant(V1, reading, NOW, per_minute)


def said(found: CountedVariant, policy: GatePolicy = POLICY) -> tuple[Check, ...]:
    return readiness_checks(policy, found, kinds_missing(policy, found), QUERIES)


def test_kinds__of_a_policy__are_those_of_its_counters_with_the_gates() -> None:
    assert kinds_read(POLICY) == {
        CountedKind.REQUESTS: ("Error rate",),
        CountedKind.TTFT: ("First token",),
        CountedKind.COMPLETIONS: ("Empty",),
    }


def test_readiness__all_is_counted__says_how_much_and_how_old() -> None:
    assert said(seen()) == (
        Check(
            "ok",
            f"{V1} is counted: 25 requests a minute",
            "counters 3 s old; read by Error rate, First token, Empty",
        ),
    )


def test_readiness__few_requests__are_told_in_full() -> None:
    assert said(seen(per_minute=0.25))[0].title.endswith("0.25 requests a minute")


def test_readiness__counted_and_nobody_asked_yet__is_plainly_said_and_no_error() -> None:
    idle = seen(ArmReading(), EngineReading(0.0, 0.0, 0.0, 0, empty=0), per_minute=0.0)
    (check,) = said(idle)
    assert (check.state, check.title) == ("ok", f"{V1} is counted: no request in the last hour")


def test_readiness__arm_without_series__names_all_gates_of_it_once_and_the_query() -> None:
    (check,) = said(seen(None))
    assert check.state == "warning"
    assert check.title == f"Cannot judge Error rate, First token: no fresh series of {V1}"
    assert check.detail == "25 requests a minute were counted in the last hour. Query: ask for requests"
    assert (check.code, bool(check.fix)) == ("signals-missing", True)


def test_readiness__no_series_and_no_traffic__says_that_they_may_begin_with_it() -> None:
    (check,) = said(seen(None, per_minute=0.0))
    assert check.detail.startswith("No request came in the last hour, so that its counters may only begin")


def test_readiness__answers_that_nobody_timed__names_the_latency_gate_alone() -> None:
    (check,) = said(seen(replace(TIMED, latency={})))
    assert (
        check.title == f"Cannot judge First token: 9 answers of {V1} were counted, and none of them was timed"
    )
    assert check.detail.endswith("Query: ask for ttft")


@pytest.mark.parametrize(
    ("engine", "broken", "why"),
    [
        (None, "its pods are gone", "its pods are gone"),
        (None, "", f"no engine of {V1} was read"),
        (replace(ENGINE, empty=None), "", f"the engine of {V1} does not say how its answers end"),
        (replace(ENGINE, endings={}), "", f"the engine of {V1} does not say how its answers end"),
    ],
)
def test_readiness__engine_says_nothing__names_the_gates_of_completions(
    engine: EngineReading | None, broken: str, why: str
) -> None:
    (check,) = said(seen(engine=engine, broken=broken))
    assert check.title == f"Cannot judge Empty: {why}"


def test_readiness__several_reasons__are_a_warning_each() -> None:
    assert [check.title.partition(":")[0] for check in said(seen(None, None))] == [
        "Cannot judge Error rate, First token",
        "Cannot judge Empty",
    ]


def test_readiness__kind_that_the_source_does_not_count__says_so_instead_of_a_query() -> None:
    found = seen(engine=None)
    (check,) = readiness_checks(POLICY, found, kinds_missing(POLICY, found), {})
    assert check.detail.endswith("This source does not count it.")
    assert check.fix == ""


def test_readiness__policy_without_counters__says_nothing() -> None:
    policy = GatePolicy(name="p", version=1, gates=(GOLDEN, THUMBS))
    assert said(seen(None, None), policy) == ()
    assert unreadable(policy, Unavailable("away")) == ()


def test_unreadable__source_away__is_a_warning_with_its_words_and_the_gates() -> None:
    (check,) = unreadable(POLICY, Unavailable("It is away.", fix="Start it."))
    assert (check.state, check.fix, check.code) == ("warning", "Start it.", "signals-unreadable")
    assert (
        check.detail == "It is away. Without them these gates cannot judge: Error rate, First token, Empty."
    )


LEFT = GateSpec(key="left", label="Departures", kind="abandoned", mode="tolerant", weight=0.5, delta=0.02)
BOTH = GatePolicy(name="p", version=1, gates=(ERRORS, LEFT))


def test_readiness__router_that_cannot_tell_who_left__cannot_judge_departures_alone_and_says_the_remedy() -> (
    None
):
    (check,) = said(seen(ArmReading(arrived=50, answered=47, abandoned={"midway": 3}, unheld=50)), BOTH)
    assert check.title == (
        "Cannot judge Departures: the gateway cannot tell who left from who had the whole answer and closed the"
        " connection then (50 of 50 answers)"
    )
    assert check.detail.endswith("Query: ask for departures")
    assert "deploy/kubernetes/whole-answers.yaml" in check.fix


def test_readiness__router_that_tells_who_left__judges_departures() -> None:
    (check,) = said(seen(ArmReading(arrived=50, answered=47, abandoned={"midway": 3})), BOTH)
    assert check.state == "ok"


def test_readiness__no_series_at_all__is_one_reason_for_departures_too() -> None:
    (check,) = said(seen(None), BOTH)
    assert check.title == f"Cannot judge Error rate, Departures: no fresh series of {V1}"


# --- counters of a team's own -----------------------------------------------------------------------------------------

TOOLS = GateSpec(
    key="tools", label="Tool calls", kind="counter_ratio", mode="strict", weight=1.0, delta=0.02,
    bad_query='bad{v="{{variant}}"}', all_query='all{v="{{variant}}"}',
)  # fmt: skip
OWN = GatePolicy(name="p", version=1, gates=(TOOLS,))
ASKED = ("bad{v='v1'}", "all{v='v1'}")


def own(answer: CounterAnswer) -> Check:
    assert TOOLS.counters is not None
    (check,) = counter_checks(OWN, V1, {TOOLS.counters: answer}, at=NOW)
    return check


def counted(bad: int, every: int) -> CounterAnswer:
    processes = {"a": ProcessCounters({"s": bad}, {"t": every}), "b": ProcessCounters({}, {"t": 0})}
    return CounterAnswer(AskedReading(NOW - 4, processes), queries=ASKED)


def test_counters__fresh_and_many__says_how_many_and_how_old() -> None:
    assert own(counted(3, 1_200)) == Check(
        "ok",
        f"{V1} is counted for Tool calls",
        "3 of 1,200 events were bad since its 2 processes started; counters 4 s old",
    )


@pytest.mark.parametrize(
    ("answer", "why"),
    [
        (
            CounterAnswer(why="its bad_query has no fresh series", queries=ASKED),
            "its bad_query has no fresh series",
        ),
        (counted(0, 0), "none of its events was counted yet"),
        (counted(9, 3), "there are more bad events (9) than events (3); are the two exchanged?"),
    ],
)
def test_counters__absent_idle_or_exchanged__cannot_judge_with_both_queries(
    answer: CounterAnswer, why: str
) -> None:
    check = own(answer)
    assert (check.state, check.title, check.code) == (
        "warning",
        f"Cannot judge Tool calls: {why}",
        "signals-missing",
    )
    assert check.detail == f"bad_query: {ASKED[0]}; all_query: {ASKED[1]}"
    assert "Ask both by hand" in check.fix


def test_counters__cluster_without_a_prometheus__cannot_judge_and_asks_for_nothing() -> None:
    check = own(CounterAnswer(why="this cluster has no Prometheus"))
    assert check.title == "Cannot judge Tool calls: this cluster has no Prometheus"
    assert (check.detail, check.fix) == ("This source is not asked for it.", "")


def test_counters_unreadable__source_away__cannot_judge_with_its_words() -> None:
    (check,) = counters_unreadable(OWN, Unavailable("It is away."))
    assert check.title == "Cannot judge Tool calls: It is away"
    assert counters_unreadable(POLICY, Unavailable("It is away.")) == ()


# --- a number of a team's own -----------------------------------------------------------------------------------------

HEAT = GateSpec.from_json(
    {
        "key": "heat", "label": "GPU temperature", "kind": "metric_limit", "limit": 85, "direction": "at_most",
        "query": 'max(t{v="{{variant}}"})',
    }
)  # fmt: skip
LIMITED = GatePolicy(name="p", version=1, gates=(TOOLS, HEAT))


def limited(answer: CounterAnswer) -> Check:
    assert HEAT.number is not None
    (check,) = counter_checks(LIMITED, V1, {HEAT.number: answer}, at=NOW)
    return check


def test_number__within_its_limit__is_said_with_the_limit() -> None:
    assert limited(CounterAnswer(number=NumberReading(71.5, NOW))) == Check(
        "ok", f"{V1} is read for GPU temperature", "71.5 now; it must be at most 85"
    )


def test_number__variant_that_serves_is_beyond_it__is_warned_of() -> None:
    check = limited(CounterAnswer(number=NumberReading(90.2, NOW)))
    assert (check.state, check.code) == ("warning", "beyond-limit")
    assert (
        check.title == f"{V1} itself is beyond the limit of GPU temperature: 90.2, and it must be at most 85"
    )


def test_number__absent__cannot_judge_with_the_query() -> None:
    check = limited(CounterAnswer(why="its query has no fresh series of v1", queries=("max(t{v='v1'})",)))
    assert (check.state, check.code) == ("warning", "signals-missing")
    assert check.title == "Cannot judge GPU temperature: its query has no fresh series of v1"
    assert check.detail == "query: max(t{v='v1'})"
    assert "Ask it by hand" in check.fix


def test_counters_unreadable__source_away__cannot_judge_the_number_either() -> None:
    titles = [check.title for check in counters_unreadable(LIMITED, Unavailable("It is away."))]
    assert titles == ["Cannot judge Tool calls: It is away", "Cannot judge GPU temperature: It is away"]
