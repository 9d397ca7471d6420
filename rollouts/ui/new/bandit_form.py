"""The bandit's part of the new-rollout form: what was typed, and the plan it means."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from controlplane.kernel.errors import InvalidInput
from controlplane.web.words import count_text
from rollouts.domain.bandits import BanditSpec
from rollouts.domain.lifecycle.plan import MAX_HOLD_SECONDS, Plan
from rollouts.domain.strategies.plans import read_plan
from rollouts.ui.new.numbers import need_number, read_number, typed_number

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


def blank_bandit(like: Plan | None) -> BanditFields:
    """As it is first shown: the settings of `like` when it was a bandit's, else the defaults."""
    plan = like if like is not None and like.bandit is not None else Plan("bandit", (), settings=BanditSpec())
    spec = plan.bandit
    assert spec is not None
    return BanditFields(
        beta=DIAL.text_of(spec),
        deadline=typed_number(plan.deadline_seconds / HOUR),
        knobs={knob.sent: knob.text_of(spec) for knob in KNOBS},
    )


def read_bandit(sent: Mapping[str, str]) -> BanditFields:
    """What was sent; what the form did not have has its default."""
    blank = blank_bandit(None)
    return BanditFields(
        beta=sent.get(DIAL.sent, blank.beta).strip(),
        deadline=sent.get("deadline", blank.deadline).strip(),
        knobs={name: sent.get(name, text).strip() for name, text in blank.knobs.items()},
    )


def bandit_plan(fields: BanditFields, *, watch_seconds: int, keep: Callable[..., Any]) -> Plan | None:
    """The plan; None while anything typed is wrong.

    keep    calls a reader and keeps what it refuses, so that every mistake shows at once; gives None then
    """
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
    plan: Plan | None = keep(read_plan, data)
    return plan


def _deadline(text: str) -> float:
    hours = need_number(text, "deadline", "deadline")
    if not 0 < hours <= MAX_HOLD_SECONDS / HOUR:
        most = typed_number(MAX_HOLD_SECONDS / HOUR)
        raise InvalidInput(f"Deadline is {text}; it must be above 0 and at most {most} h.", field="deadline")
    return hours


def bandit_field_of(name: str) -> str:
    """`plan.bandit.floor_bp` -> `bandit-floor`; other names as they are."""
    known = {f"plan.bandit.{knob.setting}": knob.sent for knob in (DIAL, *KNOBS)}
    known["plan.deadline_seconds"] = "deadline"
    return known.get(name, name)


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


def start_words(candidates: int) -> str:
    """The label of the button."""
    return f"Start bandit of {count_text(candidates + 1, 'arm')}"
