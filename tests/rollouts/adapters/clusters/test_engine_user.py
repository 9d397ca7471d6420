"""Engines as a user without rights, where Headgate runs as root: who it is, and how far it comes."""

from __future__ import annotations

import json
import os
import pwd
import shutil
import signal
import socket
import stat
import tempfile
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from controlplane.kernel.errors import Refused
from rollouts.adapters.clusters.engine_user import (
    DEFAULT_USER,
    ENGINE_HOME,
    close_run_dir,
    engine_user,
    make_places,
    open_to,
    remove_temporary,
    temporary_of,
)
from rollouts.adapters.clusters.local import LocalCluster
from rollouts.domain.engines import FailureReason
from tests.rollouts.adapters.clusters.machine_room import (
    ROOT,
    MachineRoom,
    children_of,
    first_process,
    land,
    until_failed,
    until_ready,
)
from tests.standins.running import wait_until

PYTHON = "/usr/bin/python3"  # one that every user may run; the tests' own may lie in root's home
NOBODY = "nobody"
VARIANT = "chat-v1-aaaa"

as_root = pytest.mark.needs("root")


def mode(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


# --- who it is ----------------------------------------------------------------------------------------------


@as_root
def test_engine_user__one_that_does_not_exist__is_refused_with_the_command_that_makes_it() -> None:
    with pytest.raises(Refused, match="HEADGATE_ENGINE_USER is no-such-user") as caught:
        engine_user("no-such-user")
    assert caught.value.fix.endswith(
        "useradd --system --user-group --no-create-home --shell /usr/sbin/nologin no-such-user"
    )


@as_root
def test_engine_user__nothing_set__is_the_one_of_that_name_if_there_is_one() -> None:
    try:
        expected = pwd.getpwnam(DEFAULT_USER).pw_uid
    except KeyError:
        assert engine_user("") is None
    else:
        found = engine_user("")
        assert found is not None
        assert found.uid == expected


@as_root
def test_engine_user__root__means_as_root() -> None:
    assert engine_user("root") is None


@as_root
def test_engine_user__in_the_group_of_root__is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "getgrouplist", lambda name, group: [group, 0])
    with pytest.raises(Refused, match="nobody is in the group root"):
        engine_user(NOBODY)


def test_engine_user__another_than_this_one__is_refused_without_root(monkeypatch: pytest.MonkeyPatch) -> None:
    nobody = pwd.getpwnam(NOBODY).pw_uid
    monkeypatch.setattr(os, "geteuid", lambda: nobody)
    assert engine_user("") is None
    assert engine_user(NOBODY) is None
    with pytest.raises(Refused, match="only root"):
        engine_user("root")


# --- what is open and what is closed ------------------------------------------------------------------------


def test_close_run_dir__what_lies_in_it_is_for_the_owner_only(tmp_path: Path) -> None:
    (tmp_path / "log").mkdir()
    (tmp_path / "database").write_text("")
    (tmp_path / "elsewhere").symlink_to("/")
    for path in (tmp_path, tmp_path / "log", tmp_path / "database"):
        path.chmod(0o777)
    before = mode(Path("/"))
    close_run_dir(tmp_path, None)
    assert [mode(tmp_path / name) for name in ("", "log", "database")] == [0o700] * 3
    assert mode(Path("/")) == before, "a link is not followed"


@as_root
def test_close_run_dir__way_of_the_engines_user__stays_open_for_engines_that_run(tmp_path: Path) -> None:
    user = engine_user(NOBODY)
    assert user is not None
    folder = tmp_path / "models" / "abc"
    folder.mkdir(parents=True)
    open_to(user, folder, tmp_path)
    (tmp_path / "log").mkdir(mode=0o755)
    (tmp_path / "database").touch(mode=0o644)
    os.chown(tmp_path / "database", 0, user.gid)
    close_run_dir(tmp_path, user)
    modes = [mode(tmp_path / name) for name in ("", "models", "log", "database")]
    assert modes == [0o710, 0o710, 0o700, 0o600]


