"""What was said of variants that are well, so that a look at a thousand of them, once a second, works out only what
changed."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass

from rollouts.domain.engines import WorkloadPhase
from rollouts.ports import WorkloadStatus


@dataclass(frozen=True, slots=True)
class _Said:
    read: tuple[object, ...]
    filled_at: float | None
    status: WorkloadStatus


class SaidBefore:
    """By variant. Safe to call from several threads: whoever comes too late works it out once more.

    `read` are the objects that a status was read from: watches keep one that did not change as the same one.
    """

    def __init__(self) -> None:
        self._said: dict[str, _Said] = {}

    def of(self, variant: str, read: tuple[object, ...], filled_at: float | None) -> WorkloadStatus | None:
        """What was said when these very objects were read; None: something else is to be said now."""
        before = self._said.get(variant)
        if before is None or before.filled_at != filled_at or len(before.read) != len(read):
            return None
        same = all(one is other for one, other in zip(before.read, read, strict=True))
        return before.status if same else None

    def keep(
        self, status: WorkloadStatus, read: tuple[object, ...], filled_at: float | None, now: float
    ) -> None:
        """Keeps it where the same is to be said for as long as the objects stay the same: it is well, and no time runs
        on in it."""
        well = status.phase is WorkloadPhase.READY and not status.message and not status.drift
        if well and all(at is None or at < now for at in (status.started_at, status.files_at)):
            self._said[status.variant] = _Said(read, filled_at, status)

    def forget_others(self, variants: Collection[str]) -> None:
        """Keeps what was said of these only."""
        for variant in self._said.keys() - variants:
            self._said.pop(variant, None)
