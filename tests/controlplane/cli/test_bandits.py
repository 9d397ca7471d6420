"""A bandit on the command line: started, looked at, waited for, and an arm chosen."""

from __future__ import annotations

from typing import Any

import pytest

from tests.controlplane.cli.conftest import Run
from tests.controlplane.cli.stand_in import Answer, bandit, bandit_verdict, rollout

FAST = ("--interval", "0.02")


def story(*states: dict[str, Any], verdict: dict[str, Any] | None = None) -> Any:
    """Answers with one state after the other; the last one stays. Verdicts are always the same."""
    left = list(states)

    def answer(method: str, path: str, body: Any) -> Answer:
        if path.endswith("/verdicts"):
            return 200, bandit_verdict() if verdict is None else verdict
        return 200, left.pop(0) if len(left) > 1 else left[0]

    return answer


# --- starting -----------------------------------------------------------------------------------------------


def test_start__options__become_the_bandit_s_plan(serve: Any, run: Run) -> None:
    control_plane = serve(lambda *_: (201, bandit(phase="pending")))

    outcome = run(
        *("rollout", "start", "chat", "2", "v3", "--strategy", "bandit", "--alpha", "0.1", "--beta", "0.7"),
        *("--floor", "4", "--baseline-share", "12.5", "--burn-in", "300", "--reweight", "30"),
        *("--skip-below", "1", "--discount", "0.99", "--deadline", "7200", "--watch-seconds", "60"),
    )

    assert outcome.code == 0, outcome.err
    assert control_plane.seen[0][2] == {
        "endpoint": "chat",
        "versions": [2, 3],
        "plan": {
            "strategy": "bandit",
            "bandit": {
                "alpha": 0.1,
                "beta": 0.7,
                "floor_bp": 400,
                "baseline_bp": 1250,
                "burn_in": 300,
                "reweight_seconds": 30.0,
                "min_change_bp": 100,
                "discount": 0.99,
            },
            "watch_seconds": 60,
            "deadline_seconds": 7200,
        },
    }


def test_start__no_options__leaves_all_to_the_server(serve: Any, run: Run) -> None:
    control_plane = serve(lambda *_: (201, bandit()))

    assert run("rollout", "start", "chat", "2", "3", "--strategy", "bandit").code == 0
    assert control_plane.seen[0][2]["plan"] == {"strategy": "bandit", "bandit": {}, "watch_seconds": 86_400}


def test_start__bandit_of_one_version__is_sent_as_one(serve: Any, run: Run) -> None:
    control_plane = serve(lambda *_: (201, bandit()))

    assert run("rollout", "start", "chat", "2", "--strategy", "bandit").code == 0
    assert control_plane.seen[0][2]["version"] == 2


@pytest.mark.parametrize(
    ("argv", "said"),
    [
        (("2", "3"), "--strategy bandit"),
        (("2", "--beta", "0.7"), "--beta is of a bandit"),
        (("2", "--deadline", "60"), "--deadline is of a bandit"),
        (("2", "3", "--strategy", "bandit", "--steps", "5,50"), "--steps is of a canary"),
        (("2", "--strategy", "bandit", "--min-requests", "5"), "--min-requests is of a canary"),
        (("2", "--strategy", "shadow"), "invalid choice"),
        (("2", "--strategy", "bandit", "--beta", "much"), "invalid float"),
        (("2", "--strategy", "bandit", "--burn-in", "nan"), "--burn-in is nan"),
        (("2", "--strategy", "bandit", "--floor", "inf"), "--floor is inf"),
    ],
)
def test_start__options_that_do_not_fit__are_a_usage_error(
    argv: tuple[str, ...], said: str, serve: Any, run: Run
) -> None:
    control_plane = serve(lambda *_: (201, bandit()))

    outcome = run("rollout", "start", "chat", *argv)

    assert outcome.code == 2
    assert said in outcome.err
    assert control_plane.seen == []


# --- looking ------------------------------------------------------------------------------------------------


def test_status__bandit__has_a_row_an_arm_and_why_one_left(serve: Any, run: Run) -> None:
    serve(story(bandit()))

    lines = [" ".join(line.split()) for line in run("rollout", "status", "7").out.splitlines()]

    assert lines[0] == "#7 chat bandit progressing v1 10%, v2 90%, v3 dropped Two of three arms remain."
    assert "Two of three arms remain, no winner yet." in lines
    assert "v1 baseline racing 10% 4,000 0.920 (0.910 to 0.930) 50% 0.0310 3.2 of 20 -" in lines
    assert "v2 candidate racing 90% 12,000 0.920 (0.910 to 0.930) 50% 0.0004 0.1 of 20 2 of 3" in lines
    assert "v3 candidate-2 eliminated 0% 0 - 0% - 24 of 20 0 of 3" in lines
    assert "v3: Worse than v2: 24 to 1." in lines
    assert "v2 pass Error rate No worse." in lines


