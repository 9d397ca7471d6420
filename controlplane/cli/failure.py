"""How a command fails: with an exit code, a sentence, and what to do."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from controlplane.cli.exits import Exit


class Failure(Exception):
    """A command that did not work: the exit code it means, and the problem as the API told it.

    `problem` is foreign: every member may be missing or of another kind.
    """

    def __init__(
        self, code: Exit, message: str, *, fix: str = "", problem: Mapping[str, Any] | None = None
    ) -> None:
        super().__init__(message)
        self.code = code
        self.message = message
        self.fix = fix
        self.problem = dict(problem or {})

    @property
    def lines(self) -> list[str]:
        """What to tell a person: what happened, which values are wrong, what to do."""
        named = [
            (str(item["field"]), str(item.get("detail", "")))
            for item in _objects(self.problem.get("errors"))
            if item.get("field")
        ]
        wrong = [f"  {field}: {detail}" for field, detail in named if detail != self.message]
        first = f"{named[0][0]}: {self.message}" if len(named) == 1 and not wrong else self.message
        extra = self.problem.get("extra")
        line = extra.get("line") if isinstance(extra, dict) else None
        if line and not first.startswith("Line "):
            first = f"Line {line}: {first}"
        return [first, *wrong, *([self.fix] if self.fix else [])]


def _objects(found: object) -> Sequence[Mapping[str, Any]]:
    return [item for item in found if isinstance(item, dict)] if isinstance(found, list) else []
