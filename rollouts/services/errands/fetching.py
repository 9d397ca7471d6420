"""Files of variants that are to be launched: fetched and checked beside the loop, in a queue of its own.

The loop only notes that it waits for them (`FilesState.WANTED`) and goes on; 20 GB take as long as they take and hold
no turn, no lease and no click. Level-triggered: each run reads who waits, so a worker that dies loses nothing. What a
run finds is written into columns that the loop never writes, and the loop is asked to look.
"""

from __future__ import annotations

import time
from datetime import datetime, timedelta
from typing import Any

from django.db import transaction
from django.db.models import QuerySet

from controlplane.kernel.errors import HeadgateError, Unavailable
from controlplane.passes.models import ItemTrouble
from controlplane.passes.services import Pauses, Report, forget_gone, run_each
from controlplane.passes.words import error_words
from controlplane.timekeeping.claims import free
from registry.models import Version
from registry.selectors import CLAIM_LIFETIME
from registry.services.files import folder_of
from registry.services.materialise import fetch_version
from rollouts.domain.engines import FailureReason
from rollouts.models import FilesState, Workload
from rollouts.services.locks import lock_endpoints_of
from rollouts.services.loop.launching import final_reason
from rollouts.services.loop.leases import look_soon
from rollouts.services.world import World, Worlds

FILES = "files to launch"  # the pass, as people read it
PAUSES = Pauses(first=2, longest=60)  # a rollout waits for it, a rollback may
FETCHED_AT_ONCE = 4  # versions; more share the same network and disk
TOLD_EVERY = 10.0  # seconds between two words of progress
GIGABYTE = 1_000_000_000


class NobodyWaitsError(HeadgateError):
    """The rollout that wanted the files is over: they are not fetched to the end."""

    code = "nobody-waits"


def versions_to_fetch(*, now: datetime) -> list[int]:
    """The versions whose files somebody waits for and nobody fetches, longest wanted first: no more than may be fetched
    beside those that are under way. Those behind them are told that they wait for their turn. At most 6 queries.

    Waiting for a turn is no part of a launch: its time does not run meanwhile.
    """
    wanted = list(_waiting().order_by("wanted_since", "pk").values_list("variant__version_id", flat=True))
    versions = list(dict.fromkeys(wanted))
    forget_gone(name=FILES, items=versions)
    if not versions:
        return []
    unread = free("manifest_claimed_until", now=now, lifetime=CLAIM_LIFETIME)
    idle = set(Version.objects.filter(unread, pk__in=versions).values_list("pk", flat=True))
    room = max(0, FETCHED_AT_ONCE - (len(versions) - len(idle)))
    resting = ItemTrouble.objects.filter(pass_name=FILES).exclude(
        free("next_attempt_at", now=now, lifetime=timedelta(seconds=PAUSES.longest))
    )
    failed = set(resting.values_list("item", flat=True))  # a moment ago: others come first
    queue = [pk for pk in versions if pk in idle and str(pk) not in failed]
    for_later = queue[room:]
    if for_later:
        words = f"its files wait until one of {FETCHED_AT_ONCE} others is fetched"
        _note(_waiting().filter(variant__version__in=for_later), files_at=now, files_note=words)
    return queue[:room]


def fetch_files(*, version_id: int, worlds: Worlds) -> Report:
    """Fetches and checks the files of one version for all that wait for it; then their endpoints are looked at.

    While another worker reads them nothing happens. What cannot be had for good is kept as the launch's failure; all
    else is tried again after a pause, and shown; so is a cluster that cannot be used, where nobody else waits.
    """
    return run_each(
        name=FILES,
        items=[version_id],
        key=lambda pk: pk,
        label=lambda pk: str(Version.objects.select_related("model").get(pk=pk)),
        work=lambda pk: _fetch(pk, worlds),
        clock=worlds.clock,
        pauses=PAUSES,
        forgets=False,
    )