def test_status__bandit_as_json__has_the_verdict(serve: Any, run: Run) -> None:
    serve(story(bandit()))

    found = run("rollout", "status", "7", "--json").json

    assert found["bandit"]["survivors"] == ["baseline", "candidate"]
    assert found["rollout"]["strategy"] == "bandit"


def test_status__bandit_that_measured_nothing__says_where_it_is(serve: Any, run: Run) -> None:
    nothing: dict[str, Any] = {"kind": "bandit", "sentence": "", "threshold": None, "arms": [], "gates": {}}
    serve(story(bandit(phase="provisioning"), verdict=nothing))

    assert len(run("rollout", "status", "7").out.splitlines()) == 2


def test_list__bandit__is_shown_with_all_its_shares(serve: Any, run: Run) -> None:
    serve(lambda *_: (200, {"items": [bandit(), rollout(id=6)]}))

    lines = [" ".join(line.split()) for line in run("rollout", "list").out.splitlines()]

    assert lines[1].startswith("#7 chat bandit progressing v1 10%, v2 90%, v3 dropped")
    assert lines[2].startswith("#6 chat v2 progressing 5%")


# --- waiting ------------------------------------------------------------------------------------------------

TIE = bandit(phase="paused", pause_reason="inconclusive", reason="v1 or v2: no winner within 2 h.")
WON = bandit(phase="succeeded", reason="Promoted: v2 has all traffic.")


def test_wait__tie__ends_with_its_own_code_and_says_between_whom(serve: Any, run: Run) -> None:
    serve(story(bandit(), TIE))

    outcome = run("rollout", "wait", "7", "--json", *FAST)

    assert (outcome.code, outcome.json["result"], outcome.json["exit_code"]) == (10, "undecided", 10)
    assert outcome.json["reason"] == "v1 or v2: no winner within 2 h."
    assert outcome.json["bandit"]["tie_sentence"] == "v1 or v2"
    assert outcome.json["rollout"]["pause_reason"] == "inconclusive"


@pytest.mark.parametrize(
    "held",
    [
        bandit(phase="paused", pause_reason="person"),
        rollout(phase="paused", pause_reason="inconclusive", strategy="canary"),
    ],
    ids=["a bandit that a person froze", "a canary past its deadline"],
)
def test_wait__held_otherwise__goes_on_waiting(held: dict[str, Any], serve: Any, run: Run) -> None:
    serve(story(held))

    assert run("rollout", "wait", "7", "--timeout", "0.1", *FAST).code == 7


def test_wait__winner__says_it_with_the_arms(serve: Any, run: Run) -> None:
    serve(story(bandit(), WON, verdict=bandit_verdict(winner="candidate", survivors=["candidate"])))

    outcome = run("rollout", "wait", "7", *FAST)

    assert outcome.code == 0
    assert outcome.out.splitlines()[0] == "Promoted: v2 has all traffic."
    assert "candidate-2  eliminated" in outcome.out


def test_wait__verdict_cannot_be_read__tells_the_end_all_the_same(serve: Any, run: Run) -> None:
    def answer(method: str, path: str, body: Any) -> Answer:
        return (503, {"detail": "starting"}) if path.endswith("/verdicts") else (200, WON)

    serve(answer)

    outcome = run("rollout", "wait", "7", *FAST)

    assert (outcome.code, outcome.out) == (0, "Promoted: v2 has all traffic.\n")


def test_wait__weights_move__is_a_line_only_when_an_arm_leaves(serve: Any, run: Run) -> None:
    early = bandit()
    early["arms"] = [arm | {"dropped_at": None, "observed_bp": 3_333} for arm in early["arms"]]
    moved = early | {"arms": [arm | {"observed_bp": 3_000} for arm in early["arms"]]}
    serve(story(early, moved, moved, bandit(), WON))

    lines = run("rollout", "wait", "7", *FAST).err.splitlines()

    assert [line.split("  ")[2] for line in lines] == [
        "v1 33.33%, v2 33.33%, v3 33.33%",
        "v1 10%, v2 90%, v3 dropped",
        "v1 10%, v2 90%, v3 dropped",
    ]


# --- choosing an arm ----------------------------------------------------------------------------------------


def test_promote__arm__is_sent(serve: Any, run: Run) -> None:
    control_plane = serve(lambda *_: (200, bandit(phase="promoting")))

    assert run("rollout", "promote", "7", "--arm", "candidate-2", "--why", "Cheaper.").code == 0
    assert control_plane.seen[0][2] == {"why": "Cheaper.", "arm": "candidate-2"}
