"""What is written down of a rollout, as plain values: rows of evidence, decisions between them, how they are chained
by digests, and how old rows are packed. A replay (`rollouts.domain.record.replay`) reads nothing else.
"""

from __future__ import annotations

import json
import zlib
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import reduce
from typing import Any, Self

from controlplane.kernel.digests import canonical_json, digest_of
from controlplane.kernel.errors import Refused
from rollouts.domain.record.asked import AskedCounts
from rollouts.domain.record.formats import FORMAT, NAME, require_known
from rollouts.domain.record.intervals import Completions, LatencyCounts, Outcomes

PACK_LEVEL = 6
Json = Mapping[str, Any]


class TamperedEvidence(Refused):
    """Recorded evidence was changed, removed or added afterwards. `row` names the first one that is not as it was
    written: the index of an interval, or `decision 3`."""

    code = "evidence-tampered"

    def __init__(self, row: str, what: str) -> None:
        super().__init__(
            f"The evidence was changed after it was written: {row} {what}.",
            fix="Restore the database from a backup; what was decided on this evidence can no longer be proven.",
            extra={"row": row},
        )
        self.row = row


@dataclass(frozen=True, slots=True)
class RecordedRow:
    """One interval of evidence as it was written, in a format that this version knows (`from_json`). `ended_at` in
    seconds since the epoch."""

    index: int
    ended_at: float
    interval: Json
    situation: Json
    verdicts: Json
    decision: Json
    digest: str

    def check(self, *, index: int, before: str | None) -> None:
        """Raises TamperedEvidence unless this is the row `index`, written after the one with digest `before`."""
        row = f"interval {index}"
        if self.index != index:
            raise TamperedEvidence(row, "is missing")
        made = evidence_digest(
            before=before,
            interval=self.interval,
            situation=self.situation,
            verdicts=self.verdicts,
            decision=self.decision,
        )
        if made != self.digest:
            raise TamperedEvidence(row, "does not have the digest that it was written with")
        if self.interval.get("index") != index:
            raise TamperedEvidence(row, f"holds the interval {self.interval.get('index')}")
        if abs(self.ended_at - float(self.situation["now"])) > 1e-3:
            raise TamperedEvidence(row, "has another time than it was decided at")

    def to_json(self) -> dict[str, Any]:
        return {name: getattr(self, name) for name in self.__dataclass_fields__}

    @classmethod
    def from_json(cls, data: Json) -> Self:
        """As `to_json` gave it. Raises UnknownFormat for a row of a newer version, before anything else of it is
        read."""
        require_known(data["situation"].get(NAME), row=f"interval {data['index']}")
        return cls(**data)


@dataclass(frozen=True, slots=True)
class RecordedDecision:
    """A decision of the loop between two intervals: `after` intervals had been recorded when it was made."""

    number: int
    after: int
    situation: Json
    decision: Json
    digest: str

    def check(self, *, number: int, before: str | None) -> None:
        """Raises TamperedEvidence unless this is decision `number`, written after the one with digest `before`."""
        row = f"decision {number}"
        if self.number != number:
            raise TamperedEvidence(row, "is missing")
        made = decision_digest(
            before=before, after=self.after, situation=self.situation, decision=self.decision
        )
        if made != self.digest:
            raise TamperedEvidence(row, "does not have the digest that it was written with")

    @classmethod
    def from_json(cls, data: Json) -> Self:
        """Of plain values by the names of the fields. Raises UnknownFormat as `RecordedRow.from_json` does."""
        require_known(data["situation"].get(NAME), row=f"decision {data['number']}")
        return cls(**data)


def evidence_digest(
    *, before: str | None, interval: object, situation: object, verdicts: object, decision: object
) -> str:
    """The digest of a row of evidence; `before` is the one of the row before it (None for the first)."""
    return digest_of(
        {
            "before": before,
            "interval": interval,
            "situation": situation,
            "verdicts": verdicts,
            "decision": decision,
        }
    )


