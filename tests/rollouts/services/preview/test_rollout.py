"""The dry run of a bandit: first shares, what its ratings can decide, its checks."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta
from typing import Any

import pytest
from django.db import connection
from django.test.utils import CaptureQueriesContext

from controlplane.kernel.clock import ManualClock
from controlplane.kernel.errors import InvalidInput
from registry.models import Version
from rollouts import wiring
from rollouts.adapters.clusters.memory import MemoryCluster
from rollouts.domain.bandits import BanditSpec
from rollouts.domain.bandits.outlook import answers_to_drop
from rollouts.domain.lifecycle.plan import Plan
from rollouts.domain.strategies.bandit.forecast import BanditPreview
from rollouts.domain.strategies.dry_run import Check
from rollouts.domain.variants import ServingSpec
from rollouts.models import Endpoint, Feedback, Rollout, Variant
from rollouts.services.preview.rollout import Preview, preview_rollout
from rollouts.services.world import Worlds
from tests import factories
from tests.rollouts.worlds import worlds_of

pytestmark = pytest.mark.django_db

NOW = factories.right_now()
PLAN = Plan("bandit", (), settings=BanditSpec())


@pytest.fixture
def endpoint() -> Endpoint:
    made = factories.endpoint(now=NOW)
    factories.minutes_of_traffic(made, minutes=60, now=NOW)
    return made


def look(endpoint: Endpoint, *numbers: int, plan: Plan = PLAN, **options: Any) -> Preview:
    first, *others = numbers or (2, 3)
    return preview_rollout(
        endpoint=endpoint,
        version_number=first,
        other_versions=others,
        plan=plan,
        **{"worlds": wiring.worlds(), "now": NOW, **options},
    )


def with_memory(memory: tuple[int, int] | None) -> Worlds:
    """The endpoint's cluster, with so many megabytes for engines, of which one needs so many."""
    here = wiring.worlds().of("here")
    cluster = MemoryCluster(ManualClock(NOW))
    cluster.memory = memory
    cluster.allowed["vllm"] = here.cluster.options("vllm")
    return worlds_of(replace(here, cluster=cluster))


def bandit_of(preview: Preview) -> BanditPreview:
    assert isinstance(preview.own, BanditPreview)
    return preview.own


def check(preview: Preview, words: str) -> Check:
    found = [one for one in preview.checks if words in one.title]
    assert found, [one.title for one in preview.checks]
    return found[0]


# --- shares and engines -------------------------------------------------------------------------------------


def test_preview__at_first__shares_are_equal_and_floors_are_said(endpoint: Endpoint) -> None:
    arms = bandit_of(look(endpoint)).arms

    assert [(arm.name, arm.version, arm.share_bp, arm.floor_bp) for arm in arms] == [
        ("baseline", 1, 3_334, 1_000),
        ("candidate", 2, 3_333, 500),
        ("candidate-2", 3, 3_333, 500),
    ]


def test_preview__baseline_floor_above_an_equal_share__is_kept(endpoint: Endpoint) -> None:
    plan = replace(PLAN, settings=BanditSpec(baseline_bp=6_000))

    assert [arm.share_bp for arm in bandit_of(look(endpoint, plan=plan)).arms] == [6_000, 2_000, 2_000]


def test_preview__engines__counts_all_and_those_that_run_already(endpoint: Endpoint) -> None:
    running = factories.variant(endpoint, 2, now=NOW)

    found = bandit_of(look(endpoint, serving=running.spec))

    assert (found.engines, found.new_engines) == (3, 1)


@pytest.mark.parametrize(("free_mb", "state"), [(6_400, "ok"), (6_399, "warning")])
def test_preview__memory__is_looked_at_for_all_engines_together(
    endpoint: Endpoint, free_mb: int, state: str
) -> None:
    preview = look(endpoint, worlds=with_memory((free_mb, 3_200)))

    assert check(preview, "2 more engines need 6,400 MB").state == state
    assert preview.can_start


def test_preview__memory_that_the_spec_asks_for__is_what_an_engine_takes(endpoint: Endpoint) -> None:
    room = (20_000, 3_200)
    spec = ServingSpec(resources={"memory_mb": 9_000})
    preview = look(endpoint, worlds=with_memory(room), serving=spec)

    assert check(preview, "2 more engines need 18,000 MB").state == "ok"


def test_preview__nothing_known_of_memory__says_nothing(endpoint: Endpoint) -> None:
    assert not [one for one in look(endpoint, worlds=with_memory(None)).checks if "MB" in one.title]


# --- what ratings decide ------------------------------------------------------------------------------------


def test_preview__no_rating_in_a_day__warns_and_hides_times(endpoint: Endpoint) -> None:
    preview = look(endpoint)

    assert bandit_of(preview).outlook is None
    found = check(preview, "No rating in the last 24 h")
    assert (found.state, found.code) == ("warning", "no-ratings")
    assert "Without ratings a bandit learns nothing" in found.detail
    assert preview.can_start


def test_preview__older_ratings__do_not_count(endpoint: Endpoint) -> None:
    factories.ratings(endpoint, now=NOW)
    Feedback.objects.update(received_at=NOW - timedelta(hours=25))

    assert check(look(endpoint), "No rating in the last 24 h").state == "warning"


