"""What every confirmation is made of: the effect in numbers."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta

from django.db.models import Sum
from django.utils.html import format_html
from django.utils.safestring import SafeString

from controlplane.kernel.words import number_text
from rollouts.domain.gates.verdict import FamilyVerdict, Verdict
from rollouts.domain.lifecycle.plan import FULL_SHARE_BP
from rollouts.models import MinuteSample, Rollout, Variant

RATE_OVER = timedelta(minutes=5)
LONGEST_WHY = 500  # of a reason, as the forms say themselves


@dataclass(frozen=True, slots=True)
class Confirmation:
    """A dialog: `typed` is the word to type (all traffic only), `note` a quiet line, `go` the label of the
    button, `arm` the arm of a bandit that it is about.
    """

    action: str
    title: str
    effects: tuple[SafeString, ...]
    go: str
    look: str
    typed: str = ""
    note: str = ""
    arm: str = ""


def moving(rollout: Rollout, share_bp: int, now: datetime) -> SafeString:
    """How much traffic changes hands with `share_bp`."""
    rate = requests_per_second(rollout.endpoint_id, now)
    if rate is None:
        return SafeString("no request in the last 5 minutes")
    return format_html("about <b>{} requests/s</b> move", number_text(rate * share_bp / FULL_SHARE_BP))


def requests_per_second(endpoint_id: int, now: datetime) -> float | None:
    """Of the endpoint over the last minutes; None when nothing was measured."""
    rows = MinuteSample.objects.filter(
        endpoint=endpoint_id, minute__gte=now - RATE_OVER - timedelta(minutes=1)
    )
    by_minute = list(rows.values("minute").annotate(requests=Sum("requests"), seconds=Sum("seconds")))
    seconds = len(by_minute) * 60
    return sum(row["requests"] for row in by_minute) / seconds if seconds else None


def readiness(variant: Variant) -> SafeString:
    """Whether the variant can take the traffic at once."""
    workload = getattr(variant, "workload", None)
    if workload is None or workload.ready == 0:
        return format_html("{} is <b>not ready</b>: it is started first", variant.version.label)
    return format_html(
        "{} is warm: <b>{} of {}</b> replicas ready, nothing reloads",
        variant.version.label,
        workload.ready,
        max(workload.desired, workload.ready),
    )


def open_gates(family: FamilyVerdict | None) -> SafeString:
    """The required gates that have not passed."""
    if family is None:
        return SafeString("<b>No gate has measured anything yet</b>")
    waiting = [v.label.lower() for v in family.verdicts if v.required and v.verdict is not Verdict.PASS]
    if not waiting:
        return SafeString("Every required gate passes")
    return format_html("<b>Not passed yet:</b> {}", ", ".join(waiting))
