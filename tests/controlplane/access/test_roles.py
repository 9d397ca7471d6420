"""Who may do what: the whole grid, without Django."""

from __future__ import annotations

import pytest

from controlplane.access.roles import Action, Role, allows, refusal, require
from controlplane.kernel.errors import Forbidden

EVERYBODY = set(Role)
ENGINEERS_UP = {Role.ENGINEER, Role.RELEASE_MANAGER, Role.ADMINISTRATOR}
MANAGERS_UP = {Role.RELEASE_MANAGER, Role.ADMINISTRATOR}

MAY = {
    Action.VIEW: EVERYBODY,
    Action.RATE_ANSWER: EVERYBODY,
    Action.CHANGE_OWN_ACCESS: EVERYBODY,
    Action.START_ROLLOUT: ENGINEERS_UP,
    Action.CONTROL_ROLLOUT: ENGINEERS_UP,
    Action.UPLOAD_GOLDEN_SET: ENGINEERS_UP,
    Action.START_WEAKER: MANAGERS_UP,
    Action.PROMOTE_NOW: MANAGERS_UP,
    Action.GLOBAL_STOP: MANAGERS_UP,
    Action.EDIT_ENDPOINT: MANAGERS_UP,
    Action.EDIT_GATE_POLICY: MANAGERS_UP,
    Action.MANAGE_CLUSTERS: {Role.ADMINISTRATOR},
    Action.MANAGE_ACCESS: {Role.ADMINISTRATOR},
}


def test_grid__every_action__is_decided() -> None:
    assert set(MAY) == set(Action)


@pytest.mark.parametrize("action", Action)
@pytest.mark.parametrize("role", Role)
def test_allows__role_and_action__matches_the_grid(role: Role, action: Action) -> None:
    assert allows(role, action) == (role in MAY[action])


def test_require__role_too_low__names_the_role_that_may() -> None:
    with pytest.raises(Forbidden) as caught:
        require(Role.ENGINEER, Action.PROMOTE_NOW)
    assert caught.value.message == "Needs release manager."
    assert caught.value.extra == {"needs": "release_manager", "role": "engineer"}


def test_require__role_high_enough__passes() -> None:
    require(Role.ADMINISTRATOR, Action.PROMOTE_NOW)


def test_refusal__role_may__is_empty() -> None:
    assert refusal("engineer", Action.CONTROL_ROLLOUT) == ""


def test_allows__unknown_role__is_an_error() -> None:
    with pytest.raises(ValueError, match="guest"):
        allows("guest", Action.VIEW)
