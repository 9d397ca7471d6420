"""What a cluster says of the room for variants before they are launched: nodes, and memory of accelerators.

A dry run is done anew while somebody types. So what the cluster has is read by a thread of its own, once for all who
ask within `kept_seconds`, and nobody waits for longer than `wait_seconds`: whoever asks a cluster that hangs is told
that it did not say, and the answer is there for whoever asks next. There is one such question at a time, however long
it takes.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field

from controlplane.kernel.clock import Clock, ClockReading, seconds_between
from controlplane.kernel.errors import HeadgateError, InvalidInput, Unavailable
from rollouts.adapters.clusters.kubernetes.capacity import (
    ClusterReading,
    accelerator_bytes,
    judged,
    read_supply,
    wanted_together,
)
from rollouts.adapters.clusters.kubernetes.client import KubernetesClient
from rollouts.adapters.clusters.kubernetes.container import ContainerEngine
from rollouts.adapters.clusters.kubernetes.errors import NamespaceEnds, NamespaceMissing
from rollouts.adapters.clusters.kubernetes.namespace import check_namespace
from rollouts.adapters.clusters.kubernetes.objects import check_launch
from rollouts.adapters.clusters.kubernetes.profile import ClusterProfile
from rollouts.domain.capacity.engine_memory import memory_of
from rollouts.domain.capacity.findings import (
    CapacityFinding,
    accelerator_finding,
    accelerator_unknown,
    cannot_start,
    not_asked,
    placement_finding,
)
from rollouts.domain.capacity.placement import Wanted
from rollouts.ports import PlannedLaunches, WorkloadSpec

NOTHING_STARTS = (NamespaceMissing, NamespaceEnds)
WAIT_SECONDS, KEPT_SECONDS = 4.0, 10.0

log = logging.getLogger(__name__)


@dataclass(slots=True)
class _Question:
    """One look at what the cluster has. `said` and `said_at` are set before `done`."""

    asked_at: ClockReading
    said_at: ClockReading | None = None
    done: threading.Event = field(default_factory=threading.Event)
    said: ClusterReading | HeadgateError | None = None


class Preflight:
    """See the module. Safe to call from several threads."""

    def __init__(
        self,
        client: KubernetesClient,
        profile: ClusterProfile,
        installation: str,
        engines: Mapping[str, ContainerEngine],
        clock: Clock,
        *,
        wait_seconds: float = WAIT_SECONDS,
        kept_seconds: float = KEPT_SECONDS,
    ) -> None:
        self._client = client
        self._profile = profile
        self._installation = installation
        self._engines = engines
        self._clock = clock
        self._wait_seconds = wait_seconds
        self._kept_seconds = kept_seconds
        self._lock = threading.Lock()
        self._question: _Question | None = None

    def findings(self, planned: PlannedLaunches) -> tuple[CapacityFinding, ...]:
        """See `rollouts.ports.Cluster.capacity`. Raises nothing: what cannot be asked is a finding."""
        if not planned.specs:
            return ()
        try:
            refused = tuple(self._refused(planned))
            if refused:
                return refused
            wanted = wanted_together(planned.specs, self._profile, self._engines)
            reading = self._reading()
        except NOTHING_STARTS as error:
            return (cannot_start("", error),)
        except HeadgateError as error:
            return (not_asked(error),)
        placed = judged(reading, wanted, ending=planned.ending, baseline=planned.baseline)
        return (placement_finding(placed), *self._memory(planned, wanted, reading))

    def _refused(self, planned: PlannedLaunches) -> Iterator[CapacityFinding]:
        """Variants whose launch would be refused, whatever room there is."""
        for spec in planned.specs:
            try:
                check_launch(spec, self._profile, installation=self._installation, engines=self._engines)
            except InvalidInput as error:
                yield cannot_start(spec.variant, error)

    # --- memory of accelerators -----------------------------------------------------------------------------------

    def _memory(
        self, planned: PlannedLaunches, wanted: Wanted, reading: ClusterReading
    ) -> Iterator[CapacityFinding]:
        """Of each variant whether it fits on the accelerators that it may get."""
        if not wanted.accelerator:
            return
        size = accelerator_bytes(reading.supply, wanted.choice, wanted.accelerator)
        for spec in planned.specs:
            yield self._memory_of(spec, planned, wanted.accelerator, size)

    def _memory_of(
        self, spec: WorkloadSpec, planned: PlannedLaunches, resource: str, size: int | None
    ) -> CapacityFinding:
        if size is None:
            reason = (
                f"How much memory one {resource} has is not known: no node says it, one does not, or pods share one."
                f" It is read from the label {resource}.memory, which GPU feature discovery sets."
            )
            return accelerator_unknown(spec.variant, reason)
        try:
            config = planned.config(spec.variant)
        except HeadgateError as error:
            return accelerator_unknown(spec.variant, str(error))
        found = memory_of(config, spec.manifest, spec.arguments, accelerator_bytes=size)
        return accelerator_finding(spec.variant, found)

    # --- reading --------------------------------------------------------------------------------------------------

    def _reading(self) -> ClusterReading:
        """What the cluster has. Raises what the reading raised, and Unavailable while it goes on for too long."""
        question = self._asked()
        waited = seconds_between(question.asked_at, self._clock.reading())
        # Whoever asks while a slow answer is awaited does not wait as long as the first one once more.
        if not question.done.wait(max(0.0, self._wait_seconds - waited)):
            raise Unavailable(
                f"The cluster did not say within {self._wait_seconds:g} s what it has.",
                fix="Look again in a moment: it is still asked.",
            )
        if isinstance(question.said, ClusterReading):
            return question.said
        assert question.said is not None
        raise question.said

    def _asked(self) -> _Question:
        """The question that is young enough, or goes on; else a new one."""
        with self._lock:
            now, last = self._clock.reading(), self._question
            if last is not None and (
                last.said_at is None or seconds_between(last.said_at, now) < self._kept_seconds
            ):
                return last
            self._question = _Question(now)
            threading.Thread(target=self._ask, args=(self._question,), daemon=True).start()
            return self._question

    def _ask(self, question: _Question) -> None:
        try:
            check_namespace(self._client)
            question.said = read_supply(self._client, self._profile, self._installation)
        except HeadgateError as error:
            question.said = error
        except Exception:  # a thread that ends without a word would be waited for
            log.exception("kubernetes.capacity_not_read")
            question.said = Unavailable("What the cluster has could not be read.", fix="The log has it.")
        finally:
            question.said_at = self._clock.reading()
            question.done.set()
