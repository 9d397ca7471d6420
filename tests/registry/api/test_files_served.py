"""Files as the real web process hands them out, to the very script that fills a cluster's volume."""

from __future__ import annotations

import http.client
import json
import subprocess
import sys
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import pytest

from registry.api.files import AT_ONCE
from registry.domain.manifest import Manifest, verify_folder
from rollouts.adapters.clusters.kubernetes.filling.objects import FILL_VOLUME
from tests.standins.running import wait_until
from tests.standins.web_process import WebProcess

pytestmark = pytest.mark.e2e

SIZE = 64 << 20  # far more than what sockets hold: whoever does not read keeps the rest here
REGISTER = f"""
import json, os
from datetime import UTC, datetime
from pathlib import Path
from django.conf import settings
from controlplane.kernel.clock import ManualClock
from registry.adapters.model_stores.memory import MemoryModelStore
from registry.services.file_door import grant_files
from registry.services.manifests import register_manifest
from registry.services.mirror import mirror_models
from registry.models import Version
from tests.factories.weights import safetensors
now = datetime.now(UTC)
store = MemoryModelStore()
store.add_model("triage")
files = {{"model.safetensors": safetensors(), "sub/vocab.txt": os.urandom({SIZE // 2}).hex().encode()}}
store.add_version("triage", files)
mirror_models(store=store, clock=ManualClock(now))
version = register_manifest(
    version_id=Version.objects.get().pk, store=store, models_dir=Path(settings.RUN_DIR) / "models", now=now
)
manifest = version.manifest_value
assert manifest is not None, version.manifest_problem
print(json.dumps([manifest.to_json(), grant_files(manifest=manifest, seconds=3600, now=now)]))
"""


@dataclass(frozen=True)
class Served:
    web: WebProcess
    manifest: Manifest
    token: str

    def ask(self, path: str) -> tuple[http.client.HTTPConnection, http.client.HTTPResponse]:
        connection = http.client.HTTPConnection("127.0.0.1", self.web.port, timeout=30)
        address = f"/files/{self.manifest.folder_name}/{path}"
        connection.request("GET", address, headers={"Authorization": f"Bearer {self.token}"})
        return connection, connection.getresponse()


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    web = WebProcess(tmp_path_factory.mktemp("headgate"))
    web.migrate()
    entries, token = json.loads(web.run(REGISTER))
    web.start()
    yield Served(web, Manifest.from_json(entries), token)
    web.kill()


def test_script__asks_the_real_web_process__has_the_version(served: Served, tmp_path: Path) -> None:
    volume = tmp_path / "volume"
    volume.mkdir()
    (tmp_path / "manifest.json").write_text(json.dumps(served.manifest.to_json()))
    (tmp_path / "pass").write_text(served.token)
    folder = served.manifest.folder_name
    words = [f"{served.web.url}/files/{folder}", volume, folder]
    words += [tmp_path / "manifest.json", tmp_path / "pass", tmp_path / "report"]
    command = [sys.executable, "-I", "-c", FILL_VOLUME, *map(str, words)]
    assert subprocess.run(command, check=False, timeout=120, stdout=subprocess.DEVNULL).returncode == 0
    verify_folder(volume / folder, served.manifest)


def test_downloads__whose_other_side_is_gone__make_room_for_others(served: Served) -> None:
    stalled = [served.ask("sub/vocab.txt") for _ in range(AT_ONCE)]
    assert [answer.status for _, answer in stalled] == [200] * AT_ONCE
    more, refused = served.ask("model.safetensors")
    assert refused.status == 429
    more.close()
    for connection, answer in stalled:
        answer.close()
        connection.close()

    def let_in() -> bool:
        with suppress(OSError):
            connection, answer = served.ask("model.safetensors")
            answer.read()
            connection.close()
            return answer.status == 200
        return False

    wait_until("there is room again", let_in, 30)
