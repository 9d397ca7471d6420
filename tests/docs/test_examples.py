"""Examples that people copy: whatever YAML or JSON in docstrings and pages is meant for Headgate, Headgate reads."""

from __future__ import annotations

import ast
import json
import re
import shlex
import textwrap
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import yaml

from controlplane.api.inputs import Input
from rollouts.adapters.clusters.engines.declared import DECLARATIONS, load_engines
from rollouts.adapters.kinds import KINDS
from rollouts.api.clusters import ClusterInput
from rollouts.api.inputs import EndpointInput, FeedbackInput, StartInput
from rollouts.domain.clusters import ClusterSpec
from rollouts.domain.secrets import read_secret
from rollouts.domain.strategies.plans import read_plan
from rollouts.services.policies.text import PolicyDocument, document_of, read_policy_text
from rollouts.services.policies.versions import read_policy

ROOT = Path(__file__).resolve().parents[2]
PACKAGES = ("controlplane", "registry", "rollouts", "deploy", "benchmarks")
PAGES = [ROOT / "README.md", ROOT / "SECURITY.md", *sorted((ROOT / "docs").rglob("*.md"))]
FENCED = re.compile(r"^```(json|yaml|sh)\n(.*?)^```", re.MULTILINE | re.DOTALL)
ENGINE_KEYS = {"argv", "arguments", "variables", "environment", "passed_on"}


@dataclass(frozen=True)
class Example:
    where: str
    text: str


def examples() -> list[Example]:
    found = [example for page in PAGES for example in of_page(page)]
    for package in PACKAGES:
        found += [example for path in sorted((ROOT / package).rglob("*.py")) for example in of_module(path)]
    return found


def of_page(path: Path) -> Iterator[Example]:
    """Blocks of JSON and YAML, and the bodies that commands send with -d."""
    page = path.read_text()
    for block in FENCED.finditer(page):
        where = f"{path.relative_to(ROOT)}:{page[: block.start()].count(chr(10)) + 1}"
        if block[1] != "sh":
            yield Example(where, block[2])
        elif " -d " in block[2]:
            words = shlex.split(block[2], comments=True)
            yield from (Example(where, words[at + 1]) for at, word in enumerate(words) if word == "-d")


def of_module(path: Path) -> Iterator[Example]:
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef):
            words = ast.get_docstring(node) or ""
            where = f"{path.relative_to(ROOT)}:{getattr(node, 'lineno', 1)}"
            yield from (Example(where, text) for text in of_docstring(words))


def of_docstring(words: str) -> Iterator[str]:
    """Indented blocks that begin as JSON or YAML does; what is explained in them by columns is neither. Of JSON whose
    lines have a remark each, every line is an example."""
    for block in re.findall(r"(?:^(?: {4}.*)?\n?)+", words, re.MULTILINE):
        text = textwrap.dedent(block).strip()
        if re.match(r'\{\s*"', text) and re.search(r"\}\s{3,}\S", text):
            yield from (json.dumps(leading(line)) for line in text.splitlines() if line.startswith("{"))
        elif re.match(r'\{\s*"', text) or re.search(r"^(gates|plan|steps):", text, re.MULTILINE):
            yield text


def leading(line: str) -> Any:
    return json.JSONDecoder().raw_decode(line)[0]


def read_as_policy(document: PolicyDocument) -> None:
    read_policy(name=document.name or "example", body=document.body, newest=None, edges=None)


def read_as_start(data: Mapping[str, Any]) -> None:
    read_as_call(StartInput, data)
    read_plan(data["plan"])


def read_as_call(call: type[Input], data: Mapping[str, Any]) -> None:
    call(data=data).is_valid(raise_exception=True)


def read_as_cluster(data: Mapping[str, Any]) -> None:
    read_as_call(ClusterInput, data)
    assert not KINDS[data["kind"]].problems(
        ClusterSpec("paris", data["kind"], data["configuration"], data.get("secret", ""))
    )


def read_as_secret(data: Mapping[str, Any]) -> None:
    read_secret(data, where="serving.environment.TOKEN")


def read_as_engines(data: Mapping[str, Any], folder: Path) -> None:
    (folder / DECLARATIONS).write_text(json.dumps(data))
    assert data.keys() <= load_engines(folder).keys()


def reader_of(example: Example, folder: Path) -> Callable[[], None] | None:
    """What reads it here; None for what is meant for somebody else. A text that no rule knows fails the test."""
    if re.search(r"^\s*\"?gates\"?:", example.text, re.MULTILINE) and not example.text.startswith("{"):
        return lambda: read_as_policy(read_policy_text(example.text))
    data = yaml.safe_load(example.text)
    assert isinstance(data, dict), f"{example.where}: {example.text}"
    if "configuration" in data:
        return lambda: read_as_cluster(data)
    if "plan" in data:
        return lambda: read_as_start(data)
    if "policy" in data:
        return lambda: read_as_policy(document_of(data["policy"]))
    if "gates" in data:
        return lambda: read_as_policy(document_of(data))
    if "request_id" in data and "score" in data:
        return lambda: read_as_call(FeedbackInput, data)
    if data.keys() >= {"name", "model", "gate_policy"}:
        return lambda: read_as_call(EndpointInput, data)
    if all(isinstance(one, dict) and one.keys() & ENGINE_KEYS for one in data.values()):
        return lambda: read_as_engines(data, folder)
    if data.keys() == {"secret"}:
        return lambda: read_as_secret(data)
    # Prometheus reads the first; the others are what Headgate answers.
    assert data.keys() & {"scrape_configs", "result", "type", "set"}, f"{example.where}: {example.text}"
    return None


EXAMPLES = examples()


@pytest.mark.parametrize("example", EXAMPLES, ids=[example.where for example in EXAMPLES])
def test_example__of_a_page_or_docstring__is_read_by_headgate(example: Example, tmp_path: Path) -> None:
    read = reader_of(example, tmp_path)
    if read is not None:
        read()


def test_examples__policies_plans_and_engines__are_found_in_pages_and_docstrings() -> None:
    """So that an example which the search no longer sees is missed."""
    found = [example.where.partition(":")[0] for example in EXAMPLES]
    assert {"rollouts/domain/gates/policy.py", "rollouts/adapters/clusters/engines/declared.py"} <= set(found)
    assert (found.count("docs/api.md"), found.count("docs/operations.md")) >= (3, 3)
