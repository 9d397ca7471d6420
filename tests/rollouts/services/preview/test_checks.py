"""What the dry run says of the variant that serves."""

from __future__ import annotations

import pytest

from rollouts import wiring
from rollouts.models import Workload
from rollouts.services.preview.rollout import preview_rollout
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
