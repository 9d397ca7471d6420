"""Launches whose files a Job fetches, on an API server in memory."""

from __future__ import annotations

import base64
import json
import logging
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any

import pytest

from controlplane.kernel.clock import ManualClock
from controlplane.kernel.errors import Refused
from registry.domain.manifest import Manifest
from rollouts.adapters.clusters.kubernetes.cluster import KubernetesCluster
from rollouts.adapters.clusters.kubernetes.errors import Denied, Stale
from rollouts.adapters.clusters.kubernetes.filling.fill_volume import DIFFERS
from rollouts.adapters.clusters.kubernetes.filling.objects import HeadgateDoor, fill_name, fill_seconds
from rollouts.domain.engines import FailureReason, WorkloadPhase
from rollouts.ports import WorkloadStatus
from tests.rollouts.adapters.clusters.kubernetes.memory import MemoryObjects, cluster_of
from tests.rollouts.adapters.clusters.kubernetes.profiles import FILLED, profile_of
from tests.rollouts.adapters.clusters.kubernetes.specs import spec_of

SPEC = spec_of()
NAME = SPEC.variant
JOB = fill_name(NAME, 0)
URL = "https://headgate.example"
NOW = datetime(2026, 1, 1, tzinfo=UTC)
STARTED, ENDED = "2026-01-01T00:00:00Z", "2026-01-01T00:40:00Z"


class Passes:
    """Counts what is granted."""

    def __init__(self) -> None:
        self.granted: list[tuple[str, float]] = []

    def __call__(self, manifest: Manifest, seconds: float) -> str:
        self.granted.append((manifest.digest, seconds))
        return f"pass {len(self.granted)} of sentinel"


@pytest.fixture
def server() -> MemoryObjects:
    return MemoryObjects()


@pytest.fixture
def passes() -> Passes:
    return Passes()


@pytest.fixture
def clock() -> ManualClock:
    return ManualClock(NOW)


@pytest.fixture
def cluster(server: MemoryObjects, passes: Passes, clock: ManualClock) -> KubernetesCluster:
    door = HeadgateDoor(URL, passes)
    return cluster_of(server, clock=clock, profile=profile_of(weights=FILLED), door=door)


def status(cluster: KubernetesCluster) -> WorkloadStatus:
    return cluster.statuses()[NAME]


def kinds(server: MemoryObjects) -> set[str]:
    return {kind for kind, name in server.objects if not name.startswith("fence.")}


def job_is(server: MemoryObjects, kind: str, name: str = JOB, **more: Any) -> None:
    """The Job's controller writes that it is so."""
    there = server.objects["Job", name]
    condition = {"type": kind, "status": "True", "reason": more.pop("reason", "")}
    server.keep({**there, "status": {"startTime": STARTED, "conditions": [condition], **more}})


def a_fill_pod(server: MemoryObjects, state: dict[str, Any], *, job: str = JOB) -> None:
    labels = server.objects["Job", job]["spec"]["template"]["metadata"]["labels"]
    server.keep(
        {
            "kind": "Pod",
            "metadata": {"name": f"{job}-a", "labels": labels},
            "status": {"containerStatuses": [{"name": "fill", "restartCount": 0, "state": state}]},
        }
    )


def filled(cluster: KubernetesCluster, server: MemoryObjects) -> None:
    cluster.ensure(SPEC, token=1)
    job_is(server, "Complete", completionTime=ENDED)


def test_fetches_files__headgate_hands_them_on__no(server: MemoryObjects, cluster: KubernetesCluster) -> None:
    assert not cluster.fetches_files()
    assert cluster_of(server).fetches_files()


def test_ensure__files_are_to_be_fetched__makes_the_job_and_no_engine(
    server: MemoryObjects, cluster: KubernetesCluster, passes: Passes
) -> None:
    cluster.ensure(SPEC, token=1)
    assert kinds(server) == {"ConfigMap", "Secret", "NetworkPolicy", "Job"}
    assert passes.granted == [(SPEC.manifest.digest, fill_seconds(SPEC.manifest) + 600.0)]
    anchor = server.objects["ConfigMap", NAME]
    for kind in ("Secret", "NetworkPolicy", "Job"):
        (owner,) = server.objects[kind, JOB]["metadata"]["ownerReferences"]
        assert (owner["name"], owner["uid"]) == (NAME, anchor["metadata"]["uid"])
    found = status(cluster)
    assert (found.phase, found.message) == (WorkloadPhase.STARTING, "Its files are about to be fetched.")


