"""Virtual environments that are made once: each carries a stamp of what it was made from."""

from __future__ import annotations

import collections
import hashlib
import os
import queue
import shutil
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import IO

STAMP = "headgate-stamp"
ROOT = Path(__file__).resolve().parents[2]
COMMAND = """#!{python}
import sys

sys.path.insert(0, {root!r})
from controlplane.cli.main import main

sys.exit(main())
"""
HEARTBEAT_SECONDS = 5.0
Say = Callable[[str], None]


class SetupFailed(Exception):
    """A step failed; the message says which, why, and the remedy."""


@dataclass(frozen=True)
class Environment:
    """A virtual environment: its folder, the locked requirement files it holds, and whether it has our command."""

    name: str
    folder: Path
    locks: tuple[Path, ...]
    command: bool = False

    @property
    def python(self) -> Path:
        return self.folder / "bin" / "python"


def stamp_of(locks: Sequence[Path], *, version: Sequence[int] = sys.version_info[:2]) -> str:
    """What an environment is made from: SHA-256 over the Python version and each lock's name and content."""
    digest = hashlib.sha256(".".join(map(str, version)).encode())
    for lock in locks:
        digest.update(f"\0{lock.name}\0".encode() + lock.read_bytes())
    return digest.hexdigest()


def holds(environment: Environment, stamp: str) -> bool:
    """Whether the environment is finished and made from just this."""
    marker = environment.folder / STAMP
    return environment.python.exists() and marker.exists() and stamp in marker.read_text().split()


def install(environment: Environment, *, uv: Sequence[str], say: Say) -> None:
    """Makes the environment hold exactly its locks. Raises SetupFailed.

    The stamp goes first and comes back last, so that an interrupted installation is taken up again.
    """
    stamp = stamp_of(environment.locks)
    marker = environment.folder / STAMP
    marker.unlink(missing_ok=True)
    if not _runs_this_python(environment.python):
        shutil.rmtree(environment.folder, ignore_errors=True)
        run(
            [*uv, "venv", "--quiet", "--python", sys.executable, str(environment.folder)],
            say=say,
            what="venv",
        )
    # `sync`, because a lock is complete: nothing is resolved anew, and what is in no lock goes away.
    command = [*uv, "pip", "sync", "--require-hashes", *map(str, environment.locks)]
    run(command, say=say, what=environment.name, environment={"VIRTUAL_ENV": str(environment.folder)})
    if environment.command:
        _add_command(environment)
    marker.write_text(stamp + "\n")


def _add_command(environment: Environment) -> None:
    """`headgate` beside the environment's Python, as an installed package would have it."""
    script = environment.folder / "bin" / "headgate"
    script.write_text(COMMAND.format(python=environment.python.absolute(), root=str(ROOT)))
    script.chmod(0o755)


def _runs_this_python(python: Path) -> bool:
    """Whether the environment's Python starts and has our version (a moved or upgraded system Python breaks it)."""
    code = "import sys; print(*sys.version_info[:2])"
    try:
        done = subprocess.run(
            [str(python), "-c", code], capture_output=True, text=True, timeout=60, check=False
        )
    except OSError:
        return False
    return done.stdout.split() == [str(part) for part in sys.version_info[:2]]


def find_uv(var: Path, *, say: Say) -> list[str]:
    """The command line of uv: that on the PATH, else one of our own under var/. Raises SetupFailed."""
    found = shutil.which("uv")
    if found and _works([found]):
        return [found]
    own = var / "uv"
    command = [str(own / "bin" / "uv")]
    if _works(command):
        return command
    say("uv is not on the PATH: installing one under var/, with your pip's own settings")
    shutil.rmtree(own, ignore_errors=True)
    own.parent.mkdir(parents=True, exist_ok=True)
    try:
        run([sys.executable, "-m", "venv", str(own)], say=say, what="a small environment for uv")
    except SetupFailed as failure:
        raise SetupFailed(
            f"{failure}\n  Remedy: install the system's venv module (Debian, Ubuntu: apt-get install python3-venv), "
            "or uv itself."
        ) from failure
    run([str(own / "bin" / "python"), "-m", "pip", "install", "--quiet", "uv"], say=say, what="uv")
    return command


def _works(uv: Sequence[str]) -> bool:
    try:
        return (
            subprocess.run([*uv, "--version"], capture_output=True, timeout=60, check=False).returncode == 0
        )
    except OSError:
        return False


def run(command: Sequence[str], *, say: Say, what: str, environment: Mapping[str, str] | None = None) -> None:
    """Runs a program and shows its lines as they come; while it is silent, how long that has been.

    The user's own pip and uv settings reach it untouched. Raises SetupFailed with its last lines.
    """
    started = time.monotonic()
    lines: queue.SimpleQueue[str | None] = queue.SimpleQueue()
    tail: collections.deque[str] = collections.deque(maxlen=15)
    with subprocess.Popen(
        command,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        errors="replace",
        env={**os.environ, **(environment or {})},
    ) as process:
        threading.Thread(target=_hand_on, args=(process.stdout, lines), daemon=True).start()
        try:
            while True:
                try:
                    line = lines.get(timeout=HEARTBEAT_SECONDS)
                except queue.Empty:
                    say(f"  {what}: still at it, {time.monotonic() - started:.0f} s")
                    continue
                if line is None:
                    break
                tail.append(line)
                if not line.startswith("+ "):
                    say(f"  {line}")
        except BaseException:
            process.terminate()
            raise
    if process.returncode != 0:
        raise SetupFailed(explain_failure(what, process.returncode, list(tail)))


def _hand_on(source: IO[str] | None, lines: queue.SimpleQueue[str | None]) -> None:
    """Puts each line of a program into the queue, and None when it ends."""
    for line in source or ():
        if line.strip():
            lines.put(line.strip())
    lines.put(None)


def explain_failure(what: str, code: int, lines: Sequence[str]) -> str:
    """What went wrong in a step, with the remedy that fits its last lines."""
    text = "\n".join(line for line in lines if line)
    lower = text.lower()
    if "no space left" in lower:
        remedy = "the disk is full; free some space and run the same command again."
    elif "hash mismatch" in lower:
        remedy = (
            "a downloaded file is not the locked one; check the package index you use, then `uv cache clean`."
        )
    elif any(
        sign in lower for sign in ("dns", "connect", "timed out", "timeout", "failed to fetch", "certificate")
    ):
        remedy = "the package index cannot be reached; check the network and your pip or uv settings, and run it again."
    elif "no solution found" in lower or "no matching distribution" in lower or "not found in the" in lower:
        remedy = "your package index lacks a locked file; use one that mirrors the whole of PyPI."
    else:
        remedy = "read the lines above; the same command goes on where it stopped."
    return f"{what} failed with exit code {code}:\n{text}\n  Remedy: {remedy}"
