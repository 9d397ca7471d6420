"""From rows of clusters to worlds: a row that cannot be used is one cluster's trouble, a changed row is noticed."""

from __future__ import annotations

import subprocess
import sys
import threading
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from django.core.management import CommandError, call_command
from django.db import connection
from django.test.utils import CaptureQueriesContext

from controlplane.kernel.errors import Unavailable
from rollouts import wiring
from rollouts.adapters.kinds import KINDS
from rollouts.domain.clusters import ClusterSpec
from rollouts.models import Cluster
from rollouts.ports import ClusterPorts
from tests import factories
from tests.standins.running import ROOT

pytestmark = pytest.mark.django_db


def configuration(folder: Path, **changes: Any) -> dict[str, Any]:
    folder.mkdir(mode=0o700, exist_ok=True)
    return {"run_dir": str(folder), "gateway_port": 8_700, "engine_ports": "18200-18299", **changes}


def make(name: str, **values: Any) -> Cluster:
    return Cluster.objects.create(**{"name": name, "kind": "local", **values})


def test_worlds__of_every_row__in_one_query(tmp_path: Path) -> None:
    make("paris", configuration=configuration(tmp_path / "p"))
    with CaptureQueriesContext(connection) as asked:
        found = wiring.worlds()
        assert found.names == ("local", "paris")
        assert found.of("paris").endpoint_url("x") == "http://127.0.0.1:8700/x"
        assert found.of("local").name == "local"
    assert len(asked) == 1


@pytest.mark.parametrize(
    ("values", "words"),
    [
        ({"kind": "moonbase"}, "kind: There is no kind of clusters 'moonbase'"),
        ({"configuration": {"run_dir": 7}}, "configuration.run_dir: run_dir is missing or no text"),
        ({"configuration": ["odd"]}, "configuration: The configuration is not an object"),
        ({"secret": "token"}, "secret: This machine asks for no secret"),
        (
            {"configuration": {"run_dir": "/nonexistent/x", "gateway_port": 1, "engine_ports": "2-3"}},
            "The run folder /nonexistent/x does not exist",
        ),
    ],
)
def test_of__row_that_cannot_be_used__says_which_cluster_and_why(values: dict[str, Any], words: str) -> None:
    make("paris", **values)
    found = wiring.worlds()
    with pytest.raises(Unavailable) as caught:
        found.of("paris")
    assert caught.value.message.startswith("The cluster paris cannot be used. ")
    assert words in caught.value.message
    assert caught.value.fix
    assert found.of("local").name == "local"
    edges = found.edges()
    assert edges is not None
    assert edges["ttft"] == found.of("local").edges["ttft"]


def test_of__same_row_again__is_made_once(tmp_path: Path) -> None:
    row = make("paris", configuration=configuration(tmp_path / "p"))
    first = wiring.worlds().of("paris")
    row.save()
    assert wiring.worlds().of("paris").router is first.router


