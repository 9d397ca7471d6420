"""What a cluster says of a filling Job, in the words of a real one, and what becomes of it."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rollouts.adapters.clusters.kubernetes.diagnosis import Diagnosis
from rollouts.adapters.clusters.kubernetes.filling.fill_volume import (
    DIFFERS,
    NO_VOLUME,
    REFUSED,
    UNREACHABLE,
)
from rollouts.adapters.clusters.kubernetes.filling.reading import diagnose_fill, fill_sight_of
from rollouts.adapters.clusters.kubernetes.pod_reading import seconds_of, sight_of
from rollouts.domain.engines import FailureReason, WorkloadPhase

NOW = 1_800_000_000.0
STARTED, ENDED = "2026-11-29T10:00:00Z", "2026-11-29T10:05:00Z"
BEGAN = seconds_of(STARTED)
URL = "https://headgate.example"
JOB = "chat-fill"


def job(*conditions: tuple[str, str], seconds: int = 10**9, **spec: Any) -> dict[str, Any]:
    return {
        "kind": "Job",
        "metadata": {"name": JOB},
        "spec": {"activeDeadlineSeconds": seconds, **spec},
        "status": {
            "startTime": STARTED,
            **({"completionTime": ENDED} if ("Complete", "") in conditions else {}),
            "conditions": [
                {"type": kind, "status": "True", "reason": reason, "message": f"{reason} it says"}
                for kind, reason in conditions
            ],
        },
    }


def pod(state: dict[str, Any] | None = None, *, name: str = "chat-fill-1", **status: Any) -> dict[str, Any]:
    containers = [] if state is None else [{"name": "fill", "restartCount": 0, "state": state}]
    return {"metadata": {"name": name}, "spec": {}, "status": {"containerStatuses": containers, **status}}


def ended(code: int, message: str = "", reason: str = "Error") -> dict[str, Any]:
    end = {"exitCode": code, "reason": reason, "message": message, "finishedAt": ENDED}
    return pod({"terminated": end}, phase="Failed")


def said(code: int, **report: str) -> dict[str, Any]:
    return ended(code, json.dumps(report))


def waiting(reason: str, message: str = "") -> dict[str, Any]:
    return pod({"waiting": {"reason": reason, "message": message}}, phase="Pending")


RUNNING = pod({"running": {"startedAt": STARTED}}, phase="Running")


def seen(
    raw: dict[str, Any] | None, *pods: dict[str, Any], warnings: dict[str, str] | None = None, told: str = ""
) -> Diagnosis:
    return diagnose_fill(
        None if raw is None else fill_sight_of(raw),
        [sight_of(one, container="fill") for one in pods],
        warnings or {},
        job_name=JOB,
        url=URL,
        told=told,
        now=NOW,
    )


@pytest.mark.parametrize(
    ("told", "words"),
    [
        ("3200000000 of 14000000000 bytes\n", "Its files are being fetched, 3.2 of 14.0 GB."),
        ("12000000 of 45000000 bytes", "Its files are being fetched, 12.0 of 45.0 MB."),
        ("", "Its files are being fetched."),
        ("something else", "Its files are being fetched."),
    ],
)
def test_running__its_output__is_told_as_progress(told: str, words: str) -> None:
    found = seen(job(), RUNNING, told=told)
    assert (found.phase, found.message, found.blocked) == (WorkloadPhase.STARTING, words, False)


def test_running__time__is_none_of_the_engines_until_the_job_may_take_no_longer() -> None:
    assert seen(job(), RUNNING).files_at == NOW
    assert BEGAN is not None
    assert seen(job(seconds=600), RUNNING).files_at == BEGAN + 600


def test_done__files_are_there_since_it_ended() -> None:
    found = seen(job(("Complete", "")), pod({"terminated": {"exitCode": 0}}, phase="Succeeded"))
    assert (found.phase, found.files_at) == (WorkloadPhase.STARTING, seconds_of(ENDED))


UNPLACED = {
    "type": "PodScheduled",
    "status": "False",
    "reason": "Unschedulable",
    "message": "0/3 nodes are available: 3 node(s) had untolerated taint(s).",
    "lastTransitionTime": STARTED,
}


@pytest.mark.parametrize(
    ("pods", "warnings", "words"),
    [
        (
            [pod(None, phase="Pending", conditions=[UNPLACED])],
            {},
            "cannot be scheduled since 2026-11-29 10:00 UTC: 0/3 nodes",
        ),
        ([waiting("ErrImagePull", "not found")], {}, "cannot be pulled (ErrImagePull): not found"),
        ([waiting("ImagePullBackOff", "Back-off")], {}, "cannot be pulled (ImagePullBackOff): Back-off"),
        ([waiting("CreateContainerConfigError", "no secret")], {}, "cannot be made (CreateContainerConfigError)"),
        (
            [waiting("ContainerCreating")],
            {"chat-fill-1": 'persistentvolumeclaim "models" not found'},
            'cannot begin: persistentvolumeclaim "models" not found',
        ),
        ([], {JOB: "exceeded quota: team"}, "No pod can be made to fetch its files: exceeded quota: team"),
        (
            [pod(None, phase="Failed", reason="Evicted")],
            {JOB: "exceeded quota: team"},
            "No pod can be made to fetch its files: exceeded quota: team",
        ),
        (
            [said(UNREACHABLE, detail="[Errno 111] Connection refused")],
            {},
            f"Headgate was not reachable from the pod at {URL}: [Errno 111] Connection refused. It is tried again.",
        ),
        (
            [said(NO_VOLUME, detail="The volume cannot be written: No space left on device")],
            {},
            "The volume cannot be written: No space left on device. It is tried again.",
        ),
        ([ended(137, reason="OOMKilled")], {}, "more memory than it may"),
        ([ended(1, "Traceback\nValueError: odd")], {}, "exit status 1: ValueError: odd"),
        ([pod(None, phase="Failed", reason="Evicted", message="The node was low")], {}, "(Evicted): The node was low"),
        (
            [
                pod(
                    {"running": {"startedAt": STARTED}},
                    conditions=[
                        {"type": "Ready", "status": "False"},
                        {"type": "ContainersReady", "status": "True"},
                    ],
                )
            ],
            {},
            "does not report any more",
        ),
    ],
    ids=[
        "unplaced", "image", "back-off", "config", "no-claim", "quota", "quota again", "unreachable", "full", "memory",
        "fault", "evicted", "node",
    ],
)  # fmt: skip
def test_waits__for_what_may_pass__is_blocked_and_not_failed(
    pods: list[dict[str, Any]], warnings: dict[str, str], words: str
) -> None:
    found = seen(job(), *pods, warnings=warnings)
    assert (found.phase, found.reason, found.blocked) == (WorkloadPhase.STARTING, FailureReason.NONE, True)
    assert words in found.message


def test_held__by_a_queue__waits_to_be_admitted() -> None:
    found = seen(job(suspend=True))
    assert (found.blocked, found.message) == (True, "The Job that fetches its files waits to be admitted.")


def test_tried_again__what_an_earlier_try_brought__still_counts() -> None:
    found = seen(job(), said(UNREACHABLE, detail="reset"), waiting("ContainerCreating"))
    assert found.files_at == seconds_of(ENDED)


@pytest.mark.parametrize(
    ("raw", "pods", "reason", "words"),
    [
        (
            job(),
            [said(DIFFERS, path="model.safetensors", detail="differs as it comes from Headgate from the manifest")],
            FailureReason.TAMPERED_FILE,
            "The file model.safetensors differs as it comes from Headgate from the manifest.",
        ),
        (job(), [ended(DIFFERS, "no JSON")], FailureReason.TAMPERED_FILE, "differs from the manifest"),
        (
            job(),
            [said(REFUSED, detail="it answered 403: This pass is over.")],
            FailureReason.CRASH_LOOP,
            f"Headgate does not hand out its files at {URL}: it answered 403: This pass is over.",
        ),
        (
            job(("Failed", "BackoffLimitExceeded")),
            [said(UNREACHABLE, detail="timed out")] * 7,
            FailureReason.CRASH_LOOP,
            f"after 7 tries: Headgate was not reachable from the pod at {URL}: timed out.",
        ),
        (
            job(("FailureTarget", "DeadlineExceeded")),
            [RUNNING],
            FailureReason.TIMEOUT,
            "did not come in the time that they may take",
        ),
        (job(("Failed", "BackoffLimitExceeded")), [], FailureReason.CRASH_LOOP, "BackoffLimitExceeded it says"),
        (job(), [waiting("InvalidImageName", "bad")], FailureReason.BAD_SPEC, "cannot be used (InvalidImageName)"),
        (
            job(),
            [ended(128, "exec: python3: not found", "StartError")],
            FailureReason.NO_ENGINE,
            "no python3 that could fetch its files: exec: python3: not found",
        ),
    ],
    ids=["differs", "odd-report", "refused", "unreachable", "deadline", "no-pods", "image-name", "no-python"],
)  # fmt: skip
def test_failed__what_another_try_would_do_again__says_why(
    raw: dict[str, Any], pods: list[dict[str, Any]], reason: FailureReason, words: str
) -> None:
    found = seen(raw, *pods)
    assert (found.phase, found.reason) == (WorkloadPhase.FAILED, reason)
    assert words in found.message


odd = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=8,
)


@given(odd, odd, odd)
def test_fill_sight_of__odd_parts__are_taken_as_not_there(spec: Any, status: Any, condition: Any) -> None:
    for raw in ({"spec": spec, "status": status}, {"spec": {}, "status": {"conditions": [condition]}}):
        assert fill_sight_of(raw).done in (True, False)