def _fetch(version_id: int, worlds: Worlds) -> None:
    world = _world_that_waits(version_id, worlds)
    if world is None:
        return
    told = _Told(version_id, world)
    try:
        here = fetch_version(
            version_id=version_id,
            store=world.store,
            models_dir=world.models_dir,
            clock=world.clock,
            allowed_files=world.allowed_files,
            progress=told,
        )
    except NobodyWaitsError:
        return
    except HeadgateError as error:
        reason = final_reason(error)
        if reason is FailureReason.NONE:
            _note(_waiting().filter(variant__version=version_id), files_note=error_words(error))
            raise
        _end(version_id, FilesState.FAILED, note=str(error), reason=reason)
        return
    if here:
        _end(version_id, FilesState.HERE, files_at=world.clock.now())


def _world_that_waits(version_id: int, worlds: Worlds) -> World | None:
    """A cluster where somebody waits for the files of this version, the longest wait first; None when nobody does any
    more. They lie in the same place for all of them, so one that cannot be used keeps no other waiting.

    Raises Unavailable when none of them can be used.
    """
    waiting = _waiting().filter(variant__version=version_id).order_by("wanted_since", "pk")
    problem: Unavailable | None = None
    for name in dict.fromkeys(waiting.values_list("variant__endpoint__cluster__name", flat=True)):
        try:
            return worlds.of(name)
        except Unavailable as error:
            problem = problem or error
    if problem is not None:
        raise problem
    return None


def _waiting() -> QuerySet[Workload]:
    return Workload.objects.filter(files_state=FilesState.WANTED, wanted=True)


def _end(
    version_id: int,
    state: FilesState,
    *,
    note: str = "",
    reason: FailureReason = FailureReason.NONE,
    **more: Any,
) -> None:
    """In one transaction with the question to look: whoever waits is told, whoever does not wait any more is not."""
    with transaction.atomic():
        waiting = _waiting().filter(variant__version=version_id)
        endpoints = lock_endpoints_of(waiting)
        look_soon(pk__in=endpoints)
        mine = waiting.filter(variant__endpoint__in=endpoints)
        mine.update(files_state=state, files_note=note, files_reason=reason.value, **more)


def _note(waiting: QuerySet[Workload], **columns: Any) -> int:
    """Writes these columns of all of them; returns how many there are.

    The endpoints are locked first, as by the loop, which writes the workloads of a whole batch in one statement.
    """
    with transaction.atomic():
        endpoints = lock_endpoints_of(waiting)
        return waiting.filter(variant__endpoint__in=endpoints).update(**columns)


class _Told:
    """The progress of one version's files, written down every TOLD_EVERY seconds for all that wait for it."""

    def __init__(self, version_id: int, world: World) -> None:
        self._version_id, self._world = version_id, world
        self._moved = 0
        self._began = self._told = time.monotonic()
        manifest = Version.objects.get(pk=version_id).manifest_value
        self._total = 0 if manifest is None else manifest.total_bytes
        self._is_here = manifest is not None and folder_of(world.models_dir, manifest).is_dir()

    def __call__(self, moved: int) -> None:
        """Raises NobodyWaitsError when nobody wants them any more."""
        self._moved += moved
        if time.monotonic() - self._told < TOLD_EVERY:
            return
        self._told = time.monotonic()
        now = self._world.clock.now()
        waiting = _waiting().filter(variant__version=self._version_id)
        if not _note(waiting, files_at=now, files_note=self.words()):
            raise NobodyWaitsError("Nobody waits for these files any more.")

    def words(self) -> str:
        """`fetching its files, 3.2 of 20.0 GB`; once all came, how far they are checked."""
        if not self._total:
            return f"fetching its files, {self._moved / GIGABYTE:.1f} GB so far"
        rounds, beyond = divmod(self._moved, self._total)
        doing = "fetching" if rounds == 0 and not self._is_here else "checking"
        return f"{doing} its files, {beyond / GIGABYTE:.1f} of {self._total / GIGABYTE:.1f} GB"
