"""The rollout page at each named state of its life."""

from __future__ import annotations

import re
from datetime import timedelta

import pytest
from django.db import connection
from django.db.models.signals import post_init
from django.test import Client
from django.test.utils import CaptureQueriesContext
from pytest_django.fixtures import DjangoAssertNumQueries

from rollouts import selectors
from rollouts.domain.lifecycle.states import PauseReason
from rollouts.models import GlobalStop, HistoryEvent, Rollout
from rollouts.ui.events import page as events_page
from rollouts.ui.rollout.page import RolloutPage, build
from rollouts.ui.rollout.what_changes import what_changes
from tests import factories
from tests.rollouts.ui.conftest import HTMX

pytestmark = pytest.mark.django_db


NOW = factories.right_now()


def page_of(rollout: Rollout, *, stop_on: bool = False) -> RolloutPage:
    return build(
        rollout=selectors.find_rollout(rollout.pk), user=factories.person(), now=NOW, stop_on=stop_on
    )


def step_states(page: RolloutPage) -> list[tuple[str, str]]:
    return [(step.title, step.state) for step in page.steps]


def names(page: RolloutPage) -> list[str]:
    return [action.name for action in page.actions]


def test_pending__page__waits_to_be_taken_up_and_can_be_cancelled() -> None:
    page = page_of(factories.rollout_pending(now=NOW))
    assert page.pill.words == "Waiting to start"
    assert step_states(page)[0] == ("Launch", "now")
    assert names(page) == ["cancel"]


def test_launching__page__shows_the_engine_and_its_log() -> None:
    page = page_of(factories.rollout_launching(now=NOW))
    assert page.launch is not None
    assert not page.launch.failed
    assert page.launch.log[-1].endswith("model loaded in 1.9 s, 0.1 GiB")
    assert page.pill.words == "Launching"


def test_launch_failed__page__keeps_reason_and_log_and_hides_empty_charts(engineer: Client) -> None:
    rollout = factories.rollout_launch_failed(now=NOW)
    page = page_of(rollout)
    assert page.launch is not None
    assert page.launch.failed
    assert page.launch.detail == "Traffic was never touched."
    assert step_states(page)[0] == ("Launch", "back")
    assert page.actions == ()
    text = engineer.get(f"/rollouts/{rollout.pk}").content.decode()
    assert "larger than the available KV cache memory" in text
    assert "data-chart" not in text


def test_progressing__page__shows_where_it_is_and_what_comes() -> None:
    page = page_of(factories.rollout_progressing(now=NOW))
    assert page.pill.words == "Waiting at 25%"
    assert step_states(page) == [
        ("Launch", "done"),
        ("5%", "done"),
        ("25%", "held"),
        ("50%", "todo"),
        ("100%", "todo"),
    ]
    assert page.steps[1].label == "1 min · no fail"
    assert names(page) == ["roll-back", "pause", "promote"]
    assert [chart.name for chart in page.charts] == ["traffic", "ttft", "quality"]


def test_progressing__exposure_not_reached__counts_down() -> None:
    page = page_of(factories.rollout_progressing(step=0, intervals=6, now=NOW))
    assert page.pill.words == "At 5%"
    assert page.steps[1].label.startswith("30 s of 1 min · ")
    assert 0 < page.steps[1].percent < 100


def test_paused__page__offers_to_resume_and_says_who_paused() -> None:
    page = page_of(factories.rollout_paused(now=NOW))
    assert page.pill.words == "Paused at 25%"
    assert page.why.tone == "warn"
    assert page.why.strong == "ana paused the rollout."
    assert names(page) == ["roll-back", "resume", "promote"]


def test_rolled_back__page__pins_the_cause() -> None:
    page = page_of(factories.rollout_rolled_back(now=NOW))
    assert page.pill.words == "Rolled back"
    assert page.why.tone == "fail"
    assert page.why.strong == "Rolled back, 1 min 8 s after its first traffic: golden-set score."
    assert "is beyond its limit" in page.why.first
    assert step_states(page)[1] == ("5%", "back")
    assert page.actions == ()
    assert page.stale_from is None


def test_promoted__watched__may_still_go_back() -> None:
    page = page_of(factories.rollout_promoted(now=NOW))
    assert page.pill.words == "Promoted, watched"
    assert names(page) == ["roll-back"]
    assert page.steps[-1].label.startswith("watched 14 min")


def test_promoted__watch_over__offers_nothing() -> None:
    assert page_of(factories.rollout_promoted(watching=False, now=NOW)).actions == ()


def test_global_stop__forward_actions__are_gone_and_roll_back_stays() -> None:
    page = page_of(factories.rollout_paused(now=NOW), stop_on=True)
    assert names(page) == ["roll-back"]
    assert page.action_note == "Global stop: nothing moves forward, rolling back is possible"


