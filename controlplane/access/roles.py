"""Who may do what. Pure: no Django, no database. This is the only place that knows.

Roles are ordered; whoever has a role may do all that the roles below it may. Rolling back belongs to
CONTROL_ROLLOUT, so that everybody who may start a rollout may also end it.
"""

from __future__ import annotations

from enum import StrEnum

from controlplane.kernel.errors import Forbidden


class Role(StrEnum):
    """A person's role, lowest first."""

    VIEWER = "viewer"
    ENGINEER = "engineer"
    RELEASE_MANAGER = "release_manager"
    ADMINISTRATOR = "administrator"

    @property
    def words(self) -> str:
        """The role as people write it: `release manager`."""
        return self.value.replace("_", " ")

    @property
    def rank(self) -> int:
        """0 for the lowest role."""
        return list(Role).index(self)

    def includes(self, other: Role) -> bool:
        """True when this role may do all that `other` may."""
        return self.rank >= other.rank


class Action(StrEnum):
    """Something a person may want to do."""

    VIEW = "view"
    RATE_ANSWER = "rate an answer"
    CHANGE_OWN_ACCESS = "change one's own password, sessions and tokens"
    START_ROLLOUT = "start a rollout"
    CONTROL_ROLLOUT = "pause, resume or roll back a rollout"
    UPLOAD_GOLDEN_SET = "upload a golden set"
    START_WEAKER = "start a rollout under a weaker policy than the endpoint's"
    PROMOTE_NOW = "promote a rollout before its gates are done"
    GLOBAL_STOP = "set or lift the global stop"
    EDIT_ENDPOINT = "change an endpoint"
    EDIT_GATE_POLICY = "store a gate policy"
    MANAGE_CLUSTERS = "write a cluster down"
    MANAGE_ACCESS = "manage people and their roles"


LOWEST_ROLE: dict[Action, Role] = {
    Action.VIEW: Role.VIEWER,
    Action.RATE_ANSWER: Role.VIEWER,
    Action.CHANGE_OWN_ACCESS: Role.VIEWER,
    Action.START_ROLLOUT: Role.ENGINEER,
    Action.CONTROL_ROLLOUT: Role.ENGINEER,
    Action.UPLOAD_GOLDEN_SET: Role.ENGINEER,
    Action.START_WEAKER: Role.RELEASE_MANAGER,
    Action.PROMOTE_NOW: Role.RELEASE_MANAGER,
    Action.GLOBAL_STOP: Role.RELEASE_MANAGER,
    Action.EDIT_ENDPOINT: Role.RELEASE_MANAGER,
    Action.EDIT_GATE_POLICY: Role.RELEASE_MANAGER,
    Action.MANAGE_CLUSTERS: Role.ADMINISTRATOR,
    Action.MANAGE_ACCESS: Role.ADMINISTRATOR,
}


def allows(role: Role | str, action: Action) -> bool:
    """True when a person with `role` may do `action`. Raises ValueError for a role that does not exist."""
    return Role(role).includes(LOWEST_ROLE[action])


def refusal(role: Role | str, action: Action) -> str:
    """Why `role` may not do `action` ("Needs release manager."), or an empty string when it may."""
    return "" if allows(role, action) else f"Needs {LOWEST_ROLE[action].words}."


def require(role: Role | str, action: Action) -> None:
    """Raises Forbidden naming the lowest role that may do `action`, unless `role` may."""
    reason = refusal(role, action)
    if reason:
        raise Forbidden(
            reason,
            fix=f"You are {Role(role).words}; ask somebody who may {action.value}.",
            extra={"needs": LOWEST_ROLE[action].value, "role": Role(role).value},
        )
