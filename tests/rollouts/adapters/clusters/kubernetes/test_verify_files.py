"""The check of files inside of the cluster, run as it runs there, against the one that we have here."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from controlplane.kernel.errors import TamperedFile
from registry.domain.manifest import Manifest, take_manifest, verify_folder
from rollouts.adapters.clusters.kubernetes.pod import VERIFY_FILES


def flipped(folder: Path) -> None:
    (folder / "model.safetensors").write_bytes(b"Weights")


def longer(folder: Path) -> None:
    (folder / "model.safetensors").write_bytes(b"weights and more")


def missing(folder: Path) -> None:
    (folder / "sub" / "config.json").unlink()


def further(folder: Path) -> None:
    (folder / "sub" / "more.py").write_bytes(b"import os")


def linked(folder: Path) -> None:
    (folder / "model.safetensors").unlink()
    (folder / "model.safetensors").symlink_to("/etc/hostname")


def linked_folder(folder: Path) -> None:
    (folder / "more").symlink_to("/etc")


def pipe(folder: Path) -> None:
    os.mkfifo(folder / "pipe")


def nothing(folder: Path) -> None:
    """Left as it was."""


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    top = tmp_path / "version"
    (top / "sub").mkdir(parents=True)
    (top / "model.safetensors").write_bytes(b"weights")
    (top / "sub" / "config.json").write_bytes(b"{}")
    return top


def in_cluster(folder: Path, manifest: Manifest) -> tuple[int, str]:
    """(exit status, the path that is named) of the script, in an interpreter with nothing of ours."""
    written, report = folder.parent / "manifest.json", folder.parent / "report"
    written.write_text(json.dumps(manifest.to_json()))
    command = [sys.executable, "-I", "-c", VERIFY_FILES, str(folder), str(written), str(report)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    assert done.stderr == ""
    return done.returncode, json.loads(report.read_text())["path"] if report.exists() else ""


@pytest.mark.parametrize("change", [flipped, longer, missing, further, linked, linked_folder, pipe, nothing])
def test_verify__whatever_changed__is_judged_as_here(folder: Path, change: Callable[[Path], None]) -> None:
    manifest = take_manifest(folder)
    change(folder)
    try:
        verify_folder(folder, manifest)
        wanted = (0, "")
    except TamperedFile as error:
        wanted = (3, error.path)
    assert in_cluster(folder, manifest) == wanted
    assert (wanted[0] == 0) == (change is nothing)
