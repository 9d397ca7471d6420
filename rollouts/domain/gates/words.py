"""What a gate counts, in words. How numbers and units are written is said in `controlplane.kernel.words`."""

from __future__ import annotations

# By kind of gate; requests where nothing else is said.
UNITS = {
    "paired": "pairs",
    "feedback": "answers",
    "empty": "completions",
    "truncated": "completions",
    "counter_ratio": "events",
}
