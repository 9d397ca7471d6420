"""Gates see what users see, on the real Envoy with stand-in engines: who is refused, who gives up, who asks for nothing
but model lists, and whose baseline dies."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from datetime import datetime
from itertools import count, pairwise
from typing import Any

import httpx
import pytest

from controlplane.outbound.clients import local_client
from tests.e2e.house import ENDPOINT, PLAN, House
from tests.standins.running import wait_until

pytestmark = [
    pytest.mark.needs("envoy", "mlflow"),
    pytest.mark.e2e,
    pytest.mark.whole,
    pytest.mark.timeout(900),
]

POLICY: dict[str, Any] = {
    "alpha": 0.05,
    "gates": [
        {"key": "errors", "kind": "error_rate", "delta": 0.05, "weight": 0.25},
        {"key": "refused", "kind": "refused", "delta": 0.05, "weight": 0.25},
        {"key": "abandoned", "kind": "abandoned", "delta": 0.05, "weight": 0.25},
        {"key": "quality", "kind": "paired", "margin": 0.2, "weight": 0.25},
    ],
}
# The statistics take seconds here (5 s for half of the requests, 10 s for a fifth, at most, of 60 simulated rollouts);
# the rest is for a busy machine.
MINUTES = 2.0
PATIENT: dict[str, Any] = {
    "strategy": "canary",
    "steps": [{"share_bp": 5000, "hold_seconds": 25, "min_requests": 60}],
    "watch_seconds": 3,
    "no_data_seconds": 90,
    "launch_seconds": 120,
}


@pytest.fixture(scope="module")
def house() -> Iterator[House]:
    made = House(
        {"v1": 0, "v2": 0, "v3": 0, "v4": 0, "v5": 0, "v6": 0},
        behaviours={
            "v2": {"refuse_system": True},
            "v3": {"refuse_rate": 0.2, "refuse_status": 400},
            "v4": {"latency_ms": 3_000},
        },
        policy=POLICY,
    )
    try:
        yield made
    finally:
        made.close()


@contextmanager
def clients(per_second: float, ask: Callable[[], object]) -> Iterator[None]:
    """Clients beside the house's users, at an even pace; what they get is their own business."""
    over = threading.Event()
    begun = time.monotonic()

    def send(pool: ThreadPoolExecutor) -> None:
        for number in count():
            if over.wait(max(0.0, begun + number / per_second - time.monotonic())):
                return
            pool.submit(ask)

    with ThreadPoolExecutor(max_workers=64) as pool:
        sender = threading.Thread(target=send, args=(pool,))
        sender.start()
        try:
            yield
        finally:
            over.set()
            sender.join()


def minutes_to_decide(state: dict[str, Any]) -> float:
    begun, decided = (datetime.fromisoformat(state[name]) for name in ("traffic_at", "decided_at"))
    return (decided - begun).total_seconds() / 60


def candidate_of(state: dict[str, Any]) -> dict[str, Any]:
    return next(arm for arm in state["arms"] if arm["name"] == "candidate")


def evidence(house: House, number: int) -> list[dict[str, Any]]:
    """All intervals of a rollout, in order."""
    rows: list[dict[str, Any]] = []
    while True:
        after = rows[-1]["index"] if rows else -1
        page = house.client.get(f"/rollouts/{number}/evidence", after=after)["items"]
        if not page:
            break
        rows += page
    return rows


def is_out_of_order(verdicts: dict[str, Any]) -> bool:
    """The baseline is, at the end of that interval."""
    return bool(verdicts.get("outage")) and not verdicts["outage"]["over"]


def test_system_messages__refused_by_the_candidate_alone__rolled_back_within_minutes(house: House) -> None:
    before = house.users()
    number = house.start("v2")
    state = house.wait_settled(number)
    assert state["phase"] == "rolled-back", f"{state['reason']}\n{house.logs()}"
    assert state["cause"] in ("gate:refused", "fast-kill"), state
    assert "refused" in state["cause_sentence"]
    assert minutes_to_decide(state) <= MINUTES
    refused = house.users()["refused"]
    assert set(refused) - set(before["refused"]) == {state["candidate"]["name"]}
    assert house.users()["lost"] == before["lost"], house.users()["losses"]


