"""Serving specs that once ran a program, or could have brought code, files or addresses of their own.

The first of each list was run against the product with the real vLLM: a value that is a flag, and a logging file that
starts a program. Every door must refuse every one of them, naming the field.
"""

from __future__ import annotations

from typing import Any

Attack = tuple[str, dict[str, Any]]
FOLDER = "/models/triage/2"


def _argument(name: str, value: Any) -> Attack:
    return f"arguments.{name}", {"arguments": {name: value}}


def _variable(name: str, value: str) -> Attack:
    return f"environment.{name}", {"environment": {name: value}}


BY_ARGUMENT: tuple[Attack, ...] = (
    _argument("enforce-eager", f"--tool-parser-plugin={FOLDER}/plugin.py"),
    _argument("scheduler-cls", "evil.Scheduler"),
    _argument("log-config-file", f"{FOLDER}/log.json"),
    _argument("distributed-executor-backend", "evil.Executor"),
    _argument("kv-transfer-config", '{"kv_connector": "evil"}'),
    _argument("kv-transfer-config", {"kv_connector_module_path": "evil"}),
    _argument("chat-template", "/etc/passwd"),
    _argument("chat-template", "../../../etc/passwd"),
    _argument("chat-template", "not-in-the-manifest.jinja"),
    _argument("allowed-local-media-path", "/"),
    _argument("tokenizer", "/etc"),
    _argument("otlp-traces-endpoint", "http://169.254.169.254"),
    # The same in other spellings, and further names of the same kinds.
    _argument("scheduler_cls", "evil.Scheduler"),
    _argument("trust-remote", True),
    _argument("trust-remote-code", True),
    _argument("tool-parser-plugin", f"{FOLDER}/plugin.py"),
    _argument("tool-call-parser", "hermes --tool-parser-plugin=/x.py"),
    _argument("dtype", "--host=0.0.0.0"),
    _argument("seed", "1 --host=0.0.0.0"),
    _argument("hf-overrides", {"architectures": "Evil"}),
    _argument("lora-modules", "a=/etc"),
    _argument("middleware", "evil.app"),
    _argument("config", f"{FOLDER}/config.yaml"),
    _argument("host", "0.0.0.0"),
    _argument("served-model-name", "other"),
    _argument("structured-outputs-config", {"reasoning_parser_plugin": "/x.py"}),
    _argument("speculative-config", {"method": "ngram", "model": "/etc"}),
)
BY_VARIABLE: tuple[Attack, ...] = (
    _variable("VLLM_LOGGING_CONFIG_PATH", f"{FOLDER}/log.json"),
    _variable("CXX", "/tmp/evil"),
    _variable("GCONV_PATH", "/tmp"),
    _variable("OPENSSL_CONF", "/tmp/openssl.cnf"),
    _variable("BASH_ENV", "/tmp/evil"),
    _variable("HF_HUB_OFFLINE", "0"),
    _variable("VLLM_ALLOW_INSECURE_SERIALIZATION", "1"),
    _variable("http_proxy", "http://proxy.example:1"),
    _variable("LD_PRELOAD", "/tmp/evil.so"),
    _variable("LD_LIBRARY_PATH", "/tmp"),
    _variable("PYTHONPATH", "/tmp"),
    _variable("PATH", "/tmp"),
    _variable("VLLM_PLUGINS", "evil"),
    _variable("HEADGATE_ENGINE", "other"),
    _variable("CUDA_VISIBLE_DEVICES", "0"),
    _variable("VLLM_CPU_OMP_THREADS_BIND", "0-3;id"),
)
ATTACKS = (*BY_VARIABLE, *BY_ARGUMENT)


def named(field: str, of: str) -> bool:
    """Whether a refusal's field is the attacked one, or a part of it."""
    return of == field or of.startswith(f"{field}.")
