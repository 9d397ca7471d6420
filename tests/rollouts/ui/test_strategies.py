"""Every strategy that can be decided can be shown, and one that is not known hides nothing else."""

from __future__ import annotations

import pytest
from django.test import Client

from controlplane.kernel.errors import Unavailable
from rollouts.domain.strategies import STRATEGIES
from rollouts.models import Rollout
from rollouts.services.evidence.replay import replay_whole
from rollouts.ui.strategies import SHOWN
from tests import factories


def test_strategies__each__has_its_pages() -> None:
    assert set(SHOWN) == set(STRATEGIES)


@pytest.fixture
def unknown(db: None) -> Rollout:
    """A rollout that a newer version of Headgate started; then the older one was installed again."""
    made = factories.rollout_progressing()
    made.strategy, made.plan = "mirror", {**made.plan, "strategy": "mirror", "mirror": {"share_bp": 100}}
    made.save()
    return made


@pytest.mark.parametrize("address", ["/", "/rollouts", "/endpoints/triage", "/rollouts/new?endpoint=triage"])
def test_unknown_strategy__lists_and_other_pages__are_there(
    unknown: Rollout, viewer: Client, address: str
) -> None:
    assert viewer.get(address).status_code == 200


def test_unknown_strategy__in_a_list__says_so(unknown: Rollout, viewer: Client) -> None:
    assert "Unknown strategy" in viewer.get("/rollouts").content.decode()


def test_unknown_strategy__its_page__says_what_to_do(unknown: Rollout, viewer: Client) -> None:
    answer = viewer.get(f"/rollouts/{unknown.pk}")
    assert answer.status_code == 503
    assert "knows no strategy" in answer.content.decode()
    assert "Run the version that started the rollout" in answer.content.decode()


def test_unknown_strategy__replay__does_not_call_its_plan_changed(unknown: Rollout) -> None:
    with pytest.raises(Unavailable) as caught:
        replay_whole(rollout=unknown)
    assert caught.value.code == "unknown-strategy"
