"""Which files of a version may be served: a simple rule on names, safetensors unless somebody allows more.

Pickle-based formats run code when they are loaded, and scanners miss some of it, so the rule refuses the
formats and inspects no content.
"""

from __future__ import annotations

from collections.abc import Collection
from pathlib import PurePosixPath

from registry.domain.manifest import Manifest

PICKLE_SUFFIXES = frozenset({".bin", ".pt", ".pth", ".pkl", ".pickle", ".joblib", ".ckpt"})


def refused_files(manifest: Manifest, *, allowed: Collection[str] = ()) -> tuple[str, ...]:
    """Paths of the files in a pickle-like format; `allowed` holds paths or names that may be served."""
    return tuple(
        entry.path
        for entry in manifest.entries
        if PurePosixPath(entry.path).suffix.lower() in PICKLE_SUFFIXES
        and entry.path not in allowed
        and PurePosixPath(entry.path).name not in allowed
    )


def refusal_of(paths: Collection[str]) -> str:
    """The sentence for `refused_files`; empty when there are none."""
    if not paths:
        return ""
    files = ", ".join(sorted(paths))
    return (
        f"Refused: {files} may hold pickled code, which runs when it is loaded (a rule on file names: "
        f"{' '.join(sorted(PICKLE_SUFFIXES))}). Save the weights as safetensors, or allow the file by name."
    )
