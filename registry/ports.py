"""What the registry needs from the outside: a model store. MLflow's REST API is the real one."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol


@dataclass(frozen=True, slots=True)
class StoredModel:
    """A registered model as the store has it. Times are seconds since the epoch."""

    name: str
    description: str
    updated_at: float
    aliases: Mapping[str, int] = field(default_factory=dict)
    tags: Mapping[str, str] = field(default_factory=dict)


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

    Every method raises Unavailable when the store does not answer, NotFound when what was named is not there.
    """

    def models(self, *, updated_since: float | None = None) -> tuple[StoredModel, ...]:
        """Registered models, newest change first; all of them, paged inside."""
        ...

    def versions(self, model: str) -> tuple[StoredVersion, ...]:
        """All versions of a model, newest first, without params, metrics and data sets (see `version`)."""
        ...

    def version(self, model: str, number: int) -> StoredVersion:
        """One version, whole."""
        ...

    def download(self, version: StoredVersion, to: Path) -> None:
        """Brings the version's files into the empty folder `to`."""
        ...

    def set_alias(self, model: str, alias: str, number: int) -> None:
        """Moves an alias and reads it back. Idempotent."""
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
