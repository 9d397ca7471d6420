"""What a person confirms about a canary: the effect of an action in numbers."""

from __future__ import annotations

from collections.abc import Collection
from datetime import datetime

from django.utils.html import format_html
from django.utils.safestring import SafeString

from controlplane.kernel.words import duration_of_seconds, percent_of_bp
from rollouts.domain.gates.verdict import FamilyVerdict
from rollouts.domain.lifecycle.plan import FULL_SHARE_BP
from rollouts.domain.lifecycle.states import Phase
from rollouts.models import Rollout
from rollouts.ui.actions.confirm_parts import Confirmation, moving, open_gates, readiness
from rollouts.ui.rollout.pill import step_share


def confirmation(rollout: Rollout, action: str, *, now: datetime, arm: str) -> Confirmation:
    """What `action` would do now. A canary has one candidate, so `arm` says nothing."""
    builders = {
        "pause": _pause,
        "resume": _resume,
        "roll-back": _roll_back,
        "promote": _promote,
        "cancel": _cancel,
    }
    return builders[action](rollout, now)


def again(
    rollout: Rollout, action: str, *, offered: Collection[str], now: datetime, arm: str
) -> Confirmation | None:
    """The same action once more, after the rollout changed; None when it is not offered any more."""
    return confirmation(rollout, action, now=now, arm=arm) if action in offered else None


def share_now(rollout: Rollout) -> str:
    """The candidate's planned share in words."""
    return percent_of_bp(step_share(rollout.parsed_plan, rollout.step_index))


def _pause(rollout: Rollout, now: datetime) -> Confirmation:
    share = share_now(rollout)
    return Confirmation(
        "pause",
        f"Pause rollout #{rollout.pk}",
        (
            format_html("<b>{}</b> of the traffic stays on {}", share, rollout.candidate.version.label),
            SafeString("The gates go on watching and may still roll back"),
            SafeString("It waits until a person resumes"),
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
    watch = duration_of_seconds(rollout.parsed_plan.watch_seconds)
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
