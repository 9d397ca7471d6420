"""Rollouts of strategies that this command does not know: a newer server has more of them."""

from __future__ import annotations

from typing import Any

import pytest

from tests.controlplane.cli.conftest import Run
from tests.controlplane.cli.stand_in import Answer, rollout

OF_ITS_OWN = (200, {"kind": "shadow", "differences": 3})
UNKNOWN_THERE = (503, {"code": "unknown-strategy", "detail": "This version knows no strategy 'shadow'."})


@pytest.mark.parametrize("verdict", [OF_ITS_OWN, UNKNOWN_THERE])
def test_status__strategy_that_the_command_does_not_know__says_where_it_stands(
    verdict: Answer, serve: Any, run: Run
) -> None:
    made = rollout(strategy="shadow", reason="It holds 40%.")
    serve(lambda method, path, body: verdict if path.endswith("/verdicts") else (200, made))
    outcome = run("rollout", "status", "7")
    assert outcome.code == 0
    assert "It holds 40%." in outcome.out
    assert "This command does not know a shadow: what its evidence says is not shown." in outcome.out
    assert run("rollout", "status", "7", "--json").json["rollout"]["strategy"] == "shadow"


def test_status__strategy_that_the_command_knows__a_verdict_of_another_form_is_no_answer(
    serve: Any, run: Run
) -> None:
    serve(lambda method, path, body: OF_ITS_OWN if path.endswith("/verdicts") else (200, rollout()))
    assert run("rollout", "status", "7").code == 6
