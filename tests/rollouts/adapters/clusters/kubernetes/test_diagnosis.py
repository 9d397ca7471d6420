"""What a cluster says of a variant, in the words of a real one, and what becomes of it."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rollouts.adapters.clusters.engines.vllm import VLLM
from rollouts.adapters.clusters.kubernetes.diagnosis import Diagnosis, diagnose, workload_of
from rollouts.adapters.clusters.kubernetes.pod_reading import seconds_of, sight_of
from rollouts.domain.engines import FailureReason, WorkloadPhase

NOW = 1_800_000_000.0
STARTED = "2026-11-29T10:00:00Z"
RUNNING = {"state": {"running": {"startedAt": STARTED}}}


def deployment(*, replicas: int = 1, generation: int = 1, **status: Any) -> dict[str, Any]:
    usual: dict[str, Any] = {
        "replicas": replicas,
        "updatedReplicas": replicas,
        "availableReplicas": replicas,
        "observedGeneration": generation,
        "conditions": [],
    }
    return {
        "kind": "Deployment",
        "metadata": {"generation": generation},
        "spec": {"replicas": replicas},
        "status": {**usual, **status},
    }


def whole(**status: Any) -> dict[str, Any]:
    condition = {"type": "Progressing", "status": "True", "reason": "NewReplicaSetAvailable"}
    return deployment(**{"conditions": [condition], **status})


def pod(
    name: str = "chat-1",
    *,
    ready: bool = False,
    engine: dict[str, Any] | None = None,
    verify: dict[str, Any] | None = None,
    conditions: list[dict[str, Any]] | None = None,
    **parts: Any,
) -> dict[str, Any]:
    truth = "True" if ready else "False"
    status: dict[str, Any] = {
        "phase": "Running",
        "conditions": conditions
        or [{"type": "Ready", "status": truth}, {"type": "ContainersReady", "status": truth}],
        "containerStatuses": [{"name": "engine", "restartCount": 0, **(engine or RUNNING)}],
    }
    if verify is not None:
        status["initContainerStatuses"] = [{"name": "verify", "restartCount": 0, **verify}]
    metadata = {"name": name, **parts.pop("metadata", {})}
    return {"metadata": metadata, "spec": parts.pop("spec", {}), "status": {**status, **parts}}


def ended(code: int = 1, reason: str = "Error", message: str = "", restarts: int = 1) -> dict[str, Any]:
    end = {"exitCode": code, "reason": reason, "message": message, "finishedAt": STARTED}
    return {
        "restartCount": restarts,
        "state": {"waiting": {"reason": "CrashLoopBackOff", "message": "back-off 10s restarting"}},
        "lastState": {"terminated": end},
    }


def waiting(reason: str, message: str) -> dict[str, Any]:
    return {"state": {"waiting": {"reason": reason, "message": message}}}


def seen(
    workload: dict[str, Any],
    *pods: dict[str, Any],
    draining: bool = False,
    warnings: dict[str, str] | None = None,
    refused: str = "",
) -> Diagnosis:
    return diagnose(
        workload_of(workload),
        [sight_of(one) for one in pods],
        warnings or {},
        VLLM,
        draining=draining,
        now=NOW,
        refused=refused,
    )


# --- readiness --------------------------------------------------------------------------------------------------------


def test_ready__all_as_it_should_be__is_ready() -> None:
    found = seen(whole(), pod(ready=True))
    assert (found.phase, found.ready, found.message) == (WorkloadPhase.READY, 1, "")
    assert found.started_at == seconds_of(STARTED)


def test_ready__deployment_is_available_without_a_ready_pod__is_not() -> None:
    """One replica of which one may be unavailable is `Available` with none."""
    available = {"type": "Available", "status": "True", "reason": "MinimumReplicasAvailable"}
    found = seen(deployment(availableReplicas=0, conditions=[available]), pod())
    assert (found.phase, found.ready) == (WorkloadPhase.STARTING, 0)


@pytest.mark.parametrize(
    "status",
    [
        {"updatedReplicas": 0},
        {"availableReplicas": 0},
        {"replicas": 2},
        {"observedGeneration": 0},
    ],
)
def test_ready__launch_of_which_one_number_differs__is_not(status: dict[str, int]) -> None:
    assert seen({**deployment(), "status": {**deployment()["status"], **status}}, pod(ready=True)).ready == 0


def test_ready__launch_while_another_pod_is_being_stopped__is_not() -> None:
    stopping = pod("chat-0", ready=True, metadata={"deletionTimestamp": STARTED})
    assert seen(deployment(), pod(ready=True), stopping).ready == 0


def test_ready__pod_that_is_being_stopped__is_not_counted() -> None:
    stopping = pod("chat-0", ready=True, metadata={"deletionTimestamp": STARTED})
    assert seen(whole(), stopping).phase is WorkloadPhase.UNREADY


def test_ready__was_whole_and_scales_in__stays_ready() -> None:
    stopping = pod("chat-0", ready=True, metadata={"deletionTimestamp": STARTED})
    assert seen(whole(replicas=1), pod(ready=True), stopping).ready == 1


def test_ready__some_of_several__says_why_of_the_others() -> None:
    unplaced = [
        {"type": "PodScheduled", "status": "False", "reason": "Unschedulable", "message": "0/3 nodes"}
    ]
    found = seen(
        deployment(replicas=2, availableReplicas=1), pod(ready=True), pod("chat-2", conditions=unplaced)
    )
    assert (found.phase, found.ready, found.blocked) == (WorkloadPhase.READY, 1, True)
    assert "0/3 nodes" in found.message


# --- blocked is not failed --------------------------------------------------------------------------------------------


def test_blocked__no_node_has_room__is_said_verbatim_with_its_moment() -> None:
    words = "0/3 nodes are available: 3 Insufficient nvidia.com/gpu."
    condition = {
        "type": "PodScheduled",
        "status": "False",
        "reason": "Unschedulable",
        "message": words,
        "lastTransitionTime": STARTED,
    }
    found = seen(deployment(availableReplicas=0), pod(conditions=[condition], engine={}))
    assert (found.phase, found.blocked, found.reason) == (WorkloadPhase.STARTING, True, FailureReason.NONE)
    assert found.message == f"No node can take it since 2026-11-29 10:00 UTC: {words}"


def test_blocked__quota__is_said_of_a_deployment_without_pods() -> None:
    words = 'pods "chat-1" is forbidden: exceeded quota: gpu'
    failing = {"type": "ReplicaFailure", "status": "True", "reason": "FailedCreate", "message": words}
    found = seen(deployment(replicas=1, availableReplicas=0, conditions=[failing]))
    assert (found.phase, found.blocked) == (WorkloadPhase.STARTING, True)
    assert words in found.message


@pytest.mark.parametrize(
    ("engine", "said"),
    [
        (waiting("ErrImagePull", "failed to resolve reference"), "cannot be pulled"),
        (waiting("ImagePullBackOff", "Back-off pulling image"), "cannot be pulled"),
        (waiting("CreateContainerConfigError", 'secret "chat" not found'), 'secret "chat" not found'),
    ],
)
def test_blocked__image_or_configuration__may_still_come(engine: dict[str, Any], said: str) -> None:
    found = seen(deployment(availableReplicas=0), pod(engine=engine))
    assert (found.phase, found.blocked) == (WorkloadPhase.STARTING, True)
    assert said in found.message


def test_blocked__queue__says_what_holds_it_back() -> None:
    found = seen(
        deployment(availableReplicas=0),
        pod(engine={}, spec={"schedulingGates": [{"name": "kueue.x-k8s.io/admission"}]}),
    )
    assert found.blocked
    assert "kueue.x-k8s.io/admission" in found.message


GATE = 'corresponding condition of pod readiness gate "lb.example/attached" does not exist.'


def not_ready(reason: str, message: str = "") -> list[dict[str, Any]]:
    """All containers are ready, and the pod is not."""
    ready = {"type": "Ready", "status": "False", "reason": reason, "message": message}
    return [ready, {"type": "ContainersReady", "status": "True"}]


def test_blocked__readiness_gate__is_no_lost_node() -> None:
    found = seen(deployment(), pod(conditions=not_ready("ReadinessGatesNotReady", GATE)))
    assert (found.phase, found.blocked) == (WorkloadPhase.STARTING, True)
    assert found.message == f"chat-1 runs, and waits for a readiness gate: {GATE}"


@pytest.mark.parametrize(
    ("reason", "lost"),
    [("", True), ("NodeLost", True), ("ContainersNotReady", False), ("ReasonOfTomorrow", False)],
)
def test_node_lost__only_for_reasons_that_mean_it(reason: str, lost: bool) -> None:
    assert sight_of(pod(conditions=not_ready(reason))).node_lost is lost


def group(*, size: int, replicas: int = 1) -> dict[str, Any]:
    spec = {"replicas": replicas, "leaderWorkerTemplate": {"size": size}}
    return {"kind": "LeaderWorkerSet", "metadata": {}, "spec": spec, "status": {}}


NOT_MADE = "No pod can be made: exceeded quota: gpu"


def test_blocked__workers_of_a_group_are_refused__is_said_though_its_leader_runs() -> None:
    found = seen(group(size=2), pod(), refused=NOT_MADE)
    assert (found.phase, found.message, found.blocked) == (WorkloadPhase.STARTING, NOT_MADE, True)


def test_refused__all_pods_of_a_group_are_there__is_not_said() -> None:
    assert seen(group(size=2), pod(), pod("chat-2"), refused=NOT_MADE).message == ""


def test_blocked__node_falls_silent__is_no_crash() -> None:
    """Ready is false after ten seconds, while the containers still count as ready."""
    conditions = [{"type": "Ready", "status": "False"}, {"type": "ContainersReady", "status": "True"}]
    found = seen(whole(availableReplicas=0), pod(conditions=conditions))
    assert (found.phase, found.blocked, found.restarts) == (WorkloadPhase.UNREADY, True, 0)
    assert "does not report" in found.message


# --- failed -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("end", "reason", "said"),
    [
        (ended(137, "OOMKilled"), FailureReason.NO_MEMORY, "OOMKilled"),
        (
            ended(message="torch.OutOfMemoryError: CUDA out of memory"),
            FailureReason.NO_MEMORY,
            "CUDA out of memory",
        ),
        (
            ended(message="ValueError: No available memory for the cache blocks."),
            FailureReason.NO_MEMORY,
            "cache blocks",
        ),
        (
            ended(
                message="... is larger than the available KV cache memory; KV cache is needed, which is larger"
            ),
            FailureReason.NO_MEMORY,
            "KV cache",
        ),
        (ended(message="error: unrecognized arguments: --x"), FailureReason.BAD_SPEC, "--x"),
        (
            ended(128, "StartError", 'exec: "vllm": executable file not found'),
            FailureReason.NO_ENGINE,
            "executable file not found",
        ),
        (waiting("InvalidImageName", "couldn't parse image"), FailureReason.BAD_SPEC, "InvalidImageName"),
        (ended(message="boom", restarts=3), FailureReason.CRASH_LOOP, "exit status 1: boom"),
    ],
)
def test_failed__what_it_will_do_again__has_its_reason_and_last_words(
    end: dict[str, Any], reason: FailureReason, said: str
) -> None:
    found = seen(deployment(availableReplicas=0), pod(engine=end))
    assert (found.phase, found.reason, found.started_at) == (WorkloadPhase.FAILED, reason, None)
    assert said in found.message


def test_failed__tampered_file__names_it() -> None:
    report = json.dumps({"path": "model.safetensors", "detail": "differs in the cluster from the manifest"})
    found = seen(deployment(availableReplicas=0), pod(engine={}, verify=ended(3, message=report)))
    assert (found.phase, found.reason) == (WorkloadPhase.FAILED, FailureReason.TAMPERED_FILE)
    assert found.message == "The file model.safetensors differs in the cluster from the manifest."


def test_failed__one_of_two_engines_while_the_other_answers__is_not() -> None:
    found = seen(whole(replicas=2, availableReplicas=1), pod(ready=True), pod("b", engine=ended(restarts=9)))
    assert (found.phase, found.restarts) == (WorkloadPhase.READY, 9)
    assert "exit status" in found.message


def test_failed__first_crash_without_a_known_cause__tries_again() -> None:
    found = seen(deployment(availableReplicas=0), pod(engine=ended(message="boom")))
    assert (found.phase, found.blocked) == (WorkloadPhase.STARTING, False)
    assert "boom" in found.message


def test_failed__memory_after_it_was_whole__is_an_outage_that_may_pass() -> None:
    found = seen(whole(availableReplicas=0), pod(engine=ended(137, "OOMKilled")))
    assert found.phase is WorkloadPhase.UNREADY


# --- others -----------------------------------------------------------------------------------------------------------


def test_draining__told_to_end_or_being_deleted__is_draining() -> None:
    assert seen(whole(), pod(ready=True), draining=True).phase is WorkloadPhase.DRAINING
    deleted = whole()
    deleted["metadata"]["deletionTimestamp"] = STARTED
    assert seen(deleted, pod(ready=True)).phase is WorkloadPhase.DRAINING


def test_warning__of_a_pod_that_only_waits__is_its_words() -> None:
    found = seen(
        deployment(availableReplicas=0),
        pod(engine=waiting("ContainerCreating", "")),
        warnings={"chat-1": "MountVolume.SetUp failed for volume model"},
    )
    assert found.message == "MountVolume.SetUp failed for volume model"


def test_files__while_they_are_compared__come_until_now_and_not_for_ever() -> None:
    fresh = {"state": {"running": {"startedAt": "2027-01-15T07:59:00Z"}}}
    assert seen(deployment(availableReplicas=0), pod(engine={}, verify=fresh)).files_at == NOW
    old = {"state": {"running": {"startedAt": STARTED}}}
    found = seen(deployment(availableReplicas=0), pod(engine={}, verify=old)).files_at
    assert found == (seconds_of(STARTED) or 0) + 3600


def test_files__once_compared__came_until_then() -> None:
    done = {"state": {"terminated": {"exitCode": 0, "finishedAt": "2026-11-29T09:59:00Z"}}}
    assert seen(whole(), pod(ready=True, verify=done)).files_at == seconds_of("2026-11-29T09:59:00Z")


def test_nothing_yet__is_starting() -> None:
    found = diagnose(None, [], {}, VLLM, draining=False, now=NOW)
    assert (found.phase, found.message) == (WorkloadPhase.STARTING, "")


odd = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=9),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(
            st.sampled_from(
                [
                    "metadata",
                    "spec",
                    "status",
                    "conditions",
                    "containerStatuses",
                    "state",
                    "waiting",
                    "replicas",
                    "name",
                ]
            ),
            inner,
            max_size=4,
        )
    ),
    max_leaves=12,
)


@given(st.dictionaries(st.sampled_from(["metadata", "spec", "status", "kind"]), odd))
def test_odd_objects__whatever_comes__is_read_without_an_error(raw: dict[str, Any]) -> None:
    found = diagnose(workload_of(raw), [sight_of(raw)], {}, VLLM, draining=False, now=NOW)
    assert found.ready in (0, 1)


def test_files_at__by_a_clock_that_is_ahead__is_now_at_most() -> None:
    """Else a launch would have a day more than it may take."""
    end = {"exitCode": 0, "finishedAt": "2027-02-01T00:00:00Z"}
    assert seen(deployment(availableReplicas=0), pod(verify={"state": {"terminated": end}})).files_at == NOW
    later = {"state": {"running": {"startedAt": "2027-02-01T00:00:00Z"}}}
    assert seen(deployment(availableReplicas=0), pod(engine=later)).files_at == NOW


def evicted(number: int, message: str) -> list[dict[str, Any]]:
    return [
        pod(f"chat-{index}", engine={}, phase="Failed", reason="Evicted", message=message)
        for index in range(number)
    ]


FULL = 'Usage of EmptyDir volume "model" exceeds the limit "6Mi".'


def test_evicted__takes_more_disk_than_it_may_again_and_again__has_failed() -> None:
    """Each new pod brings its files anew, and so the time for that would never be over."""
    fetching = pod("chat-9", engine={})
    found = seen(deployment(availableReplicas=0), *evicted(3, FULL), fetching)
    assert (found.phase, found.reason) == (WorkloadPhase.FAILED, FailureReason.CRASH_LOOP)
    assert "disk_mb" in found.message
    assert FULL in found.message


@pytest.mark.parametrize(
    ("number", "message"), [(2, FULL), (9, "The node was low on resource: ephemeral-storage.")]
)
def test_evicted__now_and_then_or_for_what_others_took__goes_on(number: int, message: str) -> None:
    found = seen(deployment(availableReplicas=0), *evicted(number, message), pod("chat-99", engine={}))
    assert found.phase is WorkloadPhase.STARTING
