from __future__ import annotations

import re
from datetime import date
from email.message import Message
from pathlib import Path

import pytest
from packaging.utils import canonicalize_name

from deploy.audit import AUDITED, NOT_DONE, Report, Vulnerability, audit, audit_with, problems_of, read_report
from deploy.licences import licence_in, may_ship, shipped
from deploy.supply import LOCKS, Locked, accepted, locked_in

OSI = "License :: OSI Approved :: "
TODAY = date(2026, 11, 28)
HOLE = Vulnerability("django", "5.2.1", ("PYSEC-2026-9", "CVE-2026-9"), ("5.2.2",))


# --- locks ----------------------------------------------------------------------------------------


def test_locked_in__a_locks_text__names_versions_and_markers() -> None:
    lock = "Foo_Bar[extra]==1.0 \\\n    --hash=sha256:aa\nb==2 ; sys_platform == 'win32' \\\n    --hash=sha256:bb\n"
    foo, b = locked_in(lock)
    assert foo == Locked(canonicalize_name("foo-bar"), "1.0")
    assert (b.name, b.version, str(b.marker)) == ("b", "2", 'sys_platform == "win32"')


@pytest.mark.parametrize("line", ["b>=2", "b", "b==2,==2", "-r other.txt", "b==", "b==2 ; nonsense"])
def test_locked_in__line_that_is_no_package_with_its_version__refused_by_number(line: str) -> None:
    with pytest.raises(ValueError, match="line 2"):
        locked_in(f"a==1\n{line}\n")


@pytest.mark.parametrize("name", AUDITED)
def test_locked_in__our_own_locks__every_package_has_hashes(name: str) -> None:
    blocks = [block for block in re.split(r"\n(?=\S)", (LOCKS / name).read_text()) if block[:1] != "#"]
    assert len(blocks) == len(locked_in("\n".join(block.split("\n")[0] for block in blocks))) > 20
    assert [block for block in blocks if "--hash=sha256:" not in block] == []


# --- licences -------------------------------------------------------------------------------------


def package(**fields: str | list[str]) -> Message:
    data = Message()
    for name, value in fields.items():
        for one in [value] if isinstance(value, str) else value:
            data[name.replace("_", "-")] = one
    return data


@pytest.mark.parametrize(
    ("data", "licence"),
    [
        (package(License_Expression="MIT OR Apache-2.0", License="BSD"), "MIT OR Apache-2.0"),
        (package(License="Apache 2.0"), "Apache-2.0"),
        (package(License="BSD 3-Clause OR Apache-2.0"), "BSD-3-Clause OR Apache-2.0"),
        (package(License="Copyright (c) 2001\n\nRedistribution", Classifier=OSI + "BSD License"), "BSD"),
        (package(License="x" * 80, Classifier=OSI + "MIT License"), "MIT"),
        (
            package(
                License="Dual License",
                Classifier=[OSI + "BSD License", OSI + "Apache Software License"],
            ),
            "BSD AND Apache-2.0",
        ),
        (package(Classifier=["License :: OSI Approved", "Topic :: Text"]), ""),
        (package(License="UNKNOWN"), ""),
        (package(), ""),
    ],
)  # fmt: skip
def test_licence_in__metadata__the_most_exact_word_of_it(data: Message, licence: str) -> None:
    assert licence_in(data) == licence


@pytest.mark.parametrize(
    ("expression", "may"),
    [
        ("MIT", True),
        ("GPL-3.0-only", False),
        ("", False),
        ("MIT OR GPL-3.0-only", True),
        ("MIT AND GPL-3.0-only", False),
        ("GPL-3.0-only OR MIT AND BSD", True),
        ("(GPL-3.0-only OR MIT) AND BSD", True),
        ("(GPL-3.0-only OR MIT) AND GPL-2.0-only", False),
        ("MIT and BSD", True),
        ("MIT WITH exception", False),
        ("MIT BSD", False),
        ("(MIT", False),
        ("MIT OR", False),
        ("mit", False),
    ],
)
def test_may_ship__expression__only_what_is_allowed(expression: str, may: bool) -> None:
    assert may_ship(expression, {"MIT", "BSD"}) is may


def test_shipped__what_we_ship_today__all_allowed() -> None:
    licences = accepted()["licences"]
    parts = list(shipped(licences["stated"]))
    assert {"django", "mlflow", "htmx.org", "lucide-static"} <= {part.name for part in parts}
    assert [part for part in parts if not may_ship(part.licence, licences["allowed"])] == []


def test_stated_licences__each_is_of_a_locked_package_and_has_a_reason() -> None:
    locked = {package.name for package in locked_in((LOCKS / "app.txt").read_text())}
    for name, entry in accepted()["licences"]["stated"].items():
        assert name in locked
        assert len(entry["why"]) > 10


# --- vulnerabilities ------------------------------------------------------------------------------


def test_read_report__pip_audits_json__counted_and_named() -> None:
    text = """{"dependencies": [
        {"name": "a", "version": "1", "vulns": []},
        {"name": "django", "version": "5.2.1", "vulns": [
            {"id": "PYSEC-2026-9", "aliases": ["CVE-2026-9"], "fix_versions": ["5.2.2"], "description": "x"}]},
        {"name": "torch", "skip_reason": "not found"}], "fixes": []}"""
    assert read_report(text) == Report(audited=2, skipped=("torch",), found=(HOLE,))


@pytest.mark.parametrize("text", ["", "Traceback (most recent call last):"])
def test_read_report__no_report__none(text: str) -> None:
    assert read_report(text) is None


