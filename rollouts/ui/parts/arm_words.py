"""How the arms of a rollout are named and coloured wherever it is shown."""

from __future__ import annotations

from collections.abc import Mapping

from rollouts.domain.record.intervals import BASELINE
from rollouts.models import Rollout

COLOURS = 4  # of candidates; further ones begin again, their names stand beside


def colour_of(arm_name: str) -> int:
    """The colour of an arm by its name: 0 the baseline, 1 the candidate, 2 `candidate-2`, ..."""
    if arm_name == BASELINE:
        return 0
    number = arm_name.rpartition("-")[2]
    return (int(number) - 1) % COLOURS + 1 if number.isdecimal() else 1


def arm_labels(rollout: Rollout) -> Mapping[str, str]:
    """`v3` by arm name, the baseline first. Reads the arms with their variants and versions."""
    return {arm.name: arm.variant.version.label for arm in rollout.arms.all()}


def colours_by_variant(rollout: Rollout) -> Mapping[str, int]:
    """The colour of each of its variants by variant name."""
    return {arm.variant.name: colour_of(arm.name) for arm in rollout.arms.all()}


def candidate_labels(rollout: Rollout) -> list[str]:
    """`v2`, `v3`: all candidates, those that left too. Reads the arms as `arm_labels` does."""
    return [label for name, label in arm_labels(rollout).items() if name != BASELINE]


def versions_text(rollout: Rollout) -> str:
    """`v1 → v2`; with several candidates `v1 → v2, v3`. Reads the arms as `arm_labels` does."""
    return f"{rollout.baseline.version.label} → {', '.join(candidate_labels(rollout))}"


def either_of(labels: list[str]) -> str:
    """`v2 or v3`; `v1, v2 or v3`."""
    return " or ".join([part for part in (", ".join(labels[:-1]), labels[-1]) if part]) if labels else ""


def tie_text(rollout: Rollout) -> str:
    """`v2 or v3`: the arms that are left without a winner; empty when one is."""
    labels = arm_labels(rollout)
    return either_of([labels.get(name, name) for name in rollout.verdicts.get("tied", ())])
