"""Reads the counters of one endpoint, as a turn reads those of many."""

from __future__ import annotations

from collections.abc import Collection

from controlplane.kernel.errors import HeadgateError
from rollouts.domain.record.readings import SignalReading, TargetReading
from rollouts.ports import Backend, SignalSource


def read_one(source: SignalSource, endpoint: str, backends: Collection[Backend] = ()) -> SignalReading:
    """The endpoint's reading; raises what is wrong with it."""
    found = source.read_all({endpoint: backends})[endpoint]
    if isinstance(found, HeadgateError):
        raise found
    return found


def only_target(reading: SignalReading) -> TargetReading:
    """The counters of a router that is one process."""
    (target,) = reading.targets.values()
    return target