def test_changed_by_hand__resume__is_not_offered_for_it_goes_on_by_itself() -> None:
    rollout = factories.rollout_paused(now=NOW)
    rollout.pause_reason = PauseReason.CHANGED.value
    rollout.save()
    page = page_of(rollout)
    assert names(page) == ["roll-back", "promote"]
    assert page.action_note == "It goes on by itself when what was changed is undone in the cluster"


def test_loop_silent_for_a_minute__forward_is_off_and_roll_back_is_not(manager: Client) -> None:
    rollout = factories.rollout_paused(now=NOW)
    rollout.endpoint.reconciled_at = factories.right_now() - timedelta(seconds=118)
    rollout.endpoint.save()
    text = manager.get(f"/rollouts/{rollout.pk}").content.decode()
    assert "since the loop looked" in text
    assert f'href="/rollouts/{rollout.pk}/confirm/roll-back"' in text
    assert f'href="/rollouts/{rollout.pk}/confirm/resume"' not in text
    assert f'href="/rollouts/{rollout.pk}/confirm/promote"' not in text


def test_actions__viewer__sees_the_reason_in_their_place(viewer: Client) -> None:
    rollout = factories.rollout_progressing(now=NOW)
    text = viewer.get(f"/rollouts/{rollout.pk}").content.decode()
    assert "Needs engineer." in text
    assert "Promote: Needs release manager." in text
    assert "/confirm/" not in text


def test_actions__engineer__may_do_all_but_promote(engineer: Client) -> None:
    rollout = factories.rollout_progressing(now=NOW)
    text = engineer.get(f"/rollouts/{rollout.pk}").content.decode()
    assert f"/rollouts/{rollout.pk}/confirm/pause" in text
    assert f"/rollouts/{rollout.pk}/confirm/promote" not in text
    assert "Promote: Needs release manager." in text


def test_arms__measured__show_rates_of_the_last_minutes() -> None:
    rollout = factories.rollout_progressing(now=NOW)
    baseline, candidate = page_of(rollout).arms
    assert (baseline.name, baseline.target, baseline.version) == ("baseline", "75%", "v1")
    assert (candidate.name, candidate.actual, candidate.replicas) == ("candidate", "25%", "1 / 1")
    requests = sum(
        row["arms"]["candidate"]["requests"] for row in rollout.evidence.values_list("interval", flat=True)
    )
    assert candidate.per_second == f"{requests / (24 * 5):.2f}"
    assert candidate.errors.endswith("%")


def test_arms__nothing_measured__says_no_data_and_never_zero() -> None:
    _, candidate = page_of(factories.rollout_pending(now=NOW)).arms
    assert (candidate.per_second, candidate.errors, candidate.latency) == ("no data", "no data", ("no data",))


def test_events__detail_that_repeats__is_shown_once() -> None:
    events = page_of(factories.rollout_rolled_back(now=NOW)).events
    assert [event.title for event in events[:2]] == ["Rolled back to v1", "Rolling back to v1"]
    assert events[0].detail == ""
    assert "is beyond its limit" in events[1].detail


def test_events__long_history__is_counted_and_not_read_whole() -> None:
    rollout = factories.rollout_progressing(now=NOW)
    notes_of(rollout, 300)
    read: list[object] = []

    def note(instance: object, **_: object) -> None:
        read.append(instance)

    post_init.connect(note, sender=HistoryEvent)
    try:
        page = page_of(rollout)
    finally:
        post_init.disconnect(note, sender=HistoryEvent)
    assert len(read) <= 20
    assert page.event_count == HistoryEvent.objects.filter(rollout=rollout).count() > 300
    assert [event.detail for event in page.events][:2] == ["299", "298"]
    assert len(page.events) == 12


def test_steps__long_history__still_know_when_they_began() -> None:
    rollout = factories.rollout_progressing(now=NOW)
    before = [step.label for step in page_of(rollout).steps]
    notes_of(rollout, 300)
    assert [step.label for step in page_of(rollout).steps] == before
    assert before[0].startswith("ready in ")


