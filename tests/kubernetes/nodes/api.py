"""The few requests that a kubelet makes, with patience: the API server may be away for minutes."""

from __future__ import annotations

import json
import ssl
import time
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import httpx

MERGE = "application/merge-patch+json"
ASKED_AGAIN_SECONDS = 0.3


class NodeApi:
    """A client of the API server with the identity in `folder`, NAME.crt and NAME.key."""

    def __init__(self, url: str, folder: Path, name: str) -> None:
        context = ssl.create_default_context(cafile=folder / "ca.crt")
        context.load_cert_chain(folder / f"{name}.crt", folder / f"{name}.key")
        self._client = httpx.Client(base_url=url, verify=context, trust_env=False, timeout=15)

    def call(
        self, method: str, path: str, body: object = None, kind: str = "application/json"
    ) -> httpx.Response:
        """One request, repeated for as long as the API server is away or has too much to do. Any other answer is
        returned, refusals too."""
        while True:
            try:
                answer = self._client.request(
                    method,
                    path,
                    content=None if body is None else json.dumps(body),
                    headers={"Content-Type": kind},
                )
            except httpx.TransportError:
                time.sleep(ASKED_AGAIN_SECONDS)
                continue
            if answer.status_code == 429 or answer.status_code >= 500:
                time.sleep(ASKED_AGAIN_SECONDS)
                continue
            refused = answer.status_code >= 300 and answer.status_code not in (404, 409)
            if refused and "is being terminated" not in answer.text:
                print(method, path, answer.status_code, answer.text[:300], flush=True)
            return answer

    def ready(self) -> bool:
        """Whether the API server says that it is; asked once."""
        try:
            return self._client.get("/readyz").text == "ok"
        except httpx.TransportError:
            return False

    def close(self) -> None:
        self._client.close()

    def pods(self) -> Iterator[tuple[str, Any]]:
        """All pods, then every change, for ever: ("LIST", the whole list), then (ADDED, MODIFIED or DELETED, a pod).

        It starts anew with a list whenever the API server ends the watch or was away.
        """
        while True:
            try:
                answer = self._client.get("/api/v1/pods")
                answer.raise_for_status()
                listed = answer.json()
                yield "LIST", listed["items"]
                parameters = {"watch": "1", "resourceVersion": listed["metadata"]["resourceVersion"]}
                patience = httpx.Timeout(5, read=None)
                with self._client.stream(
                    "GET", "/api/v1/pods", params=parameters, timeout=patience
                ) as stream:
                    stream.raise_for_status()
                    for line in stream.iter_lines():
                        event = json.loads(line)
                        if event["type"] == "ERROR":
                            break
                        if event["type"] != "BOOKMARK":
                            yield event["type"], event["object"]
            except (httpx.HTTPError, ValueError) as problem:
                print("watch:", repr(problem)[:200], flush=True)
            time.sleep(ASKED_AGAIN_SECONDS)

    def event(self, pod: dict[str, Any], reason: str, message: str, *, warning: bool = False) -> None:
        """Records an event of a pod, as a kubelet does."""
        named = pod["metadata"]
        self.call(
            "POST",
            f"/api/v1/namespaces/{named['namespace']}/events",
            {
                "metadata": {"generateName": f"{named['name']}.", "namespace": named["namespace"]},
                "involvedObject": {
                    "apiVersion": "v1",
                    "kind": "Pod",
                    **{key: named[key] for key in ("name", "namespace", "uid")},
                },
                "reason": reason,
                "message": message,
                "type": "Warning" if warning else "Normal",
                "source": {"component": "kubelet", "host": pod["spec"]["nodeName"]},
                "firstTimestamp": now(),
                "lastTimestamp": now(),
                "count": 1,
            },
        )


def now() -> str:
    """This moment, as Kubernetes writes it."""
    return datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def now_exactly() -> str:
    """This moment to the microsecond, as leases hold it."""
    return datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%S.%fZ")
