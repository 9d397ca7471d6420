"""What the machine must offer before anything is installed: facts, and the complaints they lead to. Pure but `look`."""

from __future__ import annotations

import platform
import re
import shutil
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

GIB = 1024**3
OLDEST_GLIBC = (2, 31)  # the engine's wheels are built for it
OLDEST_DRIVER = 580  # the locked torch is built for CUDA 13
# Measured: application 1.5, with test tools 2, engine 5.8 (CPU), 11 (GPU); the rest is downloads and the demo's data.
DISK_GIB: Mapping[str, float] = {"app": 3.0, "vllm-cpu": 9.0, "vllm-gpu": 18.0}
DEMO_MEMORY_GIB = 12.0  # three engines, MLflow, Envoy, web, worker: 9 measured


@dataclass(frozen=True)
class Facts:
    """What was found. Sizes in bytes; `glibc` is (0, 0) where the C library is another one, `driver` the first number
    of the NVIDIA driver's version, 0 where it is unknown."""

    system: str
    architecture: str
    glibc: tuple[int, int]
    disk_free: int
    memory_available: int
    nvidia: bool
    driver: int = 0


@dataclass(frozen=True)
class Complaint:
    """Why it cannot go on, and what mends it."""

    problem: str
    remedy: str

    def __str__(self) -> str:
        return f"{self.problem}\n  Remedy: {self.remedy}"


def look(root: Path) -> Facts:
    """The facts of this machine, the disk being that of `root`."""
    library, number = platform.libc_ver()
    major, minor = number.split(".")[:2] if library == "glibc" else ("0", "0")
    return Facts(
        system=platform.system(),
        architecture=platform.machine(),
        glibc=(int(major), int(minor)),
        disk_free=shutil.disk_usage(root).free,
        memory_available=available_memory(Path("/proc/meminfo")),
        nvidia=has_nvidia(),
        driver=driver_version(Path("/proc/driver/nvidia/version")),
    )


def available_memory(meminfo: Path) -> int:
    """Bytes that programs can take without swapping; 0 when the system does not say."""
    try:
        for line in meminfo.read_text().splitlines():
            if line.startswith("MemAvailable:"):
                return int(line.split()[1]) * 1024
    except OSError:
        pass  # not Linux: the architecture's complaint says so
    return 0


def has_nvidia() -> bool:
    """Whether an NVIDIA GPU and its driver are here."""
    cards = Path("/proc/driver/nvidia/gpus")
    return (cards.is_dir() and any(cards.iterdir())) or (
        shutil.which("nvidia-smi") is not None and any(Path("/dev").glob("nvidia[0-9]*"))
    )


def driver_version(path: Path) -> int:
    """The first number of the NVIDIA driver's version; 0 where there is none or it does not say."""
    try:
        found = re.search(r"Module\s+(?:for x86_64\s+)?(\d+)\.", path.read_text())
    except OSError:
        return 0
    return int(found[1]) if found else 0


def complaints(facts: Facts, *, wanted: Mapping[str, bool], check_memory: bool) -> list[Complaint]:
    """Everything that would fail later. `wanted`: environment (a key of DISK_GIB) -> whether it must be installed."""
    found: list[Complaint] = []
    if facts.system != "Linux" or facts.architecture not in {"x86_64", "AMD64"}:
        found.append(
            Complaint(
                f"This is {facts.system} on {facts.architecture}; Headgate's parts are made for Linux on x86-64.",
                "use such a machine, or a container or virtual machine of that kind.",
            )
        )
    engine = any(needed for name, needed in wanted.items() if name.startswith("vllm"))
    if engine and facts.system == "Linux" and facts.glibc < OLDEST_GLIBC:
        have = "another C library" if facts.glibc == (0, 0) else f"glibc {facts.glibc[0]}.{facts.glibc[1]}"
        found.append(
            Complaint(
                f"The serving engine needs glibc {OLDEST_GLIBC[0]}.{OLDEST_GLIBC[1]} or newer; this system has {have}.",
                "use Debian 11, Ubuntu 20.04, RHEL 9 or newer.",
            )
        )
    if wanted.get("vllm-gpu") and 0 < facts.driver < OLDEST_DRIVER:
        found.append(
            Complaint(
                f"The NVIDIA driver is version {facts.driver}; the serving engine needs {OLDEST_DRIVER} or newer.",
                "update the driver, or serve on the CPU: python3 -m deploy.bootstrap --vllm --engine cpu, "
                "before the command you gave.",
            )
        )
    disk = sum(DISK_GIB[name] for name, needed in wanted.items() if needed)
    if facts.disk_free < disk * GIB:
        found.append(
            Complaint(
                f"{facts.disk_free / GIB:.1f} GB of disk are free here; installing needs {disk:.0f} GB.",
                "free some space (uv's cache: `uv cache prune`), or clone the project onto a larger disk.",
            )
        )
    if check_memory and facts.memory_available < DEMO_MEMORY_GIB * GIB:
        found.append(
            Complaint(
                f"{facts.memory_available / GIB:.1f} GB of memory are free; the demo runs up to three engines and "
                f"needs {DEMO_MEMORY_GIB:.0f} GB.",
                "end other programs (`make down` ends an earlier demo), or use a larger machine.",
            )
        )
    return found
