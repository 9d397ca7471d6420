"""What this machine says about itself: free memory, ports, processes. Linux only, read from /proc."""

from __future__ import annotations

import contextlib
import os
import signal
import socket
import time
from collections.abc import Collection
from dataclasses import dataclass
from pathlib import Path

PROC = Path("/proc")
PAGE_BYTES = os.sysconf("SC_PAGE_SIZE")
MEGABYTE = 1024 * 1024
NO_LIMIT = 1 << 60  # cgroup v1 writes an absurdly large number for "no limit"
TCP_LISTEN = "0A"
LOOPBACK, EVERY_ADDRESS, EVERY_ADDRESS_6 = (  # 127.0.0.1, 0.0.0.0 and :: as /proc/net/tcp writes them here
    f"{socket.htonl(0x7F000001):08X}",
    "0" * 8,
    "0" * 32,
)


@dataclass(frozen=True, slots=True)
class Process:
    """A process, by its id. `command` is shortened for people."""

    pid: int
    command: str

    def __str__(self) -> str:
        return f"process {self.pid} ({self.command})"


def available_memory_mb() -> int:
    """Megabytes a new process may take: the machine's MemAvailable or what its cgroup leaves."""
    fields = dict(line.split(":", 1) for line in (PROC / "meminfo").read_text().splitlines())
    available = int(fields["MemAvailable"].split()[0]) * 1024
    left = _cgroup_bytes_left()
    return (available if left is None else min(available, left)) // MEGABYTE


def memory_mb() -> int:
    """Megabytes of memory that the machine has, or that its cgroup may take."""
    fields = dict(line.split(":", 1) for line in (PROC / "meminfo").read_text().splitlines())
    total = int(fields["MemTotal"].split()[0]) * 1024
    limit = _cgroup_limit()
    return (total if limit is None else min(total, limit[0])) // MEGABYTE


def _cgroup_bytes_left() -> int | None:
    """What the cgroup's limit leaves; None without a limit. Reclaimable page cache counts as free."""
    found = _cgroup_limit()
    return None if found is None else max(0, found[0] - found[1])


def _cgroup_limit() -> tuple[int, int] | None:
    """The limit of the cgroup's memory and what of it is taken, in bytes, less reclaimable page cache."""
    for folder in _cgroup_folders():
        for limit_name, usage_name in (
            ("memory.max", "memory.current"),
            ("memory.limit_in_bytes", "memory.usage_in_bytes"),
        ):
            with contextlib.suppress(OSError, ValueError):
                limit = int((folder / limit_name).read_text())  # "max" is a ValueError: no limit
                if limit < NO_LIMIT:
                    usage = int((folder / usage_name).read_text())
                    return limit, usage - _reclaimable_bytes(folder)
    return None


def _cgroup_folders() -> list[Path]:
    base = Path("/sys/fs/cgroup")
    folders = [base, base / "memory"]
    for line in (PROC / "self/cgroup").read_text().splitlines():
        _, controllers, path = line.split(":", 2)
        if controllers == "":
            folders.insert(0, base / path.lstrip("/"))
        elif "memory" in controllers.split(","):
            folders.insert(0, base / "memory" / path.lstrip("/"))
    return folders


def _reclaimable_bytes(folder: Path) -> int:
    for line in (folder / "memory.stat").read_text().splitlines():
        name, value = line.split()
        if name in ("inactive_file", "total_inactive_file"):
            return int(value)
    return 0


def oom_kills() -> int:
    """How many processes the kernel has killed for want of memory (0 where it does not say)."""
    with contextlib.suppress(OSError):
        for line in (PROC / "vmstat").read_text().splitlines():
            if line.startswith("oom_kill "):
                return int(line.split()[1])
    return 0


def port_is_free(port: int, host: str = "127.0.0.1") -> bool:
    """Whether a server could listen on the port now. Connections in TIME_WAIT do not count."""
    with socket.socket(socket.AF_INET, socket.SOCK_STREAM) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((host, port))
        except OSError:
            return False
    return True


def who_listens(port: int) -> Process | None:
    """The process that listens on the TCP port; None when there is none or it may not be seen."""
    inodes = {inode for found in _listening(port).values() for inode in found}
    pid = min(_holders(inodes), default=None)
    return None if pid is None else Process(pid, command_of(pid))


def listener_is_marked(port: int, name: str, value: str) -> bool | None:
    """Whether what answers on 127.0.0.1:`port` is a process whose environment holds `name=value`, or its child.

    None when nobody listens there or it cannot be seen who does (a process of another user, a container). Several
    programs may share a port (SO_REUSEPORT): then all must be marked.
    """
    by_address = _listening(port)
    # The kernel prefers the exact address; a listener on all of them gets what is left.
    address = next((a for a in (LOOPBACK, EVERY_ADDRESS, EVERY_ADDRESS_6) if by_address.get(a)), None)
    if address is None:
        return None
    mark = f"{name}={value}".encode()
    seen: dict[str, bool] = dict.fromkeys(by_address[address], False)
    known: set[str] = set()
    for pid, held in _holders(set(seen)).items():
        with contextlib.suppress(OSError):
            marked = mark in (PROC / str(pid) / "environ").read_bytes().split(b"\0")
            known |= held
            for inode in held:
                seen[inode] = seen[inode] or marked
    if any(not seen[inode] for inode in known):
        return False
    return True if known == set(seen) else None


