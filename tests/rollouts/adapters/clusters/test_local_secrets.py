"""Secrets of engines on this machine: in the engine's environment, and in no file, command line or message."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from controlplane.sealing.keys import KeyRing, new_key
from rollouts.adapters.clusters.machine import all_pids
from rollouts.domain.engines import FailureReason
from rollouts.domain.secrets import SealedSecret, SecretFile
from tests.rollouts.adapters.clusters.machine_room import MachineRoom, until_failed, until_ready

pytestmark = pytest.mark.e2e

KEY = new_key()
VALUE, FROM_FILE, ALWAYS = "sentinel of the value", "sentinel of the file", "sentinel that is always set"
SENTINELS = (VALUE, FROM_FILE, ALWAYS, KEY)
VARIANT = "chat-v1-aaaa"
PRINTS = [
    sys.executable, "-c",
    "import os; print('RuntimeError:', dict(os.environ), '{port}', flush=True); exit(1)",
]  # fmt: skip
SECRET = {"kind": "secret", "help": "A secret."}


@pytest.fixture
def room() -> Iterator[MachineRoom]:
    made = MachineRoom(
        {
            "prints": {
                "argv": PRINTS,
                "variables": {"MODEL_LICENCE": SECRET},
                "environment": {"OTHER_TOKEN": "sentinel in engines.json"},
            },
            "always": {
                "argv": [
                    sys.executable, "-m", "tests.standins.engine", "--port", "{port}", "--model", "{folder}",
                    "--variant", "{variant}", "--served-model-name", "{endpoint}",
                ],
                "variables": {"MODEL_LICENCE": SECRET, "SECOND": SECRET},
                "environment": {"THIRD": {"secret": {"file": "third"}}},
            },
        }
    )  # fmt: skip
    folder = made.run_dir / "secrets"
    folder.mkdir(mode=0o700)
    for name, content in (("second", FROM_FILE), ("third", ALWAYS)):
        (folder / name).write_text(content)
        (folder / name).chmod(0o600)
    yield made
    made.close()


def sealed(value: str = VALUE) -> SealedSecret:
    return SealedSecret(KeyRing([KEY]).seal(value), "9f2c")


def holders(room: MachineRoom, text: str) -> list[str]:
    """Files of the run folder that hold the text."""
    files = [path for path in room.run_dir.rglob("*") if path.is_file()]
    return [str(path.relative_to(room.run_dir)) for path in files if text.encode() in path.read_bytes()]


def test_launch__secrets__are_in_the_engines_environment_and_nowhere_else(room: MachineRoom) -> None:
    cluster = room.cluster(keys=lambda: KeyRing([KEY]))
    environment = {"MODEL_LICENCE": sealed(), "SECOND": SecretFile("second")}
    cluster.ensure(room.spec(VARIANT, "always", environment=environment), token=1)
    until_ready(cluster)

    mark = f"HEADGATE_ENGINE={room.run_dir}/engines/{VARIANT}.json".encode()
    seen: list[dict[str, str]] = []
    lines = b""
    for pid in all_pids():
        try:
            variables = Path(f"/proc/{pid}/environ").read_bytes().split(b"\0")
            lines += Path(f"/proc/{pid}/cmdline").read_bytes()
        except OSError:
            continue
        if mark in variables:
            seen.append(dict(one.decode().split("=", 1) for one in variables if one))
    assert seen
    assert {name: seen[0][name] for name in ("MODEL_LICENCE", "SECOND", "THIRD")} == {
        "MODEL_LICENCE": VALUE,
        "SECOND": FROM_FILE,
        "THIRD": ALWAYS,
    }
    assert KEY not in str(seen)
    assert not any(text.encode() in lines for text in SENTINELS)

    assert holders(room, VALUE) == []
    assert holders(room, FROM_FILE) == ["secrets/second"]
    assert holders(room, ALWAYS) == ["secrets/third"]
    assert holders(room, KEY) == ["engines/.keys"]
    for name in (".keys", f"{VARIANT}.json"):
        assert (room.run_dir / "engines" / name).stat().st_mode & 0o077 == 0


def test_failure__engine_prints_its_environment__message_and_tail_do_not_show_it(room: MachineRoom) -> None:
    cluster = room.cluster(keys=lambda: KeyRing([KEY]))
    cluster.ensure(room.spec(VARIANT, "prints", environment={"MODEL_LICENCE": sealed()}), token=1)
    seen = until_failed(cluster)
    assert "[hidden]" in seen.message
    assert "sentinel" not in seen.message + "".join(cluster.log_tail(VARIANT))
    assert holders(room, VALUE) == [f"engines/{VARIANT}.log"]  # what an engine prints itself


def test_restart__file_went_away__fails_naming_it(room: MachineRoom) -> None:
    cluster = room.cluster(keys=lambda: KeyRing([KEY]))
    spec = room.spec(VARIANT, "always", environment={"SECOND": SecretFile("second")})
    cluster.ensure(spec, token=1)
    until_ready(cluster)
    (room.run_dir / "secrets" / "second").unlink()
    room.supervisor.stop(f"engine-{VARIANT}")
    seen = until_failed(cluster)
    assert seen.reason is FailureReason.NO_SECRET
    assert "'second'" in seen.message


def test_launch__record_of_an_earlier_version__is_read(room: MachineRoom) -> None:
    cluster = room.cluster()
    cluster.ensure(room.spec(VARIANT, environment={"OWN": "3"}), token=1)
    until_ready(cluster)
    path = room.run_dir / "engines" / f"{VARIANT}.json"
    record = json.loads(path.read_text())
    del record["secrets_dir"]
    path.write_text(json.dumps(record))
    room.supervisor.stop(f"engine-{VARIANT}")
    until_ready(cluster)
