"""Becomes one program of the stack, after ending what the process before it left behind.

    HEADGATE_PROGRAM=RUN_DIR:NAME python -S -m deploy.stack.begin COMMAND...

kill -9 of MLflow's first process leaves its web server, which keeps the port and the database. supervisord starts a
program again as soon as its first process has ended, and knows nothing of others; here they are found by the mark in
their environment. Other than an engine's keeper this process does not stay: none of the stack's programs takes the mark
off (tests/deploy/test_stack_processes.py kills each of them).
"""

from __future__ import annotations

import os
import sys
from typing import NoReturn

from rollouts.adapters.clusters.machine import end_marked

PROGRAM_MARK = "HEADGATE_PROGRAM"
GRACE_SECONDS = 2.0


def main(command: list[str]) -> NoReturn:
    ended = end_marked(PROGRAM_MARK, os.environ[PROGRAM_MARK], grace_seconds=GRACE_SECONDS)
    if ended:
        print(
            f"[headgate] ended what the process before left running: {', '.join(map(str, ended))}", flush=True
        )
    os.execvp(command[0], command)


if __name__ == "__main__":
    main(sys.argv[1:])
