"""The main job on real parts: the real vLLM, Envoy and MLflow, as `make demo` tells it."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from rollouts.adapters.clusters.machine import end_processes, processes_marked
from tests.standins.running import free_port

ROOT = Path(__file__).resolve().parents[2]
PATIENCE_SECONDS = 2_700

pytestmark = [
    pytest.mark.needs("vllm", "envoy", "mlflow"),
    pytest.mark.e2e,
    pytest.mark.whole,
    pytest.mark.timeout(PATIENCE_SECONDS + 120),
]


@pytest.fixture(scope="module")
def story() -> Iterator[dict[str, Any]]:
    """The demo told once, in a folder and on ports of its own; the table as data."""
    run_dir = Path(tempfile.mkdtemp(prefix="hg-", dir="/tmp"))
    kept = {k: v for k, v in os.environ.items() if not k.startswith(("HEADGATE_", "DJANGO_"))}
    environment = {
        **kept,
        "HEADGATE_RUN_DIR": str(run_dir),
        "HEADGATE_WEB_PORT": str(free_port()),
        "HEADGATE_GATEWAY_PORT": str(free_port()),
        "HEADGATE_MLFLOW_URL": f"http://127.0.0.1:{free_port()}",
        "HEADGATE_ENGINE_PORTS": "21000-21099",
    }
    result = run_dir / "table.json"
    told = subprocess.run(
        [sys.executable, "-m", "deploy.demo", "--once", "--result", str(result)],
        cwd=ROOT, env=environment, capture_output=True, text=True, timeout=PATIENCE_SECONDS, check=False,
    )  # fmt: skip
    left = processes_marked("HEADGATE_STACK", str(run_dir))
    try:
        assert result.exists(), told.stdout[-4000:] + told.stderr[-2000:]
        table = json.loads(result.read_text())
        yield {**table, "left": left, "output": told.stdout, "replays": _replays(table, environment)}
    finally:
        end_processes(left, grace_seconds=0)
        shutil.rmtree(run_dir, ignore_errors=True)


def _replays(table: dict[str, Any], environment: dict[str, str]) -> list[dict[str, Any]]:
    """Every rollout of the demo, done again from its evidence after everything was stopped."""
    numbers = [str(row["rollout"]) for row in table["rollouts"]]
    done = subprocess.run(
        [sys.executable, "manage.py", "replay", *numbers, "--json"],
        cwd=ROOT, env=environment, capture_output=True, text=True, timeout=600, check=False,
    )  # fmt: skip
    assert done.stdout, done.stderr[-4000:]
    return [json.loads(line) for line in done.stdout.splitlines()]


def test_better_version__rolled_out__is_promoted(story: dict[str, Any]) -> None:
    row = story["rollouts"][0]
    assert row["decision"] == "promoted", row["reason"]


def test_worse_answers__as_fast_and_free_of_errors__rolled_back_by_the_quality_gate(
    story: dict[str, Any],
) -> None:
    row = story["rollouts"][1]
    assert (row["decision"], row["cause"]) == ("rolled-back", "gate:quality"), row["reason"]


def test_slow_version__same_answers__rolled_back_by_the_latency_gate(story: dict[str, Any]) -> None:
    row = story["rollouts"][2]
    assert (row["decision"], row["cause"]) == ("rolled-back", "gate:ttft"), row["reason"]


def test_strict_chat_template__refuses_every_second_user__rolled_back_and_refusals_named(
    story: dict[str, Any],
) -> None:
    row = story["rollouts"][3]
    assert row["decision"] == "rolled-back", row["reason"]
    assert row["cause"] in ("gate:refused", "fast-kill"), row["reason"]
    assert "refused" in row["reason"]
    # Not "fewer than it got": the users come by chance, and its first few can all be of the kind it refuses.
    assert 0 < row["refused"] <= row["requests"][row["to"]]
    assert set(story["refused"]) == {row["to"]}, "no other version refuses anybody"


def test_bandit__three_arms__ends_with_the_best_and_says_how_sure(story: dict[str, Any]) -> None:
    row = story["rollouts"][4]
    assert row["as_expected"], row["reason"]
    assert len(row["requests"]) == 3
    assert "In at most 5 of 100 rollouts (5%) the best arm is dropped by mistake" in row["reason"]


def test_replay__of_every_rollout__is_identical(story: dict[str, Any]) -> None:
    replays = story["replays"]
    assert len(replays) == len(story["rollouts"])
    for found in replays:
        assert found.get("outcome") == "identical", found
        assert found["intervals"] > 0
        assert found["decisions"] > 0


def test_users__through_all_rollouts__lose_no_request(story: dict[str, Any]) -> None:
    assert story["sent"] > 1_000
    assert story["lost"] == 0, story["output"][-3000:]


def test_end__of_the_demo__nothing_is_left_running(story: dict[str, Any]) -> None:
    assert story["left"] == []
