"""A container: a process that is number 1 of its own pid namespace, in its pod's network, with its volumes."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from tests.kubernetes.nodes.api import now
from tests.kubernetes.nodes.volumes import Mount

INIT = Path(__file__).with_name("container_init.py")
TAIL_BYTES = 2048  # of the log, in the message of a container that failed
LAST_WORDS_BYTES = 4096  # that a container may leave in a file of its own
LAST_WORDS_PATH = "/dev/termination-log"
FIRST_BACK_OFF_SECONDS = 1.0  # a kubelet: 10
LONGEST_BACK_OFF_SECONDS = 30.0  # a kubelet: 300


class Container:
    """What a pod's status says of one container, and its process while it runs.

    `state` and `last` are as in the API. `logs` begins every log's name: NUMBER is added for each start.
    """

    def __init__(self, spec: dict[str, Any], *, network: Path, logs: Path) -> None:
        self.spec = spec
        self.name: str = spec["name"]
        self.state: dict[str, Any] = {"waiting": {"reason": "ContainerCreating"}}
        self.last: dict[str, Any] = {}
        self.restarts = 0
        self.started = False
        self.ready = False
        self.out_of_memory = False
        self.began = 0.0  # monotonic
        self.again_at = 0.0  # monotonic
        self._network = network
        self._logs = logs
        self._process: subprocess.Popen[bytes] | None = None
        self._environment: Mapping[str, str] = {}
        self._last_words: Path | None = None

    @property
    def running(self) -> bool:
        """Whether its process runs. One that ended stays "running" in `state` until `note_end` was called."""
        return self._process is not None and self._process.poll() is None

    @property
    def ended(self) -> bool:
        return "terminated" in self.state

    @property
    def log(self) -> Path:
        return self._logs.with_name(f"{self._logs.name}_{self.name}_{self.restarts}.log")

    @property
    def previous_log(self) -> Path:
        return self._logs.with_name(f"{self._logs.name}_{self.name}_{self.restarts - 1}.log")

    def start(
        self,
        argv: list[str],
        environment: Mapping[str, str],
        *,
        mounts: Sequence[Mount],
        kept: Sequence[Path],
        last_words: Path,
        scratch: Path,
    ) -> None:
        """`kept` are folders that nothing mounted above them hides; `last_words` an empty file for the container's own
        words on how it ended; `scratch` a folder in memory."""
        self._environment, self._last_words = environment, last_words
        own = Mount(last_words, self.spec.get("terminationMessagePath", LAST_WORDS_PATH), read_only=False)
        place = {
            "mounts": [(str(one.source), one.target, one.read_only) for one in (*mounts, own)],
            "kept": [str(one) for one in kept],
            "scratch": str(scratch),
        }
        with self.log.open("ab") as log:
            # setpriv: it dies with the thread that looks after its pod, and so with this agent. unshare hands its
            # child's exit status on. As number 1 of its namespace, the child does not end by a SIGTERM that it does not
            # handle.
            self._process = subprocess.Popen(
                [
                    *("setpriv", "--pdeathsig", "KILL", "nsenter", f"--net={self._network}", "--"),
                    *("unshare", "--pid", "--fork", "--mount-proc", "--kill-child=SIGKILL", "--"),
                    *(sys.executable, "-I", "-S", str(INIT), json.dumps(place), *argv),
                ],
                env=dict(environment),
                cwd=self.spec.get("workingDir", "/"),
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,
            )
        self.began = time.monotonic()
        self.started, self.ready, self.out_of_memory = "startupProbe" not in self.spec, False, False
        self.state = {"running": {"startedAt": now()}}

    def execute(self, argv: list[str], seconds: float) -> bool:
        """Whether a command inside the container ends with status 0 in this time."""
        inside = self._inside()
        if inside is None:
            return False
        command = ["nsenter", f"--target={inside}", "--net", "--pid", "--mount", "--root", "--", *argv]
        try:
            done = subprocess.run(
                command, env=dict(self._environment), capture_output=True, timeout=seconds, check=False
            )
        except subprocess.TimeoutExpired:
            return False
        return done.returncode == 0

    def terminate(self) -> None:
        """SIGTERM to its process number 1."""
        inside = self._inside()
        if inside is not None:
            with contextlib.suppress(ProcessLookupError):
                os.kill(inside, signal.SIGTERM)

    def kill(self) -> None:
        """SIGKILL; returns when it has ended."""
        if self._process is not None:
            self._process.kill()
            self._process.wait()

    def lose_memory(self) -> None:
        """It is killed, and said to have been out of memory."""
        self.out_of_memory = True
        self.kill()

    def note_end(self) -> None:
        """Takes over into `state` how its process ended."""
        assert self._process is not None
        code = self._process.wait()
        reason = "OOMKilled" if self.out_of_memory else "Completed" if code == 0 else "Error"
        ending = {
            "exitCode": code if code >= 0 else 128 - code,
            "reason": reason,
            "startedAt": self.state.get("running", {}).get("startedAt", now()),
            "finishedAt": now(),
            "containerID": self.identifier,
        }
        words = self._last_words.read_bytes()[:LAST_WORDS_BYTES] if self._last_words else b""
        if code and not words and self.spec.get("terminationMessagePolicy") == "FallbackToLogsOnError":
            words = self.log.read_bytes()[-TAIL_BYTES:]
        if words:
            ending["message"] = words.decode(errors="replace")
        self.state = {"terminated": ending}
        self.ready = self.started = False

    def back_off(self, message: str) -> None:
        """It shall be started again, the later the oftener it ended."""
        self.last = self.state
        self.state = {"waiting": {"reason": "CrashLoopBackOff", "message": message}}
        self.again_at = time.monotonic() + self.back_off_seconds

    @property
    def back_off_seconds(self) -> float:
        return float(min(FIRST_BACK_OFF_SECONDS * 2**self.restarts, LONGEST_BACK_OFF_SECONDS))

    @property
    def identifier(self) -> str:
        return f"lab://{self._logs.name}_{self.name}_{self.restarts}"

    def status(self) -> dict[str, Any]:
        """As an entry of `containerStatuses`."""
        told = {
            "name": self.name,
            "image": self.spec["image"],
            "imageID": self.spec["image"] if self._process else "",
            "ready": self.ready,
            "started": self.started and self.running,
            "restartCount": self.restarts,
            "state": self.state,
            "lastState": self.last,
        }
        return told | ({"containerID": self.identifier} if self._process else {})

    def _inside(self) -> int | None:
        """The container's process number 1, as it is numbered here."""
        if not self.running:
            return None
        assert self._process is not None
        pid = self._process.pid
        try:
            return int(Path(f"/proc/{pid}/task/{pid}/children").read_text().split()[0])
        except (OSError, IndexError):  # not yet, or no longer
            return None
