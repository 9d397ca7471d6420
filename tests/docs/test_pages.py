"""Pages that must agree with the code."""

from __future__ import annotations

import re
import subprocess
import sys
from dataclasses import fields
from pathlib import Path

from controlplane.config.environment import Environment
from rollouts.adapters.clusters.kubernetes.profile import WeightsKind
from rollouts.adapters.clusters.kubernetes.profile_reading import TOP
from rollouts.adapters.kinds.kubernetes_place import FIELDS

ROOT = Path(__file__).resolve().parents[2]


def test_operations__every_setting__is_in_the_table() -> None:
    page = (ROOT / "docs" / "operations.md").read_text()
    missing = [spec.name for spec in fields(Environment) if f"| `HEADGATE_{spec.name.upper()}` |" not in page]
    assert missing == []


def test_operations__every_row_of_the_table__is_a_setting() -> None:
    page = (ROOT / "docs" / "operations.md").read_text()
    known = {f"HEADGATE_{spec.name.upper()}" for spec in fields(Environment)}
    assert set(re.findall(r"^\| `(HEADGATE_[A-Z_]+)` \|", page, re.MULTILINE)) - known == set()


def test_rollout_states__table_of_transitions__page_is_not_stale() -> None:
    done = subprocess.run(
        [sys.executable, str(ROOT / "docs" / "rollout_states.py"), "--check"],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr


def test_links__between_pages__lead_somewhere() -> None:
    pages = [ROOT / "README.md", ROOT / "CHANGELOG.md", *sorted((ROOT / "docs").rglob("*.md"))]
    broken = [
        f"{page.relative_to(ROOT)}: {target}"
        for page in pages
        for target in re.findall(r"\]\(([^)#:]+)(?:#[^)]*)?\)", page.read_text())
        if not (page.parent / target).exists()
    ]
    assert broken == []


def test_kubernetes__every_field_of_a_cluster_and_its_profile__is_in_a_table() -> None:
    page = (ROOT / "docs" / "kubernetes.md").read_text()
    rows = "".join(line.split("|")[1] for line in page.splitlines() if line.startswith("| `"))
    named = set(re.findall(r"`([a-z_]+)`", rows))
    kinds = {kind.value for kind in WeightsKind}
    assert named - kinds == {*TOP, *FIELDS}
    assert kinds <= named
