"""Counters, and numbers, that gates ask for by PromQL of their own.

The expressions of several gates and arms go into one query, each with a label that says whose it is. Where Prometheus
refuses such a query, or does not answer it in time, each gate is asked by itself from then on, and last: a gate with a
wrong or heavy expression keeps none of the others waiting. All of a look together have a few seconds.

A series is of the process that it was scraped from: `job` and `instance` must be among its labels. When that process
started, and when it was scraped last, says its `process_start_time_seconds`; without it nobody knows whether its
counters began again, and it is not read. A process that two jobs scrape is counted once.
"""

from __future__ import annotations

import hashlib
import logging
import re
from collections import defaultdict
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field

from controlplane.kernel.clock import Clock
from controlplane.kernel.digests import canonical_json
from controlplane.kernel.errors import HeadgateError, InvalidInput
from controlplane.kernel.foreign import words_of
from rollouts.adapters.clusters.kubernetes.names import pods_pattern
from rollouts.adapters.signals.exposition import Sample
from rollouts.adapters.signals.prometheus.numbers import expressions_of, number_in
from rollouts.adapters.signals.prometheus.server import PrometheusServer
from rollouts.domain.gates.expressions import escaped, filled_in
from rollouts.domain.record.asked import AskedReading, CounterAnswer, CounterPair, ProcessCounters
from rollouts.domain.record.numbers import NumberQuery, NumberReading
from rollouts.ports import CounterQuestion

log = logging.getLogger(__name__)

SECONDS = 2.0  # for all questions of a look
LEAST_SECONDS = 0.1
STARTS_SECONDS = 0.5  # for what is asked of all processes, whatever the gates took
# Questions in one query, of two expressions each: of a number the second one is when it was measured.
AT_ONCE = 20
MOST_SERIES = 200  # of an arm at one expression: all of them are kept between two readings
NAMED_AT_MOST = 200  # instances in one query
MOST_APART = 1_000
STARTED = "process_start_time_seconds"
SCRAPE = ("job", "instance")
MARK = "headgate_asked"  # the label that says whose a series is: the number of the question, and which expression
BAD, ALL = "bad", "all"

Scrape = tuple[str, ...]
Series = dict[str, list[Sample]]  # of one question, by expression
Gate = tuple[str, str]  # endpoint and digest of what it asks for


@dataclass(frozen=True, slots=True)
class _Process:
    """A process as it was scraped last. `name` holds its start, so that one that began again is another one."""

    name: str
    at: float


@dataclass(slots=True)
class _Look:
    """One look: the moment that is asked for by the server's clock, and until when it may last by our steady one."""

    now: float
    until: float
    series: dict[CounterQuestion, Series] = field(default_factory=dict)
    wrong: dict[CounterQuestion, str] = field(default_factory=dict)


