"""A workload of the cluster in memory: what it is at a moment of the clock."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Self

from rollouts.adapters.backends import ADDRESS, at_address
from rollouts.domain.engines import FailureReason, WorkloadPhase
from rollouts.ports import Backend, WorkloadSpec, WorkloadStatus

FETCHING = "it fetches its files"  # what a workload says meanwhile
# Two processes of one variant never share a start time, even when the clock stands still.
SMALLEST_TICK = 0.001


@dataclass(frozen=True, slots=True)
class Replica:
    """One process. `started_at` is what the clock showed, `ready_at` seconds of its monotonic clock."""

    started_at: float
    ready_at: float
    restarts: int = 0

    def started_again(self, shown: float, ready_at: float) -> Self:
        after = max(shown, self.started_at + SMALLEST_TICK)
        return replace(self, started_at=after, ready_at=ready_at, restarts=self.restarts + 1)


@dataclass(frozen=True, slots=True)
class MemoryWorkload:
    """All times without `started_at` are seconds of the clock's monotonic one.

    most_ready  no more replicas than so many are ready, as on a cluster that has no room for more
    backend_kind  of the reference to it; one that is not "address" has the variant's name
    drift       what somebody changed of it, as a sentence; altered: because of which part something else runs
    made_at, unknown_since  as `LaunchFound` has them
    """

    spec: WorkloadSpec
    port: int
    launched: float
    replicas: tuple[Replica, ...]
    most_ready: int
    files_until: float | None = None
    compared: bool = False
    was_ready: bool = False
    failure: FailureReason = FailureReason.NONE
    message: str = ""
    in_flight: int = 0
    drain_until: float | None = None
    backend_kind: str = ADDRESS
    drift: str = ""
    altered: str = ""
    scale_in_held: bool | None = None
    made_at: float = 0.0
    unknown_since: float | None = None

    def ready(self, now: float) -> int:
        """How many replicas are ready."""
        return min(self.most_ready, sum(now >= replica.ready_at for replica in self.replicas))

    def killed(self, count: int, now: float, shown: float, ready_at: float) -> Self:
        """After so many processes were killed: first those that are ready, of them those that were killed least."""

        def turn(index: int) -> tuple[bool, int]:
            return self.replicas[index].ready_at > now, self.replicas[index].restarts

        hit = set(sorted(range(len(self.replicas)), key=turn)[:count])
        replicas = tuple(
            replica.started_again(shown, ready_at) if index in hit else replica
            for index, replica in enumerate(self.replicas)
        )
        none_left = len(hit) == len(replicas)
        return replace(
            self,
            replicas=replicas,
            launched=now if none_left else self.launched,
            in_flight=0 if none_left else self.in_flight,
        )

    def status(self, now: float, shown: float) -> WorkloadStatus:
        ready, fails = self.ready(now), self.failure is not FailureReason.NONE
        phase = self._phase(ready)
        fetches = self.files_until is not None and now < self.files_until and not fails
        started_at = max(replica.started_at for replica in self.replicas)
        return WorkloadStatus(
            variant=self.spec.variant,
            phase=phase,
            backend=self._backend(),
            ready=ready if phase is WorkloadPhase.READY else 0,
            desired=self.spec.replicas,
            restarts=max(replica.restarts for replica in self.replicas),
            started_at=None if fails else started_at,
            reason=self.failure,
            message=FETCHING if fetches else self.message,
            in_flight=self.in_flight if ready and not fails else None,
            files_at=None if self.files_until is None else shown - max(0.0, now - self.files_until),
            drift=self.drift,
            altered=self.altered,
            scale_in_held=self.scale_in_held,
        )

    def _backend(self) -> Backend:
        variant = self.spec.variant
        if self.backend_kind == ADDRESS:
            return at_address(variant, "127.0.0.1", self.port)
        return Backend(variant, self.backend_kind, name=variant)

    def _phase(self, ready: int) -> WorkloadPhase:
        if self.failure is not FailureReason.NONE:
            return WorkloadPhase.FAILED
        if self.drain_until is not None:
            return WorkloadPhase.DRAINING
        if ready:
            return WorkloadPhase.READY
        return WorkloadPhase.UNREADY if self.was_ready else WorkloadPhase.STARTING
