"""`rollout wait`: follows a rollout until it is decided, through restarts of the control plane."""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from controlplane.cli import answers
from controlplane.cli.client import TIMEOUT_SECONDS, Client
from controlplane.cli.exits import Exit
from controlplane.cli.failure import Failure
from controlplane.cli.output import Printer
from controlplane.cli.strategies import spoken

OUTCOME: Mapping[str, Exit] = {
    "succeeded": Exit.OK,
    "rolled-back": Exit.ROLLED_BACK,
    "cancelled": Exit.ENDED_OTHERWISE,
    "superseded": Exit.ENDED_OTHERWISE,
    "failed": Exit.ENDED_OTHERWISE,
}
REASON_EVERY_SECONDS = 15.0
SHORTEST_INTERVAL = 0.01
LEAST_SECONDS = 1.0  # for an answer, however little is left


@dataclass(frozen=True, slots=True)
class Patience:
    """How long to wait, in seconds: between looks, in all, and for a control plane that does not answer."""

    interval: float = 2.0
    timeout: float = 3600.0
    silence: float = 300.0


def wait_for(
    client: Client, rollout_id: int, *, patience: Patience, through_watch: bool, printer: Printer
) -> tuple[Exit, dict[str, Any]]:
    """Waits until the rollout is decided (`through_watch`: until its watch is over, too), or could not be decided
    between its best arms.

    Returns the exit code and the rollout as last seen. A control plane that does not answer is asked again
    until `patience.silence` has passed. Raises Failure (not found, not allowed, silent for too long).
    """
    begun = time.monotonic()
    last_answer = begun
    rollout: dict[str, Any] = {}
    teller = _Teller(printer)
    while True:
        try:
            left = patience.timeout - (time.monotonic() - begun)
            seen = client.get(
                f"/rollouts/{rollout_id}",
                shape=answers.ROLLOUT,
                patient=False,
                seconds=min(TIMEOUT_SECONDS, max(LEAST_SECONDS, left)),
            )
            if seen["id"] != rollout_id:
                raise Failure(
                    Exit.UNAVAILABLE, f"Rollout #{rollout_id} was asked for, and #{seen['id']} came."
                )
        except Failure as failure:
            silent = time.monotonic() - last_answer
            if failure.code is not Exit.UNAVAILABLE or silent >= patience.silence:
                raise
            teller.silent(silent)
        else:
            rollout = seen
            last_answer = time.monotonic()
            teller.tell(rollout)
            code = Exit.UNDECIDED if spoken(rollout).is_undecided(rollout) else OUTCOME.get(rollout["phase"])
            if code is not None and not (code is Exit.OK and through_watch and rollout["watching"]):
                return code, rollout
        left = patience.timeout - (time.monotonic() - begun)
        if left <= 0:
            return Exit.TIMED_OUT, rollout
        time.sleep(max(SHORTEST_INTERVAL, min(patience.interval, left)))


class _Teller:
    """One line when the phase or the share changes, and now and then when only the sentence does.

    What changes all the time, such as the shares of a bandit, is told now and then.
    """

    def __init__(self, printer: Printer) -> None:
        self._printer = printer
        self._seen: tuple[object, ...] = ()
        self._reason = ""
        self._told_at = float("-inf")
        self._silent = False

    def tell(self, rollout: Mapping[str, Any]) -> None:
        if self._silent:
            self._silent = False
            self._printer.progress("The control plane answers again.")
        seen = (rollout["phase"], rollout["pause_reason"], spoken(rollout).stage_of(rollout))
        now = time.monotonic()
        text = rollout["reason"] + share_text(rollout)
        news = text != self._reason and now - self._told_at >= REASON_EVERY_SECONDS
        if seen == self._seen and not news:
            return
        self._seen, self._reason, self._told_at = seen, text, now
        self._printer.progress(line_of(rollout))

    def silent(self, seconds: float) -> None:
        if not self._silent:
            self._silent = True
            self._printer.progress(
                "The control plane does not answer; the rollout goes on without it. Waiting."
            )


def share_text(rollout: Mapping[str, Any]) -> str:
    """The shares as the router was seen to apply them, as its strategy says them."""
    return spoken(rollout).share_text(rollout)


def version_of(rollout: Mapping[str, Any]) -> str:
    """What is rolled out, as its strategy says it: `v2`."""
    return spoken(rollout).version_of(rollout, decided=rollout["phase"] in OUTCOME)


def line_of(rollout: Mapping[str, Any]) -> str:
    """`#7 chat v2  progressing  25%  Waiting for 120 more requests.`"""
    phase = rollout["phase"] + (f" ({rollout['pause_reason']})" if rollout["pause_reason"] else "")
    head = f"#{rollout['id']} {rollout['endpoint']} {version_of(rollout)}"
    return f"{head}  {phase}  {share_text(rollout)}  {rollout['reason']}".rstrip()
