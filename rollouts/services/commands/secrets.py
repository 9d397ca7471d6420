"""Secrets of serving specs: sealed before anything is stored, and put under the newest key."""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace

from django.db import transaction

from controlplane.kernel.credentials import is_like_a_credential, names_a_credential
from controlplane.kernel.errors import HeadgateError, InvalidInput
from controlplane.sealing.keys import KeyMissing
from controlplane.sealing.services import (
    fingerprint,
    fingerprint_tried_dry,
    key_ring,
    renew_fingerprint_key,
    seal,
)
from rollouts.domain.engine_options import EngineOptions, OptionKind
from rollouts.domain.secrets import KeptSecret, SealedSecret, Secret
from rollouts.domain.variants import ServingSpec
from rollouts.models import Variant
from rollouts.services.world import Worlds

log = logging.getLogger(__name__)


def sealed_spec(*, spec: ServingSpec, options: EngineOptions | None, stable: Variant | None) -> ServingSpec:
    """The spec with every secret value sealed, and those that are to be kept taken from the stable variant.

    options  say which variables are secret; None (nobody can say now): all texts are taken for secrets

    Raises InvalidInput naming the field (nothing is set that could be kept), Refused without a key.
    """
    return _with_secrets(
        spec, options, stable, lambda name, value: SealedSecret(seal(value), fingerprint(name, value))
    )


def spec_tried_dry(
    *, spec: ServingSpec, options: EngineOptions | None, stable: Variant | None
) -> ServingSpec:
    """Like `sealed_spec`, for a dry run: nothing is written and no secret is in it. The variant is called as it will
    be, except before the installation's first stored secret (`fingerprint_tried_dry`)."""
    return _with_secrets(
        spec, options, stable, lambda name, value: SealedSecret("", fingerprint_tried_dry(name, value))
    )


def _with_secrets(
    spec: ServingSpec,
    options: EngineOptions | None,
    stable: Variant | None,
    secret_of: Callable[[str, str], SealedSecret],
) -> ServingSpec:
    known = None if options is None else {one.name: one.kind for one in options.variables}
    before = stable.spec.secrets if stable is not None else {}
    environment: dict[str, str | Secret] = {}
    for name, value in spec.environment.items():
        if isinstance(value, KeptSecret):
            environment[name] = _from_stable(name, value, before)
        elif isinstance(value, str) and (known is None or known.get(name) is OptionKind.SECRET):
            environment[name] = secret_of(name, value)
        else:
            environment[name] = value
    return replace(spec, environment=environment)


def _from_stable(name: str, asked: KeptSecret, before: Mapping[str, Secret]) -> SealedSecret:
    found = before.get(name)
    if isinstance(found, SealedSecret) and asked.fingerprint in ("", found.fingerprint):
        return found
    raise InvalidInput(
        f"The stable variant has no such value of {name} that could be kept.",
        field=f"serving.environment.{name}",
        fix="Give the value itself, or a reference to a secret.",
        code="secret-not-set",
    )


@dataclass(frozen=True, slots=True)
class Rotation:
    """What a rotation did. `problems`: what could not be opened, in words."""

    renewed: int
    already: int
    sealed: int
    problems: tuple[str, ...]


def rotate_secrets(*, worlds: Worlds) -> Rotation:
    """Puts every stored secret under the newest key, one variant at a time; and seals what an earlier version of
    Headgate stored in the clear. The names of variants do not change.

    May be stopped at any moment and run again: what is under the newest key already stays as it is. A secret whose key
    is missing is reported and stops no other.
    """
    renewed = already = sealed = 0
    problems: list[str] = []
    try:
        if renew_fingerprint_key():
            renewed += 1
    except KeyMissing as error:
        problems.append(str(error))
    for pk in Variant.objects.order_by("pk").values_list("pk", flat=True):
        try:
            one = _rotate_variant(pk)
        except HeadgateError as error:
            problems.append(str(error))
            continue
        renewed, already, sealed = renewed + one[0], already + one[1], sealed + one[2]
    for name in worlds.names:
        try:
            renewed += worlds.of(name).cluster.renew_secrets()
        except HeadgateError as error:
            problems.append(f"Cluster {name}: {error}")
    return Rotation(renewed, already, sealed, tuple(problems))


def _rotate_variant(pk: int) -> tuple[int, int, int]:
    """How many of its secrets were renewed, were under the newest key, and were in the clear. Raises KeyMissing."""
    with transaction.atomic():
        variant = Variant.objects.select_for_update().get(pk=pk)
        renewed = already = sealed = 0
        environment: dict[str, str | Secret] = {}
        for name, value in variant.spec.environment.items():
            environment[name] = value
            if isinstance(value, SealedSecret):
                fresh = key_ring().renew(value.sealed, what=f"{name} of {variant.name}")
                environment[name] = replace(value, sealed=fresh)
                renewed, already = renewed + (fresh != value.sealed), already + (fresh == value.sealed)
            elif isinstance(value, str) and (names_a_credential(name) or is_like_a_credential(value)):
                environment[name] = SealedSecret(seal(value), fingerprint(name, value))
                sealed += 1
        if renewed or sealed:
            spec = replace(variant.spec, environment=environment)
            Variant.objects.filter(pk=pk).update(serving=spec.to_json())
    return renewed, already, sealed
