"""What serves is kept after a restore: it becomes the stable variant, written down again where the copy is older."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from controlplane.audit.models import AuditEvent
from controlplane.kernel.errors import Refused
from registry.models import Version
from rollouts.domain.variants import ServingSpec
from rollouts.models import Variant
from tests.rollouts.memory_world import ERRORS, PLAN, START, MemoryWorld
from tests.rollouts.older_copy import (
    Copy,
    choose,
    promote_now,
    restored_before_the_end,
    restored_before_the_promotion,
    route,
    run,
    wait_until_quiet,
)

pytestmark = [pytest.mark.story, pytest.mark.django_db]

SEALING = "rollouts.services.commands.endpoints.sealed_spec"
LICENCE = {"MODEL_LICENCE": "the licence of sentinel"}


@pytest.fixture
def w(tmp_path: Path) -> MemoryWorld:
    return MemoryWorld(tmp_path, gates=(ERRORS,), rate=20).serve()


def test_keep__a_variant_that_the_copy_does_not_know__is_written_down_again_and_serves_on(
    w: MemoryWorld,
) -> None:
    name = restored_before_the_promotion(w)
    wait_until_quiet(w)
    choose(w, "keep", why="v2 was promoted at noon")
    run(w, 3)
    endpoint = w.endpoint
    assert endpoint.restored_state == ""
    assert endpoint.stable is not None
    assert endpoint.stable.name == name
    assert route(w) == {name: 10_000}
    assert not w.workload(1).wanted
    assert w.lost == 0
    audit = AuditEvent.objects.get(action="endpoint.restore-chosen")
    assert (audit.actor, audit.why) == ("mara", "v2 was promoted at noon")
    w.start(3)
    w.run_to("succeeded")


def test_keep__while_the_copy_believes_in_a_rollout__ends_it_and_drains_nothing_that_serves(
    w: MemoryWorld,
) -> None:
    restored_before_the_end(w)
    wait_until_quiet(w)
    choose(w, "keep")
    run(w, 3)
    assert w.rollout.phase == "superseded"
    assert w.rollout.cause == "restored-copy"
    assert w.endpoint.stable == w.variant(2)
    assert w.shares() == {2: 10_000}
    assert w.lost == 0


def test_keep__of_a_split__the_larger_share_serves_alone(w: MemoryWorld) -> None:
    copy = Copy()
    w.start(2)
    w.run(lambda: w.shares().get(2) == 2500)
    stable, candidate = w.variant(1).name, w.variant(2).name
    copy.restore()
    wait_until_quiet(w)
    assert w.endpoint.restored["served"] == {stable: 7500, candidate: 2500}
    choose(w, "keep")
    run(w, 4)
    assert route(w) == {stable: 10_000}
    assert w.endpoint.stable == w.variant(1)


def test_keep__of_what_the_cluster_cannot_prove__refused(
    w: MemoryWorld, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(w.cluster, "launched", lambda variant: None)
    restored_before_the_promotion(w)
    wait_until_quiet(w)
    with pytest.raises(Refused) as refused:
        choose(w, "keep")
    assert refused.value.code == "cannot-be-kept"


@pytest.mark.parametrize(
    "as_stored",
    [
        {"serving": {"arguments": {"scheduler-cls": "of old"}}},
        {"serving": {"environment": {"MODEL_LICENCE": {"secret": {"sealed": "x", "fingerprint": "0123"}}}}},
        {"version": {"gone_at": START}},
    ],
    ids=["from before the list of options", "sealed by a rotation", "gone from MLflow"],
)
def test_keep__a_variant_that_the_database_knows__is_kept_as_it_is(
    w: MemoryWorld, as_stored: dict[str, dict[str, Any]]
) -> None:
    restored_before_the_end(w)
    known = w.variant(2)
    for name, value in as_stored.get("serving", {}).items():
        Variant.objects.filter(pk=known.pk).update(serving={**known.serving, name: value})
    Version.objects.filter(pk=known.version_id).update(**as_stored.get("version", {}))
    wait_until_quiet(w)
    assert w.endpoint.restored["unkept"] == {}
    choose(w, "keep")
    run(w, 3)
    assert w.endpoint.restored_state == ""
    assert w.endpoint.stable == known
    assert route(w) == {known.name: 10_000}
    assert w.workload(2).wanted
    assert Variant.objects.count() == 2
    assert w.lost == 0


def test_keep__what_would_be_stored_under_another_name__refused(
    w: MemoryWorld, monkeypatch: pytest.MonkeyPatch
) -> None:
    copy = Copy()
    with monkeypatch.context() as earlier:  # Headgate from before secrets were encrypted
        earlier.setattr(SEALING, lambda *, spec, **options: spec)
        w.start(2, plan=replace(PLAN, watch_seconds=1), serving=ServingSpec(environment=LICENCE))
        promote_now(w)
    name = w.variant(2).name
    copy.restore()
    wait_until_quiet(w)
    assert "another name" in w.endpoint.restored["unkept"][name]
    with pytest.raises(Refused) as refused:
        choose(w, "keep")
    assert refused.value.code == "cannot-be-kept"
    run(w, 3)
    assert route(w) == {name: 10_000}
