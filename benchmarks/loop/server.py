"""A PostgreSQL of our own for the length of a benchmark. It refuses to run as root, so root lends it another user."""

from __future__ import annotations

import os
import pwd
import shutil
import socket
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


@contextmanager
def postgresql() -> Iterator[str]:
    """The address of a server without a database's name, such as `postgresql://headgate@127.0.0.1:5999/`."""
    folder = Path(tempfile.mkdtemp(prefix="hg-bench-pg-", dir="/tmp"))
    user: list[str] = []
    if os.geteuid() == 0:
        shutil.chown(folder, pwd.getpwnam("postgres").pw_name)
        user = ["runuser", "-u", "postgres", "--"]
    data, port = folder / "data", _free_port()

    def run(*command: str) -> None:
        subprocess.run([*user, *command], cwd="/", capture_output=True, text=True, timeout=120, check=True)

    run(_program("initdb"), "-D", str(data), "-A", "trust", "-U", "headgate")
    options = f"-p {port} -c listen_addresses=127.0.0.1 -k {folder}"
    run(_program("pg_ctl"), "-D", str(data), "-o", options, "-l", str(folder / "log"), "-w", "start")
    try:
        yield f"postgresql://headgate@127.0.0.1:{port}/"
    finally:
        run(_program("pg_ctl"), "-D", str(data), "-m", "immediate", "stop")
        shutil.rmtree(folder, ignore_errors=True)


def _program(name: str) -> str:
    """A server program; Debian keeps them off the PATH."""
    found = shutil.which(name) or next(
        (str(path) for path in sorted(Path("/usr/lib/postgresql").glob(f"*/bin/{name}"))), ""
    )
    if not found:
        raise SystemExit(f"{name} is not installed: bring it with apt-get install postgresql.")
    return found


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])
