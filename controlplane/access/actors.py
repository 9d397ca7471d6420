"""Who does something, as services take it: a person, a token that acts for one, or Headgate itself."""

from __future__ import annotations

from dataclasses import dataclass

from controlplane.access.models import User
from controlplane.access.roles import Action, require


@dataclass(frozen=True, slots=True)
class Actor:
    """`name` is what history and audit show; `kind` is person, token or headgate; `user` is None for Headgate."""

    user: User | None
    name: str
    kind: str
    request_id: str = ""

    @classmethod
    def person(cls, user: User, *, request_id: str = "") -> Actor:
        """A signed-in person."""
        return cls(user=user, name=user.username, kind="person", request_id=request_id)

    def require(self, action: Action) -> None:
        """Raises Forbidden naming the role that may do `action`. Headgate itself may do all."""
        if self.user is not None:
            require(self.user.role, action)


HEADGATE = Actor(user=None, name="Headgate", kind="headgate")
