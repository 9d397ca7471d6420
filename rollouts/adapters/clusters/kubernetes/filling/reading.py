"""From what a cluster says of a filling Job to a phase and words for people. Pure; odd parts are taken as not there.

The same line is drawn as for engines (`diagnosis`): what may pass by itself is *blocked* and said in the cluster's own
words, and FAILED is what another try would do again, or a Job that has no try left.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from controlplane.kernel.foreign import words_of
from rollouts.adapters.clusters.kubernetes.diagnosis import (
    BAD_IMAGE,
    CONFIG_TROUBLE,
    IMAGE_TROUBLE,
    NO_PROGRAM,
    Diagnosis,
    since,
)
from rollouts.adapters.clusters.kubernetes.filling.fill_volume import (
    DIFFERS,
    NO_VOLUME,
    REFUSED,
    UNREACHABLE,
)
from rollouts.adapters.clusters.kubernetes.pod_reading import End, PodSight, part, parts, seconds_of, text
from rollouts.domain.engines import FailureReason, WorkloadPhase

MADE_SOON = "Its files are about to be fetched."
TOLD = re.compile(r"(\d{1,18}) of (\d{1,18}) bytes")
GIGABYTE, MEGABYTE = 1_000_000_000, 1_000_000
DEADLINE = "DeadlineExceeded"


@dataclass(frozen=True, slots=True)
class FillSight:
    """What a Job says of itself. Times are seconds since the epoch.

    done_at   when the files were there; None: not yet
    done      they are
    failed    why it gave up, by Kubernetes' word for it; empty: it did not
    ends_at   when it will have taken as long as it may
    held      somebody keeps it from beginning, such as a queue
    """

    done: bool = False
    done_at: float | None = None
    failed: str = ""
    words: str = ""
    ends_at: float | None = None
    held: bool = False


def fill_sight_of(raw: Mapping[str, Any]) -> FillSight:
    """What the Job's object says. Never raises."""
    spec, status = part(raw, "spec"), part(raw, "status")
    true = {text(one, "type"): one for one in parts(status, "conditions") if text(one, "status") == "True"}
    # FailureTarget says so first; Failed comes once all of its pods are gone.
    failed = true.get("Failed") or true.get("FailureTarget")
    began, seconds = seconds_of(text(status, "startTime")), spec.get("activeDeadlineSeconds")
    return FillSight(
        done="Complete" in true,
        done_at=seconds_of(text(status, "completionTime")),
        failed=(text(failed, "reason") or "Failed") if failed is not None else "",
        words=words_of(text(failed, "message")) if failed is not None else "",
        ends_at=began + seconds if began is not None and isinstance(seconds, int) else None,
        held=spec.get("suspend") is True,
    )


def diagnose_fill(
    job: FillSight | None,
    pods: Sequence[PodSight],
    warnings: Mapping[str, str],
    *,
    job_name: str,
    url: str,
    told: str = "",
    now: float,
) -> Diagnosis:
    """Phase and words of a variant whose files are fetched.

    job       None: it is not there yet, or no more
    pods      of this Job, oldest first; their engine is the container that fetches
    warnings  by name of a pod or of the Job, the cluster's latest warning about it; the Job's only while it is younger
              than its pods
    url       at which pods reach Headgate
    told      the last line of the newest pod's log
    now       seconds since the epoch
    """
    if job is None:
        return _waits(MADE_SOON, blocked=False)
    if job.done:
        return _waits("Its files are there.", blocked=False, files_at=job.done_at)
    failure = _failure(job, pods, url)
    if failure is not None:
        return Diagnosis(WorkloadPhase.FAILED, reason=failure[0], message=failure[1])
    if job.held:
        return _waits("The Job that fetches its files waits to be admitted.")
    newest = pods[-1] if pods else None
    said = words_of(warnings.get(job_name, ""))
    refused = f"No pod can be made to fetch its files: {said}" if said else ""
    if newest is None:
        return _waits(refused or MADE_SOON, blocked=bool(refused))
    container = newest.engine
    if container.running_since is not None and not newest.node_lost:
        # Its own time-outs end a run in which nothing comes, so that one that runs brings something.
        files_at = now if job.ends_at is None else min(now, job.ends_at)
        return _waits(_progress(told), blocked=False, files_at=max(files_at, container.running_since))
    # What an earlier try brought counts, however long ago the launch was asked for.
    ends = [
        pod.engine.last.at for pod in pods if pod.engine.last is not None and pod.engine.last.at is not None
    ]
    words = refused if refused and newest.over else _why(newest, warnings, url)
    return _waits(words, files_at=min(now, max(ends)) if ends else None)


