"""What wakes the loop between two ticks."""

from __future__ import annotations

import threading
import time

from rollouts.wake import APART_SECONDS, LoopWaker


class Looks:
    """A look that is counted; it fails as often as `fails` says."""

    def __init__(self, fails: int = 0) -> None:
        self.at: list[float] = []
        self.looked = threading.Semaphore(0)
        self._fails = fails

    def __call__(self) -> None:
        self.at.append(time.monotonic())
        self.looked.release()
        if len(self.at) <= self._fails:
            raise RuntimeError("no broker")


def test_wake__where_the_loop_does_not_run__looks_at_nothing() -> None:
    looks = Looks()
    waker = LoopWaker(looks)
    waker.wake()
    assert not looks.looked.acquire(timeout=0.3)


def test_wake__many_changes_at_once__are_one_look() -> None:
    looks = Looks()
    waker = LoopWaker(looks)
    waker.run_here()
    for _ in range(500):
        waker.wake()
    assert looks.looked.acquire(timeout=10)
    assert not looks.looked.acquire(timeout=APART_SECONDS + 0.3)


def test_wake__changes_all_the_time__keeps_looks_apart() -> None:
    looks = Looks()
    waker = LoopWaker(looks)
    waker.run_here()
    ends = time.monotonic() + 4 * APART_SECONDS
    while time.monotonic() < ends:
        waker.wake()
        time.sleep(0.01)
    assert looks.looked.acquire(timeout=10)
    gaps = [later - earlier for earlier, later in zip(looks.at, looks.at[1:], strict=False)]
    assert gaps
    assert min(gaps) >= APART_SECONDS - 0.01


def test_wake__during_a_look__looks_once_more() -> None:
    looks = Looks()
    waker = LoopWaker(looks)
    waker.run_here()
    waker.wake()
    assert looks.looked.acquire(timeout=10)
    waker.wake()
    assert looks.looked.acquire(timeout=10)


def test_look__that_failed__ends_nothing() -> None:
    looks = Looks(fails=1)
    waker = LoopWaker(looks)
    waker.run_here()
    waker.wake()
    assert looks.looked.acquire(timeout=10)
    waker.wake()
    assert looks.looked.acquire(timeout=10)
