"""Which pods of a variant were made from an earlier state of its workload.

A pod is labelled with a hash of the state that it was made from, and the workload does not say the hash of its own. So
pods of two hashes are told apart, but not those of one hash that is not the workload's any more: after a change was
undone, and before the first new pod is there, only such ones are left. What tells them is a look at an earlier moment,
when all was settled: then the hash of the pods is that of the workload as it was.
"""

from __future__ import annotations

import hashlib
import json
import threading
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from rollouts.adapters.clusters.kubernetes.diagnosis import WorkloadSight
from rollouts.adapters.clusters.kubernetes.pod_reading import PodSight, part, text

MOST_STATES = 16  # of one workload that are remembered
TEMPLATES = ("template", "leaderWorkerTemplate")
MIXED = "its pods, of which some are from before the last change"


@dataclass
class _Known:
    """Of one workload. `made_from`: by hash of the pods, a digest of the workload's template."""

    uid: str
    made_from: dict[str, str] = field(default_factory=dict)

    def learn(self, state: str, template: str) -> None:
        kept = [one for one in self.made_from.items() if one[0] != state and one[1] != template]
        self.made_from = dict([*kept, (state, template)][-MOST_STATES:])

    def agrees(self, state: str, template: str) -> bool:
        """Whether nothing that was seen says otherwise: that these pods are of another template, or that those of this
        template have another hash."""
        if state in self.made_from:
            return self.made_from[state] == template
        return template not in self.made_from.values()


class PodStates:
    """What was seen of workloads while they were settled. Safe to call from several threads.

    A process that just began has seen nothing: until a workload is settled once, it knows pods of two hashes only.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._known: dict[str, _Known] = {}

    def mixed(
        self, variant: str, raw: Mapping[str, Any], sight: WorkloadSight, pods: Sequence[PodSight]
    ) -> str:
        """That pods are there which are not from the workload as it is now, as words; empty: none is known to be.

        raw    the workload
        sight  what it says of itself
        pods   of its newest launch
        """
        there = [pod for pod in pods if not pod.over]
        found = {pod.template for pod in there} - {""}
        if len(found) > 1:
            return MIXED
        if not found:
            return ""
        (state,) = found
        template, uid = _template_of(raw), text(part(raw, "metadata"), "uid")
        with self._lock:
            known = self._known.get(variant)
            if known is None or known.uid != uid:
                known = self._known[variant] = _Known(uid)
            if _is_settled(raw, sight, there):
                known.learn(state, template)
            return "" if known.agrees(state, template) else MIXED

    def forget_others(self, variants: Collection[str]) -> None:
        """Keeps what was seen of these only."""
        with self._lock:
            self._known = {variant: one for variant, one in self._known.items() if variant in variants}


def _is_settled(raw: Mapping[str, Any], sight: WorkloadSight, pods: Sequence[PodSight]) -> bool:
    """Whether its controller has seen it as it is now, and all of its pods are made from that."""
    observed = part(raw, "status").get("observedGeneration")
    return (
        sight.settled
        and isinstance(observed, int)
        and observed == part(raw, "metadata").get("generation")
        and len(pods) == sight.pods
        and not any(pod.stopping for pod in pods)
    )


def _template_of(raw: Mapping[str, Any]) -> str:
    """A digest of what its pods are made from."""
    spec = part(raw, "spec")
    said = json.dumps([spec.get(name) for name in TEMPLATES], sort_keys=True)
    return hashlib.sha256(said.encode()).hexdigest()
