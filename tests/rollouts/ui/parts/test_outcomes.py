"""Where the requests went: rows that add up, what is striking, and what nobody counted."""

from __future__ import annotations

from datetime import timedelta

import pytest
from django.test import Client
from pytest_django.fixtures import DjangoAssertNumQueries

from rollouts import selectors
from rollouts.domain.gates.verdict import FamilyVerdict
from rollouts.domain.record.intervals import BASELINE, Completions, Outcomes
from rollouts.models import MinuteSample, OtherCalls, Rollout
from rollouts.ui.endpoint.outcomes import beside_words, stable_outcomes
from rollouts.ui.parts.findings import calm_words, findings
from rollouts.ui.parts.outcomes_table import (
    NOT_COUNTED,
    NOTHING_YET,
    Column,
    OutcomesTable,
    arms_outcomes,
    outcomes_table,
)
from tests import factories
from tests.factories import bandits
from tests.rollouts.ui.conftest import HTMX

pytestmark = pytest.mark.django_db

NOW = factories.right_now()
V5 = Outcomes(1180, 4, 0, 0, 2, 0, 11, 31, running=6)
V6 = Outcomes(205, 212, 3, 1, 2, 4, 9, 12, running=3)
REFUSED = "47.3% of v6's requests were refused by the engine, against 0.33% of v5's."


def columns(baseline: Outcomes, *candidates: Outcomes) -> list[Column]:
    names = [BASELINE, *(f"candidate-{number}" for number in range(1, len(candidates) + 1))]
    arms = enumerate(zip(names, (baseline, *candidates), strict=True))
    return [Column(arm, f"v{5 + arm}", name, outcomes) for arm, (name, outcomes) in arms]


def table_of(rollout: Rollout) -> OutcomesTable:
    found = selectors.find_rollout(rollout.pk)
    return arms_outcomes(found, list(found.arms.all()), (), "")


def numbers(table: OutcomesTable, column: int) -> list[int]:
    return [int(row.cells[column].count.replace(",", "")) for row in table.rows]


# --- the table --------------------------------------------------------------------------------------------------------


def test_table__every_column__adds_up_to_its_total() -> None:
    table = outcomes_table(columns(V5, V6), meta="", nothing="", together=True)
    assert table.total is not None
    totals = [int(cell.count.replace(",", "")) for cell in table.total.cells]
    assert [sum(numbers(table, i)) for i in range(3)] == totals == [1234, 451, 1685]
    assert table.heading == "Where 1,685 requests went"


def test_table__one_arm__has_no_column_that_repeats_it() -> None:
    table = outcomes_table(columns(V6), meta="", nothing="", together=True)
    assert [column.label for column in table.columns] == ["v5"]
    assert table.heading == "Where 451 requests went"


def test_table__bar__says_the_same_in_words_and_fills_the_whole_width() -> None:
    bar = outcomes_table(columns(V6), meta="", nothing="").bars[0]
    assert bar.words.startswith("v5, 451 requests: answered 205 (45.5%), refused by the engine 212 (47%)")
    assert sum(segment.percent for segment in bar.segments) == pytest.approx(100)


def test_table__neighbours_of_one_colour__differ_by_their_hatch() -> None:
    rows = {row.css: row.hatched for row in outcomes_table(columns(V6), meta="", nothing="").rows}
    for one, other in (
        ("refused_request", "refused_rate"),
        ("failed", "fallback"),
        ("abandoned_before", "abandoned_midway"),
    ):
        assert rows[f"o-{one}"] != rows[f"o-{other}"]


def test_arms__counted_from_the_middle_on__says_how_many_are_missing() -> None:
    rollout = factories.with_outcomes(factories.rollout_progressing(now=NOW), baseline=V5, candidate=V6)
    rollout.arms.filter(name="candidate").update(requests=500)
    counted = V6.ended - V6.abandoned
    assert table_of(rollout).earlier == f"{500 - counted} requests from before this was counted are left out."


