"""What runs in a sandbox is reached from here, and ends with the process that made it, however that ends."""

from __future__ import annotations

import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import IO

import httpx
import pytest

from tests.kubernetes.left_over import processes_of
from tests.kubernetes.sandbox import Sandbox, SandboxError
from tests.standins.running import ROOT, wait_until

pytestmark = [pytest.mark.e2e, pytest.mark.whole, pytest.mark.needs("root", "namespaces")]


@pytest.fixture
def sandbox(tmp_path: Path) -> Iterator[Sandbox]:
    shown = tmp_path / "shown"
    shown.mkdir()
    (shown / "tls.crt").write_text("a certificate")
    made = Sandbox(tmp_path, certificates=shown)
    made.start()
    yield made
    made.stop()


def test_process__listens__is_reached_from_here(sandbox: Sandbox) -> None:
    sandbox.run("web", [sys.executable, "-m", "http.server", "8099", "--directory", "/certs"])

    def answer() -> str:
        try:
            return httpx.get(f"http://{sandbox.addresses.inside}:8099/tls.crt", trust_env=False).text
        except httpx.TransportError:
            return ""

    assert wait_until("the server answers", answer) == "a certificate"


def test_process__killed__its_end_is_known(sandbox: Sandbox) -> None:
    sandbox.run("sleeper", ["sleep", "1000"])
    assert sandbox.exit_status("sleeper") is None
    assert "sleeper" in sandbox.memory()
    sandbox.kill("sleeper")
    assert sandbox.exit_status("sleeper") == -9
    assert sandbox.memory() == {}


def test_process__cannot_be_started__says_why(sandbox: Sandbox) -> None:
    with pytest.raises(SandboxError, match="No such file"):
        sandbox.run("nothing", ["/no/such/program"])


def test_process__started_twice__is_refused(sandbox: Sandbox) -> None:
    sandbox.run("sleeper", ["sleep", "1000"])
    with pytest.raises(SandboxError, match="sleeper: it runs already"):
        sandbox.run("sleeper", ["sleep", "1000"])


def test_files__outside_shared_folders__are_the_sandboxs_own(sandbox: Sandbox) -> None:
    sandbox.run("writer", ["sh", "-c", "echo 1 > /run/of-the-sandbox; echo 1 > /of-the-sandbox; ls /"])
    wait_until("it ended", lambda: sandbox.exit_status("writer") is not None)
    assert "of-the-sandbox" in sandbox.log("writer")
    assert not Path("/of-the-sandbox").exists()
    assert not Path("/run/of-the-sandbox").exists()


def test_two_sandboxes__at_once__have_addresses_of_their_own(sandbox: Sandbox, tmp_path: Path) -> None:
    folder = tmp_path / "other"
    folder.mkdir()
    other = Sandbox(folder, certificates=tmp_path / "shown")
    other.start()
    assert other.addresses.inside != sandbox.addresses.inside
    assert other.link != sandbox.link
    other.stop()


def test_sandboxes__started_at_the_same_moment__each_gets_a_number(tmp_path: Path) -> None:
    folders = [tmp_path / name for name in "abcd"]
    for folder in folders:
        folder.mkdir()
    all_there = threading.Barrier(len(folders))
    numbers = []

    def live(folder: Path) -> None:
        made = Sandbox(folder, certificates=folder)
        all_there.wait()
        made.start()
        numbers.append(made.addresses.number)
        all_there.wait()
        made.stop()

    with ThreadPoolExecutor(len(folders)) as several:
        list(several.map(live, folders))
    assert len(set(numbers)) == len(folders)


def test_sandbox__stopped__its_cable_is_gone(sandbox: Sandbox) -> None:
    cable = Path(f"/sys/class/net/{sandbox.link}")
    assert cable.exists()
    sandbox.stop()
    assert not cable.exists()


MAKES_ONE = """
import sys
from pathlib import Path
from tests.kubernetes.sandbox import Sandbox

folder = Path(sys.argv[1])
sandbox = Sandbox(folder, certificates=folder)
print("begins", flush=True)
sandbox.start()
sandbox.run("sleeper", ["sleep", "1000"])
print(sandbox.link, flush=True)
sys.stdin.read()
"""


@contextmanager
def maker(folder: Path) -> Iterator[tuple[subprocess.Popen[str], IO[str]]]:
    """A process that begins to make a sandbox, and what it says."""
    made = subprocess.Popen(
        [sys.executable, "-c", MAKES_ONE, str(folder)],
        cwd=ROOT,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    with made:
        assert made.stdout is not None
        assert made.stdout.readline() == "begins\n"
        yield made, made.stdout
        made.kill()


def test_sandbox__its_maker_is_killed__ends(tmp_path: Path) -> None:
    with maker(tmp_path) as (process, says):
        cable = Path("/sys/class/net") / says.readline().strip()
        assert cable.exists()
        assert any(command.startswith("sleep 1000") for command in processes_of(tmp_path).values())
        process.kill()
    wait_until("what ran in it has ended", lambda: not processes_of(tmp_path))
    wait_until("its cable is gone", lambda: not cable.exists())


@pytest.mark.parametrize("seconds", [0.0, 0.1, 0.2, 0.3, 0.4])
def test_sandbox__its_maker_is_killed_while_it_begins__ends(tmp_path: Path, seconds: float) -> None:
    with maker(tmp_path) as (process, _):
        time.sleep(seconds)
        process.kill()
    wait_until("nothing of it runs", lambda: not processes_of(tmp_path))
    assert str(tmp_path) not in Path("/proc/self/mountinfo").read_text()
