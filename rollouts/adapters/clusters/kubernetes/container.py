"""The container of an engine: its command, its environment, its probes and what it may take.

Everything here is pure: a profile and a serving spec in, plain values out, always the same ones.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from controlplane.kernel.errors import InvalidInput
from rollouts.adapters.clusters.engines.command import argument_words
from rollouts.adapters.clusters.engines.template import EngineTemplate
from rollouts.adapters.clusters.engines.vllm import VLLM
from rollouts.adapters.clusters.kubernetes.profile import ClusterProfile, WeightsKind
from rollouts.domain.engine_options import Chosen, EngineOptions, OptionKind
from rollouts.ports import WorkloadSpec

PORT = 8000
PORT_NAME = "http"
ENGINE = "engine"  # the name of the container
MODEL_FOLDER = "/models/current"
SHUTDOWN_ARGUMENT = "shutdown-timeout"
SLACK_SECONDS = 20  # that an engine gets beyond its own time, until it is killed
PROBE_SECONDS = 10  # between two startup probes
MB, GB, TB = "Mi", "Gi", "Ti"
WARM_UP = (Path(__file__).with_name("warm_up.py")).read_text()
FOLDERS = {"cache": "/cache", "home": "/home/engine", "tmp": "/tmp"}  # noqa: S108 - of the container, empty at each start

# What a replica may be given, by the names of serving specs.
MEMORY, CPU, DISK, SHM = "memory_mb", "cpu_millis", "disk_mb", "shm_mb"
RESOURCES = frozenset({MEMORY, CPU, DISK, SHM})


@dataclass(frozen=True, slots=True)
class ContainerEngine:
    """How an engine is started from its image.

    template   what it is elsewhere, too: its options, its calls, what its log says when it fails
    command    the program; it becomes the first process of the container, so that it is told to stop itself
    fixed      words behind those of the serving spec: they win. Placeholders: {variant} {endpoint} {port} {stop}
    """

    template: EngineTemplate
    command: tuple[str, ...]
    fixed: tuple[str, ...]
    fingerprint: tuple[str, ...] = ()

    @property
    def options(self) -> EngineOptions:
        """All that a serving spec may set. Nothing is passed on from where Headgate runs."""
        return EngineOptions(self.template.name, self.template.arguments, self.template.variables)


# The first served name is what answers and metrics call the model: so a variant is told apart without its router.
VLLM_IMAGE = ContainerEngine(
    template=VLLM,
    command=("vllm", "serve"),
    fixed=(
        "--host=0.0.0.0", "--port={port}", "--shutdown-timeout={stop}",
        "--disable-access-log-for-endpoints=/health,/metrics",
    ),
    fingerprint=VLLM.fingerprint,
)  # fmt: skip
CONTAINER_ENGINES: Mapping[str, ContainerEngine] = {"vllm": VLLM_IMAGE}


def chosen_by(spec: WorkloadSpec, engine: ContainerEngine) -> Chosen:
    """What the spec sets, checked. Raises InvalidInput naming the field."""
    files = {entry.path for entry in spec.manifest.entries}
    return engine.options.choose(spec.arguments, spec.environment, files=files)


def stop_seconds(profile: ClusterProfile, chosen: Chosen) -> int:
    """How long requests inside may take to end once the engine is told to stop."""
    return int(chosen.arguments.get(SHUTDOWN_ARGUMENT, profile.stop_seconds))


def grace_seconds(profile: ClusterProfile, chosen: Chosen) -> int:
    """From the decision to stop a pod until it is killed: longer than everything that happens meanwhile."""
    return profile.unlisted_seconds + stop_seconds(profile, chosen) + SLACK_SECONDS


def arguments_of(
    spec: WorkloadSpec, profile: ClusterProfile, engine: ContainerEngine, chosen: Chosen
) -> list[str]:
    """The words behind the command, in an order that never changes."""
    values = {
        "variant": spec.variant,
        "endpoint": spec.endpoint,
        "port": str(PORT),
        "stop": str(stop_seconds(profile, chosen)),
    }
    arguments = {name: value for name, value in chosen.arguments.items() if name != SHUTDOWN_ARGUMENT}
    for option in engine.template.arguments:
        if option.kind is OptionKind.FILE and option.name in arguments:
            arguments[option.name] = f"{MODEL_FOLDER}/{arguments[option.name]}"
    if profile.weights.kind is WeightsKind.OBJECT_STORE:
        if "load-format" in arguments:
            raise InvalidInput(
                "This cluster's engines read their files from an object store, in a way of its own.",
                field="arguments.load-format",
                fix="Leave it out.",
            )
        arguments["load-format"] = "runai_streamer"
        folder = spec.source
    else:
        folder = MODEL_FOLDER
    fixed = engine.fixed + (engine.fingerprint if profile.fingerprint else ())
    words = [
        folder,
        "--served-model-name",
        spec.variant,
        spec.endpoint,
        *argument_words(arguments),
        *(_filled(word, values) for word in fixed),
    ]
    return [literal(word) for word in words]


def literal(word: str) -> str:
    """A word that Kubernetes leaves as it is: it would put variables in the place of $(NAME)."""
    return word.replace("$", "$$")


def _filled(word: str, values: Mapping[str, str]) -> str:
    for name, value in values.items():
        word = word.replace(f"{{{name}}}", value)
    return word


def environment_of(engine: ContainerEngine, chosen: Chosen, secret_name: str) -> list[dict[str, Any]]:
    """All variables that we set, in the order of their names; those that are secret by reference to a Secret."""
    always = {name: value for name, value in engine.template.environment.items() if isinstance(value, str)}
    fixed = {
        **always,
        "HOME": FOLDERS["home"],
        "USER": "engine",
        "XDG_CACHE_HOME": FOLDERS["cache"],
        "VLLM_CACHE_ROOT": f"{FOLDERS['cache']}/vllm",
        "TORCHINDUCTOR_CACHE_DIR": f"{FOLDERS['cache']}/inductor",
        "TRITON_CACHE_DIR": f"{FOLDERS['cache']}/triton",
    }
    plain = {**fixed, **chosen.variables}
    found: list[dict[str, Any]] = [
        {"name": name, "value": literal(value)} for name, value in sorted(plain.items())
    ]
    for name in sorted(chosen.secrets):
        found.append({"name": name, "valueFrom": {"secretKeyRef": {"name": secret_name, "key": name}}})
    return found


def resources_of(spec: WorkloadSpec, profile: ClusterProfile, accelerators: int) -> dict[str, Any]:
    """What one pod asks for and may take. Memory is both: a pod that takes more than it asked for is killed first."""
    # Files that are fetched into the pod lie on its own disk.
    fetched = 0
    if profile.weights.kind is WeightsKind.INIT_CONTAINER:
        fetched = math.ceil(spec.manifest.total_bytes / (1 << 20)) + 1
    disk = size_mb(asked(spec, profile, DISK) + fetched)
    both = {"memory": size_mb(asked(spec, profile, MEMORY)), "ephemeral-storage": disk}
    if spec.accelerators is not None:
        both[spec.accelerators.resource] = str(accelerators)
    return {"requests": {"cpu": cores(asked(spec, profile, CPU)), **both}, "limits": both}


def asked(spec: WorkloadSpec, profile: ClusterProfile, name: str) -> int:
    """What the spec asks for, else what the profile gives."""
    usual = {
        MEMORY: profile.memory_mb,
        CPU: profile.cpu_millis,
        DISK: profile.disk_mb,
        SHM: profile.shm_mb,
    }[name]
    return int(spec.resources.get(name, usual))


def probes_of(spec: WorkloadSpec, engine: ContainerEngine) -> dict[str, Any]:
    """Startup: a real completion, for as long as the spec allows. Readiness is quick, liveness slow: what it ends has
    to load everything again."""
    health = {"path": engine.template.health, "port": PORT_NAME}
    # A probe's command is taken as it is; only that of a container has variables put in.
    warm_up = ["python3", "-c", WARM_UP, str(PORT), spec.variant]
    tries = max(1, math.ceil(spec.start_seconds / PROBE_SECONDS))
    return {
        "startupProbe": {
            "exec": {"command": warm_up},
            "periodSeconds": PROBE_SECONDS,
            "timeoutSeconds": 30,
            "failureThreshold": tries,
        },
        "readinessProbe": {
            "httpGet": health,
            "periodSeconds": 2,
            "timeoutSeconds": 2,
            "failureThreshold": 2,
        },
        "livenessProbe": {
            "httpGet": health,
            "periodSeconds": 10,
            "timeoutSeconds": 5,
            "failureThreshold": 6,
        },
    }


def size_mb(megabytes: int) -> str:
    """As Kubernetes writes it back: 8192 is 8Gi. Another spelling would look like a change for ever."""
    for unit, factor in ((TB, 1 << 20), (GB, 1 << 10)):
        if megabytes % factor == 0 and megabytes:
            return f"{megabytes // factor}{unit}"
    return f"{megabytes}{MB}"


def cores(millis: int) -> str:
    """As Kubernetes writes it back: 1000 is 1, 1500 is 1500m."""
    return str(millis // 1000) if millis % 1000 == 0 else f"{millis}m"
