"""What the database says of a batch of endpoints when their turn begins, in a constant number of queries."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Collection, Iterable
from dataclasses import dataclass
from datetime import datetime
from typing import TypeVar

from rollouts.domain.lifecycle.effects import DrainWorkload, EnsureWorkload, HoldScaleIn, SetTraffic
from rollouts.evidence import unread_words, with_newest
from rollouts.models import Arm, Effect, EffectState, Endpoint, Rollout, Workload
from rollouts.selectors import GOES_ON
from rollouts.services.commands.feedback import due_ratings

T = TypeVar("T")
CARRIED_OUT = (
    SetTraffic.kind,
    DrainWorkload.kind,
    EnsureWorkload.kind,
    HoldScaleIn.kind,
)  # effects that the loop itself carries out
REFUSED = (
    "refused"  # in the payload of a split: the router did not accept its route; the effect's problem says why
)


@dataclass(frozen=True, slots=True)
class Rows:
    """An endpoint with all that its turn reads.

    rollout        the one that goes on, with its arms in the order of their making; None when there is none
    newest_digest  of the rollout's newest interval that is not packed; None when there is none
    workloads      of the endpoint's variants
    waiting        effects that the loop is to carry out, in their order
    rated          ratings wait to be verified
    unread         why this version cannot read what the rollout's gates said last: a newer one wrote it; empty when it
                   can
    """

    endpoint: Endpoint
    rollout: Rollout | None
    arms: tuple[Arm, ...]
    newest_digest: str | None
    workloads: tuple[Workload, ...]
    waiting: tuple[Effect, ...]
    rated: bool
    unread: str = ""

    @property
    def traffic_waits(self) -> bool:
        """A split that was decided is not published yet."""
        return any(effect.kind == SetTraffic.kind for effect in self.waiting)

    @property
    def refusal(self) -> str:
        """Why the router did not accept the split that waits; empty when it did, or was not asked."""
        splits = (effect for effect in self.waiting if effect.kind == SetTraffic.kind)
        return next((effect.problem for effect in splits if effect.payload.get(REFUSED)), "")


def read_rows(endpoint_ids: Collection[int], *, now: datetime) -> list[Rows]:
    """The endpoints' rows, in the order of their numbers. 6 queries.

    The rollouts are read before the endpoints: what a person changes in between then fails the check of the revision.
    """
    rollouts, newest, unread = _rollouts(endpoint_ids)
    arms: dict[int, list[Arm]] = defaultdict(list)
    numbers = [rollout.pk for rollout in rollouts.values()]
    for arm in Arm.objects.filter(rollout__in=numbers).select_related("variant__version").order_by("pk"):
        arms[arm.rollout_id].append(arm)
    endpoints = list(
        Endpoint.objects.filter(pk__in=endpoint_ids)
        .select_related("cluster", "model", "stable__version", "previous", "gate_policy")
        .order_by("pk")
    )
    workloads = _by_endpoint(
        Workload.objects.filter(variant__endpoint__in=endpoint_ids).select_related("variant").order_by("pk"),
        lambda row: row.variant.endpoint_id,
    )
    waiting = _by_endpoint(
        Effect.objects.filter(
            endpoint__in=endpoint_ids, kind__in=CARRIED_OUT, state=EffectState.PENDING
        ).order_by("id"),
        lambda row: row.endpoint_id,
    )
    rated = set(
        due_ratings(now=now).filter(endpoint__in=endpoint_ids).values_list("endpoint", flat=True).distinct()
    )
    found = []
    for endpoint in endpoints:
        rollout = rollouts.get(endpoint.pk)
        if rollout is not None:
            rollout.endpoint = endpoint
        found.append(
            Rows(
                endpoint=endpoint,
                rollout=rollout,
                arms=() if rollout is None else tuple(arms[rollout.pk]),
                newest_digest=None if rollout is None else newest[rollout.pk],
                workloads=tuple(workloads[endpoint.pk]),
                waiting=tuple(waiting[endpoint.pk]),
                rated=endpoint.pk in rated,
                unread="" if rollout is None else unread[rollout.pk],
            )
        )
    return found


def _rollouts(
    endpoint_ids: Collection[int],
) -> tuple[dict[int, Rollout], dict[int, str | None], dict[int, str]]:
    """The rollout that the loop moves, by endpoint: the active one, else the newest that is still watched; and by
    rollout the digest of the newest interval that is not packed, and why its evidence cannot be read."""
    rows = with_newest(Rollout.objects.filter(GOES_ON, endpoint__in=endpoint_ids)).select_related(
        "baseline__version", "candidate__version", "gate_policy"
    )
    found: dict[int, Rollout] = {}
    digests: dict[int, str | None] = {}
    unread: dict[int, str] = {}
    for rollout in sorted(rows, key=lambda rollout: (rollout.is_active, rollout.pk)):
        found[rollout.endpoint_id] = rollout
        digests[rollout.pk] = rollout.newest_digest  # type: ignore[attr-defined]  # by `with_newest`
        unread[rollout.pk] = unread_words(rollout)
    return found, digests, unread


def _by_endpoint(rows: Iterable[T], endpoint_of: Callable[[T], int]) -> dict[int, list[T]]:
    found: dict[int, list[T]] = defaultdict(list)
    for row in rows:
        found[endpoint_of(row)].append(row)
    return found