def decision_digest(*, before: str | None, after: int, situation: object, decision: object) -> str:
    """The digest of a decision between two intervals, chained like the rows of evidence."""
    return digest_of({"before": before, "after": after, "situation": situation, "decision": decision})


# --- packing ----------------------------------------------------------------------------------------------------------


def pack_rows(rows: Sequence[RecordedRow]) -> bytes:
    """Rows as compressed JSON lines. Values survive as the database has them, so digests stay true."""
    return zlib.compress(b"\n".join(canonical_json(row.to_json()) for row in rows), PACK_LEVEL)


def unpack_rows(packed: bytes, *, first: int, last: int) -> list[RecordedRow]:
    """The rows `first` to `last` of a pack. Raises TamperedEvidence when the pack does not hold exactly these, and
    UnknownFormat when a newer version wrote one of them."""
    where = f"interval {first}"
    try:
        rows = [RecordedRow.from_json(json.loads(line)) for line in zlib.decompress(packed).split(b"\n")]
    except (zlib.error, ValueError, TypeError, LookupError, AttributeError) as error:
        raise TamperedEvidence(where, f"and those up to {last} cannot be unpacked ({error})") from error
    if [row.index for row in rows] != list(range(first, last + 1)):
        raise TamperedEvidence(where, f"and those up to {last} are not all in their pack")
    return rows


# --- thin series ------------------------------------------------------------------------------------------------------

MOST_THIN_ROWS = 120  # one pack gives at most so many points to a chart
THIN_SECONDS = (5, 10, 15, 30, 60, 120, 300, 600, 1_800, 3_600)


SPAN = ("value", "least", "most")  # of a reading, or of several that were added up
KeptEdges = Mapping[str, Collection[float]]


