"""Keeps MLflow true to what serves: each endpoint's alias, and the tags of the versions that were decided on.

Level-triggered, and for ever: what MLflow should say follows from our rows (`mlflow_wishes`) and is compared with what
it was last read to say (the mirror). What differs is written, whoever changed it: our own decision, somebody's hand, a
database of MLflow that was restored. An endpoint that cannot be written keeps its error and is tried again with growing
pauses; all others are written. It runs beside the loop, never in it: no rollback waits for MLflow.

MLflow has no compare-and-set, so a worker that is stopped between its last look and its request can undo what a newer
one wrote. Four things keep that narrow and short: whoever writes claims the model; right before each request it looks
again at what is wanted and then renews its claim; after each request it reads back and keeps what it found; and before
it ends it looks again at what is wanted, so that whoever undid something mends it. While such a request may be under
way, no page says that MLflow has what is wanted.

The effects that decisions wrote (`WriteBack`) are what MLflow has not been told yet: they are done when it was read
back.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from datetime import datetime, timedelta

from django.db import transaction

from controlplane.audit.services import record
from controlplane.kernel.clock import Clock
from controlplane.kernel.errors import Conflict, HeadgateError, StaleWriter
from controlplane.passes.services import Pauses, Report, run_each
from controlplane.timekeeping.claims import has_run_out, is_free
from controlplane.web.live import publish
from registry.models import AliasMove, Version
from registry.ports import ModelStore
from registry.services.aliases import BY_HAND
from registry.services.mirror import ask_again
from registry.services.write_back import Overwritten, point_alias, tag_version
from registry.services.write_claims import LIFETIME, WriteClaim, claim_writes, give_back, renew
from rollouts.models import Effect, EffectState
from rollouts.selectors import WRITE_BACKS
from rollouts.services.errands.mlflow_wishes import Wish, wish_of, wishes
from rollouts.services.writing import tell

__all__ = ["WRITE_BACKS", "keep_mlflow_true"]

PAUSES = Pauses(first=5, longest=600)
PASS_SECONDS = 45.0
# Rounds of one endpoint in one pass: the first writes, the second finds all as it should be. More are needed when
# somebody else writes at the same time.
ROUNDS = 4
# Somebody else who moves our alias again and again is another machine: it is put back ever more slowly.
PATIENCE = timedelta(hours=1)
MOVES_IN_PATIENCE = 3


def keep_mlflow_true(*, store: ModelStore, clock: Clock) -> Report:
    """Writes what differs, one endpoint after another. Eight queries when nothing does.

    What one endpoint takes is bounded by the store's time-out for each call. When the store does not answer at all,
    the run stops: the next one begins anew. Endpoints whose model another worker writes to are left to it.
    """
    now = clock.now()
    found = wishes(now)
    held = {wish.endpoint.pk for wish in found if wish.differs and not _is_free(wish, now)}
    report = run_each(
        name=WRITE_BACKS,
        items=[wish for wish in found if wish.endpoint.pk not in held],
        key=lambda wish: wish.endpoint.pk,
        label=lambda wish: f"alias {wish.endpoint.alias} of {wish.endpoint.model.name}",
        work=lambda wish: _write(wish, store, clock),
        clock=clock,
        source=store.ping,
        pauses=PAUSES,
        seconds=PASS_SECONDS,
        elsewhere=held,
    )
    if report.news:
        publish("overview", *(f"endpoint:{wish.endpoint.pk}" for wish in found), now=clock.now())
    return report


def _is_free(wish: Wish, now: datetime) -> bool:
    return is_free(wish.endpoint.model.write_until, now=now, lifetime=LIFETIME)


def _write(wish: Wish, store: ModelStore, clock: Clock) -> None:
    """Writes until nothing differs any more. Raises what the store raises, Conflict for two endpoints with one alias,
    StaleWriter or Overwritten when others wrote at the same time in every round."""
    _refuse_rival(wish)
    if not wish.differs:
        return
    overtaken: HeadgateError | None = None
    for _ in range(ROUNDS):
        claim = claim_writes(model_id=wish.endpoint.model_id, now=clock.now())
        if claim is None:
            return  # whoever holds it looks again before it ends, and so does the next pass
        try:
            newest = wish_of(wish.endpoint, clock.now())
            if newest is None or not newest.differs:
                return
            _refuse_rival(newest)
            _Writer(newest, claim, store, clock).write()
            overtaken = None
        except (StaleWriter, Overwritten) as error:
            overtaken = error
            ask_again(
                models=[wish.endpoint.model.name]
            )  # tags of both may have arrived in any order: read them
        finally:
            give_back(claim)
    if overtaken is not None:
        raise overtaken


def _refuse_rival(wish: Wish) -> None:
    if wish.rival:
        endpoint = wish.endpoint
        raise Conflict(
            f"{endpoint.name} and {wish.rival} both keep the alias {endpoint.alias} of {endpoint.model.name}, and "
            "serve different versions.",
            fix="Give one of the endpoints an alias of its own.",
        )


class _Writer:
    """One round of one endpoint, under a claim. Raises StaleWriter when a request is no longer its to make."""

    def __init__(self, wish: Wish, claim: WriteClaim, store: ModelStore, clock: Clock) -> None:
        self.wish, self.claim, self.store, self.clock = wish, claim, store, clock

    def write(self) -> None:
        wish = self.wish
        # The alias goes first: it is what others read.
        if wish.alias_differs:
            self._point()
        for version, tags in wish.untrue_tags.items():
            self._tag(version, tags)
        # Others may have written meanwhile: then nothing is done before it was looked at again.
        if not renew(self.claim, now=self.clock.now()):
            raise _overtaken(wish)
        self._settle()

    def _tag(self, version: Version, tags: Mapping[str, str]) -> None:
        tag_version(
            store=self.store,
            model=version.model.name,
            version_number=version.number,
            tags=tags,
            check=self._check(lambda newest: newest.tags.get(version) == tags),
        )

    def _check(self, is_wanted: Callable[[Wish], bool]) -> Callable[[], None]:
        """What must hold right before a request. The claim comes last: nothing lies between it and the request."""

        def check() -> None:
            newest = wish_of(self.wish.endpoint, self.clock.now())
            still = newest is not None and not newest.rival and is_wanted(newest)
            if not still or not renew(self.claim, now=self.clock.now()):
                raise _overtaken(self.wish)

        return check

    def _settle(self) -> None:
        effects = [effect.pk for effect in self.wish.effects]
        if not effects:
            return
        gone = self.wish.version.gone_at is not None
        Effect.objects.filter(pk__in=effects, state=EffectState.PENDING).update(
            state=EffectState.FAILED if gone else EffectState.DONE,
            done_at=self.clock.now(),
            problem=f"{self.wish.version} was deleted in MLflow: no alias can point to it." if gone else "",
        )

    def _point(self) -> None:
        """Moves the alias, and tells of it once."""
        wish, now = self.wish, self.clock.now()
        endpoint, version = wish.endpoint, wish.version
        put_back = not wish.effects
        if put_back:
            _be_patient(wish, now)
        by = f"endpoint {endpoint.name}"
        why = f"{version.label} serves: the alias follows it."
        if not put_back:
            rollout = wish.effects[-1].rollout
            by = f"rollout #{rollout.pk}" if rollout else by
            why = (rollout.cause_sentence or rollout.reason) if rollout else "first version of the endpoint"
        move = point_alias(
            store=self.store,
            model=endpoint.model.name,
            alias=endpoint.alias,
            version_number=version.number,
            by=by,
            why=why,
            now=now,
            check=self._check(lambda newest: newest.version == version),
        )
        if move is None:
            return
        with transaction.atomic():
            record(
                at=now,
                actor="Headgate",
                actor_kind="headgate",
                action="alias.moved",
                object_kind="model",
                object_id=endpoint.model.name[:120],
                after={"alias": endpoint.alias, "version": version.number},
                why=by,
            )
            if put_back and wish.alias_at is not None:
                tell(
                    endpoint=endpoint,
                    rollout=None,
                    kind="alias-put-back",
                    title=f"The alias {endpoint.alias} pointed to v{wish.alias_at} in MLflow and was put back",
                    detail=why,
                    now=now,
                )
            publish(f"endpoint:{endpoint.pk}", "overview", now=now)


def _overtaken(wish: Wish) -> StaleWriter:
    return StaleWriter(
        f"Another worker wrote to {wish.endpoint.model.name}, or something else serves by now.",
        fix="It is looked at again by itself.",
    )


def _be_patient(wish: Wish, now: datetime) -> None:
    """Raises Conflict when the alias was put back several times within the hour: the pause then grows by itself.

    Not when the last move was ours: a slow worker of our own moved it, and does not go on doing so.
    """
    moves = AliasMove.objects.filter(
        model=wish.endpoint.model, alias=wish.endpoint.alias, moved_at__isnull=False
    )
    last = moves.order_by("-id").values_list("by", flat=True).first()
    if last != BY_HAND:
        return
    ours = moves.filter(by=f"endpoint {wish.endpoint.name}")
    recent = list(
        ours.filter(moved_at__gt=now - PATIENCE).order_by("-moved_at").values_list("moved_at", flat=True)
    )
    if len(recent) < MOVES_IN_PATIENCE or recent[0] is None:
        return
    pause = timedelta(seconds=min(PATIENCE.total_seconds(), 60.0 * 2 ** (len(recent) - MOVES_IN_PATIENCE)))
    if not has_run_out(recent[0], now=now, lifetime=pause):
        raise Conflict(
            f"Somebody else moves the alias too: it was put back {len(recent)} times within the hour and points to "
            f"v{wish.alias_at} again.",
            fix="Find who moves it, or give the endpoint an alias of its own.",
        )