def test_preview__ratings__give_the_times_of_the_elimination(endpoint: Endpoint) -> None:
    factories.ratings(endpoint, up=30, down=720, now=NOW)

    found = bandit_of(look(endpoint))

    assert found.outlook is not None
    assert found.rated_down is not None
    assert found.rated_down == pytest.approx(0.01, rel=0.05)  # 720 of about 72,000 answers
    needed = answers_to_drop(found.rated_down / 2, found.rated_down, arms=3, alpha=0.05)
    assert needed is not None
    assert found.outlook.half_seconds == pytest.approx(needed * 3 / found.answers_per_second)
    assert [one.seconds for one in found.outlook.decidable] == [600, 3_600, 21_600, 86_400]


def test_preview__early_deadline__is_the_last_moment_told(endpoint: Endpoint) -> None:
    factories.ratings(endpoint, now=NOW)

    found = bandit_of(look(endpoint, plan=replace(PLAN, deadline_seconds=7_200)))

    assert found.outlook is not None
    assert [one.seconds for one in found.outlook.decidable] == [600, 3_600, 7_200]


def test_preview__ratings_but_none_down__hides_times(endpoint: Endpoint) -> None:
    factories.ratings(endpoint, up=40, down=0, now=NOW)
    preview = look(endpoint)

    assert bandit_of(preview).outlook is None
    assert check(preview, "40 ratings an hour").detail == "none of them down yet"


def test_preview__few_ratings__warns(endpoint: Endpoint) -> None:
    factories.ratings(endpoint, up=3, down=1, now=NOW)

    assert check(look(endpoint), "Only 4.0 ratings an hour").state == "warning"


# --- guardrails and checks ----------------------------------------------------------------------------------


def test_preview__guardrails__have_a_part_of_alpha_each(endpoint: Endpoint) -> None:
    preview = look(endpoint)

    assert bandit_of(preview).gate_alpha == 0.025
    assert (
        "dropped by them in at most 25 of 1,000 rollouts"
        in check(preview, "4 guardrails of each candidate").detail
    )
    assert [gate.key for gate in preview.gates] == ["quality", "errors", "ttft", "thumbs"]


def test_preview__end__is_the_deadline(endpoint: Endpoint) -> None:
    preview = look(endpoint, plan=replace(PLAN, deadline_seconds=3_600))

    assert preview.ends_at == NOW + timedelta(seconds=3_660)
    assert preview.steps == ()


def test_preview__more_replicas_of_the_candidates__latency_fails_only_at_first(endpoint: Endpoint) -> None:
    spec = ServingSpec(replicas=2)

    arms = bandit_of(look(endpoint, serving=spec)).arms

    assert [(round(arm.load, 1), arm.latency_first, arm.latency_leading) for arm in arms[1:]] == [
        (0.5, "fail only", "pass only")
    ] * 2


def test_preview__candidates_never_as_loaded_as_the_baseline__cannot_pass_latency(endpoint: Endpoint) -> None:
    plan = replace(PLAN, settings=BanditSpec(baseline_bp=8_000))

    preview = look(endpoint, plan=plan, serving=ServingSpec(replicas=4))

    found = check(preview, "No candidate can pass Time to first token")
    assert (found.state, found.field) == ("refused", "plan.bandit.baseline_bp")


def test_preview__same_files_twice__warns_of_a_tie(endpoint: Endpoint) -> None:
    digest = Version.objects.get(number=2).manifest_digest
    Version.objects.filter(number=3).update(manifest_digest=digest)

    found = check(look(endpoint), "v3 has the same files as v2")

    assert (found.state, found.field) == ("warning", "versions[1]")


def test_preview__stable_version_among_them__is_refused_naming_it(endpoint: Endpoint) -> None:
    preview = look(endpoint, 2, 1)

    found = check(preview, "is what serves now")
    assert (found.state, found.field, preview.can_start) == ("refused", "versions[1]", False)
    assert found.title.startswith("v1: ")


def test_preview__too_many_floors__names_the_setting(endpoint: Endpoint) -> None:
    with pytest.raises(InvalidInput) as caught:
        look(endpoint, plan=replace(PLAN, settings=BanditSpec(floor_bp=5_000, baseline_bp=1_000)))

    assert caught.value.field == "plan.bandit.floor_bp"


def test_preview__any_plan__writes_nothing_at_a_bounded_number_of_queries(endpoint: Endpoint) -> None:
    factories.ratings(endpoint, now=NOW)
    with CaptureQueriesContext(connection) as queries:
        look(endpoint)

    assert len(queries) <= 13, [query["sql"] for query in queries]
    assert not Rollout.objects.exists()
    assert not Variant.objects.exclude(version__number=1).exists()


def test_preview__two_variants_served_in_the_same_minute__its_seconds_count_once(endpoint: Endpoint) -> None:
    alone = look(endpoint).requests_per_second
    other = factories.variant(endpoint, 2, now=NOW)
    for sample in list(endpoint.samples.all()):
        sample.pk, sample.variant = None, other
        sample.save()

    assert look(endpoint).requests_per_second == pytest.approx(2 * alone)
