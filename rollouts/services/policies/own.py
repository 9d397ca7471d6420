"""A gate policy of one rollout: made from a shared one, stored with the rollout, no version of that name."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from controlplane.access.actors import Actor
from controlplane.access.roles import LOWEST_ROLE, Action
from controlplane.kernel.errors import Forbidden
from rollouts.domain.gates.policy import GatePolicy, as_written
from rollouts.domain.gates.policy_changes import policy_changes
from rollouts.domain.gates.problems import policy_problems
from rollouts.domain.gates.weaker import Weakening, weakenings
from rollouts.domain.strategies.dry_run import Check
from rollouts.models import Endpoint, GatePolicyVersion
from rollouts.services.policies.text import PolicyDocument
from rollouts.services.policies.versions import first_of


def own_policy_of(document: PolicyDocument, *, source: GatePolicyVersion) -> GatePolicy | None:
    """What was written as a policy made from `source`; None when it says the same as `source`.

    Name and version are those of the source: they say where it is from. Raises InvalidInput naming the first field
    that is wrong, with its line where the policy came as a text; with several, all are in `extra["problems"]`.
    """
    named = {**document.body, "name": source.name, "version": source.version}
    problems = policy_problems(named)
    if problems:
        raise first_of([document.located(one) for one in problems])
    if not policy_changes(source.policy, GatePolicy.from_json(named)):
        return None
    return GatePolicy.from_json(as_written(named))


def own_policy_from_values(body: Mapping[str, Any], *, source: GatePolicyVersion) -> GatePolicy | None:
    """`own_policy_of` for plain values."""
    return own_policy_of(PolicyDocument(body), source=source)


def weaker_than_endpoint(
    endpoint: Endpoint, *, source: GatePolicyVersion | None, own: GatePolicy | None
) -> tuple[Weakening, ...]:
    """In what a rollout would be judged more weakly than the endpoint asks for, or than the policy it is made from.

    source  the shared policy that was chosen; None for the endpoint's
    own     what the rollout is judged by instead of it; None for the shared one as it is
    """
    shared = source or endpoint.gate_policy
    judged_by = own or shared.policy
    found = {one.field: one for one in weakenings(shared.policy, judged_by)}
    if shared.pk != endpoint.gate_policy_id:
        found = {one.field: one for one in weakenings(endpoint.gate_policy.policy, judged_by)} | found
    return tuple(found.values())


def require_may_weaken(found: tuple[Weakening, ...], *, endpoint: Endpoint, actor: Actor) -> None:
    """Raises Forbidden naming every weaker value, and who may start it all the same."""
    try:
        if found:
            actor.require(Action.START_WEAKER)
    except Forbidden as refused:
        raise Forbidden(
            f"{refused.message} The policy is weaker than {endpoint.gate_policy}: "
            f"{'; '.join(one.sentence for one in found)}.",
            fix=f"Take {'it' if len(found) == 1 else 'them'} back, or ask a {_approver()} to start it.",
            code="weaker-policy",
            extra={**refused.extra, "weaker": [one.to_json() for one in found]},
        ) from None


def weaker_checks(found: tuple[Weakening, ...], *, endpoint: Endpoint, actor: Actor | None) -> list[Check]:
    """What the dry run says of it: nothing while nothing is weaker. `actor`: who would start it, None: not known."""
    if not found:
        return []
    try:
        if actor is not None:
            actor.require(Action.START_WEAKER)
        state = "warning"
    except Forbidden:
        state = "refused"
    values = "1 value" if len(found) == 1 else f"{len(found)} values"
    return [
        Check(
            state,
            f"The policy is weaker than {endpoint.gate_policy} in {values}",
            "; ".join(one.sentence for one in found) + ".",
            f"A {_approver()} may start it. Everybody else takes "
            f"{'this value' if len(found) == 1 else 'these values'} back.",
            code="weaker-policy",
        )
    ]


def _approver() -> str:
    return LOWEST_ROLE[Action.START_WEAKER].words
