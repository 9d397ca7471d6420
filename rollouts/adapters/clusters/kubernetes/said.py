"""What was said of variants, so that a look at a thousand of them, once a second, works out only what changed: also of
those that wait, failed or were changed by hand, which may be all of them while a cluster has trouble.

A status follows from the objects that it was read from and from nothing else but the time: until when files were still
coming is at most now. So it is worked out with a time without end (`NO_END`), and cut to now whenever it is said.
"""

from __future__ import annotations

import math
from collections.abc import Collection
from dataclasses import dataclass, replace

from rollouts.ports import WorkloadStatus

NO_END = math.inf


@dataclass(frozen=True, slots=True)
class _Said:
    read: tuple[object, ...]
    warnings: tuple[str | None, ...]
    status: WorkloadStatus


class SaidBefore:
    """By variant. Safe to call from several threads: whoever comes too late works it out once more.

    `read` are the objects that a status was read from: watches keep one that did not change as the same one, and put
    another one in the place of one that did. `warnings` are the cluster's about its pods, those that
    were refused among them.
    """

    def __init__(self) -> None:
        self._said: dict[str, _Said] = {}

    def of(
        self, variant: str, read: tuple[object, ...], warnings: tuple[str | None, ...]
    ) -> WorkloadStatus | None:
        """What was worked out from these very objects; None: something else is to be said now."""
        before = self._said.get(variant)
        if before is None or len(before.read) != len(read) or before.warnings != warnings:
            return None
        same = all(one is other for one, other in zip(before.read, read, strict=True))
        return before.status if same else None

    def keep(
        self, status: WorkloadStatus, read: tuple[object, ...], warnings: tuple[str | None, ...]
    ) -> None:
        """Keeps what was worked out, with a time without end."""
        self._said[status.variant] = _Said(read, warnings, status)

    def forget_others(self, variants: Collection[str]) -> None:
        """Keeps what was said of these only."""
        for variant in self._said.keys() - variants:
            self._said.pop(variant, None)


def as_of(status: WorkloadStatus, now: float, filled_at: float | None) -> WorkloadStatus:
    """What was worked out with a time without end, as it is now.

    filled_at  when files were there, of a variant whose files were fetched before its pods began
    """
    until = None if status.files_at is None else min(now, status.files_at)
    files_at = max((at for at in (until, filled_at) if at is not None), default=None)
    return status if status.files_at == files_at else replace(status, files_at=files_at)
