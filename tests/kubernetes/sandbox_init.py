"""Process 1 of a sandbox (see sandbox.py): it sets the place up, then starts, signals and reaps what it is asked to.

    python sandbox_init.py FOLDER CERTIFICATES BRIDGE_ADDRESS

One JSON object a line comes in on standard input, one goes out on standard output: `{"ok": ...}` or `{"error": ...}`.
When standard input ends, so does this process, and with it the whole sandbox. It imports the standard library only.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import Any

SHARED = ("proc", "run", "certs")  # of these the sandbox has its own


def command(*argv: str) -> None:
    done = subprocess.run(argv, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, check=False)
    if done.returncode:
        raise OSError(f"{' '.join(argv)}: {done.stdout.strip()}")


def set_up(folder: Path, certificates: Path, bridge: str) -> None:
    """A root of our own: this machine's folders, and in place of some of them new ones that live in memory.

    Nothing that the machine has is changed: what is mounted here is seen in this mount namespace only.
    """
    root = folder / "root"
    root.mkdir(exist_ok=True)
    command("mount", "-t", "tmpfs", "-o", "mode=755", "sandbox", str(root))
    command("mount", "--make-unbindable", str(root))  # else it would be seen again inside itself
    for entry in Path("/").iterdir():
        if entry.name in SHARED:
            continue
        if entry.is_symlink():
            (root / entry.name).symlink_to(entry.readlink())
        elif entry.is_dir():
            (root / entry.name).mkdir()
            command("mount", "--rbind", str(entry), str(root / entry.name))
    for name in SHARED:
        (root / name).mkdir()
    command("mount", "-t", "proc", "proc", str(root / "proc"))
    command("mount", "-t", "tmpfs", "-o", "mode=755", "run", str(root / "run"))
    command("mount", "--bind", str(certificates), str(root / "certs"))
    os.chroot(root)
    os.chdir("/")
    Path("/run/netns").mkdir()
    # Nothing in here reaches a name server, and an attempt would take many seconds. Without one it ends at once.
    Path("/run/no-name-server").touch()
    if Path("/etc/resolv.conf").exists():
        command("mount", "--bind", "/run/no-name-server", "/etc/resolv.conf")
    command("hostname", "lab")
    command("ip", "link", "set", "lo", "up")
    Path("/proc/sys/net/ipv4/ip_forward").write_text("1")
    command("ip", "link", "add", "pods", "type", "bridge")
    command("ip", "addr", "add", f"{bridge}/24", "dev", "pods")
    command("ip", "link", "set", "pods", "up")


class Children:
    """The processes that were started by name. Whatever else becomes an orphan in here is reaped, too."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._pids: dict[str, int] = {}
        self._ended: dict[int, int] = {}
        self._changed = threading.Condition()
        self._reaper = threading.Thread(target=self._reap, daemon=True)

    def _reap(self) -> None:
        """Waits for processes, for ever."""
        while True:
            try:
                pid, status = os.waitpid(-1, 0)
            except ChildProcessError:
                time.sleep(0.05)
                continue
            with self._changed:
                if pid in self._pids.values():  # nobody asks for an orphan, and its number may come again
                    self._ended[pid] = os.waitstatus_to_exitcode(status)
                self._changed.notify_all()

    def start(self, name: str, argv: list[str], environment: dict[str, str]) -> int:
        with self._changed:
            # Not before the first of them: it would also take the status of what `command` waits for.
            if not self._reaper.is_alive():
                self._reaper.start()
            if self._running(name):
                raise ValueError(f"{name}: it runs already")
            log = os.open(self._folder / f"{name}.log", os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o644)
            nothing = os.open(os.devnull, os.O_RDONLY)
            try:
                pid = os.posix_spawnp(
                    argv[0],
                    argv,
                    os.environ | environment,
                    file_actions=[
                        (os.POSIX_SPAWN_DUP2, nothing, 0),
                        (os.POSIX_SPAWN_DUP2, log, 1),
                        (os.POSIX_SPAWN_DUP2, log, 2),
                    ],
                    setsid=True,
                )
            finally:
                os.close(log)
                os.close(nothing)
            self._ended.pop(pid, None)
            self._pids[name] = pid
            return pid

    def signal(self, name: str, number: int, wait: float) -> None:
        with self._changed:
            if self._running(name):
                os.kill(self._pids[name], number)
            if wait and not self._changed.wait_for(lambda: not self._running(name), wait):
                raise TimeoutError(f"{name}: it still runs {wait:g} s after signal {number}")

    def status(self, name: str) -> int | None:
        with self._changed:
            if name not in self._pids:
                raise KeyError(f"{name}: no such process")
            return self._ended.get(self._pids[name])

    def memory(self) -> dict[str, int]:
        with self._changed:
            return {name: _resident(pid) for name, pid in self._pids.items() if self._running(name)}

    def _running(self, name: str) -> bool:
        return name in self._pids and self._pids[name] not in self._ended


def _resident(pid: int) -> int:
    """MiB."""
    for line in Path(f"/proc/{pid}/status").read_text().splitlines():
        if line.startswith("VmRSS"):
            return int(line.split()[1]) // 1024
    return 0


def obey(children: Children, order: dict[str, Any]) -> Any:
    do = order.pop("do")
    if do == "network":
        command("ip", "addr", "add", order["address"], "dev", "eth0")
        command("ip", "link", "set", "eth0", "up")
        return None
    if do == "start":
        return children.start(order["name"], order["argv"], order["environment"])
    if do == "signal":
        return children.signal(order["name"], order["signal"], order["wait"])
    if do == "status":
        return children.status(order["name"])
    if do == "memory":
        return children.memory()
    raise ValueError(f"{do}: no such order")


def say(**reply: Any) -> None:
    sys.stdout.write(json.dumps(reply) + "\n")
    sys.stdout.flush()


def main() -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is for the tests, which end us by the pipe
    folder = Path(sys.argv[1])
    set_up(folder, Path(sys.argv[2]), sys.argv[3])
    children = Children(folder)
    say(ok=os.getpid())
    for line in sys.stdin:
        try:
            done = obey(children, json.loads(line))
        except Exception as problem:  # whatever it is, the asker hears of it
            say(error=f"{type(problem).__name__}: {problem}")
        else:
            say(ok=done)
    os._exit(0)


main()