def _listening(port: int) -> dict[str, set[str]]:
    """Listening TCP sockets of the port ("socket:[inode]"), by the address they listen on as /proc writes it."""
    found: dict[str, set[str]] = {}
    for table in ("tcp", "tcp6"):
        with contextlib.suppress(OSError):
            for line in (PROC / "net" / table).read_text().splitlines()[1:]:
                columns = line.split()
                address, _, number = columns[1].rpartition(":")
                if columns[3] == TCP_LISTEN and int(number, 16) == port:
                    found.setdefault(address, set()).add(f"socket:[{columns[9]}]")
    return found


def _holders(inodes: set[str]) -> dict[int, set[str]]:
    """Which processes hold which of the sockets, as far as this user may see."""
    found: dict[int, set[str]] = {}
    for pid in all_pids() if inodes else []:
        with contextlib.suppress(OSError):
            for handle in (PROC / str(pid) / "fd").iterdir():
                with contextlib.suppress(OSError):
                    if (target := str(handle.readlink())) in inodes:
                        found.setdefault(pid, set()).add(target)
    return found


def all_pids() -> list[int]:
    return [int(entry.name) for entry in PROC.iterdir() if entry.name.isdigit()]


def command_of(pid: int, limit: int = 120) -> str:
    """The command line, shortened; empty when the process is gone."""
    with contextlib.suppress(OSError):
        words = (PROC / str(pid) / "cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace")
        return words.strip()[:limit]
    return ""


@dataclass(frozen=True, slots=True)
class Stat:
    """A line of /proc/PID/stat. `started`, in ticks since the machine's start, tells two processes apart that were
    given the same id one after the other."""

    state: str
    parent: int
    started: int
    resident_pages: int

    @property
    def alive(self) -> bool:
        return self.state not in ("Z", "X")


def stat_of(pid: int) -> Stat | None:
    """None when there is no such process."""
    try:
        columns = (PROC / str(pid) / "stat").read_text(errors="replace").rpartition(")")[2].split()
        return Stat(columns[0], int(columns[1]), int(columns[19]), int(columns[21]))
    except (OSError, IndexError):
        return None


def is_alive(pid: int) -> bool:
    """Whether the process runs (a zombie does not)."""
    found = stat_of(pid)
    return found is not None and found.alive


def processes_marked(name: str, value: str) -> list[int]:
    """Living processes whose environment holds `name=value`, and all that descends from one; this one is left out.

    Descendants count because a program may overwrite its environment (to show another title), and because that of
    another user's process cannot be read without a capability which root has not in every container.
    """
    stats = {pid: stat for pid in all_pids() if (stat := stat_of(pid)) is not None and stat.alive}
    children: dict[int, list[int]] = {}
    for pid, stat in stats.items():
        children.setdefault(stat.parent, []).append(pid)
    ahead = [pid for pid in stats if _is_marked(pid, f"{name}={value}".encode())]
    found: set[int] = set()
    while ahead:
        pid = ahead.pop()
        if pid not in found and pid != os.getpid():
            found.add(pid)
            ahead += children.get(pid, ())
    return sorted(found)


def _is_marked(pid: int, mark: bytes) -> bool:
    with contextlib.suppress(OSError):
        return mark in (PROC / str(pid) / "environ").read_bytes().split(b"\0")
    return False


def end_marked(name: str, value: str, *, grace_seconds: float) -> list[Process]:
    """Ends what `processes_marked` finds until it finds nothing more, and returns what was ended.

    Raises TimeoutError as `end_processes` does.
    """
    ended: dict[int, Process] = {}
    while pids := processes_marked(name, value):
        ended |= {pid: Process(pid, command_of(pid)) for pid in pids}
        end_processes(pids, grace_seconds=grace_seconds)
        grace_seconds = 0  # they had it
    return [ended[pid] for pid in sorted(ended)]


def tree_memory_mb(root: int) -> int:
    """Resident memory of a process and all below it, in megabytes (shared pages are counted more than once)."""
    stats = {pid: stat for pid in all_pids() if (stat := stat_of(pid)) is not None}
    pages, ahead = 0, [root] if root in stats else []
    while ahead:
        parent = ahead.pop()
        pages += stats[parent].resident_pages
        ahead += [pid for pid, stat in stats.items() if stat.parent == parent]
    return pages * PAGE_BYTES // MEGABYTE


def end_processes(pids: Collection[int], *, grace_seconds: float = 5.0) -> None:
    """Asks the processes to end, kills those that live on after `grace_seconds`; returns when all are gone.

    A process that is given the id of one that has ended meanwhile is left alone. Raises TimeoutError when one does not
    even die of SIGKILL within five seconds.
    """
    started = {pid: stat.started for pid in pids if (stat := stat_of(pid)) is not None}

    def alive() -> list[int]:
        stats = ((pid, stat_of(pid)) for pid in started)
        return [pid for pid, now in stats if now is not None and now.alive and now.started == started[pid]]

    for step, wait in ((signal.SIGTERM, grace_seconds), (signal.SIGKILL, 5.0)):
        if wait <= 0:
            continue
        for pid in alive():
            with contextlib.suppress(ProcessLookupError, PermissionError):
                os.kill(pid, step)
        end = time.monotonic() + wait
        while alive() and time.monotonic() < end:
            time.sleep(0.05)
    if left := alive():
        raise TimeoutError(
            f"These processes do not end: {', '.join(str(Process(p, command_of(p))) for p in left)}"
        )
