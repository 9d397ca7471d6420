"""What the command prints: results on standard output, progress and errors on standard error."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, TextIO

from controlplane.cli.client import Failure
from controlplane.cli.exits import Exit


@dataclass(frozen=True, slots=True)
class Result:
    """What a command found: the exit code, lines for people, and data for `--json`.

    `reason` is the sentence that says why; it is the member `reason` of the JSON object.
    """

    lines: Sequence[str]
    data: Mapping[str, Any] = field(default_factory=dict)
    reason: str = ""
    code: Exit = Exit.OK


@dataclass(frozen=True, slots=True)
class Printer:
    """Prints results as text, or as one JSON object with `result`, `exit_code` and `reason`."""

    out: TextIO
    err: TextIO
    as_json: bool = False
    quiet: bool = False

    def progress(self, line: str) -> None:
        """A line of progress, at once, never on standard output."""
        if not self.quiet:
            print(line, file=self.err, flush=True)

    def result(self, result: Result) -> Exit:
        if self.as_json:
            self._json(result.code, result.reason, result.data)
        else:
            for line in result.lines:
                print(line, file=self.out, flush=True)
        return result.code

    def failure(self, failure: Failure) -> Exit:
        if self.as_json:
            self._json(failure.code, failure.message, {"fix": failure.fix, "problem": failure.problem})
        for line in failure.lines:
            print(line, file=self.err, flush=True)
        return failure.code

    def _json(self, code: Exit, reason: str, data: Mapping[str, Any]) -> None:
        answer = {"result": code.word, "exit_code": int(code), "reason": reason, **data}
        print(json.dumps(answer, indent=2, ensure_ascii=False), file=self.out, flush=True)


def table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> list[str]:
    """Columns as wide as their widest cell, two spaces apart."""
    widths = [max(len(row[column]) for row in [head, *rows]) for column in range(len(head))]
    return [
        "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip()
        for row in [head, *rows]
    ]


def percent(basis_points: int) -> str:
    """`2500` as `25%`."""
    return f"{basis_points / 100:g}%"
