"""The script that fills a volume, run as a Job runs it, against a server that behaves as a test wants it."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from pathlib import Path

import pytest

from controlplane.kernel.digests import sha256_of_file
from registry.domain.manifest import Manifest, take_manifest, verify_folder
from rollouts.adapters.clusters.kubernetes.filling import fill_volume
from rollouts.adapters.clusters.kubernetes.filling.objects import FILL_VOLUME
from tests.standins.file_door import FileDoor, file_door
from tests.standins.running import wait_until

FILES = {"model.safetensors": b"weights" * 1_000, "sub/with space&%.json": b"{}", "empty.txt": b""}
TOKEN = "a pass"


@pytest.fixture
def door() -> Iterator[FileDoor]:
    with file_door(FILES) as made:
        yield made


@pytest.fixture
def manifest(tmp_path: Path) -> Manifest:
    folder = tmp_path / "registered"
    for path, content in FILES.items():
        (folder / path).parent.mkdir(parents=True, exist_ok=True)
        (folder / path).write_bytes(content)
    return take_manifest(folder)


class Bench:
    """A volume, and a Job that fills it."""

    def __init__(self, tmp_path: Path, manifest: Manifest) -> None:
        self.manifest, self.folder = manifest, tmp_path
        self.volume = tmp_path / "volume"
        self.volume.mkdir()
        (tmp_path / "manifest.json").write_text(json.dumps(manifest.to_json()))
        (tmp_path / "pass").write_text(TOKEN)
        self.target = self.volume / manifest.folder_name

    def begin(self, url: str, *, quick: bool = True) -> subprocess.Popen[str]:
        """The script; `quick`: it does not wait between two tries."""
        code = FILL_VOLUME
        if quick:
            code = code.replace("PAUSES = (1.0, 2.0, 4.0, 8.0, 16.0)", "PAUSES = (0.01, 0.01)")
            code = code.replace("TURN_SECONDS = 10.0", "TURN_SECONDS = 0.01")
            assert "0.01, 0.01" in code
            assert "TURN_SECONDS = 0.01" in code
        words = [
            f"{url}/files/folder", self.volume, self.manifest.folder_name, self.folder / "manifest.json",
            self.folder / "pass", self.folder / "report",
        ]  # fmt: skip
        return subprocess.Popen(
            [sys.executable, "-I", "-c", code, *map(str, words)],
            stdout=subprocess.PIPE,
            text=True,
            env={**os.environ, "http_proxy": "http://127.0.0.1:9"},
        )

    def run(self, url: str) -> int:
        process = self.begin(url)
        self.said, _ = process.communicate(timeout=60)
        return process.returncode

    @property
    def report(self) -> dict[str, str]:
        found = json.loads((self.folder / "report").read_text())
        assert isinstance(found, dict)
        return found

    def left(self) -> list[str]:
        return sorted(path.name for path in self.volume.iterdir())


@pytest.fixture
def bench(tmp_path: Path, manifest: Manifest) -> Bench:
    return Bench(tmp_path, manifest)


def test_fill__empty_volume__has_the_files_that_nobody_can_change_by_accident(
    bench: Bench, door: FileDoor
) -> None:
    assert bench.run(door.url) == 0
    verify_folder(bench.target, bench.manifest)
    assert bench.left() == [bench.manifest.folder_name]
    assert (bench.target / "model.safetensors").stat().st_mode & 0o777 == 0o444
    assert bench.target.stat().st_mode & 0o777 == 0o755
    assert {authorization for _, authorization in door.asked} == {f"Bearer {TOKEN}"}
    total = sum(map(len, FILES.values()))
    assert bench.said.splitlines()[0] == f"0 of {total} bytes"
    assert TOKEN not in bench.said


def test_fill__folder_is_there__asks_nobody(bench: Bench, door: FileDoor) -> None:
    bench.target.mkdir()
    assert bench.run(door.url) == 0
    assert door.asked == []


@pytest.mark.parametrize(
    ("content", "detail"),
    [
        (b"Weights" * 1_000, "SHA-256"),
        (b"weights" * 1_000 + b"!", "more bytes"),
        (b"weights" * 999, "has 6993 bytes"),
    ],
    ids=["another", "longer", "shorter"],
)
def test_fill__file_differs__is_named_and_nothing_is_kept(
    bench: Bench, door: FileDoor, content: bytes, detail: str
) -> None:
    door.odd["model.safetensors"] = [(200, content, {})]
    assert bench.run(door.url) == fill_volume.DIFFERS
    assert bench.report["path"] == "model.safetensors"
    assert detail in bench.report["detail"]
    assert bench.left() == []


def test_fill__path_that_leaves_the_folder__is_refused(bench: Bench, door: FileDoor) -> None:
    entry = {"path": "../out", "size": 0, "sha256": sha256_of_file(bench.folder / "registered" / "empty.txt")}
    (bench.folder / "manifest.json").write_text(json.dumps([entry]))
    assert bench.run(door.url) == fill_volume.DIFFERS
    assert bench.left() == []
    assert door.asked == []


def test_fill__refused__says_why_and_does_not_try_again(bench: Bench, door: FileDoor) -> None:
    door.odd["model.safetensors"] = [(403, json.dumps({"detail": "This pass is over."}).encode(), {})]
    assert bench.run(door.url) == fill_volume.REFUSED
    assert bench.report == {"detail": "it answered 403: This pass is over."}
    assert [path for path, _ in door.asked].count("model.safetensors") == 1


def test_fill__sent_elsewhere__shows_its_pass_to_nobody_else(bench: Bench, door: FileDoor) -> None:
    for path in FILES:
        door.odd[path] = [(301, b"", {"Location": f"{door.url}/files/folder/elsewhere"})]
    assert bench.run(door.url) == fill_volume.REFUSED
    assert "sends elsewhere" in bench.report["detail"]
    assert "elsewhere" not in [path for path, _ in door.asked]


@pytest.mark.parametrize(
    "passing",
    [
        (503, b"no problem document", {}),
        (429, b"{}", {}),
        (200, b"weights", {"Content-Length": "7000"}),
    ],
    ids=["unavailable", "busy", "cut"],
)
def test_fill__trouble_that_passes__is_tried_again(
    bench: Bench, door: FileDoor, passing: tuple[int, bytes, Mapping[str, str]]
) -> None:
    door.odd["model.safetensors"] = [passing, passing]
    assert bench.run(door.url) == 0
    verify_folder(bench.target, bench.manifest)
    total = sum(map(len, FILES.values()))
    assert bench.said.splitlines()[-1].endswith(f"of {total} bytes")


def test_fill__busy_for_longer_than_it_tries_otherwise__waits_for_its_turn(
    bench: Bench, door: FileDoor
) -> None:
    door.odd["model.safetensors"] = [(429, b"{}", {})] * 20
    assert bench.run(door.url) == 0


def test_fill__connection_breaks_every_time__is_unreachable_and_nothing_is_kept(
    bench: Bench, door: FileDoor
) -> None:
    door.odd["model.safetensors"] = [(200, b"weights", {"Content-Length": "7000"})] * 9
    assert bench.run(door.url) == fill_volume.UNREACHABLE
    assert "ended after 7 of 7000 bytes" in bench.report["detail"]
    assert bench.left() == []


def test_fill__nobody_answers__is_unreachable(bench: Bench, door: FileDoor) -> None:
    assert bench.run("http://127.0.0.1:9") == fill_volume.UNREACHABLE
    assert "refused" in bench.report["detail"]


def test_fill__volume_is_not_there__says_so(bench: Bench, door: FileDoor) -> None:
    bench.volume.rmdir()
    assert bench.run(door.url) == fill_volume.NO_VOLUME
    assert bench.report["detail"].startswith("The volume cannot be written: No such file")


def test_fill__two_at_once__both_end_well_and_leave_one_folder(bench: Bench, door: FileDoor) -> None:
    door.gate.clear()
    both = [bench.begin(door.url), bench.begin(door.url)]
    wait_until("both fetch", lambda: len(bench.left()) == 2, 30)
    door.gate.set()
    for process in both:
        process.communicate(timeout=60)
    assert [process.returncode for process in both] == [0, 0]
    assert bench.left() == [bench.manifest.folder_name]
    verify_folder(bench.target, bench.manifest)


def _ended(process: subprocess.Popen[str], number: int) -> None:
    process.send_signal(number)
    process.communicate(timeout=60)


def test_fill__told_to_stop_midway__leaves_nothing(bench: Bench, door: FileDoor) -> None:
    door.gate.clear()
    process = bench.begin(door.url)
    wait_until("it fetches", lambda: door.asked, 30)
    _ended(process, signal.SIGTERM)
    assert process.returncode == 128 + signal.SIGTERM
    assert bench.left() == []


def test_fill__killed_midway__is_done_by_the_next_one_and_swept_a_day_later(
    bench: Bench, door: FileDoor
) -> None:
    door.gate.clear()
    process = bench.begin(door.url)
    wait_until("it fetches", lambda: door.asked, 30)
    _ended(process, signal.SIGKILL)
    (left,) = bench.left()
    assert left.startswith(".incoming-")
    door.gate.set()
    assert bench.run(door.url) == 0
    assert bench.left() == [left, bench.manifest.folder_name]  # it might be one that is alive
    bench.target.rename(bench.folder / "away")
    day_before = time.time() - 25 * 3_600
    os.utime(bench.volume / left, (day_before, day_before))
    assert bench.run(door.url) == 0
    assert bench.left() == [bench.manifest.folder_name]
