"""What the command prints: results on standard output, progress and errors on standard error.

Printing never changes what an exit code means. A text that the locale cannot hold is escaped. A standard output that
was closed before the start is a wish for silence; one that breaks meanwhile ends the command with a code of its own. A
standard error that breaks is no reason to stop.
"""

from __future__ import annotations

import contextlib
import json
import os
import traceback
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, TextIO

from controlplane.cli.exits import Exit
from controlplane.cli.failure import Failure
from controlplane.cli.hiding import Hider

LONGEST_FAULT = 300
# A terminal obeys them, and what is printed comes from elsewhere.
CONTROLS = {code: f"\\x{code:02x}" for code in (*range(0x20), *range(0x7F, 0xA0)) if chr(code) not in "\t\n"}


class OutputBroke(Exception):
    """Standard output takes no more. `code` says why."""

    def __init__(self, code: Exit, why: str) -> None:
        super().__init__(why)
        self.code = code


@dataclass(frozen=True, slots=True)
class Result:
    """What a command found: the exit code, lines for people, and data for `--json`.

    `reason` is the sentence that says why; it is the member `reason` of the JSON object.
    """

    lines: Sequence[str]
    data: Mapping[str, Any] = field(default_factory=dict)
    reason: str = ""
    code: Exit = Exit.OK


@dataclass(slots=True)
class Printer:
    """Prints results as text, or as one JSON object with `result`, `exit_code` and `reason`. Hides secrets.

    out, err  None: closed, nothing is printed there
    """

    out: TextIO | None
    err: TextIO | None
    as_json: bool = False
    quiet: bool = False
    hider: Hider = field(default_factory=lambda: Hider(()))

    def progress(self, line: str) -> None:
        """A line of progress, at once, never on standard output."""
        if not self.quiet:
            self.complain(line)

    def complain(self, line: str) -> None:
        """A line on standard error, when there still is one."""
        try:
            _put(self.err, self.hider.text(line).translate(CONTROLS))
        except (OSError, ValueError):
            _silence(self.err)
            self.err = None

    def say(self, line: str) -> None:
        """A line on standard output. Raises OutputBroke."""
        self._answer(self.hider.text(line).translate(CONTROLS))

    def result(self, result: Result) -> Exit:
        """Prints it and returns its code. Raises OutputBroke."""
        if self.as_json:
            self._json(result.code, result.reason, result.data)
        else:
            for line in result.lines:
                self.say(line)
        return result.code

    def failure(self, failure: Failure) -> Exit:
        """Prints it and returns its code. Raises OutputBroke."""
        for line in failure.lines:
            self.complain(line)
        if self.as_json:
            self._json(failure.code, failure.message, {"fix": failure.fix, "problem": failure.problem})
        return failure.code

    def fault(self, error: BaseException, *, debug: bool) -> Exit:
        """An error that nobody foresaw. `debug`: with its traceback. Raises OutputBroke."""
        if debug:
            self.complain("".join(traceback.format_exception(error)).rstrip())
        said = " ".join(str(error).split())[:LONGEST_FAULT]
        what = f"{type(error).__name__}: {said}" if said else type(error).__name__
        return self.failure(
            Failure(
                Exit.INTERNAL,
                f"The command itself failed ({what}). Nothing is known about the outcome.",
                fix="" if debug else "Run it again with --debug, and report what it prints.",
            )
        )

    def broke(self, error: OutputBroke) -> Exit:
        """Standard output broke: nothing more is printed there, not even at the end of the process."""
        _silence(self.out)
        self.out = None
        if error.code is Exit.OUTPUT_FAILED:
            self.complain(f"The answer could not be written: {error}.")
        return error.code

    def _json(self, code: Exit, reason: str, data: Mapping[str, Any]) -> None:
        answer = self.hider.data({"result": code.word, "exit_code": int(code), "reason": reason, **data})
        # An escape that stands for a character which the encoding lacks would be none of JSON's.
        holds_all = _encoding(self.out).replace("-", "").lower() == "utf8"
        self._answer(json.dumps(answer, indent=2, ensure_ascii=not holds_all))

    def _answer(self, text: str) -> None:
        try:
            _put(self.out, text)
        except BrokenPipeError as error:
            raise OutputBroke(Exit.OUTPUT_CLOSED, str(error)) from error
        except (OSError, ValueError) as error:
            raise OutputBroke(Exit.OUTPUT_FAILED, getattr(error, "strerror", None) or str(error)) from error


def _put(stream: TextIO | None, text: str) -> None:
    """Writes a line at once; characters that the stream's encoding lacks are escaped with a backslash."""
    if stream is None:
        return
    line = text + "\n"
    try:
        stream.write(line.encode(_encoding(stream), "backslashreplace").decode(_encoding(stream)))
    except UnicodeError:  # an encoding that can hold nothing, such as `undefined`
        stream.buffer.write(line.encode("ascii", "backslashreplace"))
    stream.flush()


def _encoding(stream: TextIO | None) -> str:
    return getattr(stream, "encoding", None) or "utf-8"


def _silence(stream: TextIO | None) -> None:
    """What is left in its buffer goes nowhere, else the interpreter would fail on it when it ends."""
    if stream is None:
        return
    with contextlib.suppress(OSError, ValueError):
        number = stream.fileno()
        nowhere = os.open(os.devnull, os.O_WRONLY)
        os.dup2(nowhere, number)
        os.close(nowhere)


def table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> list[str]:
    """Columns as wide as their widest cell, two spaces apart."""
    widths = [max(len(row[column]) for row in [head, *rows]) for column in range(len(head))]
    return [
        "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip()
        for row in [head, *rows]
    ]
