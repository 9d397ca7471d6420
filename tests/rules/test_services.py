"""One rule behind every door: services check roles and write; pages, REST and the command only call them."""

from __future__ import annotations

import ast
from collections.abc import Callable
from datetime import datetime
from typing import Any

import pytest
from django.db import connection
from django.test.utils import CaptureQueriesContext

from controlplane.access.actors import Actor
from controlplane.access.roles import Role, allows
from controlplane.access.rules import action_of, requires
from controlplane.access.services import create_token
from controlplane.kernel.clock import SystemClock
from controlplane.kernel.errors import Forbidden
from rollouts import wiring
from rollouts.domain.restored import Restored, RestoredState
from rollouts.models import Endpoint, Rollout
from tests import factories
from tests.rules import writing

NOW = factories.right_now()

# --- what a door may do -------------------------------------------------------------------------------------------

# Doors that keep something of their own, which is no state of the product.
OWN_NOTES = {
    "controlplane/api/idempotency.py": "which calls were answered already",
    "controlplane/web/live.py": "that something changed, for open pages",
    "controlplane/web/health.py": "that a worker is alive",
}
# Services without a role that a door may call, and what stands in its place.
NOBODY_YET = {
    "controlplane.access.sign_in.check_sign_in": "who it is, is what it finds out; it brakes",
    "controlplane.access.services.find_token": "who it is, is what it finds out; notes the use",
    "registry.services.hooks.receive_delivery": "a machine; its signature is checked",
}


@pytest.mark.parametrize(
    "path",
    writing.files(writing.DOORS + writing.BEHIND),
    ids=lambda path: str(path.relative_to(writing.ROOT)),
)
def test_door__source__writes_no_model(path: Any) -> None:
    found = list(writing.writes_in(ast.parse(path.read_text())))
    if str(path.relative_to(writing.ROOT)) in OWN_NOTES:
        assert found, "it writes nothing any more: take it off the list"
    else:
        assert found == [], "services write; a page, a call, a task or a command calls one"


def test_doors__every_service_that_writes__has_a_rule_who_may() -> None:
    writers = writing.writing_services()
    open_ones = {
        f"{path.relative_to(writing.ROOT)} calls {name}"
        for path in writing.files(writing.DOORS)
        for name, service in writing.reached_from(path)
        if name in writers and not hasattr(service, "action") and name not in NOBODY_YET
    }
    assert open_ones == set(), "these can be reached by people, and check no role: @requires(...)"


def test_doors__services_on_the_list__are_still_called_and_still_write() -> None:
    reached = {name for path in writing.files(writing.DOORS) for name, _ in writing.reached_from(path)}
    assert set(NOBODY_YET) <= reached & set(writing.writing_services())


def test_writing_services__known_ones__are_found() -> None:
    """The search itself: it would prove nothing if it found nothing."""
    found = writing.writing_services()
    assert "rollouts.services.commands.start.start_rollout" in found
    assert "rollouts.services.commands.rollouts.pause_rollout" in found  # by what it calls
    assert "controlplane.access.account.end_access" in found
    assert "rollouts.services.preview.rollout.preview_rollout" not in found


@pytest.mark.parametrize(
    "source",
    ["Rollout.objects.create(x=1)", "row.save()", "rows.filter(pk=1).update(phase='x')", "row.delete()"],
)
def test_writes_in__a_door_that_writes__is_found(source: str) -> None:
    assert len(list(writing.writes_in(ast.parse(source)))) == 1


@pytest.mark.parametrize("source", ["words.update(other)", "hasher.update(body)", "row.refresh_from_db()"])
def test_writes_in__what_only_looks_like_it__is_not(source: str) -> None:
    assert not list(writing.writes_in(ast.parse(source)))


# --- every service with every role ------------------------------------------------------------------------------------

Arguments = Callable[[Actor, datetime], dict[str, Any]]


def paused() -> Rollout:
    return factories.rollout_paused(of=factories.endpoint())


def progressing() -> Rollout:
    return factories.rollout_progressing(of=factories.endpoint())


def _create_endpoint(actor: Actor, now: datetime) -> dict[str, Any]:
    other = factories.endpoint()
    stable = other.stable
    assert stable is not None
    return {
        "name": "new",
        "model": other.model,
        "version": stable.version,
        "serving": stable.spec,
        "gate_policy": other.gate_policy,
        "golden_set": other.golden_set,
        "cluster": other.cluster,
        "worlds": wiring.worlds(),
    }


def _start(actor: Actor, now: datetime) -> dict[str, Any]:
    made = factories.endpoint()
    return {
        "endpoint": made,
        "version_number": 2,
        "plan": factories.PLAN,
        "worlds": wiring.worlds(),
    }


def _choose(actor: Actor, now: datetime) -> dict[str, Any]:
    made = factories.endpoint()
    found = Restored(newest=9, since=now.timestamp(), quiet=SystemClock().reading())
    made.restored_state, made.restored = RestoredState.HELD, found.to_json()
    made.save()
    return {"endpoint_name": made.name, "choice": "return"}


def _rate(actor: Actor, now: datetime) -> dict[str, Any]:
    stable = factories.endpoint().stable
    assert stable is not None
    return {"endpoint_name": "triage", "request_id": "r-12345678", "variant": stable.name, "up": True}


