"""Files to launch: the loop waits for them and takes its turns; a pass beside it fetches, checks and tells."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from controlplane.kernel.errors import Unavailable
from controlplane.passes.models import ItemTrouble
from registry.domain.manifest import Progress, nothing
from registry.models import ManifestState, Version
from registry.ports import StoredVersion
from registry.selectors import CLAIM_LIFETIME
from registry.services.files import verify_local
from rollouts.domain.lifecycle.effects import EnsureWorkload
from rollouts.models import Cluster, Effect, Endpoint, FilesState, Variant, Workload
from rollouts.services.errands import fetching
from rollouts.services.errands.fetching import FETCHED_AT_ONCE, FILES, fetch_files, versions_to_fetch
from rollouts.services.world import World, Worlds
from rollouts.services.writing import add_effects
from tests.rollouts.memory_world import MemoryWorld

pytestmark = pytest.mark.django_db


@pytest.fixture
def w(tmp_path: Path) -> MemoryWorld:
    return MemoryWorld(tmp_path).serve()


def waits_for_files(w: MemoryWorld, number: int = 2) -> Version:
    """A rollout was started and its files, which are not on this machine, are waited for."""
    shutil.rmtree(w.files_of(number))
    w.start(number)
    w.clock.advance(1)
    w.turn()
    w.turn()
    return Version.objects.get(number=number)


def fetch(w: MemoryWorld) -> None:
    for version_id in versions_to_fetch(now=w.now):
        fetch_files(version_id=version_id, worlds=w.worlds)


def on_download(w: MemoryWorld, act: Callable[[Progress], object], monkeypatch: pytest.MonkeyPatch) -> None:
    """`act` is called while files come, with the progress."""
    whole = w.store.download

    def download(version: StoredVersion, to: Path, progress: Progress = nothing) -> None:
        act(progress)
        whole(version, to, progress)

    monkeypatch.setattr(w.store, "download", download)


def test_turn__files_are_not_here__asks_for_them_and_calls_neither_store_nor_cluster(w: MemoryWorld) -> None:
    w.calls.names.clear()
    waits_for_files(w)
    assert w.workload(2).files_state == FilesState.WANTED
    assert not {"store.version", "store.download", "cluster.ensure"} & set(w.calls.names)
    assert "fetched and checked" in w.rollout.reason


def test_turn__files_came__launches_them(w: MemoryWorld) -> None:
    waits_for_files(w)
    fetch(w)
    assert w.workload(2).files_state == FilesState.HERE
    assert w.endpoint.next_look_at is None, "the loop is asked to look"
    w.turn()
    assert w.cluster.launched(w.variant(2).name) is not None
    assert w.workload(2).files_state == FilesState.NONE


def test_turn__cluster_lost_the_variant__its_files_are_checked_before_it_is_launched_again(
    w: MemoryWorld,
) -> None:
    w.cluster.drain(w.variant(1).name, "triage", token=w.endpoint.fencing_token)
    w.clock.advance(1)
    w.turn()
    (w.files_of(1) / "config.json").chmod(0o644)
    (w.files_of(1) / "config.json").write_bytes(b"[]")
    w.turn()
    assert w.workload(1).files_state == FilesState.WANTED
    fetch(w)
    w.turn()
    assert (w.workload(1).phase, w.workload(1).reason) == ("failed", "tampered-file")


@pytest.mark.parametrize("state", [FilesState.WANTED, FilesState.HERE])
def test_turn__variant_runs_again_before_it_was_launched__waits_for_no_files_any_more(
    w: MemoryWorld, state: FilesState
) -> None:
    """Left behind, the files of this launch would pass for those of the next one, whenever that is."""
    Workload.objects.filter(variant=w.variant(1)).update(files_state=state)
    add_effects(endpoint=w.endpoint, rollout=None, effects=(EnsureWorkload(w.variant(1).name),), now=w.now)
    w.clock.advance(1)
    w.turn()
    assert not Effect.objects.filter(kind=EnsureWorkload.kind, state="pending").exists()
    assert w.workload(1).files_state == FilesState.NONE
    assert versions_to_fetch(now=w.now) == []


def test_click__while_files_come__is_acted_on_before_they_are_here(
    w: MemoryWorld, monkeypatch: pytest.MonkeyPatch
) -> None:
    version = waits_for_files(w)
    phases: list[str] = []

    def click(_: Progress) -> None:
        w.roll_back()
        w.turn()
        phases.append(w.rollout.phase)

    on_download(w, click, monkeypatch)
    fetch_files(version_id=version.pk, worlds=w.worlds)
    assert phases[0] in ("rolled-back", "cancelled")


def test_fetch__nobody_waits_any_more__is_broken_off(w: MemoryWorld, monkeypatch: pytest.MonkeyPatch) -> None:
    version = waits_for_files(w)
    seconds = SimpleNamespace(now=0.0)
    monkeypatch.setattr(fetching, "time", SimpleNamespace(monotonic=lambda: seconds.now))

    def cancel(progress: Progress) -> None:
        w.roll_back()
        w.turn()
        seconds.now += fetching.TOLD_EVERY
        progress(1)
        raise AssertionError("it goes on")

    on_download(w, cancel, monkeypatch)
    report = fetch_files(version_id=version.pk, worlds=w.worlds)
    assert report.failed == 0
    assert not w.files_of(2).exists()
    assert Version.objects.get(pk=version.pk).manifest_claimed_until is None


def test_progress__files_come_slowly__is_told_a_few_times_a_minute_and_counts_as_no_part_of_the_launch(
    w: MemoryWorld, monkeypatch: pytest.MonkeyPatch
) -> None:
    version = waits_for_files(w)
    seconds = SimpleNamespace(now=0.0)
    monkeypatch.setattr(fetching, "time", SimpleNamespace(monotonic=lambda: seconds.now))
    monkeypatch.setattr(fetching, "GIGABYTE", 10)
    told: list[str] = []

    def trickle(progress: Progress) -> None:
        for _ in range(60):
            seconds.now += 1.0
            w.clock.advance(1)
            progress(1)
            told.append(w.workload(2).files_note)
        w.turn()

    on_download(w, trickle, monkeypatch)
    assert w.rollout.parsed_plan.launch_seconds < 60
    fetch_files(version_id=version.pk, worlds=w.worlds)
    assert len(set(told)) == 1 + 60 / fetching.TOLD_EVERY
    assert told[-1].startswith("fetching its files, 6.0 of ")
    w.behave(2, accuracy=1.0)
    assert w.run_to("succeeded", "rolled-back").phase == "succeeded"


def test_fetch__brings_nothing_for_as_long_as_a_launch_may_take__the_rollout_returns(w: MemoryWorld) -> None:
    waits_for_files(w)
    w.clock.advance(w.rollout.parsed_plan.launch_seconds + 1)
    w.turn()
    assert w.rollout.cause == "launch:timeout"
    assert "fetched and checked" in w.rollout.cause_sentence


def test_fetch__file_changed_on_this_machine__fails_the_launch_and_marks_the_version(w: MemoryWorld) -> None:
    w.start(2)
    w.clock.advance(1)
    w.turn()
    w.turn()
    weights = w.files_of(2) / "model.safetensors"
    weights.chmod(0o644)
    weights.write_bytes(bytes(byte ^ 1 for byte in weights.read_bytes()))
    fetch(w)
    w.turn()
    w.turn()
    assert w.rollout.cause == "launch:tampered-file"
    assert Version.objects.get(number=2).manifest_state == ManifestState.CHANGED


def test_fetch__store_is_away__is_tried_again_and_the_page_says_why(
    w: MemoryWorld, monkeypatch: pytest.MonkeyPatch
) -> None:
    version = waits_for_files(w)

    def away(_: Progress) -> None:
        raise Unavailable("MLflow does not answer.")

    with monkeypatch.context() as outage:
        on_download(w, away, outage)
        assert fetch_files(version_id=version.pk, worlds=w.worlds).failed == 1
    assert w.workload(2).files_state == FilesState.WANTED
    w.turn()
    assert "MLflow does not answer" in w.workload(2).message
    assert ItemTrouble.objects.get(pass_name=FILES).error == "MLflow does not answer."
    w.clock.advance(10)
    fetch(w)
    assert w.workload(2).files_state == FilesState.HERE
    assert not ItemTrouble.objects.exists()


def test_fetch__another_worker_reads_the_same_version__reads_nothing(
    w: MemoryWorld, monkeypatch: pytest.MonkeyPatch
) -> None:
    version = waits_for_files(w)
    reads: list[int] = []

    def meanwhile(_: Progress) -> None:
        reads.append(1)
        assert versions_to_fetch(now=w.now) == []
        fetch_files(version_id=version.pk, worlds=w.worlds)

    on_download(w, meanwhile, monkeypatch)
    fetch_files(version_id=version.pk, worlds=w.worlds)
    assert reads == [1]
    assert w.workload(2).files_state == FilesState.HERE


def test_fetch__taking_the_manifest_lasted_long__the_version_is_claimed_until_its_files_are_checked(
    w: MemoryWorld, monkeypatch: pytest.MonkeyPatch
) -> None:
    version = waits_for_files(w)
    Version.objects.filter(pk=version.pk).update(manifest=None, manifest_state=ManifestState.PENDING)
    on_download(w, lambda _: w.clock.advance(20 * 60), monkeypatch)
    others: list[list[int]] = []

    def while_it_is_checked(*arguments: Any) -> Any:
        others.append(versions_to_fetch(now=w.now))
        return verify_local(*arguments)

    monkeypatch.setattr("registry.services.materialise.verify_local", while_it_is_checked)
    fetch_files(version_id=version.pk, worlds=w.worlds)
    assert others == [[]], (
        "somebody else would read the same gigabytes beside it, and a third one a moment later"
    )
    assert w.workload(2).files_state == FilesState.HERE


def test_fetch__worker_was_killed_in_it__another_takes_it_when_its_claim_ran_out(w: MemoryWorld) -> None:
    version = waits_for_files(w)
    Version.objects.filter(pk=version.pk).update(manifest_claimed_until=w.now + CLAIM_LIFETIME)
    assert versions_to_fetch(now=w.now) == []
    w.clock.advance(CLAIM_LIFETIME.total_seconds() + 1)
    assert versions_to_fetch(now=w.now) == [version.pk]


def wanted_before(w: MemoryWorld, version: Version, *, claimed: bool) -> list[Version]:
    """As many other versions as may be fetched at once; they were wanted before this one."""
    until = w.now + CLAIM_LIFETIME if claimed else None
    others = []
    variant = w.variant(version.number)
    for n in range(FETCHED_AT_ONCE):
        other = Version.objects.create(
            model=version.model, number=100 + n, created_at=w.now, manifest_claimed_until=until
        )
        variant.pk, variant.name, variant.version, variant.digest = None, f"other-{n}", other, str(n)
        variant.save(force_insert=True)
        Workload.objects.create(
            variant=variant,
            wanted=True,
            wanted_since=w.now - timedelta(minutes=1),
            files_state=FilesState.WANTED,
        )
        others.append(other)
    return others


def test_versions_to_fetch__more_than_may_be_fetched__those_behind_wait_and_their_launch_does_not_begin(
    w: MemoryWorld,
) -> None:
    wanted_before(w, waits_for_files(w), claimed=True)
    assert versions_to_fetch(now=w.now) == []
    waiting = w.workload(2)
    assert (waiting.files_state, waiting.files_at) == (FilesState.WANTED, w.now)
    assert "wait until one of 4 others" in waiting.files_note


def test_versions_to_fetch__those_before_failed_a_moment_ago__keep_nobody_waiting(w: MemoryWorld) -> None:
    version = waits_for_files(w)
    for other in wanted_before(w, version, claimed=False):
        ItemTrouble.objects.create(
            pass_name=FILES, item=str(other.pk), label="other", first_failed_at=w.now, last_attempt_at=w.now,
            next_attempt_at=w.now + timedelta(seconds=30), error="MLflow failed (500).",
        )  # fmt: skip
    assert versions_to_fetch(now=w.now) == [version.pk]


def test_drain__while_files_are_waited_for__nobody_waits_any_more(w: MemoryWorld) -> None:
    waits_for_files(w)
    w.roll_back()
    w.turn()
    w.turn()
    assert not Effect.objects.filter(state="pending", kind="ensure-workload").exists()
    assert w.workload(2).files_state == FilesState.NONE
    assert versions_to_fetch(now=w.now) == []


def stranded(w: MemoryWorld, *versions: Version) -> Worlds:
    """Launches of these versions wait on a cluster that cannot be used, for longer than any other."""
    elsewhere = Cluster.objects.create(name="elsewhere", kind="moonbase")
    endpoint = Endpoint.objects.get(pk=w.endpoint.pk)
    endpoint.pk, endpoint.name, endpoint.cluster = None, "stranded", elsewhere
    endpoint.save(force_insert=True)
    for version in versions:
        variant = Variant(
            endpoint=endpoint,
            version=version,
            name=f"stranded-{version.pk}",
            digest=str(version.pk),
            serving={},
            created_at=w.now,
        )
        variant.save(force_insert=True)
        Workload.objects.create(
            variant=variant,
            wanted=True,
            wanted_since=w.now - timedelta(hours=1),
            files_state=FilesState.WANTED,
        )

    def build(name: str) -> World:
        if name == "elsewhere":
            raise Unavailable("The cluster elsewhere cannot be used.")
        return w.world

    return Worlds(("elsewhere", w.world.name), build, w.clock)


def test_fetch__waited_for_on_a_cluster_that_cannot_be_used_too__comes_for_the_other_one(
    w: MemoryWorld,
) -> None:
    version = waits_for_files(w)
    worlds = stranded(w, version)
    assert fetch_files(version_id=version.pk, worlds=worlds).failed == 0
    assert w.workload(2).files_state == FilesState.HERE


def test_fetch__cluster_cannot_be_used__is_told_and_takes_the_place_of_no_other(w: MemoryWorld) -> None:
    version = waits_for_files(w)
    others = [
        Version.objects.create(model=version.model, number=100 + n, created_at=w.now)
        for n in range(FETCHED_AT_ONCE)
    ]
    worlds = stranded(w, *others)
    for pk in versions_to_fetch(now=w.now):
        fetch_files(version_id=pk, worlds=worlds)
    assert ItemTrouble.objects.filter(error__startswith="The cluster elsewhere").count() == FETCHED_AT_ONCE
    assert versions_to_fetch(now=w.now) == [version.pk]
