"""What a person confirms about a bandit: the effect of an action on all its arms, in numbers."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from datetime import datetime

from django.utils.html import format_html
from django.utils.safestring import SafeString

from controlplane.kernel.errors import InvalidInput
from controlplane.kernel.words import duration_of_seconds, odds, percent_of_bp, percent_of_share
from rollouts.domain.bandits.verdict import BanditVerdict
from rollouts.domain.lifecycle.plan import FULL_SHARE_BP
from rollouts.domain.lifecycle.states import Phase
from rollouts.domain.record.intervals import BASELINE
from rollouts.models import Arm, Rollout
from rollouts.ui.actions.confirm_parts import Confirmation, moving, open_gates, readiness
from rollouts.ui.bandit.arms import short_share
from rollouts.ui.parts.arm_words import arm_labels


def confirmation(rollout: Rollout, action: str, *, now: datetime, arm: str) -> Confirmation:
    """What `action` would do now. Raises InvalidInput (field `arm`) for an arm that is not in the race."""
    if action == "promote":
        return _promote(rollout, _chosen(rollout, arm), now)
    builders = {"pause": _freeze, "resume": _resume, "cancel": _cancel}
    return builders[action](rollout) if action in builders else _return_all(rollout, now)


def again(
    rollout: Rollout, action: str, *, offered: Collection[str], now: datetime, arm: str
) -> Confirmation | None:
    """The same action once more, after the rollout changed; None when it is not offered any more, or when the arm to
    promote has left the race."""
    if action in offered:
        return confirmation(rollout, action, now=now, arm=arm)
    if action != "promote" or "choose" not in offered:
        return None
    chosen = next((one for one in racing_arms(rollout) if one.name == arm), None)
    return None if chosen is None else _promote(rollout, chosen, now)


def share_now(rollout: Rollout) -> str:
    """`v2 45%, v3 40%, v1 15%`: the shares that were asked for last."""
    arms = [*_candidates(rollout), *(arm for arm in rollout.arms.all() if arm.name == BASELINE)]
    return ", ".join(
        f"{arm.variant.version.label} {short_share(arm.desired_bp)}" for arm in arms if arm.desired_bp
    )


def racing_arms(rollout: Rollout) -> list[Arm]:
    """The candidates that can still be promoted, in arm order."""
    survivors = rollout.verdicts.get("survivors")
    return [
        arm
        for arm in _candidates(rollout)
        if not arm.dropped_cause and (survivors is None or arm.name in survivors)
    ]


def _candidates(rollout: Rollout) -> list[Arm]:
    return [arm for arm in rollout.arms.all() if arm.name != BASELINE]


def _labels(arms: Sequence[Arm]) -> str:
    return ", ".join(arm.variant.version.label for arm in arms)


def _chosen(rollout: Rollout, name: str) -> Arm:
    racing = racing_arms(rollout)
    if not name and len(racing) == 1:
        return racing[0]
    for arm in racing:
        if arm.name == name:
            return arm
    known = ", ".join(f"{arm.name} ({arm.variant.version.label})" for arm in racing) or "none"
    said = f"No arm {name!r} is in the race." if name else "Say which arm is to be promoted."
    raise InvalidInput(said, field="arm", fix=f"In the race: {known}.")


def _freeze(rollout: Rollout) -> Confirmation:
    return Confirmation(
        "pause",
        f"Freeze the weights of rollout #{rollout.pk}",
        (
            format_html("<b>{}</b> stay as they are", share_now(rollout)),
            SafeString("It goes on learning; an arm that is proven worse or fails its gates still leaves"),
            SafeString("It waits until a person resumes"),
        ),
        "Freeze weights",
        "primary",
    )


def _resume(rollout: Rollout) -> Confirmation:
    limit = duration_of_seconds(rollout.parsed_plan.deadline_seconds)
    return Confirmation(
        "resume",
        f"Resume rollout #{rollout.pk}",
        (
            format_html(
                "It goes on from <b>{}</b>; the weights follow the evidence again", share_now(rollout)
            ),
            format_html("It has <b>{}</b> from now to find one winner", limit),
            SafeString("Weights that were set by hand are set as planned again"),
        ),
        "Resume weights",
        "primary",
    )


def _cancel(rollout: Rollout) -> Confirmation:
    return Confirmation(
        "cancel",
        f"Cancel rollout #{rollout.pk}",
        (
            format_html("No traffic has moved; <b>{}</b> answers everything", rollout.baseline.version.label),
            format_html("The engines of {} are stopped", _labels(_candidates(rollout))),
        ),
        "Cancel the rollout",
        "solid",
    )


def _return_all(rollout: Rollout, now: datetime) -> Confirmation:
    baseline, alias = rollout.baseline, rollout.endpoint.alias
    served = [arm for arm in _candidates(rollout) if arm.observed_bp]
    share_bp = sum(arm.observed_bp for arm in served)
    label = baseline.version.label
    moved = rollout.phase == Phase.SUCCEEDED.value
    return Confirmation(
        "roll-back",
        f"Return all traffic to {baseline.name}",
        (
            format_html(
                "<b>{} → 0%</b> on {}, {}",
                percent_of_bp(round(share_bp, -1)),
                _labels(served) or "the candidates",
                moving(rollout, share_bp, now),
            ),
            readiness(baseline),
            SafeString("Streams in flight on the candidates finish, then their engines stop"),
            format_html("The alias <b>{}</b> returns to {}", alias, label)
            if moved
            else format_html("The alias <b>{}</b> does not change", alias),
        ),
        f"Return all to {label}",
        "solid",
        note="One confirm, nothing to type. Allowed in a global stop too.",
    )


def _promote(rollout: Rollout, chosen: Arm, now: datetime) -> Confirmation:
    label, alias = chosen.variant.version.label, rollout.endpoint.alias
    verdict = BanditVerdict.from_json(rollout.verdicts) if rollout.verdicts else None
    others = [arm for arm in racing_arms(rollout) if arm.pk != chosen.pk]
    effects = [
        format_html(
            "<b>{} → 100%</b>, {}",
            short_share(chosen.observed_bp),
            moving(rollout, FULL_SHARE_BP - chosen.observed_bp, now),
        ),
        readiness(chosen.variant),
        open_gates(verdict.gates.get(chosen.name) if verdict is not None else None),
    ]
    if verdict is not None and verdict.winner != chosen.name and len(verdict.survivors) > 1:
        effects.append(_not_proven(verdict, chosen, arm_labels(rollout)))
    if others:
        verb = "leaves for good and is stopped" if len(others) == 1 else "leave for good and are stopped"
        effects.append(format_html("<b>{}</b> {}", _labels(others), verb))
    watch = duration_of_seconds(rollout.parsed_plan.watch_seconds)
    effects += [
        format_html(
            "{} stays warm for <b>{}</b> and may take over again", rollout.baseline.version.label, watch
        ),
        format_html("The alias <b>{}</b> moves to {}", alias, label),
    ]
    return Confirmation(
        "promote",
        f"Promote {chosen.variant.name} to 100%",
        tuple(effects),
        f"Promote {label} to 100%",
        "primary",
        typed=rollout.endpoint.name,
        arm=chosen.name,
    )


def _not_proven(verdict: BanditVerdict, chosen: Arm, labels: Mapping[str, str]) -> SafeString:
    """What is believed of the chosen arm, and which evidence against the others is missing."""
    found = verdict.arm(chosen.name)
    loss = "" if found.expected_loss is None else f", expected loss {found.expected_loss:.4f}"
    rivals = [verdict.arm(name) for name in verdict.survivors if name != chosen.name]
    missing = "; ".join(
        f"the evidence that another arm is better than {labels.get(rival.name, rival.name)} is {odds(rival.evidence)} "
        f"to 1, and {odds(verdict.threshold)} to 1 is needed"
        for rival in rivals
    )
    return format_html(
        "<b>Not proven the best</b>: it is thought to be the best with a probability of {}{}; {}",
        percent_of_share(found.p_best),
        loss,
        missing,
    )
