"""Only a strategy's own modules, and the tables, know that it is there: all others ask the table."""

from __future__ import annotations

import ast
from collections.abc import Iterator, Mapping
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
APPS = ("controlplane", "registry", "rollouts")
WORD = "bandit"
OWN: Mapping[str, str] = {
    "rollouts/domain/bandits": "its statistics",
    "rollouts/domain/strategies/bandit": "its decisions",
    "rollouts/domain/strategies/__init__.py": "the table of strategies",
    "rollouts/ui/bandit": "its page",
    "rollouts/ui/new/bandit_form.py": "its part of the form",
    "rollouts/ui/new/bandit_plan.py": "what its dry run shows",
    "rollouts/ui/strategies.py": "the table of how strategies are shown",
    "rollouts/ui/parts/phases.py": "what a cause of a rollback is called: old rollouts have it",
    "rollouts/api/bandit_outputs.py": "its forms of the API",
    "rollouts/api/strategies.py": "the table of forms",
    "rollouts/models/rollouts.py": "a help text, which is in a migration",
    "controlplane/cli/bandits.py": "its options and lines",
    "controlplane/cli/canaries.py": "what to use for several versions",
    "controlplane/cli/answers.py": "the shapes of all answers, checked against the API",
    "controlplane/cli/strategies.py": "the table of the command line",
    "templates/rollouts/bandit": "its page",
    "templates/rollouts/bandit.html": "its page",
    "templates/rollouts/new/_bandit.html": "its part of the form",
}


def is_own(path: Path) -> bool:
    name = path.relative_to(ROOT).as_posix()
    return any(name == one or name.startswith(f"{one}/") for one in OWN)


def words_of(path: Path) -> Iterator[str]:
    """What a module says to Python: names and texts, without docstrings and comments; of a template all of it."""
    if path.suffix != ".py":
        yield path.read_text()
        return
    tree = ast.parse(path.read_text())
    docstrings = {
        id(node.body[0].value)
        for node in ast.walk(tree)
        if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef)
        and node.body
        and isinstance(node.body[0], ast.Expr)
    }
    for node in ast.walk(tree):
        if isinstance(node, ast.Constant) and isinstance(node.value, str) and id(node) not in docstrings:
            yield node.value
        elif isinstance(node, ast.alias):
            yield f"{node.name} {node.asname or ''}"
        elif isinstance(node, ast.ImportFrom):
            yield node.module or ""
        else:
            yield from (
                value
                for name in ("id", "attr", "arg", "name")
                if isinstance(value := getattr(node, name, None), str)
            )


def sources() -> Iterator[Path]:
    for app in APPS:
        yield from (path for path in (ROOT / app).rglob("*.py") if "migrations" not in path.parts)
    yield from (ROOT / "templates").rglob("*.html")


def mentions(path: Path) -> set[str]:
    return {word for word in words_of(path) if WORD in word.lower()}


def test_modules_of_all_strategies__each__names_none_of_them() -> None:
    found = {
        path.relative_to(ROOT).as_posix(): sorted(words)
        for path in sources()
        if not is_own(path) and (words := mentions(path))
    }
    assert found == {}, "ask the table of strategies instead, by a member whose name says what is asked"


@pytest.mark.parametrize("own", OWN)
def test_exceptions__each__is_still_needed(own: str) -> None:
    within = [path for path in sources() if path.relative_to(ROOT).as_posix().startswith(own)]
    assert any(mentions(path) for path in within), "it does not name it any more: take it off the list"