def entry(**changes: object) -> dict[str, object]:
    return {
        "package": "django",
        "id": "PYSEC-2026-9",
        "why": "never called",
        "until": date(2026, 12, 1),
        **changes,
    }


def test_problems__vulnerability__named_with_its_fix() -> None:
    assert problems_of([HOLE, HOLE], [], today=TODAY) == (
        "django 5.2.1: PYSEC-2026-9 = CVE-2026-9, fixed in 5.2.2.",
    )


@pytest.mark.parametrize("changes", [{}, {"id": "CVE-2026-9"}, {"until": TODAY}])
def test_problems__accepted_by_any_of_its_names_until_the_day__none(changes: dict[str, object]) -> None:
    assert problems_of([HOLE], [entry(**changes)], today=TODAY) == ()


@pytest.mark.parametrize("changes", [{"id": "CVE-2026-8"}, {"package": "flask"}])
def test_problems__another_one_accepted__named(changes: dict[str, object]) -> None:
    assert len(problems_of([HOLE], [entry(**changes)], today=TODAY)) == 1


def test_problems__acceptance_is_over__named_with_the_day() -> None:
    (problem,) = problems_of([HOLE], [entry(until=date(2026, 11, 27))], today=TODAY)
    assert problem.endswith("it was accepted until 2026-11-27.")


class Tool:
    """A Python with a pip-audit that says of each lock what it was told to. `one.txt` is the question to a source."""

    CLEAN = 'echo \'{"dependencies": [{"name": "a", "version": "1", "vulns": []}]}\''
    HOLE = (
        'echo \'{"dependencies": [{"name": "django", "version": "5.2.1", "vulns": '
        '[{"id": "PYSEC-2026-9", "fix_versions": ["5.2.2"]}]}]}\'; exit 1'
    )
    SKIPPED = 'echo \'{"dependencies": [{"name": "a", "skip_reason": "not found"}]}\''
    BLOCKED = 'echo "ERROR:pip_audit._cli:Could not connect to OSV\'s vulnerability feed" >&2; exit 1'
    AWAY = "echo 'Traceback:\nrequests.exceptions.ConnectionError: no such host' >&2; exit 1"
    BROKEN = "echo 'Traceback:\nTypeError: a fault of its own' >&2; exit 1"

    def __init__(self, folder: Path) -> None:
        self.folder, self.python = folder, folder / "python"
        self.says({"one.txt": self.CLEAN})

    def says(self, answers: dict[str, str]) -> None:
        cases = "".join(f"*/{name}) {answer};;\n" for name, answer in answers.items())
        self.python.write_text(f'#!/bin/sh\ncase "$4" in\n{cases}esac\n')
        self.python.chmod(0o755)

    def audits(self, **answers: str) -> int:
        """What `audit` returns for locks that the tool answers for like this, in their order."""
        names = {f"{name}.txt": answer for name, answer in answers.items()}
        self.says({"one.txt": self.CLEAN, **names})
        for name in names:
            (self.folder / name).write_text("a==1 \\\n    --hash=sha256:aa\n")
        return audit(self.python, [self.folder / name for name in names], [], today=TODAY)


@pytest.fixture
def tool(tmp_path: Path) -> Tool:
    return Tool(tmp_path)


def test_audit__every_lock_is_clean__0(tool: Tool) -> None:
    assert tool.audits(app=Tool.CLEAN, dev=Tool.CLEAN) == 0


def test_audit__hole_in_the_first_lock_and_no_answer_for_the_second__hole_told_and_1(
    tool: Tool, capsys: pytest.CaptureFixture[str]
) -> None:
    assert tool.audits(app=Tool.HOLE, dev=Tool.AWAY) == 1
    said = capsys.readouterr()
    assert "django 5.2.1: PYSEC-2026-9, fixed in 5.2.2." in said.err
    assert "audit not done: its data cannot be reached for dev.txt" in said.out


@pytest.mark.parametrize("answer", [Tool.AWAY, Tool.BLOCKED, Tool.SKIPPED])
def test_audit__no_data_on_the_first_lock__the_second_is_asked_all_the_same(
    tool: Tool, capsys: pytest.CaptureFixture[str], answer: str
) -> None:
    assert tool.audits(app=answer, dev=Tool.CLEAN) == NOT_DONE
    said = capsys.readouterr().out
    assert "dev.txt: 1 packages" in said
    assert "cannot be reached for app.txt" in said


def test_audit__tool_fails_by_itself__end_of_its_words_and_1_and_the_others_are_asked(
    tool: Tool, capsys: pytest.CaptureFixture[str]
) -> None:
    assert tool.audits(app=Tool.BROKEN, dev=Tool.HOLE) == 1
    said = capsys.readouterr()
    assert "pip-audit failed on app.txt" in said.err
    assert "TypeError: a fault of its own" in said.err
    assert "PYSEC-2026-9" in said.err
    assert "cannot be reached" not in said.out


def test_audit__no_source_has_data__not_done(tool: Tool, capsys: pytest.CaptureFixture[str]) -> None:
    assert tool.audits(app=Tool.CLEAN, one=Tool.SKIPPED) == NOT_DONE
    assert capsys.readouterr().out == "audit not done: its data cannot be reached\n"


def test_audit_with__source_takes_too_long__none(tool: Tool, tmp_path: Path) -> None:
    tool.says({"a.txt": "exec sleep 60"})
    assert audit_with(tool.python, tmp_path / "a.txt", "osv", seconds=0.2) is None


def test_accepted_vulnerabilities__each_has_a_reason_and_a_day() -> None:
    for known in accepted().get("vulnerability", []):
        assert len(known["why"]) > 10
        assert isinstance(known["until"], date)
