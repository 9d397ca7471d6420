"""Starts, shows and stops the stack.

- One at a time: `up` and `down` hold a lock on the run folder.
- `up` is idempotent: what runs stays, what changed in its configuration is restarted, what is missing is
  started.
- supervisord killed with -9 leaves its children running without a manager: traffic flows on, nothing is
  started again. Everything of a stack carries HEADGATE_STACK=RUN_DIR in its environment: the next `up` and
  every `down` end what carries it, and say so. The engines' records stay, so the next `up` launches them again.
- A program's first process killed with -9 may leave others of it: what starts it again ends them (begin.py).
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import httpx

from controlplane.config.environment import Environment
from controlplane.kernel.credentials import hide
from controlplane.kernel.digests import digest_of, sha256_of_file
from controlplane.kernel.errors import Conflict, Refused, Unavailable
from controlplane.outbound.clients import local_client
from deploy.stack.begin import PROGRAM_MARK
from deploy.stack.preflight import engine_user_problems, problems
from deploy.stack.programs import (
    NEIGHBOURS,
    ROOT,
    Program,
    prepare_run_dir,
    program_mark,
    programs_of,
    settings_of,
    stack_environment,
    write_configuration,
)
from rollouts.adapters.clusters.engine_user import MAKE_USER, engine_user
from rollouts.adapters.clusters.folder import PROGRAM_PREFIX, write_whole
from rollouts.adapters.clusters.launcher import STACK_MARK
from rollouts.adapters.clusters.machine import Process, end_marked, is_alive, processes_marked
from rollouts.adapters.clusters.supervisord import ALIVE_STATES, RESTING_STATES, ProgramInfo, Supervisor

READY_SECONDS = 300.0
STOP_SECONDS = 45.0
LEFTOVER_GRACE_SECONDS = 20.0  # an engine's keeper needs up to 14 to end its tree in an orderly way

Say = Callable[[str], None]


@dataclass(frozen=True, slots=True)
class Line:
    """One program in `status`."""

    name: str
    state: str
    pid: int
    about: str

    @property
    def runs(self) -> bool:
        return self.state == "RUNNING"


@contextlib.contextmanager
def _alone(environment: Environment) -> Iterator[None]:
    """Raises Conflict when another `up` or `down` is at work on the run folder."""
    environment.run_dir.mkdir(parents=True, exist_ok=True, mode=0o700)
    with (environment.run_dir / "stack.lock").open("a") as handle:
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise Conflict(
                "Another `up` or `down` is at work on this run folder.", fix="Wait for it."
            ) from None
        yield


def up(environment: Environment, say: Say) -> None:
    """Starts what does not run, and returns when everything is ready.

    Raises Refused with every problem found before anything starts or changes; Unavailable naming the program that did
    not become ready, with the end of its log.
    """
    with _alone(environment):
        prepare_run_dir(environment)
        supervisor = Supervisor(environment.supervisor_socket)
        programs = programs_of(environment)
        running = supervisor.is_up()
        if running:
            found = engine_user_problems(environment)
        else:
            _end_leftovers(environment, say)
            found = problems(programs, environment)
        if found:
            raise Refused("The stack cannot start:\n  - " + "\n  - ".join(found), code="preflight")
        _say_engine_user(environment, say)
        _manage(environment, say, "database", ["migrate", "--no-input", "--verbosity", "0"])
        collected = _collect_static(environment, say)
        configuration = write_configuration(environment)
        if running:
            if collected:
                _stop(
                    supervisor, ["web"]
                )  # it reads the list of static files once; it is started again below
            _apply_changes(supervisor, environment.run_dir, say)
        else:
            _start_supervisord(environment, configuration, supervisor)
        _await_ready(supervisor, programs, environment, say)


def down(environment: Environment, say: Say) -> None:
    """Stops every program, engines too, and supervisord. Nothing happens when nothing runs."""
    with _alone(environment):
        supervisor = Supervisor(environment.supervisor_socket)
        with contextlib.suppress(Unavailable):
            pid = supervisor.pid()
            alive = [p.name for p in supervisor.programs().values() if p.state in ALIVE_STATES]
            say(f"Stopping {', '.join(alive) or 'the process manager'} ...")
            _stop(supervisor, [name for name in _ours(alive) if name not in NEIGHBOURS])
            supervisor.shutdown()
            end = time.monotonic() + STOP_SECONDS
            while is_alive(pid) and time.monotonic() < end:
                time.sleep(0.1)
        _end_leftovers(environment, say)
        environment.supervisor_socket.unlink(missing_ok=True)
        say("Nothing of the stack runs.")


def status(environment: Environment) -> list[Line]:
    """The programs of the stack and the engines. Raises Unavailable when no process manager runs."""
    supervisor = Supervisor(environment.supervisor_socket)
    known = {program.name: program for program in programs_of(environment)}
    lines = []
    for info in supervisor.programs().values():
        program = known.get(info.name)
        lines.append(
            Line(info.name, info.state, info.pid, program.ready_url if program else info.description)
        )
    order = [*known]
    return sorted(lines, key=lambda x: (order.index(x.name) if x.name in known else len(order), x.name))


def hold(environment: Environment, say: Say) -> None:
    """Waits until SIGINT or SIGTERM, or until supervisord is gone."""
    supervisor = Supervisor(environment.supervisor_socket)
    say("Running. Ctrl-C stops everything.")
    while supervisor.is_up():
        time.sleep(1)
    raise Unavailable("The process manager ended by itself.", fix=f"See {environment.run_dir / 'log'}.")


# --- steps ------------------------------------------------------------------------------------------


def _manage(environment: Environment, say: Say, what: str, arguments: list[str]) -> None:
    began = time.monotonic()
    done = subprocess.run(
        [sys.executable, "manage.py", *arguments],
        cwd=ROOT,
        env={**os.environ, **settings_of(environment)},
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode != 0:
        told = hide(done.stderr or done.stdout, environment.secret_values)
        raise Unavailable(f"manage.py {arguments[0]} failed:\n{told[-3000:]}")
    say(f"{what:<14}ready after {time.monotonic() - began:.1f} s")


def _collect_static(environment: Environment, say: Say) -> bool:
    """Copies and compresses the static files, unless nothing has changed since (it takes ten seconds)."""
    sources = [path for path in sorted((ROOT / "static").rglob("*")) if path.is_file()]
    content = [(str(path.relative_to(ROOT)), sha256_of_file(path)) for path in sources]
    for path in (ROOT / "requirements" / "app.txt", ROOT / "controlplane" / "config" / "settings.py"):
        content.append((path.name, sha256_of_file(path)))
    stamp = environment.run_dir / "static.digest"
    digest = digest_of(content)
    if stamp.exists() and stamp.read_text() == digest and (environment.run_dir / "static").is_dir():
        return False
    _manage(environment, say, "static files", ["collectstatic", "--no-input", "--verbosity", "0"])
    write_whole(stamp, digest)
    return True


def _end_leftovers(environment: Environment, say: Say) -> None:
    pids = processes_marked(STACK_MARK, str(environment.run_dir))
    if pids:
        say(f"Ending {len(pids)} processes without a manager ...")
        for process in _end_marked(STACK_MARK, str(environment.run_dir)):
            say(f"  ended {process}")


def _end_marked(mark: str, value: str) -> list[Process]:
    """Ends what carries the mark and returns it. Raises Unavailable for what not even SIGKILL ends."""
    try:
        return end_marked(mark, value, grace_seconds=LEFTOVER_GRACE_SECONDS)
    except TimeoutError as error:
        raise Unavailable(str(error), fix="Only a restart of the machine ends such a process.") from error


def _say_engine_user(environment: Environment, say: Say) -> None:
    if os.geteuid() == 0:
        user = engine_user(environment.engine_user)
        advice = "" if environment.engine_user else f" (better: {MAKE_USER})"
        say(f"{'engines':<14}run as {user.name if user else 'root' + advice}")


def _start_supervisord(environment: Environment, configuration: Path, supervisor: Supervisor) -> None:
    # It puts itself into the background and a session of its own: Ctrl-C at this terminal is for us alone.
    started = subprocess.run(
        [sys.executable, "-m", "supervisor.supervisord", "-c", str(configuration)],
        cwd=ROOT,
        env=stack_environment(environment),
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        check=False,
    )
    if started.returncode != 0:
        raise Unavailable(f"The process manager does not start:\n{started.stderr or started.stdout}")
    _await(supervisor.is_up, "the process manager answers")


def _apply_changes(supervisor: Supervisor, run_dir: Path, say: Say) -> None:
    """Makes a running supervisord follow the new configuration. Engines are the local cluster's business."""
    added, changed, removed = supervisor.reload()
    going = _ours(changed | removed)
    for name in going:
        say(f"{name:<14}{'changed: restarting' if name in changed else 'not needed any more: stopping'}")
    _stop(supervisor, going)
    for name in going:
        _end_marked(PROGRAM_MARK, program_mark(run_dir, name))
        supervisor.remove(name)
    for name in _ours(added | changed):
        supervisor.add(name)
    programs = supervisor.programs()
    for name in _ours(programs):
        if programs[name].state in RESTING_STATES:
            supervisor.start(name)


