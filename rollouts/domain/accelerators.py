"""The accelerators that one replica of an engine has to itself."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Self

from controlplane.kernel.errors import InvalidInput

MOST = 64
LONGEST = 253
# As clusters name what a node can give, for example nvidia.com/gpu or nvidia.com/mig-1g.10gb.
RESOURCE = re.compile(
    r"[a-z0-9](?:[a-z0-9-]*[a-z0-9])?(?:\.[a-z0-9](?:[a-z0-9-]*[a-z0-9])?)*/[A-Za-z0-9](?:[A-Za-z0-9_.-]{0,61}[A-Za-z0-9])?"
)
KNOWN = ("count", "resource")


@dataclass(frozen=True, slots=True)
class Accelerators:
    """So many of a resource, as the cluster names it."""

    count: int
    resource: str

    @classmethod
    def from_json(cls, data: Any, *, field: str) -> Self:
        """As somebody sent it. Raises InvalidInput below this field."""
        fix = 'Write {"count": 1, "resource": "nvidia.com/gpu"}, with the name that the cluster has for it.'
        if not isinstance(data, Mapping):
            raise InvalidInput("Accelerators are an object.", field=field, fix=fix)
        for name in data:
            if name not in KNOWN:
                raise InvalidInput(
                    f"{name!r} is not known here.", field=f"{field}.{name}", fix=f"Known: {', '.join(KNOWN)}."
                )
        count, resource = data.get("count"), data.get("resource")
        if isinstance(count, bool) or not isinstance(count, int) or not 1 <= count <= MOST:
            raise InvalidInput(
                f"The count of accelerators is a whole number from 1 to {MOST}.",
                field=f"{field}.count",
                fix=f"{fix} Leave accelerators out for none.",
            )
        if not isinstance(resource, str) or len(resource) > LONGEST or not RESOURCE.fullmatch(resource):
            raise InvalidInput(
                "The resource is a name such as nvidia.com/gpu.", field=f"{field}.resource", fix=fix
            )
        return cls(count, resource)

    @classmethod
    def stored(cls, data: Mapping[str, Any]) -> Self:
        """As `to_json` gave it; not checked again."""
        return cls(data["count"], data["resource"])

    def to_json(self) -> dict[str, Any]:
        return {"count": self.count, "resource": self.resource}

    def __str__(self) -> str:
        return f"{self.count} x {self.resource}"