def _replay(actor: Actor, now: datetime) -> dict[str, Any]:
    return {"rollout": factories.rollout_rolled_back(of=factories.endpoint())}


def _policy_body(made: Endpoint) -> dict[str, Any]:
    return {name: value for name, value in made.gate_policy.body.items() if name not in ("name", "version")}


def _document(actor: Actor, now: datetime) -> dict[str, Any]:
    from rollouts.services.policies.text import document_of

    return {"name": "another", "document": document_of(_policy_body(factories.endpoint()))}


def _own_password(actor: Actor, now: datetime) -> dict[str, Any]:
    return {
        "current": factories.PASSWORD,
        "new": "a staple for the horse",
        "end_tokens": True,
        "address": "10.0.0.1",
    }


def _own_token(actor: Actor, now: datetime) -> dict[str, Any]:
    assert actor.user is not None
    token, _ = create_token(user=actor.user, name="ci", scopes=["read"], expires_at=None, now=now)
    return {"token_id": token.pk}


CASES: dict[str, Arguments] = {
    "controlplane.access.account.change_password": _own_password,
    "controlplane.access.account.end_access": lambda actor, _: {
        "username": actor.name, "sessions": True, "tokens": True,
    },
    "controlplane.access.account.end_token": _own_token,
    "registry.services.golden.upload_golden_set": lambda *_: {
        "name": "tickets",
        "text": '{"messages": [{"role": "user", "content": "x"}], "expected": "y", "scorer": "exact"}',
    },
    "rollouts.services.commands.clusters.set_cluster": lambda *_: {
        "name": "paris", "kind": "local", "configuration": {}, "secret": "", "problems": lambda spec: (),
    },
    "rollouts.services.commands.rollouts.pause_rollout": lambda *_: {"rollout_id": progressing().pk},
    "rollouts.services.commands.rollouts.resume_rollout": lambda *_: {"rollout_id": paused().pk},
    "rollouts.services.commands.rollouts.promote_rollout": lambda *_: {"rollout_id": paused().pk},
    "rollouts.services.commands.rollouts.roll_back_rollout": lambda *_: {"rollout_id": paused().pk},
    "rollouts.services.commands.rollouts.cancel_rollout": lambda *_: {
        "rollout_id": factories.rollout_pending(of=factories.endpoint()).pk
    },
    "rollouts.services.commands.rollouts.set_global_stop": lambda *_: {"on": True, "why": "a drill"},
    "rollouts.services.commands.endpoints.create_endpoint": _create_endpoint,
    "rollouts.services.commands.endpoints.set_rescue": lambda *_: {
        "endpoint_name": factories.endpoint().name,
        "on": False,
    },
    "rollouts.services.commands.feedback.record_feedback": _rate,
    "rollouts.services.policies.versions.define_from_document": _document,
    "rollouts.services.policies.versions.define_gate_policy": lambda *_: {
        "name": "another", "body": _policy_body(factories.endpoint()),
    },
    "rollouts.services.policies.versions.set_endpoint_policy": lambda *_: {
        "endpoint_name": factories.endpoint().name, "reference": "triage-default",
    },
    "rollouts.services.evidence.replay.replay_part": _replay,
    "rollouts.services.commands.restored_choice.choose_after_restore": _choose,
    "rollouts.services.commands.start.start_rollout": _start,
}  # fmt: skip


def with_a_rule() -> dict[str, Callable[..., Any]]:
    return {name: service for name, service in writing.services().items() if hasattr(service, "action")}


def test_cases__every_service_with_a_rule__is_among_them() -> None:
    """A new service is tried with every role, or this fails."""
    assert set(CASES) == set(with_a_rule())


@pytest.mark.django_db
@pytest.mark.parametrize("role", Role)
@pytest.mark.parametrize("name", CASES)
def test_service__each_role__does_it_or_is_refused_before_anything_is_looked_up(
    name: str, role: Role
) -> None:
    service = with_a_rule()[name]
    actor = Actor.person(factories.person(role))
    arguments = CASES[name](actor, NOW)
    if allows(role, action_of(service)):
        service(**arguments, actor=actor, now=NOW)
        return
    with (
        CaptureQueriesContext(
            connection,
        ) as asked,
        pytest.raises(Forbidden),
    ):
        service(**arguments, actor=actor, now=NOW)
    assert len(asked) == 0, "whether the thing exists is not asked for somebody who may not"


@pytest.mark.django_db
@pytest.mark.parametrize("name", [name for name in CASES if action_of(with_a_rule()[name]) != "view"])
def test_service__without_an_actor__is_an_error_of_the_program(name: str) -> None:
    """No default: a door that forgets to say who asks never acts as Headgate."""
    with pytest.raises(TypeError, match="needs to know who asks"):
        with_a_rule()[name](now=NOW)


def test_action_of__a_function_without_a_rule__is_an_error_of_the_program() -> None:
    with pytest.raises(TypeError, match="has no rule"):
        action_of(len)


def test_requires__what_it_wraps__keeps_its_name_and_words() -> None:
    @requires(action_of(with_a_rule()["rollouts.services.commands.start.start_rollout"]))
    def some(*, actor: Actor) -> str:
        """Words."""
        return actor.name

    assert (some.__name__, some.__doc__) == ("some", "Words.")
