from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from controlplane.cli.exits import Exit
from tests.controlplane.cli.conftest import Run
from tests.controlplane.cli.stand_in import rollout

ROOT = Path(__file__).resolve().parents[3]


@pytest.mark.parametrize(
    "argv",
    [
        (),
        ("rollout",),
        ("rollout", "start", "chat"),
        ("rollout", "start", "chat", "latest"),
        ("rollout", "start", "chat", "2", "--steps", "5;25"),
        ("rollout", "start", "chat", "2", "--steps", "5,100"),
        ("rollout", "wait", "7", "--patience", "3"),
        ("stop", "maybe"),
    ],
)
def test_command_line__wrong__is_a_usage_error(argv: tuple[str, ...], serve: Any, run: Run) -> None:
    control_plane = serve(lambda *_: (200, {}))

    assert run(*argv).code == 2
    assert control_plane.seen == []


def test_token__missing__is_a_usage_error_saying_where_to_get_one(
    run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("HEADGATE_TOKEN", raising=False)

    outcome = run("endpoint", "list")

    assert outcome.code == 2
    assert "HEADGATE_TOKEN" in outcome.err


def test_url__without_scheme__is_a_usage_error(run: Run) -> None:
    assert run("endpoint", "list", "--url", "headgate.example", "--token", "hg_x").code == 2


def test_file__unreadable__is_a_usage_error_naming_it(serve: Any, run: Run) -> None:
    serve(lambda *_: (200, {}))

    outcome = run("golden", "upload", "tickets", "/nowhere/tickets.jsonl")

    assert outcome.code == 2
    assert "/nowhere/tickets.jsonl" in outcome.err


def test_start__options__become_the_plan(serve: Any, run: Run) -> None:
    control_plane = serve(lambda *_: (201, rollout(phase="pending")))

    outcome = run(
        *("rollout", "start", "chat", "v2", "--steps", "2.5,50", "--hold", "60", "--min-requests", "9"),
        *("--watch-seconds", "900", "--gate-policy", "strict@2", "--note", "better", "--supersede"),
        *("--idempotency-key", "build-7"),
    )

    assert outcome.code == 0
    method, path, body, headers = control_plane.seen[0]
    assert (method, path, headers["Idempotency-Key"]) == ("POST", "/api/v1/rollouts", "build-7")
    assert body == {
        "endpoint": "chat",
        "version": 2,
        "plan": {
            "strategy": "canary",
            "steps": [
                {"share_bp": 250, "hold_seconds": 60, "min_requests": 9},
                {"share_bp": 5000, "hold_seconds": 60, "min_requests": 9},
            ],
            "watch_seconds": 900,
        },
        "gate_policy": "strict@2",
        "note": "better",
        "supersede": True,
    }


def test_start__plan_file__is_sent_as_it_is(serve: Any, run: Run, tmp_path: Path) -> None:
    control_plane = serve(lambda *_: (201, rollout()))
    file = tmp_path / "plan.json"
    file.write_text('{"steps": [{"share_bp": 100, "hold_seconds": 5}]}')

    run("rollout", "start", "chat", "2", "--plan", str(file))

    assert control_plane.seen[0][2]["plan"] == {"steps": [{"share_bp": 100, "hold_seconds": 5}]}


def test_start__and_wait__ends_like_wait(serve: Any, run: Run) -> None:
    control_plane = serve(lambda *_: (200, rollout(phase="rolled-back", reason="Rolled back.")))

    outcome = run("rollout", "start", "chat", "2", "--wait", "--interval", "0.01")

    assert outcome.code == 1
    assert [method for method, *_ in control_plane.seen] == ["POST", "GET"]


@pytest.mark.parametrize(("can_start", "code"), [(True, 0), (False, 3)])
def test_start__dry_run__says_whether_it_could(can_start: bool, code: int, serve: Any, run: Run) -> None:
    state = "ok" if can_start else "refused"
    check = {"state": state, "title": "The stable variant is ready", "detail": "1 of 1", "fix": ""}
    preview = {"can_start": can_start, "checks": [check], "gates": [{"sentence": "Finds a doubling."}]}
    control_plane = serve(lambda *_: (200, preview))

    outcome = run("rollout", "start", "chat", "2", "--dry-run")

    assert outcome.code == code
    assert control_plane.seen[0][2]["dry_run"] is True
    assert "The stable variant is ready" in outcome.out
    assert "Finds a doubling." in outcome.out


@pytest.mark.parametrize("option", ["--expected-revision", "--expected-version"])
@pytest.mark.parametrize("action", ["pause", "resume", "promote", "rollback", "cancel"])
def test_action__revision_and_why__are_sent(action: str, option: str, serve: Any, run: Run) -> None:
    control_plane = serve(lambda *_: (200, rollout()))

    assert run("rollout", action, "#7", "--why", "Lunch.", option, "4").code == 0
    method, path, body, _ = control_plane.seen[0]
    assert (method, path) == ("POST", f"/api/v1/rollouts/7/{action}")
    assert body == {"why": "Lunch.", "expected_revision": 4}


def test_rollout__named_by_its_endpoint__is_the_newest_one(serve: Any, run: Run) -> None:
    def answer(method: str, path: str, body: Any) -> tuple[int, Any]:
        return 200, {"items": [rollout(id=31)]} if "?" in path else rollout(id=31)

    control_plane = serve(answer)

    assert run("rollout", "pause", "chat").code == 0
    assert control_plane.seen[0][1] == "/api/v1/rollouts?endpoint=chat&limit=1"
    assert control_plane.seen[1][1] == "/api/v1/rollouts/31/pause"


def test_rollout__endpoint_without_one__is_not_found(serve: Any, run: Run) -> None:
    serve(lambda *_: (200, {"items": []}))

    assert run("rollout", "status", "chat").code == 4


def test_endpoint_list__several_pages__are_all_shown(serve: Any, run: Run) -> None:
    def item(name: str) -> dict[str, Any]:
        return {"name": name, "model": "triage", "stable": None, "environment": "production", "rollouts": []}

    def answer(method: str, path: str, body: Any) -> tuple[int, Any]:
        if "cursor=abc" in path:
            return 200, {"items": [item("two")], "next": None}
        # The address in `next` is the server's own; behind a proxy it is not the one we reached it by.
        return 200, {"items": [item("one")], "next": "http://inside:1/api/v1/endpoints?cursor=abc&limit=200"}

    serve(answer)

    assert [item["name"] for item in run("endpoint", "list", "--json").json["endpoints"]] == ["one", "two"]


def test_exit_codes__help__lists_all(run: Run) -> None:
    out = run("rollout", "wait", "--help").out

    for code in Exit:
        assert f"{code.value:>3}  {code.meaning}" in out


def test_exit_codes__manual__has_the_same_table() -> None:
    manual = (ROOT / "docs" / "cli.md").read_text()

    told = re.findall(r"^\| (\d+) \| `([a-z-]+)` \| (.+) \|$", manual, re.MULTILINE)
    assert told == [(str(code.value), code.word, code.meaning) for code in Exit]


def test_command__as_a_process__needs_no_django() -> None:
    program = (
        "import sys; from controlplane.cli.main import main; code = main(['endpoint', 'list']); "
        "assert 'django' not in sys.modules and 'controlplane.config' not in sys.modules; sys.exit(code)"
    )
    ended = subprocess.run(
        [sys.executable, "-c", program],
        cwd=ROOT,
        env={"PATH": ""},
        capture_output=True,
        text=True,
        check=False,
    )

    assert ended.returncode == 2, ended.stderr
    assert "HEADGATE_TOKEN" in ended.stderr
