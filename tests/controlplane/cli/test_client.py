from __future__ import annotations

from typing import Any

import pytest

from controlplane.cli.client import ATTEMPTS
from tests.controlplane.cli.conftest import Run
from tests.controlplane.cli.stand_in import Answer, rollout


@pytest.mark.parametrize(
    ("status", "code", "result"),
    [
        (400, 3, "refused"),
        (422, 3, "refused"),
        (401, 9, "not-allowed"),
        (403, 9, "not-allowed"),
        (404, 4, "not-found"),
        (409, 5, "conflict"),
        (429, 6, "unavailable"),
        (500, 6, "unavailable"),
        (503, 6, "unavailable"),
    ],
)
def test_call__problem__ends_with_its_code_and_tells_the_fix(
    status: int, code: int, result: str, serve: Any, run: Run
) -> None:
    problem = {"detail": "No.", "fix": "Do this.", "code": "x", "status": status}
    serve(lambda *_: (status, problem))

    outcome = run("rollout", "pause", "7", "--json")

    assert outcome.code == code
    assert outcome.json["result"] == result
    assert outcome.json["reason"] == "No."
    assert outcome.json["problem"] == problem
    assert outcome.err == "No.\nDo this.\n"


def test_call__wrong_values__are_named(serve: Any, run: Run) -> None:
    errors = [
        {"field": "version", "detail": "Too small.", "code": "min"},
        {"field": "plan", "detail": "Missing."},
    ]
    serve(lambda *_: (400, {"detail": "Wrong form.", "errors": errors}))

    outcome = run("rollout", "start", "chat", "2")

    assert outcome.err == "Wrong form.\n  version: Too small.\n  plan: Missing.\n"


def test_post__no_answer_at_first__is_sent_again_with_the_same_key(serve: Any, run: Run) -> None:
    answers: list[Answer] = [(503, {"detail": "starting"}), (502, "<html>"), (200, rollout(phase="paused"))]
    control_plane = serve(lambda *_: answers.pop(0))

    assert run("rollout", "pause", "7").code == 0
    keys = {headers["Idempotency-Key"] for _, _, _, headers in control_plane.seen}
    assert len(control_plane.seen) == 3
    assert len(keys) == 1


def test_post__never_answered__gives_up(serve: Any, run: Run) -> None:
    control_plane = serve(lambda *_: (503, {"detail": "starting"}))

    assert run("rollout", "pause", "7").code == 6
    assert len(control_plane.seen) == ATTEMPTS


def test_post__refused__is_not_sent_again(serve: Any, run: Run) -> None:
    control_plane = serve(lambda *_: (409, {"detail": "Changed."}))

    run("rollout", "pause", "7")

    assert len(control_plane.seen) == 1


def test_call__nobody_listens__is_unavailable_naming_the_address(run: Run, serve: Any) -> None:
    control_plane = serve(lambda *_: (200, {}))
    control_plane.stop()

    outcome = run("endpoint", "list")

    assert outcome.code == 6
    assert control_plane.url in outcome.err
    assert "HEADGATE_URL" in outcome.err


def test_call__answer_is_no_json__is_unavailable(serve: Any, run: Run) -> None:
    serve(lambda *_: (200, "<html>a sign-in page of a proxy</html>"))

    outcome = run("endpoint", "list")

    assert outcome.code == 6
    assert "no JSON" in outcome.err


def test_call__token__is_sent_as_bearer_and_never_printed(serve: Any, run: Run) -> None:
    control_plane = serve(lambda *_: (500, {"detail": "Broken."}))

    outcome = run("endpoint", "list", "--json")

    assert control_plane.seen[0][3]["Authorization"] == "Bearer hg_of-a-test"
    assert "hg_of-a-test" not in outcome.out + outcome.err
