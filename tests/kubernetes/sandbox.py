"""A private corner of this machine for processes: with the test's process dies everything in it.

`Sandbox` starts `sandbox_init.py` as process 1 of a pid, mount, network, IPC, UTS and control group namespace. The
kernel ends every process of a pid namespace with its process 1, and takes away the mounts and interfaces with the last
process; process 1 ends when its standard input does, which is a pipe from here. So also `kill -9` of the test's process
leaves nothing. This machine keeps one end of a virtual cable, and with it the route to the corner's addresses, for as
long as the corner lives.

Several may run at once: each one takes an own number, and with it an interface and addresses (`10.N.0.0/16`).
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import threading
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

INIT = Path(__file__).parent / "sandbox_init.py"
NUMBERS = range(180, 250)  # of 10.N.0.0/16
NAMESPACES = ("--pid", "--mount", "--net", "--uts", "--ipc", "--cgroup")


class SandboxError(Exception):
    """The sandbox could not be made, or a process in it could not be started: the message says why."""


@dataclass(frozen=True)
class Addresses:
    """The addresses of the sandbox with this number."""

    number: int

    @property
    def here(self) -> str:
        """This machine's end of the cable."""
        return f"10.{self.number}.255.1"

    @property
    def inside(self) -> str:
        """The sandbox's end: what listens on every address in there is reached at it."""
        return f"10.{self.number}.255.2"

    @property
    def bridge(self) -> str:
        """Where pods find everything that is not a pod."""
        return f"10.{self.number}.0.1"

    def pod(self, index: int) -> str:
        """The address of a pod; `index` counts from 0 to 249 and comes again afterwards."""
        return f"10.{self.number}.0.{2 + index % 250}"

    @property
    def pods(self) -> str:
        return f"10.{self.number}.0.0/24"

    @property
    def services(self) -> str:
        """Addresses of Services: nothing answers there, the gateway goes to pods directly."""
        return f"10.{self.number}.64.0/18"

    @property
    def first_service(self) -> str:
        return f"10.{self.number}.64.1"


def possible() -> bool:
    """Whether this process may make one: it needs root's rights, `unshare`, `setpriv` and `ip`."""
    if os.geteuid() != 0 or any(
        shutil.which(name) is None for name in ("unshare", "setpriv", "nsenter", "ip")
    ):
        return False
    tried = subprocess.run(["unshare", "--fork", *NAMESPACES, "true"], capture_output=True, check=False)
    return tried.returncode == 0