def _waits(words: str, *, blocked: bool = True, files_at: float | None = None) -> Diagnosis:
    return Diagnosis(WorkloadPhase.STARTING, message=words, files_at=files_at, blocked=blocked)


def _why(pod: PodSight, warnings: Mapping[str, str], url: str) -> str:
    """Why the newest pod of the Job fetches nothing now."""
    container = pod.engine
    if pod.gates:
        return f"The Job that fetches its files waits to be admitted ({', '.join(pod.gates)})."
    if pod.unplaced is not None:
        _, words, moment = pod.unplaced
        return f"The Job that fetches its files cannot be scheduled{since(moment)}: {words}"
    if pod.node_lost:
        return f"The node of {pod.name}, which fetches its files, does not report any more."
    if container.waiting in IMAGE_TROUBLE:
        words = f"({container.waiting}): {container.words}"
        return f"The image of the Job that fetches its files cannot be pulled {words}"
    if container.waiting in CONFIG_TROUBLE:
        words = f"({container.waiting}): {container.words}"
        return f"The container that fetches its files cannot be made {words}"
    if container.ended and container.last is not None and container.last.code:
        return f"{_end_words(container.last, url)} It is tried again."
    if pod.over and pod.reason:
        return (
            f"{pod.name}, which fetched its files, was ended ({pod.reason}): {pod.words} It is tried again."
        )
    if warnings.get(pod.name):
        return f"The pod that fetches its files cannot begin: {words_of(warnings[pod.name])}"
    return MADE_SOON


def _failure(job: FillSight, pods: Sequence[PodSight], url: str) -> tuple[FailureReason, str] | None:
    for pod in pods:
        container, end = pod.engine, pod.engine.last
        if container.waiting in BAD_IMAGE:
            return (
                FailureReason.BAD_SPEC,
                f"The image of the Job that fetches its files cannot be used ({container.waiting}): {container.words}",
            )
        if end is None:
            continue
        if end.code == DIFFERS:
            said = _report(end)
            path, detail = said.get("path", "of the version"), said.get("detail", "differs from the manifest")
            return FailureReason.TAMPERED_FILE, f"The file {path} {detail}."
        if end.code == REFUSED:
            return FailureReason.CRASH_LOOP, _end_words(end, url)
        if end.reason in NO_PROGRAM:
            said_of_it = words_of(end.message.strip()) or end.reason
            return (
                FailureReason.NO_ENGINE,
                f"The image has no python3 that could fetch its files: {said_of_it}",
            )
    if not job.failed:
        return None
    if job.failed == DEADLINE:
        return (
            FailureReason.TIMEOUT,
            f"Its files did not come in the time that they may take. {job.words}".strip(),
        )
    ends = [pod.engine.last for pod in pods if pod.engine.last is not None and pod.engine.last.code]
    words = _end_words(ends[-1], url) if ends else job.words or job.failed
    return FailureReason.CRASH_LOOP, f"Its files do not come, after {len(ends)} tries: {words}"


def _end_words(end: End, url: str) -> str:
    """Why the container ended, and the sentence."""
    detail = _report(end).get("detail", "").rstrip(".")
    if end.code == UNREACHABLE:
        return f"Headgate was not reachable from the pod at {url}: {detail}."
    if end.code == REFUSED:
        return f"Headgate does not hand out its files at {url}: {detail}."
    if end.code == NO_VOLUME:
        return f"{detail}."
    if end.reason == "OOMKilled":
        return "The pod that fetches its files took more memory than it may (OOMKilled)."
    lines = [line for line in end.message.splitlines() if line.strip()]
    said = f": {words_of(lines[-1])}" if lines else "."
    return f"What fetches its files ended with exit status {end.code}{said}"


def _report(end: End) -> dict[str, str]:
    """What the script wrote; empty where it wrote nothing that can be read."""
    try:
        said = json.loads(end.message)
    except (ValueError, RecursionError):
        return {}
    if not isinstance(said, Mapping):
        return {}
    return {name: words_of(said[name]) for name in ("path", "detail") if isinstance(said.get(name), str)}


def _progress(told: str) -> str:
    found = TOLD.search(told)
    if found is None:
        return "Its files are being fetched."
    done, total = int(found[1]), int(found[2])
    unit, name = (GIGABYTE, "GB") if total >= GIGABYTE else (MEGABYTE, "MB")
    return f"Its files are being fetched, {done / unit:.1f} of {total / unit:.1f} {name}."
