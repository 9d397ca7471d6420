"""Serving engines as templates: how each is started, what a serving spec may set, what its log says when it fails.

`template` is what an engine is, `vllm` (with `vllm_options`) the one that we bring, `declared` what the operator adds
in `RUN_DIR/engines.json`, `command` the command line and the environment of one launch, `symptoms` how a log is read.
"""

from rollouts.adapters.clusters.engines.command import (
    argument_words,
    command_line,
    credentials_around,
    engine_environment,
    has_fingerprint,
    is_cpu_build,
    secrets_of,
    template_of,
)
from rollouts.adapters.clusters.engines.declared import (
    ENGINES,
    engines_in_force,
    load_engines,
    template_named,
)
from rollouts.adapters.clusters.engines.symptoms import explain
from rollouts.adapters.clusters.engines.template import HOST, EngineTemplate

__all__ = [
    "ENGINES",
    "HOST",
    "EngineTemplate",
    "argument_words",
    "command_line",
    "credentials_around",
    "engine_environment",
    "engines_in_force",
    "explain",
    "has_fingerprint",
    "is_cpu_build",
    "load_engines",
    "secrets_of",
    "template_named",
    "template_of",
]
