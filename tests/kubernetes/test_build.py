"""The programs are built once, appear whole, and are found again. A stand-in plays Go: the real build takes long."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.kubernetes import build
from tests.standins.running import ROOT, wait_until

# It writes what `go build` would write, says so, and then takes as long as the test wants.
GO = """#!/bin/sh
case "$1" in
build)
  echo built >> "$GO_TOLD"
  while [ "$1" != -o ]; do shift; done
  echo half > "$2/kubernetes"
  echo half > "$2/envoy-gateway"
  while [ -e "$GO_WAITS" ]; do sleep 0.05; done
  exit ${GO_STATUS:-0}
  ;;
list)
  printf '{"Dir": "%s"}' "$GO_MODULES"
  ;;
esac
"""


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    programs = tmp_path / "programs"
    programs.mkdir()
    (programs / "go").write_text(GO)
    (programs / "go").chmod(0o755)
    for inside in build.DEFINITIONS.values():
        folder = tmp_path / "modules" / inside
        folder.mkdir(parents=True)
        name = inside.partition("/")[0]
        (folder / "one.yaml").write_text(f"kind: CustomResourceDefinition\nmetadata: {{name: {name}}}\n---\n")
        (folder / "kustomization.yaml").write_text("resources: [one.yaml]\n")
    monkeypatch.setenv("PATH", f"{programs}:{os.environ['PATH']}")
    monkeypatch.setenv("GO_TOLD", str(tmp_path / "told"))
    monkeypatch.setenv("GO_WAITS", str(tmp_path / "waits"))
    monkeypatch.setenv("GO_MODULES", str(tmp_path / "modules"))
    monkeypatch.setenv("HEADGATE_KUBERNETES_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"


def times_built(cache: Path) -> int:
    told = cache.parent / "told"
    return len(told.read_text().splitlines()) if told.exists() else 0


def builder() -> subprocess.Popen[str]:
    command = [sys.executable, "-m", "tests.kubernetes.build"]
    return subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)


def test_built__nothing_there__is_none(cache: Path) -> None:
    assert build.built() is None


def test_build__done__programs_and_definitions_are_there(cache: Path) -> None:
    made = build.build()
    assert made == build.built()
    assert made.folder.parent == cache
    assert made.control_plane.exists()
    assert made.gateway.exists()
    names = {path.name for path in made.definitions}
    assert names == {"CustomResourceDefinition-config.json", "CustomResourceDefinition-charts.json"}
    assert list(cache.iterdir()) == [made.folder]


def test_build__done_before__builds_nothing(cache: Path) -> None:
    build.build()
    build.build()
    assert times_built(cache) == 1


def test_build__fails__says_so_and_leaves_nothing(cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GO_STATUS", "2")
    with pytest.raises(build.BuildFailed, match="ended with status 2"):
        build.build()
    assert list(cache.iterdir()) == []


def test_build__killed_midway__is_not_taken_for_built_and_cleared_away_by_the_next(cache: Path) -> None:
    waits = cache.parent / "waits"
    waits.touch()
    with builder() as first:
        wait_until("it builds", lambda: times_built(cache) == 1)
        first.kill()
        waits.unlink()
    assert list(cache.glob("building-*"))
    assert build.built() is None
    made = build.build()
    assert list(cache.iterdir()) == [made.folder]


def test_build__two_at_once__one_builds_and_both_find_it(cache: Path) -> None:
    waits = cache.parent / "waits"
    waits.touch()
    with builder() as first, builder() as second:
        wait_until("one builds", lambda: times_built(cache) == 1)
        waits.unlink()
        told = [first.communicate()[0], second.communicate()[0]]
    assert times_built(cache) == 1
    assert (first.returncode, second.returncode) == (0, 0)
    assert all(str(cache / build.key()) in text for text in told)


def test_build__no_go__says_what_to_install(cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("shutil.which", lambda *_, **__: None)
    with pytest.raises(build.BuildFailed, match="built with Go"):
        build.build()


def test_check__not_built__says_how_and_fails(cache: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert build.main(["--check"]) == 1
    assert "make kubernetes" in capsys.readouterr().out


def test_key__go_version_of_a_package_changes__is_another(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = build.key()
    for name in ("go.mod", "go.sum", "main.go"):
        (tmp_path / name).write_bytes((build.MODULE / name).read_bytes())
    monkeypatch.setattr(build, "MODULE", tmp_path)
    assert build.key() == before
    (tmp_path / "go.sum").write_text("another")
    assert build.key() != before
