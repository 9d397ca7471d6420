"""The stack's configuration and what is checked before it starts. No process runs here."""

from __future__ import annotations

import configparser
import socket
from dataclasses import replace
from pathlib import Path

import pytest
from supervisor.options import ServerOptions

from controlplane.config.environment import Environment
from controlplane.kernel.errors import InvalidInput
from deploy.stack.begin import PROGRAM_MARK
from deploy.stack.preflight import problems
from deploy.stack.programs import (
    Program,
    configuration,
    prepare_run_dir,
    programs_of,
    settings_of,
    stack_environment,
    write_configuration,
)

pytestmark = pytest.mark.needs("envoy")


@pytest.fixture
def environment(tmp_path: Path) -> Environment:
    return Environment(
        run_dir=tmp_path, web_port=19410, gateway_port=19411, mlflow_url="http://127.0.0.1:19412"
    )


def parsed(environment: Environment) -> dict[str, dict[str, str]]:
    """The programs' variables, as supervisord itself reads the file."""
    prepare_run_dir(environment)
    options = ServerOptions()
    options.realize(["-c", str(write_configuration(environment)), "-n"])
    return {group.name: group.process_configs[0].environment for group in options.process_group_configs}


def test_configuration__defaults__holds_the_eight_programs_in_order(environment: Environment) -> None:
    assert [program.name for program in programs_of(environment)] == [
        "mlflow",
        "envoy",
        "web",
        "worker",
        "probes",
        "files",
        "errands",
        "beat",
    ]
    assert set(parsed(environment)) == {
        "mlflow", "envoy", "web", "worker", "probes", "files", "errands", "beat",
    }  # fmt: skip


def test_configuration__cluster_that_sends_its_requests__has_their_receiver(environment: Environment) -> None:
    senders = f"paris={'t' * 40},oslo={'u' * 40}"
    found = parsed(replace(environment, request_senders=senders))["receiver"]
    assert found["HEADGATE_REQUEST_SENDERS"] == senders


def test_configuration__includes_the_engines_and_restarts_what_ends(environment: Environment) -> None:
    read = configparser.RawConfigParser()
    read.read_string(configuration(environment, programs_of(environment)))
    assert read["include"]["files"] == f"{environment.run_dir}/engines/*.conf"
    for program in programs_of(environment):
        section = read[f"program:{program.name}"]
        assert (section["autorestart"], section["stopasgroup"], section["killasgroup"]) == ("true",) * 3
        assert section["stdout_logfile"] == f"{environment.run_dir}/log/{program.name}.log"


def test_configuration__changed_settings__reach_every_program(environment: Environment) -> None:
    awkward = "!@#$%^&*(-_=+) with \\ and %(name)s, commas=and#x;y"
    variables = parsed(replace(environment, secret_key=awkward, tick_seconds=0.5))
    for name in ("web", "worker", "probes", "files", "errands", "beat"):
        assert variables[name]["HEADGATE_SECRET_KEY"] == awkward
        assert variables[name]["HEADGATE_TICK_SECONDS"] == "0.5"
        assert variables[name]["HEADGATE_RUN_DIR"] == str(environment.run_dir)


def test_configuration__foreign_programs__get_no_setting_and_so_no_password_or_key(
    environment: Environment,
) -> None:
    variables = parsed(replace(environment, secret_key="a-secret-key", tick_seconds=0.5))
    for name in ("mlflow", "envoy"):
        assert {one for one in variables[name] if one.startswith("HEADGATE_")} == {PROGRAM_MARK}, (
            "its mark alone"
        )


@pytest.mark.parametrize("value", ["two\nlines", 'a "quote"', "a 'quote'", "a ;b", "a #b", "%(here)s"])
def test_configuration__setting_that_the_file_cannot_hold__is_refused_by_name(
    environment: Environment, value: str
) -> None:
    with pytest.raises(InvalidInput, match="HEADGATE_SECRET_KEY"):
        configuration(replace(environment, secret_key=value), programs_of(environment))


def test_write_configuration__may_hold_secrets__is_for_the_owner_only(environment: Environment) -> None:
    prepare_run_dir(environment)
    assert write_configuration(environment).stat().st_mode & 0o077 == 0


def test_settings_of__defaults__are_left_out(tmp_path: Path) -> None:
    assert settings_of(Environment(run_dir=tmp_path)) == {"HEADGATE_RUN_DIR": str(tmp_path)}


