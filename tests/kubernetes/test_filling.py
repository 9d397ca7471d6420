"""A version whose files Headgate holds, on the real control plane: a Job fills the volume, and then there is an engine.

Headgate hands them out by its real web process, or a stand-in does where something has to go wrong midway. Headgate's
user has the least role that the project documents, and the namespace takes restricted pods only.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from registry.domain.manifest import Manifest, take_manifest, verify_folder
from registry.services.file_door import grant_files
from rollouts.adapters.clusters.kubernetes.client import OBJECT_KINDS
from rollouts.adapters.clusters.kubernetes.cluster import KubernetesCluster
from rollouts.adapters.clusters.kubernetes.filling.objects import HeadgateDoor, fill_name
from rollouts.domain.engines import FailureReason, WorkloadPhase
from rollouts.ports import WorkloadSpec, WorkloadStatus
from tests.kubernetes.lab import KubernetesLab
from tests.kubernetes.workloads import PATIENCE_SECONDS, PROFILE, WorkloadBench
from tests.standins.file_door import file_door
from tests.standins.running import free_port, wait_until
from tests.standins.web_process import WebProcess

pytestmark = [
    pytest.mark.e2e,
    pytest.mark.whole,
    pytest.mark.needs("root", "namespaces", "envoy", "kubernetes"),
]

NAMESPACE, CLAIM = "filling", "models"
FILLED = {"kind": "claim", "claim": CLAIM, "filled_by": "headgate"}
# What Headgate's own registry has of a version: the files, and the row that says what they are.
KEEP = """
from pathlib import Path
from django.conf import settings
from registry.domain.manifest import take_manifest
from tests import factories
folder = Path({folder!r})
manifest = take_manifest(folder)
target = Path(settings.RUN_DIR) / "models" / manifest.folder_name
target.parent.mkdir(exist_ok=True)
folder.rename(target)
version = factories.model("triage{number}", versions=1).versions.get()
version.manifest, version.manifest_digest = manifest.to_json(), manifest.digest
version.save()
"""


class FillingBench(WorkloadBench):
    """A cluster whose volume Headgate fills."""

    def __init__(self, lab: KubernetesLab, folder: Path) -> None:
        super().__init__(lab, folder, NAMESPACE)
        self.cluster.close()
        self.volume = lab.make_claim(NAMESPACE, CLAIM)
        self.web = WebProcess(folder / "run", host=lab.here)
        (folder / "run").mkdir()
        self.web.migrate()
        self.web.start()
        self.numbers = 0
        self.cluster = self.filled_from(self.web.url)

    def filled_from(self, url: str, **changes: Any) -> KubernetesCluster:
        def grant(manifest: Manifest, seconds: float) -> str:
            return grant_files(manifest=manifest, seconds=seconds, now=datetime.now(UTC))

        return self.control_plane(HeadgateDoor(url, grant), **{"weights": FILLED, **changes})

    def registered(self, files: dict[str, bytes]) -> WorkloadSpec:
        """A variant of a version that this Headgate holds."""
        self.numbers += 1
        spec = self.of(files)
        self.web.run(KEEP.format(folder=str(self.folder / f"files{self.numbers}"), number=self.numbers))
        return spec

    def of(self, files: dict[str, bytes]) -> WorkloadSpec:
        """A variant of a version with these files, which stay aside."""
        folder = self.folder / f"files{self.numbers}"
        folder.mkdir(exist_ok=True)
        for path, content in files.items():
            (folder / path).parent.mkdir(parents=True, exist_ok=True)
            (folder / path).write_bytes(content)
        return self.spec(manifest=take_manifest(folder))

    def filling(self, spec: WorkloadSpec, attempt: int = 0) -> dict[str, bool]:
        """What there is that fills the volume for this launch."""
        name = fill_name(spec.variant, attempt)
        return {
            kind: self.admin.get(OBJECT_KINDS[kind], name) is not None
            for kind in ("Job", "Secret", "NetworkPolicy")
        }

    def fill_pods(self, spec: WorkloadSpec, attempt: int = 0) -> list[dict[str, Any]]:
        return self.admin.list(OBJECT_KINDS["Pod"], f"headgate.dev/fill={fill_name(spec.variant, attempt)}")[
            0
        ]


@pytest.fixture(scope="module")
def bench(kubernetes_lab: KubernetesLab, tmp_path_factory: pytest.TempPathFactory) -> Iterator[FillingBench]:
    made = FillingBench(kubernetes_lab, tmp_path_factory.mktemp("headgate"))
    yield made
    made.cluster.close()
    made.web.kill()


@contextmanager
def using(bench: FillingBench, cluster: KubernetesCluster) -> Iterator[None]:
    """The bench with another control plane."""
    before, bench.cluster = bench.cluster, cluster
    try:
        yield
    finally:
        bench.cluster = before
        cluster.close()


def said(bench: FillingBench, spec: WorkloadSpec, words: str) -> WorkloadStatus:
    """The status once its message has these words."""

    def says() -> WorkloadStatus | None:
        status = bench.status(spec)
        return status if status is not None and words in status.message else None

    found = wait_until(f"the cluster says {words!r}", says, PATIENCE_SECONDS)
    assert found is not None
    return found


def drained(bench: FillingBench, spec: WorkloadSpec) -> None:
    bench.cluster.drain(spec.variant, spec.endpoint, token=5)
    bench.until(spec, WorkloadPhase.ABSENT)


def test_launch__version_that_headgate_holds__is_ready_with_files_that_its_engine_only_reads(
    bench: FillingBench,
) -> None:
    files = {"model.safetensors": b"weights" * 10_000, "sub/config.json": b"{}"}
    spec = bench.registered(files)
    bench.cluster.ensure(spec, token=5)
    assert bench.pods(spec) == []
    status = bench.until(spec, WorkloadPhase.READY)
    assert status.files_at is not None
    folder = bench.volume / spec.manifest.folder_name
    verify_folder(folder, spec.manifest)
    (pod,) = bench.pods(spec)
    for container in (*pod["spec"]["initContainers"], *pod["spec"]["containers"]):
        (mount,) = [one for one in container["volumeMounts"] if one["name"] == "model"]
        assert (mount["readOnly"], mount["subPath"]) == (True, spec.manifest.folder_name)
    assert [one["status"]["phase"] for one in bench.fill_pods(spec)] == ["Succeeded"]
    second = bench.spec(manifest=spec.manifest)
    bench.cluster.ensure(second, token=5)  # of the same version: the folder is there
    bench.until(second, WorkloadPhase.READY)
    for one in (spec, second):
        drained(bench, one)
    wait_until("its Job is gone", lambda: not any(bench.filling(spec).values()), PATIENCE_SECONDS)
    verify_folder(folder, spec.manifest)


def test_launch__file_differs_from_the_manifest__fails_and_is_right_once_it_was_mended(
    bench: FillingBench,
) -> None:
    spec = bench.registered({"model.safetensors": b"right", "config.json": b"{}"})
    file = bench.folder / "run" / "models" / spec.manifest.folder_name / "model.safetensors"
    file.write_bytes(b"wrong")
    bench.cluster.ensure(spec, token=5)
    status = bench.until(spec, WorkloadPhase.FAILED)
    assert status.reason is FailureReason.TAMPERED_FILE
    assert "The file model.safetensors differs as it comes from Headgate" in status.message
    assert not (bench.volume / spec.manifest.folder_name).exists()
    assert [name.name for name in bench.volume.glob(".incoming-*")] == []
    assert bench.pods(spec) == []
    file.write_bytes(b"right")
    bench.cluster.ensure(spec, token=5)
    bench.until(spec, WorkloadPhase.READY)
    assert bench.filling(spec, attempt=1) == {"Job": True, "Secret": True, "NetworkPolicy": True}
    drained(bench, spec)


def test_launch__job_is_killed_midway__its_next_pod_brings_all_of_it(bench: FillingBench) -> None:
    files = {"model.safetensors": b"weights" * 1_000, "killed.json": b"{}"}
    spec = bench.of(files)
    with file_door(files, host=bench.lab.here) as door, using(bench, bench.filled_from(door.url)):
        door.gate.clear()
        bench.cluster.ensure(spec, token=5)
        wait_until("it fetches", lambda: door.asked, PATIENCE_SECONDS)
        assert "Its files are being fetched" in said(bench, spec, "being fetched").message
        (pod,) = bench.fill_pods(spec)
        bench.lab.run_out_of_memory(NAMESPACE, pod["metadata"]["name"], "fill")
        said(bench, spec, "(OOMKilled). It is tried again.")
        assert not (bench.volume / spec.manifest.folder_name).exists()
        door.gate.set()
        bench.until(spec, WorkloadPhase.READY)
        verify_folder(bench.volume / spec.manifest.folder_name, spec.manifest)
        drained(bench, spec)


def test_drain__while_files_come__ends_the_job_and_leaves_nothing(bench: FillingBench) -> None:
    files = {"model.safetensors": b"weights" * 1_000, "drained.json": b"{}"}
    spec = bench.of(files)
    with file_door(files, host=bench.lab.here) as door, using(bench, bench.filled_from(door.url)):
        door.gate.clear()
        bench.cluster.ensure(spec, token=5)
        wait_until("it fetches", lambda: door.asked, PATIENCE_SECONDS)
        drained(bench, spec)
        wait_until("its Job is gone", lambda: not any(bench.filling(spec).values()), PATIENCE_SECONDS)
        wait_until("its pods are gone", lambda: bench.fill_pods(spec) == [], PATIENCE_SECONDS)
    assert not (bench.volume / spec.manifest.folder_name).exists()


def test_launch__headgate_is_not_reachable__is_said_with_the_address_and_is_no_failure(
    bench: FillingBench,
) -> None:
    spec = bench.of({"config.json": b"{}"})
    url = f"http://{bench.lab.here}:{free_port()}"
    with using(bench, bench.filled_from(url)):
        bench.cluster.ensure(spec, token=5)
        status = said(bench, spec, f"Headgate was not reachable from the pod at {url}")
        assert (status.phase, status.reason) == (WorkloadPhase.STARTING, FailureReason.NONE)
        drained(bench, spec)


def test_launch__image_cannot_be_pulled__is_said_and_is_no_failure(bench: FillingBench) -> None:
    spec = bench.of({"config.json": b"{}"})
    image = PROFILE["image"].replace("engine", "nothing")  # type: ignore[attr-defined]
    with using(bench, bench.filled_from(bench.web.url, image=image)):
        bench.cluster.ensure(spec, token=5)
        status = said(bench, spec, "The image of the Job that fetches its files cannot be pulled")
        assert (status.phase, status.reason) == (WorkloadPhase.STARTING, FailureReason.NONE)
        drained(bench, spec)


def test_launch__volume_is_not_there__is_said_and_is_no_failure(bench: FillingBench) -> None:
    spec = bench.of({"config.json": b"{}"})
    absent = {**FILLED, "claim": "absent"}
    profile = {"weights": absent}
    with using(bench, bench.filled_from(bench.web.url, **profile)):
        bench.cluster.ensure(spec, token=5)
        status = said(bench, spec, 'persistentvolumeclaim "absent" not found')
        assert (status.phase, status.reason) == (WorkloadPhase.STARTING, FailureReason.NONE)
        drained(bench, spec)
