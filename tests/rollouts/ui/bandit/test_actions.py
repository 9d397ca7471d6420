"""What people ask of a bandit: choose an arm, freeze, resume, return; each with its effect in numbers."""

from __future__ import annotations

import pytest
from django.test import Client

from controlplane.kernel.errors import InvalidInput, NotFound
from controlplane.kernel.words import odds
from rollouts import selectors
from rollouts.models import Rollout
from rollouts.ui.actions.confirm_parts import Confirmation
from rollouts.ui.bandit.confirm import share_now
from rollouts.ui.strategies import confirmation
from tests import factories
from tests.factories import bandits
from tests.rollouts.ui.conftest import HTMX

pytestmark = pytest.mark.django_db
NOW = factories.right_now()


@pytest.fixture
def learning() -> Rollout:
    return bandits.rollout_bandit(life=bandits.Life(bandits.LEARNING.arms, 20), now=NOW)


def asked(rollout: Rollout, action: str, arm: str = "") -> Confirmation:
    return confirmation(selectors.find_rollout(rollout.pk), action, now=NOW, arm=arm)


def effects(confirm: Confirmation) -> str:
    return " | ".join(confirm.effects)


def test_choose__learning__offers_every_arm_in_the_race(manager: Client, learning: Rollout) -> None:
    text = manager.get(f"/rollouts/{learning.pk}/confirm/choose").content.decode()
    racing = [name for name in learning.verdicts["survivors"] if name != "baseline"]
    assert len(racing) >= 2
    for name in ("candidate", "candidate-2", "candidate-3"):
        offered = f'href="/rollouts/{learning.pk}/confirm/promote?arm={name}"' in text
        assert offered == (name in racing)


def test_choose__engineer__is_refused(engineer: Client, learning: Rollout) -> None:
    assert engineer.get(f"/rollouts/{learning.pk}/confirm/choose").status_code == 403


def test_choose__canary__has_nothing_to_choose(manager: Client) -> None:
    rollout = factories.rollout_pending()
    assert manager.get(f"/rollouts/{rollout.pk}/confirm/choose").status_code == 404


def test_promote__arm__says_what_moves_and_who_leaves(learning: Rollout) -> None:
    confirm = asked(learning, "promote", "candidate-2")
    arm = learning.arms.get(name="candidate-2")
    text = effects(confirm)
    assert f"{round(arm.observed_bp, -1) / 100:g}% → 100%" in text
    assert "Not proven the best" in text
    assert "<b>v2</b> leaves for good and is stopped" in text
    assert "The alias <b>triage-production</b> moves to v3" in text
    assert (confirm.arm, confirm.typed) == ("candidate-2", "triage")


def test_promote__arm__says_which_evidence_is_missing(learning: Rollout) -> None:
    text = effects(asked(learning, "promote", "candidate-2"))
    rivals = {arm["name"]: arm for arm in learning.verdicts["arms"] if arm["state"] == "racing"}
    assert "candidate" in rivals
    assert f"expected loss {rivals['candidate-2']['expected_loss']:.4f}" in text
    assert (
        f"the evidence that another arm is better than v2 is {odds(rivals['candidate']['evidence'])} to 1"
        in text
    )


@pytest.mark.parametrize("arm", ["", "baseline", "candidate-3", "candidate-9"])
def test_promote__arm_not_in_the_race__is_refused_with_those_that_are(learning: Rollout, arm: str) -> None:
    with pytest.raises(InvalidInput) as caught:
        asked(learning, "promote", arm)
    assert caught.value.field == "arm"
    assert caught.value.fix == "In the race: candidate (v2), candidate-2 (v3)."


def test_promote__one_arm_left__needs_no_name() -> None:
    rollout = bandits.rollout_bandit(life=bandits.BROKEN, now=NOW)
    assert rollout.verdicts["survivors"] == ["candidate"]
    assert asked(rollout, "promote").arm == "candidate"


def test_promote__dialog__carries_the_arm(manager: Client, learning: Rollout) -> None:
    path = f"/rollouts/{learning.pk}/confirm/promote"
    text = manager.get(path, {"arm": "candidate-2"}, headers=HTMX).content.decode()
    assert '<input type="hidden" name="arm" value="candidate-2">' in text


def test_promote__confirmed__gives_the_chosen_arm_all_traffic(manager: Client, learning: Rollout) -> None:
    answer = manager.post(
        f"/rollouts/{learning.pk}/promote",
        {"expected_revision": learning.revision, "typed": "triage", "arm": "candidate-2"},
        headers=HTMX,
    )
    assert answer.status_code == 204
    learning.refresh_from_db()
    assert learning.phase == "promoting"
    assert learning.candidate.version.label == "v3"
    assert learning.arms.get(name="candidate").dropped_sentence == "v3 was promoted instead."


def test_promote__changed_since__offers_the_same_arm_again(manager: Client, learning: Rollout) -> None:
    answer = manager.post(
        f"/rollouts/{learning.pk}/promote",
        {"expected_revision": learning.revision - 1, "typed": "triage", "arm": "candidate-2"},
        headers=HTMX,
    )
    assert answer.status_code == 409
    text = answer.content.decode()
    assert '<input type="hidden" name="arm" value="candidate-2">' in text
    assert "Your click changed nothing." in text


def test_freeze__learning__keeps_the_shares_it_names(engineer: Client, learning: Rollout) -> None:
    confirm = asked(learning, "pause")
    assert confirm.go == "Freeze weights"
    assert f"<b>{share_now(learning)}</b> stay as they are" in effects(confirm)
    answer = engineer.post(
        f"/rollouts/{learning.pk}/pause", {"expected_revision": learning.revision}, headers=HTMX
    )
    assert answer.status_code == 204
    learning.refresh_from_db()
    assert learning.phase == "paused"


def test_resume__paused__says_how_long_it_has() -> None:
    confirm = asked(bandits.bandit_paused(now=NOW), "resume")
    assert "It has <b>1 d</b> from now to find one winner" in effects(confirm)


def test_return__learning__moves_all_candidates_back(learning: Rollout) -> None:
    confirm = asked(learning, "roll-back")
    assert confirm.go == "Return all to v1"
    assert "<b>90% → 0%</b> on v2, v3" in effects(confirm)
    assert "The alias <b>triage-production</b> does not change" in effects(confirm)


def test_return__promoted__brings_the_alias_back() -> None:
    confirm = asked(bandits.bandit_promoted(now=NOW), "roll-back")
    assert "<b>100% → 0%</b> on v2" in effects(confirm)
    assert "returns to v1" in effects(confirm)


def test_cancel__launching__stops_every_engine() -> None:
    assert "The engines of v2, v3, v4 are stopped" in effects(
        asked(bandits.bandit_launching(now=NOW), "cancel")
    )


def test_confirmation__unknown_action__is_not_found(learning: Rollout) -> None:
    with pytest.raises(NotFound):
        asked(learning, "explode")
