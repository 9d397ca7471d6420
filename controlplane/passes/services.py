"""Passes over many things, so that one bad thing never stops the rest.

Every loop over items that can fail by themselves (versions, endpoints, rollouts, ratings) goes through `run_each`.
An item that fails keeps its error, is left alone for a while, and is tried again for ever with growing pauses; all the
others are done in the same run. A source that does not answer at all is no fault of its items.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime, timedelta
from hashlib import sha256
from threading import Lock
from typing import Generic, TypeVar

from django.db import DatabaseError, close_old_connections, connections, transaction

from controlplane.kernel.clock import Clock, seconds_between
from controlplane.kernel.errors import HeadgateError, Rejected, Unavailable
from controlplane.passes.models import ItemTrouble, PassRun
from controlplane.passes.words import error_words, in_one_paragraph, traceback_words
from controlplane.timekeeping.claims import free, is_free

log = logging.getLogger(__name__)

T = TypeVar("T")
KEY_LENGTH, LABEL_LENGTH = 200, 300
MOST_DOUBLINGS = 30  # far beyond every cap; keeps the arithmetic small for an item that failed for a year


@dataclass(frozen=True, slots=True)
class Pauses:
    """How long an item that failed is left alone, in seconds: `first`, doubled with every failure up to `longest`."""

    first: float = 10.0
    longest: float = 600.0

    def after(self, attempts: int) -> timedelta:
        """The pause after so many failures in a row (1 or more)."""
        return timedelta(seconds=min(self.longest, self.first * 2 ** min(attempts - 1, MOST_DOUBLINGS)))


@dataclass(frozen=True, slots=True)
class Report:
    """What a run did, in numbers of items.

    waiting     left alone: they failed before and their pause is not over
    left        not reached: the run had enough (`most`, `seconds`, or its source went away)
    news        a trouble came, ended or changed its words, so that pages read differently
    source      the words of the source that does not answer; empty when it does
    """

    done: int = 0
    failed: int = 0
    waiting: int = 0
    left: int = 0
    news: bool = False
    source: str = ""


def run_each(
    *,
    name: str,
    items: Iterable[T],
    key: Callable[[T], object],
    work: Callable[[T], object],
    clock: Clock,
    label: Callable[[T], str] = str,
    source: Callable[[], object] | None = None,
    pauses: Pauses = Pauses(),
    most: int | None = None,
    seconds: float | None = None,
    threads: int = 1,
    elsewhere: Iterable[object] = (),
    forgets: bool = True,
) -> Report:
    """Does `work` for each item; returns what came of it. No item's Exception leaves it.

    items    all items of the pass, in the order of their urgency; troubles of others are forgotten
    key      the item's name within the pass: stable and unique; texts of any length and kind are fine
    label    what people call the item
    source   asked when an item's work raised Unavailable: if it raises Unavailable too, the item is not to blame, the
             run stops, and the source's words are returned for the caller to show
    most     at most so many items are tried; one place among them is for an item that failed before
    seconds  no item is begun after so long; the next run of this pass begins with the first one that was left.
             So a run lasts at most `seconds` and the longest work, whose own time-outs bound it
    threads  so many items at once, each with a database connection of its own
    elsewhere  keys of items that somebody else does at this moment: not tried, and their troubles stay
    forgets  False for a run of some items of the pass: troubles of others stay, whoever they are (see `forget_gone`)

    Order: items that did not fail last time, as given; then those whose pause is over, the one tried longest ago
    first. `work` opens its own transactions; what it raises inside one is rolled back there. Costs one query (with
    `seconds` two), and one for each item whose state of trouble changes.
    """
    named = {_key_text(key(item)): item for item in items}
    troubles = {trouble.item: trouble for trouble in ItemTrouble.objects.filter(pass_name=name)}
    resume_at = ""
    if seconds is not None:
        resume_at = PassRun.objects.filter(name=name).values_list("resume_at", flat=True).first() or ""
    order, waiting = _in_order(list(named), troubles, resume_at, most, clock.now(), pauses)
    run = _Run(name, named, troubles, work, label, source, pauses, clock)
    left = run.all_of(order, seconds, threads)
    begin_next_at = left[0] if left and not run.source_words else ""
    if begin_next_at != resume_at:
        PassRun.objects.update_or_create(name=name, defaults={"resume_at": begin_next_at})
    gone = _forget_all_but(name, {*named, *map(_key_text, elsewhere)}, troubles) if forgets else set()
    beyond = len(named) - waiting - len(order)
    return Report(
        done=run.done,
        failed=run.failed,
        waiting=waiting,
        left=len(left) + beyond,
        news=run.news or bool(gone),
        source=run.source_words,
    )


def troubled(*, name: str) -> dict[str, datetime]:
    """The keys, as they are kept, of items of this pass that failed and did not succeed since, and when each was tried
    last. 1 query."""
    return dict(ItemTrouble.objects.filter(pass_name=name).values_list("item", "last_attempt_at"))


def forget_gone(*, name: str, items: Iterable[object]) -> None:
    """Forgets the troubles of all but these items (their keys), for a pass whose items are done one a task. One query
    while there is no trouble."""
    known = ItemTrouble.objects.filter(pass_name=name).values_list("item", flat=True)
    _forget_all_but(name, {_key_text(item) for item in items}, known)


def _forget_all_but(name: str, kept: set[str], known: Iterable[str]) -> set[str]:
    gone = set(known) - kept
    if gone:
        ItemTrouble.objects.filter(pass_name=name, item__in=gone).delete()
    return gone


@contextmanager
def one_run(*, name: str, clock: Clock, seconds: float) -> Iterator[bool]:
    """True for the run that may go on: one at a time of this pass, so that slow runs never pile up.

    A run that takes longer than `seconds` (or was killed) no longer keeps others away.
    """
    now, lifetime = clock.now(), timedelta(seconds=seconds)
    until = now + lifetime
    PassRun.objects.get_or_create(name=name)
    unheld = free("held_until", now=now, lifetime=lifetime)
    mine = PassRun.objects.filter(unheld, name=name).update(held_until=until) == 1
    try:
        yield mine
    finally:
        if mine:
            PassRun.objects.filter(name=name, held_until=until).update(held_until=None)


class _Run(Generic[T]):
    """One run under way. Its counts are shared by the threads of the run."""

    def __init__(
        self,
        name: str,
        items: dict[str, T],
        troubles: dict[str, ItemTrouble],
        work: Callable[[T], object],
        label: Callable[[T], str],
        source: Callable[[], object] | None,
        pauses: Pauses,
        clock: Clock,
    ) -> None:
        self.name, self.items, self.troubles = name, items, troubles
        self.work, self.label, self.source, self.pauses, self.clock = work, label, source, pauses, clock
        self.done = self.failed = 0
        self.news = False
        self.source_words = ""
        self.lock = Lock()

    def all_of(self, order: Sequence[str], seconds: float | None, threads: int) -> list[str]:
        """Tries the items in order; returns those that were not begun, because `seconds` had passed or the source went
        away."""
        left: list[str] = []
        began = self.clock.reading()

        def is_late() -> bool:
            return seconds is not None and seconds_between(began, self.clock.reading()) >= seconds

        def one(key: str) -> None:
            if self.source_words or is_late():
                with self.lock:
                    left.append(key)
                return
            self._try(key)

        def one_in_a_thread(key: str) -> None:
            close_old_connections()
            try:
                one(key)
            finally:
                connections.close_all()

        if threads > 1:
            with ThreadPoolExecutor(max_workers=threads) as pool:
                list(pool.map(one_in_a_thread, order))
        else:
            for key in order:
                one(key)
        return [key for key in order if key in set(left)]

    def _try(self, key: str) -> None:
        item = self.items[key]
        try:
            self.work(item)
        except (
            Exception
        ) as error:  # the boundary of one item: whatever is wrong with it must not stop the others
            self._failed(key, item, error)
            return
        with self.lock:
            self.done += 1
        if key in self.troubles:
            self._keep(key, self._forget)

    def _failed(self, key: str, item: T, error: Exception) -> None:
        silent = isinstance(error, Unavailable) and not isinstance(error, Rejected)
        if silent and self._source_is_down():
            return
        words = error_words(error)
        log.warning("pass.item_failed pass=%s item=%s %s", self.name, key, words)
        if not isinstance(error, HeadgateError):
            log.warning("pass.item_traceback pass=%s item=%s\n%s", self.name, key, traceback_words(error))
        with self.lock:
            self.failed += 1
        self._keep(key, lambda key: self._note(key, item, words))

    def _source_is_down(self) -> bool:
        if self.source is None:
            return False
        try:
            self.source()
        except Unavailable as error:
            with self.lock:
                self.source_words = error_words(error)
            log.warning("pass.source_down pass=%s %s", self.name, self.source_words)
            return True
        return False

    def _keep(self, key: str, write: Callable[[str], None]) -> None:
        try:
            with transaction.atomic():
                write(key)
        except DatabaseError as error:  # it is told by the next run, which fails or succeeds again
            log.warning("pass.trouble_not_kept pass=%s item=%s %s", self.name, key, error_words(error))

    def _note(self, key: str, item: T, words: str) -> None:
        now = self.clock.now()
        before = self.troubles.get(key)
        attempts = before.attempts + 1 if before is not None else 1
        ItemTrouble.objects.update_or_create(
            pass_name=self.name,
            item=key,
            defaults={
                "label": _label(self.label, item, key),
                "attempts": attempts,
                "first_failed_at": before.first_failed_at if before is not None else now,
                "last_attempt_at": now,
                "next_attempt_at": now + self.pauses.after(attempts),
                "error": words,
            },
        )
        if before is None or before.error != words:
            self.news = True

    def _forget(self, key: str) -> None:
        ItemTrouble.objects.filter(pass_name=self.name, item=key).delete()
        self.news = True


def _in_order(
    keys: Sequence[str],
    troubles: dict[str, ItemTrouble],
    resume_at: str,
    most: int | None,
    now: datetime,
    pauses: Pauses,
) -> tuple[list[str], int]:
    """The items to try, and how many are left alone because they failed a moment ago."""
    well = [key for key in keys if key not in troubles]
    if resume_at in well:
        at = well.index(resume_at)
        well = well[at:] + well[:at]
    ill = [key for key in keys if key in troubles]
    longest = timedelta(seconds=pauses.longest)
    due = [key for key in ill if is_free(troubles[key].next_attempt_at, now=now, lifetime=longest)]
    due.sort(key=lambda key: troubles[key].last_attempt_at)
    if most is None:
        return [*well, *due], len(ill) - len(due)
    first = well[: most - 1 if due else most]
    return [*first, *due[: most - len(first)]], len(ill) - len(due)


def _key_text(key: object) -> str:
    text = str(key)
    if text.isprintable() and len(text) <= KEY_LENGTH:
        return text
    # Cut or cleaned alone, two different names could become one.
    return f"{in_one_paragraph(text)[: KEY_LENGTH - 20]} {sha256(text.encode(errors='replace')).hexdigest()[:16]}"


def _label(label: Callable[[T], str], item: T, key: str) -> str:
    try:
        return in_one_paragraph(label(item))[:LABEL_LENGTH]
    except Exception:  # an odd item may not even know its name
        return key
