"""Looks for known vulnerabilities in the locked requirements: `python -m deploy.audit`.

Uses pip-audit, locked in requirements/audit.txt and installed into var/audit. Exit status 0: none but those that
requirements/accepted.toml accepts; 1: some, or pip-audit itself failed; NOT_DONE: the data on some lock cannot be
reached, and nothing was found in the others.

pip-audit itself answers 0 where a package index of one's own has the packages but not their vulnerabilities: it skips
each of them. So each source is first asked about one package, and what was skipped is counted and told.
"""

from __future__ import annotations

import json
import re
import subprocess
import sys
import tempfile
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime
from pathlib import Path
from typing import Any

from deploy.bootstrap.environments import Environment, SetupFailed, find_uv, holds, install, stamp_of
from deploy.supply import LOCKS, ROOT, accepted

NOT_DONE = 3
NOTHING_REACHED = "audit not done: its data cannot be reached"
SOURCES = ("pypi", "osv")
AUDITED = ("app.txt", "dev.txt", "audit.txt", "vllm-cpu.txt", "vllm-gpu.txt")
ASK_SECONDS = 120.0
LOCK_SECONDS = 1200.0
END_OF_STDERR = 1000  # characters
# How pip-audit ends when its source fails: in its own words, or with the traceback of its client.
_SOURCE_FAILED = re.compile(
    r"Could not connect to |is not redirecting properly"
    r"|^(?:requests\.exceptions|pip_audit\._service\.interface)\.\w+",
    re.MULTILINE,
)


class AuditFailed(Exception):
    """pip-audit gave no report, and its source is not the reason. The message is the end of what it said."""


@dataclass(frozen=True, slots=True, order=True)
class Vulnerability:
    """One that is known of a locked package. `names` are all it is called by, the first one leads."""

    package: str
    version: str
    names: tuple[str, ...]
    fixed_in: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Report:
    """What pip-audit said of one lock: how many packages it has data on, which it skipped, what it found."""

    audited: int
    skipped: tuple[str, ...]
    found: tuple[Vulnerability, ...]


def read_report(text: str) -> Report | None:
    """pip-audit's JSON; None when it gave none, as when its source did not answer."""
    try:
        data = json.loads(text)
    except ValueError:
        return None
    skipped, found, audited = [], [], 0
    for package in data["dependencies"]:
        if "skip_reason" in package:
            skipped.append(package["name"])
            continue
        audited += 1
        for known in package["vulns"]:
            names = (known["id"], *known.get("aliases", ()))
            fixes = tuple(known.get("fix_versions", ()))
            found.append(Vulnerability(package["name"], package["version"], names, fixes))
    return Report(audited, tuple(skipped), tuple(found))


def problems_of(
    found: Iterable[Vulnerability], accepted: Sequence[Mapping[str, Any]], *, today: date
) -> tuple[str, ...]:
    """A sentence for every vulnerability that is not accepted, or no longer."""
    problems = []
    for known in sorted(set(found)):
        named = [a for a in accepted if a["package"] == known.package and a["id"] in known.names]
        if any(entry["until"] >= today for entry in named):
            continue
        until = f"; it was accepted until {max(entry['until'] for entry in named)}" if named else ""
        fix = f"fixed in {', '.join(known.fixed_in)}" if known.fixed_in else "no version fixes it yet"
        problems.append(f"{known.package} {known.version}: {' = '.join(known.names)}, {fix}{until}.")
    return tuple(problems)


def audit_with(python: Path, lock: Path, source: str, *, seconds: float) -> Report | None:
    """pip-audit's report on a lock; None when the source does not answer, or not in time. Raises AuditFailed."""
    command = [
        *(str(python), "-m", "pip_audit", "-r", str(lock), "--require-hashes", "--disable-pip"),
        *("-s", source, "-f", "json", "--progress-spinner", "off"),
    ]
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=seconds, check=False)
    except subprocess.TimeoutExpired:
        return None
    report = read_report(done.stdout)
    if report is None and not _SOURCE_FAILED.search(done.stderr):
        said = done.stderr[-END_OF_STDERR:].strip() or f"nothing, with exit status {done.returncode}"
        raise AuditFailed(f"pip-audit failed on {lock.name}. It said: {said}")
    return report


def reachable_source(python: Path, lock: Path) -> str | None:
    """The first source that has data on the lock's first package, which stands for all. Raises AuditFailed."""
    first = lock.read_text().split("\n")
    ends = next(number for number, line in enumerate(first) if number and not line.startswith(" "))
    with tempfile.TemporaryDirectory() as folder:
        one = Path(folder) / "one.txt"
        one.write_text("\n".join(first[:ends]) + "\n")
        for source in SOURCES:
            report = audit_with(python, one, source, seconds=ASK_SECONDS)
            if report is not None and report.audited:
                return source
    return None


def audit(python: Path, locks: Sequence[Path], accepted: Sequence[Mapping[str, Any]], *, today: date) -> int:
    """Audits every lock, whatever became of the one before, and prints what was found; returns the exit status."""
    problems: list[str] = []
    missing: list[str] = []
    found: list[Vulnerability] = []
    try:
        source = reachable_source(python, locks[0])
    except AuditFailed as failure:
        print(failure, file=sys.stderr)
        return 1
    if source is None:
        print(NOTHING_REACHED)
        return NOT_DONE
    for lock in locks:
        try:
            report = audit_with(python, lock, source, seconds=LOCK_SECONDS)
        except AuditFailed as failure:
            problems.append(str(failure))
            continue
        if report is None or not report.audited:
            missing.append(lock.name)
            continue
        skipped = f"; without data: {', '.join(sorted(report.skipped))}" if report.skipped else ""
        print(f"{lock.name}: {report.audited} packages, known vulnerabilities: {len(report.found)}{skipped}")
        found.extend(report.found)
    vulnerable = problems_of(found, accepted, today=today)
    problems.extend(vulnerable)
    for problem in problems:
        print(problem, file=sys.stderr)
    if vulnerable:
        print(
            "Raise the version (make lock), or accept it with a reason and a day in requirements/accepted.toml.",
            file=sys.stderr,
        )
    if missing:
        print(f"{NOTHING_REACHED} for {', '.join(missing)}")
    if problems:
        return 1
    return NOT_DONE if missing else 0


def tool() -> Path:
    """The Python that has pip-audit. Raises SetupFailed."""
    environment = Environment("the audit's tool", ROOT / "var" / "audit", (LOCKS / "audit.txt",))
    if not holds(environment, stamp_of(environment.locks)):
        install(environment, uv=find_uv(ROOT / "var", say=print), say=print)
    return environment.python


def main() -> int:
    try:
        python = tool()
    except SetupFailed as failure:
        print(f"audit not done: its tool cannot be installed. {failure}")
        return NOT_DONE
    locks = [LOCKS / name for name in AUDITED]
    return audit(python, locks, accepted().get("vulnerability", []), today=datetime.now(UTC).date())


if __name__ == "__main__":
    sys.exit(main())
