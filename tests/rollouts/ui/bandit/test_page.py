"""The page of a bandit at each named state of its life."""

from __future__ import annotations

import json
from datetime import timedelta
from pathlib import Path

import pytest
from django.db import connection
from django.test import Client
from django.test.utils import CaptureQueriesContext

from rollouts import selectors
from rollouts.domain.bandits.verdict import BanditVerdict
from rollouts.domain.engines import FailureReason
from rollouts.models import HistoryEvent, Rollout
from rollouts.ui.bandit.page import BanditPage, build
from tests import factories
from tests.factories import bandits
from tests.rollouts.memory_world import BANDIT, ERRORS, MemoryWorld
from tests.rollouts.ui.conftest import HTMX

pytestmark = pytest.mark.django_db

NOW = factories.right_now()
PARTS = (
    "head",
    "why",
    "launch",
    "reward-note",
    "ridges",
    "rewards",
    "stop",
    "arms",
    "events",
    *(
        f"gates-{part}-{arm}"
        for arm in ("candidate", "candidate-2", "candidate-3")
        for part in ("line", "body")
    ),
)


def page_of(rollout: Rollout, *, stop_on: bool = False) -> BanditPage:
    return build(
        rollout=selectors.find_rollout(rollout.pk), user=factories.person(), now=NOW, stop_on=stop_on
    )


def names(page: BanditPage) -> list[str]:
    return [action.name for action in page.actions]


def states(page: BanditPage) -> list[str]:
    return [line.state.words for line in page.arms]


# --- states of life ---------------------------------------------------------------------------------------------------


def test_learning__page__shows_who_is_left_and_what_decides() -> None:
    rollout = bandits.rollout_bandit(now=NOW)
    verdict = BanditVerdict.from_json(rollout.verdicts)
    page = page_of(rollout)
    assert page.pill.words == "Learning"
    assert page.why.strong == "Two of four arms remain, no winner yet."
    assert page.why.more == verdict.detail
    assert states(page) == ["Eliminated", "In the race", "In the race", "Eliminated"]
    assert [line.arm for line in page.arms] == [0, 1, 2, 3]
    assert names(page) == ["roll-back", "pause", "choose"]
    assert [action.label for action in page.actions][:2] == ["Return all to v1", "Freeze weights"]


def test_learning__arm__has_the_numbers_of_its_verdict() -> None:
    rollout = bandits.rollout_bandit(now=NOW)
    found = BanditVerdict.from_json(rollout.verdicts).arm("candidate")
    line = page_of(rollout).arms[1]
    assert found.ipw is not None
    assert found.mean is not None
    assert line.scored == f"{found.scored:,}"
    assert line.reward == f"{found.ipw.mean:.3f}"
    assert line.mean == f"{found.mean:.3f}"
    assert line.evidence == found.evidence
    assert line.gates is not None
    assert line.gates.words == f"{found.gates_passed} of {found.gates_required} pass"
    assert line.share == f"{round(rollout.arms.get(name='candidate').observed_bp, -1) / 100:g}%"


def test_learning__arm_that_left__says_when_and_why() -> None:
    rollout = bandits.rollout_bandit(now=NOW)
    page = page_of(rollout)
    gone = page.arms[3]
    index = BanditVerdict.from_json(rollout.verdicts).arm("candidate-3").at_index
    assert index is not None
    assert gone.left_at == rollout.evidence.get(index=index).ended_at
    assert gone.sentence.startswith("Eliminated: the evidence that another arm is better was ")
    assert gone.p_best == "out"
    assert page.arms[1].sentence == ""


def test_learning__baseline_that_left__has_its_moment_from_the_evidence() -> None:
    rollout = bandits.rollout_bandit(now=NOW)
    index = BanditVerdict.from_json(rollout.verdicts).arm("baseline").at_index
    assert index is not None
    baseline = page_of(rollout).arms[0]
    assert baseline.left_at == rollout.evidence.get(index=index).ended_at
    assert "so that the gates can compare with it" in baseline.sentence
    assert baseline.gates is None


