"""What gates ask a Prometheus for by PromQL of their own: one that lies or hangs, and a real one."""

from __future__ import annotations

import re
import time
from collections.abc import Callable, Iterator, Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import httpx
import pytest

from controlplane.kernel.clock import ManualClock, SystemClock
from rollouts.adapters.signals.prometheus.asked import AskedCounters
from rollouts.adapters.signals.prometheus.server import PrometheusServer
from rollouts.domain.record.asked import AskedCounts, AskedReading, CounterAnswer, CounterPair, asked_between
from rollouts.domain.record.numbers import NumberQuery, NumberReading
from rollouts.ports import Backend, CounterQuestion
from tests.rollouts.adapters.signals.prometheus.test_server import NOW, scalar, server, vector
from tests.standins.prometheus import SCRAPE_SECONDS, Exporter, RunningPrometheus, running_prometheus
from tests.standins.running import wait_until

V1, V2 = "chat-v1-aaaa", "chat-v2-bbbb"
TOOLS = CounterPair('failures_total{pod=~"{{pods}}"}', 'calls_total{pod=~"{{pods}}"}')
POD = {"job": "engines", "instance": "10.0.0.1:8000", "namespace": "team-a", "pod": f"{V1}-7d9f-abcde"}


def question(variant: str = V1, pair: CounterPair | NumberQuery = TOOLS) -> CounterQuestion:
    return CounterQuestion("chat", Backend(variant, "service", name=variant), pair)


def marked(series: Mapping[str, str], expression: str, number: int = 0) -> dict[str, str]:
    return {**series, "headgate_asked": f"{number}-{expression}"}


class Said:
    """A Prometheus of one pod, whose answers a test changes. `hangs`: the seconds that a query with this text takes."""

    def __init__(self) -> None:
        self.clock = ManualClock(datetime.fromtimestamp(NOW, UTC))
        self.series = [(marked(POD, "bad"), "3"), (marked(POD, "all"), "100")]
        self.started: list[tuple[dict[str, str], str]] = [(POD, "1000.5")]
        self.scraped: list[tuple[dict[str, str], str]] = [(POD, str(NOW - 2))]
        self.refuses = ""
        self.hangs = ""
        self.asked: list[str] = []

    def __call__(self, query: str) -> Any:
        self.asked.append(query)
        if query == "time()":
            return scalar(str(NOW))
        if query.startswith("timestamp(process_start"):
            return vector(*self.scraped)
        if query.startswith("process_start"):
            return vector(*self.started)
        if self.refuses and self.refuses in query:
            return httpx.Response(400, json={"status": "error", "error": "parse error: unexpected end"})
        if self.hangs and self.hangs in query:
            self.clock.advance(1.0)
            raise httpx.ReadTimeout("slow")
        return vector(*self.series)

    def counters(self) -> AskedCounters:
        return AskedCounters(server(self), self.clock, "team-a", stale_seconds=10.0)

    def read(self, one: CounterQuestion | None = None) -> CounterAnswer:
        one = one or question()
        return self.counters().read([one])[one]


def reading(answer: CounterAnswer) -> AskedReading:
    assert answer.reading is not None, answer.why
    return answer.reading


def test_read__series_of_a_pod__are_counted_by_process_without_its_address() -> None:
    found = reading(Said().read())
    (name,) = found.processes
    assert name.startswith(POD["pod"])
    assert "10.0.0.1" not in name
    assert (found.bad, found.all, found.at) == (3, 100, NOW - 2)


def test_read__same_pod_with_another_start__is_another_process() -> None:
    said = Said()
    before = set(reading(said.read()).processes)
    said.started = [(POD, "1001.5")]
    assert not before & set(reading(said.read()).processes)


def test_read__arm__is_filled_in_and_said() -> None:
    said = Said()
    answer = said.read(
        question(pair=CounterPair('a{n="{{namespace}}",v="{{variant}}"}', 'b{e="{{endpoint}}{{variant}}"}'))
    )
    assert answer.queries == (f'a{{n="team-a",v="{V1}"}}', f'b{{e="chat{V1}"}}')
    assert all(query in said.asked[1] for query in answer.queries)


