"""A variant: the immutable bundle of a version and how it is served. Its name is a hash of its content."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Self

from controlplane.kernel.digests import digest_of
from controlplane.kernel.errors import InvalidInput

HASH_LENGTH = 6


@dataclass(frozen=True, slots=True)
class ServingSpec:
    """How a version is served.

    engine       the engine template's name
    arguments    engine arguments by name without dashes: texts, numbers, true or false, or objects of these. What may
                 be set is said by the engine's options
    environment  variables of the engine, likewise
    resources    what one replica needs, for example {"memory_mb": 3000}
    """

    engine: str = "vllm"
    arguments: Mapping[str, Any] = field(default_factory=dict)
    environment: Mapping[str, str] = field(default_factory=dict)
    resources: Mapping[str, int] = field(default_factory=dict)
    replicas: int = 1

    def to_json(self) -> dict[str, Any]:
        return {
            "engine": self.engine,
            "arguments": dict(sorted(self.arguments.items())),
            "environment": dict(sorted(self.environment.items())),
            "resources": dict(sorted(self.resources.items())),
            "replicas": self.replicas,
        }

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> Self:
        """Raises InvalidInput naming the field, such as `serving.arguments`."""
        known = {"engine", "arguments", "environment", "resources", "replicas"}
        for name in data:
            if name not in known:
                raise InvalidInput(
                    f"{name!r} is not known here.",
                    field=f"serving.{name}",
                    fix=f"Known: {', '.join(sorted(known))}.",
                )
        for name in ("arguments", "environment", "resources"):
            if not isinstance(data.get(name, {}), Mapping):
                raise InvalidInput("This must be an object.", field=f"serving.{name}")
        for name, value in data.get("arguments", {}).items():
            parts = value.values() if isinstance(value, Mapping) and value else [value]
            if not all(_is_plain(part) for part in parts):
                raise InvalidInput(
                    "An engine argument is a text, a number, true or false, or an object of these.",
                    field=f"serving.arguments.{name}",
                )
        for name, value in data.get("environment", {}).items():
            if isinstance(value, bool) or not _is_plain(value):
                raise InvalidInput(
                    "A variable of the engine is a text or a number.", field=f"serving.environment.{name}"
                )
        for name, value in data.get("resources", {}).items():
            if isinstance(value, bool) or not isinstance(value, int) or value < 0:
                raise InvalidInput(
                    "A resource is a whole number, 0 or more.", field=f"serving.resources.{name}"
                )
        replicas = data.get("replicas", 1)
        if isinstance(replicas, bool) or not isinstance(replicas, int) or not 1 <= replicas <= 64:
            raise InvalidInput("Replicas are a whole number from 1 to 64.", field="serving.replicas")
        return cls(
            engine=str(data.get("engine", "vllm")),
            arguments=dict(data.get("arguments", {})),
            environment={str(k): str(v) for k, v in data.get("environment", {}).items()},
            resources={str(k): v for k, v in data.get("resources", {}).items()},
            replicas=replicas,
        )


def _is_plain(value: Any) -> bool:
    # 1e999 is read as infinity, which no digest covers.
    return isinstance(value, str | int) or (isinstance(value, float) and math.isfinite(value))


def variant_digest(*, manifest_digest: str, spec: ServingSpec) -> str:
    """The digest of what would run: the version's files and the serving spec, and nothing else."""
    return digest_of({"manifest": manifest_digest, "serving": spec.to_json()})


def variant_name(*, endpoint: str, version: int, digest: str) -> str:
    """`ENDPOINT-vVERSION-HASH`, for example chat-v15-3f9a1c."""
    return f"{endpoint}-v{version}-{digest.removeprefix('sha256:')[:HASH_LENGTH]}"
