"""Where answered requests are kept until somebody rates them: what the stores have in common.

Each cluster has a place of its own in a store: what one says is never found for another. Nothing is kept for ever: an
entry lives KEPT_SECONDS and up to a minute more, and of more than `most` entries of a cluster the oldest go first.
"""

from __future__ import annotations

import logging
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from typing import Protocol

from controlplane.kernel.errors import InvalidInput
from rollouts.adapters.request_log.otlp.records import Answered

KEPT_SECONDS = 900.0
MOST_KEPT = 1_000_000  # of one cluster: a quarter of an hour of 1,100 requests a second
SILENT_AFTER = 120.0  # seconds without a word of a receiver
AT_ONCE = 1_000  # ids that a store is asked for in one question

log = logging.getLogger(__name__)


class AnswerStore(Protocol):
    """Keeps answered requests, for all processes. Calls are thread-safe; each raises Unavailable when it is away, and
    InvalidInput for what can be no name of a cluster."""

    def keep(self, cluster: str, answers: Sequence[Answered]) -> None:
        """Keeps them; of two with the same id the later one. Idempotent."""
        ...

    def find(self, cluster: str, request_ids: Collection[str]) -> Mapping[str, Answered]:
        """Those of the ids that are kept for the cluster. One that cannot be understood is left out, and told in our
        log."""
        ...

    def beat(self) -> None:
        """Notes that a receiver is alive."""
        ...

    def is_fed(self) -> bool:
        """Whether a receiver was alive in the last SILENT_AFTER seconds."""
        ...


def unpacked(entries: Iterable[tuple[str, str | bytes]]) -> dict[str, Answered]:
    """Entries of a store by their id; one odd entry costs itself alone."""
    found: dict[str, Answered] = {}
    odd, words = 0, ""
    for request_id, packed in entries:
        try:
            found[request_id] = Answered.unpacked(request_id, packed)
        except InvalidInput as error:
            odd, words = odd + 1, error.message
    if odd:
        log.warning("request_log.odd_entries entries=%s %s", odd, words)
    return found


def in_parts(request_ids: Collection[str]) -> Iterator[list[str]]:
    """The ids, AT_ONCE at a time."""
    ids = list(request_ids)
    for start in range(0, len(ids), AT_ONCE):
        yield ids[start : start + AT_ONCE]
