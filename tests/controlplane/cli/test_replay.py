"""`headgate replay`: parts are asked for until it is done, and every end has its own exit code."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from controlplane.cli.exits import Exit
from tests.controlplane.cli.conftest import Run
from tests.controlplane.cli.stand_in import Answer, StandIn

Serve = Callable[[Callable[[str, str, Any], Answer]], StandIn]


def report(**changes: Any) -> dict[str, Any]:
    return {
        "kind": "replay",
        "rollout": 7,
        "endpoint": "chat",
        "policy": "default@1",
        "outcome": "identical",
        "sentence": "120 intervals replayed: identical.",
        "intervals": 120,
        "decisions": 9,
        "digest": "sha256:ab",
        "kept": True,
        "first": None,
        "first_other": None,
        "recorded": None,
        "replayed": None,
        "limit": "",
    } | changes


def moment(after: float, cause: str = "gate:errors") -> dict[str, Any]:
    return {"row": "interval 12", "at": 0.0, "after": after, "cause": cause, "sentence": "Errors."}


def done(found: dict[str, Any]) -> dict[str, Any]:
    return {"state": "done", "done": 129, "total": 129, "run": None, "report": found}


def test_replay__identical__exit_0_with_the_sentence_and_the_digest(serve: Serve, run: Run) -> None:
    serve(lambda method, path, body: (200, done(report())))
    outcome = run("replay", "7")
    assert outcome.code == Exit.OK
    assert "120 intervals replayed: identical." in outcome.out
    assert "sha256:ab" in outcome.out


def test_replay__sentences_are_worded_differently__shows_the_first_then_and_today(
    serve: Serve, run: Run
) -> None:
    worded = {"row": "interval 3", "path": "decision.reason", "recorded": "Old.", "replayed": "New."}
    serve(lambda method, path, body: (200, done(report(reworded=1, first_reworded=worded))))
    outcome = run("replay", "7")
    assert outcome.code == Exit.OK
    assert "then: Old." in outcome.out
    assert "today: New." in outcome.out


def test_replay__of_a_long_rollout__goes_on_with_the_run_until_it_is_done(serve: Serve, run: Run) -> None:
    asked: list[str] = []

    def answer(method: str, path: str, body: Any) -> Answer:
        asked.append(path)
        if "run=abc" in path:
            return 200, done(report())
        return 202, {"state": "underway", "done": 60, "total": 129, "run": "abc", "report": None}

    serve(answer)
    outcome = run("replay", "#7")
    assert outcome.code == Exit.OK
    assert len(asked) == 2
    assert "60 of 129 replayed" in outcome.err


def test_replay__something_differs__exit_11_names_row_and_path(serve: Serve, run: Run) -> None:
    found = {
        "row": "interval 3",
        "path": "verdicts.rollback",
        "recorded": False,
        "replayed": True,
        "at": 0.0,
    }
    answer = report(outcome="differs", kept=False, first=found, first_other=found, sentence="It differs.")
    serve(lambda method, path, body: (200, done(answer)))
    outcome = run("replay", "7")
    assert outcome.code == int(Exit.DIFFERS) == 11
    assert "interval 3, verdicts.rollback: recorded False, replayed True" in outcome.out


def test_replay__tampered__exit_12_with_the_row(serve: Serve, run: Run) -> None:
    problem = {
        "status": 422,
        "code": "evidence-tampered",
        "detail": "The evidence was changed after it was written: interval 5 is missing.",
        "extra": {"row": "interval 5"},
    }
    serve(lambda method, path, body: (422, problem))
    outcome = run("replay", "7", "--json")
    assert outcome.code == int(Exit.TAMPERED) == 12
    assert outcome.json["problem"]["extra"]["row"] == "interval 5"


@pytest.mark.parametrize(("outcome_word", "code"), [("same", Exit.OK), ("differs", Exit.DIFFERS)])
def test_replay__another_policy__exit_says_whether_a_decision_differs(
    serve: Serve, run: Run, outcome_word: str, code: Exit
) -> None:
    sides = {
        "rollback": moment(62.0),
        "passed": None,
        "decided": moment(62.0),
        "policy": "default@1",
    }
    first = {
        "moment": moment(21.0),
        "recorded": {"reason": "Holding 25%."},
        "replayed": {"reason": "Errors are proven worse."},
    }
    answer = report(
        kind="what-if",
        outcome=outcome_word,
        recorded=sides,
        replayed={**sides, "policy": "strict@2", "rollback": moment(21.0)},
        first=first if outcome_word == "differs" else None,
        limit="From the first other decision on it is a guess.",
    )
    served: list[str] = []

    def give(method: str, path: str, body: Any) -> Answer:
        served.append(path)
        return 200, done(answer)

    serve(give)
    outcome = run("replay", "7", "--policy", "strict@2")
    assert outcome.code == code
    assert "policy=strict%402" in served[0]
    assert "62 s, interval 12 gate:errors" in outcome.out
    assert ("Errors are proven worse." in outcome.out) == (outcome_word == "differs")
