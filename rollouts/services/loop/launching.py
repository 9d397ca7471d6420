"""Launching a variant, and what a refusal means."""

from __future__ import annotations

import logging

from controlplane.kernel.errors import HeadgateError, InvalidInput, NotFound, Refused, Rejected, TamperedFile
from registry.services.materialise import check_unread, source_of
from rollouts.domain.engines import FailureReason, WorkloadPhase
from rollouts.models import Endpoint, FilesState, Variant, Workload
from rollouts.services.loop.leases import Lease
from rollouts.services.workload_specs import workload_spec
from rollouts.services.world import World

log = logging.getLogger(__name__)

NO_ROOM = frozenset({"no-room", "no-memory", "no-port"})  # refusals of a cluster that pass by themselves
OF_SPEC = ("arguments", "environment", "resources", "replicas", "image", "accelerators", "adopts")


def launch(endpoint: Endpoint, variant: Variant, lease: Lease, world: World) -> None:
    """Asks the cluster to run it. Quick: either the files were fetched and checked before (`fetching.py`), or the
    cluster fetches them behind. It compares them with the manifest before the engine reads any of them. Those of a
    server that is adopted are never compared: they are where its owner put them."""
    if world.cluster.fetches_files() and not variant.spec.adopts:
        check_unread(version_id=variant.version_id, now=world.clock.now(), allowed_files=world.allowed_files)
    source, manifest = source_of(version_id=variant.version_id)
    spec = workload_spec(
        variant=variant.name, endpoint=endpoint.name, source=source, manifest=manifest, spec=variant.spec
    )
    world.cluster.ensure(spec, token=lease.token)


def final_reason(error: HeadgateError) -> FailureReason:
    """Why a launch that was refused will be refused again; NONE when it is worth another try."""
    if isinstance(error, TamperedFile):
        return FailureReason.TAMPERED_FILE
    if isinstance(error, InvalidInput) and error.field == "engine":
        return FailureReason.NO_ENGINE
    if isinstance(error, InvalidInput) and error.field.startswith(OF_SPEC):
        return FailureReason.BAD_SPEC
    if isinstance(error, Refused) and error.code == FailureReason.NO_SECRET:
        return FailureReason.NO_SECRET
    if isinstance(error, Refused) and error.code in NO_ROOM:
        return FailureReason.NONE
    if isinstance(error, InvalidInput | NotFound | Rejected | Refused):
        return FailureReason.BAD_MODEL
    return FailureReason.NONE


def note_unfit_files(workload: Workload) -> None:
    """The files cannot be had, or may not be served: the launch failed for good."""
    Workload.objects.filter(pk=workload.pk).update(
        phase=WorkloadPhase.FAILED.value,
        reason=workload.files_reason,
        message=workload.files_note,
        files_state=FilesState.NONE,
    )
    log.warning("workload.not_launched workload=%s %s", workload.pk, workload.files_note)


def note_failure(workload: Workload, error: HeadgateError, reason: FailureReason) -> None:
    """A launch that was refused is shown where people look; a tampered file is final, a lack of room is not."""
    changes: dict[str, str] = {"message": str(error)}
    if reason is not FailureReason.NONE:
        changes |= {"phase": WorkloadPhase.FAILED.value, "reason": reason.value}
    Workload.objects.filter(pk=workload.pk).update(**changes)
    log.warning("workload.not_launched workload=%s %s", workload.pk, error)
