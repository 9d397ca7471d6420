"""Setting up the machine: what is refused beforehand and with which remedy, and that a second run does nothing."""

from __future__ import annotations

import ast
import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest

from deploy.bootstrap.__main__ import engine_kind, other_python, plan
from deploy.bootstrap.environments import (
    STAMP,
    Environment,
    SetupFailed,
    explain_failure,
    find_uv,
    holds,
    install,
    run,
    stamp_of,
)
from deploy.bootstrap.machine import GIB, Facts, available_memory, complaints, driver_version

GOOD = Facts(
    system="Linux",
    architecture="x86_64",
    glibc=(2, 36),
    disk_free=100 * GIB,
    memory_available=20 * GIB,
    nvidia=False,
)
EVERYTHING = {"app": True, "vllm-cpu": True}


def told(facts: Facts, *, wanted: dict[str, bool] | None = None, memory: bool = True) -> list[str]:
    wanted = EVERYTHING if wanted is None else wanted
    return [str(complaint) for complaint in complaints(facts, wanted=wanted, check_memory=memory)]


def test_complaints__machine_fits__none() -> None:
    assert told(GOOD) == []


@pytest.mark.parametrize("version", [(3, 11), (3, 12), (3, 13)])
def test_other_python__this_one_will_do__none(version: tuple[int, int]) -> None:
    assert other_python(version, which=lambda name: f"/usr/bin/{name}") is None


@pytest.mark.parametrize("version", [(2, 7), (3, 10), (3, 14)])
def test_other_python__a_fitting_one_on_the_path__is_taken(version: tuple[int, int]) -> None:
    there = {"python3.12": "/usr/bin/python3.12", "python3.11": "/usr/bin/python3.11"}
    assert other_python(version, which=there.get) == "/usr/bin/python3.12"


def test_other_python__none_fits__says_so_with_the_remedy() -> None:
    with pytest.raises(SystemExit, match=r"this is 3\.9[^$]*Remedy: install one"):
        other_python((3, 9), which=lambda _: None)


def test_main__read_by_an_old_python__is_valid_syntax_up_to_the_refusal() -> None:
    source = (Path(__file__).parents[2] / "deploy" / "bootstrap" / "__main__.py").read_text()
    ast.parse(source, feature_version=(3, 8))
    assert source.index("os.execv") < source.index("from deploy.bootstrap")


def test_complaints__arm_machine__named_with_the_remedy() -> None:
    (complaint,) = told(replace(GOOD, architecture="aarch64"))
    assert "Linux on aarch64" in complaint
    assert "x86-64" in complaint


def test_complaints__little_disk__says_how_much_is_needed_for_what_is_missing() -> None:
    (complaint,) = told(replace(GOOD, disk_free=4 * GIB))
    assert "4.0 GB of disk are free here; installing needs 12 GB" in complaint


def test_complaints__little_disk_but_all_installed__none() -> None:
    assert told(replace(GOOD, disk_free=GIB), wanted={"app": False, "vllm-cpu": False}) == []


def test_complaints__little_memory__says_how_much_the_demo_needs() -> None:
    (complaint,) = told(replace(GOOD, memory_available=7 * GIB))
    assert "7.0 GB of memory are free" in complaint
    assert "needs 12 GB" in complaint
    assert "make down" in complaint


def test_complaints__memory_not_asked_about__none() -> None:
    assert told(replace(GOOD, memory_available=GIB), memory=False) == []


@pytest.mark.parametrize(("glibc", "name"), [((2, 28), "glibc 2.28"), ((0, 0), "another C library")])
def test_complaints__old_c_library__only_the_engine_minds(glibc: tuple[int, int], name: str) -> None:
    facts = replace(GOOD, glibc=glibc)
    (complaint,) = told(facts)
    assert name in complaint
    assert told(facts, wanted={"app": True}) == []


def test_complaints__old_gpu_driver__offers_the_cpu() -> None:
    facts = replace(GOOD, nvidia=True, driver=550)
    (complaint,) = told(facts, wanted={"app": False, "vllm-gpu": True})
    assert "version 550" in complaint
    assert "--engine cpu" in complaint
    assert told(replace(facts, driver=580), wanted={"app": False, "vllm-gpu": True}) == []


def test_complaints__several__all_at_once() -> None:
    assert len(told(replace(GOOD, disk_free=0, memory_available=0, architecture="riscv64"))) == 3


def test_driver_version__both_wordings_of_the_driver__first_number(tmp_path: Path) -> None:
    file = tmp_path / "version"
    file.write_text("NVRM version: NVIDIA UNIX x86_64 Kernel Module  535.104.05  Sat Aug 19\n")
    assert driver_version(file) == 535
    file.write_text("NVRM version: NVIDIA UNIX Open Kernel Module for x86_64  580.65.06  Release Build\n")
    assert driver_version(file) == 580
    assert driver_version(tmp_path / "absent") == 0


def test_available_memory__meminfo__in_bytes(tmp_path: Path) -> None:
    file = tmp_path / "meminfo"
    file.write_text("MemTotal:       24683520 kB\nMemAvailable:   12582912 kB\n")
    assert available_memory(file) == 12 * GIB


