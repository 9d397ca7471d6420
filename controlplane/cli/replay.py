"""`headgate replay`: asks the server to do a recorded rollout again, part by part, and says what came of it."""

from __future__ import annotations

import argparse
from collections.abc import Callable, Mapping
from typing import Any

from controlplane.cli.answers import AS_RECORDED, REPLAY_PART, WHAT_IF, Strange, check
from controlplane.cli.client import Client
from controlplane.cli.commands import number_of
from controlplane.cli.exits import Exit
from controlplane.cli.failure import Failure
from controlplane.cli.output import Printer, Result, table

TAMPERED = "evidence-tampered"
MOST_STILL = 50  # answers in a row without progress


def replay(client: Client, options: argparse.Namespace, printer: Printer) -> Result:
    """`replay`"""
    number = number_of(client, options.rollout)
    try:
        report = replay_report(client, number, policy=options.policy, progress=printer.progress)
    except Failure as failure:
        if failure.problem.get("code") == TAMPERED:
            raise Failure(
                Exit.TAMPERED, failure.message, fix=failure.fix, problem=failure.problem
            ) from failure
        raise
    return Result(_lines(report), {"replay": report}, reason=report["sentence"], code=_exit(report))


def replay_report(
    client: Client, rollout: int, *, policy: str = "", progress: Callable[[str], None] = lambda words: None
) -> dict[str, Any]:
    """The server's report on a replay, asked for part by part. Raises Failure."""
    path = f"/rollouts/{rollout}/replay"
    part = client.get(path, shape=REPLAY_PART, policy=policy)
    still = 0
    while part["state"] != "done":
        progress(f"{part['done']:,} of {part['total']:,} replayed")
        before = part["done"]
        part = client.get(path, shape=REPLAY_PART, policy=policy, run=part["run"])
        still = 0 if part["done"] > before else still + 1
        if still == MOST_STILL:
            raise Failure(
                Exit.UNAVAILABLE, f"The replay stands still at {before:,} of {part['total']:,}. Run it again."
            )
    report: dict[str, Any] = part.get("report")
    kind = report.get("kind") if isinstance(report, dict) else ""
    if kind != ("what-if" if policy else "replay"):
        raise Failure(
            Exit.UNAVAILABLE, "The replay is done, and its report is not the one that was asked for."
        )
    try:
        check(report, WHAT_IF if policy else AS_RECORDED, "the report")
    except Strange as strange:
        raise Failure(Exit.UNAVAILABLE, f"The replay's report cannot be read: {strange}.") from None
    return report


def _exit(report: Mapping[str, Any]) -> Exit:
    fine = report["outcome"] == "same" if report["kind"] == "what-if" else report["kept"]
    return Exit.OK if fine else Exit.DIFFERS


def _lines(report: Mapping[str, Any]) -> list[str]:
    lines = [f"Rollout #{report['rollout']} of {report['endpoint']}, {report['policy']}.", report["sentence"]]
    if report["kind"] == "what-if":
        return lines + _side_by_side(report)
    found = report["first_other"] or report["first"]
    if found:
        lines.append(
            f"  {found['row']}, {found['path']}: recorded {found.get('recorded')!r}, replayed {found.get('replayed')!r}"
        )
    worded = report.get("first_reworded")
    if worded:
        lines.append(f"  worded differently first in {worded['row']}, {worded['path']}:")
        lines.append(f"    then: {worded.get('recorded')}")
        lines.append(f"    today: {worded.get('replayed')}")
    return [*lines, f"Digest of the last interval: {report['digest'] or 'none'}"]


def _side_by_side(report: Mapping[str, Any]) -> list[str]:
    """What both policies did and when, and the first decision that would have been another."""
    sides = (report["recorded"], report["replayed"])
    rows = [
        [name, *(_moment(side[key]) for side in sides)]
        for name, key in (("roll back", "rollback"), ("all gates pass", "passed"), ("decided", "decided"))
    ]
    lines = ["", *table(["", *(side["policy"] for side in sides)], rows)]
    if report["first"]:
        first = report["first"]
        lines += [
            "",
            f"First other decision: {_moment(first['moment'])}.",
            f"  recorded: {first['recorded']['reason']}",
            f"  replayed: {first['replayed']['reason']}",
            report["limit"],
        ]
    return lines


def _moment(moment: Mapping[str, Any] | None) -> str:
    if moment is None:
        return "never"
    cause = f" {moment['cause']}" if moment["cause"] else ""
    return f"{moment['after']:.0f} s, {moment['row']}{cause}"
