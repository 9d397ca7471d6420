"""What the two checks of the supply chain share: the packages of a lock, and what requirements/accepted.toml says."""

from __future__ import annotations

import re
import tomllib
from dataclasses import dataclass
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
LOCKS = ROOT / "requirements"
ACCEPTED = LOCKS / "accepted.toml"
_LINE = re.compile(r"([A-Za-z0-9][A-Za-z0-9._-]*)(?:\[[^]]*\])?==([^\s;\\]+)(?:\s*;\s*([^\\]+?))?\s*\\?")


@dataclass(frozen=True, slots=True, order=True)
class Locked:
    """A package of a lock; `marker` says where it is installed, "" is everywhere."""

    name: str
    version: str
    marker: str = ""


def locked_in(lock: str) -> tuple[Locked, ...]:
    """The packages of a lock's text, in its order. Raises ValueError for a line that is none."""
    found = []
    for number, line in enumerate(lock.splitlines(), start=1):
        if not line.strip() or line.startswith((" ", "#")):
            continue
        match = _LINE.fullmatch(line)
        if match is None:
            raise ValueError(f"line {number} of the lock is no package: {line[:80]!r}")
        name, version, marker = match.groups()
        found.append(Locked(re.sub(r"[-_.]+", "-", name).lower(), version, marker or ""))
    return tuple(found)


def accepted() -> dict[str, Any]:
    """requirements/accepted.toml."""
    return tomllib.loads(ACCEPTED.read_text())