@pytest.mark.parametrize(
    ("pod", "is_its"),
    [
        (f"{V1}-7d9f8c-abcde", True),
        (f"{V1}-0", True),
        (f"{V1}-0-1", True),
        (f"{V1}-2-7d9f8c-abcde", False),
        (f"{V2}-7d9f8c-abcde", False),
    ],
)
def test_read__pods__are_those_of_the_variant_alone(pod: str, is_its: bool) -> None:
    (query, _) = Said().read().queries
    pattern = query.partition('=~"')[2].partition('"')[0]
    assert bool(re.fullmatch(pattern, pod)) == is_its


def test_read__pods_of_a_long_name__are_asked_for_as_kubernetes_cuts_them() -> None:
    variant = f"{'a' * 40}-v1-3f9a1c"  # with a hash of ten characters and five drawn ones it has no place for a dash
    (query, _) = Said().read(question(variant)).queries
    pattern = query.partition('=~"')[2].partition('"')[0]
    assert re.fullmatch(pattern, f"{variant}-7d9f8c6x7k2p")


@pytest.mark.parametrize("value", ["NaN", "+Inf", "-1", "1.5"])
def test_read__no_count__is_no_data(value: str) -> None:
    said = Said()
    said.series[0] = (marked(POD, "bad"), value)
    assert "its bad_query is no counter" in said.read().why


@pytest.mark.parametrize(("left", "why"), [(0, "its all_query"), (1, "its bad_query")])
def test_read__absent_series__is_no_data_and_never_zero(left: int, why: str) -> None:
    said = Said()
    said.series = [said.series[left]]
    answer = said.read()
    assert answer.reading is None
    assert answer.why == f"{why} has no fresh series of {V1}"


def test_read__process_scraped_too_long_ago__is_gone() -> None:
    said = Said()
    said.scraped = [(POD, str(NOW - 11))]
    assert "no series of its bad_query is of a process that was scraped lately" in said.read().why


def test_read__process_without_a_start__is_not_read() -> None:
    said = Said()
    said.started = []
    assert "tells its process_start_time_seconds" in said.read().why


def test_read__series_without_its_scrape__says_what_to_write() -> None:
    said = Said()
    said.series[0] = (marked({}, "bad"), "3")
    assert "sum by (job, instance)" in said.read().why


def test_read__several_series_with_the_same_labels__is_no_data() -> None:
    said = Said()
    said.series.append((marked({**POD, "__name__": "other"}, "bad"), "3"))
    assert "several series with the same labels" in said.read().why


def test_read__more_series_than_are_kept__is_no_data() -> None:
    said = Said()
    said.series += [(marked({**POD, "tool": str(number)}, "bad"), "1") for number in range(200)]
    assert "201 series" in said.read().why


def test_read__two_scrapes_of_one_process__are_counted_once() -> None:
    said = Said()
    other = {**POD, "job": "pods-again"}
    said.series += [(marked(other, "bad"), "3"), (marked(other, "all"), "100")]
    said.started.append((other, "1000.5"))
    said.scraped.append((other, str(NOW - 1)))
    found = reading(said.read())
    assert (found.bad, found.all) == (3, 100)


def test_read__several_arms__are_one_query() -> None:
    said = Said()
    other = {**POD, "instance": "10.0.0.2:8000", "pod": f"{V2}-7d9f-fghij"}
    said.series += [(marked(other, "bad", 1), "0"), (marked(other, "all", 1), "9")]
    said.started.append((other, "1000.5"))
    said.scraped.append((other, str(NOW - 1)))
    found = said.counters().read([question(V1), question(V2)])
    assert [(one.reading.bad, one.reading.all) for one in found.values() if one.reading] == [(3, 100), (0, 9)]
    assert len([query for query in said.asked if "failures_total" in query]) == 1


