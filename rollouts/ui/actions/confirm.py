"""What a person confirms: the effect of an action in numbers, and the revision they saw."""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime

from django.utils.html import format_html
from django.utils.safestring import SafeString

from controlplane.kernel.errors import NotFound
from controlplane.kernel.words import percent_of_bp
from controlplane.web.words import duration_text
from rollouts.domain.gates.verdict import FamilyVerdict
from rollouts.domain.plan import FULL_SHARE_BP
from rollouts.domain.states import Phase
from rollouts.models import GlobalStop, Rollout
from rollouts.services import commands
from rollouts.ui.actions.confirm_parts import Confirmation, moving, open_gates, readiness
from rollouts.ui.bandit import confirm as bandit_confirm
from rollouts.ui.parts.arm_words import is_bandit
from rollouts.ui.parts.phases import step_share

COMMANDS: dict[str, Callable[..., Rollout]] = {
    "pause": commands.pause_rollout,
    "resume": commands.resume_rollout,
    "roll-back": commands.roll_back_rollout,
    "promote": commands.promote_rollout,
    "cancel": commands.cancel_rollout,
}


def confirmation(rollout: Rollout, action: str, *, now: datetime, arm: str = "") -> Confirmation:
    """What `action` would do to the rollout now; `arm` names whom a bandit's promotion is for.

    Raises NotFound for an action that does not exist, InvalidInput (field `arm`) for an arm that is not in the race.
    """
    builders = {
        "pause": _pause,
        "resume": _resume,
        "roll-back": _roll_back,
        "promote": _promote,
        "cancel": _cancel,
    }
    if action not in builders:
        raise NotFound(f"There is no action {action!r} on a rollout.")
    if is_bandit(rollout):
        return bandit_confirm.confirmation(rollout, action, now=now, arm=arm)
    return builders[action](rollout, now)


def share_now(rollout: Rollout) -> str:
    """The candidate's planned share in words; of a bandit every arm's."""
    if is_bandit(rollout):
        return bandit_confirm.shares_now(rollout)
    return percent_of_bp(step_share(rollout.parsed_plan, rollout.step_index))


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
    )


def _roll_back(rollout: Rollout, now: datetime) -> Confirmation:
    baseline = rollout.baseline
    share_bp = int(rollout.endpoint.observed_shares.get(rollout.candidate.name, 0))
    effects = [
        format_html(
            "<b>{} → 0%</b> on the candidate, {}", percent_of_bp(share_bp), moving(rollout, share_bp, now)
        ),
        readiness(baseline),
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
                "<b>{} → 100%</b>, {}",
                percent_of_bp(share_bp),
                moving(rollout, FULL_SHARE_BP - share_bp, now),
            ),
            readiness(candidate),
            _open_gates(rollout),
            format_html(
                "{} stays warm for <b>{}</b> and may take over again", rollout.baseline.version.label, watch
            ),
            format_html("The alias <b>{}</b> moves to {}", rollout.endpoint.alias, candidate.version.label),
        ),
        "Promote to 100%",
        "primary",
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
    )


def _open_gates(rollout: Rollout) -> SafeString:
    return open_gates(FamilyVerdict.from_json(rollout.verdicts) if rollout.verdicts else None)


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
    )
