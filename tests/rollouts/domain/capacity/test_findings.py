"""What a dry run is told of the room for engines."""

from __future__ import annotations

import pytest

from controlplane.kernel.errors import InvalidInput, Rejected, Unavailable
from rollouts.domain.capacity.engine_memory import GIB, EngineMemory, MemoryUnknown
from rollouts.domain.capacity.findings import (
    CapacityFinding,
    Room,
    accelerator_finding,
    memory_of_machine,
    not_asked,
    placement_finding,
)
from rollouts.domain.capacity.nodes import PlacedPod, Quota
from rollouts.domain.capacity.placement import place
from tests.rollouts.domain.capacity.clusters import demand, node, supply, wanted

# --- one machine ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("free_mb", "room"), [(6_400, Room.ENOUGH), (6_399, Room.SHORT)])
def test_memory_of_machine__several_engines__are_looked_at_together(free_mb: int, room: Room) -> None:
    (found,) = memory_of_machine(free_mb, [3_200, 3_200])
    assert (found.room, found.title.startswith("2 more engines need 6,400 MB")) == (room, True)


def test_memory_of_machine__engine_that_wants_more__counts_with_what_it_wants() -> None:
    assert memory_of_machine(9_000, [9_000])[0] == CapacityFinding(
        Room.ENOUGH, "One more engine needs 9,000 MB", "9,000 MB are free"
    )


def test_memory_of_machine__no_new_engine__says_nothing() -> None:
    assert memory_of_machine(0, []) == ()


# --- nodes ------------------------------------------------------------------------------------------------------------


def test_placement__room_beside_what_runs__is_enough_with_its_figures() -> None:
    found = placement_finding(place(supply(node("a"), node("b", taken=4)), wanted(2, headroom_percent=25)))
    assert (found.room, found.title) == (Room.ENOUGH, "2 replicas fit beside what runs")
    assert found.detail == (
        "Each replica asks for 4 CPU, 32 GiB of memory, 4 x nvidia.com/gpu. 8 x nvidia.com/gpu are needed, "
        "12 x nvidia.com/gpu are free on nodes with pool=gpu; 3 x nvidia.com/gpu of them stay free (headroom of 25%)."
    )


def test_placement__without_accelerators__tells_how_many_such_pods_find_a_node() -> None:
    found = placement_finding(place(supply(node("a")), wanted(1, demand=demand(0), accelerator="")))
    assert found.detail.endswith("There is room for 16 such pods on nodes with pool=gpu.")


def test_placement__replica_of_several_pods__asks_by_pod() -> None:
    found = placement_finding(place(supply(node("a"), node("b")), wanted(1, pods=2)))
    assert found.detail.startswith("Each replica is 2 pods, and each of them asks for 4 CPU")


def test_placement__room_only_in_place_of_the_baseline__is_short_because_nothing_is_replaced() -> None:
    found = placement_finding(place(supply(node("a", taken=8)), wanted(1), (PlacedPod("a", demand()),)))
    assert found.room is Room.SHORT
    assert found.title == "1 replica fits once the baseline's have ended, none of them before"
    assert found.detail.startswith("A rollout keeps the baseline beside its candidates")
    assert "4 x nvidia.com/gpu are short" in found.detail
    assert found.fix


def test_placement__no_room__says_what_is_short_and_what_waits() -> None:
    found = placement_finding(place(supply(node("a", taken=8), waiting={"nvidia.com/gpu": 1_000}), wanted(1)))
    assert (found.room, found.title) == (Room.SHORT, "1 replica does not fit; 0 would now")
    assert "4 x nvidia.com/gpu are short" in found.detail
    assert found.detail.endswith("Other pods wait for 1 x nvidia.com/gpu already.")


def test_placement__many_things_short__tells_the_first_of_them_and_how_many_more() -> None:
    quotas = tuple(Quota(f"q{n}", {"pods": 0}) for n in range(20))
    found = placement_finding(place(supply(node("a"), quotas=quotas), wanted(1)))
    assert "The quota q7 leaves 0 pods" in found.detail
    assert "q8" not in found.detail
    assert "12 more things are short." in found.detail


# --- accelerators -----------------------------------------------------------------------------------------------------


def memory(weights: int, cache: int) -> EngineMemory:
    """On an accelerator of 80 GiB, of which 70 may be taken; the overhead is 3."""
    return EngineMemory(weights * GIB, cache * GIB, 3 * GIB, 80 * GIB, 70 * GIB, 4_096, 1, 7, 1)


@pytest.mark.parametrize(
    ("weights", "cache", "room", "title"),
    [
        (16, 4, Room.ENOUGH, "v2 fits on its accelerators"),
        (62, 4, Room.TIGHT, "v2 fits on its accelerators only tightly"),
        (70, 4, Room.SHORT, "v2 does not fit on its accelerators"),
    ],
)
def test_accelerator__figures__follow_with_all_of_them(
    weights: int, cache: int, room: Room, title: str
) -> None:
    made = memory(weights, cache)
    found = accelerator_finding("v2", made)
    assert (found.room, found.title, found.detail) == (room, title, made.sentence)
    assert bool(found.fix) is (room is not Room.ENOUGH)


def test_accelerator__not_known__is_never_enough_and_says_why() -> None:
    found = accelerator_finding("v2", MemoryUnknown("config.json names no type."))
    assert (found.room, found.detail) == (Room.UNKNOWN, "config.json names no type.")


# --- what cannot be asked ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("error", "title"),
    [
        (Unavailable("It hangs.", fix="Wait."), "Whether the cluster has room cannot be asked now"),
        (Rejected("It may not.", fix="Wait."), "Whether the cluster has room cannot be asked now"),
        (InvalidInput("It is odd.", fix="Wait."), "Whether the cluster has room is not known"),
    ],
)
def test_not_asked__any_error__is_unknown_with_its_words(
    error: Unavailable | InvalidInput, title: str
) -> None:
    assert not_asked(error) == CapacityFinding(Room.UNKNOWN, title, error.message, "Wait.")
