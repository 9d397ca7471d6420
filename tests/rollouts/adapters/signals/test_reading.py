"""How samples become readings, without processes."""

from __future__ import annotations

import re
import threading
from collections import Counter

import httpx
import pytest
from hypothesis import given
from hypothesis import strategies as st

from rollouts.adapters.backends import at_address
from rollouts.adapters.routers.envoy_logs import LEFT_FLAGS, NOTHING, PART, WHOLE
from rollouts.adapters.signals.envoy_stats import OTHER, TURNED_AWAY, arms_of, calls_of
from rollouts.adapters.signals.exposition import Sample, samples
from rollouts.adapters.signals.vllm import AT_ONCE, VllmMetrics, engine_reading
from rollouts.domain.record.readings import ArmReading, EngineReading, HistogramReading

# variant, code, flags, got, stream error
Ended = tuple[str, str, str, str, str]


def tags(ended: Ended, **more: str) -> str:
    """Labels as Envoy writes them, of the arm v2."""
    variant, code, flags, got, error = ended
    found = {"variant": variant, "code": code, "flags": flags, "got": got, "stream_error": error, **more}
    return ",".join(['cluster="assigned/chat/v2"', *(f'{name}="{value}"' for name, value in found.items())])


def line(ended: Ended, number: int = 1) -> str:
    return f"envoy_llm_requests{{{tags(ended)}}} {number}\n"


def classes(arm: ArmReading) -> dict[str, int]:
    found = {"answered": arm.answered, "failed": arm.failed, "fallback": arm.fallbacks}
    return {**found, **arm.refused, **arm.abandoned}


def only(arm: ArmReading) -> str:
    """The one class that the arm's one request is in."""
    (name,) = [name for name, number in classes(arm).items() if number]
    return name


@pytest.mark.parametrize(
    ("ended", "expected"),
    [
        # variant, code, flags, got, stream error: as the real Envoy counted each of them
        (("v2", "200", "-", "whole", ""), "answered"),
        (("v2", "204", "-", "whole", ""), "answered"),
        (("v2", "400", "-", "whole", ""), "request"),
        (("v2", "404", "-", "whole", ""), "request"),
        (("v2", "302", "-", "whole", ""), "request"),
        (("v2", "400", "DC", "part", ""), "request"),  # hung up on the refusal
        (("v2", "429", "-", "whole", ""), "rate"),
        (("", "413", "-", "part", ""), "gateway"),
        (("v2", "408", "SI", "part", ""), "gateway"),  # the client stalled in its upload
        (("v2", "400", "DPE", "part", ""), "gateway"),  # the client sent what is no HTTP
        (("v1", "408", "SI", "part", ""), "gateway"),
        (("v2", "500", "-", "whole", ""), "failed"),
        (("v2", "500", "DC", "part", ""), "failed"),
        (("v1", "500", "-", "whole", ""), "failed"),
        (("", "503", "UH", "part", ""), "failed"),
        (("v2", "503", "URX,UF", "part", ""), "failed"),
        (("v2", "504", "SI", "part", ""), "failed"),  # no first token, headers had not come
        (("v2", "200", "SI", "nothing", ""), "failed"),  # no first token, headers had come
        (("v2", "200", "UC", "part", ""), "failed"),
        (("v2", "200", "UPE", "part", ""), "failed"),
        (("v2", "200", "UC,DC", "part", ""), "failed"),
        (("v1", "200", "UC", "part", ""), "failed"),
        (("v2", "200", "-", "whole", "yes"), "failed"),
        (("v2", "200", "DC", "part", "yes"), "failed"),
        (("v2", "200", "-", "part", ""), "failed"),  # no answer, and nobody left: something new
        (("v2", "200", "NEW", "part", ""), "failed"),
        (("v1", "200", "-", "whole", ""), "fallback"),
        (("v1", "400", "-", "whole", ""), "fallback"),
        (("v1", "200", "DC", "part", ""), "fallback"),
        (("v1", "0", "DC", "nothing", ""), "fallback"),
        (("v2", "0", "DC", "nothing", ""), "before"),
        (("v2", "0", "DR", "nothing", ""), "before"),
        (("v2", "200", "DC", "nothing", ""), "before"),  # a stream: its headers had come
        (("", "0", "DC", "nothing", ""), "before"),
        (("v2", "0", "-", "nothing", ""), "before"),
        (("v2", "499", "-", "whole", ""), "before"),
        (("v2", "200", "DC", "part", ""), "midway"),
        (("v2", "200", "DR", "part", ""), "midway"),
        (("v2", "200", "DPE", "part", ""), "midway"),
        # of a connection that outlived an upgrade
        (("v2", "200", "-", "", ""), "answered"),
        (("v2", "400", "-", "", ""), "request"),
        (("v2", "200", "DC", "", ""), "before"),
        (("v2", "200", "UC", "", ""), "failed"),
    ],
)
def test_arms_of__one_way_to_end__is_booked(ended: Ended, expected: str) -> None:
    arm = arms_of("chat", samples(line(ended)))["v2"]
    assert only(arm) == expected
    assert arm.arrived == 1