def test_of__row_that_was_changed__ends_what_went_on_behind_the_old_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its watches would ask the cluster for ever."""
    ended: list[str] = []
    built = KINDS["local"].build

    def build(spec: ClusterSpec, here: Any) -> ClusterPorts:
        port = str(spec.configuration["gateway_port"])
        return replace(built(spec, here), close=lambda: ended.append(port))

    monkeypatch.setattr(wiring, "KINDS", {**KINDS, "local": replace(KINDS["local"], build=build)})
    row = make("paris", configuration=configuration(tmp_path / "p"))
    wiring.worlds().of("paris")
    assert ended == []
    row.configuration = configuration(tmp_path / "p", gateway_port=8_701)
    row.save()
    wiring.worlds().of("paris")
    assert ended == ["8700"]


def test_of__row_that_was_changed__is_made_anew_without_a_restart(tmp_path: Path) -> None:
    row = make("paris", kind="moonbase", configuration=configuration(tmp_path / "p"))
    with pytest.raises(Unavailable):
        wiring.worlds().of("paris")
    row.kind = "local"
    row.save()
    first = wiring.worlds().of("paris")
    row.configuration = configuration(tmp_path / "p", gateway_url="https://paris.example")
    row.save()
    second = wiring.worlds().of("paris")
    assert first.endpoint_url("x") == "http://127.0.0.1:8700/x"
    assert second.endpoint_url("x") == "https://paris.example/x"


def test_problems__what_another_cluster_uses__is_named_with_its_field(tmp_path: Path) -> None:
    make("paris", configuration=configuration(tmp_path / "p"))
    other = configuration(tmp_path / "q", engine_ports="18250-18350")
    found = wiring.cluster_problems(ClusterSpec("berlin", "local", other))
    assert [one.field for one in found] == ["configuration.gateway_port", "configuration.engine_ports"]
    assert "The cluster paris uses port 8700 already." in found[0].message


def test_problems__place_of_a_cluster_with_endpoints__stays(tmp_path: Path) -> None:
    row = factories.endpoint().cluster
    row.configuration = configuration(tmp_path / "p")
    row.save()
    assert not wiring.cluster_problems(
        ClusterSpec(row.name, "local", {**row.configuration, "gateway_url": "https://new.example"})
    )
    moved = wiring.cluster_problems(ClusterSpec(row.name, "local", configuration(tmp_path / "elsewhere")))
    assert "configuration.run_dir" in [one.field for one in moved]


def test_problems__unusable_cluster_with_endpoints__can_be_mended(tmp_path: Path) -> None:
    row = factories.endpoint().cluster
    Cluster.objects.filter(pk=row.pk).update(kind="moonbase")
    spec = ClusterSpec(row.name, "local", configuration(tmp_path / "p"))
    assert not wiring.cluster_problems(spec)


@pytest.mark.parametrize(
    ("change", "field"),
    [({"gateway_port": 8_500}, "gateway_port"), ({"engine_ports": "5400-5600"}, "engine_ports")],
)
def test_problems__port_of_headgates_own_programs__is_named(
    tmp_path: Path, settings: Any, change: dict[str, Any], field: str
) -> None:
    settings.HEADGATE = replace(settings.HEADGATE, web_port=8_500, mlflow_url="http://127.0.0.1:5500")
    (found,) = wiring.cluster_problems(
        ClusterSpec("berlin", "local", configuration(tmp_path / "p", **change))
    )
    assert found.field == f"configuration.{field}"
    assert "already" in found.message


def test_problems__folder_of_another_cluster_by_a_link__is_named(tmp_path: Path) -> None:
    make("paris", configuration=configuration(tmp_path / "p"))
    (tmp_path / "q").symlink_to(tmp_path / "p")
    other = configuration(tmp_path / "q", gateway_port=8_701, engine_ports="18300-18399")
    found = wiring.cluster_problems(ClusterSpec("berlin", "local", other))
    assert "configuration.run_dir" in [one.field for one in found]


# --- one cluster's trouble ------------------------------------------------------------------------------------------


def test_of__kind_that_fails__is_that_clusters_trouble(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def build(*_: Any) -> ClusterPorts:
        raise KeyError("oops")

    monkeypatch.setattr(wiring, "KINDS", {**KINDS, "odd": replace(KINDS["local"], name="odd", build=build)})
    make("paris", kind="odd", configuration=configuration(tmp_path / "p"))
    found = wiring.worlds()
    with pytest.raises(Unavailable, match="Its kind odd failed: KeyError"):
        found.of("paris")
    assert found.edges() == found.of("local").edges


def test_of__row_with_half_a_character__is_that_clusters_trouble(tmp_path: Path) -> None:
    spec = ClusterSpec("paris", "local", configuration(tmp_path / "p", gateway_url="https://\ud800"))
    with pytest.raises(Unavailable, match="cluster paris cannot be used"):
        wiring._world({"paris": spec}, "paris")


def test_of__cluster_whose_folder_hangs__keeps_no_other_waiting(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    hangs, entered = threading.Event(), threading.Event()

    def build(*_: Any) -> ClusterPorts:
        entered.set()
        hangs.wait(10)
        raise Unavailable("It hung.")

    monkeypatch.setattr(wiring, "KINDS", {**KINDS, "slow": replace(KINDS["local"], name="slow", build=build)})
    specs = {"paris": ClusterSpec("paris", "slow", configuration(tmp_path / "p"))}
    specs["local"] = ClusterSpec("local", "local")
    with ThreadPoolExecutor(2) as pool:
        waiting = pool.submit(wiring._world, specs, "paris")
        assert entered.wait(5)
        other = pool.submit(wiring._world, specs, "local")
        try:
            assert other.result(5).name == "local"
        finally:
            hangs.set()
        assert isinstance(waiting.exception(), Unavailable)


# --- what the operator runs -------------------------------------------------------------------------------------------


def test_prepare_cluster__unknown_or_unusable__says_so() -> None:
    make("paris", kind="moonbase")
    with pytest.raises(CommandError, match="There is no cluster 'rome'"):
        call_command("prepare_cluster", "rome")
    with pytest.raises(CommandError, match="The cluster paris cannot be used"):
        call_command("prepare_cluster", "paris")


def test_prepare_cluster__this_installations_own__is_what_make_up_starts(capsys: Any) -> None:
    call_command("prepare_cluster", "local")
    assert "make up" in capsys.readouterr().out


def test_process__of_an_installation_on_one_machine__does_not_read_the_client_of_kubernetes() -> None:
    """It would take a second of every start, and 18 MB of every process."""
    said = (
        "import django; django.setup();"
        "from django.core.management import call_command; call_command('check');"
        "from rollouts.adapters.kinds import KINDS; KINDS['local'];"
        "import sys; print('kubernetes' in sys.modules)"
    )
    ended = subprocess.run([sys.executable, "-c", said], cwd=ROOT, capture_output=True, text=True, check=True)
    assert ended.stdout.split()[-1] == "False"
