"""Starting a bandit: its candidates and arms, all or nothing, and what cannot be started."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from controlplane.access.actors import Actor
from controlplane.access.roles import Role
from controlplane.audit.models import AuditEvent
from controlplane.kernel.errors import Conflict, InvalidInput, Refused
from rollouts import wiring
from rollouts.domain.bandits import BanditSpec
from rollouts.domain.lifecycle.plan import Plan
from rollouts.domain.variants import ServingSpec
from rollouts.models import Arm, Endpoint, HistoryEvent, Rollout, Variant, Workload
from rollouts.services.commands.endpoints import ensure_variant
from rollouts.services.commands.start import start_rollout
from tests import factories

pytestmark = pytest.mark.django_db

PLAN = Plan("bandit", (), settings=BanditSpec())


@pytest.fixture
def endpoint() -> Endpoint:
    made = factories.endpoint()
    for number in range(4, 8):
        factories.version(made.model, number)
    return made


def begin(endpoint: Endpoint, *numbers: int, plan: Plan = PLAN, **options: Any) -> Rollout:
    first, *others = numbers
    return start_rollout(
        endpoint=endpoint,
        version_number=first,
        other_versions=others,
        plan=plan,
        actor=Actor.person(factories.person(Role.ENGINEER)),
        worlds=wiring.worlds(),
        now=factories.right_now(),
        **options,
    )


def test_start__two_candidates__are_arms_in_the_order_given(endpoint: Endpoint) -> None:
    rollout = begin(endpoint, 3, 2)

    arms = Arm.objects.filter(rollout=rollout).select_related("variant__version")
    assert [(arm.name, arm.variant.version.number, arm.desired_bp) for arm in arms] == [
        ("baseline", 1, 10_000),
        ("candidate", 3, 0),
        ("candidate-2", 2, 0),
    ]
    assert (rollout.strategy, rollout.phase, rollout.candidate.version.number) == ("bandit", "pending", 3)
    assert rollout.parsed_plan == PLAN


def test_start__one_candidate__is_a_bandit_of_two_arms(endpoint: Endpoint) -> None:
    rollout = begin(endpoint, 2)

    assert [arm.name for arm in rollout.arms.all()] == ["baseline", "candidate"]


def test_start__bandit__is_told_with_all_its_candidates(endpoint: Endpoint) -> None:
    rollout = begin(endpoint, 2, 3)

    names = [arm.variant.name for arm in rollout.arms.exclude(name="baseline")]
    told = HistoryEvent.objects.get(rollout=rollout, kind="created").detail
    audited = AuditEvent.objects.get(action="rollout.created").after
    assert audited is not None
    assert all(name in told and name in audited["candidate"] for name in names)


def test_start__earlier_launch_failed__every_candidate_launches_anew(endpoint: Endpoint) -> None:
    for number in (2, 3):
        failed = factories.variant(endpoint, number, ready=False)
        Workload.objects.filter(variant=failed).update(phase="failed", reason="no-memory")
    plain = Variant.objects.get(endpoint=endpoint, version__number=2).spec

    begin(endpoint, 2, 3, serving=plain)

    assert not Workload.objects.filter(phase="failed").exists()


@pytest.mark.parametrize(
    ("numbers", "field", "said"),
    [
        ((2, 3, 2), "versions[2]", "v2 is named twice"),
        ((2, 99), "versions[1]", "no version 99"),
        ((99,), "version", "no version 99"),
        ((2, 3, 4, 5, 6, 7), "versions", "6 candidates are too many"),
        ((2, 1), "versions[1]", "is what serves now"),
    ],
)
def test_start__candidates_that_cannot_be__are_refused_naming_them(
    endpoint: Endpoint, numbers: tuple[int, ...], field: str, said: str
) -> None:
    with pytest.raises(InvalidInput) as caught:
        begin(endpoint, *numbers)

    assert caught.value.field == field
    assert said in caught.value.message
    assert caught.value.fix
    assert not Rollout.objects.exists()
    assert set(Variant.objects.values_list("version__number", flat=True)) == {1}


def test_start__most_candidates__start(endpoint: Endpoint) -> None:
    assert begin(endpoint, 2, 3, 4, 5, 6).arms.count() == 6


def test_start__canary_with_several__is_refused(endpoint: Endpoint) -> None:
    with pytest.raises(InvalidInput) as caught:
        begin(endpoint, 2, 3, plan=factories.PLAN)

    assert caught.value.field == "versions"
    assert "bandit" in caught.value.fix


def test_start__floors_leave_no_room__names_the_setting(endpoint: Endpoint) -> None:
    wide = replace(PLAN, settings=BanditSpec(floor_bp=4_000, baseline_bp=3_000))

    with pytest.raises(InvalidInput) as caught:
        begin(endpoint, 2, 3, plan=wide)

    assert caught.value.field == "plan.bandit.floor_bp"


def test_start__one_file_changed__is_refused_naming_that_version(endpoint: Endpoint) -> None:
    endpoint.model.versions.filter(number=3).update(
        manifest_state="changed", manifest_problem="model.safetensors differs"
    )

    with pytest.raises(InvalidInput) as caught:
        begin(endpoint, 2, 3)

    assert (caught.value.field, caught.value.code) == ("versions[1]", "manifest-changed")
    assert not Rollout.objects.exists()


def test_start__fails_half_way__leaves_nothing_behind(
    endpoint: Endpoint, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The second candidate's files change between the dry run and the start."""
    really = ensure_variant

    def changed_meanwhile(**wanted: Any) -> Variant:
        if wanted["version"].number == 3:
            raise Refused("The files of v3 changed.")
        return really(**wanted)

    monkeypatch.setattr("rollouts.services.commands.start.ensure_variant", changed_meanwhile)
    with pytest.raises(Refused):
        begin(endpoint, 2, 3)

    assert not Rollout.objects.exists()
    assert set(Variant.objects.values_list("version__number", flat=True)) == {1}


def test_start__another_rollout_is_active__conflict(endpoint: Endpoint) -> None:
    begin(endpoint, 2, 3)

    with pytest.raises(Conflict):
        begin(endpoint, 4, 5)


def test_start__supersedes_a_bandit_without_traffic__drains_all_its_candidates(endpoint: Endpoint) -> None:
    first = begin(endpoint, 2, 3)
    Rollout.objects.filter(pk=first.pk).update(phase="provisioning")

    begin(endpoint, 4, supersede=True)

    first.refresh_from_db()
    drained = first.effects.filter(kind="drain-workload").values_list("payload__variant", flat=True)
    assert first.phase == "superseded"
    assert set(drained) == {arm.variant.name for arm in first.arms.exclude(name="baseline")}


# --- on an endpoint whose baseline is a server that was adopted -------------------------------------------------------


def test_start__baseline_is_an_adopted_server__candidate_is_launched_by_headgate(endpoint: Endpoint) -> None:
    assert endpoint.stable is not None
    Variant.objects.filter(pk=endpoint.stable.pk).update(serving=ServingSpec(adopts="llama").to_json())
    rollout = begin(Endpoint.objects.get(pk=endpoint.pk), 3, 2)
    assert rollout.candidate.spec == ServingSpec()


def test_start__candidate_that_is_a_server_of_somebody__names_the_field(endpoint: Endpoint) -> None:
    with pytest.raises(InvalidInput, match="launches a candidate by itself") as refused:
        begin(endpoint, 3, 2, serving=ServingSpec(adopts="llama"))
    assert refused.value.field == "serving.adopts"
    assert not Rollout.objects.exists()
