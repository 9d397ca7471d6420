"""Looks for known vulnerabilities in the locked requirements: `python -m deploy.audit`.

Uses pip-audit, locked in requirements/audit.txt and installed into var/audit. Exit status 0: none but those that
requirements/accepted.toml accepts; 1: some; NOT_DONE: the data cannot be reached, so nothing is known.

pip-audit itself answers 0 where a package index of one's own has the packages but not their vulnerabilities: it skips
each of them. So each source is first asked about one package, and what was skipped is counted and told.
"""

from __future__ import annotations

import json
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
AUDITED = ("app.txt", "dev.txt", "vllm-cpu.txt", "vllm-gpu.txt")
ASK_SECONDS = 120.0
LOCK_SECONDS = 1200.0


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
    """pip-audit's report on a lock; None when the source does not answer in time or at all."""
    command = [
        *(str(python), "-m", "pip_audit", "-r", str(lock), "--require-hashes", "--disable-pip"),
        *("-s", source, "-f", "json", "--progress-spinner", "off"),
    ]
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=seconds, check=False)
    except subprocess.TimeoutExpired:
        return None
    return read_report(done.stdout)


def reachable_source(python: Path) -> str | None:
    """The first source that has data on one package of ours, which stands for all."""
    first = (LOCKS / "app.txt").read_text().split("\n")
    ends = next(number for number, line in enumerate(first) if number and not line.startswith(" "))
    with tempfile.TemporaryDirectory() as folder:
        one = Path(folder) / "one.txt"
        one.write_text("\n".join(first[:ends]) + "\n")
        for source in SOURCES:
            report = audit_with(python, one, source, seconds=ASK_SECONDS)
            if report is not None and report.audited:
                return source
    return None


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
    source = reachable_source(python)
    if source is None:
        print(NOTHING_REACHED)
        return NOT_DONE
    found: list[Vulnerability] = []
    for name in AUDITED:
        report = audit_with(python, LOCKS / name, source, seconds=LOCK_SECONDS)
        if report is None:
            print(f"{NOTHING_REACHED} (it stopped at {name})")
            return NOT_DONE
        skipped = f"; without data: {', '.join(sorted(report.skipped))}" if report.skipped else ""
        print(f"{name}: {report.audited} packages, known vulnerabilities: {len(report.found)}{skipped}")
        found.extend(report.found)
    problems = problems_of(found, accepted().get("vulnerability", []), today=datetime.now(UTC).date())
    for problem in problems:
        print(problem, file=sys.stderr)
    if problems:
        print(
            "Raise the version (make lock), or accept it with a reason and a day in requirements/accepted.toml.",
            file=sys.stderr,
        )
    return 1 if problems else 0


if __name__ == "__main__":
    sys.exit(main())
