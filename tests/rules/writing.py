"""Which functions of the program write to the database: found in the syntax trees, so that a new one is found, too."""

from __future__ import annotations

import ast
import importlib
import inspect
from collections.abc import Callable, Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

ROOT = Path(__file__).resolve().parents[2]

# Where services live: the only places that change things.
SERVICES = (
    "rollouts/services/**/*.py",
    "registry/services/**/*.py",
    "controlplane/access/account.py",
    "controlplane/access/services.py",
    "controlplane/access/sign_in.py",
    "controlplane/audit/services.py",
    "controlplane/passes/services.py",
)
# Where people and their programs come in. The command comes in by the REST API.
DOORS = (
    "*/ui/**/*.py",
    "*/api/**/*.py",
    "controlplane/web/**/*.py",
    "controlplane/api/**/*.py",
    "controlplane/cli/*.py",
)
# What runs by itself, or by hand on the server.
BEHIND = ("*/tasks.py", "*/wiring.py", "*/wake.py", "**/management/commands/*.py")

ALWAYS = {
    "create", "get_or_create", "update_or_create", "bulk_create", "bulk_update", "delete", "save", "set_password",
    "acreate", "aget_or_create", "aupdate_or_create", "abulk_create", "abulk_update", "adelete", "asave",
    "raw", "execute", "executemany",
}  # fmt: skip
WITH_KEYWORDS = {"update", "aupdate"}  # a query set's takes keywords only; a dict's or a hash's takes a value


def files(patterns: tuple[str, ...]) -> list[Path]:
    """The program's files under these patterns, without migrations."""
    found = {path for pattern in patterns for path in ROOT.glob(pattern)}
    rooms = {"controlplane", "registry", "rollouts"}
    kept = (path for path in found if path.relative_to(ROOT).parts[0] in rooms)
    return sorted(path for path in kept if "migrations" not in path.parts and path.name[:2] != "__")


def writes_in(node: ast.AST) -> Iterator[tuple[int, str]]:
    """(line, call) of every call that writes to a model."""
    for call in ast.walk(node):
        if isinstance(call, ast.Call) and isinstance(call.func, ast.Attribute):
            name = call.func.attr
            keywords_only = not call.args and bool(call.keywords)
            if name in ALWAYS or (name in WITH_KEYWORDS and keywords_only):
                yield call.lineno, ast.unparse(call.func)


def module_of(path: Path) -> ModuleType:
    return importlib.import_module(".".join(path.relative_to(ROOT).with_suffix("").parts))


def services() -> dict[str, Callable[..., Any]]:
    """Every public function of the services' modules, by `module.name`."""
    found: dict[str, Callable[..., Any]] = {}
    for path in files(SERVICES):
        module = module_of(path)
        for name, value in vars(module).items():
            if inspect.isfunction(value) and value.__module__ == module.__name__ and not name.startswith("_"):
                found[f"{module.__name__}.{name}"] = value
    return found


def writing_services() -> dict[str, Callable[..., Any]]:
    """Those of them that write, by themselves or by what they call."""
    bodies: dict[str, ast.AST] = {}
    for path in files(SERVICES):
        module = module_of(path).__name__
        for node in ast.parse(path.read_text()).body:
            if isinstance(node, ast.FunctionDef | ast.ClassDef):
                bodies[f"{module}.{node.name}"] = node
    writing = {name for name, node in bodies.items() if any(True for _ in writes_in(node))}
    grew = True
    while grew:  # whoever calls what writes, writes
        short = {name.rsplit(".", 1)[1] for name in writing}
        more = {name for name, node in bodies.items() if name not in writing and _names(node) & short}
        grew = bool(more)
        writing |= more
    return {name: service for name, service in services().items() if name in writing}


def reached_from(path: Path) -> Iterator[tuple[str, Callable[..., Any]]]:
    """The services that a module has in its hands: by name, or with a whole module of services."""
    modules = {module_of(service).__name__ for service in files(SERVICES)}
    source = ast.parse(path.read_text())
    used = {ast.unparse(node) for node in ast.walk(source) if isinstance(node, ast.Attribute)}
    for name, value in vars(module_of(path)).items():
        if inspect.isfunction(value) and value.__module__ in modules:
            yield f"{value.__module__}.{value.__name__}", value
        if inspect.ismodule(value) and value.__name__ in modules:
            for inner, function in vars(value).items():
                if inspect.isfunction(function) and f"{name}.{inner}" in used:
                    yield f"{function.__module__}.{function.__name__}", function


def _names(node: ast.AST) -> set[str]:
    names = {one.id for one in ast.walk(node) if isinstance(one, ast.Name)}
    return names | {one.attr for one in ast.walk(node) if isinstance(one, ast.Attribute)}