ENDS = st.tuples(
    st.sampled_from(["v2", "v1", ""]),
    st.sampled_from(
        ["0", "", "100", "200", "204", "302", "400", "404", "408", "413", "429", "499", "500", "503"]
    ),
    st.lists(
        st.sampled_from([*LEFT_FLAGS, "UC", "UF", "SI", "UT", "UH", "NEW"]), max_size=2, unique=True
    ).map(lambda flags: ",".join(flags) or "-"),
    st.sampled_from([WHOLE, PART, NOTHING, "-", ""]),
    st.sampled_from(["", "yes"]),
)


@given(st.dictionaries(ENDS, st.integers(1, 50), min_size=1), st.integers(0, 500))
def test_arms_of__any_ends__each_in_one_class_and_all_in_the_arrivals(
    ends: dict[Ended, int], still_running: int
) -> None:
    total = sum(ends.values())
    arrived = f'envoy_llm_arrived{{cluster="assigned/chat/v2"}} {total + still_running}\n'
    arm = arms_of("chat", samples(arrived + "".join(line(ended, n) for ended, n in ends.items())))["v2"]
    assert sum(classes(arm).values()) == total
    assert arm.ended + arm.aborted + arm.running == arm.arrived
    assert arm.running == still_running
    one_by_one = [
        only(arms_of("chat", samples(line(ended)))["v2"]) for ended, n in ends.items() for _ in range(n)
    ]
    assert {name: n for name, n in classes(arm).items() if n} == Counter(one_by_one)


@given(ENDS)
def test_arms_of__any_end__is_timed_as_its_class_says(ended: Ended) -> None:
    measured = "".join(
        f"envoy_llm_{name}_count{{{tags(ended)}}} 1\nenvoy_llm_{name}_bucket{{{tags(ended, le='500')}}} 1\n"
        for name in ("ttft", "duration", "left_ttft", "left_duration")
    )
    arm = arms_of("chat", samples(line(ended) + measured))["v2"]
    found = {name for name, histogram in arm.latency.items() if histogram.total}
    found |= {f"left {name}" for name, histogram in arm.left.items() if histogram.total}
    assert found == {
        "answered": {"ttft", "duration"},
        "midway": {"ttft", "left duration"},
        "before": {"left ttft", "left duration"},
    }.get(only(arm), set())


@given(st.integers(0, 20), st.integers(0, 20))
def test_arms_of__ended_while_the_counters_were_read__nothing_runs_and_nothing_is_lost(
    arrived: int, ended: int
) -> None:
    answered = line(("v2", "200", "-", "whole", ""), ended)
    arm = arms_of("chat", samples(f'envoy_llm_arrived{{cluster="assigned/chat/v2"}} {arrived}\n' + answered))[
        "v2"
    ]
    assert (arm.answered, arm.running) == (ended, max(0, arrived - ended))


def test_arms_of__other_endpoints_and_forced_requests__are_left_out() -> None:
    text = (
        'envoy_llm_arrived{cluster="assigned/chat2/v1"} 5\n'
        'envoy_llm_arrived{cluster="answer/chat/v1"} 6\n'
        'envoy_llm_arrived{cluster=""} 7\n'
        'envoy_llm_arrived{cluster="assigned/chat/v1"} 8\n'
    )
    found = arms_of("chat", samples(text))
    assert {variant: arm.arrived for variant, arm in found.items()} == {"v1": 8}


