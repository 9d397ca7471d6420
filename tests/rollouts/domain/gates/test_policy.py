from __future__ import annotations

import json
from typing import Any

import pytest

from controlplane.kernel.errors import InvalidInput
from rollouts.domain.gates.latency import VLLM_TTFT_EDGES
from rollouts.domain.gates.policy import GatePolicy
from tests.rollouts.domain.gates.helpers import ERRORS, LATENCY, QUALITY, THUMBS, policy

TOOLS = {
    "key": "tools", "kind": "counter_ratio", "delta": 0.02, "weight": 0.5,
    "bad_query": 'bad{v="{{variant}}"}', "all_query": 'all{v="{{variant}}"}',
}  # fmt: skip


def written(**changes: Any) -> dict[str, Any]:
    """A policy as a person writes it, with changes by dotted path like `gates.1.ratio`."""
    document: dict[str, Any] = {"name": "chat", "version": 3, "gates": [dict(ERRORS), dict(LATENCY)]}
    for gate in document["gates"]:
        gate["weight"] = 0.5
    for path, value in changes.items():
        place: Any = document
        *way, last = path.split("__")
        for part in way:
            place = place[int(part) if part.isdigit() else part]
        place[int(last) if last.isdigit() else last] = value
    return document


def test_gate_policy__as_written__reads_with_defaults() -> None:
    read = GatePolicy.from_json(written())
    assert read.reference == "chat@3"
    assert (read.alpha, read.beta, read.restart_every_seconds) == (0.05, 0.05, 30.0)
    assert [gate.mode for gate in read.gates] == ["strict", "tolerant"]
    assert read.gate("ttft").fail_limit == (1.25, 0.0)
    assert read.gate("errors").fail_limit == (1.0, 0.0)
    assert read.gate("errors").pass_limit == (1.0, 0.01)


def test_gate_policy__no_weights__get_equal_parts() -> None:
    document = written()
    for gate in document["gates"]:
        del gate["weight"]
    assert [gate.weight for gate in GatePolicy.from_json(document).gates] == [0.5, 0.5]


def test_gate_policy__json__round_trip_is_identical() -> None:
    one = policy(
        ERRORS, LATENCY, QUALITY, {**THUMBS, "ratio": 0, "delta": 0.1}, fast_kill={"window_seconds": 20}
    )
    text = json.dumps(one.to_json())
    again = GatePolicy.from_json(json.loads(text))
    assert again == one
    assert json.dumps(again.to_json()) == text


@pytest.mark.parametrize(
    ("changes", "field"),
    [
        ({"name": ""}, "name"),
        ({"version": 0}, "version"),
        ({"alpha": 0.7}, "alpha"),
        ({"alpha": 1e-310}, "alpha"),
        ({"alpha": "5%"}, "alpha"),
        ({"beta": 0}, "beta"),
        ({"restart_every_seconds": 0}, "restart_every_seconds"),
        ({"on_no_data": "panic"}, "on_no_data"),
        ({"aplha": 0.05}, "aplha"),
        ({"gates": []}, "gates"),
        ({"gates": "errors"}, "gates"),
        ({"gates__1__weight": 0.6}, "gates"),
        ({"gates__1": "latency"}, "gates[1]"),
        ({"gates__1__key": "errors"}, "gates[1].key"),
        ({"gates__1__kind": "latency"}, "gates[1].kind"),
        ({"gates__1__mode": "lax"}, "gates[1].mode"),
        ({"gates__1__slo_seconds": None}, "gates[1].slo_seconds"),
        ({"gates__1__slo_seconds": -1}, "gates[1].slo_seconds"),
        ({"gates__1__signal": "itl"}, "gates[1].signal"),
        ({"gates__1__ratio": 0.5}, "gates[1].ratio"),
        ({"gates__1__ratio": float("nan")}, "gates[1].ratio"),
        ({"gates__1__ratio": 1}, "gates[1].ratio"),
        ({"gates__1__ratio": 0}, "gates[1].delta"),
        ({"gates__1__margin": 0.1}, "gates[1].margin"),
        ({"gates__1__min_exposure": -1}, "gates[1].min_exposure"),
        ({"gates__1__required": "yes"}, "gates[1].required"),
        ({"gates__0__slo_seconds": 0.5}, "gates[0].slo_seconds"),
        ({"gates__0__delta": 1.0}, "gates[0].delta"),
        ({"gates__0__weight": 0}, "gates[0].weight"),
        ({"gates__0": {"key": "q", "kind": "paired", "weight": 0.5}}, "gates[0].margin"),
        ({"gates__0": {"key": "q", "kind": "paired", "weight": 0.5, "margin": 1}}, "gates[0].margin"),
        (
            {"gates__0": {"key": "q", "kind": "paired", "weight": 0.5, "margin": 0.1, "ratio": 2}},
            "gates[0].ratio",
        ),
        ({"gates__0__bad_query": 'x{v="{{variant}}"}'}, "gates[0].bad_query"),
        ({"gates__0__kind": "counter_ratio"}, "gates[0].bad_query"),
        ({"gates__0": {**TOOLS, "all_query": None}}, "gates[0].all_query"),
        ({"gates__0": {**TOOLS, "all_query": "sum(x)"}}, "gates[0].all_query"),
        ({"gates__0": {**TOOLS, "bad_query": 'x{v="{{pod}}"}'}}, "gates[0].bad_query"),
        ({"gates__0": {**TOOLS, "bad_query": TOOLS["all_query"]}}, "gates[0].bad_query"),
        ({"gates__0": {**TOOLS, "delta": 0}}, "gates[0].ratio"),
        ({"fast_kill": {"error_share": 0}}, "fast_kill.error_share"),
        ({"fast_kill": {"baseline_error_share": 0.6}}, "fast_kill.baseline_error_share"),
        ({"fast_kill": {"oom_kills": 0}}, "fast_kill.oom_kills"),
    ],
)
def test_gate_policy__wrong_value__refused_with_the_field(changes: dict[str, Any], field: str) -> None:
    with pytest.raises(InvalidInput) as refused:
        GatePolicy.from_json(written(**changes))
    assert refused.value.field == field
    assert refused.value.message[-1] in ".?"


def test_edge_problems__slo_between_edges__refused_naming_gate_and_neighbours() -> None:
    read = GatePolicy.from_json(written(gates__1__slo_seconds=0.3))
    found = read.edge_problems({"ttft": VLLM_TTFT_EDGES})
    assert list(found) == [1]
    assert found[1].field == "gates[1].slo_seconds"
    assert found[1].extra == {"below": 0.25, "above": 0.5}
    assert GatePolicy.from_json(written()).edge_problems({"ttft": VLLM_TTFT_EDGES}) == {}


def test_describe__each_kind__says_limit_mode_and_budget_in_words() -> None:
    texts = policy(ERRORS, LATENCY, QUALITY, {**THUMBS, "ratio": 0, "delta": 0.1}).describe()
    assert texts[0] == (
        "Error rate: the share of requests that fail, at most +1 pp compared with the baseline. "
        "FAIL when any worsening is proven; PASS when it is proven to be within the limit. "
        "25% of the accepted risk of a wrong rollback is this gate's. Its PASS is needed for promotion."
    )
    assert (
        "over 500 ms, at most ×1.25 compared with the baseline. FAIL when it is proven to be beyond that limit"
        in texts[1]
    )
    assert "at most 0.05 below the baseline" in texts[2]
    assert "rated down, at most 10%." in texts[3]
    assert texts[4].startswith("Rolls back at once when 50% or more of at least 20 candidate requests fail")
