"""The claim on a version: who reads its files keeps others from reading the same ones beside it."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from datetime import datetime, timedelta

from django.db import DatabaseError
from django.db.models import QuerySet

from controlplane.timekeeping.claims import free
from registry.domain.manifest import Progress
from registry.models import Version
from registry.selectors import CLAIM_LIFETIME

PUSHED_EVERY = timedelta(seconds=20)


class Claim:
    """A claim that is held. It runs out CLAIM_LIFETIME after it was last pushed on."""

    def __init__(self, version_id: int, now: datetime) -> None:
        self._version_id = version_id
        self._began, self._steady = now, time.monotonic()
        self._pushed = now
        self.until = now + CLAIM_LIFETIME

    def push_on(self, moved: int = 0) -> None:
        """Says that the work goes on; cheap enough for every piece of a download, whose bytes it takes as any
        `Progress` does.

        A claim that ran out and is somebody else's by now stays theirs: then both read, and what is written at the
        end is written once.
        """
        # By the monotonic clock from the database's time on: a clock that jumps moves no claim.
        now = self._began + timedelta(seconds=time.monotonic() - self._steady)
        if now - self._pushed < PUSHED_EVERY:
            return
        self._pushed = now
        # Tried again with a piece that comes later: a claim that runs out costs double work and nothing else.
        with suppress(DatabaseError):
            if self._mine().update(manifest_claimed_until=now + CLAIM_LIFETIME):
                self.until = now + CLAIM_LIFETIME

    def along(self, progress: Progress) -> Progress:
        """The progress that somebody else follows, with the claim pushed on at each step."""

        def told(moved: int) -> None:
            self.push_on(moved)
            progress(moved)

        return told

    def release(self) -> None:
        """Frees the version, if the claim is still this one."""
        self._mine().update(manifest_claimed_until=None)

    def _mine(self) -> QuerySet[Version]:
        return Version.objects.filter(id=self._version_id, manifest_claimed_until=self.until)


@contextmanager
def claimed(version: Version, now: datetime) -> Iterator[Claim | None]:
    """The claim on a version, released at the end; None when another process has it, or has taken its manifest or
    changed its state since the row was read."""
    claim = Claim(version.pk, now)
    unheld = Version.objects.filter(
        free("manifest_claimed_until", now=now, lifetime=CLAIM_LIFETIME),
        id=version.pk,
        manifest_state=version.manifest_state,
        manifest__isnull=version.manifest is None,
    )
    if unheld.update(manifest_claimed_until=claim.until) != 1:
        yield None
        return
    try:
        yield claim
    finally:
        claim.release()
