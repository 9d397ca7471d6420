"""What lies in a cluster that no endpoint uses: launches that the database does not know (orphans), and model servers
that Headgate never made. Pure.

An orphan is taken away by itself, but only when nothing speaks against it: where the database is an older copy, users
may be served by what it does not know. So all of this holds before:

- the database did not know it at two looks, with `UNKNOWN_SECONDS` between them; known once in between, or a doubt
  about the database, and the time begins anew;
- it is as old as that;
- no route in force sends it a request, and all routes could be read;
- the database knows at least as many of what runs there as it does not: else it is rather the database that is wrong;
- no more than `MOST_AT_ONCE` in a pass, and none while the global stop is on.

And the cluster compares: it takes away what was looked at, and nothing that somebody touched since.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from typing import Any, Self

from controlplane.kernel.stored import ODD, as_stored

UNKNOWN_SECONDS = 24 * 3600.0
DOUBT_SECONDS = 7 * 24 * 3600.0  # after a copy of the database was found out: longer than anybody is away
MOST_AT_ONCE = 5


@dataclass(frozen=True, slots=True)
class LaunchFound:
    """A launched variant as its cluster holds it, whether or not anybody knows it still. Times are seconds since the
    epoch, None where they are not known.

    where          what a person finds there under which name: "ConfigMap chat-v7-3f9a1c"
    unknown_since  since when it is marked as unknown to the database; None: it is not
    state          identifies it exactly as it was seen: who takes it away in this state takes away nothing newer
    by_hand        it cannot be taken away by Headgate, and why; empty: it can
    ending         it is being taken away already
    """

    variant: str
    endpoint: str
    where: str
    made_at: float | None = None
    unknown_since: float | None = None
    state: str = ""
    by_hand: str = ""
    ending: bool = False


@dataclass(frozen=True, slots=True)
class ModelServer:
    """A server of models beside ours, as far as it is recognised. Times are seconds since the epoch.

    where    "Deployment llama"
    image    that it is started from
    model    as its arguments name it; empty: they do not
    by       who manages it, as its labels say; empty: they do not
    unfit    why it cannot be adopted, and what its owner can do; empty: it can
    """

    where: str
    image: str
    model: str = ""
    by: str = ""
    ready: int = 0
    desired: int = 0
    made_at: float | None = None
    unfit: str = ""


@dataclass(frozen=True, slots=True)
class FoundThere:
    """What a look at a cluster found: all launches of this installation, and servers that are nobody's of ours."""

    launches: tuple[LaunchFound, ...] = ()
    servers: tuple[ModelServer, ...] = ()


@dataclass(frozen=True, slots=True)
class Doubts:
    """What speaks against taking anything away now.

    routed  variants that a route in force names; None: the routes could not be read
    unread  endpoints of which the route is not known all the same
    said    why nothing is taken away, whatever it is: a sentence; empty: nothing speaks against it
    anew    it is doubted which database is right: no time that passed counts
    """

    routed: Collection[str] | None
    unread: Collection[str] = ()
    said: str = ""
    anew: bool = False


@dataclass(frozen=True, slots=True)
class Orphan:
    """A launch that the database does not know.

    waits  why it is still there, as a sentence; empty: it is taken away now
    """

    launch: LaunchFound
    waits: str = ""


@dataclass(frozen=True, slots=True)
class Belongings:
    """What people are told of it: as of `at`, seconds since the epoch."""

    at: float
    orphans: tuple[Orphan, ...] = ()
    servers: tuple[ModelServer, ...] = ()

    def to_json(self) -> dict[str, Any]:
        return asdict(self)

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> Self | None:
        """As `to_json` gave it, now or in an earlier version; None of what is empty, and of what is odd: the next look
        writes it anew."""
        try:
            return cls._read(data) if data else None
        except ODD:
            return None

    @classmethod
    def _read(cls, data: Mapping[str, Any]) -> Self:
        orphans = tuple(
            Orphan(as_stored(LaunchFound, one["launch"]), one.get("waits", ""))
            for one in data.get("orphans", ())
        )
        servers = tuple(as_stored(ModelServer, one) for one in data.get("servers", ()))
        return cls(float(data["at"]), orphans, servers)


def orphans_among(
    launches: Sequence[LaunchFound], *, known: Collection[str], doubts: Doubts, now: float
) -> tuple[Orphan, ...]:
    """Those that the database does not know, each with why it is still there; the first to be taken away are the
    oldest.

    known  variants of the database
    """
    unknown = [one for one in launches if one.variant not in known]
    few = "" if 2 * len(unknown) <= len(launches) else _rather_the_database(len(unknown), len(launches))
    found, taken = [], 0
    for one in sorted(unknown, key=lambda one: (one.made_at or now, one.where)):
        waits = _waits(one, doubts, few, now)
        if not waits and taken >= MOST_AT_ONCE:
            waits = "Others are taken away first."
        taken += not waits
        found.append(Orphan(one, waits))
    return tuple(found)


def marks(
    launches: Sequence[LaunchFound], *, known: Collection[str], doubts: Doubts, now: float
) -> dict[str, bool]:
    """The launches whose mark is wrong, by where they are: True, it is to be marked as unknown now; False, its mark is
    to be taken off, so that its time begins anew."""
    found = {}
    for one in launches:
        if one.ending or one.by_hand:
            continue
        unknown = one.variant not in known and not doubts.anew
        ahead = one.unknown_since is not None and one.unknown_since > now  # by a clock that was wrong
        if unknown and (one.unknown_since is None or ahead):
            found[one.where] = True
        elif not unknown and one.unknown_since is not None:
            found[one.where] = False
    return found


def _waits(one: LaunchFound, doubts: Doubts, few: str, now: float) -> str:
    if one.ending:
        return "It ends already."
    if one.by_hand:
        return one.by_hand
    if doubts.said:
        return doubts.said
    if doubts.routed is None or one.endpoint in doubts.unread:
        return "It is not known whether a route sends it requests: the router does not say it now."
    if one.variant in doubts.routed:
        return f"A route still names it: take the route of {one.endpoint or 'its endpoint'} away first."
    if few:
        return few
    if one.unknown_since is None or one.made_at is None:
        return f"It is taken away when it was unknown for {UNKNOWN_SECONDS / 3600:g} hours."
    due = max(one.unknown_since, one.made_at) + UNKNOWN_SECONDS
    if now < due:
        moment = datetime.fromtimestamp(due, tz=UTC)
        return f"It is taken away after {moment:%Y-%m-%d %H:%M} UTC, unless the database knows it by then."
    return ""


def _rather_the_database(unknown: int, every: int) -> str:
    return (
        f"The database does not know {unknown} of {every} launches there: it may be the wrong one, and none is taken"
        " away."
    )
