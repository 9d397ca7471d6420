"""The lab is a whole Kubernetes: it answers, runs pods, moves traffic, survives its parts, leaves nothing behind."""

from __future__ import annotations

import signal
import subprocess
import sys
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest
from kubernetes.dynamic.exceptions import ForbiddenError

from tests.kubernetes.build import KUBERNETES_VERSION
from tests.kubernetes.lab import NODES, KubernetesLab
from tests.kubernetes.left_over import processes_of
from tests.kubernetes.objects import PATIENCE_SECONDS, Cluster, answered_by, asks, namespace
from tests.standins.running import ROOT, wait_until

pytestmark = [
    pytest.mark.e2e,
    pytest.mark.whole,
    pytest.mark.needs("root", "namespaces", "envoy", "kubernetes"),
]


@pytest.fixture
def cluster(kubernetes_lab: KubernetesLab, request: pytest.FixtureRequest) -> Iterator[Cluster]:
    name = "lab-" + str(abs(hash(request.node.name)))[:8]
    with namespace(kubernetes_lab, name) as made:
        yield made


def test_control_plane__asked_for_its_version__is_the_one_that_was_built(
    kubernetes_lab: KubernetesLab,
) -> None:
    client = kubernetes_lab.client()
    assert client.version["kubernetes"]["gitVersion"] == KUBERNETES_VERSION
    client.client.close()


def test_nodes__registered__have_eight_gpus_each(kubernetes_lab: KubernetesLab) -> None:
    client = kubernetes_lab.client()
    nodes = client.resources.get(api_version="v1", kind="Node").get().to_dict()["items"]
    client.client.close()
    gpus = {node["metadata"]["name"]: node["status"]["allocatable"]["nvidia.com/gpu"] for node in nodes}
    assert gpus == dict.fromkeys(NODES, "8")


def test_user__of_its_own__may_do_what_its_role_says_and_nothing_else(
    kubernetes_lab: KubernetesLab, cluster: Cluster
) -> None:
    group = "rbac.authorization.k8s.io"
    rules = [{"apiGroups": [""], "resources": ["services"], "verbs": ["list"]}]
    cluster.create(
        {"apiVersion": f"{group}/v1", "kind": "Role", "metadata": {"name": "reader"}, "rules": rules}
    )
    cluster.create(
        {
            "apiVersion": f"{group}/v1",
            "kind": "RoleBinding",
            "metadata": {"name": "reader"},
            "roleRef": {"apiGroup": group, "kind": "Role", "name": "reader"},
            "subjects": [{"apiGroup": group, "kind": "User", "name": "reader"}],
        }
    )
    client = kubernetes_lab.client_of(kubernetes_lab.kubeconfig_of("reader"))
    try:
        services = client.resources.get(api_version="v1", kind="Service")
        assert services.get(namespace=cluster.namespace).items == []
        pods = client.resources.get(api_version="v1", kind="Pod")
        with pytest.raises(ForbiddenError, match=r"reader.* cannot list resource"):
            pods.get(namespace=cluster.namespace)
    finally:
        client.client.close()


def test_weighted_route__two_deployments__answer_in_these_shares(
    kubernetes_lab: KubernetesLab, cluster: Cluster
) -> None:
    cluster.run("old")
    cluster.run("new")
    cluster.wait_until_available("old")
    cluster.wait_until_available("new")
    cluster.route("shares", {"old": 80, "new": 20})
    with asks(kubernetes_lab, "shares") as user:
        wait_until("the route is in force", lambda: user.get("/v1/models").status_code == 200, 30)
        seen = Counter(answered_by(user) for _ in range(500))
    # 400 and 100 are expected. Five standard deviations of a binomial are 45.
    assert seen.keys() == {"old", "new"}
    assert 55 <= seen["new"] <= 145


