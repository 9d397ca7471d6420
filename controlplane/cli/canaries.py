"""Canaries on the command line: their options and their gates. Strategies that this command does not know are told of
alike: one candidate, and its gates."""

from __future__ import annotations

import argparse
from collections.abc import Mapping, Sequence
from typing import Any

from controlplane.cli import answers
from controlplane.cli.exits import Exit
from controlplane.cli.failure import Failure
from controlplane.cli.output import table
from controlplane.kernel.words import percent_of_bp

Options = argparse.Namespace
ABOUT = "one version's share grows while gates watch (default)"
OWN: Sequence[str] = ("steps", "hold", "min_requests")
VERDICT: Mapping[str, Any] = answers.VERDICTS
ENDS_WITH_VERDICT = False
DEFAULT_STEPS = (5.0, 25.0, 50.0)
DEFAULT_HOLD_SECONDS = 300
DEFAULT_MIN_REQUESTS = 100


def add_options(made: argparse.ArgumentParser) -> None:
    """See the protocol."""
    made.add_argument("--steps", type=_shares, help="shares in percent, growing (default 5,25,50)")
    made.add_argument("--hold", type=int, help="seconds each step lasts at least (default 300)")
    made.add_argument("--min-requests", type=int, help="requests of the candidate in each step (default 100)")


def plan_of(options: Options) -> dict[str, Any]:
    """See the protocol."""
    if len(options.versions) > 1:
        raise Failure(
            Exit.USAGE,
            "A canary compares one version with the stable one.",
            fix="Name one version, or use --strategy bandit.",
        )
    hold = DEFAULT_HOLD_SECONDS if options.hold is None else options.hold
    least = DEFAULT_MIN_REQUESTS if options.min_requests is None else options.min_requests
    return {
        "strategy": "canary",
        "steps": [
            {"share_bp": round(share * 100), "hold_seconds": hold, "min_requests": least}
            for share in options.steps or DEFAULT_STEPS
        ],
        "watch_seconds": options.watch_seconds,
    }


def preview_lines(preview: Mapping[str, Any]) -> list[str]:
    """See the protocol: nothing."""
    return []


def status_lines(rollout: Mapping[str, Any], verdict: Mapping[str, Any]) -> list[str]:
    """See the protocol: the gates."""
    gates = [[one["verdict"], one["label"], one["sentence"]] for one in verdict["verdicts"]]
    return ["", *table(["VERDICT", "GATE", "WHY"], gates)] if gates else []


def verdict_data(verdict: Mapping[str, Any]) -> dict[str, Any]:
    """See the protocol."""
    return {"verdicts": verdict["verdicts"]}


def end_lines(rollout: Mapping[str, Any], verdict: Mapping[str, Any]) -> list[str]:
    """See the protocol: nothing."""
    return []


def is_undecided(rollout: Mapping[str, Any]) -> bool:
    """See the protocol."""
    return False


def stage_of(rollout: Mapping[str, Any]) -> object:
    """See the protocol: the share."""
    return share_text(rollout)


def share_text(rollout: Mapping[str, Any]) -> str:
    """See the protocol: the candidate's share."""
    return percent_of_bp(
        sum(int(arm["observed_bp"]) for arm in rollout["arms"] if arm["name"] == "candidate")
    )


def version_of(rollout: Mapping[str, Any], *, decided: bool) -> str:
    """See the protocol."""
    return f"v{rollout['candidate']['version']}"


def _shares(text: str) -> tuple[float, ...]:
    try:
        shares = tuple(float(part) for part in text.split(","))
    except ValueError:
        raise argparse.ArgumentTypeError(f"{text!r} is no list of shares; write 5,25,50") from None
    if not all(0 < share < 100 for share in shares):
        raise argparse.ArgumentTypeError(
            "a share lies between 0 and 100 percent; the promotion to 100 follows by itself"
        )
    return shares
