"""The options that we declare for vLLM, held against the sources of the one that is installed; it is not imported."""

from __future__ import annotations

import ast
from functools import cache

import pytest

from rollouts.adapters.clusters.engines.vllm_options import ARGUMENTS, VARIABLES
from rollouts.domain.engine_options import Option, OptionKind
from tests.rollouts.adapters.clusters.machine_room import ROOT

pytestmark = pytest.mark.needs("vllm")
OF_ANOTHER_LIBRARY = {"OMP_NUM_THREADS"}
WORDS = {option.name: option for option in ARGUMENTS if option.kind is OptionKind.WORD}


@cache
def source(path: str) -> str:
    (found,) = (ROOT / ".venv-vllm/lib").glob(f"python3*/site-packages/vllm/{path}")
    return found.read_text()


def texts(path: str, name: str) -> set[str]:
    """All texts in the statement or class of this name."""
    for node in ast.parse(source(path)).body:
        targets = node.targets if isinstance(node, ast.Assign) else [getattr(node, "target", None)]
        named = getattr(node, "name", None) or getattr(targets[0], "id", None)
        if named == name:
            inner = {part.value for part in ast.walk(node) if isinstance(part, ast.Constant)}
            names = {part.id for part in ast.walk(node) if isinstance(part, ast.Name)}
            return {str(text) for text in inner | names}
    raise AssertionError(f"{path} has no {name}")


@pytest.mark.parametrize("option", ARGUMENTS, ids=lambda option: option.name)
def test_argument__exists_in_vllm(option: Option) -> None:
    of_the_server = option.name.replace("-", "_") in source("entrypoints/launchers/cli_args.py")
    assert f'"--{option.name}"' in source("engine/arg_utils.py") or of_the_server


@pytest.mark.parametrize("option", VARIABLES, ids=lambda option: option.name)
def test_variable__exists_in_vllm(option: Option) -> None:
    assert option.name in OF_ANOTHER_LIBRARY or f'"{option.name}":' in source("envs.py")


@pytest.mark.parametrize(
    ("name", "path", "where"),
    [
        ("tool-call-parser", "tool_parsers/__init__.py", "_TOOL_PARSERS_TO_REGISTER"),
        ("reasoning-parser", "reasoning/__init__.py", "_REASONING_PARSERS_TO_REGISTER"),
        ("quantization", "model_executor/layers/quantization/__init__.py", "QuantizationMethods"),
        ("load-format", "model_executor/model_loader/__init__.py", "LoadFormats"),
        ("attention-backend", "v1/attention/backends/registry.py", "AttentionBackendEnum"),
        ("tokenizer-mode", "config/model.py", "TokenizerMode"),
        ("kv-cache-dtype", "config/cache.py", "CacheDType"),
        ("dtype", "config/model.py", "ModelDType"),
    ],
)
def test_choices__are_all_known_to_vllm(name: str, path: str, where: str) -> None:
    assert set(WORDS[name].choices) <= texts(path, where)