@as_root
def test_open_to__version_is_readable_and_writable_for_nobody(tmp_path: Path) -> None:
    user = engine_user(NOBODY)
    assert user is not None
    folder = tmp_path / "models" / "abc"
    (folder / "inner").mkdir(parents=True)
    for path in (folder / "weights", folder / "inner" / "config"):
        path.write_text("x")
        os.chown(path, user.uid, user.gid)
        path.chmod(0o666)
    (folder / "inner").chmod(0o700)
    open_to(user, folder, tmp_path)
    assert (mode(tmp_path), mode(tmp_path / "models")) == (0o710, 0o710)
    assert (tmp_path / "models").stat().st_gid == user.gid
    assert (mode(folder / "inner"), mode(folder / "inner" / "config")) == (0o755, 0o644)
    assert (folder / "weights").stat().st_uid == 0


def test_places__home_keeps_what_is_cached__temporary_folder_is_new_at_each_launch(tmp_path: Path) -> None:
    places = make_places(None, tmp_path, VARIANT)
    home, temporary = (Path(places[name]) for name in ("HOME", "TMPDIR"))
    try:
        assert (mode(home), mode(temporary)) == (0o700, 0o700)
        assert len(str(temporary)) < 50, "there is room for the name of a socket"
        (home / "cache").write_text("kept")
        (temporary / "left").write_text("")
        assert make_places(None, tmp_path, VARIANT) == places
        assert (home / "cache").exists()
        assert list(temporary.iterdir()) == []
        other = make_places(None, tmp_path, "chat-v2-bbbb")
        assert other["TMPDIR"] != places["TMPDIR"]
    finally:
        remove_temporary(tmp_path, VARIANT)
        remove_temporary(tmp_path, "chat-v2-bbbb")
    assert not temporary.exists()


@as_root
def test_places__user_has_changed__home_is_made_anew(tmp_path: Path) -> None:
    home = Path(make_places(None, tmp_path, VARIANT)["HOME"])
    (home / "cache").write_text("of root")
    user = engine_user(NOBODY)
    assert user is not None
    try:
        make_places(user, tmp_path, VARIANT)
        assert home.stat().st_uid == user.uid
        assert list(home.iterdir()) == []
    finally:
        remove_temporary(tmp_path, VARIANT)


def test_places__somebody_holds_the_name__is_an_error_and_touches_nothing(tmp_path: Path) -> None:
    target = tmp_path / "target"
    target.mkdir()
    (target / "kept").write_text("")
    temporary = temporary_of(tmp_path, VARIANT)
    temporary.symlink_to(target)
    try:
        with pytest.raises(FileExistsError):
            make_places(None, tmp_path, VARIANT)
        remove_temporary(tmp_path, VARIANT)
        assert (target / "kept").exists()
    finally:
        temporary.unlink()


# --- how far an engine comes --------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def public() -> Iterator[Path]:
    """A folder that every user may read, with the stand-in."""
    folder = Path(tempfile.mkdtemp(prefix="hg-public-", dir="/tmp"))
    folder.chmod(0o755)
    shutil.copy(ROOT / "tests" / "standins" / "trespasser.py", folder)
    (folder / "trespasser.py").chmod(0o644)
    yield folder
    shutil.rmtree(folder)


@pytest.fixture(scope="module")
def room(public: Path) -> Iterator[MachineRoom]:
    closed = public / "closed"
    closed.mkdir(mode=0o700)
    (closed / "engine").symlink_to(PYTHON)
    names = ["--port", "{port}", "--variant", "{variant}", "--endpoint", "{endpoint}", "--model", "{folder}"]
    argv = [PYTHON, "-I", str(public / "trespasser.py"), *names]
    engines = {"trespasser": {"argv": argv}, "closed": {"argv": [str(closed / "engine"), *argv[1:]]}}
    room = MachineRoom(engines)
    yield room
    room.close()


