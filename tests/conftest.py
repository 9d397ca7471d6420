"""Real parts that some tests need, and what brings each one.

`@pytest.mark.needs("envoy")` skips a test where Envoy is missing and says which command brings it; with
REQUIRE=all in the environment it fails instead, so that a complete run cannot pass by skipping. A GPU cannot
be brought by a command, so a test that needs one is skipped even then; the same goes for the rights of root and for
namespaces of one's own. Kubernetes takes long to build and has a target of its own: REQUIRE=kubernetes is what fails
where it is missing.
"""

from __future__ import annotations

import gc
import importlib.util
import os
import shutil
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import cache
from math import inf
from pathlib import Path

import pytest
from hypothesis import HealthCheck, settings

from controlplane.timekeeping import database_clock
from tests import databases
from tests.kubernetes import build, sandbox

# A busy machine is slow, not wrong: no property is about time. A landing (REQUIRE=all) is judged by the same examples
# every time; runs by hand go on searching.
settings.register_profile(
    "headgate",
    deadline=None,
    suppress_health_check=[HealthCheck.too_slow],
    derandomize=os.environ.get("REQUIRE") == "all",
)
settings.load_profile("headgate")

# What this suite starts and asks is on this machine, and libraries send that through the host's proxies, too. Tests of
# proxies set these variables in processes of their own.
for _name in [
    name for name in os.environ if name.lower().endswith("_proxy") and not name.startswith("HEADGATE_")
]:
    del os.environ[_name]

ROOT = Path(__file__).resolve().parent.parent
BIN = Path(sys.executable).parent


@dataclass(frozen=True)
class Part:
    """A real part: whether this machine has it, and the command that brings it ("" when none does).

    With `required_by` as REQUIRE in the environment, a test that lacks the part fails instead of being skipped.
    """

    found: Callable[[], bool]
    brought_by: str
    required_by: str = "all"


def _program(name: str, *folders: str) -> Callable[[], bool]:
    """Whether a program is on the PATH, beside this Python, or in one of the folders (patterns under /)."""

    def found() -> bool:
        beside = (BIN / name).exists() or shutil.which(name) is not None
        return beside or any(True for folder in folders for _ in Path("/").glob(f"{folder}/{name}"))

    return found


def _chromium() -> bool:
    given = os.environ.get("PLAYWRIGHT_BROWSERS_PATH", "")
    cache = Path(given) if given not in ("", "0") else Path.home() / ".cache" / "ms-playwright"
    return any(_program(name)() for name in ("chromium", "chromium-browser", "google-chrome")) or any(
        cache.glob("chromium*")
    )


PARTS = {
    "envoy": Part(_program("envoy"), "make setup"),
    "mlflow": Part(lambda: importlib.util.find_spec("mlflow") is not None, "make setup"),
    "vllm": Part((ROOT / ".venv-vllm" / "bin" / "python").exists, "make setup REQUIRE=all"),
    "chromium": Part(_chromium, "apt-get install chromium"),
    "postgres": Part(_program("initdb", "usr/lib/postgresql/*/bin"), "apt-get install postgresql"),
    "redis": Part(_program("redis-server"), "apt-get install redis-server"),
    "prometheus": Part(_program("prometheus"), "apt-get install prometheus"),
    "faketime": Part(_program("faketime"), "apt-get install faketime"),
    "python3": Part(Path("/usr/bin/python3").exists, "apt-get install python3"),  # that every user may run
    "root": Part(lambda: os.geteuid() == 0, ""),  # to start programs as another user
    "namespaces": Part(cache(sandbox.possible), ""),  # unshare, as root; many containers forbid it
    "kubernetes": Part(lambda: build.built() is not None, "make kubernetes", required_by="kubernetes"),
    "gpu": Part(_program("nvidia-smi"), ""),
}


# Whoever asks for the tests with one of these marks does not wait for the other files to be read.
READ_FOR = frozenset({"needs", "e2e", "whole", "browser"})


def pytest_ignore_collect(collection_path: Path, config: pytest.Config) -> bool | None:
    """Leaves out a file in whose text the mark does not stand that every test must have (`-m "needs and ..."`)."""
    mark = config.getoption("markexpr").partition(" ")[0]
    if mark not in READ_FOR or not collection_path.name.startswith("test_"):
        return None
    return not _says(collection_path, mark) or None


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    databases.mark(items)
    for item in items:
        for mark in item.iter_markers():
            if mark.name == "parametrize" and any(isinstance(one, set | frozenset) for one in mark.args):
                raise pytest.UsageError(
                    f"{item.nodeid} is told of a set: processes that share the tests order it differently. Sort it."
                )
            if mark.name in READ_FOR and not _says(item.path, mark.name):
                raise pytest.UsageError(
                    f"{item.nodeid} has the mark {mark.name}, and its file does not say so: it would be left out."
                )


@cache
def _says(file: Path, mark: str) -> bool:
    """Whether one of the file's tests may have the mark. A contract suite has it from what it runs on."""
    return file.name.endswith("contract.py") or f"mark.{mark}" in file.read_text()


def pytest_collection_finish() -> None:
    """What was read stays: the collector of garbage need not look at it again and again."""
    gc.collect()
    gc.freeze()


def pytest_runtest_setup(item: pytest.Item) -> None:
    for mark in item.iter_markers("needs"):
        for name in mark.args:
            part = PARTS.get(name)
            if part is None:
                pytest.fail(f"needs({name!r}): no such part; there are {', '.join(PARTS)}", pytrace=False)
            if part.found():
                continue
            if not part.brought_by:
                pytest.skip(f"needs {name}, which this machine does not have")
            message = f"needs {name}; bring it with: {part.brought_by}"
            if os.environ.get("REQUIRE") == part.required_by:
                pytest.fail(f"REQUIRE={part.required_by}: {message}", pytrace=False)
            pytest.skip(message)


@pytest.fixture(autouse=True)
def clock_goes_on_unasked() -> Iterator[None]:
    """The installation's clock knows the time before each test and does not ask the database again within it.

    On PostgreSQL it asks every five seconds: a test that counts queries would find one more now and then. Its database
    is on this machine and shows the same time. Tests of the clock itself make one of their own.
    """
    known = database_clock._Known(datetime.now(UTC), time.monotonic())
    # Not the tests' own `monkeypatch`, which would then be undone later than a test expects.
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(database_clock, "ASKED_EVERY", inf)
        patch.setattr(database_clock.CLOCK, "_known", known)
        patch.setattr(database_clock.CLOCK, "_ask_again", inf)
        yield
