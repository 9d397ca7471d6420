"""Bandits on the command line: their options, their arms in a line, their verdicts as a table."""

from __future__ import annotations

import argparse
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from controlplane.cli import answers
from controlplane.cli.exits import Exit
from controlplane.cli.failure import Failure
from controlplane.cli.output import table
from controlplane.kernel.words import percent_of_bp, percent_of_share

Options = argparse.Namespace


@dataclass(frozen=True, slots=True)
class Setting:
    """One value of a bandit: its option, its name in the plan, how the option's number becomes the plan's."""

    option: str
    name: str
    about: str
    metavar: str
    convert: Callable[[float], float | int] = float

    @property
    def dest(self) -> str:
        return self.option.removeprefix("--").replace("-", "_")


def _basis_points(share: float) -> int:
    return round(share * 100)


SETTINGS = (
    Setting("--alpha", "alpha", "chance that the best arm is dropped by mistake (default 0.05)", "P"),
    Setting(
        "--beta", "beta", "dial: high keeps regret low, low decides sooner; above 0 to 1 (default 0.5)", "B"
    ),
    Setting("--floor", "floor_bp", "least share of an arm in the race (default 5)", "PERCENT", _basis_points),
    Setting(
        "--baseline-share",
        "baseline_bp",
        "share that the baseline always keeps (default 10)",
        "PERCENT",
        _basis_points,
    ),
    Setting("--burn-in", "burn_in", "answers of each arm at equal shares (default 200)", "ANSWERS", round),
    Setting("--reweight", "reweight_seconds", "between two changes of the weights (default 60)", "SECONDS"),
    Setting(
        "--skip-below",
        "min_change_bp",
        "a change smaller than this is skipped (default 2)",
        "PERCENT",
        _basis_points,
    ),
    Setting("--discount", "discount", "below 1 forgets old rewards, for arms that drift (default 1)", "D"),
)
LARGEST = 1e12  # beyond every limit of the server, and exact as a number
ABOUT = "weights follow users' ratings"
OWN: Sequence[str] = (*(setting.dest for setting in SETTINGS), "deadline")
VERDICT: Mapping[str, Any] = answers.BANDIT_VERDICT
ENDS_WITH_VERDICT = True


def add_options(made: argparse.ArgumentParser) -> None:
    """See the protocol."""
    group = made.add_argument_group("with --strategy bandit")
    for setting in SETTINGS:
        group.add_argument(setting.option, type=float, metavar=setting.metavar, help=setting.about)
    group.add_argument(
        "--deadline",
        type=int,
        metavar="SECONDS",
        help="then it pauses and says between which arms it could not decide (default 7 days)",
    )


def plan_of(options: Options) -> dict[str, Any]:
    """The bandit's plan; what was not given is left to the server's default. Raises Failure (usage)."""
    plan: dict[str, Any] = {
        "strategy": "bandit",
        "bandit": {
            setting.name: setting.convert(_finite(given, setting.option))
            for setting in SETTINGS
            if (given := getattr(options, setting.dest)) is not None
        },
        "watch_seconds": options.watch_seconds,
    }
    if options.deadline is not None:
        plan["deadline_seconds"] = options.deadline
    return plan


def _finite(given: float, option: str) -> float:
    if not math.isfinite(given) or abs(given) > LARGEST:
        raise Failure(Exit.USAGE, f"{option} is {given}, and must be a number that is not that large.")
    return given


def is_undecided(rollout: Mapping[str, Any]) -> bool:
    """See the protocol."""
    return bool(rollout["phase"] == "paused" and rollout["pause_reason"] == "inconclusive")


def stage_of(rollout: Mapping[str, Any]) -> object:
    """See the protocol: the arms that are left. Their shares change all the time."""
    return tuple(arm["name"] for arm in rollout["arms"] if not arm["dropped_at"])


