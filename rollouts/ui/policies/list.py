"""The list of gate policies as plain values."""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass
from datetime import datetime

from django.db.models import Count, OuterRef, Q, QuerySet, Subquery

from controlplane.access.models import User
from controlplane.access.roles import Action, refusal
from controlplane.kernel.words import count_text
from rollouts.models import Endpoint, GatePolicyVersion, Rollout
from rollouts.selectors import ACTIVE_PHASES

A_PAGE = 25


@dataclass(frozen=True, slots=True)
class PolicyRow:
    """A policy by its newest version. `endpoints` are (name, `@version`, whether that is the newest)."""

    newest: GatePolicyVersion
    gates: str
    endpoints: tuple[tuple[str, str, bool], ...]
    rollouts: str


@dataclass(frozen=True, slots=True)
class PolicyList:
    """One page. `after` is the name to go on behind, empty at the end; `edit_refused` why none can be stored."""

    rows: tuple[PolicyRow, ...]
    after: str
    edit_refused: str
    now: datetime


def policy_list(*, user: User, after: str, now: datetime) -> PolicyList:
    """Policies by name, those behind `after`: 3 queries whatever their number."""
    newest = list(newest_versions().filter(name__gt=after)[: A_PAGE + 1])
    more = len(newest) > A_PAGE
    newest = newest[:A_PAGE]
    names = [row.name for row in newest]
    latest = {row.name: row.version for row in newest}
    endpoints: dict[str, list[tuple[str, str, bool]]] = defaultdict(list)
    used = Endpoint.objects.filter(gate_policy__name__in=names).order_by("name")
    for endpoint, name, version in used.values_list("name", "gate_policy__name", "gate_policy__version"):
        endpoints[name].append((endpoint, f"@{version}", version == latest[name]))
    rollouts = {
        row["gate_policy__name"]: _rollouts_text(row["all"], row["active"])
        for row in Rollout.objects.filter(gate_policy__name__in=names, own_policy__isnull=True)
        .order_by()
        .values("gate_policy__name")
        .annotate(all=Count("pk"), active=Count("pk", filter=Q(phase__in=ACTIVE_PHASES)))
    }
    return PolicyList(
        rows=tuple(
            PolicyRow(row, _gates_text(row), tuple(endpoints[row.name]), rollouts.get(row.name, "none"))
            for row in newest
        ),
        after=names[-1] if more else "",
        edit_refused=refusal(user.role, Action.EDIT_GATE_POLICY),
        now=now,
    )


def newest_versions() -> QuerySet[GatePolicyVersion]:
    """The newest version of every policy, by name."""
    of_the_name = GatePolicyVersion.objects.filter(name=OuterRef("name")).order_by("-version")
    return GatePolicyVersion.objects.filter(version=Subquery(of_the_name.values("version")[:1])).order_by(
        "name"
    )


def _gates_text(row: GatePolicyVersion) -> str:
    policy = row.policy
    return f"{count_text(len(policy.gates), 'gate')}, α {policy.alpha:g}"


def _rollouts_text(number: int, active: int) -> str:
    return f"{number:,}, {active} active" if active else f"{number:,}"
