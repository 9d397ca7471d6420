"""No name for two things: whoever reads the name of a class, or finds it by a search, knows which one is meant."""

from __future__ import annotations

import ast
from collections import defaultdict
from collections.abc import Iterator, Mapping
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
APPS = ("controlplane", "registry", "rollouts")
TWICE: Mapping[str, str] = {
    "Command": "Django finds a management command by this name",
    "Cluster": "the row of a cluster, and the port that is built for it",
}


def sources() -> Iterator[Path]:
    for app in APPS:
        yield from (path for path in (ROOT / app).rglob("*.py") if "migrations" not in path.parts)


def names_of(path: Path) -> Iterator[tuple[str, str]]:
    """(name, what it is) of the public classes and type aliases that a module defines. An alias is its own text, so
    that the same one may be written down in two apps."""
    for node in ast.parse(path.read_text()).body:
        if isinstance(node, ast.ClassDef):
            yield node.name, f"class of {path.relative_to(ROOT)}"
        elif isinstance(node, ast.Assign) and isinstance(node.targets[0], ast.Name):
            name = node.targets[0].id
            if name[0].isupper() and not name.isupper() and isinstance(node.value, ast.Subscript | ast.BinOp):
                yield name, ast.unparse(node.value)


@pytest.fixture(scope="module")
def named() -> Mapping[str, set[str]]:
    found: dict[str, set[str]] = defaultdict(set)
    for path in sources():
        for name, what in names_of(path):
            if not name.startswith("_"):
                found[name].add(what)
    return found


def test_class_names__each__means_one_thing(named: Mapping[str, set[str]]) -> None:
    twice = {name: sorted(things) for name, things in named.items() if len(things) > 1 and name not in TWICE}
    assert twice == {}


@pytest.mark.parametrize("name", TWICE)
def test_exceptions__each__is_still_needed(name: str, named: Mapping[str, set[str]]) -> None:
    assert len(named[name]) > 1, "it means one thing only: take it off the list"
