"""Typed reads of recorded evidence, wherever it lies: the newest rows one by one, older ones in packs.

Packing is one transaction that writes a pack and deletes its rows; reads look for a row first and then for its pack, so
they never see neither.

Whatever is read was written in a format with a number (`rollouts.domain.record.formats`): each of these raises
UnknownFormat, naming the interval or decision, for what a newer version of Headgate wrote.
"""

from __future__ import annotations

import json
import zlib
from collections.abc import Collection, Iterator
from datetime import UTC, datetime
from typing import Any

from django.db.models import Min, OuterRef, QuerySet, Subquery
from django.db.models.fields.json import KT

from controlplane.kernel.errors import NotFound
from rollouts.domain.record.formats import NAME, UnknownFormat, is_known, require_known, unknown_words
from rollouts.domain.record.recorded import RecordedDecision, RecordedRow, TamperedEvidence, unpack_rows
from rollouts.models import Evidence, EvidencePack, LoopDecision, Rollout

CHUNK = 200  # rows in memory at a time, besides one pack

StoredJson = dict[str, Any]


class EvidenceExpired(NotFound):
    """The retention of the evidence is over: what was decided is kept, what it was decided on is not."""

    code = "evidence-expired"


def evidence_rows(rollout_id: int, *, first: int = 0, stop: int | None = None) -> Iterator[RecordedRow]:
    """Rows from index `first` on, below `stop`, in order. A hole is left out: whoever needs all of them checks that.

    Raises TamperedEvidence for a pack that cannot be read, EvidenceExpired for one whose retention is over.
    """
    at = first
    while stop is None or at < stop:
        known = Evidence.objects.filter(rollout=rollout_id, index__gte=at)
        until = at + CHUNK if stop is None else min(at + CHUNK, stop)
        found = [_recorded(row) for row in known.filter(index__lt=until).order_by("index")]
        # Rows behind a gap may be there because those in the gap were packed.
        if not found or found[0].index != at:
            packed = _packed(rollout_id, at)
            if packed:
                found = packed
            elif not found:
                following = _next_index(rollout_id, at)
                if following is None:
                    return
                at = following
                continue
        for row in found:
            if stop is not None and row.index >= stop:
                return
            if row.index >= at:
                yield row
        at = found[-1].index + 1


def _recorded(row: Evidence) -> RecordedRow:
    return RecordedRow.from_json(
        {
            "index": row.index,
            "ended_at": row.ended_at.timestamp(),
            "interval": row.interval,
            "situation": row.situation,
            "verdicts": row.verdicts,
            "decision": row.decision,
            "digest": row.digest,
        }
    )


def _packed(rollout_id: int, index: int) -> list[RecordedRow]:
    """The rows of the pack that holds the index, from it on; none when no pack does."""
    pack = EvidencePack.objects.filter(rollout=rollout_id, first__lte=index, last__gte=index).first()
    if pack is None:
        return []
    if not pack.rows:
        raise _expired(rollout_id)
    rows = unpack_rows(bytes(pack.rows), first=pack.first, last=pack.last)
    if rows[-1].digest != pack.digest:
        # The next row is chained to the digest of the pack: it must be that of its last row.
        raise TamperedEvidence(f"the pack of intervals {pack.first} to {pack.last}", "has another digest")
    return [row for row in rows if row.index >= index]


def require_kept(rollout_id: int) -> None:
    """Raises EvidenceExpired when the retention of a rollout's evidence is over. Two queries.

    Packs are asked too: an earlier release emptied them without a mark at the rollout.
    """
    forgotten = Rollout.objects.filter(pk=rollout_id, evidence_forgotten_at__isnull=False)
    if forgotten.exists() or EvidencePack.objects.filter(rollout=rollout_id, rows=b"").exists():
        raise _expired(rollout_id)


def _expired(rollout_id: int) -> EvidenceExpired:
    return EvidenceExpired(
        f"The evidence of rollout #{rollout_id} was deleted when its retention was over.",
        fix="HEADGATE_EVIDENCE_DAYS says how long it is kept after a rollout has ended.",
    )


def _next_index(rollout_id: int, at: int) -> int | None:
    row = Evidence.objects.filter(rollout=rollout_id, index__gte=at).aggregate(next=Min("index"))["next"]
    pack = EvidencePack.objects.filter(rollout=rollout_id, first__gte=at).aggregate(next=Min("first"))["next"]
    return min((index for index in (row, pack) if index is not None), default=None)


def decisions_between(rollout_id: int) -> list[RecordedDecision]:
    """The decisions of the loop between intervals, in order: a few dozen at most."""
    rows = LoopDecision.objects.filter(rollout=rollout_id).order_by("number")
    return [
        RecordedDecision.from_json(
            {
                "number": row.number,
                "after": row.after,
                "situation": row.situation,
                "decision": row.decision,
                "digest": row.digest,
            }
        )
        for row in rows
    ]


def last_end(rollout_id: int) -> datetime | None:
    """When the newest interval ended. One query, two when all rows are packed."""
    row = Evidence.objects.filter(rollout=rollout_id).order_by("-index").values_list("ended_at", flat=True)
    pack = (
        EvidencePack.objects.filter(rollout=rollout_id).order_by("-last").values_list("ended_at", flat=True)
    )
    return row.first() or pack.first()


