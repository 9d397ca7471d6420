"""An engine as decisions see it: ready or not, failed and why. Where it runs and how it is reached is no part of it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Any, Self

from controlplane.kernel.stored import flat


class WorkloadPhase(StrEnum):
    """Where a workload is. READY means: healthy, and a warm-up completion was answered."""

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


@dataclass(frozen=True, slots=True)
class EngineView:
    """The engine of one variant.

    ready, desired   replicas that answer, and that there should be
    started_at       identifies the process (seconds since the epoch); None when it is not known
    message          its own words, for people
    files_at         until when its files were still coming (seconds since the epoch): the time to become ready counts
                     from there. None: they were there, or nobody knows
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

    @property
    def is_ready(self) -> bool:
        return self.phase is WorkloadPhase.READY and self.ready > 0

    def launching_since(self, asked_at: float) -> float:
        """When the time that it may take to become ready begins: with the question, or when its files were there."""
        return asked_at if self.files_at is None else max(asked_at, self.files_at)

    def to_json(self) -> dict[str, Any]:
        data = flat(self) | {"phase": self.phase.value, "reason": self.reason.value}
        if self.files_at is None:
            del data["files_at"]
        return data

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> Self:
        """As `to_json` gave it, or as it was recorded when addresses were still written down."""
        kept = {name: data[name] for name in cls.__dataclass_fields__ if name != "files_at"}
        kept["files_at"] = data.get("files_at")
        return cls(**kept | {"phase": WorkloadPhase(data["phase"]), "reason": FailureReason(data["reason"])})