def test_read__gate_that_is_refused__is_said_and_spoils_no_other_one() -> None:
    said = Said()
    said.refuses = "sum("
    wrong = question(pair=CounterPair('sum({pod=~"{{pods}}"', TOOLS.all))
    counters = said.counters()
    found = counters.read([wrong, question()])
    assert "parse error" in found[wrong].why
    assert reading(found[question()]).bad == 3
    said.asked.clear()
    assert reading(counters.read([wrong, question()])[question()]).bad == 3
    assert len([query for query in said.asked if "failures_total" in query]) == 1


def test_read__gate_that_hangs__is_asked_last_from_then_on() -> None:
    said = Said()
    said.hangs = "heavy_total"
    heavy = question(pair=CounterPair('heavy_total{pod=~"{{pods}}"}', TOOLS.all))
    counters = said.counters()
    counters.read([heavy, question()])
    for _ in range(3):
        found = counters.read([heavy, question()])
        assert "did not answer within" in found[heavy].why
        assert reading(found[question()]).bad == 3


def test_read__many_gates_that_hang__leave_time_for_one_that_does_not() -> None:
    said = Said()
    said.hangs = "heavy"
    heavy = [
        question(pair=CounterPair(f'heavy_{number}{{pod=~"{{{{pods}}}}"}}', TOOLS.all)) for number in range(9)
    ]
    counters = said.counters()
    for _ in range(6):  # each time two of those that hang have their turn
        counters.read([*heavy, question()])
    for _ in range(3):
        assert reading(counters.read([*heavy, question()])[question()]).bad == 3


def test_read__all_hang__ends_within_its_time() -> None:
    said = Said()
    said.hangs = "total"
    began = said.clock.reading().steady
    questions = [question(f"v{number}", CounterPair(f"{number}_total", TOOLS.all)) for number in range(50)]
    found = said.counters().read(questions)
    assert said.clock.reading().steady - began <= 2.0
    assert all(one.why for one in found.values())
    assert any("it was not asked" in one.why for one in found.values())


def test_read__prometheus_away__says_so_of_every_question() -> None:
    clock = ManualClock(datetime.fromtimestamp(NOW, UTC))

    def away(request: httpx.Request) -> httpx.Response:
        raise httpx.ConnectError("refused")

    counters = AskedCounters(
        PrometheusServer("http://prometheus", transport=httpx.MockTransport(away)),
        clock,
        "team-a",
        stale_seconds=9,
    )
    answer = counters.read([question()])[question()]
    assert "cannot be asked" in answer.why
    assert answer.queries


# --- one number -------------------------------------------------------------------------------------------------------

HEAT = NumberQuery('max(temperature{pod=~"{{pods}}"})  # of the hottest')
AT = ({"headgate_asked": "0-at"}, str(NOW - 2))


def number_said(*values: str, at: tuple[Mapping[str, str], str] | None = AT) -> CounterAnswer:
    said = Said()
    said.series = [
        ({"gpu": str(number), "headgate_asked": "0-value"}, one) for number, one in enumerate(values)
    ]
    said.series += [] if at is None else [(dict(at[0]), at[1])]
    return said.read(question(pair=HEAT))


def test_number__one_fresh_series__is_its_value_and_when_it_was_measured() -> None:
    answer = number_said("90.2")
    assert (answer.number, answer.reading, answer.why) == (NumberReading(90.2, NOW - 2), None, "")
    (query,) = answer.queries
    assert query.startswith(f'max(temperature{{pod=~"{V1}-')


@pytest.mark.parametrize("value", ["-3", "0", "0.5"])
def test_number__below_one_or_zero__is_a_number_as_any(value: str) -> None:
    assert number_said(value).number == NumberReading(float(value), NOW - 2)


