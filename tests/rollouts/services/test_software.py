"""The name of the software that a verdict was computed with: another one for other code, the same for the same."""

from __future__ import annotations

import platform
from collections.abc import Iterator
from pathlib import Path

import pytest

import controlplane.kernel
import rollouts.domain
from rollouts.services.software import software


@pytest.fixture
def sources(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A folder that stands in for the code of the decisions; what was said of the real one is forgotten before and
    after."""
    for name, package in (("domain", rollouts.domain), ("kernel", controlplane.kernel)):
        (tmp_path / name).mkdir()
        monkeypatch.setattr(package, "__path__", [str(tmp_path / name)])
    (tmp_path / "domain" / "gates.py").write_text("LIMIT = 1\n")
    software.cache_clear()
    yield tmp_path
    software.cache_clear()


def said_now() -> str:
    software.cache_clear()
    return software()


def test_software__names__what_a_digit_depends_on() -> None:
    words = software().split(", ")
    assert [word.split(" ")[0] for word in words] == [
        "domain",
        "Python",
        "numpy",
        "scipy",
        platform.machine(),
    ]
    assert f"Python {platform.python_version()}" in words


@pytest.mark.parametrize(
    ("path", "text"),
    [("domain/gates.py", "LIMIT = 2\n"), ("domain/more.py", ""), ("kernel/words.py", "X = 1\n")],
    ids=["another line", "a new module", "the kernel"],
)
def test_software__other_code__is_another_name(sources: Path, path: str, text: str) -> None:
    before = said_now()
    (sources / path).write_text(text)
    assert said_now() != before


def test_software__what_is_no_code__changes_nothing(sources: Path) -> None:
    before = said_now()
    (sources / "domain" / "notes.txt").write_text("to be read by people")
    assert said_now() == before


def test_software__module_with_another_name__is_another_name(sources: Path) -> None:
    before = said_now()
    (sources / "domain" / "gates.py").rename(sources / "domain" / "limits.py")
    assert said_now() != before