class Sandbox:
    """One such corner. `folder` is where the processes' output goes: `NAME.log`.

    `certificates` is shown inside as `/certs`, the one place where Envoy Gateway looks for its own.
    """

    def __init__(self, folder: Path, *, certificates: Path) -> None:
        self.folder = folder
        self._certificates = certificates
        self._ordering = threading.Lock()
        self._process: subprocess.Popen[str] | None = None
        self._addresses: Addresses | None = None

    @property
    def addresses(self) -> Addresses:
        assert self._addresses is not None, "the sandbox was not started"
        return self._addresses

    @property
    def link(self) -> str:
        """The name of this machine's end of the cable."""
        return f"hgk{self.addresses.number}"

    def start(self) -> None:
        """Returns when it is there. Raises SandboxError.

        The sandbox ends with the thread that calls this, so that it is one that lives as long.
        """
        for number in NUMBERS:
            self._addresses = Addresses(number)
            if self._take_number():
                break
        else:
            raise SandboxError(
                f"no number of {NUMBERS} is free: `ip link` shows the interfaces in use, hgk..."
            )

    def _take_number(self) -> bool:
        """Whether it was started under this number: one that is taken has an interface of that name, or a route."""
        taken = self._ip("-o", "route", "show", "root", f"10.{self.addresses.number}.0.0/16", "table", "all")
        if Path(f"/sys/class/net/{self.link}").exists() or taken.stdout.strip():
            return False
        errors = (self.folder / "sandbox.log").open("ab")
        self._process = subprocess.Popen(
            [
                # It dies with the thread that starts it, and what it starts dies with it. The pipe's end says it, too.
                *("setpriv", "--pdeathsig", "KILL", "unshare", "--fork", *NAMESPACES, "--mount-proc"),
                *("--propagation", "private", "--kill-child=SIGKILL", "--"),
                *(
                    sys.executable,
                    str(INIT),
                    str(self.folder),
                    str(self._certificates),
                    self.addresses.bridge,
                ),
            ],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=errors,
            text=True,
        )
        errors.close()
        self._reply("start")
        # In its own network namespace the cable's other end is made, so that it never lies about in this one.
        inside = self._init_pid()
        made = self._ip(
            "link", "add", self.link, "type", "veth", "peer", "name", "eth0", "netns", str(inside)
        )
        if made.returncode:
            self._end()
            if "exists" in made.stderr:  # somebody else's, since we looked
                return False
            raise SandboxError(f"ip link add {self.link}: {made.stderr.strip()}")
        for command in (
            ("addr", "add", f"{self.addresses.here}/24", "dev", self.link),
            ("link", "set", self.link, "up"),
        ):
            self._must(command)
        self.ask("network", address=f"{self.addresses.inside}/24")
        self._must(("route", "add", self.addresses.pods, "via", self.addresses.inside))
        return True

    def run(self, name: str, argv: list[str], environment: Mapping[str, str] | None = None) -> None:
        """Starts a process in it; its output goes to NAME.log. Raises SandboxError when it cannot be started."""
        self.ask("start", name=name, argv=argv, environment=dict(environment or {}))

    def kill(self, name: str, signal_number: int = 9, wait: float = 10.0) -> None:
        """Sends a signal to a process in it and, unless `wait` is 0, returns when it has ended."""
        self.ask("signal", name=name, signal=signal_number, wait=wait)

    def exit_status(self, name: str) -> int | None:
        """How a process of it ended, negative by a signal; None while it runs."""
        status: int | None = self.ask("status", name=name)
        return status

    def memory(self) -> dict[str, int]:
        """Resident memory in MiB of each process that was started by name and runs."""
        sizes: dict[str, int] = self.ask("memory")
        return sizes

    def log(self, name: str) -> str:
        """What a process of it printed so far."""
        path = self.folder / f"{name}.log"
        return path.read_text(errors="replace") if path.exists() else ""

    def ask(self, do: str, **values: Any) -> Any:
        """Asks process 1; raises SandboxError with its reason when it refuses."""
        with self._ordering:
            process = self._process
            assert process is not None, "the sandbox was not started"
            assert process.stdin is not None
            try:
                process.stdin.write(json.dumps({"do": do} | values) + "\n")
                process.stdin.flush()
            except BrokenPipeError:
                raise SandboxError(f"the sandbox has ended: see {self.folder}/sandbox.log") from None
            return self._reply(do)

    def _reply(self, asked: str) -> Any:
        assert self._process is not None
        assert self._process.stdout is not None
        line = self._process.stdout.readline()
        if not line:
            raise SandboxError(f"the sandbox ended at {asked!r}: {self.log('sandbox')[-2000:]}")
        reply = json.loads(line)
        if "error" in reply:
            raise SandboxError(f"{asked} {reply['error']}")
        return reply["ok"]

    def _init_pid(self) -> int:
        assert self._process is not None
        pid = self._process.pid
        return int(Path(f"/proc/{pid}/task/{pid}/children").read_text().split()[0])

    def stop(self) -> None:
        """Ends everything in it and returns when nothing of it is left. May be called again."""
        if self._process is None:
            return
        self._end()
        end = time.monotonic() + 20
        while Path(f"/sys/class/net/{self.link}").exists() and time.monotonic() < end:
            time.sleep(0.05)  # the kernel takes interfaces away some time after the last process

    def _end(self) -> None:
        """Ends process 1, and with it all others."""
        process, self._process = self._process, None
        assert process is not None
        assert process.stdin is not None
        assert process.stdout is not None
        process.stdin.close()
        try:
            process.wait(timeout=20)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
        process.stdout.close()

    def _must(self, command: tuple[str, ...]) -> None:
        done = self._ip(*command)
        if done.returncode:
            self.stop()
            raise SandboxError(f"ip {' '.join(command)}: {done.stderr.strip()}")

    @staticmethod
    def _ip(*arguments: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(["ip", *arguments], capture_output=True, text=True, check=False)