@pytest.mark.parametrize(
    ("values", "at", "why"),
    [
        ((), AT, f"its query has no fresh series of {V1}"),
        (("70",), None, f"its query has no fresh series of {V1}"),
        (("70", "90"), AT, "its query has 2 series of"),
        (("NaN",), AT, f"its query is nan for {V1}, which is no number to compare"),
        (("+Inf",), AT, "its query is inf"),
        (("9223372036854775792",), AT, "its query is 9.22337e+18"),
        (("70",), (AT[0], str(NOW - 11)), f"the newest sample of its query is 11 s old for {V1}"),
        (("70",), (AT[0], "NaN"), "which is no number to compare"),
    ],
)
def test_number__absent_stale_several_or_none__is_no_data(values: tuple[str, ...], at: Any, why: str) -> None:
    answer = number_said(*values, at=at)
    assert answer.number is None
    assert why in answer.why
    assert answer.queries


def test_number__beside_counters__is_asked_in_the_same_query() -> None:
    said = Said()
    said.series += [({"headgate_asked": "1-value"}, "70"), ({"headgate_asked": "1-at"}, str(NOW))]
    both = [question(), question(pair=HEAT)]
    found = said.counters().read(both)
    assert reading(found[both[0]]).all == 100
    assert found[both[1]].number == NumberReading(70.0, NOW)
    assert sum("label_replace" in query for query in said.asked) == 1


def test_number__starts_of_processes_cannot_be_read__is_still_known() -> None:
    said = Said()
    said.series += [({"headgate_asked": "1-value"}, "70"), ({"headgate_asked": "1-at"}, str(NOW))]
    both = [question(), question(pair=HEAT)]

    class Refuses(Said):
        def __call__(self, query: str) -> Any:
            if query.startswith("timestamp(process_start"):
                raise httpx.ReadTimeout("slow")
            return said(query)

    found = Refuses().counters().read(both)
    assert "did not answer" in found[both[0]].why
    assert found[both[1]].number == NumberReading(70.0, NOW)


# --- a real one -------------------------------------------------------------------------------------------------------

JOBS: Mapping[str, Mapping[str, Mapping[str, str]]] = {
    "engines": {
        "/v1-0": {"namespace": "team-a", "pod": f"{V1}-7d9f8c-aaaaa", "instance": "v1-0"},
        "/v1-1": {"namespace": "team-a", "pod": f"{V1}-7d9f8c-bbbbb", "instance": "v1-1"},
        "/v2-0": {"namespace": "team-a", "pod": f"{V2}-7d9f8c-ccccc", "instance": "v2-0"},
    },
    "again": {"/v2-0-again": {"namespace": "team-a", "pod": f"{V2}-7d9f8c-ccccc", "instance": "v2-0"}},
}


def pod(calls: int, failures: Mapping[str, int], started: float = 1000.0) -> str:
    failed = "".join(f'failures_total{{reason="{why}"}} {number}\n' for why, number in failures.items())
    return f"calls_total {calls}\n{failed}process_start_time_seconds {started}\n"


@pytest.fixture(scope="module")
def running(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[RunningPrometheus, Exporter]]:
    with running_prometheus(tmp_path_factory.mktemp("prometheus"), JOBS) as found:
        yield found


@pytest.fixture
def pages(running: tuple[RunningPrometheus, Exporter]) -> dict[str, str]:
    running[1].pages.clear()
    time.sleep(2 * SCRAPE_SECONDS)  # what was there is stale now
    return running[1].pages


@pytest.fixture
def ask(running: tuple[RunningPrometheus, Exporter]) -> Callable[..., CounterAnswer]:
    counters = AskedCounters(
        PrometheusServer(running[0].url), SystemClock(), "team-a", stale_seconds=4.0, seconds=8.0
    )

    def read(variant: str = V1, pair: CounterPair | NumberQuery = TOOLS) -> CounterAnswer:
        one = question(variant, pair)
        return counters.read([one, question(V2)])[one]

    return read


def read_when(
    ask: Callable[..., CounterAnswer], what: str, check: Callable[[CounterAnswer], object], *which: Any
) -> CounterAnswer:
    def look() -> CounterAnswer | None:
        answer = ask(*which)
        return answer if check(answer) else None

    found = wait_until(what, look)
    assert found is not None
    return found