def thin_rows(intervals: Sequence[Json], *, edges: KeptEdges) -> list[dict[str, Any]]:
    """Neighbouring intervals added up until at most MOST_THIN_ROWS are left: what charts and sums need of them.

    Each is an interval's JSON with the counts of all of them (`ready` and shares are means over time), and
    `pair_sums`: arm -> [pairs, sum of the baseline's scores, sum of the arm's] in place of the single pairs. Of the
    histograms the `edges` of each signal are kept: those that a gate asks for. `format` is the number of the format
    of today: it is written now.
    """
    if len(intervals) <= MOST_THIN_ROWS:
        return [_merge([interval], edges) for interval in intervals]
    span = _end(intervals[-1]) - float(intervals[0]["started_at"])
    seconds = next((size for size in THIN_SECONDS if span / size < MOST_THIN_ROWS - 1), THIN_SECONDS[-1])
    groups: dict[float, list[Json]] = {}
    for interval in intervals:
        groups.setdefault(_end(interval) // seconds, []).append(interval)
    return [_merge(group, edges) for group in groups.values()]


def pair_sums(interval: Json) -> Mapping[str, Sequence[float]]:
    """arm -> [pairs, sum of the baseline's scores, sum of the arm's], of an interval or of a thin row."""
    if "pair_sums" in interval:
        found: Mapping[str, Sequence[float]] = interval["pair_sums"]
        return found
    return {
        arm: [len(pairs), sum(pair[1] for pair in pairs), sum(pair[2] for pair in pairs)]
        for arm, pairs in interval["pairs"].items()
    }


def _end(interval: Json) -> float:
    return float(interval["started_at"]) + float(interval["seconds"])


def _merge(group: Sequence[Json], edges: KeptEdges) -> dict[str, Any]:
    seconds = sum(float(one["seconds"]) for one in group)
    arms = sorted({arm for one in group for arm in one["arms"]})
    paired = sorted({arm for one in group for arm in one["pairs"]})
    shared = sorted({arm for one in group for arm in one.get("shares", {})})
    sums = [pair_sums(one) for one in group]
    merged: dict[str, Any] = {
        NAME: FORMAT,
        "index": group[-1]["index"],
        "started_at": group[0]["started_at"],
        "seconds": round(_end(group[-1]) - float(group[0]["started_at"]), 3),
        "share_bp": round(_mean([(one["share_bp"], one["seconds"]) for one in group], seconds)),
        "arms": {arm: _merge_arm([one for one in group if arm in one["arms"]], arm, edges) for arm in arms},
        "pairs": {},
        "missing": {},
        "broken": {},
        "pair_sums": {arm: _added([one[arm] for one in sums if arm in one]) for arm in paired},
    }
    if "burn_in" in group[-1]:
        merged["burn_in"] = group[-1]["burn_in"]
    if shared:
        merged["shares"] = {
            arm: round(_mean([(one.get("shares", {}).get(arm, 0), one["seconds"]) for one in group], seconds))
            for arm in shared
        }
    return merged


def _merge_arm(group: Sequence[Json], arm: str, edges: KeptEdges) -> dict[str, Any]:
    counts = [one["arms"][arm] for one in group]
    seconds = sum(float(one["seconds"]) for one in group)
    signals = sorted({signal for one in counts for signal in one["latency"]})
    names = ("requests", "errors", "arrived", "answers", "thumbs_down", "ratings")
    ended = [Outcomes.from_json(one["outcomes"]) for one in counts if "outcomes" in one]
    said = [Completions.from_json(one["completions"]) for one in counts if "completions" in one]
    asked = sorted({digest for one in counts for digest in one.get("asked", ())})
    return {
        **{name: sum(one[name] for one in counts) for name in names},
        "ready": round(_mean([(one["arms"][arm]["ready"], one["seconds"]) for one in group], seconds), 3),
        "latency": {
            signal: _merge_latency(
                [one["latency"][signal] for one in counts if signal in one["latency"]], edges.get(signal, ())
            )
            for signal in signals
        },
        # What was counted in a part of the time only is left out: its sum is none of all of it.
        **({"outcomes": reduce(Outcomes.plus, ended).to_json()} if len(ended) == len(counts) else {}),
        **({"completions": reduce(Completions.plus, said).to_json()} if said else {}),
        **({"asked": {digest: _merge_asked(counts, digest) for digest in asked}} if asked else {}),
        **({"numbers": numbers} if (numbers := _merge_numbers(counts)) else {}),
    }


def _merge_asked(counts: Sequence[Json], digest: str) -> dict[str, Any]:
    found = (one["asked"][digest] for one in counts if digest in one.get("asked", ()))
    return reduce(AskedCounts.plus, (AskedCounts.from_json(one) for one in found)).to_json()


def _merge_numbers(counts: Sequence[Json]) -> dict[str, Any]:
    """Of each number the least and the largest: a mean would hide what went beyond a limit."""
    found: dict[str, list[float]] = {}
    for one in counts:
        for digest, read in one.get("numbers", {}).items():
            found.setdefault(digest, []).extend(float(read[name]) for name in SPAN if name in read)
    return {digest: {"least": min(seen), "most": max(seen)} for digest, seen in sorted(found.items()) if seen}


def _merge_latency(histograms: Sequence[Json], edges: Collection[float]) -> dict[str, Any]:
    merged = reduce(LatencyCounts.plus, (LatencyCounts.from_json(histogram) for histogram in histograms))
    return replace(
        merged,
        over={edge: n for edge, n in merged.over.items() if edge in edges},
        left_over={edge: n for edge, n in merged.left_over.items() if edge in edges},
    ).to_json()


def _mean(values: Iterable[tuple[float, float]], seconds: float) -> float:
    return sum(float(value) * float(weight) for value, weight in values) / (seconds or 1.0)


def _added(sums: Iterable[Sequence[float]]) -> list[float]:
    pairs, baseline, arm = 0.0, 0.0, 0.0
    for one in sums:
        pairs, baseline, arm = pairs + one[0], baseline + one[1], arm + one[2]
    return [int(pairs), baseline, arm]
