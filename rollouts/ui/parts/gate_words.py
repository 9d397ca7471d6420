"""What the kinds of gates are called, and what each counts: the same words on every page."""

from __future__ import annotations

from collections.abc import Mapping

from controlplane.kernel.words import seconds_text
from rollouts.domain.gates.policy import GateSpec
from rollouts.domain.gates.words import UNITS

# On the button that adds one to a policy, in the order of the buttons.
NAMES: Mapping[str, str] = {
    "error_rate": "Errors",
    "refused": "Refusals",
    "abandoned": "Abandoned",
    "latency_slo": "Latency",
    "paired": "Golden prompts",
    "feedback": "Feedback",
    "empty": "Empty answers",
    "truncated": "Cut answers",
    "counter_ratio": "Your counters",
    "metric_limit": "Your number",
}
MEASURES: Mapping[str, str] = {
    "error_rate": "requests that fail",
    "refused": "requests that the engine refuses",
    "abandoned": "requests that clients give up",
    "latency_slo": "requests over the objective",
    "paired": "golden prompts, in pairs",
    "feedback": "answers rated down",
    "empty": "empty completions",
    "truncated": "completions cut off at their limit",
    "counter_ratio": "events that are bad, by PromQL",
    "metric_limit": "a number against a fixed limit, by PromQL",
}
HINTS: Mapping[str, str] = {
    "error_rate": "5xx, broken streams, fallbacks",
    "refused": "4xx of the engine",
    "abandoned": "the client went away",
    "paired": "golden prompts, drawn at random",
    "feedback": "share of answers rated down",
    "empty": "empty completions",
    "truncated": "completions at their length limit",
    "counter_ratio": "bad events of all, by PromQL",
    "metric_limit": "a number by PromQL; a fixed limit, no test of chance",
}
# Three sentences each: what is counted, why a difference is the version's own, what the gate cannot see.
HELP: Mapping[str, str] = {
    "error_rate": (
        "Counts 5xx answers, resets, broken streams, and requests that another arm had to answer. "
        "An arm is drawn at random for every request, so a difference is the version's own and not its clients'. "
        "An error that the engine sends as a normal answer is not seen."
    ),
    "refused": (
        "Counts what the engine itself refuses: 400, 404, 413, 422 and the like, and 429. "
        "Clients who send nonsense send it to both arms alike, so more refusals on one arm are the version's own: a "
        "chat template that takes no system message, a shorter context. "
        "Not counted: what the gateway refuses, and refusals in the text of an answer."
    ),
    "abandoned": (
        "Counts requests whose client went away, before the first token or in the middle of the answer. "
        "Impatient clients come to both arms alike, so more such requests on one arm are the version's own. "
        "Why a client left is not known; while a replica of the candidate carries more load than one of the baseline, "
        "or the share has just changed, they do not count against the candidate."
    ),
    "latency_slo": (
        "Counts requests over the objective, which must be an edge of the histogram that measures it. "
        "A client that left after waiting longer than that counts as over it; one that left earlier does not count. "
        "When one arm loses clearly more of its requests that way, the rest cannot be compared and the gate may not "
        "pass."
    ),
    "paired": (
        "Sends golden prompts, drawn at random, to both versions and compares the scores in pairs. "
        "Both answer the same prompts in the same minute, so a few pairs show a lot. "
        "It sees only what is in the golden set, and not what else users ask."
    ),
    "feedback": (
        "Counts answers that users rated down, of all answers that could have been rated. "
        "A rating counts once the router's log confirms which version answered. "
        "It has no data while no user rates, and waits until the time for ratings is over."
    ),
    "empty": (
        "Counts completions that are empty. "
        "The counts are the engine's own, so they include probes and test requests on both arms. "
        "An engine that does not say how its completions end gives no data."
    ),
    "truncated": (
        "Counts completions that ended because their length limit was reached: a version that rambles is cut off more "
        "often. "
        "The counts are the engine's own, so they include probes and test requests on both arms. "
        "An engine that does not say how its completions end gives no data."
    ),
    "counter_ratio": (
        "Asks the cluster's Prometheus for two counters of each arm: bad events, and all events with the bad ones. "
        "Requests come to both arms alike, so a larger share of bad events is the version's own; {{variant}}, "
        "{{pods}}, {{namespace}} and {{endpoint}} stand for those of the arm, and a series keeps job and instance. "
        "A counter that is absent, stale or not a count gives no data; what is in no counter is not seen."
    ),
    "metric_limit": (
        "Asks the cluster's Prometheus for one number of the candidate and compares it with a limit that you choose: "
        "so many readings in a row beyond it roll back. "
        "It is no test of chance and is outside alpha: a limit that healthy versions pass now and then rolls them "
        "back; {{variant}}, {{pods}}, {{namespace}} and {{endpoint}} stand for those of the arm. "
        "A number that is absent, stale or several gives no data, and is no reading."
    ),
}


def hint_of(gate: GateSpec) -> str:
    """What the gate counts, in a few words under its label."""
    if gate.kind == "latency_slo":
        return f"share over {seconds_text(gate.slo_seconds or 0)}"
    return HINTS[gate.kind]


def unit_of(gate: GateSpec) -> str:
    """What is counted: `requests`, `pairs`, `answers`, `completions`."""
    return UNITS.get(gate.kind, "requests")
