"""What the registry needs from the outside: a model store. MLflow's REST API is the real one."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol

from controlplane.kernel import foreign
from registry.domain.manifest import Progress, nothing

# Codes of what a store raises, for those who must tell one from another.
ODD_ANSWER = foreign.ODD_ANSWER  # InvalidInput: what it says of this one thing cannot be understood
NOT_SERVED = "source-not-served"  # Rejected: it does not hand out the version's files itself
LEAVES_FOLDER = "leaves-folder"  # Rejected: a file's name would lead out of the version's folder


@dataclass(frozen=True, slots=True)
class StoredModel:
    """A registered model as the store has it. Times are seconds since the epoch; 0: the store does not say."""

    name: str
    description: str
    updated_at: float
    aliases: Mapping[str, int] = field(default_factory=dict)
    tags: Mapping[str, str] = field(default_factory=dict)
    created_at: float = 0.0


@dataclass(frozen=True, slots=True)
class UnreadableEntry:
    """An entry of a list that cannot be understood: what it seems to be called, and what is wrong with it."""

    name: str
    problem: str


@dataclass(frozen=True, slots=True)
class StoredDataset:
    """A data set that a run read."""

    name: str
    digest: str
    context: str = ""


@dataclass(frozen=True, slots=True)
class StoredVersion:
    """A model version with what its run and LoggedModel say. `status` is READY, PENDING or FAILED."""

    model: str
    number: int
    source: str
    status: str
    created_at: float
    updated_at: float
    run_id: str = ""
    run_name: str = ""
    logged_model_id: str = ""
    description: str = ""
    tags: Mapping[str, str] = field(default_factory=dict)
    params: Mapping[str, str] = field(default_factory=dict)
    metrics: Mapping[str, float] = field(default_factory=dict)
    datasets: tuple[StoredDataset, ...] = ()


class ModelStore(Protocol):
    """The source of truth of what a version is.

    Every method raises Unavailable when the store does not answer, NotFound when what was named is not there. What it
    returns is what the store says: `registry.domain.foreign` tells whether it may be believed.
    """

    def models(self) -> tuple[StoredModel | UnreadableEntry, ...]:
        """Registered models, newest change first; all of them, paged inside. An odd entry takes its own place only."""
        ...

    def versions(self, model: str) -> tuple[StoredVersion | UnreadableEntry, ...]:
        """All versions of a model, newest first, without params, metrics and data sets (see `version`)."""
        ...

    def version(self, model: str, number: int) -> StoredVersion:
        """One version, whole. Raises InvalidInput when what the store says of it cannot be understood."""
        ...

    def download(self, version: StoredVersion, to: Path, progress: Progress = nothing) -> None:
        """Brings the version's files into the empty folder `to`; calls `progress` with the bytes of each piece."""
        ...

    def read_file(self, model: str, number: int, path: str, *, size: int, seconds: float) -> bytes:
        """One file of a version and nothing else of it: `path` below its folder, of which `size` bytes are expected.
        Raises NotFound or Unavailable when it is not there, and Unavailable for one of another size and when it did not
        come within `seconds`."""
        ...

    def set_alias(self, model: str, alias: str, number: int) -> None:
        """Moves an alias, whatever it pointed to. Idempotent. `alias_at` says what came of it."""
        ...

    def alias_at(self, model: str, alias: str) -> int | None:
        """The version that an alias points to now, None when it is not there."""
        ...

    def delete_alias(self, model: str, alias: str) -> None:
        """Removes an alias; nothing happens when it is not there."""
        ...

    def set_version_tags(self, model: str, number: int, tags: Mapping[str, str]) -> None:
        """Sets tags on a version and reads them back. Idempotent."""
        ...

    def ping(self) -> None:
        """Returns when the store answers, raises Unavailable otherwise."""
        ...