def test_arms__none_counted__says_so_and_shows_no_table(engineer: Client) -> None:
    rollout = factories.with_outcomes(factories.rollout_progressing(now=NOW))
    rollout.arms.update(requests=12)
    assert table_of(rollout).nothing == NOT_COUNTED
    assert NOT_COUNTED in engineer.get(f"/rollouts/{rollout.pk}").content.decode()


def test_arms__before_traffic__nothing_was_counted_yet() -> None:
    assert table_of(factories.rollout_pending(now=NOW)).nothing == NOTHING_YET


def test_arms__real_intervals__are_in_the_table() -> None:
    rollout = factories.rollout_progressing(now=NOW)
    table = table_of(rollout)
    rows = rollout.evidence.values_list("interval", flat=True)
    ended = sum(row["arms"]["candidate"]["outcomes"]["answered"] for row in rows)
    assert table.rows[0].cells[1].count == f"{ended:,}"


def test_bandit__every_arm__has_its_column(engineer: Client) -> None:
    rollout = bandits.rollout_bandit(now=NOW)
    labels = [column.label for column in table_of(rollout).columns]
    assert labels == ["v1", "v2", "v3", "v4", "Together"]
    text = engineer.get(f"/rollouts/{rollout.pk}", headers=HTMX).content.decode()
    assert '<hx-partial hx-target="#outcomes" hx-swap="outerMorph">' in text


# --- short and empty answers ------------------------------------------------------------------------------------------


def test_answers__engine_that_says_so__has_shares_and_a_mean() -> None:
    said = Completions(200, empty=10, truncated=50, filtered=1, tokens=3300)
    table = outcomes_table([Column(0, "v5", BASELINE, V5, said)], meta="", nothing="")
    cells = [(row.cells[0].count, row.cells[0].share) for row in table.answers]
    assert cells == [("200", ""), ("10", "5%"), ("50", "25%"), ("1", "0.5%"), ("16.5", "")]
    assert table.unsaid == ""


def test_answers__engine_that_says_nothing__is_named_and_gets_no_zeros() -> None:
    said = Completions(200)
    table = outcomes_table(
        [Column(0, "v5", BASELINE, V5, said), Column(1, "v6", "candidate", V6)], meta="", nothing=""
    )
    assert [column.label for column in table.answer_columns] == ["v5"]
    assert table.unsaid == "The engine of v6 reports nothing about its answers."


def test_answers__nothing_finished_yet__no_mean_is_made_up() -> None:
    table = outcomes_table([Column(0, "v5", BASELINE, V5, Completions(0))], meta="", nothing="")
    assert table.answers[-1].cells[0].count == "no data"


# --- what is striking -------------------------------------------------------------------------------------------------


def test_findings__half_is_refused__says_who_and_how_many() -> None:
    assert findings(columns(V5, V6), {}) == (REFUSED,)


def test_findings__baseline_is_the_worse__is_named_first() -> None:
    assert findings(columns(V6, V5), {}) == (
        "47.3% of v5's requests were refused by the engine, against 0.33% of v6's.",
    )


def test_findings__same_on_both__nothing_and_the_page_says_that() -> None:
    same = columns(V5, V5)
    assert findings(same, {}) == ()
    assert calm_words(same, ()) == "In none of this do the arms differ by more than chance explains."


def test_findings__few_requests__no_difference_is_claimed_or_denied() -> None:
    few = columns(Outcomes(answered=9), Outcomes(answered=3, refused_request=2))
    assert findings(few, {}) == ()
    assert calm_words(few, ()).startswith("There are too few requests so far")


def test_findings__everybody_leaves_on_both_arms__is_said_though_the_arms_are_alike() -> None:
    gone = Outcomes(answered=10, abandoned_before=216)
    assert findings(columns(gone, gone), {}) == (
        "432 of 452 requests were given up before the first token, on every arm alike: a comparison of the arms "
        "cannot see that.",
    )


def test_findings__many__at_most_two_and_the_largest_first() -> None:
    worse = Outcomes(answered=100, refused_request=300, failed=100, abandoned_before=200)
    told = findings(columns(Outcomes(answered=700), worse), {})
    assert [sentence.split(" ", 1)[0] for sentence in told] == ["42.9%", "28.6%"]


