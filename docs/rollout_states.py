"""Writes docs/rollout-states.md from the transition table: `python docs/rollout_states.py`. `--check` only compares."""

from __future__ import annotations

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from rollouts.domain.lifecycle.states import ACTIVE, TRANSITIONS, PauseReason, Phase, allowed_events

PAGE = Path(__file__).with_name("rollout-states.md")


def name(phase: Phase) -> str:
    return phase.value.replace("-", "_")


def page() -> str:
    """The whole page as Markdown; the same table always gives the same text."""
    lines = [
        "# The life of a rollout",
        "",
        "Generated from `rollouts/domain/lifecycle/states.py` by `python docs/rollout_states.py`; do not edit by hand.",
        "",
        "```mermaid",
        "stateDiagram-v2",
        f"  [*] --> {name(Phase.PENDING)}",
    ]
    lines += [
        f"  {name(start)} --> {name(end)}: {event.value}" for (start, event), end in TRANSITIONS.items()
    ]
    lines += [f"  {name(phase)} --> [*]" for phase in Phase if phase not in ACTIVE]
    lines += ["```", "", "| phase | active | events that are possible |", "|---|---|---|"]
    for phase in Phase:
        events = ", ".join(allowed_events(phase)) or "none"
        lines.append(f"| {phase.value} | {'yes' if phase in ACTIVE else 'no'} | {events} |")
    reasons = ", ".join(reason.value for reason in PauseReason if reason.value)
    lines += ["", f"Why a rollout is paused is a reason, not a phase: {reasons}.", ""]
    return "\n".join(lines)


def main() -> int:
    if "--check" in sys.argv[1:]:
        if PAGE.read_text() == page():
            return 0
        sys.stderr.write("docs/rollout-states.md is stale: make docs\n")
        return 1
    PAGE.write_text(page())
    return 0


if __name__ == "__main__":
    sys.exit(main())