@pytest.fixture
def project(tmp_path: Path) -> Path:
    folder = tmp_path / "requirements"
    folder.mkdir()
    for name in ("app", "dev", "vllm-cpu", "vllm-gpu"):
        # A lock that needs nothing: the whole path runs without an index.
        (folder / f"{name}.txt").write_text(f"# {name}\n")
    return tmp_path


def installed(environment: Environment) -> bool:
    return holds(environment, stamp_of(environment.locks))


def make(environment: Environment) -> None:
    """As if it had been installed."""
    environment.python.parent.mkdir(parents=True, exist_ok=True)
    environment.python.touch()
    (environment.folder / STAMP).write_text(stamp_of(environment.locks))


def test_install__fresh__a_working_environment_that_is_not_made_again(project: Path) -> None:
    environment = plan(project, dev=False, engine="")["app"]
    lines: list[str] = []
    uv = find_uv(project / "var", say=lines.append)
    assert not installed(environment)
    install(environment, uv=uv, say=lines.append)
    assert installed(environment)
    version = subprocess.check_output([environment.python, "-c", "import sys; print(*sys.version_info[:2])"])
    assert version.split() == [str(part).encode() for part in sys.version_info[:2]]


def test_install__interrupted__has_no_stamp_and_is_taken_up_again(project: Path) -> None:
    environment = plan(project, dev=False, engine="")["app"]
    make(environment)
    with pytest.raises(SetupFailed):
        install(environment, uv=["false"], say=lambda _: None)
    assert not installed(environment)


def test_holds__lock_changed__must_be_installed_again(project: Path) -> None:
    environment = plan(project, dev=False, engine="")["app"]
    make(environment)
    assert installed(environment)
    environment.locks[0].write_text("# another\n")
    assert not installed(environment)


def test_stamp__other_python__differs(project: Path) -> None:
    lock = project / "requirements" / "app.txt"
    assert stamp_of([lock], version=(3, 11)) != stamp_of([lock], version=(3, 12))


def test_plan__test_tools_are_installed__the_demo_keeps_them(project: Path) -> None:
    make(plan(project, dev=True, engine="")["app"])
    assert installed(plan(project, dev=False, engine="")["app"])


def test_plan__only_the_application_is_installed__tests_need_more(project: Path) -> None:
    make(plan(project, dev=False, engine="")["app"])
    assert not installed(plan(project, dev=True, engine="")["app"])


@pytest.mark.parametrize(
    ("choice", "nvidia", "kind"),
    [("auto", False, "cpu"), ("auto", True, "gpu"), ("cpu", True, "cpu"), ("gpu", False, "gpu")],
)
def test_engine_kind__choice_and_machine__decide(project: Path, choice: str, nvidia: bool, kind: str) -> None:
    assert engine_kind(choice, root=project, nvidia=nvidia) == kind


def test_engine_kind__cpu_was_chosen_before__stays(project: Path) -> None:
    make(plan(project, dev=False, engine="cpu")["vllm-cpu"])
    assert engine_kind("auto", root=project, nvidia=True) == "cpu"


def test_find_uv__on_the_path__is_used(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    fake = tmp_path / "uv"
    fake.write_text("#!/bin/sh\necho uv 0\n")
    fake.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
    assert find_uv(tmp_path / "var", say=lambda _: None) == [str(fake)]


def test_find_uv__own_one_from_an_earlier_run__is_used(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    own = tmp_path / "var" / "uv" / "bin" / "uv"
    own.parent.mkdir(parents=True)
    own.write_text("#!/bin/sh\necho uv 0\n")
    own.chmod(0o755)
    empty = tmp_path / "empty"
    empty.mkdir()
    monkeypatch.setenv("PATH", str(empty))
    assert Path(find_uv(tmp_path / "var", say=lambda _: None)[0]) == own


def test_run__program_prints__lines_are_shown_as_they_come() -> None:
    lines: list[str] = []
    run(
        [sys.executable, "-c", "print('Downloading torch'); print('+ torch==1')"], say=lines.append, what="it"
    )
    assert lines == ["  Downloading torch"]


@pytest.mark.parametrize(
    ("line", "remedy"),
    [
        ("error: No space left on device (os error 28)", "the disk is full"),
        ("error: Hash mismatch for `torch==2.13.0`", "is not the locked one"),
        ("error: Failed to fetch: dns error", "cannot be reached"),
        ("error: No solution found when resolving dependencies", "mirrors the whole of PyPI"),
    ],
)
def test_explain_failure__known_sign__fitting_remedy(line: str, remedy: str) -> None:
    text = explain_failure("the application", 2, [line])
    assert line in text
    assert remedy in text


def test_run__program_fails__its_last_lines_and_exit_code_are_told() -> None:
    program = "import sys; print('boom'); sys.exit(7)"
    with pytest.raises(SetupFailed, match=r"it failed with exit code 7:\nboom"):
        run([sys.executable, "-c", program], say=lambda _: None, what="it")
