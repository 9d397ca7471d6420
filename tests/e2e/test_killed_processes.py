"""kill -9 in the middle of a canary, with real processes: the story ends the same way, or in a rollback with the true
reason, and no user pays for it."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from rollouts.adapters.clusters.machine import stat_of
from tests.e2e.house import House
from tests.rollouts.adapters.clusters.machine_room import below
from tests.standins.running import wait_until

pytestmark = [
    pytest.mark.needs("envoy", "mlflow"),
    pytest.mark.e2e,
    pytest.mark.whole,
    pytest.mark.timeout(900),
]


@pytest.fixture(scope="module")
def house() -> Iterator[House]:
    made = House({"v1": 6, "v2": 0, "v3": 0, "v4": 0, "v5": 0, "v6": 14})
    try:
        yield made
    finally:
        made.close()


def canary(house: House, version: str) -> tuple[int, dict[str, object]]:
    """A rollout that has half of the traffic, and what users had seen before it."""
    before = house.users()
    number = house.start(version)
    house.wait_for_share(number, 5000)
    return number, before


def program_is_new(house: House, name: str, old: int) -> bool:
    return any(
        info.name == name and info.pid not in (0, old) for info in house.supervisor.programs().values()
    )


def test_worker__killed_in_a_canary__promoted_all_the_same_and_nothing_lost(house: House) -> None:
    number, before = canary(house, "v2")
    pid = house.kill("worker")
    wait_until("a new worker runs", lambda: program_is_new(house, "worker", pid), 60)
    state = house.wait_settled(number)
    assert state["phase"] == "succeeded", f"{state['reason']}\n{house.logs()}"
    assert house.users()["lost"] == before["lost"], house.users()["losses"]


def test_web__killed_in_a_canary__promoted_all_the_same_and_nothing_lost(house: House) -> None:
    number, before = canary(house, "v3")
    pid = house.kill("web")
    wait_until("a new web process runs", lambda: program_is_new(house, "web", pid), 60)
    state = house.wait_settled(number)
    assert state["phase"] == "succeeded", f"{state['reason']}\n{house.logs()}"
    assert house.users()["lost"] == before["lost"], house.users()["losses"]


def test_mlflow__first_process_killed__its_workers_end_with_it_and_the_next_one_serves(house: House) -> None:
    first = house.program("mlflow")
    old = [pid for pid in below(first) if (stat := stat_of(pid)) and stat.alive]
    assert len(old) >= 3, "MLflow's first process, its web server and workers"
    started = {pid: stat.started for pid in old if (stat := stat_of(pid))}
    house.kill("mlflow")
    wait_until("a new MLflow runs", lambda: program_is_new(house, "mlflow", first), 60)
    wait_until("it serves", lambda: len(below(house.program("mlflow"))) >= 3, 180)
    left = [pid for pid in old if (stat := stat_of(pid)) and stat.alive and stat.started == started[pid]]
    assert left == []
    log = (house.run_dir / "log" / "mlflow.log").read_text()
    assert "ended what the process before left running" in log


def test_envoy__killed_in_a_canary__same_routes_after_it_and_only_its_own_kill_is_lost(house: House) -> None:
    number, _ = canary(house, "v4")
    pid = house.kill("envoy")
    wait_until("a new Envoy runs", lambda: program_is_new(house, "envoy", pid), 60)
    state = house.wait_settled(number)
    assert state["phase"] == "succeeded" or state["cause"].startswith(("gate:", "fast-kill", "no-data")), (
        state
    )
    assert state["phase"] in ("succeeded", "rolled-back"), f"{state['reason']}\n{house.logs()}"
    lost = house.users()["lost"]
    wait_until("users are served again", lambda: house.users()["sent"] > 0, 10)
    sent = house.users()["sent"]
    wait_until("more users were served", lambda: house.users()["sent"] > sent + 50, 30)
    assert house.users()["lost"] == lost, house.users()["losses"]


def test_candidate_engine__killed_in_a_canary__falls_back_and_is_blamed(house: House) -> None:
    number, before = canary(house, "v5")
    lost_before = int(str(before["lost"]))
    variant = house.rollout(number)["candidate"]["name"]
    house.kill_engine(variant)
    state = house.wait_settled(number)
    candidate = next(arm for arm in state["arms"] if arm["name"] == "candidate")
    assert candidate["errors"] > 0, "who was drawn is blamed, whoever answered"
    if state["phase"] == "rolled-back":
        assert state["cause"].startswith(("gate:errors", "fast-kill", "workload:")), state
    else:
        assert state["phase"] == "succeeded", f"{state['reason']}\n{house.logs()}"
    losses = house.users()["losses"][lost_before:]
    assert all(loss["stream"] for loss in losses), losses  # only streams that had begun on the killed process


def test_worker__killed_while_worse_answers_are_rolled_out__still_rolled_back_by_quality(
    house: House,
) -> None:
    patient = {
        "strategy": "canary",
        "steps": [{"share_bp": 2500, "hold_seconds": 60, "min_requests": 20}],
        "watch_seconds": 3,
        "launch_seconds": 120,
    }
    before = house.users()["lost"]
    number = house.start("v6", patient)
    house.wait_for_share(number, 2500)
    house.kill("worker")
    state = house.wait_settled(number)
    assert (state["phase"], state["cause"]) == ("rolled-back", "gate:quality"), (
        f"{state['reason']}\n{house.logs()}"
    )
    assert house.users()["lost"] == before, house.users()["losses"]
