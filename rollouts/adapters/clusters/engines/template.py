"""What an engine is to the local cluster: values only."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from rollouts.domain.engine_options import EngineOptions, Option
from rollouts.domain.engines import FailureReason
from rollouts.domain.secrets import SecretFile
from rollouts.ports import OPENAI_API, EngineApi

HOST = "127.0.0.1"
# What a process needs to know of the machine, and an operator sets for a whole stack: where the driver's libraries lie,
# which GPUs are ours. Nothing else is taken over from the stack's own environment.
OF_THE_MACHINE = (
    "CUDA_DEVICE_ORDER",
    "CUDA_HOME",
    "CUDA_VISIBLE_DEVICES",
    "LD_LIBRARY_PATH",
    "NVIDIA_VISIBLE_DEVICES",
    "TZ",
)


@dataclass(frozen=True, slots=True)
class Symptom:
    """A line of the log that tells why an engine ended. `meaning` is for people; the line is added to it."""

    pattern: re.Pattern[str]
    reason: FailureReason
    meaning: str


@dataclass(frozen=True, slots=True)
class EngineTemplate:
    """How an engine is started.

    argv             the command line with placeholders
    environment      variables that the engine always gets; `cpu_environment` too, on a build for the CPU
    passed_on        variables that it gets from the environment of the stack, where they are set there
    cpu_arguments, gpu_arguments  defaults of arguments on a build for the CPU, and on others
    fingerprint      further words of the command line that make answers say which variant they are from
                     (`system_fingerprint`), for a version of the engine that has this
    arguments, variables  all that a serving spec may set
    reserved         further arguments that nobody may declare: with them the cluster would not reach the engine
    widened          what the operator added to an engine that we bring, in words
    health           path that answers 200 when the engine can serve
    api              the calls of the engine that users may make; no other path of it can be reached
    in_flight        metrics whose sum is the number of requests inside; empty: the engine does not say
    symptoms         tried in order on the log of an engine that ended
    install          what installs it, shown when it is missing
    """

    name: str
    argv: tuple[str, ...]
    environment: Mapping[str, str | SecretFile] = field(default_factory=dict, repr=False)
    cpu_environment: Mapping[str, str] = field(default_factory=dict)
    passed_on: tuple[str, ...] = OF_THE_MACHINE
    cpu_arguments: Mapping[str, Any] = field(default_factory=dict)
    gpu_arguments: Mapping[str, Any] = field(default_factory=dict)
    fingerprint: tuple[str, ...] = ()
    arguments: tuple[Option, ...] = ()
    variables: tuple[Option, ...] = ()
    reserved: frozenset[str] = frozenset()
    widened: tuple[str, ...] = ()
    health: str = "/health"
    api: EngineApi = OPENAI_API
    in_flight: tuple[str, ...] = ("vllm:num_requests_running", "vllm:num_requests_waiting")
    symptoms: tuple[Symptom, ...] = ()
    install: str = "Install the engine."

    @property
    def options(self) -> EngineOptions:
        """All that a serving spec may set."""
        return EngineOptions(self.name, self.arguments, self.variables, self.passed_on, self.widened)

    @property
    def own_arguments(self) -> frozenset[str]:
        """Arguments that nobody may declare: those of the template itself, and the reserved ones."""
        words = (*self.argv, *self.fingerprint)
        named = {word.removeprefix("--").partition("=")[0] for word in words if word.startswith("--")}
        return self.reserved | named