def test_learning__stop_rule__names_what_each_part_waits_for() -> None:
    rollout = bandits.rollout_bandit(now=NOW)
    sole, gates, deadline = page_of(rollout).stop
    assert (sole.strong, sole.rest) == ("2 arms left", ", needs 1")
    assert sole.hint == "An arm leaves when the evidence against it reaches 20 to 1 (1/α)."
    assert gates.strong.startswith("v2 ")
    assert gates.rest.startswith(", v3 ")
    ends = rollout.phase_since + timedelta(days=1)
    assert deadline.lead.startswith(f"At {ends:%H:%M}")
    assert "“v2 or v3”" in deadline.hint


def test_promises__alpha__is_said_as_it_is() -> None:
    page = page_of(bandits.bandit_pending(plan=bandits.with_spec(alpha=0.025), now=NOW))
    assert [value for _, value in page.promises[:2]] == ["in at most 25 of 1,000", "in at most 5 of 100"]


def test_learning__gates__are_open_for_the_likeliest_winner_only() -> None:
    rollout = bandits.rollout_bandit(now=NOW)
    verdict = BanditVerdict.from_json(rollout.verdicts)
    page = page_of(rollout)
    likeliest = max(verdict.survivors, key=lambda name: verdict.arm(name).p_best)
    assert [one.line.name for one in page.gates if one.shown] == [likeliest]
    assert len(page.gates) == 3
    assert page.gates[0].table.threshold == pytest.approx(3 / 0.05)


def test_burn_in__page__has_equal_shares_and_says_so() -> None:
    page = page_of(bandits.rollout_bandit(life=bandits.BURN_IN, now=NOW))
    assert page.why.strong.startswith(
        "All four arms remain, with equal shares until each has 150 scored answers"
    )
    assert {line.share for line in page.arms} == {"25%"}
    assert page.rewards_note == "equal shares until every arm has 150 scored answers"
    assert page.reweight == "Equal shares until every arm has 150 scored answers."


def test_no_data__page__has_no_number_where_nothing_was_measured() -> None:
    page = page_of(bandits.rollout_bandit(life=bandits.NO_DATA, now=NOW))
    assert not page.scored
    assert {(line.reward, line.p_best, line.mean) for line in page.arms} == {
        ("no data", "no data", "no data")
    }
    assert all(ridge.mean is None for ridge in page.ridges)
    assert (
        page.rewards_label == "What is believed of the reward of each arm: nothing yet, no answer is scored."
    )


def test_launching__page__shows_each_engine_that_is_not_ready() -> None:
    page = page_of(bandits.bandit_launching(now=NOW))
    assert page.pill.words == "Launching"
    assert [(launch.failed, launch.variant.rpartition("-")[0]) for launch in page.launches] == [
        (False, "triage-v2"),
        (True, "triage-v4"),
    ]
    assert states(page)[3] == "Dropped: launch"
    assert page.stop[0].strong == "3 arms left"
    assert names(page) == ["cancel"]


@pytest.mark.story
def test_live__one_arm_never_launched__page_shows_it_beside_the_others(tmp_path: Path) -> None:
    w = MemoryWorld(tmp_path, gates=(ERRORS,)).serve()
    w.start(2, others=(3,), plan=BANDIT)
    w.cluster.fail(w.variant(3).name, FailureReason.BAD_MODEL, "it does not load")
    w.run(lambda: bool(w.rollout.verdicts))
    assert states(page_of(w.rollout))[2] == "Dropped: launch"
    client = Client()
    client.force_login(factories.person())
    assert client.get(f"/rollouts/{w.rollout.pk}").status_code == 200


def test_guardrail__arm__is_dropped_with_the_gate_that_did_it() -> None:
    page = page_of(bandits.rollout_bandit(life=bandits.BROKEN, now=NOW))
    broken = page.arms[2]
    assert broken.state.words == "Dropped: guardrail"
    assert broken.state.tone == "fail"
    assert "Error rate is worse" in broken.sentence
    assert broken.gates is not None
    assert broken.gates.tone == "fail"