ANSWERED = ("v2", "200", "-", "whole", "")
MIDWAY = ("v2", "200", "DC", "part", "")
BEFORE = ("v2", "0", "DC", "nothing", "")
FALLBACK = ("v1", "200", "-", "whole", "")


def histogram(name: str, ended: Ended, total: int, **at_or_below: int) -> str:
    buckets = {**{le.removeprefix("le"): number for le, number in at_or_below.items()}, "+Inf": total}
    lines = [f"envoy_llm_{name}_bucket{{{tags(ended, le=le)}}} {number}" for le, number in buckets.items()]
    return "\n".join([*lines, f"envoy_llm_{name}_count{{{tags(ended)}}} {total}", ""])


def test_arms_of__histograms__are_in_seconds_and_added_up_over_the_ways_to_end() -> None:
    text = histogram("ttft", ANSWERED, 5, le150000=3, le2500000=4)
    text += histogram("ttft", MIDWAY, 2, le150000=1, le2500000=2)
    text += histogram("ttft", FALLBACK, 9, le150000=9, le2500000=9)
    text += histogram("left_ttft", BEFORE, 4, le150=0, le2500=3)
    arm = arms_of("chat", samples(text))["v2"]
    assert arm.latency == {"ttft": HistogramReading((0.15, 2.5), (4, 6), 7)}
    assert arm.left == {"ttft": HistogramReading((0.15, 2.5), (0, 3), 4)}


def test_arms_of__only_some_who_left__there_is_a_latency_of_nobody() -> None:
    arm = arms_of("chat", samples(histogram("left_ttft", BEFORE, 4, le150=0, le2500=3)))["v2"]
    assert arm.latency == {"ttft": HistogramReading((0.15, 2.5), (0, 0), 0)}
    assert arm.left == {"ttft": HistogramReading((0.15, 2.5), (0, 3), 4)}


def test_calls_of__routes_that_are_in_no_arm__are_told_by_their_names() -> None:
    text = "".join(
        f'envoy_llm_requests{{cluster="{cluster}",route="{route}",code="200"}} {number}\n'
        for cluster, route, number in [
            ("answer/chat/v1", "chat/other", 3),
            ("answer/chat/v2", "chat/other", 4),
            ("", "chat/refused", 5),
            ("answer/chat/v1", "chat", 6),
            ("answer/chat2/v1", "chat2/other", 7),
        ]
    )
    assert (calls_of("chat", OTHER, samples(text)), calls_of("chat", TURNED_AWAY, samples(text))) == (7, 5)
    assert arms_of("chat", samples(text)) == {}


def test_samples__labels_comments_and_nonsense__are_told_apart() -> None:
    text = '# HELP a b\na{x="1",y="q\\"uo\\\\te"} 2.5\nb 3e2\nc{} nonsense\n\nd NaN 17\n'
    found = list(samples(text))
    assert found[:2] == [Sample("a", {"x": "1", "y": 'q"uo\\te'}, 2.5), Sample("b", {}, 300.0)]
    assert [s.name for s in found] == ["a", "b", "d"]


VLLM = """# TYPE vllm:num_requests_running gauge
vllm:num_requests_running{engine="0",model_name="m"} 2.0
vllm:num_requests_running{engine="1",model_name="m"} 1.0
vllm:num_requests_waiting{engine="0",model_name="m"} 4.0
vllm:kv_cache_usage_perc{engine="0",model_name="m"} 0.25
vllm:kv_cache_usage_perc{engine="1",model_name="m"} 0.5
vllm:generation_tokens_total{engine="0",model_name="m"} 1.2e+03
"""


def test_engine_reading__two_ranks__are_added_and_the_fullest_cache_counts() -> None:
    assert engine_reading(VLLM + "process_start_time_seconds 1.75e+09\n") == EngineReading(
        3.0, 4.0, 0.5, 1200, 1.75e9
    )


