"""The table of engines: those that we bring, and what the operator of this machine declares in `RUN_DIR/engines.json`.

An engine of the operator's own is any OpenAI-compatible program:

    {"my-server": {"argv": ["/opt/my/server", "--port", "{port}", "--model", "{folder}", "{arguments}"],
                   "arguments": {"threads": {"kind": "integer", "least": 1, "most": 64, "help": "Threads."}},
                   "variables": {"MY_LOG": {"kind": "word", "choices": ["info", "debug"], "help": "What is logged."}},
                   "environment": {"MODE": "fast"}, "passed_on": ["MY_LICENCE"], "install": "how to install it",
                   "inference": ["/v1/chat/completions"], "other": ["/tokenize"]}}

Placeholders of argv: {python} {folder} {host} {port} {variant} {endpoint}; an element that is just {arguments} becomes
what the serving spec chose among `arguments`. An entry with the name of an engine that we bring and without `argv`
widens that engine by its `arguments`, `variables`, `environment` and `passed_on`; the cluster's page then says so.

A variable of the kind `secret` is stored encrypted and never shown; one of the kind `text` that is named like a
credential (`HF_TOKEN`) is taken for a secret. In `environment`, `{"secret": {"file": NAME}}` stands for the content of
a secret file.

An engine answers to the endpoint's name as `model`, and to no other: a client that sends a variant's name then gets
the same answer from every variant. Who answered is told by `system_fingerprint` where the engine has that, and by
the router's header.
"""

from __future__ import annotations

import json
import logging
import re
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any, TypeVar

from controlplane.kernel.errors import InvalidInput, Unavailable
from rollouts.adapters.clusters.engines.declared_options import read_options
from rollouts.adapters.clusters.engines.symptoms import COMMON_SYMPTOMS
from rollouts.adapters.clusters.engines.template import EngineTemplate
from rollouts.adapters.clusters.engines.vllm import VLLM
from rollouts.domain.engine_options import VARIABLE_NAME, Option
from rollouts.domain.secrets import SecretFile, read_secret
from rollouts.ports import OPENAI_API, EngineApi

T = TypeVar("T")

DECLARATIONS = "engines.json"
API_PATH = re.compile(r"(/[A-Za-z0-9._~-]+)+")
# Answered by the router itself, the same on every variant.
ROUTERS_OWN_PATHS = ("/v1/models",)
OWN_PREFIX = "HEADGATE_"  # our settings and secrets, and the marks by which an engine's processes are found
WIDENS = frozenset({"arguments", "variables", "environment", "passed_on"})
DECLARES = WIDENS | {"argv", "health", "in_flight", "install", "inference", "other"}

ENGINES: Mapping[str, EngineTemplate] = {"vllm": VLLM}

log = logging.getLogger(__name__)
_last_read: dict[Path, Mapping[str, EngineTemplate]] = {}


def load_engines(run_dir: Path) -> Mapping[str, EngineTemplate]:
    """The table, with what the operator declared in RUN_DIR/engines.json.

    Raises Unavailable naming the file and the entry that cannot be read: nothing is launched until it is mended.
    """
    path = run_dir / DECLARATIONS
    try:
        declared = json.loads(path.read_text())
        if not isinstance(declared, dict):
            raise ValueError("it is not an object of engines by name")
        return {**ENGINES, **{str(name): _declared(str(name), values) for name, values in declared.items()}}
    except FileNotFoundError:
        return ENGINES
    except (OSError, ValueError, TypeError, RecursionError) as error:
        raise Unavailable(
            f"{DECLARATIONS}, the operator's declarations of engines, cannot be read: {error}.",
            fix=f"Mend {path}.",
        ) from error


def engines_in_force(run_dir: Path) -> Mapping[str, EngineTemplate]:
    """The table by which engines that run already are looked at: while RUN_DIR/engines.json cannot be read, as this
    process read it last. A slip in a file must not make healthy engines look dead."""
    try:
        _last_read[run_dir] = load_engines(run_dir)
    except Unavailable as error:
        log.warning("engines.unreadable %s", error)
    return _last_read.get(run_dir, ENGINES)


def template_named(engine: str, engines: Mapping[str, T]) -> T:
    """What a cluster's table has for an engine. Raises InvalidInput for an unknown one."""
    template = engines.get(engine)
    if template is None:
        raise InvalidInput(
            f"This cluster knows no engine {engine!r}.",
            field="engine",
            fix=f"Use one of: {', '.join(sorted(engines))}.",
        )
    return template


