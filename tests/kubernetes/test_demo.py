"""What the demo on Kubernetes does of its own; the story that it tells is that of tests/e2e/test_main_job.py."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest

from deploy.demo.telling import DemoFailed, story_as_written
from rollouts.adapters.signals.prometheus.templates import ENVOY_GATEWAY
from tests.kubernetes.demo.attribution import objects
from tests.kubernetes.demo.stage import MARK, claim_run_folder, empty_run_folder, story_on_kubernetes
from tests.kubernetes.whole_answers import policy_for


def test_story_on_kubernetes__gates__read_only_what_the_gateway_counts() -> None:
    written = story_as_written()
    told = story_on_kubernetes(written)
    signals = {gate["signal"] for gate in told["policy"]["gates"] if "signal" in gate}
    assert signals == set(ENVOY_GATEWAY.latency)
    assert "abandoned" in {gate["kind"] for gate in told["policy"]["gates"]}
    edges = [gate["slo_seconds"] for gate in told["policy"]["gates"] if "slo_seconds" in gate]
    assert set(edges) <= set(ENVOY_GATEWAY.edges)
    assert sum(gate["weight"] for gate in told["policy"]["gates"]) == pytest.approx(
        sum(gate["weight"] for gate in written["policy"]["gates"])
    )
    assert told["rollouts"] == written["rollouts"]


def test_run_folder__of_somebody_else__is_refused_and_left_as_it_is(tmp_path: Path) -> None:
    (tmp_path / "headgate.sqlite3").write_text("precious")
    with pytest.raises(DemoFailed, match="HEADGATE_RUN_DIR"):
        empty_run_folder(tmp_path)
    assert [one.name for one in tmp_path.iterdir()] == ["headgate.sqlite3"]


def test_run_folder__a_new_one_in_which_the_stack_left_its_lock__is_this_demos(tmp_path: Path) -> None:
    """What is left of an earlier stack is stopped before the folder is emptied, and that writes there."""
    folder = tmp_path / "run"
    claim_run_folder(folder)
    (folder / "stack.lock").touch()
    empty_run_folder(folder)
    assert sorted(one.name for one in folder.iterdir()) == ["demo", MARK]


def test_run_folder__of_a_demo_before__keeps_the_trained_models_only(tmp_path: Path) -> None:
    folder = tmp_path / "run"
    empty_run_folder(folder)
    (folder / "demo" / "models").mkdir()
    (folder / "demo" / "models" / "golden.jsonl").touch()
    (folder / "demo" / "token.json").touch()
    (folder / "lab" / "claims").mkdir(parents=True)
    (folder / "headgate.sqlite3").touch()
    empty_run_folder(folder)
    left = {str(one.relative_to(folder)) for one in folder.rglob("*")}
    assert left == {MARK, "demo", "demo/models", "demo/models/golden.jsonl"}


def test_attribution__values_of_the_lab__stand_in_every_place_that_is_the_operators() -> None:
    made = json.dumps(objects(routes="team-a", receiver="10.180.255.1", token="t0ken"))
    assert "httproute/team-a/" in made
    assert "Bearer t0ken" in made
    assert "10.180.255.1" in made
    capitals = re.findall(r"(?<![A-Z_(%:-])\b(ROUTES|RECEIVER|HEADGATE|TOKEN|EDGE|GATEWAY)\b(?!-)", made)
    assert capitals == []


def test_whole_answers__values_of_the_lab__stand_in_both_places_that_are_the_operators() -> None:
    made = policy_for(routes="team-a", installation="demo")
    assert made["metadata"]["namespace"] == "team-a"
    (selector,) = made["spec"]["targetSelectors"]
    assert selector["matchLabels"]["headgate.dev/installation"] == "demo"