def counted(*totals: int) -> Callable[[CounterAnswer], bool]:
    return lambda one: one.reading is not None and (one.reading.bad, one.reading.all) == totals


@pytest.mark.needs("prometheus")
def test_real_prometheus__pods_of_an_arm__are_counted_with_restarts_and_new_series(
    pages: dict[str, str], ask: Callable[..., CounterAnswer]
) -> None:
    pages |= {"/v1-0": pod(100, {"timeout": 3}), "/v1-1": pod(50, {}), "/v2-0": pod(7, {"timeout": 7})}
    then = reading(read_when(ask, "both pods are counted", counted(3, 150)))
    # the first counts on and has a new reason; the second began again and has counted more than before
    pages |= {
        "/v1-0": pod(140, {"timeout": 4, "denied": 2}),
        "/v1-1": pod(90, {"timeout": 9}, started=2000.0),
    }
    now = reading(read_when(ask, "all is scraped again", counted(15, 230)))
    assert asked_between({"d": then}, {"d": now}) == {"d": AskedCounts(3, 40)}


@pytest.mark.needs("prometheus")
def test_real_prometheus__process_that_two_jobs_scrape__is_counted_once(
    pages: dict[str, str], ask: Callable[..., CounterAnswer]
) -> None:
    pages |= {"/v2-0": pod(70, {"timeout": 7}), "/v2-0-again": pod(70, {"timeout": 7})}
    time.sleep(3 * SCRAPE_SECONDS)
    read_when(ask, "it is counted", counted(7, 70), V2)


@pytest.mark.needs("prometheus")
def test_real_prometheus__pod_without_failures_and_pod_that_is_gone__are_no_data(
    pages: dict[str, str], ask: Callable[..., CounterAnswer]
) -> None:
    pages |= {"/v1-0": pod(100, {}), "/v2-0": pod(1, {"timeout": 1})}
    read_when(ask, "nothing failed yet", lambda one: "its bad_query has no fresh series" in one.why)
    told = CounterPair(f"{TOOLS.bad} or {TOOLS.all} * 0  # so that it begins at 0", TOOLS.all)
    read_when(ask, "a counter that begins at 0", counted(0, 100), V1, told)
    del pages["/v1-0"]
    read_when(ask, "it is gone", lambda one: "has no fresh series" in one.why, V1, told)


@pytest.mark.needs("prometheus")
@pytest.mark.parametrize(
    ("bad", "why"),
    [
        ('rate(failures_total{pod=~"{{pods}}"}', "parse error"),
        ('sum(failures_total{pod=~"{{pods}}"})', "sum by (job, instance)"),
        ('scalar(calls_total{pod=~"{{pods}}"})', "instant vector"),
        ('rate(calls_total{pod=~"{{pods}}"}[1m]) + 0.5', "no counter"),
        ('calls_total{pod=~"{{pods}}"} / 0', "no counter"),
    ],
)
def test_real_prometheus__expression_of_no_counter__says_why_and_keeps_nobody_else_waiting(
    pages: dict[str, str],
    ask: Callable[..., CounterAnswer],
    running: tuple[RunningPrometheus, Exporter],
    bad: str,
    why: str,
) -> None:
    pages |= {"/v1-0": pod(100, {"timeout": 3}), "/v2-0": pod(7, {"timeout": 1})}
    read_when(ask, "the other gate is counted", counted(1, 7), V2)
    time.sleep(2 * SCRAPE_SECONDS)  # a rate needs two samples
    read_when(ask, "it says why", lambda one: why in one.why, V1, CounterPair(bad, TOOLS.all))
    assert counted(1, 7)(ask(V2))


