"""What a strategy has of its own in the form of a new rollout, and in the plan beside it."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Protocol

from rollouts.domain.lifecycle.plan import Plan
from rollouts.services.commands.start import Preview


@dataclass(frozen=True, slots=True)
class PlanWords:
    """How what every plan shows is called for a strategy.

    gates       "Gates"
    by          the end of the plan, after "by the": "end"
    latency     over the table of loads: "Latency evidence by step"
    when        over the moments of that table: "Step"
    """

    gates: str
    by: str
    latency: str
    when: str


class FormPart(Protocol):
    """A module of these. Fields are a frozen value of texts, as they were typed; only the part itself looks into them.

    LABEL, HINT     how the strategy is offered
    TEMPLATE        its settings; the template has `part`, which is `rows`
    PLAN_TEMPLATE   what its dry run says first; the template has `own`, which is `panel`
    WORDS           what the rest of the form and the plan is called
    """

    LABEL: str
    HINT: str
    TEMPLATE: str
    PLAN_TEMPLATE: str
    WORDS: PlanWords

    def blank(self, like: Plan | None) -> Any:
        """The fields as they are first shown: those of `like` where that was of this strategy, else the usual ones."""
        ...

    def read(self, sent: Mapping[str, str]) -> Any:
        """The fields that were sent."""
        ...

    def changed(self, fields: Any, change: str) -> Any:
        """The fields after a button of the form (`add-step`); as they were for a button of somebody else."""
        ...

    def kept(self, fields: Any) -> Sequence[tuple[str, str]]:
        """The fields by name, to be sent along unseen while another strategy is chosen."""
        ...

    def plan(self, fields: Any, *, watch_seconds: int, keep: Callable[..., Any]) -> Plan | None:
        """The plan that is meant; None while anything typed is wrong.

        keep    calls a reader and keeps what it refuses, so that every mistake shows at once; gives None then
        """
        ...

    def field_of(self, name: str) -> str:
        """`plan.steps[1].share_bp` -> `share-1`: the field of the form; empty for a name of somebody else."""
        ...

    def rows(self, fields: Any, *, watch: str, problems: Callable[..., tuple[str, ...]]) -> object:
        """What TEMPLATE shows. `problems` gives what is wrong with the named fields."""
        ...

    def start_words(self, plan: Plan | None, *, candidates: int) -> str:
        """The label of the button."""
        ...

    def panel(self, preview: Preview | None, *, now: datetime) -> object | None:
        """What PLAN_TEMPLATE shows; None while there is nothing to show."""
        ...

    def latency(self, preview: Preview) -> Sequence[tuple[str, float, str]]:
        """When, the load of a replica then against one of the baseline, and what a latency gate may say."""
        ...
