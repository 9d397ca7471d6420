"""Nobody draws from the generator that Python has for everybody: a draw of one thread would change what another one
gets, and a test that replays its draws would find others than before."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
ROOMS = ("controlplane", "registry", "rollouts", "tests", "benchmarks", "deploy")
OWN = {"Random", "SystemRandom"}


def shared_draws(source: str) -> Iterator[str]:
    """What a module uses of the shared generator."""
    tree = ast.parse(source)
    names = {
        alias.asname or alias.name
        for node in ast.walk(tree)
        if isinstance(node, ast.Import)
        for alias in node.names
        if alias.name == "random"
    }
    for node in ast.walk(tree):
        if isinstance(node, ast.ImportFrom) and node.module == "random":
            yield from (alias.name for alias in node.names if alias.name not in OWN)
        elif (
            isinstance(node, ast.Attribute)
            and isinstance(node.value, ast.Name)
            and node.value.id in names
            and node.attr not in OWN
        ):
            yield node.attr


def test_modules__all__have_generators_of_their_own() -> None:
    found = {
        str(path.relative_to(ROOT)): sorted(drawn)
        for room in ROOMS
        for path in sorted((ROOT / room).rglob("*.py"))
        if (drawn := set(shared_draws(path.read_text())))
    }
    assert found == {}


@pytest.mark.parametrize(
    ("source", "drawn"),
    [
        ("import random\nrandom.uniform(1, 2)", ["uniform"]),
        ("import random as dice\ndraw = dice.random", ["random"]),
        ("from random import Random, shuffle", ["shuffle"]),
        ("import random\nrandom.Random(7).random()", []),
        ("def test(random): random.shuffle([])", []),
    ],
)
def test_shared_draws__source__is_what_it_uses(source: str, drawn: list[str]) -> None:
    assert list(shared_draws(source)) == drawn
