from __future__ import annotations

import threading
import time
from typing import Any

import pytest

from tests.controlplane.cli.conftest import Run
from tests.controlplane.cli.stand_in import Answer, StandIn, rollout

FAST = ("--interval", "0.02")


def story(*states: dict[str, Any]) -> Any:
    """Answers with one state after the other; the last one stays."""
    left = list(states)

    def answer(method: str, path: str, body: Any) -> Answer:
        return 200, left.pop(0) if len(left) > 1 else left[0]

    return answer


PROMOTED = rollout(phase="succeeded", share_bp=10_000, reason="Promoted: v2 has all traffic.")
ROLLED_BACK = rollout(
    phase="rolled-back",
    share_bp=0,
    reason="Rolled back.",
    cause="gate:quality",
    cause_sentence="Golden-set score fell by 0.31, limit 0.05.",
)


@pytest.mark.parametrize(
    ("end", "code", "result"),
    [
        (PROMOTED, 0, "ok"),
        (ROLLED_BACK, 1, "rolled-back"),
        (rollout(phase="cancelled"), 8, "ended-otherwise"),
        (rollout(phase="failed"), 8, "ended-otherwise"),
        (rollout(phase="superseded"), 8, "ended-otherwise"),
    ],
)
def test_wait__decided__ends_with_the_code_of_the_outcome(
    end: dict[str, Any], code: int, result: str, serve: Any, run: Run
) -> None:
    serve(story(rollout(), rollout(share_bp=2_500), end))

    outcome = run("rollout", "wait", "7", "--json", *FAST)

    assert outcome.code == code
    assert outcome.json["result"] == result
    assert outcome.json["exit_code"] == code
    assert outcome.json["rollout"]["phase"] == end["phase"]


def test_wait__rolled_back__says_the_cause_in_text_and_json(serve: Any, run: Run) -> None:
    serve(story(ROLLED_BACK))

    text, data = run("rollout", "wait", "7", *FAST), run("rollout", "wait", "7", "--json", *FAST)

    assert text.out == "Rolled back. Golden-set score fell by 0.31, limit 0.05.\n"
    assert data.json["reason"] == "Golden-set score fell by 0.31, limit 0.05."
    assert data.json["rollout"]["cause"] == "gate:quality"


def test_wait__progress__is_one_line_a_change_on_standard_error(serve: Any, run: Run) -> None:
    serve(story(rollout(), rollout(), rollout(share_bp=2_500), rollout(share_bp=2_500), PROMOTED))

    outcome = run("rollout", "wait", "7", *FAST)

    assert outcome.err.splitlines() == [
        "#7 chat v2  progressing  5%  Holding 5%: 10 s of 1 min. No gate failed.",
        "#7 chat v2  progressing  25%  Holding 5%: 10 s of 1 min. No gate failed.",
        "#7 chat v2  succeeded  100%  Promoted: v2 has all traffic.",
    ]
    assert outcome.out == "Promoted: v2 has all traffic.\n"


def test_wait__quiet__says_nothing_on_standard_error(serve: Any, run: Run) -> None:
    serve(story(rollout(), PROMOTED))

    assert run("rollout", "wait", "7", "--quiet", *FAST).err == ""


def test_wait__never_decided__times_out_and_says_where_it_is(serve: Any, run: Run) -> None:
    serve(story(rollout()))

    outcome = run("rollout", "wait", "7", "--json", "--timeout", "0.1", *FAST)

    assert (outcome.code, outcome.json["result"]) == (7, "timed-out")
    assert outcome.json["rollout"]["phase"] == "progressing"


def test_wait__web_process_restarts__goes_on(serve: Any, run: Run) -> None:
    control_plane: StandIn = serve(story(rollout()))

    def restart() -> None:
        time.sleep(0.15)
        control_plane.stop()
        time.sleep(0.3)
        control_plane.answer = story(PROMOTED)
        control_plane.start()

    restarting = threading.Thread(target=restart)
    restarting.start()
    outcome = run("rollout", "wait", "7", *FAST)
    restarting.join()

    assert outcome.code == 0
    assert "The control plane does not answer" in outcome.err
    assert "answers again" in outcome.err


def test_wait__proxy_answers_502_meanwhile__goes_on(serve: Any, run: Run) -> None:
    answers: list[Answer] = [
        (502, "<html>Bad gateway</html>"),
        (503, {"detail": "starting"}),
        (200, PROMOTED),
    ]
    serve(lambda *_: answers.pop(0))

    assert run("rollout", "wait", "7", *FAST).code == 0


def test_wait__control_plane_stays_away__is_unavailable(serve: Any, run: Run) -> None:
    control_plane = serve(story(rollout()))
    control_plane.stop()

    outcome = run("rollout", "wait", "7", "--json", "--silence", "0.1", *FAST)

    assert (outcome.code, outcome.json["result"]) == (6, "unavailable")


def test_wait__unknown_rollout__ends_at_once(serve: Any, run: Run) -> None:
    serve(lambda *_: (404, {"detail": "There is no rollout #7.", "code": "rollout-not-found"}))

    outcome = run("rollout", "wait", "7", *FAST)

    assert (outcome.code, outcome.err) == (4, "There is no rollout #7.\n")


def test_wait__through_the_watch__sees_the_rollback_in_it(serve: Any, run: Run) -> None:
    watched = PROMOTED | {"watching": True}
    serve(story(watched, watched, ROLLED_BACK))

    assert run("rollout", "wait", "7", "--through-watch", *FAST).code == 1


def test_wait__without_the_watch__ends_with_the_promotion(serve: Any, run: Run) -> None:
    serve(story(PROMOTED | {"watching": True}, ROLLED_BACK))

    assert run("rollout", "wait", "7", *FAST).code == 0


def test_wait__control_plane_hangs__ends_at_its_time_out(serve: Any, run: Run) -> None:
    hangs = threading.Event()

    def answer(method: str, path: str, body: Any) -> Answer:
        hangs.wait(20)
        return 200, rollout()

    serve(answer)
    begun = time.monotonic()
    code = run("rollout", "wait", "7", "--timeout", "0.2", *FAST).code
    hangs.set()

    assert code == 7
    assert time.monotonic() - begun < 10


def test_wait__answers_of_something_else__goes_on_until_the_silence_is_over(serve: Any, run: Run) -> None:
    answers: list[Answer] = [(200, "<html>We are back soon</html>"), (200, {}), (200, PROMOTED | {"id": 8})]
    serve(lambda *_: answers.pop(0) if answers else (200, PROMOTED))

    assert run("rollout", "wait", "7", *FAST).code == 0