def test_paused__page__offers_to_resume_the_weights() -> None:
    page = page_of(bandits.bandit_paused(now=NOW))
    assert page.pill.words == "Paused"
    assert page.why.tone == "warn"
    assert names(page) == ["roll-back", "resume", "choose"]


def test_tied__page__says_a_or_b_and_leaves_the_choice() -> None:
    page = page_of(bandits.bandit_tied(now=NOW))
    assert (page.pill.words, page.pill.tone) == ("v2 or v3", "warn")
    assert page.stop[2].lead == "1 d are over, several remain"
    assert "choose" in names(page)


def test_promoted__page__marks_the_winner_and_may_still_go_back() -> None:
    page = page_of(bandits.bandit_promoted(now=NOW))
    assert page.pill.words == "Promoted, watched"
    assert page.arms[1].state.words == "Promoted"
    assert page.arms[2].sentence == "v2 was promoted instead."
    assert names(page) == ["roll-back"]


def test_rolled_back__page__pins_who_did_it() -> None:
    page = page_of(bandits.bandit_rolled_back(now=NOW))
    assert page.why.tone == "fail"
    assert page.why.strong.startswith("Rolled back, ")
    assert page.actions == ()


def test_global_stop__forward_actions__are_gone_and_return_stays() -> None:
    page = page_of(bandits.bandit_paused(now=NOW), stop_on=True)
    assert names(page) == ["roll-back"]
    assert page.action_note == "Global stop: nothing moves forward, rolling back is possible"


def test_viewer__actions__are_replaced_by_their_reason(viewer: Client) -> None:
    rollout = bandits.rollout_bandit(life=bandits.BURN_IN)
    text = viewer.get(f"/rollouts/{rollout.pk}").content.decode()
    assert "/confirm/" not in text
    assert "Needs engineer." in text


# --- from the real loop -----------------------------------------------------------------------------------------------


@pytest.fixture
def world(tmp_path: Path) -> MemoryWorld:
    return MemoryWorld(tmp_path, gates=(ERRORS,)).serve()


def test_real_loop__every_state_to_the_promotion__has_a_page(manager: Client, world: MemoryWorld) -> None:
    world.start(2, others=(3,), plan=BANDIT)
    world.users_rate({1: 0.5, 2: 0.3, 3: 0.05})
    seen = {}
    for _ in range(120):
        world.tick()
        rollout = world.rollout
        if rollout.phase not in seen or rollout.phase == "succeeded":
            assert manager.get(f"/rollouts/{rollout.pk}").status_code == 200
            chart = manager.get(f"/rollouts/{rollout.pk}/charts/traffic").content
            seen[rollout.phase] = (page_of(rollout), json.loads(chart))
        if rollout.phase == "succeeded":
            break
    assert {"provisioning", "progressing", "succeeded"} <= set(seen)
    last, chart = seen["succeeded"]
    assert [line.state.words for line in last.arms][2] == "Promoted"
    assert last.arms[1].state.words == "Eliminated"
    assert last.arms[1].left_at == rollout.arms.get(name="candidate").dropped_at
    assert {"burn-in ends", "v2 out", "100%"} <= {mark["label"] for mark in chart["marks"]}
    assert {event.icon for event in last.events} >= {"activity", "circle-x", "flag"}


# --- the page as a whole ----------------------------------------------------------------------------------------------


def test_page__whole__has_title_topics_one_heading_and_no_inline_style(engineer: Client) -> None:
    rollout = bandits.rollout_bandit(life=bandits.BURN_IN)
    text = engineer.get(f"/rollouts/{rollout.pk}").content.decode()
    assert f"triage bandit · Rollout #{rollout.pk}" in text
    assert f"/events?topics=rollout:{rollout.pk},endpoint:{rollout.endpoint_id},global-stop" in text
    assert text.count("<h1") == 1
    assert " style=" not in text
    for part in PARTS:
        assert text.count(f'id="{part}"') == 1