def _stop(supervisor: Supervisor, names: Sequence[str]) -> None:
    """Stops them side by side: each may take seconds to end what it has begun. supervisord by itself waits for one
    after the other."""
    for name in names:
        supervisor.stop(name)
    for name in names:
        _await(partial(_rests, supervisor, name), f"{name} has stopped")


def _ours(names: Iterable[str]) -> list[str]:
    return sorted(name for name in names if not name.startswith(PROGRAM_PREFIX))


def _rests(supervisor: Supervisor, name: str) -> bool:
    return supervisor.programs()[name].state in RESTING_STATES


def _await(check: Callable[[], bool], what: str) -> None:
    end = time.monotonic() + STOP_SECONDS
    while not check():
        if time.monotonic() > end:
            raise Unavailable(f"Waited {STOP_SECONDS:g} s in vain until {what}.")
        time.sleep(0.1)


def _await_ready(
    supervisor: Supervisor, programs: tuple[Program, ...], environment: Environment, say: Say
) -> None:
    began = time.monotonic()
    told = began
    waiting = {program.name: program for program in programs}
    with local_client(timeout=2.0) as http:
        while waiting:
            infos = supervisor.programs()
            for program in [*waiting.values()]:
                if _is_ready(program, infos, http):
                    del waiting[program.name]
                    where = f"  {program.ready_url}" if program.port else ""
                    say(f"{program.name:<14}ready after {time.monotonic() - began:.1f} s{where}")
            if not waiting:
                return
            now = time.monotonic()
            if now - began > READY_SECONDS:
                raise Unavailable(_not_ready(waiting, environment))
            if now - told > 10:
                told = now
                say(f"... waiting for {', '.join(waiting)} ({now - began:.0f} s)")
            time.sleep(0.2)


