"""What a gate counts, in words. How numbers and units are written is said in `controlplane.kernel.words`."""

from __future__ import annotations

# By kind of gate; requests where nothing else is said.
UNITS = {
    "paired": "pairs",
    "feedback": "answers",
    "empty": "completions",
    "truncated": "completions",
    "counter_ratio": "events",
    "metric_limit": "readings",
}
# By kind of gate: what it counts against the candidate, as in "twice as many failed requests".
EVENTS = {
    "error_rate": "failed requests",
    "refused": "refused requests",
    "abandoned": "abandoned requests",
    "latency_slo": "requests over its objective",
    "feedback": "answers rated down",
    "empty": "empty completions",
    "truncated": "completions cut off at their length limit",
    "counter_ratio": "bad events",
}
