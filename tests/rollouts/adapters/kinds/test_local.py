"""A cluster of the kind `local` as it is written down: what is refused, what is made of it, what two must not share."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pytest

from controlplane.kernel.clock import SystemClock
from controlplane.kernel.errors import Unavailable
from controlplane.sealing.keys import KeyRing
from rollouts.adapters.kinds import KINDS, Installation
from rollouts.adapters.kinds.local import LOCAL
from rollouts.adapters.request_log.otlp.file_store import FileAnswers
from rollouts.domain.clusters import ClusterSpec

SOUND: dict[str, Any] = {"run_dir": "/srv/paris", "gateway_port": 8700, "engine_ports": "18200-18299"}


def installation(run_dir: Path) -> Installation:
    return Installation(
        run_dir=run_dir,
        envoy_dir=run_dir / "envoy",
        supervisor_socket=run_dir / "supervisor.sock",
        gateway_port=8600,
        gateway_url="https://models.example",
        engine_ports=range(18_100, 18_200),
        engine_python=Path("/usr/bin/python3"),
        engine_user="",
        secrets_dir=run_dir / "secrets",
        models_dir=run_dir / "models",
        engine_memory_mb=3_200,
        engine_memory_limit_mb=0,
        cors_origins=(),
        keys=lambda: KeyRing(()),
        clock=SystemClock(),
        answers=lambda: FileAnswers(run_dir / "answered", SystemClock()),
        grant_files=lambda manifest, seconds: f"a pass for {manifest.folder_name}",
        wake=lambda: None,
    )


def wrong_with(configuration: Any, *, secret: str = "") -> list[str]:
    return [one.field for one in LOCAL.problems(ClusterSpec("paris", "local", configuration, secret))]


def test_kinds__every_one__is_listed_under_its_own_name() -> None:
    assert {name: kind.name for name, kind in KINDS.items()} == {name: name for name in KINDS}


@pytest.mark.parametrize("configuration", [{}, SOUND, {**SOUND, "gateway_url": "https://paris.example/"}])
def test_problems__sound_configuration__none(configuration: Any) -> None:
    assert wrong_with(configuration) == []


@pytest.mark.parametrize(
    ("change", "field"),
    [
        ({"run_dir": "srv/paris"}, "run_dir"),
        ({"run_dir": "/srv/my paris"}, "run_dir"),
        ({"run_dir": "/srv/../etc"}, "run_dir"),
        ({"run_dir": 7}, "run_dir"),
        ({"run_dir": "//srv/paris"}, "run_dir"),  # the same folder under another name
        ({"run_dir": "/srv/paris\x00"}, "run_dir"),
        ({"run_dir": "/srv/\x1bparis"}, "run_dir"),
        ({"run_dir": "/srv/\u202eparis"}, "run_dir"),
        ({"run_dir": "/srv/\ud800"}, "run_dir"),
        ({"run_dir": "/srv/[ab]"}, "run_dir"),  # to supervisord the folders /srv/a and /srv/b
        ({"run_dir": "/srv/*"}, "run_dir"),
        ({"run_dir": "/srv/" + "x/" * 600, "supervisor_socket": "/srv/s", "envoy_dir": "/srv/e"}, "run_dir"),
        ({"supervisor_socket": "/" + "x" * 100}, "supervisor_socket"),
        ({"envoy_dir": "/" + "x" * 100}, "envoy_dir"),
        ({"gateway_port": 0}, "gateway_port"),
        ({"gateway_port": 65_536}, "gateway_port"),
        ({"gateway_port": True}, "gateway_port"),
        ({"gateway_port": "8700"}, "gateway_port"),
        ({"gateway_port": 18_250}, "gateway_port"),
        ({"gateway_url": "paris.example"}, "gateway_url"),
        ({"gateway_url": "https://user:pw@paris.example"}, "gateway_url"),
        ({"gateway_url": "https://:pw@paris.example"}, "gateway_url"),
        ({"gateway_url": "https://paris.example\nX: y"}, "gateway_url"),
        ({"gateway_url": "https://p\u0430ris.example"}, "gateway_url"),  # a Cyrillic letter
        ({"gateway_url": "https://paris.example/" + "x" * 1_000}, "gateway_url"),
        ({"gateway_url": "https://paris.example:port"}, "gateway_url"),
        ({"engine_ports": "18299-18200"}, "engine_ports"),
        ({"engine_ports": "18200"}, "engine_ports"),
        ({"engine_ports": "18200-99999"}, "engine_ports"),
        ({"engine_memory_mb": 0}, "engine_memory_mb"),
        ({"engine_memory_limit_mb": -1}, "engine_memory_limit_mb"),
        ({"engine_python": "/bin/sh"}, "engine_python"),  # what is run is the operator's word alone
        ({"secrets_dir": "/etc"}, "secrets_dir"),
    ],
)
def test_problems__one_wrong_value__names_its_field(change: dict[str, Any], field: str) -> None:
    assert wrong_with({**SOUND, **change}) == [f"configuration.{field}"]


def test_problems__several_mistakes__are_all_named() -> None:
    found = wrong_with({"run_dir": "srv", "colour": "red"}, secret="token")
    assert found == [
        "configuration.colour", "configuration.run_dir", "configuration.gateway_port",
        "configuration.engine_ports", "secret",
    ]  # fmt: skip


@pytest.mark.parametrize("configuration", [[], [1], "x", None, 7])
def test_problems__no_object__is_said_first(configuration: Any) -> None:
    assert wrong_with(configuration)[0] == "configuration"


def test_build__without_a_configuration__is_this_installation(tmp_path: Path) -> None:
    ports = LOCAL.build(ClusterSpec("local", "local"), installation(tmp_path))
    assert ports.endpoint_url("x") == "https://models.example/x"
    assert ports.edges["ttft"]
    assert (tmp_path / "engines").is_dir()


def test_build__with_a_configuration__is_in_its_own_folder(tmp_path: Path) -> None:
    place = tmp_path / "paris"
    place.mkdir(mode=0o700)
    spec = ClusterSpec("paris", "local", {**SOUND, "run_dir": str(place)})
    ports = LOCAL.build(spec, installation(tmp_path / "here"))
    assert ports.endpoint_url("x") == "http://127.0.0.1:8700/x"
    assert (place / "engines").is_dir()
    assert not (tmp_path / "here").exists()


def test_build__run_folder_that_nobody_made__says_what_to_do(tmp_path: Path) -> None:
    spec = ClusterSpec("paris", "local", {**SOUND, "run_dir": str(tmp_path / "paris")})
    with pytest.raises(Unavailable, match="does not exist") as caught:
        LOCAL.build(spec, installation(tmp_path))
    assert "mkdir" in caught.value.fix
    assert not (tmp_path / "paris").exists()


def test_build__run_folder_that_is_open_to_others__says_what_to_do(tmp_path: Path) -> None:
    place = tmp_path / "paris"
    place.mkdir(mode=0o700)
    place.chmod(0o750)
    spec = ClusterSpec("paris", "local", {**SOUND, "run_dir": str(place)})
    with pytest.raises(Unavailable, match="is open to others") as caught:
        LOCAL.build(spec, installation(tmp_path))
    assert caught.value.fix == f"chmod 700 {place}"
    place.chmod(0o710)  # as it is once an engine's user passes through
    assert LOCAL.build(spec, installation(tmp_path))


def test_occupies__two_places__share_nothing(tmp_path: Path) -> None:
    here = LOCAL.occupies(ClusterSpec("local", "local"), installation(tmp_path))
    there = LOCAL.occupies(ClusterSpec("paris", "local", SOUND), installation(tmp_path))
    assert not frozenset().union(*here.values()) & frozenset().union(*there.values())


def test_occupies__port_of_another_ones_engines__is_shared(tmp_path: Path) -> None:
    here = LOCAL.occupies(ClusterSpec("local", "local"), installation(tmp_path))
    spec = ClusterSpec("paris", "local", {**SOUND, "gateway_port": 18_150})
    there = LOCAL.occupies(spec, installation(tmp_path))
    assert there["gateway_port"] <= here["engine_ports"]


def test_problems__name_that_no_answer_can_hold__is_shown_escaped_and_cut() -> None:
    (found,) = LOCAL.problems(ClusterSpec("paris", "local", {**SOUND, "\ud800" + "x" * 100_000: 1}))
    assert found.field.encode()
    assert len(found.field + found.message) < 300


@pytest.mark.parametrize("field", ["envoy_dir", "supervisor_socket"])
def test_build__folder_elsewhere_that_is_open_to_others__is_not_written_to(
    tmp_path: Path, field: str
) -> None:
    place, elsewhere = tmp_path / "paris", tmp_path / "elsewhere"
    place.mkdir(mode=0o700)
    elsewhere.mkdir()
    elsewhere.chmod(0o755)
    there = elsewhere if field == "envoy_dir" else elsewhere / "s"
    spec = ClusterSpec("paris", "local", {**SOUND, "run_dir": str(place), field: str(there)})
    for make in (LOCAL.build, LOCAL.prepare):
        with pytest.raises(Unavailable, match="is open to others"):
            make(spec, installation(tmp_path / "here"))
    assert not list(elsewhere.iterdir())
    elsewhere.chmod(0o700)
    assert LOCAL.build(spec, installation(tmp_path / "here"))


def test_occupies__same_folder_by_two_names__is_shared(tmp_path: Path) -> None:
    (tmp_path / "berlin").mkdir(mode=0o700)
    (tmp_path / "paris").symlink_to(tmp_path / "berlin")
    berlin, paris = (
        LOCAL.occupies(
            ClusterSpec(name, "local", {**SOUND, "run_dir": str(tmp_path / name)}), installation(tmp_path)
        )
        for name in ("berlin", "paris")
    )
    assert {field for field in paris if paris[field] & berlin[field]} >= {
        "run_dir",
        "envoy_dir",
        "supervisor_socket",
    }


def test_occupies__folder_that_cannot_be_seen__is_named_as_it_is_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def closed(path: Path) -> str:
        raise PermissionError(13, "Permission denied", str(path))

    monkeypatch.setattr(os.path, "realpath", closed)
    found = LOCAL.occupies(ClusterSpec("paris", "local", SOUND), installation(tmp_path))
    assert "the folder /srv/paris" in found["run_dir"]


def test_occupies__run_folder_among_another_ones_engines__is_shared(tmp_path: Path) -> None:
    here = LOCAL.occupies(ClusterSpec("local", "local"), installation(tmp_path))
    spec = ClusterSpec("paris", "local", {**SOUND, "run_dir": str(tmp_path / "engines")})
    assert LOCAL.occupies(spec, installation(tmp_path))["run_dir"] & here["run_dir"]