def test_fragment__htmx__brings_every_part_and_leaves_what_a_person_opened(engineer: Client) -> None:
    rollout = bandits.rollout_bandit(life=bandits.BURN_IN)
    text = engineer.get(f"/rollouts/{rollout.pk}", headers=HTMX).content.decode()
    for part in PARTS:
        assert f'<hx-partial hx-target="#{part}" hx-swap="outerMorph">' in text
        assert text.count(f'id="{part}"') == 1
    assert "<details" not in text
    assert "data-chart" not in text


@pytest.mark.parametrize("arms", [2, 4])
@pytest.mark.parametrize("intervals", [3, 60])
def test_fragment__queries__grow_neither_with_arms_nor_with_evidence(
    engineer: Client, arms: int, intervals: int
) -> None:
    rollout = bandits.rollout_bandit(life=bandits.Life(bandits.LEARNING.arms[:arms], intervals))
    somebody_left = any(arm["at_index"] is not None for arm in rollout.verdicts["arms"])
    with CaptureQueriesContext(connection) as caught:
        engineer.get(f"/rollouts/{rollout.pk}", headers=HTMX)
    # session, person; rollout, arms, stop, events, their number; and when each arm left
    assert len(caught) == 7 + somebody_left


def test_events__many__are_the_newest_with_their_number() -> None:
    rollout = bandits.rollout_bandit(life=bandits.BURN_IN, now=NOW)
    HistoryEvent.objects.bulk_create(
        HistoryEvent(
            endpoint=rollout.endpoint,
            rollout=rollout,
            at=NOW,
            kind="note",
            title="Weights kept",
            detail=f"{i}",
        )
        for i in range(40)
    )
    page = page_of(rollout)
    assert page.event_count == HistoryEvent.objects.filter(rollout=rollout).count() > 40
    assert [event.detail for event in page.events][:2] == ["39", "38"]
    assert len(page.events) == 12


def test_fragment__two_times__is_not_sent_again(engineer: Client) -> None:
    rollout = bandits.rollout_bandit(life=bandits.BURN_IN)
    first = engineer.get(f"/rollouts/{rollout.pk}", headers=HTMX)
    again = engineer.get(f"/rollouts/{rollout.pk}", headers={**HTMX, "hx-ptag": first.headers["HX-PTag"]})
    assert again.status_code == 204


# --- other pages ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("path", ["/", "/rollouts", "/endpoints/triage"])
def test_other_pages__bandit__is_shown_with_all_its_arms(engineer: Client, path: str) -> None:
    bandits.rollout_bandit(life=bandits.BURN_IN)
    text = engineer.get(path).content.decode()
    assert "v1 → v2, v3, v4" in text
    assert "Learning" in text


def test_overview__traffic_bar__keeps_each_arms_colour_after_another_left(engineer: Client) -> None:
    rollout = bandits.rollout_bandit(life=bandits.BURN_IN)
    owner = rollout.endpoint
    third = rollout.arms.get(name="candidate-2").variant.name
    owner.observed_shares = {rollout.baseline.name: 4_000, third: 6_000}
    owner.save()
    text = engineer.get("/").content.decode()
    assert '<rect class="a2"' in text
    assert '<rect class="a1"' not in text


def test_endpoint__variants__have_their_arms_colours_and_names(engineer: Client) -> None:
    bandits.rollout_bandit(life=bandits.BURN_IN)
    text = engineer.get("/endpoints/triage").content.decode()
    assert '<span class="swatch a3">' in text
    assert "candidate-3" in text


def test_model__deployed__has_the_arms_colours(engineer: Client) -> None:
    bandits.rollout_bandit(life=bandits.BURN_IN)
    text = engineer.get("/models/triage/deployed").content.decode()
    assert {f"swatch a{number}" in text for number in range(4)} == {True}


def test_needs__tie__waits_for_the_choice(engineer: Client) -> None:
    bandits.bandit_tied()
    text = engineer.get("/").content.decode()
    assert "triage: v2 or v3" in text


def test_search__bandit__is_found_with_its_arms(engineer: Client) -> None:
    rollout = bandits.bandit_pending()
    text = engineer.get("/search", {"q": f"#{rollout.pk}"}, headers=HTMX).content.decode()
    assert "v1 → v2, v3, v4, pending" in text
