"""An engine as decisions see it: ready or not, failed and why. Where it runs and how it is reached is no part of it.

An engine has one or several replicas. What follows from how many of them are ready is the same everywhere:

- **All**: the engine is whole. Only a whole candidate gets its first traffic, and only a whole one gets more without a
  person's click: else fewer replicas would get more requests, and be measured under a load that nobody planned. That is
  asked when it is decided, and again when the split is published.
- **Some**: the engine answers with those that it has. That is no outage, and nothing is rolled back for it: what users
  notice of it, the gates measure, latency under the load of the replicas that are ready. A candidate keeps its share.
  Two things end a candidate all the same: one that never was whole did not launch, and a replica that crashes again and
  again is a crash loop (`restarts`), because each of them runs the same.
- **None**: an outage.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Any, Self

from controlplane.kernel.stored import flat

# Restarts of one replica from which on it is no accident: a candidate is then waited for no longer than any launch.
CRASH_RESTARTS = 3


class WorkloadPhase(StrEnum):
    """Where a workload is. READY means of at least one replica: healthy, and a warm-up completion was answered."""

    ABSENT = "absent"
    STARTING = "starting"
    READY = "ready"
    UNREADY = "unready"  # was ready, does not answer now (it may be restarting)
    DRAINING = "draining"
    FAILED = "failed"  # gave up; `reason` and `message` say why


class FailureReason(StrEnum):
    """Why a workload failed, for people and for the fast kill."""

    NONE = ""
    NO_MEMORY = "no-memory"
    BAD_MODEL = "bad-model"
    NO_SECRET = "no-secret"  # noqa: S105 - a secret of the spec cannot be read: its file or its key is missing
    BAD_SPEC = "bad-spec"  # the serving spec asks for what the engine's options do not allow
    PORT_TAKEN = "port-taken"
    TAMPERED_FILE = "tampered-file"
    CRASH_LOOP = "crash-loop"
    NO_ENGINE = "no-engine"
    TIMEOUT = "timeout"


def short_words(phase: WorkloadPhase, ready: int, desired: int) -> str:
    """`2 of 3 replicas are ready` of an engine that answers with a part of them; empty of any other."""
    if phase is not WorkloadPhase.READY or not 0 < ready < desired:
        return ""
    return f"{ready} of {desired} replicas {'is' if ready == 1 else 'are'} ready"


@dataclass(frozen=True, slots=True)
class EngineView:
    """The engine of one variant.

    ready, desired   replicas that answer, and that there should be
    restarts         of the replica that was restarted most often: several that each lost their node are no crash loop
    started_at       identifies the process, of several replicas the newest one's (seconds since the epoch); None when
                     it is not known
    message          its own words, for people
    files_at         until when its files were still coming (seconds since the epoch): the time to become ready counts
                     from there. None: they were there, or nobody knows
    was_whole        of several replicas: all were ready at once since it was launched
    """

    variant: str
    phase: WorkloadPhase
    ready: int = 0
    desired: int = 0
    restarts: int = 0
    started_at: float | None = None
    reason: FailureReason = FailureReason.NONE
    message: str = ""
    files_at: float | None = None
    was_whole: bool = False

    @property
    def is_ready(self) -> bool:
        """Whether it answers users: at least one replica is ready."""
        return self.phase is WorkloadPhase.READY and self.ready > 0

    @property
    def is_whole(self) -> bool:
        """Whether all replicas that there should be are ready."""
        return self.is_ready and self.ready >= self.desired

    @property
    def short(self) -> str:
        """See `short_words`."""
        return short_words(self.phase, self.ready, self.desired)

    @property
    def short_because(self) -> str:
        """The same with what the cluster says about the others: why one cannot be placed, for example."""
        said = self.message.rstrip(".")
        return f"{self.short} ({said})" if self.short and said else self.short

    @property
    def crashes(self) -> bool:
        """Whether one of its processes ends again and again."""
        return self.restarts >= CRASH_RESTARTS

    def launching_since(self, asked_at: float) -> float:
        """When the time that it may take to become ready begins: with the question, or when its files were there."""
        return asked_at if self.files_at is None else max(asked_at, self.files_at)

    def silent_since(self, asked_at: float) -> float:
        """When the time that it may take to answer through the router begins: with its launch. Of several replicas one
        may have been restarted since, whatever was answered before; then with that one's process."""
        began = self.launching_since(asked_at)
        restarted = self.started_at if self.desired > 1 and not self.crashes else None
        return began if restarted is None else max(began, restarted)

    def to_json(self) -> dict[str, Any]:
        data = flat(self) | {"phase": self.phase.value, "reason": self.reason.value}
        if self.files_at is None:
            del data["files_at"]
        if not self.was_whole:
            del data["was_whole"]
        return data

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> Self:
        """As `to_json` gave it, or as it was recorded when addresses were still written down."""
        later = {"files_at": None, "was_whole": False}  # left out where they say nothing
        kept = {name: data[name] for name in cls.__dataclass_fields__ if name not in later}
        kept |= {name: data.get(name, usual) for name, usual in later.items()}
        return cls(**kept | {"phase": WorkloadPhase(data["phase"]), "reason": FailureReason(data["reason"])})
