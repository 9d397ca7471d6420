"""What is checked before anything starts: ports, memory, disk, engines' user. Each problem names cause and remedy."""

from __future__ import annotations

import shutil
from collections.abc import Sequence

from controlplane.config.environment import Environment
from controlplane.kernel.errors import Refused
from deploy.stack.programs import Program
from rollouts.adapters.clusters.engine_user import engine_user
from rollouts.adapters.clusters.machine import MEGABYTE, available_memory_mb, port_is_free, who_listens

DISK_MB = 1000


def problems(programs: Sequence[Program], environment: Environment) -> list[str]:
    """A sentence or two a problem; empty when the stack can start."""
    run_dir = environment.run_dir
    found = [*_ports(programs), *engine_user_problems(environment)]
    needed = sum(program.memory_mb for program in programs)
    free = available_memory_mb()
    if free < needed:
        found.append(
            f"{free} MB of memory are free; the stack without engines needs {needed} MB. Stop other programs."
        )
    disk = shutil.disk_usage(run_dir).free // MEGABYTE
    if disk < DISK_MB:
        found.append(
            f"{disk} MB are free on the disk of {run_dir}; at least {DISK_MB} MB are needed. Make room, or"
            " choose another folder with HEADGATE_RUN_DIR."
        )
    return found


def engine_user_problems(environment: Environment) -> list[str]:
    """What is wrong with the engines' user; to be asked while the stack runs, too: the setting may have changed."""
    try:
        engine_user(environment.engine_user)
    except Refused as refused:
        return [f"{refused.message} {refused.fix}"]
    return []


def _ports(programs: Sequence[Program]) -> list[str]:
    found = []
    users: dict[int, str] = {}
    for program in programs:
        if not program.port:
            continue
        if program.port in users:
            found.append(
                f"{program.name} and {users[program.port]} both want port {program.port}."
                f" Choose another: {_remedy(program)}."
            )
        elif not port_is_free(program.port):
            taker = who_listens(program.port)
            found.append(
                f"Port {program.port} of {program.name} is taken by {taker or 'an invisible program'}."
                f" Stop it, or choose another: {_remedy(program)}."
            )
        users[program.port] = program.name
    return found


def _remedy(program: Program) -> str:
    other = str(program.port + 1)
    forms = {"_URL": f"http://127.0.0.1:{other}", "_ADDRESS": f"HOST:{other}"}
    value = next((form for ending, form in forms.items() if program.variable.endswith(ending)), other)
    return f"{program.variable}={value}"
