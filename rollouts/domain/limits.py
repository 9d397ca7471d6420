"""What a serving spec may ask of a cluster, whatever the engine."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass

from controlplane.kernel.errors import InvalidInput
from rollouts.domain.accelerators import Accelerators
from rollouts.domain.images import Image

ELSEWHERE = "serve the endpoint on another cluster."


@dataclass(frozen=True, slots=True)
class Limits:
    """What a cluster can give.

    resources     that it sets apart for an engine, by name
    replicas      of one variant at most
    images        repositories that engines may be started from. An image is code: what is not here is not run
    accelerators  resources of which an engine can have some to itself, as the cluster names them
    adopts        whether a server that somebody else runs there can answer for a variant
    """

    resources: frozenset[str] = frozenset()
    replicas: int = 1
    images: frozenset[str] = frozenset()
    accelerators: frozenset[str] = frozenset()
    adopts: bool = False

    def check(
        self,
        *,
        resources: Collection[str],
        replicas: int,
        image: Image | None,
        accelerators: Accelerators | None,
        adopts: str = "",
        prefix: str = "",
    ) -> None:
        """Raises InvalidInput for the first that it cannot give, with the field: `prefix` and the name of the part."""
        for name in sorted(resources):
            if name not in self.resources:
                raise InvalidInput(
                    f"This cluster sets no {name!r} apart for an engine.",
                    field=f"{prefix}resources.{name}",
                    fix=f"Leave it out, or use one of: {_names(self.resources)}.",
                )
        if replicas > self.replicas:
            raise InvalidInput(
                f"This cluster runs at most {self.replicas} of a variant, not {replicas}.",
                field=f"{prefix}replicas",
                fix=f"Ask for {self.replicas}, or {ELSEWHERE}",
            )
        if image is not None and image.repository not in self.images:
            what = f"from the image {image.repository}" if self.images else "from a container image"
            other = f"use one of: {_names(self.images)}" if self.images else ELSEWHERE.rstrip(".")
            raise InvalidInput(
                f"This cluster starts no engine {what}.",
                field=f"{prefix}image",
                fix=f"Leave it out, or {other}.",
            )
        self.check_adopts(adopts, prefix=prefix)
        if accelerators is not None and accelerators.resource not in self.accelerators:
            what = f"no {accelerators.resource}" if self.accelerators else "no accelerators"
            other = f"use one of: {_names(self.accelerators)}" if self.accelerators else ELSEWHERE.rstrip(".")
            field = f"{prefix}accelerators.resource" if self.accelerators else f"{prefix}accelerators"
            raise InvalidInput(
                f"This cluster gives an engine {what} to itself.",
                field=field,
                fix=f"Leave it out, or {other}.",
            )

    def check_adopts(self, server: str, *, prefix: str = "") -> None:
        """Raises InvalidInput for the name of a server where none can be adopted."""
        if server and not self.adopts:
            raise InvalidInput(
                "This cluster adopts no servers.",
                field=f"{prefix}adopts",
                fix=f"Leave it out, or {ELSEWHERE}",
            )


def _names(known: Collection[str]) -> str:
    return ", ".join(sorted(known)) or "none"
