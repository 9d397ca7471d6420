from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from tests.controlplane.cli.conftest import Run

YAML = "name: strict\nversion: 2\nalpha: 0.05\n"
STORED = {"name": "strict", "version": 3, "digest": "sha256:ab", "yaml": YAML}
CHECKED = {
    "reference": "strict@3",
    "same": False,
    "changes": [{"field": "alpha", "before": "0.05", "after": ""}],
    "yaml": YAML,
    "explanation": {
        "gates": [{"sentence": "Error rate: this plan finds a doubling."}],
        "promises": ["A version that is no worse is rolled back by mistake in at most 5 of 100 rollouts."],
        "notes": ["No gate is required."],
        "basis": ["Assumed: 10 requests/s."],
    },
}


@pytest.fixture
def file(tmp_path: Path) -> Path:
    made = tmp_path / "policy.yaml"
    made.write_text(YAML)
    return made


def test_show__yaml__is_all_that_is_printed(serve: Any, run: Run) -> None:
    control_plane = serve(lambda *_: (200, STORED))

    outcome = run("policy", "show", "strict@2")

    assert (outcome.code, outcome.out, outcome.err) == (0, YAML, "")
    assert control_plane.seen[0][:2] == ("GET", "/api/v1/gate-policies/strict@2")


def test_show__strange_name__stays_one_part_of_the_path(serve: Any, run: Run) -> None:
    control_plane = serve(lambda *_: (404, {"detail": "There is no such policy."}))

    assert run("policy", "show", "../me?x").code == 4
    assert control_plane.seen[0][1] == "/api/v1/gate-policies/..%2Fme%3Fx"


def test_check__sound_file__is_explained(serve: Any, run: Run, file: Path) -> None:
    control_plane = serve(lambda *_: (200, CHECKED))

    outcome = run("policy", "check", str(file), "--endpoint", "triage")

    assert outcome.code == 0
    method, path, body, _ = control_plane.seen[0]
    assert (method, path) == ("POST", "/api/v1/gate-policies/check")
    assert body == {"name": "", "text": YAML, "endpoint": "triage"}
    for words in (
        "a doubling",
        "in at most 5 of 100",
        "Note: No gate",
        "alpha: 0.05 -> nothing",
        "stored as strict@3",
    ):
        assert words in outcome.out


def test_check__mistakes__are_listed_and_refused(serve: Any, run: Run, file: Path) -> None:
    problem = {
        "detail": "alpha is 2.",
        "fix": "",
        "errors": [
            {"field": "alpha", "detail": "alpha is 2.", "code": "invalid-input"},
            {"field": "gates[0].delta", "detail": "delta must be a number.", "code": "invalid-input"},
        ],
        "extra": {"line": 3},
    }
    serve(lambda *_: (422, problem))

    outcome = run("policy", "check", str(file))

    assert outcome.code == 3
    assert outcome.err.startswith("Line 3: alpha is 2.")
    assert "  gates[0].delta: delta must be a number." in outcome.err


def test_push__file__is_sent_as_it_is(serve: Any, run: Run, file: Path) -> None:
    control_plane = serve(lambda *_: (201, STORED))

    outcome = run(
        *("policy", "push", "strict", str(file), "--note", "fewer alarms", "--expected-version", "2"),
        *("--idempotency-key", "build-7", "--json"),
    )

    assert (outcome.code, outcome.json["reason"]) == (0, "strict@3")
    method, path, body, headers = control_plane.seen[0]
    assert (method, path, headers["Idempotency-Key"]) == ("POST", "/api/v1/gate-policies", "build-7")
    assert body == {"name": "strict", "text": YAML, "note": "fewer alarms", "expected_version": 2}


def test_push__newer_version_there__is_a_conflict(serve: Any, run: Run, file: Path) -> None:
    problem = {"detail": "strict@3 was stored by ana 8 s ago.", "code": "policy-changed"}
    control_plane = serve(lambda *_: (409, problem))

    outcome = run("policy", "push", "strict", str(file))

    assert outcome.code == 5
    assert "strict@3 was stored by ana" in outcome.err
    assert "expected_version" not in control_plane.seen[0][2]


@pytest.mark.parametrize(
    "argv", [("policy",), ("policy", "push", "strict"), ("policy", "check"), ("policy", "show")]
)
def test_policy__arguments_missing__is_a_usage_error(argv: tuple[str, ...], serve: Any, run: Run) -> None:
    serve(lambda *_: (200, {}))

    assert run(*argv).code == 2


def test_policy__unreadable_file__is_a_usage_error_naming_it(serve: Any, run: Run) -> None:
    serve(lambda *_: (200, {}))

    outcome = run("policy", "check", "/nowhere/policy.yaml")

    assert outcome.code == 2
    assert "/nowhere/policy.yaml" in outcome.err


def test_start__own_policy__is_sent_as_it_is_written(serve: Any, run: Run, file: Path) -> None:
    control_plane = serve(lambda *_: (200, {"can_start": True, "checks": [], "gates": [], "bandit": None}))

    outcome = run("rollout", "start", "triage", "2", "--own-policy", str(file), "--dry-run")

    assert outcome.code == 0, outcome.err
    _, path, body, _ = control_plane.seen[0]
    assert path == "/api/v1/rollouts"
    assert body["own_policy_text"] == YAML


def test_start__own_policy_that_cannot_be_read__is_a_usage_error(
    serve: Any, run: Run, tmp_path: Path
) -> None:
    control_plane = serve(lambda *_: (500, {}))

    outcome = run("rollout", "start", "triage", "2", "--own-policy", str(tmp_path / "nothing"))

    assert outcome.code == 2
    assert "--own-policy" in outcome.err
    assert control_plane.seen == []
