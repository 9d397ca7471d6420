"""One glance a tick at every cluster and its router: whose engines, route or answers changed has to be looked at.

A glance costs no query, whatever the number of endpoints, and what it finds is only a reason to look: the turn that
follows reads everything itself. A part that does not answer is asked again in a later tick; it delays nobody, and all
endpoints that it has are looked at once when it falls silent and once when it answers again.
"""

from __future__ import annotations

import logging
from collections import defaultdict
from collections.abc import Callable, Hashable, Mapping
from concurrent.futures import Future, ThreadPoolExecutor, wait
from dataclasses import dataclass, field
from datetime import datetime
from functools import partial
from threading import Lock

from controlplane.kernel.errors import HeadgateError
from controlplane.passes.words import error_words
from controlplane.web.health import beat
from rollouts.domain.gates.policy import USUAL_OUTAGE_SHARE
from rollouts.domain.record.readings import Failures
from rollouts.domain.variants import endpoint_of
from rollouts.ports import ObservedRoute, WorkloadStatus
from rollouts.services.world import Worlds

log = logging.getLogger(__name__)

ANSWER_SECONDS = 0.5  # so long a tick waits for those that are asked; later answers are taken by the next one
ASKED_AT_ONCE = 96  # parts, three a cluster: one that hangs keeps its thread until its time-out
ROUTER = "router "  # and the name of its cluster: a part
SILENT = "does not answer"  # the mark of every endpoint of a part that is silent

Marks = Mapping[str, Hashable]  # by endpoint: equal marks, nothing changed


@dataclass(slots=True)
class Glances:
    """What this process saw at its last glance. One for a process: a tick that begins while another one glances leaves
    it to that one, which then glances once more: what woke the second one may have come after the first one's look."""

    _asking: dict[str, Future[Marks | str]] = field(default_factory=dict)
    _marks: dict[str, Marks] = field(default_factory=dict)
    _failures: dict[str, Mapping[str, Mapping[str, Failures]]] = field(default_factory=dict)
    _silent: dict[str, str] = field(default_factory=dict)
    _clock: datetime | None = None
    _one: Lock = field(default_factory=Lock)
    _once_more: bool = False
    _pool: ThreadPoolExecutor = field(
        default_factory=lambda: ThreadPoolExecutor(max_workers=ASKED_AT_ONCE, thread_name_prefix="glance")
    )

    def clock_went_back(self, now: datetime) -> bool:
        """Whether the clock shows an earlier time than at the last tick: whatever was put off may be due."""
        before, self._clock = self._clock, now
        return before is not None and now < before

    def silent_routers(self) -> tuple[str, ...]:
        """Why routers did not answer the last glance, a sentence for each; empty when all did."""
        found = {
            **dict.fromkeys(self._asking, f"It has not answered for {ANSWER_SECONDS} s."),
            **self._silent,
        }
        return tuple(
            f"{part.removeprefix(ROUTER)}: {words}"
            for part, words in sorted(found.items())
            if part.startswith(ROUTER)
        )

    def changed(self, worlds: Worlds) -> frozenset[str]:
        """The names of endpoints that look otherwise than at the last glance; of those that were never seen, all."""
        if not self._one.acquire(blocking=False):
            self._once_more = True
            return frozenset()
        try:
            self._once_more = False
            found = self._changed(worlds)
            return found | self._changed(worlds) if self._once_more else found
        finally:
            self._one.release()

    def _changed(self, worlds: Worlds) -> frozenset[str]:
        sources: dict[str, Callable[[], Marks]] = {}
        for name in worlds.names:
            of = partial(worlds.of, name)
            sources[f"cluster {name}"] = lambda of=of: _engines(of().cluster.statuses())  # type: ignore[misc]
            sources[ROUTER + name] = lambda of=of: _routes(of().router.observe_all())  # type: ignore[misc]
            sources[f"failures {name}"] = lambda of=of, name=name: self._failing(  # type: ignore[misc]
                name, of().signals.failures()
            )
        for gone in {*self._marks, *self._silent} - set(sources):
            self._marks.pop(gone, None)
            self._silent.pop(gone, None)
        fresh = {
            name: self._pool.submit(_asked, name, ask)
            for name, ask in sources.items()
            if name not in self._asking
        }
        self._asking |= fresh
        wait(
            fresh.values(), timeout=ANSWER_SECONDS
        )  # whoever did not answer last time is not waited for again
        found: set[str] = set()
        for name, future in list(self._asking.items()):
            if future.done():
                del self._asking[name]
                if name in sources:
                    found |= self._compared(name, future.result())
        return frozenset(found)

    def _compared(self, source: str, answer: Marks | str) -> set[str]:
        before = self._marks.get(source, {})
        self._silent.pop(source, None)
        if isinstance(answer, str):
            self._silent[source] = answer
            marks: Marks = dict.fromkeys(before, SILENT)
        else:
            marks = answer
        self._marks[source] = marks
        every = {*before, *marks}
        return {endpoint for endpoint in every if before.get(endpoint) != marks.get(endpoint)}

    def _failing(self, cluster: str, failures: Mapping[str, Mapping[str, Failures]]) -> Marks:
        """Marked anew in each glance in which too many failed: the endpoint is looked at for as long as it lasts."""
        marks: dict[str, Hashable] = {}
        earlier = self._failures.get(cluster, {})
        for endpoint, now in failures.items():
            before = earlier.get(endpoint, {})
            # A process of the router that is new, or counts anew, has nothing to compare with yet.
            same = [
                (before[name], one)
                for name, one in now.items()
                if name in before and before[name].ended <= one.ended and before[name].failed <= one.failed
            ]
            ended = sum(one.ended - then.ended for then, one in same)
            failed = sum(one.failed - then.failed for then, one in same)
            if failed > 0 and failed >= USUAL_OUTAGE_SHARE * ended:
                marks[endpoint] = tuple((one.ended, one.failed) for _, one in same)
        self._failures[cluster] = failures
        return marks


def report_routers(*, glances: Glances, now: datetime) -> None:
    """Tells the readiness report which clusters' routers do not answer, and why."""
    silent = glances.silent_routers()
    beat(name="router", now=now, ok=not silent, message="; ".join(silent))


def _asked(name: str, ask: Callable[[], Marks]) -> Marks | str:
    """What a part says; why not, in words, when it does not answer."""
    try:
        return ask()
    except HeadgateError as error:
        log.info("glance.no_answer part=%s %s", name, error)
        return str(error)
    except Exception as error:  # the boundary of one part: it must not keep the others from being seen
        log.exception("glance.failed part=%s", name)
        return error_words(error)


def _engines(statuses: Mapping[str, WorkloadStatus]) -> Marks:
    """What of its engines makes an endpoint be looked at. Not their words, which change while they load."""
    marks: dict[str, list[Hashable]] = defaultdict(list)
    for variant, status in sorted(statuses.items()):
        marks[endpoint_of(variant)].append(
            (variant, status.phase, status.ready, status.desired, status.restarts, status.started_at, status.reason,
             status.backend, status.drift, status.altered)
        )  # fmt: skip
    return {endpoint: tuple(found) for endpoint, found in marks.items()}


def _routes(routes: Mapping[str, ObservedRoute]) -> Marks:
    return {
        endpoint: (
            tuple(sorted(route.shares.items())),
            route.healthy,
            (route.named, route.generation, route.accepted),
            route.rejected,
        )
        for endpoint, route in routes.items()
    }
