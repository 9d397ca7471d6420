"""Ticks that piled up are left out."""

from __future__ import annotations

from controlplane.passes.ticks import Ticks


def test_ticks__that_piled_up__one_is_done() -> None:
    now = [100.0]
    ticks = Ticks(seconds=0.5, clock=lambda: now[0])
    assert [ticks.may_begin() for _ in range(5)] == [True, False, False, False, False]


def test_ticks__that_come_when_they_are_due__are_all_done() -> None:
    now = [100.0]
    ticks = Ticks(seconds=0.5, clock=lambda: now[0])
    done = 0
    for _ in range(5):
        done += ticks.may_begin()
        now[0] += 0.9
    assert done == 5
