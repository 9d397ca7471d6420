"""The demo's Prometheus: in the lab, so that it ends with it, and read from outside."""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from threading import Event, Thread
from urllib.parse import urlsplit

import httpx

from controlplane.kernel.errors import HeadgateError
from rollouts.adapters.clusters.kubernetes.client import KubernetesClient
from tests.kubernetes.edge import open_metrics
from tests.kubernetes.gateway import NAMESPACE as GATEWAY_NAMESPACE
from tests.kubernetes.lab import KubernetesLab
from tests.kubernetes.scraping import write_targets
from tests.standins.running import wait_until

SCRAPE_SECONDS = 1
PORT, CONTAINERS_PORT = 9090, 9102
READY_SECONDS = 60.0


@contextmanager
def measured(lab: KubernetesLab, admin: KubernetesClient, namespace: str, folder: Path) -> Iterator[str]:
    """The address of a Prometheus that reads the gateway and the namespace's engines."""
    folder.mkdir()
    gateway = open_metrics(lab)
    shown = folder / "shown"
    shown.mkdir()
    # What a cluster's cAdvisor says of the gateway's container, which is no container here: when it began.
    labels = f'container="envoy",namespace="{GATEWAY_NAMESPACE}",pod="edge-0"'
    (shown / "containers.txt").write_text(f"container_start_time_seconds{{{labels}}} {time.time():.0f}\n")
    lab.run_beside(
        "containers",
        [sys.executable, "-m", "http.server", str(CONTAINERS_PORT), "--directory", str(shown)],
    )
    pods = folder / "pods.json"
    write_targets(pods, admin, namespace)
    (folder / "prometheus.yml").write_text(json.dumps(_configuration(gateway, pods)))  # all JSON is YAML
    lab.run_beside(
        "prometheus",
        [
            "prometheus", f"--config.file={folder / 'prometheus.yml'}", f"--storage.tsdb.path={folder / 'data'}",
            f"--web.listen-address=0.0.0.0:{PORT}", "--log.level=warn",
        ],
    )  # fmt: skip
    url = f"http://{urlsplit(lab.gateway_url).hostname}:{PORT}"
    wait_until("Prometheus is ready", lambda: _is_ready(url), READY_SECONDS)
    ends = Event()
    finder = Thread(target=_find_pods, args=(pods, admin, namespace, ends), daemon=True)
    finder.start()
    try:
        yield url
    finally:
        ends.set()
        finder.join()


def _configuration(gateway: str, pods: Path) -> dict[str, object]:
    address, _, path = gateway.partition("/")
    interval = f"{SCRAPE_SECONDS}s"
    return {
        "global": {"scrape_interval": interval, "scrape_timeout": interval},
        "scrape_configs": [
            {
                "job_name": "gateways",
                "metrics_path": f"/{path}",
                "static_configs": [
                    {"targets": [address], "labels": {"namespace": GATEWAY_NAMESPACE, "pod": "edge-0"}}
                ],
            },
            {
                "job_name": "containers",
                "metrics_path": "/containers.txt",
                "honor_labels": True,
                "static_configs": [{"targets": [f"127.0.0.1:{CONTAINERS_PORT}"]}],
            },
            {"job_name": "engines", "file_sd_configs": [{"files": [str(pods)]}]},
        ],
    }


def _is_ready(url: str) -> bool:
    try:
        return httpx.get(f"{url}/-/ready", trust_env=False).status_code == 200
    except httpx.TransportError:
        return False


def _find_pods(path: Path, admin: KubernetesClient, namespace: str, ends: Event) -> None:
    while not ends.wait(SCRAPE_SECONDS):
        try:
            write_targets(path, admin, namespace)
        except HeadgateError as problem:  # the next second asks again
            print(f"  the cluster does not say which pods there are: {problem.message}", flush=True)
