"""The rule of a service: who may do what it does. Written once, at the service, and read by every door.

    @requires(Action.EDIT_ENDPOINT)
    def set_rescue(*, endpoint_name: str, on: bool, actor: Actor, now: datetime) -> Endpoint: ...

Pages and the REST API never say which role a call needs: they ask `action_of(set_rescue)`.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import wraps
from typing import Any, ParamSpec, TypeVar

from controlplane.access.actors import Actor
from controlplane.access.once_more import once_more
from controlplane.access.roles import Action

P = ParamSpec("P")
T = TypeVar("T")


def requires(action: Action) -> Callable[[Callable[P, T]], Callable[P, T]]:
    """Makes a service check its `actor` before anything else: before what was named is looked for, too.

    The service takes `actor` by keyword, without a default. Raises Forbidden naming the role. What the database breaks
    off because two waited for each other is done once more.
    """

    def decorate(service: Callable[P, T]) -> Callable[P, T]:
        @wraps(service)
        def checked(*args: P.args, **kwargs: P.kwargs) -> T:
            actor = kwargs.get("actor")
            if not isinstance(actor, Actor):
                raise TypeError(f"{service.__name__} needs to know who asks: actor=...")
            actor.require(action)
            return once_more(lambda: service(*args, **kwargs))

        checked.action = action  # type: ignore[attr-defined]
        return checked

    return decorate


def action_of(service: Callable[..., Any]) -> Action:
    """What a service requires. Raises TypeError for one without a rule, so that no door opens by accident."""
    action = getattr(service, "action", None)
    if not isinstance(action, Action):
        raise TypeError(f"{getattr(service, '__name__', service)} has no rule who may call it.")
    return action
