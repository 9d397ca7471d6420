"""Only a strategy's own modules, and the tables, know that it is there: all others ask the table.

They ask neither for its name nor for what only it has: a third strategy has neither.
"""

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


def is_own(path: Path, own: Mapping[str, str] = OWN) -> bool:
    name = path.relative_to(ROOT).as_posix()
    return any(name == one or name.startswith(f"{one}/") for one in own)


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


# --- by its shape -----------------------------------------------------------------------------------------------------

# What only some plans, or some words of gates, have. Who reads these asks which strategy it is, in other words.
SHAPES: Mapping[str, frozenset[str]] = {
    "steps": frozenset({"plan", "parsed_plan"}),
    "settings": frozenset({"plan", "parsed_plan"}),
    "race": frozenset({"gates"}),
}
OWN_SHAPES: Mapping[str, str] = {
    **OWN,
    "rollouts/domain/strategies": "the strategies, and how plans are read",
    "rollouts/ui/rollout": "the page of the one with steps",
    "rollouts/ui/new/canary_form.py": "its part of the form",
}


def last_name(node: ast.expr) -> str:
    """`parsed_plan` of `rollout.parsed_plan`; empty where it is no name."""
    if isinstance(node, ast.Attribute):
        return node.attr
    return node.id if isinstance(node, ast.Name) else ""


def shapes_asked(tree: ast.AST) -> Iterator[str]:
    """Where a module reads what only some strategies have, or compares the name of one with a text."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Attribute) and last_name(node.value) in SHAPES.get(node.attr, ()):
            yield f"line {node.lineno}: {last_name(node.value)}.{node.attr}"
        elif isinstance(node, ast.Compare):
            sides = (node.left, *node.comparators)
            named = any(last_name(side) == "strategy" for side in sides)
            if named and any(
                isinstance(side, ast.Constant) and isinstance(side.value, str) for side in sides
            ):
                yield f"line {node.lineno}: {ast.unparse(node)}"


def test_modules_of_all_strategies__each__ask_for_the_shape_of_none() -> None:
    found = {
        path.relative_to(ROOT).as_posix(): asked
        for path in sources()
        if path.suffix == ".py"
        and not is_own(path, OWN_SHAPES)
        and (asked := list(shapes_asked(ast.parse(path.read_text()))))
    }
    assert found == {}, (
        "a third strategy has another shape: ask the table by a member of `Strategy` or `Analysis`"
    )


@pytest.mark.parametrize(
    "line",
    [
        "if rollout.parsed_plan.steps: pass",
        "for step in plan.steps: pass",
        "kind = plan.settings",
        "if gates.race is None: pass",
        "if plan.strategy == 'canary': pass",
        "if 'bandit' != strategy: pass",
    ],
)
def test_shape__asked_for__is_found(line: str) -> None:
    assert len(list(shapes_asked(ast.parse(line)))) == 1


@pytest.mark.parametrize(
    "line",
    [
        "self.settings = settings",
        "found = preview.steps",
        "strategy_of(plan).stages(plan)",
        "if rollout.strategy in STRATEGIES: pass",
        "if strategy == other.strategy: pass",
        "name = 'canary'",
    ],
)
def test_shape__of_something_else__is_not_found(line: str) -> None:
    assert list(shapes_asked(ast.parse(line))) == []
