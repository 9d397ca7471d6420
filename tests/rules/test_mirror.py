"""Tests mirror the source: whoever reads a service knows where its contract is stated."""

from __future__ import annotations

from collections.abc import Collection, Iterator
from pathlib import Path

import pytest

from tests.rules.writing import ROOT

MIRRORED = ("registry/services", "rollouts/services")


def modules_of(folder: Path) -> Iterator[Path]:
    """Modules below the folder, without packages' own files and what is no source."""
    yield from (path.relative_to(folder) for path in folder.rglob("*.py") if path.name != "__init__.py")


def without_tests(sources: Collection[Path], tests: Collection[Path]) -> list[str]:
    """Modules beside whose place in the tests no file of their name lies."""
    return sorted(str(source) for source in sources if source.with_name(f"test_{source.name}") not in tests)


def of_no_module(sources: Collection[Path], tests: Collection[Path]) -> list[str]:
    """Test files that are neither a module's (`test_writes.py`) nor about one side of it (`test_writes_large.py`)."""
    return sorted(
        str(test)
        for test in tests
        if test.name.startswith("test_")
        and not any(
            test.parent == source.parent and f"{test.stem}_".startswith(f"test_{source.stem}_")
            for source in sources
        )
    )


@pytest.mark.parametrize("folder", MIRRORED)
def test_services__each_module__has_its_test_file(folder: str) -> None:
    found = without_tests(list(modules_of(ROOT / folder)), list(modules_of(ROOT / "tests" / folder)))
    assert found == [], f"each needs a file below tests/{folder} that states its contract"


@pytest.mark.parametrize("folder", MIRRORED)
def test_tests_of_services__each_file__is_a_modules(folder: str) -> None:
    found = of_no_module(list(modules_of(ROOT / folder)), list(modules_of(ROOT / "tests" / folder)))
    assert found == [], "what is told of several modules lies in the app's stories"


@pytest.mark.parametrize("folder", MIRRORED)
def test_modules_of__the_folder__finds_some(folder: str) -> None:
    """The search itself: it would prove nothing if it found nothing."""
    assert len(list(modules_of(ROOT / folder))) > 10


SOURCES = [Path("loop/act.py"), Path("loop/acting.py"), Path("locks.py")]


@pytest.mark.parametrize(
    ("tests", "missing"),
    [
        (["loop/test_act.py", "loop/test_acting.py", "test_locks.py"], []),
        (["loop/test_act.py", "test_locks.py"], ["loop/acting.py"]),
        (["test_act.py", "loop/test_acting.py", "loop/test_locks.py"], ["locks.py", "loop/act.py"]),
        (["loop/test_act_often.py", "loop/test_acting.py", "test_locks.py"], ["loop/act.py"]),
    ],
)
def test_without_tests__file_is_missing_or_elsewhere__names_the_module(
    tests: list[str], missing: list[str]
) -> None:
    assert without_tests(SOURCES, [Path(test) for test in tests]) == missing


@pytest.mark.parametrize(
    ("tests", "strange"),
    [
        (["loop/test_act.py", "loop/test_act_often.py", "loop/conftest.py"], []),
        (["loop/test_action.py"], ["loop/test_action.py"]),
        (["test_act.py"], ["test_act.py"]),
        (["loop/test_stories.py", "test_locks.py"], ["loop/test_stories.py"]),
    ],
)
def test_of_no_module__file_of_another_name_or_place__is_named(tests: list[str], strange: list[str]) -> None:
    assert of_no_module(SOURCES, [Path(test) for test in tests]) == strange