@pytest.mark.parametrize("component", ["kube-apiserver", "etcd", "envoy-gateway"])
def test_component__killed_and_restarted__pods_serve_on_and_changes_are_taken_again(
    kubernetes_lab: KubernetesLab, cluster: Cluster, component: str
) -> None:
    cluster.run("engine")
    cluster.wait_until_available("engine")
    cluster.route("before", {"engine": 1})
    with asks(kubernetes_lab, "before") as user:
        wait_until("the route is in force", lambda: user.get("/v1/models").status_code == 200, 30)
        before = cluster.pods("engine")
        kubernetes_lab.kill(component)
        assert answered_by(user) == "engine"
        kubernetes_lab.restart(component)
        assert answered_by(user) == "engine"
    cluster.route("after", {"engine": 1})
    with asks(kubernetes_lab, "after") as user:
        wait_until("the new route is in force", lambda: user.get("/v1/models").status_code == 200, 30)
    after = cluster.pods("engine")
    assert [pod["metadata"]["uid"] for pod in after] == [pod["metadata"]["uid"] for pod in before]
    assert after[0]["status"]["containerStatuses"][0]["restartCount"] == 0


def test_node__silenced__its_pods_are_evicted_and_replaced_elsewhere(
    kubernetes_lab: KubernetesLab, cluster: Cluster
) -> None:
    cluster.run("engine")
    cluster.wait_until_available("engine")
    lost = cluster.pods("engine")[0]
    node = lost["spec"]["nodeName"]
    kubernetes_lab.silence_node(node)
    try:

        def replaced() -> bool:
            others = [
                pod for pod in cluster.pods("engine") if pod["metadata"]["uid"] != lost["metadata"]["uid"]
            ]
            return any(
                pod["spec"].get("nodeName") != node
                and (pod["status"].get("containerStatuses") or [{"ready": False}])[0]["ready"]
                for pod in others
            )

        wait_until(f"the pod on {node} is replaced", replaced, PATIENCE_SECONDS)
        still = next(
            pod for pod in cluster.pods("engine") if pod["metadata"]["uid"] == lost["metadata"]["uid"]
        )
        assert still["metadata"]["deletionTimestamp"]
    finally:
        kubernetes_lab.wake_node(node)
    wait_until("the lost pod is gone", lambda: len(cluster.pods("engine")) == 1, PATIENCE_SECONDS)


STARTS_ANOTHER = """
import sys
from pathlib import Path
from tests.kubernetes.build import built
from tests.kubernetes.lab import KubernetesLab
from tests.kubernetes.objects import namespace

lab = KubernetesLab(Path(sys.argv[1]), binaries=built(), envoy=Path(sys.argv[2]))
lab.start()
with namespace(lab, "doomed") as cluster:
    cluster.run("engine")
    cluster.wait_until_available("engine")
    print(lab.link, flush=True)
    sys.stdin.read()
"""


def test_lab__its_process_is_killed__leaves_nothing(tmp_path: Path) -> None:
    starter = subprocess.Popen(
        [sys.executable, "-c", STARTS_ANOTHER, str(tmp_path), str(Path(sys.executable).parent / "envoy")],
        cwd=ROOT,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    with starter:
        assert starter.stdout is not None
        link = starter.stdout.readline().strip()
        assert link, "the other lab did not start"
        # What is looked for afterwards is found while it is there: an API server, a pod's engine, a cable, a route.
        there = processes_of(tmp_path)
        for part in ("kube-apiserver", "tests.kubernetes.engine"):
            assert any(part in command for command in there.values())
        assert Path(f"/sys/class/net/{link}").exists()
        assert routes_by(link)
        # It has no control groups of its own that could stay.
        own = Path("/proc/self/cgroup").read_text()
        assert {Path(f"/proc/{pid}/cgroup").read_text() for pid in there} == {own}
        starter.send_signal(signal.SIGKILL)
    wait_until("its processes are gone", lambda: not processes_of(tmp_path), 20)
    wait_until("its cable is gone", lambda: not Path(f"/sys/class/net/{link}").exists(), 20)
    assert routes_by(link) == ""
    assert str(tmp_path) not in Path("/proc/self/mountinfo").read_text()


def routes_by(link: str) -> str:
    done = subprocess.run(
        ["ip", "-o", "route", "show", "dev", link], capture_output=True, text=True, check=False
    )
    return done.stdout.strip()