def test_findings__bandit__each_candidate_is_compared_with_the_baseline() -> None:
    assert findings(columns(V5, V5, V6), {}) == (REFUSED.replace("v6", "v7"),)


def test_findings__answers_cut_short__are_told_of_answers() -> None:
    one, other = columns(V5, V5)
    told = findings(
        [
            Column(0, one.label, one.hint, V5, Completions(1000, truncated=50)),
            Column(1, other.label, other.hint, V5, Completions(400, truncated=300)),
        ],
        {},
    )
    assert told == ("75% of v6's answers were cut by the length limit, against 5% of v5's.",)


def test_findings__gate_whose_interval_holds_no_change__has_a_veto() -> None:
    family = FamilyVerdict.from_json(factories.rollout_progressing(now=NOW).verdicts)
    failing = columns(Outcomes(answered=1000), Outcomes(answered=900, failed=100))
    assert findings(failing, {}) != ()
    assert findings(failing, {"candidate-1": family}) == ()


def test_page__refusing_candidate__is_told_on_the_page_and_in_its_fragment(engineer: Client) -> None:
    rollout = factories.with_outcomes(factories.rollout_progressing(now=NOW), baseline=V5, candidate=V6)
    for headers in ({}, HTMX):
        text = engineer.get(f"/rollouts/{rollout.pk}", headers=headers).content.decode()
        assert "47.3% of v2&#x27;s requests were refused by the engine, against 0.33% of v1&#x27;s." in text


# --- an endpoint ------------------------------------------------------------------------------------------------------


def test_endpoint__minutes__are_added_up_for_the_hour_and_the_day() -> None:
    served = factories.endpoint(now=NOW)
    assert served.stable is not None
    for ago, answered in ((timedelta(minutes=10), 5), (timedelta(hours=3), 70), (timedelta(hours=25), 900)):
        MinuteSample.objects.create(
            endpoint=served,
            variant=served.stable,
            minute=NOW - ago,
            outcomes=Outcomes(answered=answered, running=2).to_json(),
            completions=Completions(answered, tokens=2 * answered).to_json(),
        )
    table = stable_outcomes(served, NOW)
    assert [cell.count for cell in table.rows[0].cells] == ["5", "75"]
    assert [cell.count for cell in table.answers[-1].cells] == ["2", "2"]
    assert table.heading == "Where the requests of v1 went"


def test_endpoint__minutes_from_before__were_not_counted() -> None:
    served = factories.endpoint(now=NOW)
    assert served.stable is not None
    MinuteSample.objects.create(endpoint=served, variant=served.stable, minute=NOW, requests=9)
    assert stable_outcomes(served, NOW).nothing == NOTHING_YET


def test_endpoint__beside__names_both_kinds_of_the_last_day() -> None:
    served = factories.endpoint(now=NOW)
    for ago in (1, 2, 25):
        OtherCalls.objects.create(
            endpoint=served, minute=NOW - timedelta(hours=ago), no_inference=600, turned_away=1
        )
    assert beside_words(served, NOW) == (
        "Also in the last 24 h: 1,200 calls that asked for no inference (model lists, token counts), and 2 that the "
        "gateway refused before it assigned a variant."
    )


def test_endpoint__nothing_beside__says_nothing_of_it() -> None:
    assert beside_words(factories.endpoint(now=NOW), NOW) == ""


@pytest.mark.parametrize("minutes", [3, 60])
def test_endpoint_fragment__queries__do_not_grow_with_the_minutes(
    engineer: Client, minutes: int, django_assert_num_queries: DjangoAssertNumQueries
) -> None:
    served = factories.endpoint()
    factories.minutes_of_traffic(served, minutes=minutes)
    # session, person; endpoint, its rollouts and its variants; history, variants, rates, outcomes, other calls, events;
    # the numbers of rollouts and events; ratings that did not count; the clusters
    with django_assert_num_queries(15):
        text = engineer.get("/endpoints/triage", headers=HTMX).content.decode()
    assert '<hx-partial hx-target="#outcomes" hx-swap="outerMorph">' in text
