"""What adds and removes replicas by itself: one path a variant, KEDA or an HPA, and none where the profile says so."""

from __future__ import annotations

import json
from typing import Any

from rollouts.adapters.clusters.kubernetes.profile import AutoscalerKind, ClusterProfile
from rollouts.ports import WorkloadSpec

# A replica loads for minutes, so that one is added at a time, and taken away only after a quiet quarter of an hour.
BEHAVIOUR = {
    "scaleUp": {
        "stabilizationWindowSeconds": 60,
        "policies": [{"type": "Pods", "value": 1, "periodSeconds": 120}],
    },
    "scaleDown": {
        "stabilizationWindowSeconds": 900,
        "policies": [{"type": "Pods", "value": 1, "periodSeconds": 300}],
    },
}
HPA, SCALED_OBJECT = "HorizontalPodAutoscaler", "ScaledObject"
KINDS = {AutoscalerKind.HPA: HPA, AutoscalerKind.KEDA: SCALED_OBJECT}
USUAL, DISABLED = (
    "Max",
    "Disabled",
)  # of the policies: the one that takes most away, which is taken when none is named
MISSED_POLLS = 4  # of Prometheus, after which KEDA keeps what there is

Made = tuple[str, str, dict[str, Any]]  # API version, kind and body of an object


def autoscaler_of(
    profile: ClusterProfile, spec: WorkloadSpec, name: str, api_version: str, kind: str
) -> Made | None:
    """The autoscaler of the workload, or None. It never goes below the replicas that the serving spec asks for."""
    scaler = profile.autoscaler
    target = {"apiVersion": api_version, "kind": kind, "name": name}
    most = max(scaler.most, spec.replicas)
    if scaler.kind is AutoscalerKind.HPA:
        metric = {
            "type": "Pods",
            "pods": {
                "metric": {"name": scaler.metric},
                "target": {"type": "AverageValue", "averageValue": str(scaler.waiting)},
            },
        }
        body = {
            "scaleTargetRef": target,
            "minReplicas": spec.replicas,
            "maxReplicas": most,
            "behavior": BEHAVIOUR,
            "metrics": [metric],
        }
        return "autoscaling/v2", HPA, {"spec": body}
    if scaler.kind is AutoscalerKind.KEDA:
        pods = f"namespace={_quoted(profile.namespace)},model_name={_quoted(spec.variant)}"
        trigger = {
            "type": "prometheus",
            "metricType": "AverageValue",
            "metadata": {
                "serverAddress": scaler.prometheus,
                "query": f"sum(vllm:num_requests_waiting{{{pods}}})",
                "threshold": str(scaler.waiting),
                "ignoreNullValues": "false",  # no value is no quiet engine
            },
        }
        keda: dict[str, Any] = {
            "scaleTargetRef": target,
            "minReplicaCount": spec.replicas,
            "maxReplicaCount": most,
            "pollingInterval": 15,
            "fallback": {
                "failureThreshold": MISSED_POLLS,
                "replicas": spec.replicas,
                "behavior": "currentReplicasIfHigher",
            },
            "advanced": {
                "restoreToOriginalReplicaCount": False,
                "horizontalPodAutoscalerConfig": {"behavior": BEHAVIOUR},
            },
            "triggers": [trigger],
        }
        return "keda.sh/v1alpha1", SCALED_OBJECT, {"spec": keda}
    return None


def _quoted(value: str) -> str:
    """A value of a label in PromQL. JSON's quotes and escapes are PromQL's, too."""
    return json.dumps(value, ensure_ascii=False)
