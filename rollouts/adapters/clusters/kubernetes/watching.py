"""Keeps what a cluster has of one kind of objects as it is now: one list, then one watch, and the list again where the
watch was lost. While nothing happens it costs a request a minute.

A server, or a proxy before it, may end every watch at once and without a word. Such watches are asked for with growing
pauses, and after the second one in a row the objects are listed instead, so that what is known is never older than the
longest pause.

What this process writes is put in at once, so that it sees its own writes; the newer of two versions stays. An object
that is odd is left out, and the log names it: it hides no other.
"""

from __future__ import annotations

import logging
import random
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from typing import Any, Generic, Protocol, TypeVar

from controlplane.kernel.errors import HeadgateError, Unavailable
from controlplane.kernel.foreign import words_of
from rollouts.adapters.clusters.kubernetes.client import ObjectKind
from rollouts.adapters.clusters.kubernetes.errors import Expired, UnknownKind

FIRST_SECONDS = 10.0  # that those who ask wait for the first list, all together
DRAW = random.SystemRandom().random  # processes that were forked must not draw the same
LEAST_PAUSE, LONGEST_PAUSE = 0.5, 20.0  # seconds between two tries, doubled each time
SHORT_SECONDS = (
    10.0  # a watch that ends sooner, and told nothing new, was no watch; servers end one after a minute
)
TOO_MANY_SHORT = 2  # of them in a row: what happened meanwhile is listed, for no watch tells it
UNKNOWN_PAUSE = (
    60.0  # until a kind that the cluster does not have is asked for again: somebody may have installed it
)

Made = TypeVar("Made")

log = logging.getLogger(__name__)


class Lists(Protocol):
    """The part of a client that is needed here."""

    def list(self, kind: ObjectKind, selector: str = "") -> tuple[list[dict[str, Any]], str]: ...

    def watch(
        self, kind: ObjectKind, selector: str, version: str
    ) -> Iterator[tuple[str, dict[str, Any]]]: ...