def last_digest(rollout_id: int) -> str | None:
    """The digest to which the next row is chained; None before the first. One query, two when all rows are packed."""
    row = Evidence.objects.filter(rollout=rollout_id).order_by("-index").values_list("digest", flat=True)
    pack = EvidencePack.objects.filter(rollout=rollout_id).order_by("-last").values_list("digest", flat=True)
    return row.first() or pack.first()


def with_newest(rollouts: QuerySet[Rollout]) -> QuerySet[Rollout]:
    """Each with `newest_digest` and `newest_format` of its newest interval that is not packed; None where there is
    none. No query more."""
    newest = Evidence.objects.filter(rollout=OuterRef("pk")).order_by("-index")
    return rollouts.annotate(
        newest_digest=Subquery(newest.values("digest")[:1]),
        newest_format=Subquery(newest.values(number=KT(f"situation__{NAME}"))[:1]),
    )


def unread_words(rollout: Rollout) -> str:
    """Why this version cannot read what the gates of a rollout said last, and their state: a newer one wrote them.
    Empty when it can. `rollout` is one of `with_newest`. One query more where all its intervals are packed.
    """
    number: object = rollout.newest_format  # type: ignore[attr-defined]  # by `with_newest`
    if rollout.newest_digest is None and rollout.next_interval:  # type: ignore[attr-defined]
        packs = EvidencePack.objects.filter(rollout=rollout.pk).order_by("-last")
        packed = packs.values_list("series", flat=True).first()
        points = json.loads(zlib.decompress(bytes(packed))) if packed else []
        number = points[-1].get(NAME) if points else None
    row = f"interval {rollout.next_interval - 1}"
    return "" if is_known(number) else unknown_words(row, number)


def require_readable(rollout: Rollout) -> None:
    """Raises UnknownFormat when a newer version wrote what the gates of a rollout said last. As `unread_words`."""
    words = unread_words(rollout)
    if words:
        raise UnknownFormat(words)


def thin_series(rollout_id: int, *, since: datetime | None = None) -> list[StoredJson]:
    """Intervals as charts need them, those that ended after `since`: packed ones added up (`recorded.thin_rows`), the
    newest as they are. Two queries, whatever the length; sentences are never read, and of situations only the number of
    their format."""
    packs = EvidencePack.objects.filter(rollout=rollout_id)
    rows = Evidence.objects.filter(rollout=rollout_id)
    if since is not None:
        packs, rows = packs.filter(ended_at__gt=since), rows.filter(ended_at__gt=since)
    # Rows first: what is packed in between is then seen twice at worst, and dropped below.
    fresh = []
    of_each = ("index", f"situation__{NAME}", "interval", "verdicts__burn_in")
    for index, number, interval, burn_in in rows.order_by("index").values_list(*of_each):
        require_known(number, row=f"interval {index}")
        fresh.append(interval if burn_in is None else {**interval, "burn_in": burn_in})
    series: list[StoredJson] = []
    for packed in packs.order_by("first").values_list("series", flat=True):
        series += _points(packed)
    if since is not None:
        series = [row for row in series if _ended(row) > since.timestamp()]
    newest = series[-1]["index"] if series else -1
    return [*series, *(row for row in fresh if row["index"] > newest)]


def times_of(rollout_id: int, indexes: Collection[int]) -> dict[int, datetime]:
    """When intervals ended, by index; of a packed one to within a point of its series. Two queries at most."""
    found = dict(
        Evidence.objects.filter(rollout=rollout_id, index__in=set(indexes)).values_list("index", "ended_at")
    )
    wanted = sorted(set(indexes) - set(found))
    if not wanted:
        return found
    packs = EvidencePack.objects.filter(rollout=rollout_id, first__lte=wanted[-1], last__gte=wanted[0])
    rows = [
        row for packed in packs.order_by("first").values_list("series", flat=True) for row in _points(packed)
    ]
    for index in wanted:
        row = next((row for row in rows if row["index"] >= index), None)
        if row is not None:
            found[index] = datetime.fromtimestamp(_ended(row), tz=UTC)
    return found


def burn_in_end(rollout_id: int) -> datetime | None:
    """When the first interval after a bandit's burn-in ended; None while it burns in."""
    for packed in (
        EvidencePack.objects.filter(rollout=rollout_id).order_by("first").values_list("series", flat=True)
    ):
        for row in _points(packed):
            if row.get("burn_in") is False:
                return datetime.fromtimestamp(_ended(row), tz=UTC)
    rows = Evidence.objects.filter(rollout=rollout_id, verdicts__burn_in=False).order_by("index")
    return rows.values_list("ended_at", flat=True).first()


def _points(packed: bytes | memoryview[int]) -> list[StoredJson]:
    """The thin series of a pack. One that was packed before points had a number is of the formats known then."""
    points: list[StoredJson] = json.loads(zlib.decompress(bytes(packed)))
    for point in points:
        require_known(point.get(NAME), row=f"interval {point.get('index')}")
    return points


def _ended(row: StoredJson) -> float:
    return float(row["started_at"]) + float(row["seconds"])
