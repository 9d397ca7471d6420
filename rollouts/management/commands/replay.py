"""`manage.py replay ROLLOUT [--policy NAME@VERSION] [--json]`: does a recorded rollout again on this server."""

from __future__ import annotations

import json
import sys
from typing import Any

from django.core.management.base import BaseCommand, CommandError, CommandParser

from controlplane.kernel.errors import HeadgateError, InvalidInput
from rollouts import selectors
from rollouts.domain.record.recorded import TamperedEvidence
from rollouts.services.evidence.replay import replay_whole
from rollouts.services.evidence.report import ReplayReport, lines_of

DIFFERS, TAMPERED = 11, 12  # as `headgate replay` ends


class Command(BaseCommand):
    help = (
        "Feeds the recorded evidence of a rollout through the same code again and compares verdicts and decisions. "
        "Exit code 0: as promised (with --policy: the same decisions); 11: something differs; 12: the evidence was "
        "changed afterwards."
    )

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument(
            "rollout", type=int, nargs="+", help="its number; several are replayed one after the other"
        )
        parser.add_argument(
            "--policy", default="", metavar="NAME@VERSION", help="what this gate policy would have done"
        )
        parser.add_argument("--json", action="store_true", help="one JSON object a rollout")

    def handle(self, *args: Any, **options: Any) -> None:
        worst = 0
        for rollout_id in options["rollout"]:
            worst = max(worst, self._one(rollout_id, **options))
        if worst:
            sys.exit(worst)

    def _one(self, rollout_id: int, **options: Any) -> int:
        try:
            policy = (
                selectors.find_gate_policy(options["policy"], field="--policy") if options["policy"] else None
            )
            report = replay_whole(
                rollout=selectors.find_rollout(rollout_id), policy=policy, progress=self._progress
            )
        except TamperedEvidence as error:
            self._print({"rollout": rollout_id, "code": error.code, "row": error.row}, [str(error)], options)
            return TAMPERED
        except InvalidInput as error:
            raise CommandError(f"{error.field}: {error}") from error
        except HeadgateError as error:
            raise CommandError(str(error)) from error
        self._print(report.to_json(), lines_of(report), options)
        return 0 if _as_promised(report) else DIFFERS

    def _print(self, data: dict[str, Any], lines: list[str], options: Any) -> None:
        if options["json"]:
            self.stdout.write(json.dumps(data, ensure_ascii=False))
        else:
            for line in lines:
                self.stdout.write(line)

    def _progress(self, done: int, total: int) -> None:
        if self.stderr.isatty():
            self.stderr.write(f"\r{done:,} of {total:,} replayed", ending="" if done < total else "\n")


def _as_promised(report: ReplayReport) -> bool:
    return report.outcome == "same" if report.kind == "what-if" else report.kept
