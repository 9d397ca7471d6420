"""A server that cannot read one of its rows leaves it out of a list and says so: the command says it, too."""

from __future__ import annotations

from typing import Any

import pytest

from tests.controlplane.cli.conftest import Run
from tests.controlplane.cli.stand_in import rollout

SAID = "What is stored of rollout #9 cannot be read: ValueError: odd"


@pytest.mark.parametrize("others", [0, 1])
def test_list__something_cannot_be_read__is_told_beside_the_others(serve: Any, run: Run, others: int) -> None:
    page = {"items": [rollout()] * others, "next": None, "previous": None, "unreadable": [SAID]}
    serve(lambda method, path, body: (200, page))
    outcome = run("rollout", "list")
    assert outcome.code == 0
    assert SAID in outcome.out
    assert "No rollouts" not in outcome.out
    assert run("rollout", "list", "--json").json["unreadable"] == [SAID]


def test_list_of_endpoints__something_cannot_be_read__is_told(serve: Any, run: Run) -> None:
    page = {"items": [], "next": None, "previous": None, "unreadable": [SAID]}
    serve(lambda method, path, body: (200, page))
    assert run("endpoint", "list").out.strip() == SAID


def test_newest_rollout_of_an_endpoint__cannot_be_read__nobody_says_that_there_is_none(
    serve: Any, run: Run
) -> None:
    page = {"items": [], "next": None, "previous": None, "unreadable": [SAID]}
    serve(lambda method, path, body: (200, page))
    outcome = run("rollout", "rollback", "triage")
    assert outcome.code == 6
    assert SAID in outcome.err
    assert "Give the number of the rollout." in outcome.err
