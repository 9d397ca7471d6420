from __future__ import annotations

import re
from datetime import date
from email.message import Message

import pytest

from deploy.audit import AUDITED, Report, Vulnerability, problems_of, read_report
from deploy.licences import licence_in, may_ship, shipped
from deploy.supply import LOCKS, Locked, accepted, locked_in

OSI = "License :: OSI Approved :: "
TODAY = date(2026, 11, 28)
HOLE = Vulnerability("django", "5.2.1", ("PYSEC-2026-9", "CVE-2026-9"), ("5.2.2",))


# --- locks ----------------------------------------------------------------------------------------


def test_locked_in__a_locks_text__names_versions_and_markers() -> None:
    lock = "Foo_Bar[extra]==1.0 \\\n    --hash=sha256:aa\nb==2 ; sys_platform == 'win32' \\\n    --hash=sha256:bb\n"
    assert locked_in(lock) == (Locked("foo-bar", "1.0"), Locked("b", "2", "sys_platform == 'win32'"))


def test_locked_in__line_that_is_no_package__refused_by_number() -> None:
    with pytest.raises(ValueError, match="line 2"):
        locked_in("a==1\nb>=2\n")


@pytest.mark.parametrize("name", [*AUDITED, "audit.txt"])
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
def test_read_report__source_did_not_answer__none(text: str) -> None:
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


def test_accepted_vulnerabilities__each_has_a_reason_and_a_day() -> None:
    for known in accepted().get("vulnerability", []):
        assert len(known["why"]) > 10
        assert isinstance(known["until"], date)
