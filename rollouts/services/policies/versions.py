"""Gate policies as versioned data: checked, stored as the next version, used by endpoints. Nothing is ever changed."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from django.db import IntegrityError, transaction

from controlplane.access.actors import HEADGATE, Actor
from controlplane.access.roles import Action
from controlplane.access.rules import requires
from controlplane.audit.services import record
from controlplane.kernel.digests import digest_of
from controlplane.kernel.errors import Conflict, InvalidInput, NotFound
from controlplane.kernel.words import duration_of_seconds
from rollouts.domain.gates.outlook import EXPOSURES, PolicyOutlook, explain_policy
from rollouts.domain.gates.policy import GatePolicy, as_written
from rollouts.domain.gates.policy_changes import PolicyChange, policy_changes
from rollouts.domain.gates.problems import policy_problems
from rollouts.models import Endpoint, GatePolicyVersion
from rollouts.selectors import find_gate_policy
from rollouts.services.locks import locked_endpoints
from rollouts.services.policies.numbers import steps_for, traffic_for
from rollouts.services.policies.text import PolicyDocument
from rollouts.services.world import Edges, Worlds
from rollouts.services.writing import note_change

NAME = re.compile(r"[a-z](?:[a-z0-9-]{0,58}[a-z0-9])?")
RESERVED = ("new", "check")  # they have addresses of their own


@dataclass(frozen=True, slots=True)
class PolicyCheck:
    """A draft as it would be stored; nothing was. `problems` is empty exactly when it could be.

    newest      what is stored under the name now; None for a new name
    policy      the draft as the next version; None while there are problems
    changes     from `newest` to the draft; empty when it says the same, or there is no newest
    outlook     the draft explained; None while there are problems
    """

    name: str
    newest: GatePolicyVersion | None
    policy: GatePolicy | None
    problems: tuple[InvalidInput, ...]
    changes: tuple[PolicyChange, ...]
    outlook: PolicyOutlook | None

    @property
    def reference(self) -> str:
        """What it would be stored as, or is stored as when it says the same as the newest: `name@version`."""
        if self.newest is None:
            return f"{self.name}@1"
        return f"{self.name}@{self.newest.version + (1 if self.changes or self.policy is None else 0)}"

    @property
    def same(self) -> bool:
        """The newest version says the same already."""
        return self.newest is not None and self.policy is not None and not self.changes


@requires(Action.EDIT_GATE_POLICY)
def define_gate_policy(
    *,
    name: str,
    body: Mapping[str, Any],
    now: datetime,
    actor: Actor,
    expected_version: int | None = None,
    edges: Edges | None = None,
    note: str = "",
) -> GatePolicyVersion:
    """Stores a policy as the next version of `name`; the same content as the newest gives that one back.

    body                a policy as a person writes it; its name and version are not looked at
    expected_version    the version that `body` is an edit of, 0 for none; None for whatever is the newest
    edges               signal -> histogram edges that a latency gate's SLO must be one of; None: not checked here
    Raises Forbidden, InvalidInput naming the field, and Conflict (`policy-changed`) when somebody stored a newer
    version than the expected one; its number is `extra["newest"]`.
    """
    newest = newest_version(name)
    policy = read_policy(name=name, body=body, newest=newest, edges=edges)
    if newest is not None and not policy_changes(newest.policy, policy):
        return newest
    if newest is None:
        _check_name(name)
    if expected_version is not None and expected_version != (newest.version if newest else 0):
        raise _changed(name, newest, expected_version, now)
    stored = policy.to_json()
    try:
        with transaction.atomic():
            made = GatePolicyVersion.objects.create(
                name=name,
                version=policy.version,
                body=stored,
                digest=digest_of(stored),
                created_at=now,
                created_by=actor.name,
                note=note.strip(),
            )
            record(
                at=now,
                actor=actor.name,
                actor_kind=actor.kind,
                action="gate-policy.defined",
                object_kind="gate-policy",
                object_id=str(made),
                before={"newest": str(newest)} if newest else None,
                after={
                    "digest": made.digest,
                    "changes": [one.to_json() for one in policy_changes(newest.policy, policy)]
                    if newest
                    else [],
                },
                why=note.strip(),
                request_id=actor.request_id,
            )
    except IntegrityError as error:  # somebody stored the same version between our look and our write
        raise _changed(name, newest_version(name), newest.version if newest else 0, now) from error
    return made


@requires(Action.EDIT_GATE_POLICY)
def define_from_document(
    *,
    name: str,
    document: PolicyDocument,
    now: datetime,
    actor: Actor,
    expected_version: int | None = None,
    edges: Edges | None = None,
    note: str = "",
) -> GatePolicyVersion:
    """`define_gate_policy` of a text: its own version counts as the expected one unless another is given, and its
    own name must be `name`. A refusal has the line of the field in its `extra`."""
    try:
        check_document_name(name, document)
        return define_gate_policy(
            name=name,
            body=document.body,
            now=now,
            actor=actor,
            expected_version=_expected(name, document, expected_version),
            edges=edges,
            note=note,
        )
    except InvalidInput as error:
        raise document.located(error) from None


def check_gate_policy(
    *,
    name: str,
    body: Mapping[str, Any],
    now: datetime,
    endpoint: Endpoint | None = None,
    edges: Edges | None = None,
    exposures: Sequence[int] = EXPOSURES,
) -> PolicyCheck:
    """What is wrong with a draft, field by field, or what it would do. Stores nothing.

    endpoint    whose last 24 hours and newest plan the numbers are from; None for assumed ones
    """
    newest = newest_version(name)
    content = {**_content(body), "name": name or "unnamed", "version": newest.version + 1 if newest else 1}
    problems = list(policy_problems(content))
    if newest is None:
        try:
            _check_name(name)
        except InvalidInput as error:
            problems.insert(0, error)
    policy = None
    if not policy_problems(content):
        policy = GatePolicy.from_json(content)
        problems += tuple(policy.edge_problems(edges).values())
    return PolicyCheck(
        name=name,
        newest=newest,
        policy=None if problems else policy,
        problems=tuple(problems),
        changes=policy_changes(newest.policy, policy) if newest and policy else (),
        outlook=explain(policy, endpoint=endpoint, now=now, exposures=exposures)
        if policy and not problems
        else None,
    )


def explain(
    policy: GatePolicy, *, endpoint: Endpoint | None, now: datetime, exposures: Sequence[int] = EXPOSURES
) -> PolicyOutlook:
    """A policy explained with the numbers of an endpoint, or assumed ones: at most 3 queries."""
    traffic = traffic_for(endpoint=endpoint, policy=policy, now=now)
    return explain_policy(
        policy,
        traffic=traffic,
        steps=steps_for(endpoint=endpoint, requests_per_second=traffic.per_second),
        exposures=exposures,
    )


@requires(Action.EDIT_ENDPOINT)
def set_endpoint_policy(
    *,
    endpoint_name: str,
    reference: str,
    actor: Actor,
    now: datetime,
    expected: str = "",
    worlds: Worlds | None = None,
) -> Endpoint:
    """Makes `reference` (NAME@VERSION, or NAME for its newest) the policy of the endpoint's next rollouts.

    A rollout that runs keeps the policy it was started with. The same policy again changes nothing.
    expected    the policy that the asker saw (NAME@VERSION); empty for whatever it is now
    worlds      the router of the endpoint's cluster says which SLO it can measure; None: not checked here
    Raises Forbidden, NotFound, InvalidInput (unknown policy; a gate that this endpoint cannot measure), Conflict.
    """
    chosen = find_gate_policy(reference)
    with transaction.atomic():
        endpoint = (
            locked_endpoints().select_related("gate_policy", "golden_set").filter(name=endpoint_name).first()
        )
        if endpoint is None:
            raise NotFound(f"There is no endpoint {endpoint_name!r}.", code="endpoint-not-found")
        before = endpoint.gate_policy
        if before.pk == chosen.pk:
            return endpoint
        if expected and expected != str(before):
            raise Conflict(
                f"{endpoint_name} uses {before} meanwhile, not {expected}.",
                code="policy-changed",
                fix="Look at it again and decide anew.",
                extra={"current": str(before)},
            )
        edges = None if worlds is None else worlds.edges_of(endpoint.cluster.name)
        _check_measurable(chosen.policy, endpoint, edges)
        endpoint.gate_policy = chosen
        endpoint.save(update_fields=["gate_policy"])
        note_change(
            endpoint=endpoint,
            action="endpoint.gate-policy-set",
            kind="gate-policy",
            title=f"Gate policy {before} → {chosen}",
            detail="for the next rollout; one that runs keeps its own",
            before={"gate_policy": str(before)},
            after={"gate_policy": str(chosen)},
            actor=actor,
            now=now,
        )
    return endpoint


def newest_version(name: str) -> GatePolicyVersion | None:
    """The newest version of a policy; None when there is none of that name."""
    return GatePolicyVersion.objects.filter(name=name).order_by("-version").first()


def find_policy(name: str, version: int | None = None) -> GatePolicyVersion:
    """One version, or the newest. Raises NotFound."""
    found = newest_version(name)
    if found is not None and version is not None:
        found = GatePolicyVersion.objects.filter(name=name, version=version).first()
    if found is None:
        wanted = name if version is None else f"{name}@{version}"
        raise NotFound(f"There is no gate policy {wanted!r}.", code="gate-policy-not-found")
    return found


def read_policy(
    *, name: str, body: Mapping[str, Any], newest: GatePolicyVersion | None, edges: Edges | None
) -> GatePolicy:
    """`body` as the version after `newest`. Raises InvalidInput naming the first field that is wrong; with several,
    all of them are in `extra["problems"]`."""
    content = {**_content(body), "name": name, "version": newest.version + 1 if newest else 1}
    problems = policy_problems(content)
    if not problems:
        policy = GatePolicy.from_json(content)
        problems = tuple(policy.edge_problems(edges).values())
        if not problems:
            return policy
    raise first_of(problems)


def first_of(problems: Sequence[InvalidInput]) -> InvalidInput:
    """The first problem, with all of them in `extra["problems"]` when there are more."""
    first = problems[0]
    if len(problems) > 1:
        listed = [{"field": one.field, "detail": one.message, "fix": one.fix} for one in problems]
        first.extra = {**first.extra, "problems": listed}
    return first


def check_document_name(name: str, document: PolicyDocument) -> None:
    """Raises InvalidInput when the text names another policy than the one it is sent for."""
    if document.name and document.name != name:
        raise InvalidInput(
            f"The text is of the policy {document.name!r}, not of {name!r}.",
            field="name",
            fix=f"Write name: {name}, or leave name and version out.",
        )


def _expected(name: str, document: PolicyDocument, given: int | None) -> int | None:
    """A text that names its version is an edit of that version; under a new name there is nothing to lose."""
    if given is not None or document.version is None:
        return given
    return document.version if newest_version(name) is not None else None


def _content(body: Mapping[str, Any]) -> dict[str, Any]:
    return as_written({key: value for key, value in body.items() if key not in ("name", "version")})


def _check_name(name: str) -> None:
    if NAME.fullmatch(name) is None:
        raise InvalidInput(
            f"{name!r} is no name of a policy." if name else "The policy needs a name.",
            field="name",
            fix="Lower-case letters, digits and dashes, at most 60, a letter first.",
        )
    if name in RESERVED:
        raise InvalidInput(
            f"{name!r} has a meaning of its own here.", field="name", fix="Choose another name."
        )


def _check_measurable(policy: GatePolicy, endpoint: Endpoint, edges: Edges | None) -> None:
    if endpoint.golden_set is None and any(gate.kind == "paired" for gate in policy.gates):
        raise InvalidInput(
            f"{policy.reference} has a gate on a golden set, and {endpoint.name} has none.",
            field="gate_policy",
            fix="Choose a policy without one, or give the endpoint a golden set.",
        )
    problems = tuple(policy.edge_problems(edges).values())
    if problems:
        raise InvalidInput(
            f"{policy.reference} cannot be measured here: {problems[0].message}",
            field="gate_policy",
            fix=problems[0].fix,
        )


def _changed(name: str, newest: GatePolicyVersion | None, expected: int, now: datetime) -> Conflict:
    if newest is None:
        return Conflict(
            f"There is no policy {name!r} yet, so none of its versions can be edited.",
            code="policy-changed",
            fix="Leave the version out to make its first one.",
            extra={"newest": 0, "expected": expected},
        )
    ago = duration_of_seconds((now - newest.created_at).total_seconds())
    by = newest.created_by or HEADGATE.name
    edited = f"{name}@{expected}" if expected else "a policy that did not exist"
    return Conflict(
        f"{newest} was stored by {by} {ago} ago, and this is an edit of {edited}.",
        code="policy-changed",
        fix=f"Look at what {newest} changed, and decide again.",
        extra={"newest": newest.version, "expected": expected},
    )