def test_ensure__again_while_they_come__writes_nothing_and_grants_no_further_pass(
    server: MemoryObjects, cluster: KubernetesCluster, passes: Passes
) -> None:
    cluster.ensure(SPEC, token=1)
    before = list(server.writes)
    cluster.ensure(SPEC, token=1)
    status(cluster)
    assert server.writes == before
    assert len(passes.granted) == 1


def test_statuses__files_are_there__the_engine_is_made_once(
    server: MemoryObjects, cluster: KubernetesCluster
) -> None:
    filled(cluster, server)
    status(cluster)
    assert {"Deployment", "Service", "PodDisruptionBudget"} <= kinds(server)
    annotations = server.objects["ConfigMap", NAME]["metadata"]["annotations"]
    assert annotations["headgate.dev/made"] == "true"
    before = list(server.writes)
    cluster.ensure(SPEC, token=1)
    status(cluster)
    assert server.writes == before


def test_statuses__engine_is_made__its_time_begins_when_the_files_were_there(
    server: MemoryObjects, cluster: KubernetesCluster
) -> None:
    filled(cluster, server)
    status(cluster)
    assert status(cluster).files_at == datetime.fromisoformat(ENDED).timestamp()


def test_statuses__while_they_come__says_how_far_and_reads_the_log_now_and_then(
    server: MemoryObjects, cluster: KubernetesCluster, clock: ManualClock
) -> None:
    cluster.ensure(SPEC, token=1)
    a_fill_pod(server, {"running": {"startedAt": STARTED}})
    server.logs[f"{JOB}-a"] = "3200000000 of 14000000000 bytes"
    assert status(cluster).message == "Its files are being fetched, 3.2 of 14.0 GB."
    server.logs[f"{JOB}-a"] = "4000000000 of 14000000000 bytes"
    assert "3.2 of" in status(cluster).message
    clock.advance(11)
    found = status(cluster)
    assert "4.0 of" in found.message
    assert found.files_at == clock.now().timestamp()


def test_statuses__job_was_refused_before_its_pod_was_made__says_what_became_of_that_one(
    cluster: KubernetesCluster, server: MemoryObjects
) -> None:
    cluster.ensure(SPEC, token=1)
    server.keep(
        {
            "kind": "Event",
            "metadata": {"name": "e", "creationTimestamp": "2026-01-01T08:00:00Z"},
            "type": "Warning",
            "reason": "FailedCreate",
            "involvedObject": {"kind": "Job", "name": JOB},
            "message": "exceeded quota: team",
        }
    )
    assert "exceeded quota: team" in status(cluster).message
    a_fill_pod(server, {"waiting": {}})
    pod = server.objects["Pod", f"{JOB}-a"]
    pod["metadata"] |= {
        "creationTimestamp": "2026-01-01T09:00:00Z",
        "ownerReferences": [{"kind": "Job", "name": JOB}],
    }
    pod["status"] |= {"phase": "Failed", "reason": "Evicted"}
    assert "was ended (Evicted)" in status(cluster).message


def test_statuses__log_cannot_be_read__says_the_rest(
    server: MemoryObjects, cluster: KubernetesCluster, monkeypatch: pytest.MonkeyPatch
) -> None:
    def denied(*arguments: Any, **more: Any) -> str:
        raise Denied("pods/log is missing")

    cluster.ensure(SPEC, token=1)
    a_fill_pod(server, {"running": {"startedAt": STARTED}})
    monkeypatch.setattr(server, "log", denied)
    assert status(cluster).message == "Its files are being fetched."


def test_statuses__file_differs__the_launch_failed_and_is_tried_again_with_a_job_of_its_own(
    server: MemoryObjects, cluster: KubernetesCluster, passes: Passes
) -> None:
    cluster.ensure(SPEC, token=1)
    report = json.dumps({"path": "config.json", "detail": "has 9 bytes"})
    a_fill_pod(server, {"terminated": {"exitCode": DIFFERS, "reason": "Error", "message": report}})
    job_is(server, "Failed", reason="PodFailurePolicy")
    found = status(cluster)
    assert (found.phase, found.reason) == (WorkloadPhase.FAILED, FailureReason.TAMPERED_FILE)
    assert found.message == "The file config.json has 9 bytes."
    assert "Deployment" not in kinds(server)
    cluster.ensure(SPEC, token=1)
    second = fill_name(NAME, 1)
    assert ("Job", second) in server.objects
    assert base64.b64decode(server.objects["Secret", second]["data"]["pass"]).decode() == "pass 2 of sentinel"
    assert status(cluster).phase is WorkloadPhase.STARTING
    job_is(server, "Complete", second, completionTime=ENDED)
    status(cluster)
    template = server.objects["Deployment", NAME]["spec"]["template"]
    assert template["metadata"]["annotations"]["headgate.dev/attempt"] == "1"


