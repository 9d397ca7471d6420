"""Where the requests went: a table of how they ended, one column an arm (or a stretch of time), that adds up."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from controlplane.kernel.words import count_text, number_text, percent_of_count
from controlplane.web.plots import Segment
from rollouts.domain.record.intervals import OUTCOME_CLASSES, Completions, Outcomes
from rollouts.models import Arm, Rollout
from rollouts.ui.parts.arms_table import arm_number

RUNNING = "running"
NOT_COUNTED = "When this ran, it was not counted yet how requests ended."
NOTHING_YET = "No request was counted yet."

# Class -> (what people call it, what is in it).
WORDS: Mapping[str, tuple[str, str]] = {
    "answered": ("Answered", "the whole answer arrived"),
    "refused_request": ("Refused by the engine", "400, 404, 413, 422 and the like"),
    "refused_rate": ("Refused as too many", "429 of the engine"),
    "refused_gateway": ("Refused by the gateway", "an arm was assigned, its engine never asked"),
    "failed": ("Failed", "5xx, resets, broken streams"),
    "fallback": ("Answered by another arm", "the assigned arm could not; the user saw no error"),
    "abandoned_before": ("Left before the first token", "the client went away"),
    "abandoned_midway": ("Left midway", "the client went away during the answer"),
    RUNNING: ("Still running", "when last counted"),
}
ANSWER_WORDS: Mapping[str, tuple[str, str]] = {
    "empty": ("Empty", "ended at once"),
    "truncated": ("Cut by the length limit", ""),
    "filtered": ("Held back", "by a content filter or a refusal that the engine names"),
}
# Drawn with a hatch, so that neighbours in a bar differ by more than colour.
HATCHED = frozenset({"refused_rate", "refused_gateway", "fallback", "abandoned_midway", RUNNING})


@dataclass(frozen=True, slots=True)
class Column:
    """One arm or one stretch of time. `arm` is its colour; None of a column that sums up the others."""

    arm: int | None
    label: str
    hint: str
    outcomes: Outcomes
    completions: Completions | None = None

    @property
    def total(self) -> int:
        return self.outcomes.ended + self.outcomes.running


@dataclass(frozen=True, slots=True)
class Cell:
    """A count and its share of the column, as text; `is_sum` in the column that sums up the others."""

    count: str
    share: str
    is_zero: bool
    is_sum: bool = False


@dataclass(frozen=True, slots=True)
class OutcomeRow:
    """One class (`css` names it in the style sheet), or one fact about the answers."""

    name: str
    hint: str
    cells: tuple[Cell, ...]
    css: str = ""
    hatched: bool = False


@dataclass(frozen=True, slots=True)
class Bar:
    """A column as a stacked bar; `words` says the same."""

    label: str
    hint: str
    segments: tuple[Segment, ...]
    words: str


@dataclass(frozen=True, slots=True)
class OutcomesTable:
    """All of it as text.

    heading, meta   over the table; nothing: why there is no table
    findings        what is striking, in sentences; calm: what is said when nothing is
    earlier         requests from before outcomes were counted
    answers         rows about short and empty answers; unsaid: whose engines say nothing of them
    """

    heading: str
    meta: str
    nothing: str
    columns: tuple[Column, ...]
    bars: tuple[Bar, ...]
    rows: tuple[OutcomeRow, ...]
    total: OutcomeRow | None
    findings: tuple[str, ...]
    calm: str
    earlier: str
    answer_columns: tuple[Column, ...]
    answers: tuple[OutcomeRow, ...]
    unsaid: str


def arms_outcomes(rollout: Rollout, arms: Sequence[Arm], findings: Sequence[str], calm: str) -> OutcomesTable:
    """The table of a rollout's arms, the baseline first. `findings` and `calm` are said over it."""
    columns = columns_of_arms(arms)
    counted = sum(column.outcomes.ended - column.outcomes.abandoned for column in columns)
    earlier = sum(arm.requests for arm in arms) - counted if columns else 0
    nothing = ""
    if not columns:
        nothing = NOT_COUNTED if any(arm.requests for arm in arms) else NOTHING_YET
    return outcomes_table(
        columns,
        meta="by the assigned arm, since the rollout has had traffic",
        nothing=nothing,
        findings=findings,
        calm=calm,
        earlier=f"{count_text(earlier, 'request')} from before this was counted are left out."
        if earlier > 0
        else "",
        together=True,
    )


