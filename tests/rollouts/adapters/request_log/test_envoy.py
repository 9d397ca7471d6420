"""The access log over rotations and restarts of the reader."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from rollouts.adapters.request_log.envoy import EnvoyRequestLog
from tests.rollouts.adapters.data_plane import EnvoyPlane, route
from tests.standins.running import wait_until


def entry(name: str, **changes: object) -> bytes:
    values = {
        "at": "1.5",
        "id": name,
        "cluster": "assigned/chat/v2",
        "variant": "v1",
        "status": 200,
        "route": "chat",
    }
    return json.dumps({**values, "details": "via_upstream", "flags": "-", **changes}).encode() + b"\n"


def test_find__grows_with_the_file__half_a_line_waits_for_its_rest(tmp_path: Path) -> None:
    log = EnvoyRequestLog(tmp_path)
    assert log.find(["a"]) == {}
    path = tmp_path / "access.jsonl"
    path.write_bytes(entry("a") + entry("b")[:20])
    assert set(log.find(["a", "b"])) == {"a"}
    with path.open("ab") as stream:
        stream.write(entry("b")[20:] + entry("c"))
    assert set(log.find(["a", "b", "c"])) == {"a", "b", "c"}
    log.close()


def test_find__file_rotated_meanwhile__misses_nothing(tmp_path: Path) -> None:
    log = EnvoyRequestLog(tmp_path)
    path = tmp_path / "access.jsonl"
    path.write_bytes(entry("a"))
    assert set(log.find(["a"])) == {"a"}
    with path.open("ab") as stream:
        stream.write(entry("b"))
    path.rename(tmp_path / "access.jsonl.1")
    assert set(log.find(["b"])) == {"b"}
    path.write_bytes(entry("c"))
    assert set(log.find(["a", "b", "c"])) == {"a", "b", "c"}
    log.close()


def test_find__new_reader__knows_both_files(tmp_path: Path) -> None:
    (tmp_path / "access.jsonl.1").write_bytes(entry("a"))
    (tmp_path / "access.jsonl").write_bytes(entry("b"))
    log = EnvoyRequestLog(tmp_path)
    assert set(log.find(["a", "b"])) == {"a", "b"}
    log.close()


def test_find__more_than_may_be_remembered__forgets_the_oldest(tmp_path: Path) -> None:
    (tmp_path / "access.jsonl").write_bytes(b"".join(entry(str(n)) for n in range(10)))
    log = EnvoyRequestLog(tmp_path, indexed=3)
    assert set(log.find([str(n) for n in range(10)])) == {"7", "8", "9"}
    log.close()


@pytest.mark.parametrize(
    ("changes", "found"),
    [
        ({}, True),
        ({"status": 400}, True),
        ({"status": 500}, True),
        ({"route": "chat/other"}, False),
        ({"route": "chat/other", "cluster": "answer/chat/v1"}, False),
        ({"cluster": "answer/chat/v1"}, True),
        ({"flags": "DC", "details": "downstream_remote_disconnect"}, True),
        ({"status": 0, "flags": "DC", "details": "downstream_remote_disconnect"}, False),
        ({"status": 503, "flags": "UF", "details": "upstream_reset_before_response_started"}, False),
        ({"variant": None, "cluster": None, "status": 404, "details": "direct_response"}, False),
    ],
)
def test_find__one_kind_of_line__is_an_answered_inference_or_not(
    tmp_path: Path, changes: dict[str, object], found: bool
) -> None:
    (tmp_path / "access.jsonl").write_bytes(b"cut off by a kill\n" + entry("a", **changes))
    log = EnvoyRequestLog(tmp_path)
    assert ("a" in log.find(["a"])) is found
    log.close()


def test_find__line_of_before_an_upgrade__names_no_route_and_is_an_inference(tmp_path: Path) -> None:
    line = json.loads(entry("a"))
    del line["route"]
    (tmp_path / "access.jsonl").write_text(json.dumps(line) + "\n")
    log = EnvoyRequestLog(tmp_path)
    assert set(log.find(["a"])) == {"a"}
    log.close()


@pytest.mark.needs("envoy")
def test_rotate__log_too_long__envoy_goes_on_in_a_new_one_and_nothing_is_forgotten(
    envoy: EnvoyPlane, endpoint: str
) -> None:
    envoy.router.apply(route(envoy, endpoint, 5000), token=1)
    path = envoy.router.paths.access_log
    reader = EnvoyRequestLog(envoy.run_dir, rotate_bytes=1000)
    first = [s.request_id for s in envoy.send(endpoint, 10)]
    wait_until("the first are logged", lambda: len(reader.find(first)) == 10)
    assert reader.rotate() is True
    second = [s.request_id for s in envoy.send(endpoint, 10)]
    wait_until("the second are logged", lambda: len(reader.find(second)) == 10)
    assert first[0] in path.with_name(path.name + ".1").read_text()
    assert first[0] not in path.read_text()
    fresh = EnvoyRequestLog(envoy.run_dir)
    assert len(fresh.find(first + second)) == 20
    reader.close()
    fresh.close()


@pytest.mark.needs("envoy")
def test_rotate__short_log__stays(envoy: EnvoyPlane) -> None:
    assert envoy.request_log.rotate() is False
