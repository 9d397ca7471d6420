"""The bandit's part of the new-rollout form: what was typed, and the plan it means."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from controlplane.kernel.errors import InvalidInput
from controlplane.kernel.words import count_text
from rollouts.domain.bandits import BanditSpec
from rollouts.domain.lifecycle.plan import MAX_HOLD_SECONDS, Plan
from rollouts.domain.strategies.bandit.forecast import BanditPreview
from rollouts.domain.strategies.bandit.settings import spec_of
from rollouts.domain.strategies.plans import read_plan
from rollouts.services.commands.start import Preview
from rollouts.ui.new.bandit_plan import BanditPanel, bandit_panel
from rollouts.ui.new.numbers import need_number, read_number, typed_number
from rollouts.ui.new.part import PlanWords

LABEL = "Bandit"
HINT = "Weights follow users' ratings, several versions at once"
TEMPLATE = "rollouts/new/_bandit.html"
PLAN_TEMPLATE = "rollouts/new/_plan_bandit.html"
WORDS = PlanWords(gates="Guardrails", by="deadline", latency="Latency evidence", when="When")
HOUR = 3_600


@dataclass(frozen=True, slots=True)
class Knob:
    """One setting of a bandit.

    allowed     the range in words, as the form counts
    factor      how much of the plan's unit one of the form's is (1% = 100 basis points)
    """

    name: str
    setting: str
    label: str
    unit: str
    hint: str
    allowed: str
    factor: float = 1.0
    whole: bool = False

    @property
    def sent(self) -> str:
        """Its name in the form."""
        return f"bandit-{self.name}"

    def text_of(self, spec: BanditSpec) -> str:
        return typed_number(getattr(spec, self.setting) / self.factor)

    def value_of(self, text: str) -> float | int:
        """What was typed in the plan's unit. Raises InvalidInput with the form's field."""
        value: float | int = need_number(text, self.sent, self.label.lower()) * self.factor
        if self.whole and abs(value - round(value)) < 1e-6:
            value = round(value)
        try:
            BanditSpec(**{self.setting: value})  # type: ignore[arg-type]  # the names above are its fields
        except InvalidInput as error:
            raise InvalidInput(
                f"{self.label} is {text}; it must be {self.allowed}.", field=self.sent
            ) from error
        return value


DIAL = Knob("beta", "beta", "Dial", "", "", "above 0 and at most 1")
KNOBS = (
    Knob(
        "alpha",
        "alpha",
        "Alpha",
        "",
        "chance that the best arm is dropped by mistake",
        "above 0 and at most 0.5",
    ),
    Knob("floor", "floor_bp", "Floor", "%", "least share of a candidate in the race", "0 to 50%", 100, True),
    Knob(
        "baseline",
        "baseline_bp",
        "Baseline share",
        "%",
        "kept to the end: guardrails compare with it",
        "above 0 and at most 90%",
        100,
        True,
    ),
    Knob(
        "burn-in",
        "burn_in",
        "Burn-in",
        "answers",
        "of each arm, at equal shares, before weights move",
        "a whole number, 0 or more",
        1,
        True,
    ),
    Knob(
        "reweight",
        "reweight_seconds",
        "Reweight every",
        "s",
        "of measured traffic between two changes",
        "1 to 86,400 s",
    ),
    Knob(
        "skip",
        "min_change_bp",
        "Skip below",
        "%",
        "a smaller change of the weights is not made",
        "0 to 50%",
        100,
        True,
    ),
    Knob("discount", "discount", "Discount", "", "below 1 forgets, for arms that drift apart", "0.5 to 1"),
)


@dataclass(frozen=True, slots=True)
class BanditFields:
    """Everything typed about a bandit. `beta` is the dial, `deadline` hours, `knobs` by their names in the form."""

    beta: str
    deadline: str
    knobs: Mapping[str, str]


@dataclass(frozen=True, slots=True)
class KnobRow:
    """A setting of a bandit as typed."""

    knob: Knob
    value: str
    problem: str


@dataclass(frozen=True, slots=True)
class BanditRows:
    """What a bandit is set by; `dial` says in words what the position of beta means. `watch` is in minutes."""

    beta: str
    dial: str
    beta_problem: str
    knobs: tuple[KnobRow, ...]
    deadline: str
    deadline_problem: str
    watch: str
    watch_problem: str


def blank(like: Plan | None) -> BanditFields:
    """See the protocol."""
    own = like is not None and isinstance(like.settings, BanditSpec)
    plan = like if like is not None and own else Plan("bandit", settings=BanditSpec())
    spec = spec_of(plan)
    return BanditFields(
        beta=DIAL.text_of(spec),
        deadline=typed_number(plan.deadline_seconds / HOUR),
        knobs={knob.sent: knob.text_of(spec) for knob in KNOBS},
    )


def read(sent: Mapping[str, str]) -> BanditFields:
    """See the protocol; what the form did not have has its default."""
    usual = blank(None)
    return BanditFields(
        beta=sent.get(DIAL.sent, usual.beta).strip(),
        deadline=sent.get("deadline", usual.deadline).strip(),
        knobs={name: sent.get(name, text).strip() for name, text in usual.knobs.items()},
    )


def changed(fields: BanditFields, change: str) -> BanditFields:
    """See the protocol: it has no buttons."""
    return fields


def kept(fields: BanditFields) -> Sequence[tuple[str, str]]:
    """See the protocol."""
    return [(DIAL.sent, fields.beta), ("deadline", fields.deadline), *fields.knobs.items()]


def plan(fields: BanditFields, *, watch_seconds: int, keep: Callable[..., Any]) -> Plan | None:
    """See the protocol."""
    settings = {knob.setting: keep(knob.value_of, fields.knobs[knob.sent]) for knob in KNOBS}
    settings[DIAL.setting] = keep(DIAL.value_of, fields.beta)
    hours = keep(_deadline, fields.deadline)
    if hours is None or None in settings.values():
        return None
    data = {
        "strategy": "bandit",
        "bandit": settings,
        "watch_seconds": watch_seconds,
        "deadline_seconds": round(hours * HOUR),
    }
    made: Plan | None = keep(read_plan, data)
    return made


def _deadline(text: str) -> float:
    hours = need_number(text, "deadline", "deadline")
    if not 0 < hours <= MAX_HOLD_SECONDS / HOUR:
        most = typed_number(MAX_HOLD_SECONDS / HOUR)
        raise InvalidInput(f"Deadline is {text}; it must be above 0 and at most {most} h.", field="deadline")
    return hours


def field_of(name: str) -> str:
    """See the protocol."""
    known = {f"plan.bandit.{knob.setting}": knob.sent for knob in (DIAL, *KNOBS)}
    known["plan.deadline_seconds"] = "deadline"
    return known.get(name, "")


def rows(fields: BanditFields, *, watch: str, problems: Callable[..., tuple[str, ...]]) -> BanditRows:
    """See the protocol."""

    def problem(name: str) -> str:
        return " ".join(problems(name))

    return BanditRows(
        beta=fields.beta,
        dial=dial_words(fields.beta),
        beta_problem=problem(DIAL.sent),
        knobs=tuple(KnobRow(knob, fields.knobs[knob.sent], problem(knob.sent)) for knob in KNOBS),
        deadline=fields.deadline,
        deadline_problem=problem("deadline"),
        watch=watch,
        watch_problem=problem("watch"),
    )


def dial_words(beta: str) -> str:
    """What this position of the dial means; empty when it cannot be read."""
    value = read_number(beta)
    if value is None or not 0 < value <= 1:
        return ""
    if value < 0.4:
        words = "decides soonest, at the price of more bad answers meanwhile"
    elif value <= 0.6:
        words = "a compromise between few bad answers and an early decision"
    elif value < 0.85:
        words = "fewer bad answers meanwhile, decides later"
    else:
        words = "fewest bad answers meanwhile; may not decide at all"
    return f"{typed_number(value)}: {words}."


def start_words(plan: Plan | None, *, candidates: int) -> str:
    """See the protocol."""
    return f"Start bandit of {count_text(candidates + 1, 'arm')}"


def panel(preview: Preview | None, *, now: datetime) -> BanditPanel | None:
    """See the protocol."""
    own = preview.own if preview is not None else None
    return bandit_panel(own) if isinstance(own, BanditPreview) else None


def latency(preview: Preview) -> Sequence[tuple[str, float, str]]:
    """See the protocol: while shares are equal, and once one arm leads."""
    own = preview.own
    if not isinstance(own, BanditPreview):
        return ()
    candidate = own.arms[1]
    return (
        ("Equal shares", candidate.load, candidate.latency_first),
        ("One arm leads", candidate.load_leading, candidate.latency_leading),
    )
