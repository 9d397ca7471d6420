"""A variant: the immutable bundle of a version and how it is served. Its name is a hash of its content."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any, Self

from controlplane.kernel.credentials import HIDDEN, is_like_a_credential, names_a_credential
from controlplane.kernel.digests import digest_of
from controlplane.kernel.errors import InvalidInput
from controlplane.kernel.foreign import shown_value
from rollouts.domain.accelerators import Accelerators
from rollouts.domain.images import Image
from rollouts.domain.secrets import SECRETS, KeptSecret, Secret, read_secret

HASH_LENGTH = 6
_SERVER = re.compile(r"[a-z0-9](?:[a-z0-9.-]{0,251}[a-z0-9])?")  # as Kubernetes names a Deployment
_OF_THE_OWNER = (
    "arguments",
    "environment",
    "resources",
    "image",
    "accelerators",
)  # of a server that is adopted


@dataclass(frozen=True, slots=True)
class ServingSpec:
    """How a version is served.

    engine       the engine template's name
    arguments    engine arguments by name without dashes: texts, numbers, true or false, or objects of these. What may
                 be set is said by the engine's options
    environment  variables of the engine, likewise; of a secret one the value as it was sent, until a service has sealed
                 it, or a Secret
    resources    what one replica needs, for example {"memory_mb": 3000}
    image        the container image that the engine is started from; None: the cluster's own
    accelerators that one replica has to itself; None: none
    adopts       the Deployment of somebody else that runs already and answers for the variant, as its owner started it;
                 empty: Headgate launches the engine
    """

    engine: str = "vllm"
    arguments: Mapping[str, Any] = field(default_factory=dict)
    environment: Mapping[str, str | Secret] = field(default_factory=dict, repr=False)
    resources: Mapping[str, int] = field(default_factory=dict)
    replicas: int = 1
    image: Image | None = None
    accelerators: Accelerators | None = None
    adopts: str = ""

    @property
    def to_launch(self) -> Self:
        """The same for a version that Headgate launches: of a server that was adopted, only its replicas are known."""
        return replace(self, adopts="") if self.adopts else self

    @property
    def secrets(self) -> dict[str, Secret]:
        """The variables that are secrets, by name."""
        return {name: value for name, value in self.environment.items() if isinstance(value, SECRETS)}

    def to_json(self) -> dict[str, Any]:
        """As it is stored. Only of a spec whose secrets are sealed."""
        return self._json({name: value.to_json() for name, value in self.secrets.items()})

    def identity(self) -> dict[str, Any]:
        """What its variant's digest covers. Without secrets it is `to_json`, as it always was."""
        return self._json({name: value.identity() for name, value in self.secrets.items()})

    def to_public(self) -> dict[str, Any]:
        """What may be shown: of a secret that it is set, or the reference.

        Variants from before secrets were told apart may hold some in the clear: those that look like one are not shown.
        """
        shown: dict[str, Any] = {name: value.to_public() for name, value in self.secrets.items()}
        for name, value in self.environment.items():
            if isinstance(value, str) and (names_a_credential(name) or is_like_a_credential(value)):
                shown[name] = KeptSecret("").to_public()
        found = self._json(shown)
        return found | {
            "arguments": {name: _public(name, value) for name, value in found["arguments"].items()}
        }

    def _json(self, secrets: Mapping[str, Any]) -> dict[str, Any]:
        # Left out where they are not set: variants from before there were any keep their digests, and so their names.
        image = {} if self.image is None else {"image": str(self.image)}
        accelerators = {} if self.accelerators is None else {"accelerators": self.accelerators.to_json()}
        adopts = {"adopts": self.adopts} if self.adopts else {}
        return {
            "engine": self.engine,
            "arguments": dict(sorted(self.arguments.items())),
            "environment": dict(sorted({**self.environment, **secrets}.items())),
            "resources": dict(sorted(self.resources.items())),
            "replicas": self.replicas,
            **image,
            **accelerators,
            **adopts,
        }

    @classmethod
    def from_json(cls, data: Mapping[str, Any], *, stored: bool = False) -> Self:
        """A spec as a client sent it; with `stored`, as `to_json` gave it.

        Raises InvalidInput naming the field, such as `serving.arguments`.
        """
        known = {"engine", "replicas", "adopts", *_OF_THE_OWNER}
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
        environment: dict[str, str | Secret] = {}
        for name, value in data.get("environment", {}).items():
            where = f"serving.environment.{name}"
            if isinstance(value, Mapping) and "secret" in value:
                environment[str(name)] = read_secret(value, where=where, stored=stored)
                continue
            if isinstance(value, bool) or not _is_plain(value):
                raise InvalidInput("A variable of the engine is a text, a number or a secret.", field=where)
            environment[str(name)] = str(value)
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
            environment=environment,
            resources={str(k): v for k, v in data.get("resources", {}).items()},
            replicas=replicas,
            image=_image(data.get("image"), stored=stored),
            accelerators=_accelerators(data.get("accelerators"), stored=stored),
            adopts=str(data.get("adopts", "")) if stored else _adopts(data),
        )


def _adopts(data: Mapping[str, Any]) -> str:
    """The server that is adopted, of which nothing else may be asked; empty: none is."""
    name = data.get("adopts")
    if name is None or name == "":
        return ""
    if not (isinstance(name, str) and _SERVER.fullmatch(name)):
        raise InvalidInput(
            f"{shown_value(name)} is no name of a Deployment.",
            field="serving.adopts",
            fix="Write its name alone, as `kubectl get deployments` shows it.",
        )
    for part in (*_OF_THE_OWNER, "replicas"):
        if data.get(part) and not (part == "replicas" and data[part] == 1):
            raise InvalidInput(
                "A server that is adopted runs as its owner started it.",
                field=f"serving.{part}",
                fix="Leave it out, or let Headgate launch the version.",
            )
    return name


def _image(value: Any, *, stored: bool) -> Image | None:
    if value is None:
        return None
    return Image.stored(value) if stored else Image.parse(value, field="serving.image")


def _accelerators(value: Any, *, stored: bool) -> Accelerators | None:
    if value is None:
        return None
    return (
        Accelerators.stored(value) if stored else Accelerators.from_json(value, field="serving.accelerators")
    )


def _is_plain(value: Any) -> bool:
    # 1e999 is read as infinity, which no digest covers.
    return isinstance(value, str | int) or (isinstance(value, float) and math.isfinite(value))


def _public(name: str, value: Any) -> Any:
    """An argument's value as it may be shown."""
    if isinstance(value, Mapping):
        return {str(key): _public(str(key), part) for key, part in value.items()}
    hidden = isinstance(value, str) and (names_a_credential(name) or is_like_a_credential(value))
    return HIDDEN if hidden else value


def variant_digest(*, manifest_digest: str, spec: ServingSpec) -> str:
    """The digest of what would run: the version's files and the serving spec, and nothing else.

    Of a secret it covers the fingerprint or the reference: values cannot be tried against a digest that is known.
    """
    return digest_of({"manifest": manifest_digest, "serving": spec.identity()})


def endpoint_of(variant: str) -> str:
    """The endpoint in a variant's name; the name itself when it is none of ours."""
    parts = variant.rsplit("-", 2)
    return parts[0] if len(parts) == 3 else variant


def variant_name(*, endpoint: str, version: int, digest: str) -> str:
    """`ENDPOINT-vVERSION-HASH`, for example chat-v15-3f9a1c."""
    return f"{endpoint}-v{version}-{digest.removeprefix('sha256:')[:HASH_LENGTH]}"