@pytest.mark.needs("prometheus")
def test_real_prometheus__number_of_an_arm__is_read_of_its_own_pods_and_gone_with_them(
    pages: dict[str, str], ask: Callable[..., CounterAnswer]
) -> None:
    pages |= {"/v1-0": "temperature 71.5\n", "/v1-1": "temperature 90.2\n", "/v2-0": "temperature 40\n"}
    hottest = NumberQuery('max(temperature{pod=~"{{pods}}"})  # of the hottest')
    read_when(ask, "the hottest is read", lambda one: one.number and one.number.value == 90.2, V1, hottest)
    read_when(ask, "the other arm is read", lambda one: one.number and one.number.value == 40, V2, hottest)
    del pages["/v1-0"], pages["/v1-1"]
    read_when(ask, "its pods are gone", lambda one: "has no fresh series" in one.why, V1, hottest)


@pytest.mark.needs("prometheus")
def test_real_prometheus__plain_selector__is_known_by_its_samples_time(
    pages: dict[str, str], ask: Callable[..., CounterAnswer]
) -> None:
    """A process that gives its samples a time of its own: Prometheus shows its last one for minutes."""
    measured = int(time.time() * 1000)
    pages["/v1-0"] = f"temperature 90.2 {measured}\n"
    plain = NumberQuery('temperature{pod=~"{{pods}}"}')
    found = read_when(ask, "it is read", lambda one: one.number, V1, plain)
    assert found.number == NumberReading(90.2, measured / 1000)
    read_when(ask, "it is too old", lambda one: "s old" in one.why, V1, plain)


@pytest.mark.needs("prometheus")
@pytest.mark.parametrize(
    ("query", "why"),
    [
        ('max(temperature{pod=~"{{pods}}"}', "parse error"),
        ('scalar(temperature{pod=~"{{pods}}"})', "instant vector"),
        ('temperature{pod=~"{{pods}}"}', "its query has 2 series"),
        ('max(temperature{pod=~"{{pods}}"}) / 0', "which is no number to compare"),
        ('max(humidity{pod=~"{{pods}}"})', "no fresh series"),
    ],
)
def test_real_prometheus__expression_of_no_number__says_why_and_keeps_nobody_else_waiting(
    pages: dict[str, str], ask: Callable[..., CounterAnswer], query: str, why: str
) -> None:
    pages |= {
        "/v1-0": "temperature 71.5\n", "/v1-1": "temperature 90.2\n", "/v2-0": pod(7, {"timeout": 1}),
    }  # fmt: skip
    read_when(ask, "the other gate is counted", counted(1, 7), V2)
    read_when(ask, "it says why", lambda one: why in one.why, V1, NumberQuery(query))
    assert counted(1, 7)(ask(V2))


DCGM = """DCGM_FI_DEV_GPU_TEMP{gpu="0",UUID="GPU-a"} 64
DCGM_FI_DEV_GPU_TEMP{gpu="1",UUID="GPU-b"} 88
DCGM_FI_DEV_FB_USED{gpu="0",UUID="GPU-a"} 60
DCGM_FI_DEV_FB_USED{gpu="1",UUID="GPU-b"} 75
DCGM_FI_DEV_FB_FREE{gpu="0",UUID="GPU-a"} 20
DCGM_FI_DEV_FB_FREE{gpu="1",UUID="GPU-b"} 25
DCGM_FI_DEV_GPU_UTIL{gpu="0",UUID="GPU-a"} 90
DCGM_FI_DEV_GPU_UTIL{gpu="1",UUID="GPU-b"} 100
"""


@pytest.mark.needs("prometheus")
def test_real_prometheus__expressions_of_the_docs_for_gpus__are_one_number_of_the_arm_each(
    pages: dict[str, str], ask: Callable[..., CounterAnswer]
) -> None:
    text = (Path(__file__).parents[5] / "docs" / "gateway-api.md").read_text()
    queries = re.findall(r"query: '(.*DCGM_.*)'}", text)
    pages |= {"/v1-0": DCGM, "/v2-0": DCGM.replace(" 88", " 99")}
    said = [read_when(ask, query, lambda one: one.number, V1, NumberQuery(query)).number for query in queries]
    assert [one.value for one in said if one is not None] == [88.0, 0.75, 95.0]
