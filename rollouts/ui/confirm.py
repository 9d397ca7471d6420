"""What a person confirms: the effect of an action in numbers, and the revision they saw."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime, timedelta

from django.db.models import Sum
from django.utils.html import format_html
from django.utils.safestring import SafeString

from controlplane.access.roles import Action
from controlplane.kernel.errors import NotFound
from controlplane.web.words import duration_text, number_text, share_text
from rollouts.domain.gates.verdict import FamilyVerdict, Verdict
from rollouts.domain.plan import FULL_SHARE_BP
from rollouts.domain.states import Phase
from rollouts.models import GlobalStop, MinuteSample, Rollout, Variant
from rollouts.services import commands
from rollouts.ui.phases import step_share

RATE_OVER = timedelta(minutes=5)


@dataclass(frozen=True, slots=True)
class Confirmation:
    """A dialog: `typed` is the word to type (all traffic only), `note` a quiet line, `go` the label of the
    button.
    """

    action: str
    title: str
    effects: tuple[SafeString, ...]
    go: str
    look: str
    needs: Action
    typed: str = ""
    note: str = ""


COMMANDS: dict[str, Callable[..., Rollout]] = {
    "pause": commands.pause_rollout,
    "resume": commands.resume_rollout,
    "roll-back": commands.roll_back_rollout,
    "promote": commands.promote_rollout,
    "cancel": commands.cancel_rollout,
}


def confirmation(rollout: Rollout, action: str, *, now: datetime) -> Confirmation:
    """What `action` would do to the rollout now. Raises NotFound for an action that does not exist."""
    builders = {
        "pause": _pause,
        "resume": _resume,
        "roll-back": _roll_back,
        "promote": _promote,
        "cancel": _cancel,
    }
    if action not in builders:
        raise NotFound(f"There is no action {action!r} on a rollout.")
    return builders[action](rollout, now)


def share_now(rollout: Rollout) -> str:
    """The candidate's planned share in words."""
    return share_text(step_share(rollout.parsed_plan, rollout.step_index))


def _pause(rollout: Rollout, now: datetime) -> Confirmation:
    share = share_now(rollout)
    return Confirmation(
        "pause",
        f"Pause rollout #{rollout.pk}",
        (
            format_html("<b>{}</b> of the traffic stays on {}", share, rollout.candidate.version.label),
            SafeString("The gates go on watching and may still roll back"),
            SafeString("It waits until somebody resumes"),
        ),
        f"Pause at {share}",
        "primary",
        Action.CONTROL_ROLLOUT,
    )


def _resume(rollout: Rollout, now: datetime) -> Confirmation:
    share = share_now(rollout)
    return Confirmation(
        "resume",
        f"Resume rollout #{rollout.pk}",
        (
            format_html("It goes on at <b>{}</b>; its exposure so far counts", share),
            SafeString("Weights that were set by hand are set as planned again"),
        ),
        f"Resume at {share}",
        "primary",
        Action.CONTROL_ROLLOUT,
    )


def _roll_back(rollout: Rollout, now: datetime) -> Confirmation:
    baseline = rollout.baseline
    share_bp = int(rollout.endpoint.observed_shares.get(rollout.candidate.name, 0))
    effects = [
        format_html(
            "<b>{} → 0%</b> on the candidate, {}", share_text(share_bp), _moving(rollout, share_bp, now)
        ),
        _readiness(baseline),
        SafeString("Streams in flight on the candidate finish"),
    ]
    if rollout.phase == Phase.SUCCEEDED.value:
        alias = rollout.endpoint.alias
        effects.append(format_html("The alias <b>{}</b> returns to {}", alias, baseline.version.label))
    else:
        effects.append(format_html("The alias <b>{}</b> does not change", rollout.endpoint.alias))
    return Confirmation(
        "roll-back",
        f"Roll back to {baseline.name}",
        tuple(effects),
        f"Roll back to {baseline.version.label}",
        "solid",
        Action.CONTROL_ROLLOUT,
        note="One confirm, nothing to type. Allowed in a global stop too.",
    )


def _promote(rollout: Rollout, now: datetime) -> Confirmation:
    candidate = rollout.candidate
    share_bp = int(rollout.endpoint.observed_shares.get(candidate.name, 0))
    watch = duration_text(rollout.parsed_plan.watch_seconds)
    return Confirmation(
        "promote",
        f"Promote {candidate.name} to 100%",
        (
            format_html(
                "<b>{} → 100%</b>, {}", share_text(share_bp), _moving(rollout, FULL_SHARE_BP - share_bp, now)
            ),
            _readiness(candidate),
            _open_gates(rollout),
            format_html(
                "{} stays warm for <b>{}</b> and may take over again", rollout.baseline.version.label, watch
            ),
            format_html("The alias <b>{}</b> moves to {}", rollout.endpoint.alias, candidate.version.label),
        ),
        "Promote to 100%",
        "primary",
        Action.PROMOTE_NOW,
        typed=rollout.endpoint.name,
    )


def _cancel(rollout: Rollout, now: datetime) -> Confirmation:
    return Confirmation(
        "cancel",
        f"Cancel rollout #{rollout.pk}",
        (
            format_html("No traffic has moved; <b>{}</b> answers everything", rollout.baseline.version.label),
            format_html("The engine of {} is stopped", rollout.candidate.name),
        ),
        "Cancel the rollout",
        "solid",
        Action.CONTROL_ROLLOUT,
    )


def _moving(rollout: Rollout, share_bp: int, now: datetime) -> SafeString:
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


def _readiness(variant: Variant) -> SafeString:
    workload = getattr(variant, "workload", None)
    if workload is None or workload.ready == 0:
        return format_html("{} is <b>not ready</b>: it is started first", variant.version.label)
    return format_html(
        "{} is warm: <b>{} of {}</b> replicas ready, nothing reloads",
        variant.version.label,
        workload.ready,
        max(workload.desired, workload.ready),
    )


def _open_gates(rollout: Rollout) -> SafeString:
    if not rollout.verdicts:
        return SafeString("<b>No gate has measured anything yet</b>")
    verdicts = FamilyVerdict.from_json(rollout.verdicts).verdicts
    waiting = [v.label.lower() for v in verdicts if v.required and v.verdict is not Verdict.PASS]
    if not waiting:
        return SafeString("Every required gate passes")
    return format_html("<b>Not passed yet:</b> {}", ", ".join(waiting))


def stop_confirmation(stop: GlobalStop, *, active: int) -> Confirmation:
    """Setting or lifting the global stop."""
    rollouts = f"{active} rollout{'' if active == 1 else 's'}"
    if stop.on:
        return Confirmation(
            "lift",
            "Lift the global stop",
            (
                format_html("<b>{}</b> may move forward again", rollouts),
                SafeString("Those held by the stop go on by themselves"),
            ),
            "Lift the stop",
            "primary",
            Action.GLOBAL_STOP,
        )
    return Confirmation(
        "stop",
        "Stop every rollout",
        (
            format_html("<b>{}</b> freeze at their present weights", rollouts),
            SafeString("No forward action runs anywhere until a release manager lifts it"),
            SafeString("Rollbacks, automatic ones too, <b>stay on</b>"),
            SafeString("Traffic does not change"),
        ),
        "Stop every rollout",
        "solid",
        Action.GLOBAL_STOP,
    )