@pytest.fixture
def cluster(room: MachineRoom) -> Iterator[LocalCluster]:
    cluster = room.cluster(engine_user=NOBODY, drain_seconds=0.0)
    yield cluster
    for variant in cluster.statuses():
        cluster.drain(variant, variant.split("-")[0], token=1_000)
    wait_until("all workloads are gone", lambda: not cluster.statuses(), 60)


@pytest.fixture
def secrets(room: MachineRoom, variant: str) -> Iterator[dict[str, list[Any]]]:
    """What lies in a run folder, with the worst rights it could have; and targets among it."""
    run = room.run_dir
    for name in ("envoy", "log", "models"):
        (run / name).mkdir()
        (run / name).chmod(0o777)
    files = [
        run / "headgate.sqlite3",
        run / "secret-key",
        run / "envoy" / "lds.yaml",
        run / "log" / "web.log",
    ]
    for path in files:
        path.write_text("secret")
        path.chmod(0o666)
    known = [run / "supervisord.conf", run / "engines.json", run / "engines" / f"{variant}.json"]
    folder = run / "versions" / variant
    sockets = []
    for path in (run / "envoy" / "admin.sock", run / "control.sock"):
        one = socket.socket(socket.AF_UNIX)
        one.bind(str(path))
        path.chmod(0o777)
        one.listen()
        sockets.append(one)
    yield {
        "read": [str(path) for path in [*files, *known, folder / "model.safetensors"]],
        "write": [
            str(path / "new")
            for path in (
                run,
                run / "engines",
                run / "models",
                run / "versions",
                folder,
                run / "log",
            )
        ]
        + [str(path) for path in [*files, folder / "model.safetensors"]],
        "list": [str(path) for path in (run, run / "engines", run / "models", run / "versions", folder)],
        "open_up": [str(folder), str(folder / "model.safetensors"), str(run)],
        "connect": [str(run / name) for name in ("supervisor.sock", "envoy/admin.sock", "control.sock")],
        "signal": [room.process.pid],
        "peep": [room.process.pid],
        "become": [0],
    }
    for one in sockets:
        one.close()


@pytest.mark.e2e
@pytest.mark.needs("root", "python3")
def test_engine__as_nobody__reads_its_version_and_writes_what_is_its_own_and_that_is_all(
    room: MachineRoom, cluster: LocalCluster, variant: str, secrets: dict[str, list[Any]]
) -> None:
    spec = room.spec(variant, engine="trespasser", behaviour=secrets)
    cluster.ensure(spec, token=1)
    until_ready(cluster, variant)
    report = json.loads((room.run_dir / ENGINE_HOME / "report.json").read_text())
    nobody = pwd.getpwnam(NOBODY)
    assert report == {
        "read": [str(room.run_dir / "versions" / variant / "model.safetensors")],
        "list": [str(room.run_dir / "versions" / variant)],
        **{name: [] for name in ("write", "open_up", "connect", "signal", "peep", "become", "parent")},
        "uid": [nobody.pw_uid] * 3,
        "groups": os.getgrouplist(NOBODY, nobody.pw_gid),
        "own": ["HOME", "TMPDIR"],
    }
    assert "as nobody, at most" in "\n".join(cluster.log_tail(variant, 100))


