"""The commands that people confirm, by the name of the action, and the confirmation of the global stop."""

from __future__ import annotations

from collections.abc import Callable

from django.utils.html import format_html
from django.utils.safestring import SafeString

from rollouts.models import GlobalStop, Rollout
from rollouts.services.commands import rollouts as commands
from rollouts.ui.actions.confirm_parts import Confirmation

COMMANDS: dict[str, Callable[..., Rollout]] = {
    "pause": commands.pause_rollout,
    "resume": commands.resume_rollout,
    "roll-back": commands.roll_back_rollout,
    "promote": commands.promote_rollout,
    "cancel": commands.cancel_rollout,
}


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