def version_of(rollout: Mapping[str, Any], *, decided: bool) -> str:
    """See the protocol; while it has not decided `bandit`."""
    return f"v{rollout['candidate']['version']}" if decided else "bandit"


def share_text(rollout: Mapping[str, Any]) -> str:
    """`v1 10%, v2 36%, v3 54%`; an arm that was dropped says so."""
    return ", ".join(
        f"v{arm['version']} " + ("dropped" if arm["dropped_at"] else percent_of_bp(int(arm["observed_bp"])))
        for arm in rollout["arms"]
    )


def preview_lines(preview: Mapping[str, Any]) -> list[str]:
    """See the protocol: first shares, and what its ratings can decide."""
    bandit = preview.get("bandit")
    if bandit is None:
        return []
    first = ", ".join(f"v{arm['version']} {percent_of_bp(int(arm['share_bp']))}" for arm in bandit["arms"])
    outlook = bandit["outlook"]
    return [f"First shares: {first}.", *([outlook["sentence"]] if outlook else [])]


def status_lines(rollout: Mapping[str, Any], verdict: Mapping[str, Any]) -> list[str]:
    """See the protocol: the sentence, the arms and the gates of each."""
    if not verdict["arms"]:
        return []
    blocks = [verdict["sentence"]], arms_table(rollout, verdict), gates_table(rollout, verdict)
    return [line for block in blocks if block for line in ("", *block)]


def verdict_data(verdict: Mapping[str, Any]) -> dict[str, Any]:
    """See the protocol."""
    return {"bandit": verdict}


def end_lines(rollout: Mapping[str, Any], verdict: Mapping[str, Any]) -> list[str]:
    """See the protocol: the arms."""
    return ["", *arms_table(rollout, verdict)] if verdict["arms"] else []


def arms_table(rollout: Mapping[str, Any], verdict: Mapping[str, Any]) -> list[str]:
    """The arms with what is known of each, and below it why the others left."""
    versions = {arm["name"]: f"v{arm['version']}" for arm in rollout["arms"]}
    threshold = verdict["threshold"]
    shares = {arm["name"]: percent_of_bp(int(arm["observed_bp"])) for arm in rollout["arms"]}
    rows = [
        [
            versions.get(arm["name"], "-"),
            arm["name"],
            arm["state"],
            shares.get(arm["name"], "-"),
            f"{arm['scored']:,}",
            _interval(arm),
            "-" if arm["p_best"] is None else percent_of_share(arm["p_best"]),
            "-" if arm["expected_loss"] is None else f"{arm['expected_loss']:.4f}",
            f"{arm['evidence']:.3g}" + (f" of {threshold:g}" if threshold is not None else ""),
            f"{arm['gates_passed']} of {arm['gates_required']}" if arm["gates_required"] else "-",
        ]
        for arm in verdict["arms"]
    ]
    head = ["ARM", "NAME", "STATE", "SHARE", "ANSWERS", "REWARD", "P(BEST)", "LOSS", "AGAINST IT", "GATES"]
    gone = [
        f"{versions.get(arm['name'], arm['name'])}: {arm['sentence']}"
        for arm in verdict["arms"]
        if arm["state"] != "racing"
    ]
    return [*table(head, rows), *([""] if gone else []), *gone]


def gates_table(rollout: Mapping[str, Any], verdict: Mapping[str, Any]) -> list[str]:
    """The gates of every candidate."""
    versions = {arm["name"]: f"v{arm['version']}" for arm in rollout["arms"]}
    rows = [
        [versions.get(name, name), gate["verdict"], gate["label"], gate["sentence"]]
        for name, family in verdict["gates"].items()
        for gate in family["verdicts"]
    ]
    return table(["ARM", "VERDICT", "GATE", "WHY"], rows) if rows else []


def _interval(arm: Mapping[str, Any]) -> str:
    if None in (arm["mean"], arm["low"], arm["high"]):
        return "-"
    return f"{arm['mean']:.3f} ({arm['low']:.3f} to {arm['high']:.3f})"
