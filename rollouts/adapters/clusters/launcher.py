"""Starts one engine: verifies the version's files, then becomes its keeper. Run by supervisord; no Django.

    python -m rollouts.adapters.clusters.launcher RUN_DIR/engines/VARIANT.json

It runs at every launch, also when supervisord restarts what crashed, so a file that was changed after
registration never reaches an engine. It also judges how the process before it ended: supervisord only
restarts, and the one place that sees every restart is here. What makes no sense to try again is written to
VARIANT.failure.json, and the exit status is GIVE_UP, which supervisord does not restart.

- A process that never became ready and left a known symptom in its log fails at once: it would fail again.
- One that never became ready for no known reason is tried once more.
- One that had been ready is restarted; the third crash within CRASH_WINDOW seconds is a crash loop.
- Secrets are read and decrypted here, in memory, and given to the engine in its environment and nowhere else. One that
  cannot be read fails with NO_SECRET.
- A port that a stranger took after it was chosen fails with PORT_TAKEN: the router knows this port, so it is
  not changed silently; the next `ensure` chooses another.

What it becomes (keeper.py) starts the engine and ends all of its processes with the first of them. Where that was
killed, what the engine before left running is found here by its mark, and ended before the next one starts.
"""

from __future__ import annotations

import os
import re
import shutil
import sys
import time
import traceback
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import NoReturn

from controlplane.kernel.clock import SystemClock
from controlplane.kernel.credentials import hide, hide_in_lines
from controlplane.kernel.errors import InvalidInput, Refused, TamperedFile, Unavailable
from controlplane.sealing.known import known, remember
from registry.domain.manifest import verify_folder
from rollouts.adapters.clusters.engine_user import (
    MAKE_USER,
    SETTING,
    EngineUser,
    close_run_dir,
    engine_user,
    make_places,
    obstacle,
    open_to,
)
from rollouts.adapters.clusters.engines import (
    EngineTemplate,
    command_line,
    credentials_around,
    engine_environment,
    explain,
    load_engines,
    secrets_of,
    template_of,
)
from rollouts.adapters.clusters.folder import (
    LAUNCH_LINE,
    PROGRAM_PREFIX,
    EngineFailure,
    EngineFolder,
    Launch,
    Runs,
)
from rollouts.adapters.clusters.machine import end_marked, memory_mb, oom_kills, port_is_free, who_listens
from rollouts.adapters.clusters.secrets import NO_SECRET, SecretStore
from rollouts.adapters.clusters.supervisord import Supervisor
from rollouts.domain.engines import FailureReason

GIVE_UP = 78  # sysexits' EX_CONFIG; declared in the program's `exitcodes`
MARK = (
    "HEADGATE_ENGINE"  # in the engine's environment: the path of its launch file, to find what it left behind
)
STACK_MARK = "HEADGATE_STACK"  # in every process of a stack: its run folder
# vLLM's processes show titles of their own (VLLM::EngineCore). Without this the title is written over the environment
# that the kernel shows, and the mark is gone.
KEEP_THE_MARK = {"SPT_NOENV": "1"}
KEEPER = Path(__file__).with_name("keeper.py")
DECLARATIONS_EVERY_SECONDS = 1.0  # between two looks at declarations that cannot be read
LEFTOVER_GRACE_SECONDS = 3.0  # from SIGTERM to SIGKILL, for what an engine left behind
MEMORY_SHARE = 0.75  # of the machine's, which one process of an engine may take where nothing else is set
MAX_CRASHES = 3
CRASH_WINDOW = 300.0
MAX_UNREADY_CRASHES = 2
PORT_PATIENCE = 3.0  # a predecessor's socket may take a moment to close
LINES_TO_JUDGE = 2000


class GaveUp(Exception):
    """It makes no sense to start the engine."""

    def __init__(self, reason: FailureReason, message: str, file: str = "") -> None:
        super().__init__(message)
        self.reason, self.message, self.file = reason, message, file