def test_statuses__job_was_deleted__is_made_again_with_the_pass_that_is_there(
    server: MemoryObjects, cluster: KubernetesCluster, passes: Passes
) -> None:
    cluster.ensure(SPEC, token=1)
    del server.objects["Job", JOB]
    status(cluster)
    assert ("Job", JOB) in server.objects
    assert len(passes.granted) == 1


def test_statuses__launch_was_broken_off_before_the_job__goes_on(
    server: MemoryObjects, cluster: KubernetesCluster
) -> None:
    server.fail_write["Job", JOB] = Denied("create jobs is missing")
    with pytest.raises(Denied):
        cluster.ensure(SPEC, token=1)
    status(cluster)
    assert "create jobs is missing" in status(cluster).message
    server.fail_write.clear()
    status(cluster)
    assert ("Job", JOB) in server.objects
    assert status(cluster).message == "Its files are about to be fetched."


def test_statuses__engine_cannot_be_made__says_so_and_tries_again(
    server: MemoryObjects, cluster: KubernetesCluster, caplog: pytest.LogCaptureFixture
) -> None:
    filled(cluster, server)
    server.fail_write["Deployment", NAME] = Denied("create deployments is missing")
    with caplog.at_level(logging.WARNING):
        status(cluster)
    assert "create deployments is missing" in status(cluster).message
    server.fail_write.clear()
    status(cluster)
    assert ("Deployment", NAME) in server.objects
    assert status(cluster).message == ""
    assert "sentinel" not in caplog.text


def test_statuses__another_process_takes_the_same_step__is_no_trouble(
    server: MemoryObjects, cluster: KubernetesCluster
) -> None:
    filled(cluster, server)
    server.fail_write["Deployment", NAME] = Stale("it was changed")
    status(cluster)
    server.fail_write.clear()
    assert status(cluster).message == "Its files are there."


def test_drain__while_they_come__deletes_the_anchor_at_once(
    server: MemoryObjects, cluster: KubernetesCluster
) -> None:
    cluster.ensure(SPEC, token=1)
    cluster.drain(NAME, SPEC.endpoint, token=1)
    assert status(cluster).phase is WorkloadPhase.DRAINING
    assert server.objects["ConfigMap", NAME]["metadata"]["deletionTimestamp"]
    job_is(server, "Complete", completionTime=ENDED)
    status(cluster)
    assert "Deployment" not in kinds(server)


def test_ensure__drained_before_anything_was_made__takes_the_drain_back(
    server: MemoryObjects, cluster: KubernetesCluster
) -> None:
    cluster.ensure(SPEC, token=1)
    cluster.drain(NAME, SPEC.endpoint, token=1)
    cluster.ensure(SPEC, token=1)
    assert status(cluster).phase is WorkloadPhase.STARTING


def test_ensure__workload_was_deleted__its_files_are_fetched_again_first(
    server: MemoryObjects, cluster: KubernetesCluster
) -> None:
    filled(cluster, server)
    status(cluster)
    del server.objects["Deployment", NAME]
    del server.objects["Job", JOB]
    cluster.ensure(SPEC, token=1)
    assert ("Job", JOB) in server.objects
    assert ("Deployment", NAME) not in server.objects
    job_is(server, "Complete", completionTime=ENDED)
    status(cluster)
    assert ("Deployment", NAME) in server.objects


def test_ensure__somebody_elses_job_of_that_name__is_left_alone(
    server: MemoryObjects, cluster: KubernetesCluster
) -> None:
    server.keep({"kind": "Job", "metadata": {"name": JOB}})
    with pytest.raises(Refused, match="not this Headgate's"):
        cluster.ensure(SPEC, token=1)


def test_ensure__spec_that_cannot_be_had__is_refused_before_anything_is_fetched(
    server: MemoryObjects, cluster: KubernetesCluster
) -> None:
    from controlplane.kernel.errors import InvalidInput

    with pytest.raises(InvalidInput):
        cluster.ensure(replace(SPEC, replicas=99), token=1)
    assert kinds(server) == set()


def test_pass__whatever_is_said__stands_in_the_secret_alone(
    server: MemoryObjects, cluster: KubernetesCluster
) -> None:
    filled(cluster, server)
    status(cluster)
    others = {key: one for key, one in server.objects.items() if key[0] != "Secret"}
    encoded = base64.b64encode(b"pass 1 of sentinel").decode()
    assert encoded in repr(server.objects)
    assert encoded not in repr(others)
    assert "sentinel" not in repr((others, cluster.statuses()))