@pytest.mark.e2e
@pytest.mark.needs("root", "python3")
def test_engine__as_nobody__killed__is_started_again_as_nobody_and_its_temporary_folder_goes_with_it(
    room: MachineRoom, cluster: LocalCluster, variant: str
) -> None:
    cluster.ensure(room.spec(variant, engine="trespasser"), token=1)
    before = until_ready(cluster, variant)
    name = f"engine-{variant}"
    os.kill(first_process(room.supervisor.programs()[name].pid), signal.SIGKILL)
    wait_until("it is not ready", lambda: not cluster.statuses()[variant].is_ready)
    assert until_ready(cluster, variant).started_at != before.started_at
    keeper = room.supervisor.programs()[name].pid
    (inner,) = children_of(keeper)
    owners = [Path(f"/proc/{pid}").stat().st_uid for pid in (keeper, inner, first_process(keeper))]
    assert owners == [0, 0, pwd.getpwnam(NOBODY).pw_uid]
    assert temporary_of(room.run_dir, variant).exists()
    cluster.drain(variant, variant.split("-")[0], token=1)
    wait_until("it is gone", lambda: variant not in cluster.statuses(), 60)
    assert not temporary_of(room.run_dir, variant).exists()


@pytest.mark.e2e
@pytest.mark.needs("root", "python3")
def test_launch__user_does_not_exist__fails_and_says_how_to_make_it(
    room: MachineRoom, cluster: LocalCluster, variant: str
) -> None:
    room.cluster(engine_user="no-such-user").ensure(room.spec(variant, engine="trespasser"), token=1)
    seen = until_failed(cluster, variant)
    assert seen.reason is FailureReason.NO_ENGINE
    assert "HEADGATE_ENGINE_USER is no-such-user, and this machine has no such user" in seen.message
    assert "useradd" in seen.message


@pytest.mark.e2e
@pytest.mark.needs("root", "python3")
def test_launch__program_that_the_user_may_not_run__fails_and_names_the_closed_folder(
    room: MachineRoom, cluster: LocalCluster, variant: str, public: Path
) -> None:
    cluster.ensure(room.spec(variant, engine="closed"), token=1)
    seen = until_failed(cluster, variant)
    assert seen.reason is FailureReason.NO_ENGINE
    assert f"nobody may not run {public}/closed/engine: {public}/closed is closed to it" in seen.message
    assert "HEADGATE_ENGINE_USER=root" in seen.message


@pytest.mark.e2e
@pytest.mark.needs("root", "python3")
@pytest.mark.parametrize(("rights", "words"), [(0o646, "nobody may change"), (0o600, "nobody may not read")])
def test_launch__files_elsewhere_with_wrong_rights__fails_and_names_the_file(
    room: MachineRoom, variant: str, public: Path, rights: int, words: str
) -> None:
    files = public / f"version-{rights:o}"
    files.mkdir()
    (files / "model.safetensors").write_bytes(b"weights")
    (files / "model.safetensors").chmod(rights)
    manifest = land(files, public)
    folder = public / manifest.folder_name
    cluster = room.cluster(engine_user=NOBODY, models_dir=public)
    cluster.ensure(replace(room.spec(variant, engine="trespasser"), manifest=manifest), token=1)
    seen = until_failed(cluster, variant)
    assert seen.reason is FailureReason.BAD_MODEL
    assert f"{words} {folder}/model.safetensors" in seen.message


@pytest.mark.e2e
@pytest.mark.needs("root", "python3")
def test_launch__version_in_the_run_folder_of_another_cluster__is_opened_to_the_engines_user(
    room: MachineRoom, variant: str
) -> None:
    other = Path(tempfile.mkdtemp(prefix="hg-other-", dir="/tmp"))  # closed to others
    spec = room.spec(variant, engine="trespasser")
    shutil.copytree(room.folder(spec), other / "models" / spec.manifest.folder_name)
    cluster = room.cluster(
        engine_user=NOBODY, drain_seconds=0.0, models_dir=other / "models", versions_in=other
    )
    try:
        cluster.ensure(spec, token=1)
        until_ready(cluster, variant)
        assert [mode(path) for path in (other, other / "models")] == [0o710, 0o710]
    finally:
        cluster.drain(variant, variant.split("-")[0], token=1_000)
        wait_until("it is gone", lambda: variant not in cluster.statuses(), 60)
        shutil.rmtree(other)
