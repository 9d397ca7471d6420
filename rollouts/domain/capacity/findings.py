"""What a cluster says of the room for engines that would be launched, as a dry run shows it. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum

from controlplane.kernel.errors import HeadgateError, Unavailable
from rollouts.domain.capacity.engine_memory import EngineMemory, MemoryFit, MemoryUnknown
from rollouts.domain.capacity.placement import Placement, StartPlan

MOST_TOLD = 8  # things that are short


class Room(StrEnum):
    """Whether there is room."""

    ENOUGH = "enough"
    TIGHT = "tight"  # it depends on what nobody can compute beforehand
    SHORT = "short"
    UNKNOWN = "unknown"


@dataclass(frozen=True, slots=True)
class CapacityFinding:
    """One thing about the room, with its figures.

    title   what follows, without a full stop
    detail  the figures, in sentences
    fix     what to do where it is not enough
    """

    room: Room
    title: str
    detail: str = ""
    fix: str = ""


# --- one machine ------------------------------------------------------------------------------------------------------


def memory_of_machine(free_mb: int, needed_mb: Sequence[int]) -> tuple[CapacityFinding, ...]:
    """Whether new engines fit into the memory of one machine at once.

    free_mb    megabytes
    needed_mb  by each engine; no engine: nothing to say
    """
    if not needed_mb:
        return ()
    engines, needed = len(needed_mb), sum(needed_mb)
    what = "One more engine needs" if engines == 1 else f"{engines} more engines need"
    if needed <= free_mb:
        return (CapacityFinding(Room.ENOUGH, f"{what} {needed:,} MB", f"{free_mb:,} MB are free"),)
    return (
        CapacityFinding(
            Room.SHORT,
            f"{what} {needed:,} MB, {free_mb:,} MB are free",
            "They start one after the other as there is room; one that never fits does not take part.",
            "Stop another variant or program, or start with fewer versions.",
        ),
    )


# --- nodes and accelerators -------------------------------------------------------------------------------------------


def placement_finding(found: Placement) -> CapacityFinding:
    """Whether replicas find nodes."""
    title = found.head.removesuffix(".")
    short = [*found.shortages[:MOST_TOLD]]
    if len(found.shortages) > MOST_TOLD:
        short.append(f"{len(found.shortages) - MOST_TOLD:,} more things are short.")
    detail = " ".join([*short, found.figures, *found.notes])
    match found.plan:
        case StartPlan.SURGE:
            return CapacityFinding(Room.ENOUGH, title, detail)
        case StartPlan.REPLACE:
            beside = "A rollout keeps the baseline beside its candidates, so they would wait for room."
            fix = "Free what is short, start with fewer replicas, or give the stable variant fewer first."
            return CapacityFinding(Room.SHORT, title, f"{beside} {detail}", fix)
        case StartPlan.SHORT:
            fix = "Free what is short, or start with fewer replicas or versions."
            return CapacityFinding(Room.SHORT, title, detail, fix)


def accelerator_finding(label: str, found: EngineMemory | MemoryUnknown) -> CapacityFinding:
    """Whether a model fits on its accelerators. `label`: how people call the variant."""
    if isinstance(found, MemoryUnknown):
        return accelerator_unknown(label, found.reason)
    match found.fit:
        case MemoryFit.FITS:
            return CapacityFinding(Room.ENOUGH, f"{label} fits on its accelerators", found.sentence)
        case MemoryFit.TIGHT:
            title = f"{label} fits on its accelerators only tightly"
            fix = "Set a smaller max-model-len, or take more accelerators, to be sure."
            return CapacityFinding(Room.TIGHT, title, found.sentence, fix)
        case MemoryFit.TOO_LARGE:
            title = f"{label} does not fit on its accelerators"
            fix = "Take more or larger accelerators, set a smaller max-model-len, or a quantized version."
            return CapacityFinding(Room.SHORT, title, found.sentence, fix)


def accelerator_unknown(label: str, reason: str) -> CapacityFinding:
    """Why nobody can say whether a model fits; `reason` is a sentence."""
    return CapacityFinding(Room.UNKNOWN, f"Whether {label} fits on its accelerators is not known", reason)


def cannot_start(label: str, error: HeadgateError) -> CapacityFinding:
    """What the cluster would refuse when it is started. `label`: how people call the variant; empty: whatever it is."""
    what = f"{label} cannot" if label else "Nothing can"
    return CapacityFinding(Room.SHORT, f"{what} be started there", error.message, error.fix)


def not_asked(error: HeadgateError) -> CapacityFinding:
    """The cluster does not say what it has, or it cannot be judged."""
    now = "cannot be asked now" if isinstance(error, Unavailable) else "is not known"
    return CapacityFinding(Room.UNKNOWN, f"Whether the cluster has room {now}", error.message, error.fix)
