"""How each strategy is shown: one table. What a strategy does is in `rollouts.domain.strategies`.

A new strategy is a module beside `new/canary_form`, a package beside `rollout` and `bandit`, and one more entry.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Protocol

from controlplane.access.models import User
from controlplane.kernel.errors import NotFound
from rollouts.domain.strategies import strategy_of
from rollouts.evidence import require_readable
from rollouts.models import Rollout
from rollouts.ui.actions.confirm import COMMANDS
from rollouts.ui.actions.confirm_parts import Confirmation
from rollouts.ui.bandit import actions as bandit_actions
from rollouts.ui.bandit import charts as bandit_charts
from rollouts.ui.bandit import confirm as bandit_confirm
from rollouts.ui.bandit import page as bandit_page
from rollouts.ui.bandit.pill import pill as bandit_pill
from rollouts.ui.new import bandit_form, canary_form
from rollouts.ui.new.part import FormPart
from rollouts.ui.parts.page_parts import ActionButton
from rollouts.ui.parts.phases import Pill, pill_of_phase
from rollouts.ui.rollout import charts as canary_charts
from rollouts.ui.rollout import confirm as canary_confirm
from rollouts.ui.rollout import page as canary_page
from rollouts.ui.rollout.pill import pill as canary_pill


class ShownPage(Protocol):
    """What the views need of a page; the rest is between the page and its templates."""

    @property
    def actions(self) -> tuple[ActionButton, ...]: ...


class BuildPage(Protocol):
    def __call__(self, *, rollout: Rollout, user: User, now: datetime, stop_on: bool) -> ShownPage: ...


class BuildChart(Protocol):
    def __call__(
        self, *, rollout: Rollout, name: str, since: float | None, now: datetime
    ) -> dict[str, Any]: ...


class Confirm(Protocol):
    def __call__(self, rollout: Rollout, action: str, *, now: datetime, arm: str) -> Confirmation: ...


class ConfirmAgain(Protocol):
    def __call__(
        self, rollout: Rollout, action: str, *, offered: Collection[str], now: datetime, arm: str
    ) -> Confirmation | None: ...


class ShownChoice(Protocol):
    """An arm that may be promoted: its name and colour, and how it is told from the others."""

    @property
    def name(self) -> str: ...

    @property
    def arm(self) -> int: ...

    @property
    def variant(self) -> str: ...

    @property
    def label(self) -> str: ...

    @property
    def facts(self) -> str: ...


@dataclass(frozen=True, slots=True)
class Presentation:
    """One strategy on the pages.

    form            its part of the form of a new rollout
    pill            where it stands, in two or three words
    template        its page is `rollouts/TEMPLATE.html`, what is fresh of it `rollouts/TEMPLATE/_fresh.html`
    build           the page as plain values
    chart           a series by name. Raises NotFound
    confirmation    what an action would do now; `arm` names whom a promotion is for where there are several. Raises
                    InvalidInput (field `arm`)
    again           the same once more after the rollout changed; None when it makes no sense any more
    share_now       the planned share in words
    choices         the arms that a person may promote; None where there is one candidate only
    """

    form: FormPart
    pill: Callable[[Rollout, datetime], Pill]
    template: str
    build: BuildPage
    chart: BuildChart
    confirmation: Confirm
    again: ConfirmAgain
    share_now: Callable[[Rollout], str]
    choices: Callable[[Rollout], Sequence[ShownChoice]] | None = None


SHOWN: Mapping[str, Presentation] = {
    "canary": Presentation(
        form=canary_form,
        pill=canary_pill,
        template="rollout",
        build=canary_page.build,
        chart=canary_charts.canary_chart,
        confirmation=canary_confirm.confirmation,
        again=canary_confirm.again,
        share_now=canary_confirm.share_now,
    ),
    "bandit": Presentation(
        form=bandit_form,
        pill=bandit_pill,
        template="bandit",
        build=bandit_page.build,
        chart=bandit_charts.bandit_chart,
        confirmation=bandit_confirm.confirmation,
        again=bandit_confirm.again,
        share_now=bandit_confirm.share_now,
        choices=lambda rollout: bandit_actions.choices_of(rollout, bandit_page.verdict_of(rollout)),
    ),
}


def presentation_of(rollout: Rollout) -> Presentation:
    """How this rollout is shown. Raises Unavailable for one that another version of Headgate started."""
    plan = rollout.parsed_plan
    strategy_of(plan)
    return SHOWN[plan.strategy]


def pill_of(rollout: Rollout, now: datetime) -> Pill:
    """Where a rollout stands, in two or three words; in general ones where its strategy is not known."""
    if rollout.strategy not in SHOWN:
        return pill_of_phase(rollout, moving=Pill("mute", "Unknown strategy", "circle-dashed"), place="")
    return SHOWN[rollout.strategy].pill(rollout, now)


def confirmation(rollout: Rollout, action: str, *, now: datetime, arm: str = "") -> Confirmation:
    """What `action` would do to the rollout now.

    Raises NotFound for an action that does not exist, InvalidInput (field `arm`) for an arm that is not in the race,
    UnknownFormat where a newer version wrote what the gates said.
    """
    if action not in COMMANDS:
        raise NotFound(f"There is no action {action!r} on a rollout.")
    shown = presentation_of(rollout)
    require_readable(rollout)
    return shown.confirmation(rollout, action, now=now, arm=arm)
