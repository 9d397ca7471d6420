"""Images that the lab's nodes know: what each one starts, and what its programs are."""

from __future__ import annotations

import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[3]
ENGINE = "lab.test/engine"  # the stand-in engine, with `vllm` and `python3` on its PATH, as vLLM's image has
PROGRAMS = Path("/run/images")  # in the sandbox's memory


class Images:
    """By name without tag and digest. A name that is not here cannot be pulled."""

    def __init__(self) -> None:
        self._entrypoints: dict[str, list[str]] = {ENGINE: ["vllm", "serve"]}
        _write(PROGRAMS / "vllm", f'cd {ROOT} && exec {sys.executable} -m tests.kubernetes.engine "$@"')
        _write(PROGRAMS / "python3", f'exec {sys.executable} "$@"')

    @property
    def path(self) -> str:
        """The PATH of a container."""
        return f"{PROGRAMS}:{Path(sys.executable).parent}:/usr/sbin:/usr/bin:/sbin:/bin"

    def entrypoint(self, image: str) -> list[str] | None:
        """What the image starts when the pod names no command; None when there is no such image."""
        return self._entrypoints.get(repository(image))

    def publish(self, image: str) -> None:
        """From now on there is such an image; it holds what the stand-in engine's holds."""
        self._entrypoints[repository(image)] = self._entrypoints[ENGINE]


def repository(image: str) -> str:
    """The name without its tag and digest. A colon before the last slash is a port."""
    name = image.partition("@")[0]
    before, slash, last = name.rpartition("/")
    return before + slash + last.partition(":")[0]


def _write(path: Path, line: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(f"#!/bin/sh\n{line}\n")
    path.chmod(0o755)
