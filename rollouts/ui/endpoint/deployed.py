"""Where the versions of a model run: a part of the registry's page that belongs to rollouts."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime

from controlplane.kernel.words import percent_of_bp
from rollouts.domain.lifecycle.states import ACTIVE
from rollouts.models import Arm, Variant
from rollouts.ui.parts.arm_words import colour_of

CANDIDATE = "candidate"


@dataclass(frozen=True, slots=True)
class DeployedRow:
    variant: str
    version: str
    endpoint: str
    environment: str
    share: str
    arm: int
    since: datetime | None


def deployed(*, model: str) -> tuple[DeployedRow, ...]:
    """Every variant of the model that runs or has traffic, the largest share first. Two queries."""
    variants = Variant.objects.filter(version__model__name=model).select_related(
        "version", "endpoint", "workload"
    )
    racing = Arm.objects.filter(
        variant__version__model__name=model, rollout__phase__in=[phase.value for phase in ACTIVE]
    )
    arms = dict(racing.values_list("variant_id", "name"))
    rows = []
    for variant in variants:
        workload = getattr(variant, "workload", None)
        share = int(variant.endpoint.observed_shares.get(variant.name, 0))
        runs = workload is not None and (workload.wanted or workload.ready > 0)
        if not share and not runs:
            continue
        rows.append(
            (
                -share,
                DeployedRow(
                    variant=variant.name,
                    version=variant.version.label,
                    endpoint=variant.endpoint.name,
                    environment=variant.endpoint.environment,
                    share=percent_of_bp(share),
                    arm=0
                    if variant.pk == variant.endpoint.stable_id
                    else colour_of(arms.get(variant.pk, CANDIDATE)),
                    since=workload.ready_at if workload is not None else None,
                ),
            )
        )
    return tuple(row for _, row in sorted(rows, key=lambda pair: (pair[0], pair[1].variant)))
