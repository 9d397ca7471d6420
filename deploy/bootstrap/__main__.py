"""Makes the project's environments: `python3 -m deploy.bootstrap [--dev] [--vllm] [--engine cpu|gpu] [--check-memory]`.

    .venv        what Headgate runs on; with --dev also what tests it
    .venv-vllm   with --vllm: the serving engine, for the GPU where there is one from NVIDIA, else for the CPU

Runs on the system's Python with the standard library alone. A second run finds everything and takes no time.
"""

from __future__ import annotations

import argparse
import os
import shutil
import sys
import time
from collections.abc import Callable
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]

TOO_OTHER = (
    "Headgate needs Python 3.11, 3.12 or 3.13; this is %d.%d, and no other is on the PATH.\n"
    "  Remedy: install one; it is found by its name. Debian 12: apt-get install python3.11 python3.11-venv; "
    "Ubuntu 24.04: apt-get install python3.12 python3.12-venv; where uv is: uv python install 3.12"
)


def other_python(version: tuple[int, ...], which: Callable[[str], str | None] = shutil.which) -> str | None:
    """None when this Python will do; else the path of one that will. Raises SystemExit when there is none."""
    if (3, 11) <= tuple(version) <= (3, 13):
        return None
    for name in ("python3.13", "python3.12", "python3.11"):
        found = which(name)
        if found:
            return found
    raise SystemExit(TOO_OTHER % tuple(version))


# Before anything is imported that another Python may not know.
OTHER = other_python(sys.version_info[:2]) if __name__ == "__main__" else None
if OTHER is not None:
    os.execv(OTHER, [OTHER, "-m", "deploy.bootstrap", *sys.argv[1:]])

from deploy.bootstrap.environments import (  # noqa: E402
    Environment,
    SetupFailed,
    find_uv,
    holds,
    install,
    stamp_of,
)
from deploy.bootstrap.machine import complaints, look  # noqa: E402

STARTED = time.monotonic()


def say(text: str) -> None:
    print(f"[setup {time.monotonic() - STARTED:4.0f} s] {text}", flush=True)


def plan(root: Path, *, dev: bool, engine: str) -> dict[str, Environment]:
    """The environments that are asked for, by the kind that machine.DISK_GIB knows; `engine`: "", "cpu" or "gpu"."""
    locks = root / "requirements"
    plain = Environment("the application", root / ".venv", (locks / "app.txt",), command=True)
    complete = Environment(
        "the application and its tests",
        root / ".venv",
        (locks / "app.txt", locks / "dev.txt"),
        command=True,
    )
    # An environment with the test tools serves the demo too, so it is not made anew without them.
    planned = {"app": complete if dev or holds(complete, stamp_of(complete.locks)) else plain}
    if engine:
        name = f"the serving engine ({engine.upper()})"
        planned[f"vllm-{engine}"] = Environment(name, root / ".venv-vllm", (locks / f"vllm-{engine}.txt",))
    return planned


def engine_kind(choice: str, *, root: Path, nvidia: bool) -> str:
    """ "cpu" or "gpu". Without a choice: what is installed already by an earlier choice, else what the machine has."""
    if choice != "auto":
        return choice
    chosen = plan(root, dev=False, engine="cpu")["vllm-cpu"]
    if not nvidia or holds(chosen, stamp_of(chosen.locks)):
        return "cpu"
    return "gpu"


def parser() -> argparse.ArgumentParser:
    """The whole command line."""
    made = argparse.ArgumentParser(prog="python3 -m deploy.bootstrap", description=__doc__)
    made.add_argument("--dev", action="store_true", help="also what checks and tests Headgate")
    made.add_argument("--vllm", action="store_true", help="also the serving engine")
    made.add_argument(
        "--engine", choices=("auto", "cpu", "gpu"), default="auto", help="which build of the engine"
    )
    made.add_argument(
        "--check-memory", action="store_true", help="refuse when the demo would not fit in memory"
    )
    return made


def asked_for(options: argparse.Namespace, *, root: Path, nvidia: bool) -> dict[str, Environment]:
    """The environments that a command line asks for, on a machine with or without a GPU from NVIDIA."""
    engine = engine_kind(options.engine, root=root, nvidia=nvidia) if options.vllm else ""
    return plan(root, dev=options.dev, engine=engine)


def main() -> int:
    options = parser().parse_args()
    facts = look(ROOT)
    planned = asked_for(options, root=ROOT, nvidia=facts.nvidia)
    missing = {kind: not holds(env, stamp_of(env.locks)) for kind, env in planned.items()}
    problems = complaints(facts, wanted=missing, check_memory=options.check_memory)
    if problems:
        print("\n".join(f"\n{problem}" for problem in problems), file=sys.stderr)
        return 1
    if not any(missing.values()):
        say("everything is installed")
        return 0
    try:
        uv = find_uv(ROOT / "var", say=say)
        for kind, environment in planned.items():
            if not missing[kind]:
                continue
            say(f"installing {environment.name} into {environment.folder.name}")
            install(environment, uv=uv, say=say)
            say(f"{environment.name} is installed")
    except SetupFailed as failure:
        print(f"\n{failure}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("\nInterrupted; the same command goes on where it stopped.", file=sys.stderr)
        return 130
    return 0


if __name__ == "__main__":
    sys.exit(main())