class WatchedKind:
    """All objects of a kind with these labels. Safe to call from several threads.

    wake       called whenever something changed; it returns at once
    optional   a cluster may not know the kind: then there are none, unless there were some
    pause      waits so many seconds, or until `stop`; given by tests that do not wait
    steady     seconds of a clock that never jumps
    """

    def __init__(
        self,
        client: Lists,
        kind: ObjectKind,
        selector: str,
        *,
        wake: Callable[[], None] = lambda: None,
        optional: bool = False,
        draw: Callable[[], float] = DRAW,
        pause: Callable[[float], object] | None = None,
        steady: Callable[[], float] = time.monotonic,
    ) -> None:
        self.kind = kind
        self._client = client
        self._selector = selector
        self._wake = wake
        self._optional = optional
        self._draw = draw
        self._steady = steady
        self._stopped = threading.Event()
        self._pause = pause or self._stopped.wait
        self._changed = threading.Condition()
        self._objects: dict[str, dict[str, Any]] = {}
        self._version = (
            0  # up to which all is known: an object that has no larger one, and is not here, is gone
        )
        self._put: set[str] = set()  # what this process wrote since the last list began
        self._listed = False
        self._problem: HeadgateError | None = None
        self._thread: threading.Thread | None = None
        self._waited_until = 0.0  # for the first list, however many ask

    # --- asking -------------------------------------------------------------------------------------------------

    def objects(self) -> Mapping[str, Mapping[str, Any]]:
        """All of them by name, as they are now. Raises Unavailable while that is not known."""
        self.begin()
        with self._changed:
            left = max(0.0, self._waited_until - self._steady())
            self._changed.wait_for(lambda: self._listed or self._problem is not None, left)
            if self._problem is not None:
                raise Unavailable(self._problem.message, fix=self._problem.fix, code=self._problem.code)
            if not self._listed:
                raise Unavailable(f"The cluster has not yet said which {self.kind.plural} there are.")
            return dict(self._objects)

    def put(self, found: Mapping[str, Any]) -> None:
        """What this process wrote, as the API server gave it back."""
        with self._changed:
            name = found["metadata"]["name"]
            if name in self._objects or version_of(found) > self._version:
                self._keep(found)
                self._put.add(name)

    def stop(self) -> None:
        """Ends the watch; it begins anew when somebody asks."""
        self._stopped.set()

    # --- following ----------------------------------------------------------------------------------------------

    def begin(self) -> None:
        """Lists and watches from now on, if it does not yet."""
        with self._changed:
            if self._thread is None or not self._thread.is_alive():
                self._stopped.clear()
                self._waited_until = self._steady() + FIRST_SECONDS
                name = f"watch {self.kind.plural}"
                self._thread = threading.Thread(target=self._run, name=name, daemon=True)
                self._thread.start()

    def _run(self) -> None:
        tries = too_old = short = 0
        version = ""
        while not self._stopped.is_set():
            try:
                version = version or self._list()
                first, began = version, self._steady()
                for kind, found in self._client.watch(self.kind, self._selector, version):
                    version = self._see(kind, found) or version
                    # An event that is as old as the list says only that the server answers.
                    if _number(version) > _number(first):
                        tries = too_old = short = 0
                    if self._stopped.is_set():
                        return
                self._well()
                tries = too_old = 0
                if _number(version) > _number(first) or self._steady() - began >= SHORT_SECONDS:
                    short = 0
                    continue
                short += 1
                if short == TOO_MANY_SHORT:
                    log.warning("kubernetes.watch_ends_at_once kind=%s", self.kind.name)
                self._rest(short)
                if short >= TOO_MANY_SHORT:
                    version = ""
            except Expired:
                version, too_old = "", too_old + 1
                if too_old > 1:  # what was listed just now is too old already
                    self._rest(too_old)
            except UnknownKind as error:
                version, tries = self._missed(error, version), tries + 1
                if self._problem is None:  # there need not be such a kind
                    self._pause(UNKNOWN_PAUSE * (0.5 + self._draw() / 2))
                else:
                    self._rest(tries)
            except Exception as error:  # the boundary of a thread: whatever comes, it goes on
                version, tries = self._missed(error, version), tries + 1
                self._rest(tries)

    def _rest(self, tries: int) -> None:
        """Waits before the next try: drawn, so that all watches of all processes do not come back at once."""
        longest = min(LONGEST_PAUSE, LEAST_PAUSE * 2 ** min(tries, 10))
        self._pause(longest * (0.5 + self._draw() / 2))

    def _list(self) -> str:
        """What is there now, and nothing of before: a cluster that was restored counts its versions anew."""
        with self._changed:
            self._put = set()
        found, version = self._client.list(self.kind, self._selector)
        with self._changed:
            own = [self._objects[name] for name in self._put if name in self._objects]
            self._objects, self._version = {}, _number(version)
            for one in found:
                if self._is_sound(one):
                    self._keep(one)
            for one in own:
                if version_of(one) > self._version:
                    self._keep(one)
            self._listed, self._problem = True, None
            self._changed.notify_all()
        self._wake()
        return version

    def _see(self, kind: str, found: Mapping[str, Any]) -> str:
        """Takes an event in, whatever came before it; returns the version to go on from, "" when it says none."""
        if not self._is_sound(found, named=kind != "BOOKMARK"):
            return ""
        version = version_of(found)
        with self._changed:
            changed = self._problem is not None
            # One that is not newer than all that is known, of an object that is not here: it is gone since.
            late = 0 < version <= self._version and _name_of(found) not in self._objects
            self._problem = None
            self._version = max(self._version, version)
            if kind == "DELETED":
                kept = self._objects.get(_name_of(found))
                if kept is not None and version_of(kept) <= version:
                    del self._objects[_name_of(found)]
                    changed = True
            elif kind in ("ADDED", "MODIFIED") and not late:
                changed = self._keep(found) or changed
        if changed:
            self._wake()
        return str(found["metadata"]["resourceVersion"])

    def _keep(self, found: Mapping[str, Any]) -> bool:
        """Whether it is another one than was known."""
        name, version = _name_of(found), version_of(found)
        kept = self._objects.get(name)
        if kept is not None and (version < version_of(kept) or 0 < version == version_of(kept)):
            return False
        self._objects[name] = dict(found)
        return True

    def _is_sound(self, found: object, *, named: bool = True) -> bool:
        """Whether it says which object it is, in which version."""
        metadata = found.get("metadata") if isinstance(found, Mapping) else None
        needed = ("name", "resourceVersion") if named else ("resourceVersion",)
        values = metadata if isinstance(metadata, Mapping) else {}
        lacks = [one for one in needed if not (isinstance(values.get(one), str) and values[one])]
        if lacks:
            name = words_of(str(values.get("name", ""))[:100])
            log.warning("kubernetes.object_odd kind=%s name=%s lacks=%s", self.kind.name, name, lacks)
        return not lacks

    def _well(self) -> None:
        with self._changed:
            self._problem = None

    def _missed(self, error: Exception, version: str) -> str:
        """Notes what is wrong, and returns the version to go on from: a server that was away is asked on from there."""
        if isinstance(error, UnknownKind) and self._optional and not self._objects:
            with self._changed:
                self._objects, self._listed, self._problem = {}, True, None
                self._changed.notify_all()
            return ""
        if isinstance(error, HeadgateError):
            problem, kept = error, version
        else:
            log.exception("kubernetes.watch_failed kind=%s", self.kind.name)
            problem, kept = Unavailable(f"The watch of {self.kind.plural} failed.", fix="The log has it."), ""
        with self._changed:
            self._problem = problem
            self._changed.notify_all()
        return kept


class PerObject(Generic[Made]):
    """What is made of each object, made anew only for those that changed. Safe to call from several threads.

    make   of one object; it never raises
    """

    def __init__(self, make: Callable[[Mapping[str, Any]], Made]) -> None:
        self._make = make
        self._made: dict[str, tuple[Mapping[str, Any], Made]] = {}

    def of(self, objects: Mapping[str, Mapping[str, Any]]) -> dict[str, Made]:
        """By name, of what a watch keeps (`WatchedKind.objects`): there an object that changed is another one."""
        before, made = self._made, {}
        for name, one in objects.items():
            kept = before.get(name)
            made[name] = kept if kept is not None and kept[0] is one else (one, self._make(one))
        self._made = made
        return {name: value for name, (_, value) in made.items()}


def _name_of(found: Mapping[str, Any]) -> str:
    return str(found["metadata"].get("name", ""))


def version_of(found: Mapping[str, Any]) -> int:
    """The version of an object. API servers promise that they grow as whole numbers do."""
    return _number(str(found["metadata"].get("resourceVersion", "")))


def _number(version: str) -> int:
    return int(version) if version.isdecimal() else 0