def test_events__more_than_are_shown__lead_to_all_of_them_in_pages(
    engineer: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(events_page, "EVENTS_A_PAGE", 30)
    rollout = factories.rollout_progressing(now=NOW)
    notes_of(rollout, 40)
    text = engineer.get(f"/rollouts/{rollout.pk}").content.decode()
    in_all = HistoryEvent.objects.filter(rollout=rollout).count()
    assert f"last 12 of {in_all}" in text
    assert f'href="/rollouts/{rollout.pk}/events"' in text
    first = engineer.get(f"/rollouts/{rollout.pk}/events").content.decode()
    older = re.findall(r'href="(\?before=[^"]+)"', first)
    second = engineer.get(f"/rollouts/{rollout.pk}/events{older[0]}").content.decode()
    shown = [text.count("<time") for text in (first, second)]
    assert shown == [30, in_all - 30]
    assert 'href="?before=' not in second
    assert f"{in_all} events" in first


def test_events__of_an_unknown_rollout__are_not_found(engineer: Client) -> None:
    assert engineer.get("/rollouts/4711/events").status_code == 404


def test_events__more_of_them__cost_the_same(engineer: Client) -> None:
    rollout = factories.rollout_progressing(now=NOW)
    counts = []
    for _ in range(2):
        with CaptureQueriesContext(connection) as captured:
            engineer.get(f"/rollouts/{rollout.pk}/events", headers=HTMX)
        counts.append(len(captured))
        notes_of(rollout, 100)
    assert counts[0] == counts[1] <= 6


def notes_of(rollout: Rollout, number: int) -> None:
    HistoryEvent.objects.bulk_create(
        HistoryEvent(
            endpoint=rollout.endpoint,
            rollout=rollout,
            at=NOW,
            kind="note",
            title="Weights kept",
            detail=f"{i}",
        )
        for i in range(number)
    )


def test_what_changes__variants__lists_what_differs() -> None:
    changes = {change.name: change for change in page_of(factories.rollout_pending(now=NOW)).changes}
    assert (changes["Version"].before, changes["Version"].after) == ("v1", "v2")
    assert changes["max-model-len"].same
    assert (changes["max-num-seqs"].before, changes["max-num-seqs"].after) == ("32", "64")
    assert (changes["accuracy"].before, changes["accuracy"].after) == ("0.72", "0.97")


def test_what_changes__image_accelerators_and_replicas__are_lines_of_their_own() -> None:
    rollout = factories.rollout_progressing()
    asked = {
        "image": "registry.example/vllm:v2",
        "accelerators": {"count": 2, "resource": "nvidia.com/gpu"},
        "replicas": 2,
    }
    rollout.candidate.serving = {**rollout.candidate.serving, **asked}
    changes = {
        change.name: (change.before, change.after)
        for change in what_changes(rollout.baseline, rollout.candidate)
    }
    assert changes["Image"] == ("none", "registry.example/vllm:v2")
    assert changes["Accelerators"] == ("none", "2 x nvidia.com/gpu")
    assert changes["Replicas"] == ("1", "2")


def test_what_changes__more_than_a_few__says_how_many_more_differ() -> None:
    rollout = factories.rollout_pending(now=NOW)
    for number, version in enumerate((rollout.baseline.version, rollout.candidate.version)):
        version.params = {f"p{name}": str(number) for name in range(9)}
        version.metrics = {f"m{name}": number for name in range(5)}
        version.save()
    changes = {change.name: change.after for change in page_of(rollout).changes}
    assert changes["More parameters"] == "5 more differ: the page of the model has them"
    assert changes["More metrics"] == "1 more differs: the page of the model has them"


def test_page__whole__has_title_live_topics_and_one_heading(engineer: Client) -> None:
    rollout = factories.rollout_progressing(now=NOW)
    text = engineer.get(f"/rollouts/{rollout.pk}").content.decode()
    assert f"triage v1 → v2 · Rollout #{rollout.pk}" in text
    assert (
        f"/events?topics=rollout:{rollout.pk},endpoint:{rollout.endpoint_id},global-stop&amp;after=" in text
    )
    assert text.count("<h1") == 1


def test_fragment__htmx__brings_every_part_of_the_page(engineer: Client) -> None:
    rollout = factories.rollout_progressing(now=NOW)
    text = engineer.get(f"/rollouts/{rollout.pk}", headers=HTMX).content.decode()
    for part in ("head", "why", "steps", "launch", "legend", "gates", "arms", "events"):
        assert f'<hx-partial hx-target="#{part}" hx-swap="outerMorph">' in text
        assert text.count(f'id="{part}"') == 1
    assert "data-chart" not in text


def test_fragment__size__is_within_the_budget(engineer: Client) -> None:
    rollout = factories.rollout_rolled_back(now=NOW)
    response = engineer.get(f"/rollouts/{rollout.pk}", headers=HTMX)
    assert len(response.content) < 32 * 1024  # about a quarter of it on the wire


@pytest.mark.parametrize("intervals", [8, 40])
def test_fragment__queries__do_not_grow_with_the_evidence(
    engineer: Client, intervals: int, django_assert_num_queries: DjangoAssertNumQueries
) -> None:
    rollout = factories.rollout_progressing(intervals=intervals)
    # session, person; rollout, arms, stop, events, their number, those that began a step, evidence, packs of it
    with django_assert_num_queries(10):
        engineer.get(f"/rollouts/{rollout.pk}", headers=HTMX)


def test_page__unknown_rollout__is_not_found(engineer: Client) -> None:
    assert engineer.get("/rollouts/4711").status_code == 404


def test_banner__global_stop_on__covers_the_page(engineer: Client) -> None:
    rollout = factories.rollout_progressing(now=NOW)
    GlobalStop.objects.create(
        pk=1, on=True, since=factories.right_now(), by=factories.person(), why="network incident"
    )
    text = engineer.get(f"/rollouts/{rollout.pk}").content.decode()
    assert 'aria-label="Global stop"' in text
    assert "“network incident”" in text
    assert "Lift the stop" not in text
