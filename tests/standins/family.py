"""A stand-in engine that is a family of processes, as vLLM is one; each is as hard to find as one can be.

    python -m tests.standins.family ENGINE'S ARGUMENTS...

Before the engine (tests/standins/engine.py) serves, it starts a core: a process in a session of its own, with an empty
environment, that ignores SIGTERM and holds memory; and the core an orphan of the same kind.
"""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Mapping
from types import MappingProxyType

CORE_MB = 20
CORE = f"""
import os, signal, sys, time
signal.signal(signal.SIGTERM, signal.SIG_IGN)
held = bytearray({CORE_MB} << 20)
if sys.argv[1] == "core" and os.fork() == 0:
    if os.fork():
        os._exit(0)  # its child is an orphan
    os.setsid()
elif sys.argv[1] == "core":
    os.wait()
    print("core", flush=True)
time.sleep(600)
"""


def start_core(environment: Mapping[str, str] = MappingProxyType({})) -> subprocess.Popen[bytes]:
    """Returns when core and orphan run."""
    core = subprocess.Popen(
        [sys.executable, "-I", "-c", CORE, "core"],
        env=dict(environment),
        start_new_session=True,
        stdout=subprocess.PIPE,
    )
    assert core.stdout is not None
    core.stdout.readline()
    return core


if __name__ == "__main__":
    kept = start_core()
    from tests.standins.engine import main

    sys.exit(main(sys.argv[1:]))