def _declared(name: str, values: Any) -> EngineTemplate:
    if not isinstance(values, dict):
        raise ValueError(f"engine {name!r} is not an object")
    ours = ENGINES.get(name) if "argv" not in values else None
    known = DECLARES if ours is None else WIDENS
    if not set(values) <= known:
        raise ValueError(f"engine {name!r} may have only {', '.join(sorted(known))}")
    return _own(name, values) if ours is None else _widened(ours, values)


def _own(name: str, values: Mapping[str, Any]) -> EngineTemplate:
    argv = values.get("argv")
    if not isinstance(argv, list) or not argv or not all(isinstance(word, str) for word in argv):
        raise ValueError(f"engine {name!r} needs argv, a list of words")
    if not any("{port}" in word for word in argv):
        raise ValueError(f"argv of engine {name!r} nowhere says {{port}}")
    if values.get("arguments") and "{arguments}" not in argv:
        raise ValueError(f"engine {name!r} declares arguments, and its argv nowhere says {{arguments}}")
    defaults = EngineTemplate(name=name, argv=tuple(argv))
    return replace(
        defaults,
        **_parts(defaults, values),
        health=str(values.get("health", defaults.health)),
        api=_api(name, values),
        in_flight=tuple(map(str, values.get("in_flight", defaults.in_flight))),
        symptoms=COMMON_SYMPTOMS,
        install=str(values.get("install", defaults.install)),
    )


def _widened(ours: EngineTemplate, values: Mapping[str, Any]) -> EngineTemplate:
    """An engine that we bring with the operator's additions; what each of them is stands in `widened`."""
    parts = _parts(ours, values)
    words = (
        *(f"argument {name}" for name in sorted(values.get("arguments", {}))),
        *(f"variable {name}" for name in sorted(values.get("variables", {}))),
        *(f"variable {name}, always set" for name in sorted(values.get("environment", {}))),
        *(f"variable {name}, passed on from the stack" for name in sorted(values.get("passed_on", []))),
    )
    return replace(ours, **parts, widened=words)


def _parts(base: EngineTemplate, values: Mapping[str, Any]) -> dict[str, Any]:
    """What an own engine and a widened one declare alike, on top of the base's."""
    name = base.name
    arguments = read_options(values.get("arguments", {}), of=f"arguments of engine {name!r}")
    for option in arguments:
        # Engines take the beginning of a name for the name.
        if any(own.startswith(option.name) for own in base.own_arguments):
            raise ValueError(f"the argument {option.name!r} of engine {name!r} is set by the cluster itself")
    variables = read_options(values.get("variables", {}), of=f"variables of engine {name!r}", variables=True)
    environment = _environment(name, values.get("environment", {}))
    passed_on = values.get("passed_on", [])
    if not isinstance(passed_on, list):
        raise ValueError(f"passed_on of engine {name!r} must be a list of names")
    for variable in (*(option.name for option in variables), *environment, *passed_on):
        _check_variable(name, variable)
    return {
        "arguments": _joined(base.arguments, arguments),
        "variables": _joined(base.variables, variables),
        "environment": {**base.environment, **environment},
        "passed_on": tuple(dict.fromkeys((*base.passed_on, *passed_on))),
    }


def _joined(ours: tuple[Option, ...], theirs: tuple[Option, ...]) -> tuple[Option, ...]:
    """A name that both have is the operator's."""
    return tuple({option.name: option for option in (*ours, *theirs)}.values())


def _environment(name: str, values: Any) -> dict[str, str | SecretFile]:
    if not isinstance(values, dict) or not all(
        isinstance(value, str | int) or (isinstance(value, dict) and "secret" in value)
        for value in values.values()
    ):
        raise ValueError(f"environment of engine {name!r} must be an object of texts")
    return {variable: _constant(name, variable, value) for variable, value in values.items()}


def _constant(engine: str, variable: str, value: Any) -> str | SecretFile:
    if not isinstance(value, dict):
        return str(value)
    try:
        secret = read_secret(value, where=variable)
    except InvalidInput as error:
        raise ValueError(f"{variable!r} of engine {engine!r}: {error.message}") from error
    if not isinstance(secret, SecretFile):
        raise ValueError(f"{variable!r} of engine {engine!r} must refer to a secret file")
    return secret


def _check_variable(engine: str, variable: Any) -> None:
    if not isinstance(variable, str) or not VARIABLE_NAME.fullmatch(variable):
        raise ValueError(f"{variable!r} of engine {engine!r} is no variable's name")
    if variable.startswith(OWN_PREFIX):
        raise ValueError(f"{variable} of engine {engine!r} is a setting of Headgate's own")


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
