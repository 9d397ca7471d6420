"""What a Prometheus reads of the lab: its discovery as a file, because Debian's has none of Kubernetes."""

from __future__ import annotations

import json
from pathlib import Path

from rollouts.adapters.clusters.kubernetes.client import POD, KubernetesClient


def write_targets(path: Path, admin: KubernetesClient, namespace: str) -> None:
    """Writes down which engines there are in the namespace, in one step, where that changed. Raises HeadgateError when
    the API server does not say."""
    found = [
        {
            "targets": [f"{pod['status']['podIP']}:8000"],
            "labels": {"namespace": namespace, "pod": pod["metadata"]["name"]},
        }
        for pod in admin.list(POD)[0]
        if pod["status"].get("podIP")
    ]
    if not path.exists() or json.dumps(found) != path.read_text():
        fresh = path.with_suffix(".new")
        fresh.write_text(json.dumps(found))
        fresh.replace(path)
