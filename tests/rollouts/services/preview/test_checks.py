"""What the dry run says of the variant that serves."""

from __future__ import annotations

import pytest

from rollouts import wiring
from rollouts.domain.variants import ServingSpec
from rollouts.models import Endpoint, Variant, Workload
from rollouts.services.preview.rollout import Preview, preview_rollout
from tests import factories

pytestmark = pytest.mark.django_db
NOW = factories.right_now()


@pytest.mark.parametrize(
    ("ready", "state", "words"),
    [
        (3, "ok", "3 of 3"),
        (2, "warning", "2 of 3 replicas are ready."),
        (0, "refused", "There is nothing to compare with"),
    ],
)
def test_preview__stable_variant_has_replicas__needs_one_and_warns_where_some_are_away(
    ready: int, state: str, words: str
) -> None:
    endpoint = factories.endpoint(now=NOW)
    Workload.objects.filter(variant=endpoint.stable).update(ready=ready, desired=3)
    preview = preview_rollout(
        endpoint=endpoint, version_number=2, plan=factories.PLAN, worlds=wiring.worlds(), now=NOW
    )
    (check,) = [check for check in preview.checks if check.title.startswith("The stable variant")]
    assert (check.state, check.detail.startswith(words)) == (state, True)
    assert preview.can_start is (state != "refused")


def test_preview__stable_variant_was_changed_by_hand__warns_what_that_means_and_starts() -> None:
    endpoint = factories.endpoint(now=NOW)
    words = "the arguments of engine, by ana"
    Workload.objects.filter(variant=endpoint.stable).update(ready=1, desired=1, altered=words)
    preview = preview_rollout(
        endpoint=endpoint, version_number=2, plan=factories.PLAN, worlds=wiring.worlds(), now=NOW
    )
    (check,) = [check for check in preview.checks if check.code == "baseline-changed"]
    assert check.state == "warning"
    assert check.detail.startswith(f"Changed by hand: {words}.")
    assert preview.can_start


# --- of a server that was adopted -------------------------------------------------------------------------------------


def look_from_adopted(*, replicas: int) -> Preview:
    """With four replicas of the server, and so many of the candidate."""
    endpoint = factories.endpoint(now=NOW)
    assert endpoint.stable is not None
    Variant.objects.filter(pk=endpoint.stable.pk).update(serving=ServingSpec(adopts="llama").to_json())
    Workload.objects.filter(variant=endpoint.stable).update(ready=4, desired=4)
    return preview_rollout(
        endpoint=Endpoint.objects.get(pk=endpoint.pk),
        version_number=2,
        plan=factories.PLAN,
        worlds=wiring.worlds(),
        now=NOW,
        serving=ServingSpec(replicas=replicas),
    )


@pytest.mark.parametrize(("replicas", "warned"), [(1, 1), (4, 0), (5, 0)])
def test_preview__fewer_replicas_than_the_server_has__warns(replicas: int, warned: int) -> None:
    found = [check for check in look_from_adopted(replicas=replicas).checks if check.code == "fewer-replicas"]
    assert [check.state for check in found] == ["warning"] * warned


def test_preview__load_of_a_replica__is_that_beside_as_many_as_the_server_has() -> None:
    step = look_from_adopted(replicas=1).steps[0]
    assert step.load == pytest.approx(4 * step.share_bp / (10_000 - step.share_bp))
