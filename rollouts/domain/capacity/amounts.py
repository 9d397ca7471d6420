"""Amounts of a cluster's resources as people read them."""

from __future__ import annotations

from controlplane.kernel.words import significant
from rollouts.domain.capacity.nodes import UNIT

GIB, MIB = 1 << 30, 1 << 20
BYTES = ("memory", "ephemeral-storage")


def amount_text(resource: str, thousandths: int) -> str:
    """`1.5 CPU`, `8 GiB of memory`, `4 x nvidia.com/gpu`, `3 pods`. Quotas' names are taken, too."""
    base = resource.removeprefix("requests.").removeprefix("limits.").removeprefix("count/")
    if base in BYTES or base.startswith("hugepages-"):
        return f"{_size(thousandths // UNIT)} of {resource}"
    number = significant(thousandths / UNIT, 6)
    if base == "cpu":
        return f"{number} CPU"
    if base == "pods":
        return many(thousandths // UNIT, "pod")
    return f"{number} x {resource}"


def many(count: int, noun: str) -> str:
    """`1 node`, `3 nodes`."""
    return f"{count:,} {noun}" if count == 1 else f"{count:,} {noun}s"


def _size(size: int) -> str:
    return f"{significant(size / GIB, 4)} GiB" if size >= GIB else f"{significant(size / MIB, 4)} MiB"
