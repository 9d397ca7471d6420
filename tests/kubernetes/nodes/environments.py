"""A container's environment variables, from its specification and what that refers to."""

from __future__ import annotations

import base64
from typing import Any

from tests.kubernetes.nodes.api import NodeApi


def environment_of(
    api: NodeApi, pod: dict[str, Any], container: dict[str, Any], address: str
) -> dict[str, str]:
    """Raises LookupError, with a kubelet's sentence, when a Secret or ConfigMap that it needs is not there."""
    namespace = pod["metadata"]["namespace"]
    found = {"HOSTNAME": pod["metadata"]["name"], "HOME": "/tmp"}
    for source in container.get("envFrom", []):
        for kind in ("secretRef", "configMapRef"):
            if kind in source:
                prefix = source.get("prefix", "")
                values = _values(api, namespace, kind, source[kind])
                found |= {prefix + name: value for name, value in values.items()}
    for variable in container.get("env", []):
        refers = variable.get("valueFrom", {})
        if "fieldRef" in refers:
            found[variable["name"]] = _field(pod, refers["fieldRef"]["fieldPath"], address)
            continue
        for kind in ("secretKeyRef", "configMapKeyRef"):
            if kind in refers:
                values = _values(api, namespace, kind, refers[kind])
                if refers[kind]["key"] in values:
                    found[variable["name"]] = values[refers[kind]["key"]]
                elif not refers[kind].get("optional"):
                    raise LookupError(
                        f"couldn't find key {refers[kind]['key']} in {namespace}/{refers[kind]['name']}"
                    )
        if not refers:
            found[variable["name"]] = variable.get("value", "")
    return found


def _values(api: NodeApi, namespace: str, kind: str, reference: dict[str, Any]) -> dict[str, str]:
    secret = kind.startswith("secret")
    name = reference["name"]
    answer = api.call("GET", f"/api/v1/namespaces/{namespace}/{'secrets' if secret else 'configmaps'}/{name}")
    if answer.status_code != 200:
        if reference.get("optional"):
            return {}
        raise LookupError(f'{"secret" if secret else "configmap"} "{name}" not found')
    values: dict[str, str] = answer.json().get("data") or {}
    return {key: base64.b64decode(value).decode() for key, value in values.items()} if secret else values


def _field(pod: dict[str, Any], path: str, address: str) -> str:
    named = pod["metadata"]
    for kind in ("labels", "annotations"):
        if path.startswith(f"metadata.{kind}['"):
            return str(named.get(kind, {}).get(path[len(f"metadata.{kind}['") : -2], ""))
    return str(
        {
            "metadata.name": named["name"],
            "metadata.namespace": named["namespace"],
            "metadata.uid": named["uid"],
            "spec.nodeName": pod["spec"]["nodeName"],
            "spec.serviceAccountName": pod["spec"].get("serviceAccountName", ""),
            "status.podIP": address,
        }[path]
    )