class AskedCounters:
    """Reads what gates ask for. `namespace`: of the engines' pods; `stale_seconds`: a process whose last scrape is
    older is gone, or is not reached."""

    def __init__(
        self,
        server: PrometheusServer,
        clock: Clock,
        namespace: str,
        *,
        stale_seconds: float,
        seconds: float = SECONDS,
    ) -> None:
        self._server = server
        self._clock = clock
        self._namespace = namespace
        self._stale_seconds = stale_seconds
        self._seconds = seconds
        self._apart: tuple[Gate, ...] = ()  # those to be asked by themselves, in this order

    def read(self, questions: Collection[CounterQuestion]) -> Mapping[CounterQuestion, CounterAnswer]:
        """See `SignalSource.read_counters`."""
        if not questions:
            return {}
        try:
            look = self._asked(questions)
        except HeadgateError as error:
            return {one: self._answer(one, _words(error)) for one in questions}
        processes: Mapping[Scrape, _Process] = {}
        try:
            processes = self._processes(look)
        except HeadgateError as error:  # numbers are of no process
            counters = [one for one in questions if isinstance(one.asks, CounterPair)]
            look.wrong |= dict.fromkeys(counters, _words(error))
        return {one: self._answer(one, self._found(one, look, processes)) for one in questions}

    def _found(
        self, question: CounterQuestion, look: _Look, processes: Mapping[Scrape, _Process]
    ) -> AskedReading | NumberReading | str:
        if question in look.wrong:
            return look.wrong[question]
        series, variant = look.series[question], question.backend.variant
        if isinstance(question.asks, NumberQuery):
            return number_in(series, variant, now=look.now, stale_seconds=self._stale_seconds)
        return _reading(variant, series, processes)

    def _answer(self, question: CounterQuestion, found: AskedReading | NumberReading | str) -> CounterAnswer:
        queries = self._queries(question)
        if isinstance(found, str):
            log.warning(
                "signals.counters_unread endpoint=%s variant=%s %s",
                question.endpoint, question.backend.variant, found,
            )  # fmt: skip
            return CounterAnswer(why=found, queries=queries)
        if isinstance(found, NumberReading):
            return CounterAnswer(queries=queries, number=found)
        return CounterAnswer(found, queries=queries)

    # --- asking -----------------------------------------------------------------------------------------------------

    def _asked(self, questions: Collection[CounterQuestion]) -> _Look:
        """Asks everything; what was asked alone and answered is asked with the others again. Of those alone, whoever
        had no turn is first the next time, and whoever hung is last."""
        look = _Look(self._server.now(), self._steady() + self._seconds)
        own: dict[Gate, list[CounterQuestion]] = defaultdict(list)
        for one in questions:
            own[_gate(one)].append(one)
        alone = [gate for gate in self._apart if gate in own]
        waiting: list[Gate] = []
        failed: list[Gate] = []
        together = [one for one in questions if _gate(one) not in alone]
        for start in range(0, len(together), AT_ONCE):
            part = together[start : start + AT_ONCE]
            gates = list(dict.fromkeys(_gate(one) for one in part))
            if self._has_time(part, look) and not self._ask(part, look):
                by_themselves = alone if len(gates) > 1 else failed  # one alone was asked by itself just now
                by_themselves += [gate for gate in gates if gate not in by_themselves]
        for gate in alone:
            if not self._has_time(own[gate], look):
                waiting.append(gate)
            elif not self._ask(own[gate], look):
                failed.append(gate)
        # Those of other looks are remembered, but not for ever: their rollouts end.
        others = [gate for gate in self._apart if gate not in own]
        self._apart = (*waiting, *failed, *others)[:MOST_APART]
        return look

    def _has_time(self, part: Sequence[CounterQuestion], look: _Look) -> bool:
        """Whether there is time to ask these; if not, that is why there is no answer, unless another is known."""
        if look.until - self._steady() >= LEAST_SECONDS:
            return True
        for one in part:
            look.wrong.setdefault(
                one,
                f"what gates ask Prometheus for took the {self._seconds:g} s that all of it has: it was not asked",
            )
        return False

    def _ask(self, part: Sequence[CounterQuestion], look: _Look) -> bool:
        """Notes the series of these questions, or why there are none; whether they were answered. A query has half of
        the time that is left: one that hangs leaves some to those behind it."""
        left = look.until - self._steady()
        try:
            found = self._server.vector(self._together(part), at=look.now, seconds=left / 2)
        except HeadgateError as error:
            look.wrong |= dict.fromkeys(part, _words(error))
            return False
        marked: dict[str, list[Sample]] = defaultdict(list)
        for sample in found:
            marked[sample.labels.get(MARK, "")].append(sample)
        for number, one in enumerate(part):
            look.wrong.pop(one, None)
            look.series[one] = {kind: marked.get(f"{number}-{kind}", []) for kind in self._expressions(one)}
        return True

    def _together(self, part: Sequence[CounterQuestion]) -> str:
        """One query for all expressions, each on lines of its own: it may end in a comment."""
        marked = [
            f'label_replace((\n{query}\n),"{MARK}","{number}-{kind}","","")'
            for number, one in enumerate(part)
            for kind, query in self._expressions(one).items()
        ]
        return "\nor ".join(marked)

    def _expressions(self, question: CounterQuestion) -> Mapping[str, str]:
        """What is asked for a question, by the word that marks its series."""
        queries = self._queries(question)
        if isinstance(question.asks, NumberQuery):
            return expressions_of(*queries)
        return dict(zip((BAD, ALL), queries, strict=True))

    def _queries(self, question: CounterQuestion) -> tuple[str, ...]:
        backend = question.backend
        values = {
            "variant": backend.variant,
            "endpoint": question.endpoint,
            "namespace": self._namespace,
            "pods": pods_pattern(backend.name),
        }
        return tuple(filled_in(expression, values) for expression in question.asks.expressions)

    def _steady(self) -> float:
        return self._clock.reading().steady

    # --- processes --------------------------------------------------------------------------------------------------

    def _processes(self, look: _Look) -> Mapping[Scrape, _Process]:
        """The processes behind the series, by their scrape: those that were scraped lately and whose start is known."""
        scrapes = sorted(
            {
                _scrape(sample)
                for question, series in look.series.items()
                if isinstance(question.asks, CounterPair)
                for samples in series.values()
                for sample in samples
            }
        )
        selector = _selector([scrape for scrape in scrapes if all(scrape)])
        if not selector:
            return {}
        left = max(STARTS_SECONDS, look.until - self._steady())
        scraped = self._server.vector(f"timestamp({STARTED}{{{selector}}})", at=look.now, seconds=left)
        at = {_scrape(one): one.value for one in scraped if look.now - one.value <= self._stale_seconds}
        started = self._server.vector(f"{STARTED}{{{selector}}}", at=look.now, seconds=left)
        found: dict[Scrape, _Process] = {}
        for sample in started:
            scrape = _scrape(sample)
            if scrape not in at:
                continue
            try:
                found[scrape] = _Process(_name(sample), at[scrape])
            except InvalidInput as error:
                log.warning("signals.start_odd job=%s %s", words_of(scrape[0]), error.message)
        return found