def _is_ready(program: Program, infos: Mapping[str, ProgramInfo], http: httpx.Client) -> bool:
    info = infos.get(program.name)
    if info is None or info.state != "RUNNING":
        return False
    if not program.ready_url:
        return True
    try:
        answer = http.get(program.ready_url)
    except httpx.TransportError:
        return False
    if program.ready_part:
        return answer.status_code == httpx.codes.OK and any(
            part["name"] == program.ready_part and part["state"] == "ok" for part in answer.json()["parts"]
        )
    return program.any_answer or answer.status_code == httpx.codes.OK


def _not_ready(waiting: Mapping[str, Program], environment: Environment) -> str:
    words = [f"Not ready after {READY_SECONDS:g} s: {', '.join(waiting)}."]
    for name in waiting:
        path = environment.run_dir / "log" / f"{name}.log"
        lines = path.read_text(errors="replace").splitlines()[-15:] if path.exists() else ["(no log)"]
        words += [f"--- {path}", *lines]
    return "\n".join(words)


def stop_on_signals() -> None:
    """Makes SIGTERM and SIGHUP what Ctrl-C is, KeyboardInterrupt; and Ctrl-C itself, which a script's background
    jobs ignore from birth.
    """

    def interrupt(*_: object) -> None:
        raise KeyboardInterrupt

    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, interrupt)
