"""What the two checks of the supply chain share: the packages of a lock, and what requirements/accepted.toml says."""

from __future__ import annotations

import tomllib
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from packaging.markers import Marker
from packaging.requirements import Requirement
from packaging.utils import NormalizedName, canonicalize_name

ROOT = Path(__file__).resolve().parent.parent
LOCKS = ROOT / "requirements"
ACCEPTED = LOCKS / "accepted.toml"


@dataclass(frozen=True, slots=True)
class Locked:
    """A package of a lock; `marker` says where it is installed, None is everywhere."""

    name: NormalizedName
    version: str
    marker: Marker | None = None


def locked_in(lock: str) -> tuple[Locked, ...]:
    """The packages of a lock's text, in its order. Raises ValueError for a line that is none."""
    found = []
    for number, line in enumerate(lock.splitlines(), start=1):
        if not line.strip() or line.startswith((" ", "#")):
            continue
        try:
            requirement = Requirement(line.rstrip("\\ "))
            (pin,) = requirement.specifier
        except ValueError as error:
            raise ValueError(f"line {number} of the lock is no package: {line[:80]!r}") from error
        if pin.operator != "==":
            raise ValueError(f"line {number} of the lock names no version: {line[:80]!r}")
        found.append(Locked(canonicalize_name(requirement.name), pin.version, requirement.marker))
    return tuple(found)


def accepted() -> dict[str, Any]:
    """requirements/accepted.toml."""
    return tomllib.loads(ACCEPTED.read_text())
