"""The versions of the software that a verdict was computed with.

Every row of evidence keeps them, so that a replay knows whether it may promise the same bytes.
"""

from __future__ import annotations

import hashlib
import platform
from functools import cache
from importlib.metadata import version
from pathlib import Path

import controlplane.kernel
import rollouts.domain


@cache
def software() -> str:
    """Names of everything that a digit of a verdict depends on, such as
    `domain 1f2e3d4c5b6a, Python 3.11.9, numpy 2.3.1, scipy 1.16.0, x86_64`: the code of the decisions by the digest of
    its sources, and what requirements/app.txt locks."""
    sources = hashlib.sha256()
    for package in (rollouts.domain, controlplane.kernel):  # all that decides imports nothing else of ours
        folder = Path(package.__path__[0])
        for path in sorted(folder.rglob("*.py")):
            sources.update(path.relative_to(folder).as_posix().encode() + b"\0" + path.read_bytes() + b"\0")
    return (
        f"domain {sources.hexdigest()[:12]}, Python {platform.python_version()}, numpy {version('numpy')}, "
        f"scipy {version('scipy')}, {platform.machine()}"
    )
