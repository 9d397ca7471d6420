"""The stand-in engine as a container's program: it takes vLLM's command line and plays vLLM.

    vllm serve /models/current --served-model-name chat-v2-aaaa chat --port=8000

Of vLLM's arguments it takes those that say who it is and where it listens; all others are accepted and do nothing.
How it shall behave is in the environment: STANDIN holds arguments of `tests.standins.engine`, for example
"--latency-ms 20".
"""

from __future__ import annotations

import argparse
import os
import shlex
import sys

from tests.standins import engine


def arguments(argv: list[str], behaviour: str) -> list[str]:
    """The stand-in's arguments for a command line of `vllm`."""
    parser = argparse.ArgumentParser(prog="vllm", allow_abbrev=False)
    parser.add_argument("command", choices=["serve"])
    parser.add_argument("model", nargs="?", default="model")
    parser.add_argument("--model", dest="named_model")
    parser.add_argument("--served-model-name", nargs="+", default=[])
    parser.add_argument("--host", default="0.0.0.0")
    parser.add_argument("--port", default="8000")
    parser.add_argument("--fingerprint-value", default="")
    given, _ = parser.parse_known_args(argv)
    names = given.served_model_name or [given.named_model or given.model]
    told = ["--host", given.host, "--port", given.port, "--served-model-name", *names]
    if given.fingerprint_value:
        told += ["--variant", given.fingerprint_value]
    return told + shlex.split(behaviour)


if __name__ == "__main__":
    sys.exit(engine.main(arguments(sys.argv[1:], os.environ.get("STANDIN", ""))))