def test_stack_environment__keeps_our_settings_out_and_carries_the_mark(
    environment: Environment, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HEADGATE_SECRET_KEY", "hidden")
    found = stack_environment(environment)
    assert {name for name in found if name.startswith("HEADGATE_")} == {"HEADGATE_STACK"}
    assert found["HEADGATE_STACK"] == str(environment.run_dir)


def test_stack_environment__host_names_proxies__leaves_them_behind(
    environment: Environment, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("HTTP_PROXY", "https_proxy", "All_Proxy", "NO_PROXY"):
        monkeypatch.setenv(name, "socks5://127.0.0.1:9")
    assert not {name for name in stack_environment(environment) if name.lower().endswith("_proxy")}


def test_configuration__mlflow_proxy__reaches_every_program(environment: Environment) -> None:
    variables = parsed(replace(environment, mlflow_proxy="http://user:p@proxy.example:3128"))
    for name in ("web", "worker", "beat"):
        assert variables[name]["HEADGATE_MLFLOW_PROXY"] == "http://user:p@proxy.example:3128"


def test_mlflow__is_small_quiet_and_keeps_its_key(environment: Environment) -> None:
    first, second = (programs_of(environment)[0] for _ in range(2))
    assert first == second
    assert first.environment["MLFLOW_SERVER_ENABLE_JOB_EXECUTION"] == "false"
    assert first.environment["MLFLOW_DISABLE_TELEMETRY"] == "true"
    assert first.command[first.command.index("--workers") + 1] == "2"
    assert (environment.run_dir / "mlflow" / "webhook-key").stat().st_mode & 0o077 == 0


def test_mlflow__on_another_machine__is_not_started_here(environment: Environment) -> None:
    elsewhere = replace(environment, mlflow_url="https://mlflow.example")
    assert "mlflow" not in [program.name for program in programs_of(elsewhere)]


def test_problems__port_taken__names_who_and_the_variable(environment: Environment) -> None:
    with socket.socket() as stranger:
        stranger.bind(("127.0.0.1", 0))
        stranger.listen()
        port = stranger.getsockname()[1]
        found = problems(programs_of(replace(environment, web_port=port)), environment)
    assert len(found) == 1
    assert f"Port {port} of web is taken by process" in found[0]
    assert f"HEADGATE_WEB_PORT={port + 1}" in found[0]


def test_problems__port_of_the_receiver_is_taken__names_its_address(environment: Environment) -> None:
    with socket.socket() as stranger:
        stranger.bind(("127.0.0.1", 0))
        stranger.listen()
        port = stranger.getsockname()[1]
        receiving = replace(
            environment, request_senders=f"paris={'t' * 40}", receiver_address=f"127.0.0.1:{port}"
        )
        found = problems(programs_of(receiving), receiving)
    assert len(found) == 1
    assert f"HEADGATE_RECEIVER_ADDRESS=HOST:{port + 1}" in found[0]


def test_problems__two_programs_on_one_port__names_both(environment: Environment) -> None:
    found = problems(programs_of(replace(environment, web_port=19411)), environment)
    assert len(found) == 1
    assert "web and envoy both want port 19411" in found[0]


def test_problems__too_little_memory__says_how_much(environment: Environment) -> None:
    found = problems([Program("big", ("true",), 1, memory_mb=10_000_000)], environment)
    assert len(found) == 1
    assert "needs 10000000 MB" in found[0]


def test_prepare_run_dir__path_with_a_blank__is_refused_with_the_variable(tmp_path: Path) -> None:
    with pytest.raises(InvalidInput, match="HEADGATE_RUN_DIR"):
        prepare_run_dir(Environment(run_dir=tmp_path / "a b"))


def test_prepare_run_dir__path_too_long_for_a_socket__is_refused_with_the_length(tmp_path: Path) -> None:
    with pytest.raises(InvalidInput, match="too long"):
        prepare_run_dir(Environment(run_dir=tmp_path / ("x" * 120)))


@pytest.mark.needs("root")
def test_problems__user_of_engines_does_not_exist__says_how_to_make_it(environment: Environment) -> None:
    found = problems([], replace(environment, engine_user="no-such-user"))
    assert len(found) == 1
    assert "HEADGATE_ENGINE_USER is no-such-user, and this machine has no such user." in found[0]
    assert "useradd" in found[0]


def test_configuration__every_program__is_begun_with_a_mark_of_its_own(environment: Environment) -> None:
    programs = programs_of(environment)
    text = configuration(environment, programs)
    for program in programs:
        assert f'HEADGATE_PROGRAM="{environment.run_dir}:{program.name}"' in text
    assert text.count("-S -m deploy.stack.begin ") == len(programs)


def test_prepare_run_dir__database_that_everybody_could_read__is_closed(environment: Environment) -> None:
    database = environment.run_dir / "headgate.sqlite3"
    database.touch()
    for path in (environment.run_dir, database):
        path.chmod(0o755)
    prepare_run_dir(environment)
    assert [path.stat().st_mode & 0o077 for path in (environment.run_dir, database)] == [0, 0]
