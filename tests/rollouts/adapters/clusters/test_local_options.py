"""What engines of the local cluster really get, on a real supervisord: these words and variables, and nothing else."""

from __future__ import annotations

import json
import os
import signal
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from controlplane.kernel.errors import Unavailable
from rollouts.adapters.clusters.engines.template import OF_THE_MACHINE
from rollouts.adapters.clusters.launcher import KEEP_THE_MARK
from rollouts.adapters.clusters.local import LocalCluster
from rollouts.adapters.clusters.machine import processes_marked
from rollouts.domain.engines import FailureReason, WorkloadPhase
from tests.rollouts.adapters.addresses import port_of
from tests.rollouts.adapters.clusters.machine_room import (
    STANDINS,
    MachineRoom,
    pid_of,
    status,
    until_failed,
    until_ready,
)
from tests.standins.running import wait_until

pytestmark = pytest.mark.e2e  # a real supervisord and real processes

OF_THE_HOST = {
    "HEADGATE_TEST_SECRET": "hidden",
    "http_proxy": "http://127.0.0.1:9",
    "ALL_PROXY": "socks5://[::1]:9",
    "OWN_KEY": "k",
}
BY_SHELL = f"exec {sys.executable} -m tests.standins.engine --port {{port}} --variant {{variant}}"


@pytest.fixture(scope="module")
def room(tmp_path_factory: pytest.TempPathFactory) -> Iterator[MachineRoom]:
    behind_a_proxy = {
        **STANDINS,
        "environment": {"HTTPS_PROXY": "http://proxy.example:1"},
        "passed_on": ["OWN_KEY"],
    }
    program = tmp_path_factory.mktemp("host") / "program.sh"  # bash runs it first of all, when it is told to
    program.write_text(f"touch {program}.ran\n")
    of_the_host = {**OF_THE_HOST, "BASH_ENV": str(program)}
    os.environ.update(of_the_host)
    room = MachineRoom({"behind-a-proxy": behind_a_proxy, "by-shell": {"argv": ["bash", "-c", BY_SHELL]}})
    for name in of_the_host:
        del os.environ[name]
    yield room
    room.close()


def environment_of(room: MachineRoom, variant: str) -> dict[str, str]:
    text = Path(f"/proc/{pid_of(room, variant)}/environ").read_text()
    return dict(one.split("=", 1) for one in text.split("\0") if one)


def arguments_of(room: MachineRoom, variant: str) -> list[str]:
    return Path(f"/proc/{pid_of(room, variant)}/cmdline").read_text().split("\0")[:-1]


def test_engine__gets_these_words_and_these_variables_and_no_other(
    room: MachineRoom, cluster: LocalCluster, variant: str
) -> None:
    chosen = {"load_seconds": 0.25, "answers": "standin.json"}
    spec = room.spec(variant, arguments=chosen, environment={"OWN": "1"})
    cluster.ensure(spec, token=1)
    seen = until_ready(cluster, variant)
    endpoint = variant.split("-")[0]
    assert arguments_of(room, variant) == [
        sys.executable, "-m", "tests.standins.engine", "--port", str(port_of(seen)), "--model", str(room.folder(spec)),
        f"--answers={room.folder(spec)}/standin.json", "--load-seconds=0.25",
        "--variant", variant, "--served-model-name", endpoint,
    ]  # fmt: skip
    found = environment_of(room, variant)
    passed_on = {name: value for name, value in os.environ.items() if name in OF_THE_MACHINE}
    assert found == {
        "PATH": found["PATH"],
        "HOME": str(room.run_dir / "engine-home"),
        "TMPDIR": found["TMPDIR"],
        "LANG": "C.UTF-8",
        "PYTHONNOUSERSITE": "1",
        "OWN": "1",
        "HEADGATE_ENGINE": str(room.run_dir / "engines" / f"{variant}.json"),
        "HEADGATE_STACK": str(room.run_dir),
        **KEEP_THE_MARK,
        **passed_on,
    }
    assert found["PATH"].startswith(f"{Path(sys.executable).parent}:")
    outside = Path(f"/proc/{room.process.pid}/environ").read_bytes()
    assert b"HEADGATE_TEST_SECRET" in outside


def test_engine__operator_names_a_proxy_and_a_key__gets_these_two(
    room: MachineRoom, cluster: LocalCluster, variant: str
) -> None:
    cluster.ensure(room.spec(variant, engine="behind-a-proxy"), token=1)
    until_ready(cluster, variant)
    assert b"http_proxy=" in Path(f"/proc/{room.process.pid}/environ").read_bytes()
    found = environment_of(room, variant)
    assert {name: value for name, value in found.items() if "proxy" in name.lower()} == {
        "HTTPS_PROXY": "http://proxy.example:1"
    }
    assert found["OWN_KEY"] == "k"


def test_engine__program_in_a_variable_of_the_host__does_not_run(
    room: MachineRoom, cluster: LocalCluster, variant: str
) -> None:
    cluster.ensure(room.spec(variant, engine="by-shell"), token=1)
    until_ready(cluster, variant)
    outside = Path(f"/proc/{room.process.pid}/environ").read_text().split("\0")
    (program,) = [one.partition("=")[2] for one in outside if one.startswith("BASH_ENV=")]
    assert Path(program).exists()
    assert not Path(f"{program}.ran").exists()


def test_launch__allowed_when_it_was_asked_for_and_no_more__fails_naming_the_option(
    room: MachineRoom, cluster: LocalCluster, variant: str
) -> None:
    cluster.ensure(room.spec(variant, arguments={"load-seconds": 0.1}), token=1)
    until_ready(cluster, variant)
    record = room.run_dir / "engines" / f"{variant}.json"
    launch = json.loads(record.read_text())
    launch["arguments"] = {"scheduler-cls": "evil.Scheduler"}  # as an earlier version of Headgate let it be
    record.write_text(json.dumps(launch))
    os.kill(pid_of(room, variant), signal.SIGKILL)
    seen = until_failed(cluster, variant)
    assert seen.reason is FailureReason.BAD_SPEC
    assert "'scheduler-cls'" in seen.message
    assert not processes_marked("HEADGATE_ENGINE", str(record))


def test_running_engine__declarations_broken_meanwhile__is_ready_and_kept_all_the_same(
    room: MachineRoom, cluster: LocalCluster, variant: str
) -> None:
    cluster.ensure(room.spec(variant), token=1)
    until_ready(cluster, variant)
    with broken_declarations(room):
        cluster.ensure(room.spec(variant), token=1)
        assert status(cluster, variant).is_ready  # type: ignore[union-attr]
        with pytest.raises(Unavailable, match=r"engines\.json"):
            cluster.ensure(room.spec("other-v1-cccc"), token=1)


def test_engine_crashes__declarations_cannot_be_read__starts_again_once_they_are_mended(
    room: MachineRoom, cluster: LocalCluster, variant: str
) -> None:
    cluster.ensure(room.spec(variant), token=1)
    until_ready(cluster, variant)
    with broken_declarations(room):
        os.kill(pid_of(room, variant), signal.SIGKILL)
        wait_until("it waits", lambda: "waits: engines.json" in " ".join(cluster.log_tail(variant)))
        seen = status(cluster, variant)
        assert seen is not None
        assert seen.phase is WorkloadPhase.UNREADY
    until_ready(cluster, variant)


@contextmanager
def broken_declarations(room: MachineRoom) -> Iterator[None]:
    declarations = room.run_dir / "engines.json"
    before = declarations.read_text()
    declarations.write_text("{")
    try:
        yield
    finally:
        declarations.write_text(before)