def test_one_request_in_five__refused_by_the_candidate_alone__rolled_back_by_the_gate(house: House) -> None:
    number = house.start("v3")
    state = house.wait_settled(number)
    assert (state["phase"], state["cause"]) == ("rolled-back", "gate:refused"), (
        f"{state['reason']}\n{house.logs()}"
    )
    assert minutes_to_decide(state) <= MINUTES


def test_clients__who_leave_before_the_candidates_first_token__roll_it_back(house: House) -> None:
    """The house's users wait; as many others have a time-out of a second, and the candidate needs three."""

    client = local_client(base_url=f"http://127.0.0.1:{house.gateway}", timeout=1.0)
    question = {"model": ENDPOINT, "messages": [{"role": "user", "content": "question 1"}]}

    def ask_in_a_hurry() -> None:
        with suppress(httpx.HTTPError):
            client.post(f"/{ENDPOINT}/v1/chat/completions", json=question)

    with client, clients(20, ask_in_a_hurry):
        number = house.start("v4")
        state = house.wait_settled(number)
    assert state["phase"] == "rolled-back", f"{state['reason']}\n{house.logs()}"
    assert state["cause"] in ("gate:abandoned", "fast-kill"), state
    assert minutes_to_decide(state) <= MINUTES


def test_model_lists__without_a_completion__never_advance_a_step(house: House) -> None:
    house.stop_users()
    client = local_client(base_url=f"http://127.0.0.1:{house.gateway}", timeout=30)
    listed: list[int] = []

    def list_models() -> None:
        listed.append(client.get(f"/{ENDPOINT}/v1/models").status_code)

    with client, clients(20, list_models):
        number = house.start("v5", {**PLAN, "no_data_seconds": 300})
        house.wait_for_share(number, 2500)
        listed.clear()
        wait_until(
            "500 lists were answered", lambda: len(listed) >= 500, 150
        )  # six times the step's hold, at least
        state = house.rollout(number)
    assert set(listed) == {200}
    assert (state["phase"], state["step"]) == ("progressing", 0), state["reason"]
    assert [arm["requests"] for arm in state["arms"]] == [0, 0]
    house.send_users()
    state = house.wait_settled(number)
    assert state["phase"] == "succeeded", f"{state['reason']}\n{house.logs()}"


def test_baseline_engine__killed_at_half_of_the_traffic__loses_no_request_and_proves_nothing(
    house: House,
) -> None:
    before = house.users()["lost"]
    number = house.start("v6", PATIENT)
    state = house.wait_for_share(number, 5000)
    wait_until("the gates have evidence", lambda: len(evidence(house, number)) >= 5, 60)
    house.kill_engine(state["baseline"]["name"])
    state = house.wait_settled(number)
    losses = house.users()["losses"][before:]
    assert all(loss["stream"] for loss in losses), losses  # only streams that had begun on the killed process
    rows = evidence(house, number)
    out_of_order = [(earlier, row) for earlier, row in pairwise(rows) if is_out_of_order(row["verdicts"])]
    assert out_of_order, "an engine that starts anew is out for longer than an interval"
    for earlier, row in out_of_order:
        assert row["decision"]["event"] not in ("advance", "promote")
        for was, now in zip(earlier["verdicts"]["verdicts"], row["verdicts"]["verdicts"], strict=True):
            # A pair of probes is two answers that did come, so it says nothing of the outage.
            if now["kind"] != "paired":
                assert now["evidence_pass"] <= was["evidence_pass"], (was["sentence"], now["sentence"])
    titles = [event["title"] for event in house.client.get(f"/rollouts/{number}/history")["items"]]
    assert any("out of order" in title for title in titles), titles
    assert state["phase"] == "succeeded", f"{state['reason']}\n{house.logs()}"
