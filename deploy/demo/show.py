"""What the demo shows: a line a step with the seconds it took, what it waits for, and the table at the end."""

from __future__ import annotations

import shutil
import textwrap
import time
from collections.abc import Sequence
from datetime import datetime
from typing import Any, Protocol, TextIO

WAIT_LINE_EVERY_SECONDS = 10.0


class ToldRollout(Protocol):
    """A rollout as it ended (see `deploy.demo.__main__.Told`)."""

    @property
    def rollout(self) -> dict[str, Any]: ...
    @property
    def expected(self) -> str: ...
    @property
    def number(self) -> int: ...
    @property
    def why(self) -> str: ...
    @property
    def replayed(self) -> str: ...
    @property
    def lost(self) -> int: ...
    @property
    def refused(self) -> int: ...
    @property
    def sent(self) -> int: ...


class Progress:
    """Writes progress for a terminal (one line that changes) or a log (a line now and then)."""

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream
        self._terminal = stream.isatty()
        self._title = ""
        self._begun = 0.0
        self._last_wait = ""
        self._last_wait_at = 0.0

    def begin(self, title: str) -> None:
        self._title, self._begun, self._last_wait = title, time.monotonic(), ""
        self.say(f"\n> {title}")

    def end(self) -> None:
        self._clear()
        self.say(f"  done in {time.monotonic() - self._begun:.0f} s")

    def say(self, text: str) -> None:
        self._stream.write(text + "\n")
        self._stream.flush()

    def line(self, text: str) -> None:
        self._clear()
        self.say(f"  {text}")

    def wait(self, text: str) -> None:
        """What is waited for. In a log a new sentence is written at once at most every ten seconds."""
        elapsed = f"{time.monotonic() - self._begun:4.0f} s  "
        if self._terminal:
            width = shutil.get_terminal_size().columns - 2
            self._stream.write(f"\r\x1b[2K  {(elapsed + text)[:width]}")
            self._stream.flush()
            return
        if text != self._last_wait and time.monotonic() - self._last_wait_at >= WAIT_LINE_EVERY_SECONDS:
            self._last_wait, self._last_wait_at = text, time.monotonic()
            self.say(f"  {elapsed}{text}")

    def fail(self, text: str) -> None:
        self._clear()
        self.say(f"\nThe demo stopped: {text}")

    def _clear(self) -> None:
        if self._terminal:
            self._stream.write("\r\x1b[2K")


def show_table(
    progress: Progress, told: Sequence[ToldRollout], traffic: dict[str, Any], *, seconds: float
) -> dict[str, Any]:
    """Prints the table and returns it as plain data."""
    rows = [_row(outcome) for outcome in told]
    progress.say("\n" + "=" * 100)
    for row in rows:
        mark = "" if row["as_expected"] else f"  (expected: {row['expected']})"
        progress.say(
            f"Rollout #{row['rollout']}  {row['from']} -> {row['to']}   {row['decision'].upper()}{mark}"
        )
        for label, text in (
            ("reason", row["reason"]),
            ("decided in", f"{row['seconds_to_decide']} s after traffic moved"),
            ("requests", ", ".join(f"{name} {count:,}" for name, count in row["requests"].items())),
            ("lost", f"{row['lost']} of {row['sent']:,}"),
            ("refused", f"{row['refused']} of {row['sent']:,}"),
            ("replayed", row["replayed"]),
        ):
            lines = textwrap.wrap(text, 82) or [""]
            progress.say(f"  {label:<12}{lines[0]}")
            for line in lines[1:]:
                progress.say(f"  {'':<12}{line}")
        progress.say("-" * 100)
    right = {
        name: f"{traffic['right'].get(name, 0) / count:.0%}"
        for name, count in traffic["answered"].items()
        if count
    }
    progress.say(
        f"Users' requests {traffic['sent']:,}, lost {traffic['lost']}; refused: {traffic['refused']}"
    )
    progress.say(f"Answers that were right: {right}")
    progress.say(f"From the first step to the table: {seconds / 60:.1f} min")
    for loss in traffic.get("losses", ())[:5]:
        progress.say(f"  lost: {loss['error'][:90]}")
    return {
        "rollouts": rows,
        "sent": traffic["sent"],
        "lost": traffic["lost"],
        "refused": traffic["refused"],
        "seconds": round(seconds),
    }


def _row(outcome: ToldRollout) -> dict[str, Any]:
    state = outcome.rollout
    decision = {"succeeded": "promoted"}.get(state["phase"], state["phase"])
    return {
        "rollout": state["id"],
        "from": state["baseline"]["name"],
        "to": state["candidate"]["name"],
        "decision": decision,
        "cause": state["cause"],
        "expected": outcome.expected,
        "as_expected": decision == outcome.expected and state["candidate"]["version"] == outcome.number,
        "reason": outcome.why,
        "seconds_to_decide": _seconds(state["traffic_at"], state["decided_at"]),
        "requests": {arm["variant"]: arm["requests"] for arm in state["arms"]},
        "lost": outcome.lost,
        "refused": outcome.refused,
        "sent": outcome.sent,
        "replayed": outcome.replayed,
    }


def _seconds(start: str | None, end: str | None) -> int | None:
    if not start or not end:
        return None
    return round((datetime.fromisoformat(end) - datetime.fromisoformat(start)).total_seconds())