def main(arguments: Sequence[str]) -> NoReturn:
    """Becomes the engine's keeper, or exits with GIVE_UP after writing the failure."""
    path = Path(arguments[0]).absolute()
    folder = EngineFolder(path.parent.parent)
    variant = path.name.removesuffix(".json")
    launch = folder.launch(variant)
    if launch is None or folder.failure(variant) is not None:
        sys.exit(GIVE_UP)
    try:
        # It would hold the memory and the port of the next one.
        if ended := end_marked(MARK, str(path), grace_seconds=LEFTOVER_GRACE_SECONDS):
            say(f"[headgate] ended what the engine before left running: {', '.join(map(str, ended))}")
        template = template_of(launch.spec, await_engines(launch.run_dir))
        before = folder.runs(variant)
        secrets = open_secrets(folder, launch, template)  # first: what the log says is judged without them
        crashes = judge_predecessor(folder, launch, template, before) if before is not None else ()
        time.sleep(min(5.0, 2.0 ** (len(crashes) - 2)) if len(crashes) > 1 else 0.0)
        now = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())
        say(f"{LAUNCH_LINE} {variant}, port {launch.port}, {now}")
        restarts = 0 if before is None else before.restarts + 1
        reading = SystemClock().reading()
        runs = Runs(os.getpid(), reading.at.timestamp(), restarts, tuple(crashes), oom_kills(), reading)
        folder.write(variant, "runs.json", runs.to_json())
        become_keeper(launch, template, path, secrets)
    except GaveUp as gave_up:
        give_up(folder, variant, gave_up)
    except InvalidInput as error:
        give_up(folder, variant, GaveUp(FailureReason.BAD_SPEC, str(error)))
    except Exception as error:
        # Left to itself it would be restarted at once and for ever.
        say(traceback.format_exc())
        give_up(folder, variant, GaveUp(FailureReason.CRASH_LOOP, f"The launcher failed: {error}"))


def await_engines(run_dir: Path) -> Mapping[str, EngineTemplate]:
    """The engines of this machine. A slip in the operator's file is waited out: it says nothing of this variant."""
    told = ""
    while True:
        try:
            return load_engines(run_dir)
        except Unavailable as error:
            if str(error) != told:
                told = str(error)
                say(f"[headgate] waits: {told}")
            time.sleep(DECLARATIONS_EVERY_SECONDS)


def open_secrets(folder: EngineFolder, launch: Launch, template: EngineTemplate) -> dict[str, str]:
    """The values of the launch's secret variables. Raises GaveUp naming the variable, and the variant's remedy."""
    remember(*credentials_around(template, os.environ))
    store = SecretStore(launch.secrets_dir or launch.run_dir / "secrets", folder.keys)
    try:
        return store.open_all(secrets_of(template, launch.spec))
    except Refused as error:
        if error.code != NO_SECRET:
            raise
        raise GaveUp(FailureReason.NO_SECRET, str(error)) from error


def become_keeper(
    launch: Launch, template: EngineTemplate, path: Path, secrets: Mapping[str, str]
) -> NoReturn:
    """Verifies, checks the port, and replaces this process by the keeper with its engine. Raises GaveUp."""
    spec = launch.spec
    user = user_of(launch)
    began = time.monotonic()
    try:
        if user is not None:
            close_run_dir(launch.run_dir, user)
            open_to(
                user, launch.folder, launch.versions_in or launch.run_dir
            )  # first: what nobody can write stays as it is verified
        verify_folder(launch.folder, spec.manifest)
    except TamperedFile as error:
        raise GaveUp(FailureReason.TAMPERED_FILE, str(error), error.path) from error
    except OSError as error:
        raise GaveUp(FailureReason.BAD_MODEL, f"The version's files cannot be read: {error}.") from error
    say(f"[headgate] {len(spec.manifest.entries)} files verified in {time.monotonic() - began:.2f} s")
    await_port(launch.port)
    command = command_line(template, spec, launch.folder, python=launch.engine_python, port=launch.port)
    places = make_places(user, launch.run_dir, spec.variant)
    environment = engine_environment(
        template, spec, python=launch.engine_python, places=places, outside=os.environ, secrets=secrets
    )
    environment[MARK] = str(path)
    if STACK_MARK in os.environ:
        environment[STACK_MARK] = os.environ[STACK_MARK]
    environment |= KEEP_THE_MARK
    check_program(command[0], environment, template, launch, user)
    limit_mb = launch.memory_limit_mb or int(memory_mb() * MEMORY_SHARE)
    say(
        f"[headgate] as {user.name if user else 'the user of Headgate'}, at most {limit_mb} MB of memory a process"
    )
    say(f"[headgate] {' '.join(command)}")
    orders = [f"stop_seconds={launch.stop_seconds}", f"memory_mb={limit_mb}", f"temporary={places['TMPDIR']}"]
    if user is not None:
        orders += [f"uid={user.uid}", f"gid={user.gid}", f"groups={','.join(map(str, user.groups))}"]
    keeper = [sys.executable, "-I", "-S", str(KEEPER), *orders, "--", *command]
    os.execve(keeper[0], keeper, environment)  # noqa: S606 - no shell is the point


