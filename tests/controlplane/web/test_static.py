"""What is sent to browsers: pinned vendored files, nothing inline, icons that exist, and a budget."""

from __future__ import annotations

import gzip
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[3]
TEMPLATES = sorted((ROOT / "templates").rglob("*.html"))
FIRST_LOAD_BYTES = 120 * 1024


def check(root: Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, str(root / "deploy" / "vendor.py"), "--check"],
        capture_output=True,
        text=True,
        check=False,
    )


@pytest.fixture
def copied(tmp_path: Path) -> Path:
    shutil.copytree(ROOT / "static" / "vendor", tmp_path / "static" / "vendor")
    (tmp_path / "deploy").mkdir()
    for name in ("vendor.py", "vendor.toml"):
        shutil.copy(ROOT / "deploy" / name, tmp_path / "deploy" / name)
    return tmp_path


def test_vendor__committed_files__are_as_pinned() -> None:
    done = check(ROOT)
    assert done.returncode == 0, done.stderr


def test_vendor__changed_missing_and_extra_file__are_each_named(copied: Path) -> None:
    vendor = copied / "static" / "vendor"
    (vendor / "htmx.js").write_text("alert(1)")
    (vendor / "uplot.css").unlink()
    (vendor / "extra.js").write_text("")
    done = check(copied)
    assert done.returncode == 1
    assert "static/vendor/htmx.js: is " in done.stderr
    assert "static/vendor/uplot.css: missing" in done.stderr
    assert "static/vendor/extra.js: not in vendor.toml" in done.stderr


@pytest.mark.parametrize("path", TEMPLATES, ids=lambda path: str(path.relative_to(ROOT / "templates")))
def test_template__content_security_policy__needs_no_exception(path: Path) -> None:
    text = path.read_text()
    assert not re.search(r"<script(?![^>]*\bsrc=)", text)
    assert "<style" not in text
    assert not re.search(r"\sstyle=", text)
    assert not re.search(r"\son[a-z]+=", text)
    assert "hx-on" not in text
    assert "|safe" not in text


def test_templates__icons__are_in_the_sprite() -> None:
    sprite = set(re.findall(r'<symbol id="([^"]+)"', (ROOT / "static" / "vendor" / "icons.svg").read_text()))
    used = {name for path in TEMPLATES for name in re.findall(r"\{% icon '([a-z0-9-]+)'", path.read_text())}
    assert used
    assert used <= sprite


def test_python__icons__are_in_the_sprite() -> None:
    sprite = set(re.findall(r'<symbol id="([^"]+)"', (ROOT / "static" / "vendor" / "icons.svg").read_text()))
    from rollouts.ui.parts import gates_table, page_parts, phases

    looks = [icon for _, _, icon in gates_table.LOOK.values()] + [
        icon for icon, _ in page_parts.EVENT_LOOK.values()
    ]
    looks += [icon for _, icon in phases.PAUSED_WORDS.values()]
    assert set(looks) <= sprite


def test_first_load__compressed__is_within_the_budget() -> None:
    names = [f"css/{path.name}" for path in (ROOT / "static" / "css").iterdir()]
    names += [
        "early.js",
        "theme.js",
        "app.js",
        "charts.js",
        "vendor/htmx.js",
        "vendor/hx-sse.js",
        "vendor/hx-ptag.js",
    ]
    names += ["vendor/uplot.js", "vendor/uplot.css", "vendor/icons.svg"]
    sizes = {name: len(gzip.compress((ROOT / "static" / name).read_bytes(), 9)) for name in names}
    sizes["fonts"] = (
        (ROOT / "static" / "vendor" / "inter.woff2").stat().st_size
    )  # the other is fetched when used
    assert sum(sizes.values()) < FIRST_LOAD_BYTES, sizes
