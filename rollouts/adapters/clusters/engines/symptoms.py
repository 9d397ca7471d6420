"""What the log of an engine that ended says: known lines, each with a reason and its meaning for people."""

from __future__ import annotations

import re
from collections.abc import Sequence

from rollouts.adapters.clusters.engines.template import EngineTemplate, Symptom
from rollouts.domain.engines import FailureReason

LONGEST_LINE = 400

# What libraries print at the head of a line: "(EngineCore pid=7) ERROR 11-21 09:07:11 [core.py:9] ".
LOG_HEAD = re.compile(r"^(\([^)]*\)\s*)?([A-Z]+\s+[\d-]+\s+[\d:.,]+\s+)?(\[[^\]]*\]\s*)?")


def _symptom(pattern: str, reason: FailureReason, meaning: str) -> Symptom:
    return Symptom(re.compile(pattern, re.IGNORECASE), reason, meaning)


COMMON_SYMPTOMS = (
    _symptom(
        r"No module named '?vllm|can't open file", FailureReason.NO_ENGINE,
        "The engine is not installed",
    ),
    _symptom(
        r"address already in use|Errno 98", FailureReason.PORT_TAKEN, "Another program took the engine's port"
    ),
    _symptom(
        r"less than requested memory for kv|KV cache is needed, which is larger|cache is needed, which is larger"
        r"|No available memory for the cache blocks|desired (CPU|GPU) memory utilization"
        r"|less than desired GPU memory|out of memory|OutOfMemoryError|MemoryError"
        r"|can't allocate memory|cannot allocate memory|std::bad_alloc",
        FailureReason.NO_MEMORY,
        "The engine found too little memory for the model and its KV cache",
    ),
    _symptom(
        r"unrecognized arguments|error: argument|the following arguments are required",
        FailureReason.BAD_SPEC,
        "The engine does not accept these arguments",
    ),
    _symptom(
        r"SafetensorError|HeaderTooLarge|InvalidHeaderDeserialization|MetadataIncompleteBuffer"
        r"|does not appear to have a file named|Can't load|Unrecognized model|is not a valid JSON"
        r"|validation errors? for ModelConfig|Model architectures .* are not supported|size mismatch"
        r"|Cannot find any model weights|were not initialized from checkpoint|Error no file named"
        r"|Couldn't instantiate the backend tokenizer|Error while deserializing|JSONDecodeError"
        r"|HFValidationError: Repo id must be|size of tensor a .* must match the size of tensor b"
        r"|Invalid repository ID or local directory|not a valid model|KeyError: '(model|lm_head|layers)\.",
        FailureReason.BAD_MODEL,
        "The engine cannot load this model",
    ),
)  # fmt: skip


def explain(template: EngineTemplate, log: Sequence[str]) -> tuple[FailureReason, str]:
    """Why an engine ended, by its log: the reason and a sentence; (NONE, the last error line) when unknown.

    `log` holds the lines since its launch, oldest first.
    """
    for symptom in template.symptoms:
        for line in log:
            if symptom.pattern.search(line):
                return symptom.reason, f"{symptom.meaning}: {plain_line(line)}"
    for line in reversed(log):
        if re.search(r"error|exception|fatal|killed|refused|denied", line, re.IGNORECASE):
            return FailureReason.NONE, plain_line(line)
    return FailureReason.NONE, plain_line(log[-1]) if log else ""


def plain_line(line: str) -> str:
    """A log line without its head, cut to a readable length."""
    text = LOG_HEAD.sub("", line.strip(), count=1)
    return text if len(text) <= LONGEST_LINE else text[: LONGEST_LINE - 1] + "…"