def user_of(launch: Launch) -> EngineUser | None:
    """Raises GaveUp where the user that is named cannot be used."""
    try:
        user = engine_user(launch.engine_user)
    except Refused as refused:
        raise GaveUp(FailureReason.NO_ENGINE, f"{refused.message} {refused.fix}") from refused
    if user is None and os.geteuid() == 0 and not launch.engine_user:
        say(f"[headgate] the engine runs as root. Better: {MAKE_USER}, and the next launch uses it.")
    return user


def check_program(
    program: str,
    environment: Mapping[str, str],
    template: EngineTemplate,
    launch: Launch,
    user: EngineUser | None,
) -> None:
    """Raises GaveUp where the engine cannot be started, or its user reaches too little or too much."""
    found = shutil.which(program, path=environment.get("PATH"))
    if found is None:
        why = "It is not executable" if Path(program).exists() else "No such file or directory"
        raise GaveUp(FailureReason.NO_ENGINE, f"{program} cannot be started ({why}). {template.install}")
    if user is None:
        return
    about_program, about_files = obstacle(user, found, launch.folder, launch.spec.manifest)
    if about_program:
        raise GaveUp(
            FailureReason.NO_ENGINE,
            f"{about_program} Install it where every user may run it, or set {SETTING}=root to run engines as root.",
        )
    if about_files:
        raise GaveUp(FailureReason.BAD_MODEL, about_files)


def judge_predecessor(
    folder: EngineFolder, launch: Launch, template: EngineTemplate, before: Runs
) -> tuple[float, ...]:
    """When this workload crashed lately, now included if it did. Raises GaveUp: no next try makes sense."""
    ending = how_it_ended(launch)
    if ending is None:
        return before.crashes
    # An engine may print its environment, and what is found here is shown.
    log = hide_in_lines(folder.log_lines(launch.spec.variant, LINES_TO_JUDGE, since_launch=True), known())
    reason, why = explain(template, [line for line in log if not line.startswith("[headgate]")])
    if "SIGKILL" in ending and oom_kills() > before.oom_kills:
        reason, why = FailureReason.NO_MEMORY, "The kernel killed the engine: the machine is out of memory"
    if reason is FailureReason.NO_ENGINE:
        why = f"{why}. {template.install}"
    now = time.time()
    # A crash in the future was before the clock jumped back: nobody knows how long ago.
    crashes = (*(crash for crash in before.crashes if 0 <= now - crash <= CRASH_WINDOW), now)
    was_ready = folder.warmed(launch.spec.variant) is not None
    say(f"[headgate] the process before ended: {ending}; crashes in {CRASH_WINDOW:g} s: {len(crashes)}")
    if not was_ready and reason is not FailureReason.NONE:
        raise GaveUp(reason, why)
    if len(crashes) >= (MAX_CRASHES if was_ready else MAX_UNREADY_CRASHES):
        told = f" Its log says: {why}" if why else ""
        raise GaveUp(
            FailureReason.CRASH_LOOP if reason is FailureReason.NONE else reason,
            f"The engine crashed {len(crashes)} times in {CRASH_WINDOW:g} s, at last: {ending}.{told}",
        )
    return crashes


def how_it_ended(launch: Launch) -> str | None:
    """ "exit status 1", "terminated by SIGKILL": supervisord's words about the process before this one.

    None when it did not end by itself: it was stopped, or supervisord was started anew.
    """
    try:
        log = Supervisor(launch.supervisor_socket).log_end()
    except Unavailable:
        return "for an unknown reason"
    name = re.escape(PROGRAM_PREFIX + launch.spec.variant)
    events = re.findall(rf"(exited|stopped): {name} \(([^;)]*)|(supervisord started)", log)
    if not events:
        return "for an unknown reason"
    event, words, _ = events[-1]
    return str(words) if event == "exited" else None


def await_port(port: int) -> None:
    """Returns when the port is free. Raises GaveUp naming who has it."""
    end = time.monotonic() + PORT_PATIENCE
    while not port_is_free(port):
        if time.monotonic() > end:
            taker = who_listens(port)
            raise GaveUp(
                FailureReason.PORT_TAKEN,
                f"Port {port} is taken by {taker or 'a program that cannot be seen'}."
                " Stop it, or set other ports with HEADGATE_ENGINE_PORTS.",
            )
        time.sleep(0.1)


def give_up(folder: EngineFolder, variant: str, why: GaveUp) -> NoReturn:
    message = hide(why.message, known())
    say(f"[headgate] gave up: {why.reason.value}: {message}")
    failure = EngineFailure(why.reason, message, time.time(), why.file)
    folder.write(variant, "failure.json", failure.to_json())
    sys.exit(GIVE_UP)


def say(line: str) -> None:
    sys.stdout.write(hide(line, known()) + "\n")
    sys.stdout.flush()


if __name__ == "__main__":
    main(sys.argv[1:])