def _reading(variant: str, series: Series, processes: Mapping[Scrape, _Process]) -> AskedReading | str:
    """What one arm's series say, or why they say nothing."""
    counted: dict[str, dict[str, dict[str, int]]] = {}
    at: list[float] = []
    for kind, samples in series.items():
        what = f"its {kind}_query"
        if not samples:
            return f"{what} has no fresh series of {variant}"
        if len(samples) > MOST_SERIES:
            return f"{what} has {len(samples):,} series of {variant}, at most {MOST_SERIES} are kept"
        if any(not all(_scrape(sample)) for sample in samples):
            return f"a series of {what} has no labels job and instance: sum by (job, instance), or not at all"
        once = _counted_once(samples, processes)
        for sample in samples:
            process = processes.get(_scrape(sample))
            if process is None or once[process.name] != _scrape(sample):
                continue
            try:
                count = sample.count
            except InvalidInput as error:
                return f"a series of {what} is no counter: {error.message.rstrip('.')}"
            counts = counted.setdefault(process.name, {BAD: {}, ALL: {}})[kind]
            name = _series(sample)
            if name in counts:
                return f"{what} has several series with the same labels: select one metric"
            counts[name] = count
            at.append(process.at)
        if not once:
            return f"no series of {what} is of a process that was scraped lately and tells its {STARTED}"
    names = {name: ProcessCounters(one[BAD], one[ALL]) for name, one in sorted(counted.items())}
    return AskedReading(min(at), names)


def _counted_once(samples: Iterable[Sample], processes: Mapping[Scrape, _Process]) -> Mapping[str, Scrape]:
    """By which of its scrapes each process is counted."""
    found: dict[str, Scrape] = {}
    for sample in samples:
        scrape = _scrape(sample)
        if scrape in processes:
            name = processes[scrape].name
            found[name] = min(scrape, found.get(name, scrape))
    return found


def _gate(question: CounterQuestion) -> Gate:
    return question.endpoint, question.asks.digest


def _scrape(sample: Sample) -> Scrape:
    return tuple(sample.labels.get(name, "") for name in SCRAPE)


def _series(sample: Sample) -> str:
    """A series by its labels: short, and without those of the scrape, of which there may be two."""
    labels = {name: value for name, value in sample.labels.items() if name not in (*SCRAPE, MARK)}
    return _digest(sorted(labels.items()))


def _name(sample: Sample) -> str:
    """A process by its pod, where it has one, and its start. What is scraped is an address, and is not written down.
    Raises InvalidInput when the start is no time."""
    pod = sample.labels.get("pod", "")
    where = [sample.labels.get("namespace", ""), pod] if pod else [sample.labels.get("instance", "")]
    return f"{words_of(pod, 100) or 'process'}-{_digest([*where, sample.amount])}"


def _digest(value: object) -> str:
    return hashlib.sha256(canonical_json(value)).hexdigest()[:10]


def _selector(scrapes: Sequence[Scrape]) -> str:
    """Of these scrapes, and of few others; empty where there are none."""
    if not scrapes:
        return ""
    jobs, instances = ({scrape[place] for scrape in scrapes} for place in (0, 1))
    of = f'job=~"{_one_of(jobs)}"'
    return of if len(instances) > NAMED_AT_MOST else f'{of},instance=~"{_one_of(instances)}"'


def _one_of(values: Iterable[str]) -> str:
    return escaped("|".join(re.escape(value) for value in sorted(values)))


def _words(error: HeadgateError) -> str:
    return error.message.rstrip(".")
