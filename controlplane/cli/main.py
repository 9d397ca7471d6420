"""The outermost boundary of `headgate`: however it ends, the exit code is true.

Nothing is imported here that can be missing or broken, and the command line itself only inside: an import that fails
would otherwise end with 1, which means "rolled back".
"""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence

from controlplane.cli.exits import Exit
from controlplane.cli.failure import Failure
from controlplane.cli.hiding import Hider, secrets_of
from controlplane.cli.output import OutputBroke, Printer

STANDARD_STREAMS = (0, 1, 2)


def main(argv: Sequence[str] | None = None) -> int:
    """Runs one command and returns its exit code. Raises nothing and prints no traceback (but with --debug)."""
    arguments = [*(sys.argv[1:] if argv is None else argv)]
    _hold_standard_streams()
    try:
        return int(_ended(arguments))
    except KeyboardInterrupt:  # once more, while the first one was being told
        return int(Exit.INTERRUPTED)
    except Exception:  # a fault while a fault was being told: the code is all that can still be true
        return int(Exit.INTERNAL)


def _ended(arguments: Sequence[str]) -> Exit:
    # The options that say how to print hold for a command line that cannot be read, too.
    printer = Printer(
        sys.stdout,
        sys.stderr,
        as_json="--json" in arguments,
        quiet="--quiet" in arguments,
        hider=Hider(secrets_of(arguments, os.environ)),
    )
    try:
        return _told(arguments, printer)
    except OutputBroke as error:
        return printer.broke(error)


def _told(arguments: Sequence[str], printer: Printer) -> Exit:
    try:
        from controlplane.cli.command_line import run

        return run(arguments, printer)
    except Failure as failure:
        return printer.failure(failure)
    except KeyboardInterrupt:
        return printer.failure(Failure(Exit.INTERRUPTED, "Interrupted. What runs on the server goes on."))
    except OutputBroke:
        raise
    except (Exception, SystemExit) as error:
        return printer.fault(error, debug="--debug" in arguments)


def _hold_standard_streams() -> None:
    """Occupies the numbers of standard streams that were closed at the start: the next socket would become one."""
    for number in STANDARD_STREAMS:
        try:
            os.fstat(number)
        except OSError:
            os.open(os.devnull, os.O_RDWR)  # takes the lowest free number, which is this one
