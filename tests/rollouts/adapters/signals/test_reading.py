"""How samples become readings, without processes."""

from __future__ import annotations

import httpx
import pytest

from rollouts.adapters.signals.envoy_stats import arms_of
from rollouts.adapters.signals.exposition import Sample, samples
from rollouts.adapters.signals.vllm import VllmMetrics, engine_reading
from rollouts.ports import Backend, EngineReading


def line(variant: str, code: str, flags: str, error: str, number: int) -> str:
    tags = f'variant="{variant}",code="{code}",flags="{flags}",stream_error="{error}"'
    return f'envoy_llm_requests{{cluster="assigned/chat/v2",{tags}}} {number}\n'


@pytest.mark.parametrize(
    ("ended", "expected"),
    [
        (("v2", "200", "-", ""), (1, 0, 0, 0)),
        (("v2", "404", "-", ""), (1, 0, 0, 0)),
        (("v2", "500", "-", ""), (1, 1, 0, 0)),
        (("v1", "200", "-", ""), (1, 1, 1, 0)),
        (("v1", "500", "-", ""), (1, 1, 0, 0)),
        (("", "503", "UH", ""), (1, 1, 0, 0)),
        (("v2", "503", "URX,UF", ""), (1, 1, 0, 0)),
        (("v2", "200", "UC", ""), (1, 1, 0, 0)),
        (("v2", "200", "SI", ""), (1, 1, 0, 0)),
        (("v2", "200", "-", "yes"), (1, 1, 0, 0)),
        (("v2", "200", "DC", "yes"), (1, 1, 0, 0)),
        (("v2", "200", "DC", ""), (0, 0, 0, 1)),
        (("v1", "200", "DC", ""), (0, 0, 0, 1)),
        (("v2", "0", "DC", ""), (0, 0, 0, 1)),
        (("v2", "0", "DR", ""), (0, 0, 0, 1)),
    ],
)
def test_arms_of__one_way_to_end__is_booked(
    ended: tuple[str, str, str, str], expected: tuple[int, int, int, int]
) -> None:
    arm = arms_of("chat", line(*ended, 1))["v2"]
    assert (arm.ended, arm.errors, arm.fallbacks, arm.aborted) == expected
    assert arm.arrived == 1


def test_arms_of__other_endpoints_and_forced_requests__are_left_out() -> None:
    text = (
        'envoy_llm_arrived{cluster="assigned/chat2/v1"} 5\n'
        'envoy_llm_arrived{cluster="answer/chat/v1"} 6\n'
        'envoy_llm_arrived{cluster=""} 7\n'
        'envoy_llm_arrived{cluster="assigned/chat/v1"} 8\n'
    )
    found = arms_of("chat", text)
    assert {variant: arm.arrived for variant, arm in found.items()} == {"v1": 8}


def test_arms_of__histogram__is_in_seconds_and_only_of_the_assigned_variant() -> None:
    who = 'cluster="assigned/chat/v2",variant='
    broken = f'envoy_llm_ttft_count{{{who}"v2",stream_error="yes"}} 7\n'
    text = "".join(
        f'envoy_llm_ttft_bucket{{{who}"{variant}",le="{le}"}} {number}\n'
        for variant, le, number in [
            ("v2", "150000", 3), ("v2", "2500000", 4), ("v2", "+Inf", 5), ("v1", "150000", 9)
        ]
    ) + f'envoy_llm_ttft_count{{{who}"v2"}} 5\n' + f'envoy_llm_ttft_count{{{who}"v1"}} 9\n'  # fmt: skip
    histogram = arms_of("chat", text + broken)["v2"].latency["ttft"]
    assert (histogram.edges, histogram.at_or_below, histogram.total) == ((0.15, 2.5), (3, 4), 5)


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


def test_engine_reading__no_process_metrics__has_no_start() -> None:
    found = engine_reading(VLLM)
    assert isinstance(found, EngineReading)
    assert found.started_at is None


def test_vllm_metrics__one_good_one_hanging_one_foreign__names_what_is_broken() -> None:
    def engine(request: httpx.Request) -> httpx.Response:
        if request.url.port == 2:
            raise httpx.ReadTimeout("timed out", request=request)
        return httpx.Response(200, text=VLLM if request.url.port == 1 else "up 1\n")

    backends = [Backend(f"v{port}", "host", port) for port in (1, 2, 3)]
    engines, broken = VllmMetrics(transport=httpx.MockTransport(engine)).read(backends)
    assert set(engines) == {"v1"}
    assert broken == {
        "v2": "http://host:2/metrics cannot be read: timed out",
        "v3": "http://host:3/metrics answers, but has no vllm:num_requests_running: "
        "no vLLM, or one that names it differently",
    }


def test_vllm_metrics__no_backends__reads_nothing() -> None:
    assert VllmMetrics().read([]) == ({}, {})