def columns_of_arms(arms: Sequence[Arm]) -> list[Column]:
    """The arms whose outcomes were counted."""
    found = ((arm, arm.counted_outcomes) for arm in arms)
    return [
        Column(arm_number(arm), arm.variant.version.label, arm.name, outcomes, arm.counted_completions)
        for arm, outcomes in found
        if outcomes is not None
    ]


def outcomes_table(
    columns: Sequence[Column],
    *,
    meta: str,
    nothing: str,
    findings: Sequence[str] = (),
    calm: str = "",
    earlier: str = "",
    heading: str = "",
    together: bool = False,
) -> OutcomesTable:
    """The table of any columns. `together` adds a column that sums up the others."""
    summed = together_of(columns) if together and len(columns) > 1 else None
    shown = [*columns, summed] if summed is not None else list(columns)
    total = (summed or columns[0]).total if columns else 0
    saying = [column for column in columns if column.completions is not None]
    return OutcomesTable(
        heading=heading or f"Where {count_text(total, 'request')} went",
        meta=meta,
        nothing=nothing,
        columns=tuple(shown),
        bars=tuple(_bar(column) for column in columns if column.total),
        rows=tuple(_row(name, shown) for name in (*OUTCOME_CLASSES, RUNNING)),
        total=OutcomeRow("All", "", tuple(_cell(column, column.total) for column in shown))
        if shown
        else None,
        findings=tuple(findings),
        calm=calm,
        earlier=earlier,
        answer_columns=tuple(saying),
        answers=answer_rows(saying),
        unsaid=_unsaid([column.label for column in columns if column.completions is None]),
    )


def together_of(columns: Sequence[Column]) -> Column:
    """All columns as one: here `running` adds up too, they are levels of different arms."""
    added = {
        name: sum(getattr(column.outcomes, name) for column in columns)
        for name in (*OUTCOME_CLASSES, RUNNING)
    }
    return Column(None, "Together", "", Outcomes(**added))


def answer_rows(columns: Sequence[Column]) -> tuple[OutcomeRow, ...]:
    """Short and empty answers of the columns whose engines say something of them."""
    if not columns:
        return ()
    said = [column.completions or Completions(0) for column in columns]
    finished = tuple(Cell(f"{found.total:,}", "", not found.total) for found in said)
    means = tuple(
        Cell(number_text(found.tokens / found.total if found.total else None), "", not found.total)
        for found in said
    )
    return (
        OutcomeRow("Answers that the engine finished", "probes and test requests among them", finished),
        *(
            OutcomeRow(name, hint, tuple(_answer_cell(found, field) for found in said))
            for field, (name, hint) in ANSWER_WORDS.items()
        ),
        OutcomeRow("Output tokens an answer", "mean", means),
    )


def _answer_cell(found: Completions, field: str) -> Cell:
    number = getattr(found, field)
    return Cell(f"{number:,}", percent_of_count(number, found.total), not number)


def _unsaid(labels: Sequence[str]) -> str:
    return f"The engine of {', '.join(labels)} reports nothing about its answers." if labels else ""


def _row(name: str, columns: Sequence[Column]) -> OutcomeRow:
    words, hint = WORDS[name]
    cells = tuple(_cell(column, getattr(column.outcomes, name)) for column in columns)
    return OutcomeRow(words, hint, cells, f"o-{name}", name in HATCHED)


def _cell(column: Column, count: int) -> Cell:
    return Cell(f"{count:,}", percent_of_count(count, column.total), not count, column.arm is None)


def _bar(column: Column) -> Bar:
    counts = [(name, getattr(column.outcomes, name)) for name in (*OUTCOME_CLASSES, RUNNING)]
    parts = [(name, count) for name, count in counts if count]
    said = [
        f"{WORDS[name][0].lower()} {count:,} ({percent_of_count(count, column.total)})"
        for name, count in parts
    ]
    own = f" a{column.arm or 0}"  # answers have the colour of their arm
    return Bar(
        label=column.label,
        hint=column.hint,
        segments=tuple(
            Segment(
                f"o-{name}{own if name == 'answered' else ''}", 100 * count / column.total, name in HATCHED
            )
            for name, count in parts
        ),
        words=f"{column.label}, {count_text(column.total, 'request')}: {', '.join(said)}.",
    )
