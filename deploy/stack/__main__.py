"""`python -m deploy.stack up [--foreground] | down | status`.

Exit status: 0 done (status: everything runs); 1 it failed; 3 status: not everything runs; 130 interrupted.
"""

from __future__ import annotations

import argparse
import os
import signal
import sys
from collections.abc import Sequence

from controlplane.config.environment import ENVIRONMENT
from controlplane.kernel.errors import HeadgateError, Unavailable
from deploy.stack import runner


def say(line: str) -> None:
    print(line, flush=True)


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m deploy.stack", description="Headgate on this machine.")
    commands = parser.add_subparsers(dest="command", required=True)
    up = commands.add_parser(
        "up", help="start MLflow, Envoy, web, worker and beat; engines that ran before too"
    )
    up.add_argument("--foreground", action="store_true", help="stay, and stop everything on Ctrl-C")
    commands.add_parser("down", help="stop everything, engines too")
    commands.add_parser("status", help="what runs")
    chosen = parser.parse_args(arguments)
    os.umask(0o077)  # as supervisord sets it for the programs: the database, among others, is made here
    try:
        if chosen.command == "up":
            return _up(chosen.foreground)
        if chosen.command == "down":
            runner.down(ENVIRONMENT, say)
            return 0
        return _status()
    except HeadgateError as error:
        print(f"{error.message}\n{error.fix}".strip(), file=sys.stderr)
        return 1


def _up(foreground: bool) -> int:
    runner.stop_on_signals()
    try:
        runner.up(ENVIRONMENT, say)
        if foreground:
            runner.hold(ENVIRONMENT, say)
    except KeyboardInterrupt:
        for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
            signal.signal(number, signal.SIG_IGN)  # stopping is not interrupted again
        runner.down(ENVIRONMENT, say)
        return 130
    return 0


def _status() -> int:
    try:
        lines = runner.status(ENVIRONMENT)
    except Unavailable:
        say("The stack does not run. Start it: python -m deploy.stack up")
        return 3
    for line in lines:
        say(f"{line.name:<40}{line.state:<10}{line.pid or '':<8}{line.about}")
    return 0 if all(line.runs for line in lines) else 3


if __name__ == "__main__":
    sys.exit(main())