FINISHED = """vllm:request_success_total{engine="0",finished_reason="stop",model_name="m"} 7.0
vllm:request_success_total{engine="1",finished_reason="stop",model_name="m"} 1.0
vllm:request_success_total{engine="0",finished_reason="length",model_name="m"} 2.0
vllm:request_success_total{engine="0",finished_reason="abort",model_name="m"} 0.0
vllm:request_generation_tokens_bucket{engine="0",le="1.0",model_name="m"} 3.0
vllm:request_generation_tokens_bucket{engine="1",le="1.0",model_name="m"} 1.0
vllm:request_generation_tokens_bucket{engine="0",le="10.0",model_name="m"} 9.0
"""


def reading(text: str) -> EngineReading:
    found = engine_reading(text)
    assert isinstance(found, EngineReading)
    return found


def test_engine_reading__finished_completions__by_reason_and_the_empty_ones() -> None:
    found = reading(VLLM + FINISHED)
    assert found.endings == {"stop": 8, "length": 2, "abort": 0}
    assert found.empty == 4


def test_engine_reading__metrics_of_completions_missing__are_not_said() -> None:
    found = reading(VLLM)
    assert (found.endings, found.empty) == ({}, None)


def test_engine_reading__other_buckets__empty_ones_are_not_said() -> None:
    found = reading(VLLM + FINISHED.replace('le="1.0"', 'le="8.0"'))
    assert (found.endings["stop"], found.empty) == (8, None)


def test_engine_reading__embeddings__are_no_completions() -> None:
    found = reading(VLLM.replace("1.2e+03", "0.0") + FINISHED)
    assert (found.endings, found.empty) == ({}, None)


def test_engine_reading__nothing_finished_yet__zeros() -> None:
    nothing = re.sub(r" [0-9.e+]+$", " 0.0", VLLM + FINISHED, flags=re.MULTILINE)
    found = reading(nothing)
    assert (found.endings, found.empty) == ({"stop": 0, "length": 0, "abort": 0}, 0)


def test_engine_reading__no_process_metrics__has_no_start() -> None:
    found = engine_reading(VLLM)
    assert isinstance(found, EngineReading)
    assert found.started_at is None


def test_vllm_metrics__one_good_one_hanging_one_foreign__names_what_is_broken() -> None:
    def engine(request: httpx.Request) -> httpx.Response:
        if request.url.port == 2:
            raise httpx.ReadTimeout("timed out", request=request)
        return httpx.Response(200, text=VLLM if request.url.port == 1 else "up 1\n")

    backends = [at_address(f"v{port}", "host", port) for port in (1, 2, 3)]
    engines, broken = VllmMetrics(transport=httpx.MockTransport(engine)).read(backends)
    assert set(engines) == {"v1"}
    assert broken == {
        "v2": "http://host:2/metrics cannot be read: timed out",
        "v3": "http://host:3/metrics answers, but has no vllm:num_requests_running: "
        "no vLLM, or one that names it differently",
    }


def test_vllm_metrics__many_hang__the_others_are_read_and_nobody_waits_for_the_last_one() -> None:
    answers = threading.Event()
    asked: list[int] = []

    def engine(request: httpx.Request) -> httpx.Response:
        asked.append(request.url.port or 0)
        if (request.url.port or 0) < 100:
            answers.wait(30)
        return httpx.Response(200, text=VLLM)

    hanging = [at_address(f"hangs-{port}", "host", port) for port in range(1, 2 * AT_ONCE)]
    well = [at_address(f"well-{port}", "host", port) for port in range(100, 103)]
    metrics = VllmMetrics(timeout=0.3, transport=httpx.MockTransport(engine))
    try:
        metrics.read([*hanging, *well])  # learns who hangs
        asked.clear()
        engines, broken = metrics.read([*hanging, *well])
        assert not answers.is_set()  # it was not waited for
    finally:
        answers.set()
    assert set(engines) == {backend.variant for backend in well}
    assert set(broken) == {backend.variant for backend in hanging}
    assert broken["hangs-1"] == "http://host:1/metrics was not read in 0.3 s"


def test_vllm_metrics__no_backends__reads_nothing() -> None:
    assert VllmMetrics().read([]) == ({}, {})
