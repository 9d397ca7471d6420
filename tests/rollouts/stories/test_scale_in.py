"""No replica of an arm is taken away while it is compared, promoted, watched or drained; afterwards it may be."""

from __future__ import annotations

from pathlib import Path

import pytest

from controlplane.kernel.errors import Refused
from rollouts.models import Effect
from tests.rollouts.memory_world import BANDIT, ERRORS, MemoryWorld

pytestmark = [pytest.mark.django_db, pytest.mark.story]


@pytest.fixture
def w(tmp_path: Path) -> MemoryWorld:
    """Something scales every variant by itself."""
    w = MemoryWorld(tmp_path, gates=(ERRORS,), rate=30)
    w.cluster.autoscaled = True
    return w.serve()


def held(w: MemoryWorld, number: int) -> bool | None:
    return w.cluster.statuses()[w.variant(number).name].scale_in_held


def asked(w: MemoryWorld) -> int:
    return w.calls.names.count("cluster.hold_scale_in")


def test_scale_in__without_a_rollout__is_free_and_nobody_asks(w: MemoryWorld) -> None:
    w.run_for(20)
    assert held(w, 1) is False
    assert asked(w) == 0


def test_scale_in__while_arms_are_compared__is_held_for_both_and_asked_for_once(w: MemoryWorld) -> None:
    w.start(2)
    w.behave(2)
    w.run(lambda: w.shares().get(2) == 2_500)
    assert (held(w, 1), held(w, 2)) == (True, True)
    w.run_for(5)
    assert asked(w) == 2


def test_scale_in__promoted__is_held_through_the_watch_and_then_free(w: MemoryWorld) -> None:
    w.start(2)
    w.behave(2)
    w.run_to("succeeded")
    w.run_for(2)
    assert (held(w, 1), held(w, 2)) == (True, True)
    w.run(lambda: not w.rollout.watching)
    w.run(lambda: held(w, 2) is False, limit=20)


def test_scale_in__of_what_is_drained__stays_held_to_its_end(w: MemoryWorld) -> None:
    w.start(2)
    w.behave(2)
    w.run(lambda: w.shares().get(2) == 2_500)
    w.cluster.set_in_flight(w.variant(2).name, 3)
    w.roll_back()
    w.run_to("rolled-back")
    w.run(lambda: held(w, 1) is False, limit=20)
    assert held(w, 2) is True


def test_scale_in__arm_that_left_the_race__is_not_let_go_while_it_is_drained(w: MemoryWorld) -> None:
    w.start(2, others=(3,), plan=BANDIT)
    w.run_to("progressing")
    w.run(lambda: held(w, 3) is True)
    w.cluster.set_in_flight(w.variant(3).name, 3)
    w.behave(3, error_rate=0.9)
    w.run(lambda: w.arm(3).dropped_at is not None)
    w.run_for(5)
    assert held(w, 3) is True


def test_scale_in__cluster_that_refuses__holds_up_nothing_and_is_tried_again(
    w: MemoryWorld, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*args: object, **options: object) -> None:
        raise Refused("It may not be patched.")

    with monkeypatch.context() as patch:
        patch.setattr(w.cluster, "hold_scale_in", refuse)
        w.start(2)
        w.behave(2)
        w.run(lambda: w.shares().get(2) == 2_500)
        waiting = Effect.objects.filter(kind="hold-scale-in", state="pending")
        assert {one.problem for one in waiting} == {"It may not be patched."}
        assert waiting.count() == 2
    w.run(lambda: held(w, 1) is True and held(w, 2) is True, limit=60)


def test_scale_in__asked_for_and_not_wanted_any_more__is_not_done_later(
    w: MemoryWorld, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*args: object, **options: object) -> None:
        raise Refused("Not now.")

    with monkeypatch.context() as patch:
        patch.setattr(w.cluster, "hold_scale_in", refuse)
        w.start(2)
        w.behave(2)
        w.run(lambda: w.shares().get(2) == 2_500)
        w.roll_back()
        w.run_to("rolled-back")
        w.run_for(20)
    w.run_for(40)
    assert held(w, 1) is False
    assert not Effect.objects.filter(kind="hold-scale-in", state="pending", payload__on=True).exists()
